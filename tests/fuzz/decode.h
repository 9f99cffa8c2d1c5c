/* A layer stack and a batch of sequences from a fuzzer's bytes.
 *
 * A byte decides one thing, in an order that never changes. Zeros are the plain case, and what bytes that are used up
 * decide. Numbers come from a generator that some bytes start, but for a few special ones, put where bytes say.
 *
 * Stacks are small, so that an execution takes a fraction of a millisecond; one in 32 is large. One size is kept where
 * the others are cut, so that small stacks too have chains that break and more blocks than one. */
#ifndef DECODE_H
#define DECODE_H

#include "narrow.h"

typedef struct problem {
    layer l; /* with params of one target */
    batch b;
    bool same_rows; /* x of all rows is that of the first */
    result whole;   /* what that target answers to a plain call */
} problem;

/* Goes on from a hash of all bytes: what takes long stays as rare as it is here, whatever is in the corpus. */
static uint64_t rarity;

static void start_rarity(const uint8_t *data, size_t size)
{
    rarity = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        rarity = (rarity ^ data[i]) * UINT64_C(1099511628211);
}

static bool rarely(size_t one_in)
{
    rarity = (rarity ^ rarity >> 29) * UINT64_C(2685821657736338717);
    return (rarity >> 33) % one_in == 0;
}

/* Of a stack, and of a call. */
typedef struct limits {
    size_t weights, products;
} limits;

static const limits small_limits = {1000, 8000}, large_limits = {55000, 60000};

static size_t pick_size(void)
{
    static const size_t edges[] = {31, 32, 33, 39, 47, 48, 63, 64, 65, 95, 127, 128, 129, 130, 160, 200};
    const size_t n = pick(40);
    return n < 24 ? 1 + n : edges[n - 24];
}

static frnn_activation pick_activation(frnn_function standard)
{
    static const double values[] = {1, 0.25, 0.5, -0.5, 0, 2, 1.0 / 6, -3, 1e-42, 100};
    frnn_activation f = {standard, 0, 0};
    const size_t choice = pick(8);
    if (choice < 6)
        f.function = (frnn_function)choice;
    if (choice == FRNN_HARD_SIGMOID || choice == FRNN_LINEAR) {
        f.alpha = PICK_OF(values);
        f.beta = PICK_OF(values);
    }
    return f;
}

static size_t weights_in(const frnn_spec *spec)
{
    const layer l = layer_of(spec);
    size_t n = 0;
    for (size_t i = 0; i < stacked(&l); i++)
        n += weight_count(&l, i, 0) + weight_count(&l, i, 1) + weight_count(&l, i, 4);
    return n;
}

/* All sizes but one become less, then the number of layers, then that one. */
static void cut_spec(frnn_spec *spec, size_t most)
{
    size_t *const sizes[] = {&spec->input_size, &spec->hidden_size, &spec->proj_size};
    const size_t kept = pick(3);
    while (weights_in(spec) > most) {
        size_t *const one = sizes[(kept + 1) % 3], *const other = sizes[(kept + 2) % 3];
        size_t *const largest = *one > *other ? one : other;
        *(*largest > 4 ? largest : spec->num_layers > 1 ? &spec->num_layers : sizes[kept]) /= 2;
    }
}

static frnn_spec pick_spec(const limits *most)
{
    static const double clips[] = {INFINITY, 0.5, 1, 3, 1e-3, 50};
    frnn_spec spec = {.cell = (frnn_cell)pick(FRNN_CELLS), .dtype = (frnn_dtype)pick(FRNN_DTYPES)};
    const size_t directions = pick(4);
    spec.forward = directions != 1;
    spec.reverse = directions == 1 || directions == 2;
    spec.num_layers = 1 + pick(MOST_STACKED);
    spec.input_size = chance(16) ? 0 : pick_size();
    spec.hidden_size = pick_size();
    spec.proj_size = spec.cell == FRNN_LSTM && chance(3) ? pick_size() : 0;
    spec.reset_after = chance(2);
    const bool standard = !chance(2);
    spec.input_forget = !standard && chance(2);
    spec.clip = standard ? (double)INFINITY : PICK_OF(clips);
    spec.activation = standard ? (frnn_activation){FRNN_TANH, 0, 0} : pick_activation(FRNN_TANH);
    spec.recurrent_activation = standard ? (frnn_activation){FRNN_SIGMOID, 0, 0} : pick_activation(FRNN_SIGMOID);
    spec.output_activation = standard ? (frnn_activation){FRNN_TANH, 0, 0} : pick_activation(FRNN_TANH);
    cut_spec(&spec, most->weights);
    if (chance(8)) /* so that an output can be the next input */
        spec.input_size = spec.proj_size ? spec.proj_size : spec.hidden_size;
    return spec;
}

/* Numbers within a scale, or small integers. */
static void *draw_numbers(size_t n, frnn_dtype dtype, bool integers, double scale)
{
    void *array = allocate(n, size_of(dtype));
    for (size_t i = 0; i < n; i++) {
        const double value = uniform();
        put(array, i, dtype, integers ? round(2 * value) : scale * value);
    }
    return array;
}

static void pick_weights(layer *l)
{
    static const double scales[] = {1, 0.25, 4, 30, 1e5, 1e30};
    const bool integers = chance(8), peepholes = l->spec.cell == FRNN_LSTM && chance(3);
    const double scale = chance(4) ? PICK_OF(scales) : 1, H = (double)l->spec.hidden_size;
    const size_t biases = pick(4);
    const bool there[WEIGHTS] = {
        true, true, biases != 1 && biases != 3, biases != 2 && biases != 3, l->spec.proj_size > 0, peepholes};
    for (size_t i = 0; i < stacked(l); i++) {
        const double terms[WEIGHTS] = {(double)input_size(l, i) + 1, (double)l->out, 4, 4, H, 1};
        for (size_t which = 0; which < WEIGHTS; which++)
            if (there[which])
                *weight(l, i, which) =
                    draw_numbers(weight_count(l, i, which), l->spec.dtype, integers, scale / sqrt(terms[which]));
    }
}

/* T and B, in so many products. */
static void pick_extent(batch *b, size_t most)
{
    static const size_t edges[] = {24, 25, 71, 72, 73, 96, 97, 100, 193, 200};
    const size_t steps = pick(32), rows = pick(32);
    b->T = chance(24) ? 0 : 1 + steps;
    b->B = chance(24) ? 0 : rows < 22 ? 1 + rows : edges[rows - 22];
    if (b->T * b->B > most && b->B > most)
        b->B = 1 + b->B % most;
    if (b->T * b->B > most)
        b->T = 1 + b->T % ((most + b->B - 1) / b->B);
}

static void pick_lengths(batch *b)
{
    b->ragged = chance(2);
    if (!b->ragged)
        return;
    b->lengths = allocate(b->B, sizeof *b->lengths);
    for (size_t r = 0; r < b->B; r++)
        b->lengths[r] = (size_t)(next() >> 33) % (b->T + 1);
    for (size_t changes = pick(4); changes && b->B; changes--) {
        const size_t row = pick(b->B);
        b->lengths[row] = pick(b->T + 1);
    }
}

static void pick_batch(problem *p, const limits *most)
{
    const layer *l = &p->l;
    batch *b = &p->b;
    pick_extent(b, 1 + most->products / (weights_in(&l->spec) + 50));
    pick_lengths(b);
    p->same_rows = chance(12);
    b->x = draw_numbers(b->T * b->B * l->spec.input_size, l->spec.dtype, chance(8), 1);
    if (chance(2))
        b->h = draw_numbers(h_count(l, b->B), l->spec.dtype, false, 1);
    if (has_c(l) && chance(2))
        b->c = draw_numbers(c_count(l, b->B), l->spec.dtype, false, 2);
}

/* One number of an array, or all. */
static void put_specials(problem *p)
{
    layer *l = &p->l;
    for (size_t count = chance(3) ? 1 + pick(4) : 0; count; count--) {
        void *const given[] = {p->b.x, p->b.h, p->b.c};
        const size_t counts[] = {p->b.T * p->b.B * l->spec.input_size, h_count(l, p->b.B), c_count(l, p->b.B)};
        const size_t i = pick(stacked(l)), which = pick(WEIGHTS + 3), place = pick(65536), all = pick(8);
        void *array = which < WEIGHTS ? (void *)(uintptr_t)*weight(l, i, which) : given[which - WEIGHTS];
        const size_t n = which < WEIGHTS ? weight_count(l, i, which) : counts[which - WEIGHTS];
        const double value = special(l->spec.dtype);
        for (size_t k = 0; k < n && array; k++)
            if (k == place % n || all == 1)
                put(array, k, l->spec.dtype, value);
    }
}

/* NaN past the ends, which nothing may come of; or all rows alike. */
static void settle_x(problem *p)
{
    const batch *b = &p->b;
    const size_t row_bytes = p->l.spec.input_size * p->l.element;
    for (size_t i = 0; i < b->T * b->B; i++) {
        char *row = (char *)b->x + i * row_bytes;
        if (p->same_rows)
            memmove(row, (char *)b->x + i / b->B * b->B * row_bytes, row_bytes);
        else if (i / b->B >= length_of(b, i % b->B))
            memset(row, 0xff, row_bytes);
    }
}

/* They take no bytes and no numbers from those that follow. */
static void pick_resets(batch *b)
{
    const uint64_t state = random_state;
    const bool resets = rarely(4), often = rarely(2);
    b->resets = resets ? allocate(b->T * b->B, 1) : NULL;
    for (size_t i = 0; resets && i < b->T * b->B; i++)
        b->resets[i] = next() >> 33 & (often ? 1 : 31) ? 0 : (unsigned char)(1 + i % 255);
    random_state = state;
}

/* Without params and results. */
static problem pick_problem(void)
{
    problem p = {0};
    random_state = 1 + pick(65536);
    const limits *most = rarely(32) ? &large_limits : &small_limits;
    const frnn_spec spec = pick_spec(most);
    p.l = layer_of(&spec);
    pick_weights(&p.l);
    pick_batch(&p, most);
    put_specials(&p);
    settle_x(&p);
    const size_t precision = pick(8);
    if (spec.dtype == FRNN_FLOAT32 && precision <= FRNN_INT8_FAST)
        narrow_layer(&p.l, (frnn_precision)precision);
    pick_resets(&p.b);
    return p;
}

#endif
