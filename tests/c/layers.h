/* A layer stack, a batch of sequences for it and the results of a call, all dense. Its weights are numbers of its type, or
 * narrow ones (narrow.h). */
#ifndef LAYERS_H
#define LAYERS_H

#include <stdarg.h>
#include <stdio.h>

#include "arrays.h"
#include "plan.h"

enum { MOST_STACKED = 3, WEIGHTS = 6 /* W U b d V p */ };

typedef struct layer {
    frnn_spec spec;
    bool large; /* more terms than a chain has: fewer steps and rows then, since emulation is slow */
    size_t D, out, element;
    frnn_weights weights[2 * MOST_STACKED];
    frnn_params *params;
} layer;

static inline layer layer_of(const frnn_spec *spec)
{
    return (layer){
        .spec = *spec,
        .D = (size_t)spec->forward + (size_t)spec->reverse,
        .out = spec->proj_size ? spec->proj_size : spec->hidden_size,
        .element = size_of(spec->dtype),
    };
}

/* In each direction of each layer, of which there are `stacked`: the size of its input, and its arrays of weights. */
static inline size_t stacked(const layer *l) { return l->spec.num_layers * l->D; }

static inline size_t input_size(const layer *l, size_t i) { return i < l->D ? l->spec.input_size : l->D * l->out; }

static inline const void **weight(layer *l, size_t i, size_t which)
{
    frnn_weights *w = &l->weights[i];
    const void **const all[WEIGHTS] = {&w->W, &w->U, &w->b, &w->d, &w->V, &w->p};
    return all[which];
}

/* Numbers of such an array, where it is there. */
static inline size_t weight_count(const layer *l, size_t i, size_t which)
{
    const size_t H = l->spec.hidden_size, rows = frnn_cell_gates(l->spec.cell) * H;
    const size_t all[WEIGHTS] = {rows * input_size(l, i), rows * l->out, rows, rows, l->spec.proj_size * H, 3 * H};
    return all[which];
}

/* Whether such an array may be narrow: W, U or V. */
static inline bool is_matrix(size_t which) { return which == 0 || which == 1 || which == 4; }

static inline bool has_bytes(const layer *l)
{
    return l->spec.precision == FRNN_INT8 || l->spec.precision == FRNN_INT8_FAST;
}

/* Bytes of one number of such an array. */
static inline size_t weight_bytes(const layer *l, size_t which)
{
    if (!is_matrix(which) || l->spec.precision == FRNN_FULL)
        return l->element;
    return has_bytes(l) ? 1 : 2;
}

/* Of a matrix: what a byte of each of its rows stands for, and how many rows there are. */
static inline const float **scales(layer *l, size_t i, size_t which)
{
    frnn_weights *w = &l->weights[i];
    return which == 0 ? &w->W_scale : which == 1 ? &w->U_scale : &w->V_scale;
}

static inline size_t matrix_rows(const layer *l, size_t which)
{
    return which == 4 ? l->spec.proj_size : frnn_cell_gates(l->spec.cell) * l->spec.hidden_size;
}

static inline frnn_params *make_params(const layer *l, const frnn_target *target)
{
    frnn_params *params;
    if (frnn_params_new(&l->spec, l->weights, target, &params) != FRNN_OK)
        abort();
    return params;
}

static inline void free_layer(layer *l)
{
    frnn_params_free(l->params);
    for (size_t i = 0; i < stacked(l); i++)
        for (size_t which = 0; which < WEIGHTS; which++) {
            free((void *)(uintptr_t)*weight(l, i, which));
            if (is_matrix(which))
                free((void *)(uintptr_t)*scales(l, i, which));
        }
}

/* What a call reads. */
typedef struct batch {
    size_t T, B;
    void *x, *h, *c; /* h or c NULL: zeros */
    size_t *lengths;
    bool ragged;           /* lengths are used */
    unsigned char *resets; /* (T, B); NULL: none */
} batch;

static inline bool has_c(const layer *l) { return frnn_cell_states(l->spec.cell) > 1; }

/* The layer with x as an embedding, each of whose rows one token names; its params are new. */
static inline layer with_embedding(const layer *l, const batch *b, const frnn_target *target)
{
    layer same = *l;
    same.spec.vocabulary = b->T * b->B;
    same.weights[0].E = b->x;
    same.params = make_params(&same, target);
    return same;
}

/* Numbers of one row's x at one step, of its y, and of the states of all rows. */
static inline size_t y_width(const layer *l) { return l->D * l->out; }
static inline size_t h_count(const layer *l, size_t B) { return stacked(l) * B * l->out; }
static inline size_t c_count(const layer *l, size_t B) { return stacked(l) * B * l->spec.hidden_size; }

static inline void free_batch(batch *b) { free(b->x), free(b->h), free(b->c), free(b->lengths), free(b->resets); }

static inline size_t length_of(const batch *b, size_t row) { return b->ragged ? b->lengths[row] : b->T; }

/* What a call writes. */
typedef struct result {
    void *y, *h, *c;
} result;

static inline result new_result(const layer *l, size_t T, size_t B)
{
    return (result){
        .y = allocate_unset(T * B * y_width(l), l->element),
        .h = allocate_unset(h_count(l, B), l->element),
        .c = allocate_unset(has_c(l) ? c_count(l, B) : 0, l->element),
    };
}

static inline void free_result(result *r) { free(r->y), free(r->h), free(r->c); }

static inline frnn_call make_call(const layer *l, const batch *b, const result *r)
{
    return (frnn_call){
        .T = b->T,
        .B = b->B,
        .x = dense(b->x, b->B, l->spec.input_size * l->element),
        .initial = {dense(b->h, b->B, l->out * l->element), dense(b->c, b->B, l->spec.hidden_size * l->element)},
        .lengths = b->ragged ? b->lengths : NULL,
        .resets = b->resets,
        .reset_time = (ptrdiff_t)b->B,
        .reset_row = 1,
        .return_sequences = true,
        .y = r->y,
        .y_time = (ptrdiff_t)(b->B * y_width(l) * l->element),
        .y_row = (ptrdiff_t)(y_width(l) * l->element),
        .final = {r->h, r->c},
        .threads = 1,
    };
}

/* The target of a name if it can be used here; NULL if not. */
static inline const frnn_target *find_target(const char *name)
{
    for (size_t i = 0; i < frnn_target_count(); i++) {
        const frnn_target *target = frnn_target_at(i);
        if (strcmp(frnn_target_name(target), name) == 0)
            return frnn_target_usable(target) ? target : NULL;
    }
    return NULL;
}

/* What is being tested, for the message of the first failure, which ends the program with 1. */
static char tested[512];

static inline void set_tested(const char *what, const layer *l, const batch *b)
{
    static const char *const precisions[] = {"", " float16", " int8", " int8_fast"};
    const frnn_spec *s = &l->spec;
    snprintf(tested, sizeof tested,
             "%s: %s float%d%s I=%d H=%d P=%d L=%d %s%s T=%d B=%d activations=%d,%d,%d clip=%g%s%s%s%s", what,
             frnn_cell_name(s->cell), (int)(8 * l->element), precisions[s->precision], (int)s->input_size,
             (int)s->hidden_size, (int)s->proj_size, (int)s->num_layers, s->forward ? "forward" : "",
             s->reverse ? "reverse" : "", (int)b->T, (int)b->B, (int)s->activation.function,
             (int)s->recurrent_activation.function, (int)s->output_activation.function, s->clip,
             s->reset_after ? " reset_after" : "", s->input_forget ? " input_forget" : "", b->ragged ? " ragged" : "",
             b->resets ? " resets" : "");
}

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static _Noreturn inline void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", tested);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static inline void must(bool kept, const char *promise)
{
    if (!kept)
        fail("broken: %s", promise);
}

#endif
