/* Random layers and batches, the same on every processor, compiler and operating system. tests/c/digest.txt is a digest
 * of their results, so neither a draw nor its place in the sequence may change. */
#ifndef RANDOM_H
#define RANDOM_H

#include "layers.h"

enum { MOST = 40, LARGE = 200, MOST_ROWS = 20 };

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

static inline frnn_spec random_spec(frnn_cell cell, frnn_dtype dtype, size_t most_stacked, bool *large, bool *standard)
{
    frnn_spec spec = {.cell = cell, .dtype = dtype};
    *large = pick(8) == 0;
    const size_t most = *large ? LARGE : MOST;
    spec.input_size = pick(most);
    spec.hidden_size = 1 + pick(most);
    spec.num_layers = 1 + pick(most_stacked);
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
static inline layer random_layer(frnn_cell cell, frnn_dtype dtype, size_t most_stacked)
{
    bool large, standard;
    const frnn_spec spec = random_spec(cell, dtype, most_stacked, &large, &standard);
    layer l = layer_of(&spec);
    l.large = large;
    const bool there[WEIGHTS] = {true, true, true, true, spec.proj_size > 0, cell == FRNN_LSTM && !standard};
    for (size_t i = 0; i < stacked(&l); i++)
        for (size_t which = 0; which < WEIGHTS; which++)
            *weight(&l, i, which) = there[which] ? numbers(weight_count(&l, i, which), dtype) : NULL;
    return l;
}

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

/* Resets of a batch that has none, of any density: drawn from the same sequence, so for layers that come after all others. */
static inline void add_resets(batch *b)
{
    static const size_t every[] = {1, 2, 5, 20, 100};
    const size_t one_in = every[pick(sizeof every / sizeof *every)];
    b->resets = allocate(b->T * b->B, 1);
    for (size_t i = 0; i < b->T * b->B; i++)
        b->resets[i] = pick(one_in) == 0 ? (unsigned char)(1 + pick(255)) : 0;
}

/* Any plan that the library takes, and not only those that it makes. */
static inline frnn_plan random_plan(const frnn_spec *spec, size_t T, size_t B)
{
    const size_t D = (size_t)spec->forward + (size_t)spec->reverse;
    frnn_plan plan = {.unit_threads = 1, .layer_threads = 1};
    plan.chunk = 1 + pick(T + 1);
    plan.x_part = pick(2) ? FRNN_X_AHEAD : FRNN_X_ONE_STEP;
    plan.parts = 1 + (B ? pick(B < 3 ? B : 3) : 0);
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

#endif
