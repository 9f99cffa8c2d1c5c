/* Gradients of a random layer's call, all dense. Their draws are their own: those of the layers after them stay. */
#ifndef GRADIENTS_H
#define GRADIENTS_H

#include "pages.h"
#include "random.h"

/* Gradients of y and of the final states, which are given. */
typedef struct cotangents {
    void *dy, *dh, *dc;
} cotangents;

/* Gradients of x, of the initial states and of the weights, which are wanted. */
typedef struct gradients {
    void *dx, *dh, *dc;
    frnn_weight_gradients weights[2 * MOST_STACKED];
} gradients;

static inline void *uniform_numbers(size_t n, frnn_dtype dtype)
{
    void *array = allocate(n, size_of(dtype));
    for (size_t i = 0; i < n; i++)
        put(array, i, dtype, uniform());
    return array;
}

static inline cotangents random_cotangents(const layer *l, const batch *b)
{
    const uint64_t state = random_state;
    cotangents g;
    g.dy = uniform_numbers(b->T * b->B * y_width(l), l->spec.dtype);
    g.dh = uniform_numbers(h_count(l, b->B), l->spec.dtype);
    g.dc = uniform_numbers(has_c(l) ? c_count(l, b->B) : 0, l->spec.dtype);
    random_state = state;
    return g;
}

static inline void free_cotangents(cotangents *g) { free(g->dy), free(g->dh), free(g->dc); }

static inline void **weight_gradient(gradients *g, size_t i, size_t which)
{
    frnn_weight_gradients *w = &g->weights[i];
    void **const all[WEIGHTS] = {&w->W, &w->U, &w->b, &w->d, &w->V, &w->p};
    return all[which];
}

static inline gradients new_gradients(const layer *l, const batch *b)
{
    gradients g = {
        .dx = allocate_unset(b->T * b->B * l->spec.input_size, l->element),
        .dh = allocate_unset(h_count(l, b->B), l->element),
        .dc = allocate_unset(has_c(l) ? c_count(l, b->B) : 0, l->element),
    };
    for (size_t i = 0; i < stacked(l); i++)
        for (size_t which = 0; which < WEIGHTS; which++)
            if (*weight((layer *)(uintptr_t)l, i, which))
                *weight_gradient(&g, i, which) = allocate_unset(weight_count(l, i, which), l->element);
    return g;
}

static inline void free_gradients(const layer *l, gradients *g)
{
    free(g->dx), free(g->dh), free(g->dc);
    for (size_t i = 0; i < stacked(l); i++)
        for (size_t which = 0; which < WEIGHTS; which++)
            free(*weight_gradient(g, i, which));
}

static inline frnn_pull make_pull(const layer *l, const batch *b, const cotangents *from, const gradients *to,
                                  size_t threads)
{
    return (frnn_pull){
        .dy = dense(from->dy, b->B, y_width(l) * l->element),
        .dfinal = {dense(from->dh, b->B, l->out * l->element), dense(from->dc, b->B, l->spec.hidden_size * l->element)},
        .dx = to->dx,
        .dx_time = (ptrdiff_t)(b->B * l->spec.input_size * l->element),
        .dx_row = (ptrdiff_t)(l->spec.input_size * l->element),
        .dinitial = {to->dh, to->dc},
        .weights = to->weights,
        .threads = threads,
    };
}

static inline uint64_t digest_gradients(const layer *l, const batch *b, gradients *g)
{
    uint64_t hash = digest(1, g->dx, b->T * b->B * l->spec.input_size, l->spec.dtype);
    hash = digest(hash, g->dh, h_count(l, b->B), l->spec.dtype);
    hash = digest(hash, g->dc, has_c(l) ? c_count(l, b->B) : 0, l->spec.dtype);
    for (size_t i = 0; i < stacked(l); i++)
        for (size_t which = 0; which < WEIGHTS; which++)
            if (*weight_gradient(g, i, which))
                hash = digest(hash, *weight_gradient(g, i, which), weight_count(l, i, which), l->spec.dtype);
    return hash;
}

/* A tape of a call, marked at each segment of so many steps unless 0, and the digest of the call's results. */
static inline frnn_tape *record(const layer *l, const batch *b, size_t threads, size_t segment, uint64_t *hash)
{
    result r = new_result(l, b->T, b->B);
    frnn_call call = make_call(l, b, &r);
    call.threads = threads;
    frnn_tape *tape;
    must(frnn_run_taped(l->params, &call, segment, &tape) == FRNN_OK, "a call with a tape succeeds");
    *hash = digest_result(l, &r, b->T, b->B);
    free_result(&r);
    return tape;
}

static inline frnn_transposed *transpose(const layer *l)
{
    frnn_transposed *transposed;
    must(frnn_transposed_new(l->params, l->weights, &transposed) == FRNN_OK, "weights for the way back are made");
    return transposed;
}

/* The digest of all gradients. */
static inline uint64_t pull(const layer *l, const batch *b, const frnn_tape *tape, const frnn_transposed *transposed,
                            const cotangents *from, size_t threads)
{
    gradients g = new_gradients(l, b);
    const frnn_pull to_pull = make_pull(l, b, from, &g, threads);
    must(frnn_pull_back(tape, transposed, &to_pull) == FRNN_OK, "a pullback succeeds");
    const uint64_t hash = digest_gradients(l, b, &g);
    free_gradients(l, &g);
    return hash;
}

#endif
