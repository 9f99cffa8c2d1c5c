/* A layer stack and a batch of sequences, decoded from the bytes that a fuzzer makes.
 *
 * A byte decides one thing, in an order that never changes, and zeros are the plain case: what is left when the bytes are
 * used up is small. Numbers come from a generator that some bytes start, but for a few special ones that are put where
 * bytes say. */
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

enum {
    MOST_LAYERS = 3,
    MOST_WEIGHTS = 60000,   /* of a stack */
    MOST_PRODUCTS = 200000, /* of a call */
    PARTS = 6               /* W U b d V p */
};

typedef struct input {
    const uint8_t *at;
    size_t left;
    uint64_t random;
} input;

/* From 0 to n - 1. */
static size_t pick(input *in, size_t n)
{
    size_t value = 0;
    for (size_t most = 1; most < n && in->left; most *= 256, in->left--)
        value = value * 256 + *in->at++;
    return value % n;
}

static bool chance(input *in, size_t one_in) { return pick(in, one_in) == 1; }

#define PICK_OF(in, table) (table)[pick(in, sizeof(table) / sizeof *(table))]

/* xorshift64* */
static double uniform(input *in)
{
    in->random ^= in->random >> 12, in->random ^= in->random << 25, in->random ^= in->random >> 27;
    return (double)(int64_t)(in->random * UINT64_C(2685821657736338717)) / 0x1p63;
}

typedef struct numbers {
    void *data;
    size_t n;
} numbers;

typedef struct problem {
    frnn_spec spec;
    size_t D, G, out, element;
    numbers weights[2 * MOST_LAYERS][PARTS]; /* data NULL: absent */
    size_t T, B;
    bool same_rows;      /* x of all rows is that of the first */
    size_t *lengths;     /* NULL: all T */
    numbers x, h, c;     /* dense; h and c without data: zeros */
    numbers y, h_n, c_n; /* what the first target answers: dense, sequences returned */
} problem;

/* The problem that is being worked on, for messages. */
static const problem *current;

static _Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("fuzz_run: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    const problem *p = current;
    if (p)
        fprintf(
            stderr,
            "\ncell %d dtype %d I %zu H %zu P %zu L %zu forward %d reverse %d reset_after %d input_forget %d clip %g"
            " activations %d %d %d T %zu B %zu ragged %d state %d\n",
            p->spec.cell, p->spec.dtype, p->spec.input_size, p->spec.hidden_size, p->spec.proj_size, p->spec.num_layers,
            p->spec.forward, p->spec.reverse, p->spec.reset_after, p->spec.input_forget, p->spec.clip,
            p->spec.activation.function, p->spec.recurrent_activation.function, p->spec.output_activation.function,
            p->T, p->B, !!p->lengths, p->h.data || p->c.data);
    abort();
}

/* Memory of exactly so many bytes, until `release`. */
static void *taken[4096];
static size_t takings;

static void *take(size_t bytes)
{
    if (takings == sizeof taken / sizeof *taken)
        fail("too many arrays");
    return taken[takings++] = malloc(bytes);
}

static void release(void)
{
    while (takings)
        free(taken[--takings]);
}

static double number_of(const problem *p, const void *array, size_t i)
{
    return p->element == 4 ? (double)((const float *)array)[i] : ((const double *)array)[i];
}

static void put_number_of(const problem *p, void *array, size_t i, double value)
{
    if (p->element == 4)
        ((float *)array)[i] = (float)value;
    else
        ((double *)array)[i] = value;
}

/* How an array's numbers are drawn: within a scale, or small integers. */
static numbers draw(input *in, const problem *p, size_t n, bool integers, double scale)
{
    const numbers array = {take(n * p->element), n};
    for (size_t i = 0; i < n; i++)
        put_number_of(p, array.data, i, integers ? round(2 * uniform(in)) : scale * uniform(in));
    return array;
}

static size_t pick_size(input *in)
{
    static const size_t edges[] = {31, 32, 33, 39, 47, 48, 63, 64, 65, 95, 127, 128, 129, 130, 160, 200};
    const size_t n = pick(in, 40);
    return n < 24 ? 1 + n : edges[n - 24];
}

static frnn_activation pick_activation(input *in, frnn_function standard)
{
    static const double values[] = {1, 0.25, 0.5, -0.5, 0, 2, 1.0 / 6, -3, 1e-42, 100};
    frnn_activation f = {standard, 0, 0};
    const size_t choice = pick(in, 8);
    if (choice < 6)
        f.function = (frnn_function)choice;
    if (choice == FRNN_HARD_SIGMOID || choice == FRNN_LINEAR) {
        f.alpha = PICK_OF(in, values);
        f.beta = PICK_OF(in, values);
    }
    return f;
}

static size_t weights_in(const problem *p)
{
    const size_t above = p->D * p->out > p->spec.input_size ? p->D * p->out : p->spec.input_size;
    return p->spec.num_layers * p->D * p->spec.hidden_size *
           (p->G * ((p->spec.num_layers > 1 ? above : p->spec.input_size) + p->out) + p->spec.proj_size);
}

static void pick_spec(input *in, problem *p)
{
    static const size_t gates[] = {1, 4, 3};
    static const double clips[] = {INFINITY, 0.5, 1, 3, 1e-3, 50};
    frnn_spec *spec = &p->spec;
    spec->cell = (frnn_cell)pick(in, 3);
    spec->dtype = (frnn_dtype)pick(in, 2);
    const size_t directions = pick(in, 4);
    spec->forward = directions != 1;
    spec->reverse = directions == 1 || directions == 2;
    spec->num_layers = 1 + pick(in, MOST_LAYERS);
    spec->input_size = chance(in, 16) ? 0 : pick_size(in);
    spec->hidden_size = pick_size(in);
    spec->proj_size = spec->cell == FRNN_LSTM && chance(in, 3) ? pick_size(in) : 0;
    spec->reset_after = chance(in, 2);
    const bool standard = !chance(in, 2);
    spec->input_forget = !standard && chance(in, 2);
    spec->clip = standard ? (double)INFINITY : PICK_OF(in, clips);
    spec->activation = standard ? (frnn_activation){FRNN_TANH, 0, 0} : pick_activation(in, FRNN_TANH);
    spec->recurrent_activation = standard ? (frnn_activation){FRNN_SIGMOID, 0, 0} : pick_activation(in, FRNN_SIGMOID);
    spec->output_activation = standard ? (frnn_activation){FRNN_TANH, 0, 0} : pick_activation(in, FRNN_TANH);
    p->D = (size_t)spec->forward + (size_t)spec->reverse;
    p->G = gates[spec->cell];
    p->element = spec->dtype == FRNN_FLOAT32 ? sizeof(float) : sizeof(double);
    if (chance(in, 8)) /* so that an output can be the next input */
        spec->input_size = spec->proj_size ? spec->proj_size : spec->hidden_size;
    for (;;) {
        p->out = spec->proj_size ? spec->proj_size : spec->hidden_size;
        if (weights_in(p) <= MOST_WEIGHTS)
            break;
        size_t *largest = spec->proj_size > spec->hidden_size ? &spec->proj_size : &spec->hidden_size;
        largest = spec->input_size > *largest ? &spec->input_size : spec->num_layers > 1 ? &spec->num_layers : largest;
        *largest /= 2;
    }
}

static void pick_weights(input *in, problem *p)
{
    static const double scales[] = {1, 0.25, 4, 30, 1e5, 1e30};
    const bool integers = chance(in, 8), peepholes = p->spec.cell == FRNN_LSTM && chance(in, 3);
    const double scale = chance(in, 4) ? PICK_OF(in, scales) : 1;
    const size_t biases = pick(in, 4), rows = p->G * p->spec.hidden_size;
    for (size_t l = 0; l < p->spec.num_layers * p->D; l++) {
        const size_t I = l < p->D ? p->spec.input_size : p->D * p->out;
        numbers *part = p->weights[l];
        part[0] = draw(in, p, rows * I, integers, scale / sqrt((double)I + 1));
        part[1] = draw(in, p, rows * p->out, integers, scale / sqrt((double)p->out));
        if (biases != 1 && biases != 3)
            part[2] = draw(in, p, rows, integers, scale / 2);
        if (biases != 2 && biases != 3)
            part[3] = draw(in, p, rows, integers, scale / 2);
        if (p->spec.proj_size)
            part[4] = draw(in, p, p->spec.proj_size * p->spec.hidden_size, integers,
                           scale / sqrt((double)p->spec.hidden_size));
        if (peepholes)
            part[5] = draw(in, p, 3 * p->spec.hidden_size, integers, scale);
    }
}

static void pick_batch(input *in, problem *p)
{
    static const size_t edges[] = {24, 25, 71, 72, 73, 96, 97, 100, 193, 200};
    const size_t steps = pick(in, 32), rows = pick(in, 32), weights = weights_in(p);
    p->T = chance(in, 24) ? 0 : 1 + steps;
    p->B = chance(in, 24) ? 0 : rows < 22 ? 1 + rows : edges[rows - 22];
    const size_t most = 1 + MOST_PRODUCTS / (weights + 100);
    if (p->T * p->B > most && p->B > most)
        p->B = 1 + p->B % most;
    if (p->T * p->B > most)
        p->T = 1 + p->T % ((most + p->B - 1) / p->B);
    if (chance(in, 2)) {
        p->lengths = take(p->B * sizeof *p->lengths);
        for (size_t r = 0; r < p->B; r++)
            p->lengths[r] = (size_t)((uniform(in) + 1) / 2 * (double)(p->T + 1)) % (p->T + 1);
        for (size_t changes = pick(in, 4); changes && p->B; changes--) {
            const size_t row = pick(in, p->B);
            p->lengths[row] = pick(in, p->T + 1);
        }
    }
    const size_t states = p->spec.num_layers * p->D * p->B;
    p->same_rows = chance(in, 12);
    p->x = draw(in, p, p->T * p->B * p->spec.input_size, chance(in, 8), 1);
    if (chance(in, 2))
        p->h = draw(in, p, states * p->out, false, 1);
    if (p->spec.cell == FRNN_LSTM && chance(in, 2))
        p->c = draw(in, p, states * p->spec.hidden_size, false, 2);
}

static void put_specials(input *in, problem *p)
{
    const double least = p->element == 4 ? 0x1p-126 : 0x1p-1022,
                 most = p->element == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
    const double values[] = {0,     -0.0,       INFINITY, -INFINITY, NAN,   -NAN, least / 2, -least / 2, least,
                             -most, least / 64, 1e20,     -1e20,     1e-20, 1,    -1,        88,         -745};
    numbers *given[3 + 2 * MOST_LAYERS * PARTS] = {&p->x, &p->h, &p->c};
    size_t arrays = 3;
    for (size_t i = 0; i < p->spec.num_layers * p->D * PARTS; i++)
        if (p->weights[i / PARTS][i % PARTS].data)
            given[arrays++] = &p->weights[i / PARTS][i % PARTS];
    for (size_t count = chance(in, 3) ? 1 + pick(in, 4) : 0; count; count--) {
        const numbers *array = given[pick(in, arrays)];
        const size_t place = pick(in, 65536), all = pick(in, 8);
        const double value = PICK_OF(in, values);
        for (size_t i = 0; array->data && i < array->n; i++)
            if (i == place % array->n || all == 1)
                put_number_of(p, array->data, i, value);
    }
}

/* NaN past the ends, which nothing may come of; or all rows alike. */
static void settle_x(problem *p)
{
    const size_t I = p->spec.input_size, row_bytes = I * p->element;
    for (size_t i = 0; i < p->T * p->B; i++) {
        char *row = (char *)p->x.data + i * row_bytes;
        if (p->same_rows)
            memmove(row, (char *)p->x.data + i / p->B * p->B * row_bytes, row_bytes);
        else if (p->lengths && i / p->B >= p->lengths[i % p->B])
            memset(row, 0xff, row_bytes);
    }
}

static problem pick_problem(input *in)
{
    problem p = {0};
    in->random = 1 + pick(in, 65536);
    pick_spec(in, &p);
    pick_weights(in, &p);
    pick_batch(in, &p);
    put_specials(in, &p);
    settle_x(&p);
    const size_t states = p.spec.num_layers * p.D * p.B;
    p.y = (numbers){take(p.T * p.B * p.D * p.out * p.element), p.T * p.B * p.D * p.out};
    p.h_n = (numbers){take(states * p.out * p.element), states * p.out};
    p.c_n = (numbers){take(states * p.spec.hidden_size * p.element),
                      p.spec.cell == FRNN_LSTM ? states * p.spec.hidden_size : 0};
    return p;
}
