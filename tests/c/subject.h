/* A layer that is tested with a batch: rows taken from it, numbers that are spoiled, results that are to be equal. */
#ifndef SUBJECT_H
#define SUBJECT_H

#include "random.h"

/* A layer with a batch, and its results as they come dense, on one thread. */
typedef struct subject {
    const frnn_target *target;
    const layer *l;
    const batch *b;
    result whole;
    bool wild; /* some numbers are NaN, infinite or subnormal */
} subject;

static inline void run_call(const layer *l, const frnn_call *call, const char *promise)
{
    must(frnn_run(l->params, call) == FRNN_OK, promise);
}

static inline result run(const layer *l, const batch *b)
{
    const result r = new_result(l, b->T, b->B);
    const frnn_call call = make_call(l, b, &r);
    run_call(l, &call, "a call succeeds");
    return r;
}

/* Numbers from i and from j on: equal to the bit, or both NaN. */
static inline bool same(const layer *l, const void *a, size_t i, const void *b, size_t j, size_t n)
{
    return first_difference((const char *)a + i * l->element, (const char *)b + j * l->element, n, l->spec.dtype) == n;
}

static inline bool same_results(const layer *l, const batch *b, const result *one, const result *other)
{
    return digest_result(l, one, b->T, b->B) == digest_result(l, other, b->T, b->B);
}

/* Whether row i of one batch came out as row j of another, whose T may be less but for steps past the row's end. */
static inline bool same_row(const layer *l, const batch *a, const result *ra, size_t i, const batch *b,
                            const result *rb, size_t j)
{
    const size_t width = y_width(l), H = l->spec.hidden_size;
    bool all = true;
    for (size_t t = 0; t < length_of(a, i); t++)
        all = all && same(l, ra->y, (t * a->B + i) * width, rb->y, (t * b->B + j) * width, width);
    for (size_t s = 0; s < stacked(l); s++) {
        all = all && same(l, ra->h, (s * a->B + i) * l->out, rb->h, (s * b->B + j) * l->out, l->out);
        all = all && (!has_c(l) || same(l, ra->c, (s * a->B + i) * H, rb->c, (s * b->B + j) * H, H));
    }
    return all;
}

static inline void copy_rows(char *to, const char *from, const batch *b, size_t outer, const size_t *rows, size_t n,
                             size_t size)
{
    for (size_t i = 0; i < outer * n; i++)
        memcpy(to + i * size, from + (i / n * b->B + rows[i % n]) * size, size);
}

/* Some rows of a batch, in any order, up to step T; each has its length. */
static inline batch take_rows(const layer *l, const batch *b, const size_t *rows, size_t n, size_t T)
{
    batch some = {.T = T, .B = n, .ragged = true};
    const size_t I = l->spec.input_size * l->element, out = l->out * l->element, H = l->spec.hidden_size * l->element;
    some.x = allocate(T * n, I);
    some.h = allocate(h_count(l, n), l->element);
    some.c = allocate(c_count(l, n), l->element);
    some.lengths = allocate(n, sizeof *some.lengths);
    some.resets = b->resets ? allocate(T * n, 1) : NULL;
    copy_rows(some.x, b->x, b, T, rows, n, I);
    if (b->resets)
        copy_rows((char *)some.resets, (const char *)b->resets, b, T, rows, n, 1);
    copy_rows(some.h, b->h, b, stacked(l), rows, n, out);
    copy_rows(some.c, b->c, b, stacked(l), rows, n, H);
    for (size_t i = 0; i < n; i++)
        some.lengths[i] = length_of(b, rows[i]) < T ? length_of(b, rows[i]) : T;
    return some;
}

/* Replaces about one number in `every`: by zeros of either sign, or by anything there is. */
static inline void spoil(void *array, size_t n, frnn_dtype dtype, size_t every, bool zeros)
{
    for (size_t i = 0; i < n && array; i++)
        if (pick(every) == 0)
            put(array, i, dtype, !zeros ? special(dtype) : pick(2) ? -0.0 : 0.0);
}

static inline void spoil_batch(const layer *l, batch *b, size_t every, bool zeros)
{
    spoil(b->x, b->T * b->B * l->spec.input_size, l->spec.dtype, every, zeros);
    spoil(b->h, h_count(l, b->B), l->spec.dtype, every, zeros);
    spoil(b->c, c_count(l, b->B), l->spec.dtype, every, zeros);
}

static inline void spoil_row(const layer *l, batch *b, size_t row)
{
    const size_t I = l->spec.input_size * l->element, out = l->out * l->element;
    for (size_t t = 0; t < b->T; t++)
        spoil((char *)b->x + (t * b->B + row) * I, l->spec.input_size, l->spec.dtype, 2, false);
    for (size_t s = 0; s < stacked(l); s++)
        spoil((char *)b->h + (s * b->B + row) * out, l->out, l->spec.dtype, 2, false);
}

#endif
