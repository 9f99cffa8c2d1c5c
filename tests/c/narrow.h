/* Narrow weights, made of those that a layer has: halves, and bytes with a scale a row. */
#ifndef NARROW_H
#define NARROW_H

#include "layers.h"

/* The nearest half, ties to even. */
static inline uint16_t half_of(double value)
{
    const double magnitude = fabs(value);
    const unsigned sign = signbit(value) ? 0x8000u : 0;
    int exponent;
    if (is_nan(value))
        return 0x7e00;
    if (magnitude >= 65520)
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x1p-14) /* a subnormal half, or the least that is none */
        return (uint16_t)(sign | (unsigned)nearbyint(magnitude * 0x1p24));
    frexp(magnitude, &exponent);
    const double whole = nearbyint(ldexp(magnitude, 11 - exponent)); /* from 1024 to 2048 */
    return (uint16_t)(sign | ((unsigned)(exponent + 14) * 1024 + (unsigned)(whole - 1024)));
}

static inline double number_of_half(uint16_t half)
{
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const double infinite = fraction ? (double)NAN : (double)INFINITY;
    const double magnitude = exponent == 31  ? infinite
                             : exponent == 0 ? fraction * 0x1p-24
                                             : ldexp(1024 + fraction, exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

/* What is not finite becomes 0: there are no such bytes. */
static inline void make_bytes(const float *row, size_t n, int8_t *to, float *scale)
{
    float largest = 0;
    for (size_t k = 0; k < n; k++)
        if (is_finite((double)row[k]) && fabsf(row[k]) > largest)
            largest = fabsf(row[k]);
    *scale = largest / 127 >= FLT_MIN ? largest / 127 : 1;
    for (size_t k = 0; k < n; k++) {
        const double whole = is_finite((double)row[k]) ? nearbyint((double)row[k] / (double)*scale) : 0;
        to[k] = (int8_t)(whole > 127 ? 127 : whole < -127 ? -127 : whole);
    }
}

static inline void narrow_matrix(layer *l, size_t i, size_t which)
{
    const void **const matrix = weight(l, i, which);
    const float *full = *matrix;
    const size_t rows = matrix_rows(l, which), n = weight_count(l, i, which), columns = rows ? n / rows : 0;
    void *const to = allocate(n, weight_bytes(l, which));
    float *const of_rows = has_bytes(l) ? allocate(rows, sizeof *of_rows) : NULL;
    for (size_t row = 0; row < rows && has_bytes(l); row++)
        make_bytes(full + row * columns, columns, (int8_t *)to + row * columns, of_rows + row);
    for (size_t k = 0; k < n && !has_bytes(l); k++)
        ((uint16_t *)to)[k] = half_of((double)full[k]);
    free((void *)(uintptr_t)*matrix);
    *matrix = to;
    *scales(l, i, which) = of_rows;
}

/* Of a layer of float32, before it has params. */
static inline void narrow_layer(layer *l, frnn_precision precision)
{
    l->spec.precision = precision;
    for (size_t i = 0; i < stacked(l) && precision != FRNN_FULL; i++)
        for (size_t which = 0; which < WEIGHTS; which++)
            if (is_matrix(which) && *weight(l, i, which))
                narrow_matrix(l, i, which);
}

/* A weight as the number that it stands for. */
static inline double get_weight(layer *l, size_t i, size_t which, size_t k)
{
    const void *array = *weight(l, i, which);
    if (!is_matrix(which) || l->spec.precision == FRNN_FULL)
        return get(array, k, l->spec.dtype);
    if (!has_bytes(l))
        return number_of_half(((const uint16_t *)array)[k]);
    const size_t columns = weight_count(l, i, which) / matrix_rows(l, which);
    return ((const int8_t *)array)[k] * (double)(*scales(l, i, which))[k / columns];
}

#endif
