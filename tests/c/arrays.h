/* Arrays of numbers of either type, and what is special among numbers. */
#ifndef ARRAYS_H
#define ARRAYS_H

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"
#include "fastrnn.h"

static inline size_t size_of(frnn_dtype dtype) { return dtype == FRNN_FLOAT32 ? sizeof(float) : sizeof(double); }

static inline void put(void *array, size_t i, frnn_dtype dtype, double value)
{
    if (dtype == FRNN_FLOAT32)
        ((float *)array)[i] = (float)value;
    else
        ((double *)array)[i] = value;
}

static inline double get(const void *array, size_t i, frnn_dtype dtype)
{
    return dtype == FRNN_FLOAT32 ? (double)((const float *)array)[i] : ((const double *)array)[i];
}

/* Without the macros of math.h, which some systems make warnings of. */
static inline bool is_nan(double value) { return value != value; }
static inline bool is_infinite(double value) { return fabs(value) > DBL_MAX; }
static inline bool is_finite(double value) { return fabs(value) <= DBL_MAX; }

static inline double least_normal(frnn_dtype dtype) { return dtype == FRNN_FLOAT32 ? (double)FLT_MIN : DBL_MIN; }

static inline bool is_subnormal(double value, frnn_dtype dtype)
{
    return value != 0 && fabs(value) < least_normal(dtype);
}

/* Zeros, exactly so many bytes of them: what checks memory sees the first byte beyond. */
static inline void *allocate(size_t count, size_t size)
{
    void *memory = calloc(1, count * size);
    if (!memory)
        abort();
    return memory;
}

/* For what is to be written: NaN. */
static inline void *allocate_unset(size_t count, size_t size)
{
    return memset(allocate(count, size), 0xff, count * size);
}

static inline void *copy_of(const void *array, size_t bytes) { return memcpy(allocate(1, bytes), array, bytes); }

/* The first number in which two arrays differ; n: none. Any NaN is as good as any other. */
static inline size_t first_difference(const void *a, const void *b, size_t n, frnn_dtype dtype)
{
    const size_t size = size_of(dtype);
    for (size_t i = 0; i < n && memcmp(a, b, n * size) != 0; i++)
        if (memcmp((const char *)a + i * size, (const char *)b + i * size, size) != 0 &&
            !(is_nan(get(a, i, dtype)) && is_nan(get(b, i, dtype))))
            return i;
    return n;
}

/* Anything there is. */
static inline double special(frnn_dtype dtype)
{
    const bool narrow = dtype == FRNN_FLOAT32;
    const double most = narrow ? (double)FLT_MAX : DBL_MAX, huge = narrow ? 0x1p127 : 0x1p1023;
    const double least = least_normal(dtype), tiniest = narrow ? 0x1p-149 : 0x1p-1074;
    const double all[] = {0,  (double)NAN, (double)INFINITY, huge, most, least, least / 2, tiniest, 1, 1e20, 1e-20,
                          88, 745};
    const double value = PICK_OF(all);
    return pick(2) ? -value : value;
}

/* A dense array of rows, one after another for each of the outer axis. */
static inline frnn_array dense(const void *data, size_t B, size_t row_bytes)
{
    return (frnn_array){data, (ptrdiff_t)(B * row_bytes), (ptrdiff_t)row_bytes};
}

#endif
