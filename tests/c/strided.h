/* Arrays as callers may have them: a number's alignment and no more, rows anywhere, axes in either order and direction,
 * gaps between rows, one row for all, and any stride where an axis has no second element.
 *
 * Gaps are NaN and must stay so. What checks memory sees the first byte beyond the last number. */
#ifndef STRIDED_H
#define STRIDED_H

#include "arrays.h"

typedef struct strided {
    char *memory, *data; /* the allocation, and the first row */
    size_t bytes, outers, rows, row_bytes;
    ptrdiff_t outer, row;
} strided;

/* Where an axis of n elements starts so that all of it lies above 0; half of them go backward. */
static inline size_t turn_axis(size_t n, size_t element, ptrdiff_t *stride)
{
    static const ptrdiff_t any[] = {0, 1, -1, PTRDIFF_MAX / 16, PTRDIFF_MIN / 16, 12345};
    if (n < 2) {
        if (chance(4))
            *stride = PICK_OF(any) * (ptrdiff_t)element;
        return 0;
    }
    if (!chance(3))
        return 0;
    *stride = -*stride;
    return (n - 1) * (size_t)-*stride;
}

/* shared: all rows are alike, so that they may lie in one place. */
static inline strided new_strided(size_t outers, size_t rows, size_t width, size_t element, bool shared)
{
    strided a = {.outers = outers, .rows = rows, .row_bytes = width * element};
    const size_t shift = chance(2) ? element * (1 + 2 * pick(9)) : 0;
    const size_t gap = chance(2) ? element * pick(5) : 0, far_gap = chance(2) ? element * pick(4) : 0;
    const bool row_outside = chance(3), one_row = shared && rows && chance(2);
    const size_t near = a.row_bytes + gap, inner = row_outside ? outers : rows;
    const size_t far = near * (one_row && !row_outside ? 1 : inner) + far_gap;
    a.row = one_row ? 0 : (ptrdiff_t)(row_outside ? far : near);
    a.outer = (ptrdiff_t)(row_outside ? near : far);
    a.bytes = shift;
    if (outers && rows)
        a.bytes += (outers - 1) * (size_t)a.outer + (rows - 1) * (size_t)a.row + a.row_bytes;
    a.memory = allocate_unset(1, a.bytes);
    a.data = a.memory + shift + turn_axis(outers, element, &a.outer);
    a.data += one_row ? 0 : turn_axis(rows, element, &a.row);
    return a;
}

/* Dense rows, where they lie. */
static inline strided strided_of(void *data, size_t outers, size_t rows, size_t row_bytes)
{
    return (strided){data, data,      outers * rows * row_bytes,     outers,
                     rows, row_bytes, (ptrdiff_t)(rows * row_bytes), (ptrdiff_t)row_bytes};
}

static inline char *strided_row(const strided *a, size_t outer, size_t row)
{
    return a->data + (ptrdiff_t)outer * a->outer + (ptrdiff_t)row * a->row;
}

/* Of the rows from `first` on. */
static inline frnn_array array_from(const strided *a, size_t first)
{
    return (frnn_array){a->outers && a->rows ? strided_row(a, 0, first) : a->data, a->outer, a->row};
}

static inline void scatter(const strided *to, const void *from)
{
    for (size_t i = 0; i < to->outers * to->rows; i++)
        memcpy(strided_row(to, i / to->rows, i % to->rows), (const char *)from + i * to->row_bytes, to->row_bytes);
}

static inline void gather(void *to, const strided *from)
{
    for (size_t i = 0; i < from->outers * from->rows; i++)
        memcpy((char *)to + i * from->row_bytes, strided_row(from, i / from->rows, i % from->rows), from->row_bytes);
}

/* Whether nothing was written beside its rows, which this overwrites. */
static inline bool is_tidy(const strided *a)
{
    for (size_t i = 0; i < a->outers * a->rows; i++)
        memset(strided_row(a, i / a->rows, i % a->rows), 0xff, a->row_bytes);
    for (size_t i = 0; i < a->bytes; i++)
        if ((unsigned char)a->memory[i] != 0xff)
            return false;
    return true;
}

#endif
