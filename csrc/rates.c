/* Rates are measured with the library's own kernels, on layers of zeros: they are what the plan's equations speak of.
 *
 * (a) multiplies: some tiles of rows through a layer whose U takes half of L2.
 * (b) near: one row through the same layer. far: one through a layer whose U takes several times L2.
 * (c) wake and meet: a worker of the pool is woken some times, and exchanges messages with the caller.
 * Other work only ever adds time, so a rate is that of the shortest of some looks. Where others took much longer the machine was
 * busy, and a later call measures once more. */
#include "rates.h"

#include <math.h>
#include <stdlib.h>

#include "cpu.h"
#include "fastrnn.h"
#include "plan.h"
#include "threads.h"

enum {
    LOOKS = 5,             /* at each rate */
    MEETINGS = 100,        /* of a look */
    MOST_MEASUREMENTS = 4, /* with the same kernels */
    MOST_TARGETS = 8
};

#define LOOK_SECONDS 0.2e-3 /* of one look, about */
#define WAIT_SECONDS 1e-3   /* for a worker, or for its messages of a look */
#define BUSY 1.3            /* the median look over the shortest, of a machine that is busy */
#define LATER_SECONDS 1.0   /* from a measurement that was disturbed to the next one */

/* What was measured with the same kernels, the last one being the one that counts. */
typedef struct record {
    frnn_rates rates[MOST_MEASUREMENTS];
    atomic_size_t count;
    _Atomic(double) again_at; /* seconds, after which there is one more */
} record;

static record records[MOST_TARGETS][FRNN_DTYPES];
static frnn_rates as_set;
static atomic_bool is_set;
static atomic_size_t measuring; /* 1 + frnn_forks() of the process in which a thread measures; 0: none */

static frnn_rates guess(const frnn_kernels *kernels)
{
    /* Of a Xeon with AVX-512, 2 MB of L2 and a slow third level. In the scalar target a fused multiply-add is a call. */
    return (frnn_rates){
        .multiplies = kernels->width > 1 ? 5e9 : 2e8,
        .near_bytes = 120e9,
        .far_bytes = 25e9,
        .cell_seconds = 20e-9,
        .meet_seconds = 500e-9,
        .wake_seconds = 20e-6,
    };
}

static frnn_rates latest(const record *found, const frnn_kernels *kernels)
{
    const size_t count = atomic_load_explicit(&found->count, memory_order_acquire);
    return count ? found->rates[count - 1] : guess(kernels);
}

/* Whose kernels they are. */
static const frnn_target *target_of(const frnn_kernels *kernels, size_t *index, frnn_dtype *dtype)
{
    for (*index = 0; *index < frnn_target_count(); ++*index)
        for (*dtype = FRNN_FLOAT32; *dtype < FRNN_DTYPES; ++*dtype)
            if (frnn_target_at(*index)->kernels[*dtype] == kernels)
                return frnn_target_at(*index);
    return NULL;
}

typedef struct looks {
    double seconds[LOOKS];
    size_t n;
} looks;

static void keep(looks *all, double seconds)
{
    size_t i = all->n++;
    for (; i > 0 && all->seconds[i - 1] > seconds; i--)
        all->seconds[i] = all->seconds[i - 1];
    all->seconds[i] = seconds;
}

static bool is_disturbed(const looks *all) { return all->seconds[all->n / 2] > BUSY * all->seconds[0]; }

/* An RNN of zeros whose U takes so many bytes. */
static frnn_params *make_layer(const frnn_target *target, frnn_dtype dtype, size_t bytes)
{
    const size_t number = dtype == FRNN_FLOAT32 ? 4 : 8, H = (size_t)sqrt((double)(bytes / number)) / 16 * 16;
    const frnn_activation linear = {FRNN_LINEAR, 1, 0};
    const frnn_spec spec = {.cell = FRNN_RNN,
                            .dtype = dtype,
                            .input_size = 1,
                            .hidden_size = H,
                            .num_layers = 1,
                            .forward = true,
                            .clip = INFINITY,
                            .activation = linear,
                            .recurrent_activation = linear,
                            .output_activation = linear};
    void *zeros = calloc(H, H * number);
    const frnn_weights weights = {.W = zeros, .U = zeros};
    frnn_params *params = NULL;
    if (zeros && frnn_params_new(&spec, &weights, target, &params) != FRNN_OK)
        params = NULL;
    free(zeros);
    return params;
}

static double bytes_of(const frnn_params *params)
{
    return (double)(params->layers[0].stage[0].W.bytes + params->layers[0].stage[0].U.bytes);
}

static double terms_of(const frnn_params *params)
{
    return frnn_matrix_terms(&params->layers[0].stage[0].W) + frnn_matrix_terms(&params->layers[0].stage[0].U);
}

/* Seconds of a step of so many rows, of which one is expected to take so many; no looks where there is no memory. */
static looks look_at_steps(const frnn_params *params, size_t B, double expected)
{
    const double wanted = LOOK_SECONDS / expected;
    const size_t T = wanted < 4 ? 4 : wanted > 1000 ? 1000 : (size_t)wanted;
    const size_t H = params->spec.hidden_size, number = params->number_bytes;
    const frnn_plan plan = {
        .chunk = T, .x_part = FRNN_X_SMALL, .parts = 1, .unit_threads = 1, .layer_threads = 1, .threads = 1};
    looks all = {0};
    char *x = calloc(T * B + 2 * B * H, number), *y = x + T * B * number, *h_n = y + B * H * number;
    const frnn_call call = {.T = T,
                            .B = B,
                            .x = {x, (ptrdiff_t)(B * number), (ptrdiff_t)number},
                            .y = y,
                            .y_row = (ptrdiff_t)(H * number),
                            .final = {h_n},
                            .threads = 1};
    for (size_t i = 0; x && i <= LOOKS; i++) {
        const double begun = frnn_seconds();
        if (frnn_run_planned(params, &call, plan) != FRNN_OK)
            break;
        if (i > 0) /* the first one warms up */
            keep(&all, (frnn_seconds() - begun) / (double)T);
    }
    free(x);
    return all;
}

typedef struct exchange {
    _Alignas(64) atomic_size_t ping;
    _Alignas(64) atomic_size_t pong;
    _Alignas(64) atomic_bool over;
    double begun, woken; /* when the worker was called, and when it ran */
    double met;          /* seconds of all meetings; 0: not all of them took place */
} exchange;

static bool wait_for(const atomic_size_t *number, size_t wanted, const atomic_bool *over, double until)
{
    for (size_t i = 0; atomic_load_explicit(number, memory_order_acquire) != wanted; i++) {
        if (atomic_load_explicit(over, memory_order_relaxed) || frnn_seconds() > until)
            return false;
        frnn_pause(i);
    }
    return true;
}

static void take_part(void *context, size_t i, frnn_thread_context where)
{
    exchange *e = context;
    const double until = frnn_seconds() + WAIT_SECONDS;
    size_t k = 1;
    if (i == 1 && !where.caller) {
        e->woken = frnn_seconds();
        atomic_store_explicit(&e->pong, k, memory_order_release);
        while (wait_for(&e->ping, k, &e->over, until + WAIT_SECONDS) && k <= MEETINGS)
            atomic_store_explicit(&e->pong, ++k, memory_order_release);
    }
    if (i == 0 && !where.alone && wait_for(&e->pong, k, &e->over, until)) {
        const double begun = frnn_seconds();
        for (; k <= MEETINGS; k++) {
            atomic_store_explicit(&e->ping, k, memory_order_release);
            if (!wait_for(&e->pong, k + 1, &e->over, until + WAIT_SECONDS))
                break;
        }
        e->met = k > MEETINGS ? frnn_seconds() - begun : 0;
    }
    if (i == 0)
        atomic_store(&e->over, true);
}

static void do_nothing(void *context) { (void)context; }

/* False: no second thread came, or not in time. */
static bool look_at_threads(looks *wakes, looks *meetings)
{
    for (size_t i = 0; i <= LOOKS; i++) {
        exchange e = {.begun = frnn_seconds()};
        if (!frnn_parallel(2, 2, take_part, do_nothing, &e) || e.met == 0)
            return false;
        for (const double begun = frnn_seconds(); frnn_seconds() < begun + 50e-6;)
            frnn_pause(0); /* until the worker sleeps */
        if (i > 0) {
            keep(wakes, e.woken - e.begun);
            keep(meetings, e.met / MEETINGS);
        }
    }
    return true;
}

/* Measures what can be measured into rates that are known. False: the machine was busy. */
static bool measure(const frnn_target *target, frnn_dtype dtype, frnn_rates *rates)
{
    const size_t l2 = frnn_l2_bytes(), large = (size_t)4 << 20;
    frnn_params *small = make_layer(target, dtype, l2 / 2),
                *huge = make_layer(target, dtype, l2 > large / 4 ? 4 * l2 : large);
    looks all[5] = {{{0}, 0}};
    bool is_quiet = small && huge;
    if (is_quiet) {
        const size_t rows = 4 * small->kernels->max_rows;
        const double terms = terms_of(small), many = terms * (double)rows;
        all[0] = look_at_steps(small, rows, many / (rates->multiplies * (double)small->kernels->width));
        all[1] = look_at_steps(small, 1, bytes_of(small) / rates->near_bytes);
        all[2] = look_at_steps(huge, 1, bytes_of(huge) / rates->far_bytes);
        if (all[0].n && all[1].n && all[2].n)
            frnn_plan_fit(rates, small, rows, all[0].seconds[0], all[1].seconds[0], huge, all[2].seconds[0]);
        is_quiet = look_at_threads(&all[3], &all[4]);
        if (is_quiet) {
            rates->wake_seconds = all[3].seconds[LOOKS / 2];
            rates->meet_seconds = all[4].seconds[0];
        }
    }
    for (size_t i = 0; i < 5; i++)
        is_quiet = is_quiet && all[i].n && (i == 3 || !is_disturbed(&all[i]));
    if (small)
        frnn_params_free(small);
    if (huge)
        frnn_params_free(huge);
    return is_quiet;
}

/* False: another thread of this process measures. One that measured in a process that this one was forked from is gone. */
static bool begin(void)
{
    size_t who = atomic_load(&measuring);
    const size_t here = 1 + frnn_forks();
    return who != here && atomic_compare_exchange_strong(&measuring, &who, here);
}

frnn_rates frnn_rates_measured(const frnn_kernels *kernels)
{
    size_t index;
    frnn_dtype dtype;
    const frnn_target *target = target_of(kernels, &index, &dtype);
    if (atomic_load(&is_set) || !target || index >= MOST_TARGETS || kernels->width == 1 || !frnn_target_usable(target))
        return frnn_rates_known(kernels);
    record *found = &records[index][dtype];
    const size_t count = atomic_load(&found->count);
    frnn_rates rates = latest(found, kernels);
    if (count == MOST_MEASUREMENTS || (count && frnn_seconds() < atomic_load(&found->again_at)) || !begin())
        return rates;
    const bool is_quiet = measure(target, dtype, &rates);
    found->rates[count] = rates;
    atomic_store(&found->again_at, is_quiet ? INFINITY : frnn_seconds() + LATER_SECONDS);
    atomic_store_explicit(&found->count, count + 1, memory_order_release);
    atomic_store(&measuring, 0);
    return rates;
}

frnn_rates frnn_rates_known(const frnn_kernels *kernels)
{
    size_t index;
    frnn_dtype dtype;
    if (kernels->width > 1 && atomic_load_explicit(&is_set, memory_order_acquire))
        return as_set;
    const frnn_target *target = target_of(kernels, &index, &dtype);
    return target && index < MOST_TARGETS ? latest(&records[index][dtype], kernels) : guess(kernels);
}

void frnn_rates_set(const frnn_rates *rates)
{
    atomic_store(&is_set, false);
    if (rates) {
        as_set = *rates;
        atomic_store_explicit(&is_set, true, memory_order_release);
    }
}
