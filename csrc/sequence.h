/* Rows of a sequence in memory: one for each step and row of the batch.
 *
 * Steps are counted from where a row starts: step s of a row of length n is time s, or n-1-s in reverse. */
#ifndef FRNN_SEQUENCE_H
#define FRNN_SEQUENCE_H

#include <stddef.h>

typedef enum frnn_order {
    FRNN_BY_TIME, /* the caller's rows at their times */
    FRNN_BY_STEP, /* the caller's rows at their steps, the first of some steps first */
    FRNN_IN_RING  /* a strand's rows at their steps, modulo so many slots: what is only read soon after */
} frnn_order;

typedef struct frnn_sequence {
    char *base;          /* NULL: the sequence is not kept */
    ptrdiff_t time, row; /* bytes from one time, step or slot to the next, and from one row */
    frnn_order order;
    size_t slots; /* of a ring */
} frnn_sequence;

/* A dense sequence of B rows of some bytes. */
static inline frnn_sequence frnn_sequence_of(char *base, frnn_order order, size_t B, size_t row)
{
    return (frnn_sequence){base, (ptrdiff_t)(B * row), (ptrdiff_t)row, order, 0};
}

/* The row at a time, or at a step counted from the sequence's first one, whichever it is ordered by. */
static inline char *frnn_sequence_at(const frnn_sequence *sequence, size_t at, size_t row)
{
    return sequence->base + (ptrdiff_t)at * sequence->time + (ptrdiff_t)row * sequence->row;
}

#endif
