/* Random layers and batches for tests in C: the same on every processor, compiler and operating system. */
#ifndef LAYERS_H
#define LAYERS_H

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

enum { MOST = 40, LARGE = 200, MOST_STACKED = 3, MOST_ROWS = 20 };

static uint64_t random_state;

/* xorshift64*. One draw a statement, always: the order within an expression is the compiler's. */
static inline uint64_t next(void)
{
    random_state ^= random_state >> 12, random_state ^= random_state << 25, random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717);
}

static inline size_t pick(size_t n) { return (size_t)(next() >> 33) % n; }

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

/* Memory of exactly so many bytes: what checks memory sees the first one too many. */
static inline void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        abort();
    return memory;
}

/* Uniform, and exact in either type. */
static inline void *numbers(size_t n, frnn_dtype dtype)
{
    void *array = allocate(n, size_of(dtype));
    for (size_t i = 0; i < n; i++) {
        const int number = (int)pick(2001) - 1000;
        put(array, i, dtype, (double)number / 2048);
    }
    return array;
}

typedef struct layer {
    frnn_spec spec;
    bool large; /* more terms than a chain has: fewer steps and rows then, since emulation is slow */
    size_t D, out, element;
    frnn_weights weights[2 * MOST_STACKED];
    frnn_params *params;
} layer;

static inline frnn_spec random_spec(frnn_cell cell, frnn_dtype dtype, size_t stacked, bool *large, bool *standard)
{
    frnn_spec spec = {.cell = cell, .dtype = dtype};
    *large = pick(8) == 0;
    const size_t most = *large ? LARGE : MOST;
    spec.input_size = pick(most);
    spec.hidden_size = 1 + pick(most);
    spec.num_layers = 1 + pick(stacked);
    spec.forward = pick(3) > 0;
    spec.reverse = pick(2) || !spec.forward;
    const size_t P = 1 + pick(MOST), projects = pick(3) == 0;
    spec.proj_size = cell == FRNN_LSTM && projects ? P : 0;
    spec.reset_after = pick(2);
    *standard = pick(2);
    spec.input_forget = pick(3) == 0 && !*standard;
    spec.clip = pick(3) || *standard ? (double)INFINITY : 0.5;
    spec.activation.function = spec.output_activation.function = FRNN_TANH;
    spec.recurrent_activation.function = FRNN_SIGMOID;
    frnn_activation *activations[] = {&spec.activation, &spec.recurrent_activation, &spec.output_activation};
    for (int i = 0; i < 3 && !*standard; i++)
        *activations[i] = (frnn_activation){(frnn_function)pick(6), 0.25, 0.5};
    return spec;
}

/* Without params: they are made when the weights are as a test wants them. */
static inline layer random_layer(frnn_cell cell, frnn_dtype dtype, size_t stacked)
{
    layer l = {0};
    bool standard;
    l.spec = random_spec(cell, dtype, stacked, &l.large, &standard);
    l.D = (size_t)l.spec.forward + (size_t)l.spec.reverse;
    l.out = l.spec.proj_size ? l.spec.proj_size : l.spec.hidden_size;
    l.element = size_of(dtype);
    const size_t rows = frnn_cell_gates(cell) * l.spec.hidden_size;
    for (size_t i = 0; i < l.spec.num_layers * l.D; i++) {
        frnn_weights *w = &l.weights[i];
        w->W = numbers(rows * (i < l.D ? l.spec.input_size : l.D * l.out), dtype);
        w->U = numbers(rows * l.out, dtype);
        w->b = numbers(rows, dtype);
        w->d = numbers(rows, dtype);
        w->V = l.spec.proj_size ? numbers(l.spec.proj_size * l.spec.hidden_size, dtype) : NULL;
        w->p = cell == FRNN_LSTM && !standard ? numbers(3 * l.spec.hidden_size, dtype) : NULL;
    }
    return l;
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
    for (size_t i = 0; i < l->spec.num_layers * l->D; i++) {
        const frnn_weights *w = &l->weights[i];
        const void *const arrays[] = {w->W, w->U, w->b, w->d, w->V, w->p};
        for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++)
            free((void *)(uintptr_t)arrays[a]);
    }
}

/* What a call reads: dense. */
typedef struct batch {
    size_t T, B;
    void *x, *h, *c;
    size_t *lengths;
    bool ragged; /* lengths are used */
} batch;

static inline bool has_c(const layer *l) { return frnn_cell_states(l->spec.cell) > 1; }

/* Numbers of one row's x at one step, of its y, and of the states of all rows. */
static inline size_t y_width(const layer *l) { return l->D * l->out; }
static inline size_t h_count(const layer *l, size_t B) { return l->spec.num_layers * l->D * B * l->out; }
static inline size_t c_count(const layer *l, size_t B) { return l->spec.num_layers * l->D * B * l->spec.hidden_size; }

static inline batch random_batch(const layer *l)
{
    batch b = {0};
    b.T = pick(l->large ? 8 : 30);
    b.B = 1 + pick(l->large ? 6 : MOST_ROWS);
    b.ragged = pick(2);
    b.x = numbers(b.T * b.B * l->spec.input_size, l->spec.dtype);
    b.h = numbers(h_count(l, b.B), l->spec.dtype);
    b.c = numbers(c_count(l, b.B), l->spec.dtype);
    b.lengths = allocate(b.B, sizeof *b.lengths);
    for (size_t r = 0; r < b.B; r++)
        b.lengths[r] = pick(b.T + 1);
    return b;
}

static inline void free_batch(batch *b) { free(b->x), free(b->h), free(b->c), free(b->lengths); }

static inline size_t length_of(const batch *b, size_t row) { return b->ragged ? b->lengths[row] : b->T; }

/* What a call writes: dense. */
typedef struct result {
    void *y, *h, *c;
} result;

static inline result new_result(const layer *l, size_t T, size_t B)
{
    return (result){
        .y = allocate(T * B * y_width(l), l->element),
        .h = allocate(h_count(l, B), l->element),
        .c = allocate(has_c(l) ? c_count(l, B) : 0, l->element),
    };
}

static inline void free_result(result *r) { free(r->y), free(r->h), free(r->c); }

/* A dense array of rows, one after another for each of the outer axis. */
static inline frnn_array dense(const void *data, size_t B, size_t row_bytes)
{
    return (frnn_array){data, (ptrdiff_t)(B * row_bytes), (ptrdiff_t)row_bytes};
}

static inline frnn_call make_call(const layer *l, const batch *b, const result *r)
{
    return (frnn_call){
        .T = b->T,
        .B = b->B,
        .x = dense(b->x, b->B, l->spec.input_size * l->element),
        .initial = {dense(b->h, b->B, l->out * l->element), dense(b->c, b->B, l->spec.hidden_size * l->element)},
        .lengths = b->ragged ? b->lengths : NULL,
        .return_sequences = true,
        .y = r->y,
        .y_time = (ptrdiff_t)(b->B * y_width(l) * l->element),
        .y_row = (ptrdiff_t)(y_width(l) * l->element),
        .final = {r->h, r->c},
        .threads = 1,
    };
}

/* Any plan that the library takes, and not only those that it makes. */
static inline frnn_plan random_plan(const frnn_spec *spec, size_t T, size_t B)
{
    const size_t D = (size_t)spec->forward + (size_t)spec->reverse;
    frnn_plan plan = {.unit_threads = 1, .layer_threads = 1};
    plan.chunk = 1 + pick(T + 1);
    plan.x_part = pick(2) ? FRNN_X_AHEAD : FRNN_X_ONE_STEP;
    plan.parts = 1 + pick(B < 3 ? B : 3);
    const size_t together = 1 + pick(3);
    const bool wavefront = pick(2) && D == 1 && spec->num_layers > 1;
    *(wavefront ? &plan.layer_threads : &plan.unit_threads) = together;
    plan.threads = 1 + pick(D * plan.parts * together);
    return plan;
}

/* FNV-1a over numbers; any NaN is as good as any other. */
static inline uint64_t digest(uint64_t hash, const void *array, size_t n, frnn_dtype dtype)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t word = 0;
        if (!is_nan(get(array, i, dtype)))
            memcpy(&word, (const char *)array + i * size_of(dtype), size_of(dtype));
        hash = (hash ^ word) * UINT64_C(1099511628211);
    }
    return hash;
}

static inline uint64_t digest_result(const layer *l, const result *r, size_t T, size_t B)
{
    uint64_t hash = digest(1, r->y, T * B * y_width(l), l->spec.dtype);
    hash = digest(hash, r->h, h_count(l, B), l->spec.dtype);
    return digest(hash, r->c, has_c(l) ? c_count(l, B) : 0, l->spec.dtype);
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

#endif
