/* Arrays as callers may have them: rows anywhere, a number's alignment and no more, axes in either order and direction,
 * and other people's bytes between. */
#ifndef STRIDED_H
#define STRIDED_H

#include "layers.h"

typedef struct strided {
    unsigned char *memory;
    size_t bytes, row_bytes, rows[2]; /* of the outer axis, and of the batch */
    char *data;
    ptrdiff_t outer, row;
} strided;

enum { OTHERS = 0xa5 };

static inline strided new_strided(size_t outer, size_t B, size_t width, size_t element)
{
    strided s = {.row_bytes = width * element, .rows = {outer, B}};
    const bool batch_first = pick(2);
    const size_t shift = 1 + 2 * pick(9), gap = pick(4), far_gap = pick(4);
    const size_t near = (width + gap) * element, far = near * (batch_first ? outer : B) + far_gap * element;
    s.outer = (ptrdiff_t)(batch_first ? near : far);
    s.row = (ptrdiff_t)(batch_first ? far : near);
    s.bytes = shift * element + far * ((batch_first ? B : outer) + 1);
    s.memory = allocate(1, s.bytes);
    memset(s.memory, OTHERS, s.bytes);
    s.data = (char *)s.memory + shift * element;
    if (pick(2) && outer) {
        s.data += (ptrdiff_t)(outer - 1) * s.outer;
        s.outer = -s.outer;
    }
    if (pick(2)) {
        s.data += (ptrdiff_t)(B - 1) * s.row;
        s.row = -s.row;
    }
    return s;
}

static inline char *strided_row(const strided *s, size_t i)
{
    return s->data + (ptrdiff_t)(i / s->rows[1]) * s->outer + (ptrdiff_t)(i % s->rows[1]) * s->row;
}

static inline void scatter(const strided *to, const void *from)
{
    for (size_t i = 0; i < to->rows[0] * to->rows[1]; i++)
        memcpy(strided_row(to, i), (const char *)from + i * to->row_bytes, to->row_bytes);
}

/* Out of its rows, which are then as the bytes between them. */
static inline void gather(void *to, const strided *from)
{
    for (size_t i = 0; i < from->rows[0] * from->rows[1]; i++) {
        memcpy((char *)to + i * from->row_bytes, strided_row(from, i), from->row_bytes);
        memset(strided_row(from, i), OTHERS, from->row_bytes);
    }
}

/* After it was gathered: whether nothing was written beside its rows. */
static inline bool is_tidy(const strided *s)
{
    for (size_t i = 0; i < s->bytes; i++)
        if (s->memory[i] != OTHERS)
            return false;
    return true;
}

static inline frnn_array array_of(const strided *s) { return (frnn_array){s->data, s->outer, s->row}; }

#endif
