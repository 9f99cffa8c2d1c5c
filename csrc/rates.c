/* Rates are measured with the library's own kernels, on layers of zeros: they are what the plan's equations speak of.
 *
 * (a) multiplies: some tiles of rows through a layer whose U takes half of L2.
 * (b) near: one row through the same layer. far: one through a layer whose U takes several times L2.
 * (c) wake: a worker of the pool is woken some times. meet: it shares the units of a tiny layer with the caller.
 * Other work only ever adds time, so a rate is that of the shortest of some looks; a wake is the median. Where others took much
 * longer the machine was busy, and a later call measures once more. */
#include "rates.h"

#include <math.h>
#include <stdlib.h>

#include "cpu.h"
#include "fastrnn.h"
#include "plan.h"
#include "threads.h"

enum {
    LOOKS = 5,             /* at each rate */
    MOST_MEASUREMENTS = 4, /* with the same kernels */
    MOST_TARGETS = 8,
    TINY_BYTES = 16 << 10, /* of U, where threads meet often */
    HUGE_BYTES = 4 << 20   /* of U, at least, where it does not stay in L2 */
};

#define LOOK_SECONDS 0.2e-3 /* of one look, about */
#define IDLE_SECONDS 0.5e-3 /* of a worker before it is woken: after a longer sleep it takes longer */
#define WAIT_SECONDS 2e-3   /* for it */
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

/* Whose kernels they are; those of a target that adds instructions for bytes are its base's. */
static const frnn_target *target_of(const frnn_kernels *kernels, size_t *index, frnn_dtype *dtype)
{
    for (*index = 0; *index < frnn_target_count(); ++*index)
        for (*dtype = FRNN_FLOAT32; *dtype < FRNN_DTYPES; ++*dtype)
            if (frnn_target_at(*index)->kernels[*dtype] == kernels && !frnn_target_at(*index)->dots)
                return frnn_target_at(*index);
    return NULL;
}

typedef struct looks {
    double seconds[LOOKS]; /* the shortest first */
    size_t n;
} looks;

static void keep(looks *all, double seconds)
{
    size_t i = all->n++;
    for (; i > 0 && all->seconds[i - 1] > seconds; i--)
        all->seconds[i] = all->seconds[i - 1];
    all->seconds[i] = seconds;
}

static double median(const looks *all) { return all->seconds[all->n / 2]; }

static bool is_disturbed(const looks *all) { return !all->n || median(all) > BUSY * all->seconds[0]; }

/* An RNN of zeros whose U takes so many bytes; NULL: there is no memory. */
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

/* Seconds of a step of so many rows, of which one is expected to take so many. No looks: there is no memory. */
static looks look_at_steps(const frnn_params *params, size_t B, size_t threads, double expected)
{
    const double wanted = LOOK_SECONDS / expected;
    const size_t T = wanted < 4 ? 4 : wanted > 1000 ? 1000 : (size_t)wanted;
    const size_t H = params->spec.hidden_size, number = params->number_bytes;
    const frnn_plan plan = {.chunk = T,
                            .x_part = FRNN_X_SMALL,
                            .parts = 1,
                            .unit_threads = threads,
                            .layer_threads = 1,
                            .threads = threads,
                            .seconds = LOOK_SECONDS};
    looks all = {0};
    char *memory = calloc(T * B + 2 * B * H, number);
    if (!memory)
        return all;
    const frnn_call call = {.T = T,
                            .B = B,
                            .x = {memory, (ptrdiff_t)(B * number), (ptrdiff_t)number},
                            .y = memory + T * B * number,
                            .y_row = (ptrdiff_t)(H * number),
                            .final = {memory + (T + H) * B * number},
                            .threads = threads};
    for (size_t i = 0; i <= LOOKS; i++) {
        const double begun = frnn_seconds();
        if (frnn_run_planned(params, &call, plan) != FRNN_OK)
            break;
        if (i > 0) /* the first one warms up */
            keep(&all, (frnn_seconds() - begun) / (double)T);
    }
    free(memory);
    return all;
}

/* When a worker that was called came. */
typedef struct calling {
    atomic_bool came;
    double woken;
} calling;

static void take_part(void *context, size_t i, frnn_thread_context where)
{
    calling *c = context;
    if (i == 1 && !where.caller) {
        c->woken = frnn_seconds();
        atomic_store(&c->came, true);
    }
    const double until = frnn_seconds() + WAIT_SECONDS;
    for (size_t n = 0; i == 0 && !where.alone && !atomic_load(&c->came) && frnn_seconds() < until; n++)
        frnn_pause(n);
}

static void do_nothing(void *context) { (void)context; }

/* Seconds until a worker that slept runs. No looks: none came. */
static looks look_at_wakes(void)
{
    looks all = {0};
    for (size_t i = 0; i <= LOOKS; i++) {
        calling c = {0};
        const double begun = frnn_seconds();
        if (!frnn_parallel(2, 2, take_part, do_nothing, &c) || !atomic_load(&c.came))
            break;
        if (i > 0) /* the first one is started */
            keep(&all, c.woken - begun);
        for (const double now = frnn_seconds(); frnn_seconds() < now + IDLE_SECONDS;)
            frnn_pause(0);
    }
    return all;
}

/* What can be measured, into rates that are known. False: the machine was busy, or out of memory. */
static bool measure(const frnn_target *target, frnn_dtype dtype, frnn_rates *rates)
{
    const size_t l2 = frnn_l2_bytes(), rows = 4 * target->kernels[dtype]->max_rows;
    const double multiplies = rates->multiplies * (double)target->kernels[dtype]->width, number = dtype ? 8 : 4;
    frnn_params *layers[] = {make_layer(target, dtype, TINY_BYTES), make_layer(target, dtype, l2 / 2),
                             make_layer(target, dtype, l2 > HUGE_BYTES / 4 ? 4 * l2 : HUGE_BYTES)};
    frnn_params *const tiny = layers[0], *const small = layers[1], *const huge = layers[2];
    bool is_quiet = false;
    if (tiny && small && huge) {
        const double terms = (double)(l2 / 2) / number;
        const looks many = look_at_steps(small, rows, 1, terms * (double)rows / multiplies),
                    one = look_at_steps(small, 1, 1, terms * number / rates->near_bytes),
                    far = look_at_steps(huge, 1, 1, HUGE_BYTES / rates->far_bytes),
                    alone = look_at_steps(tiny, 1, 1, rates->meet_seconds), wake = look_at_wakes(),
                    shared = look_at_steps(tiny, 1, 2, rates->meet_seconds);
        if (many.n && one.n && far.n)
            frnn_plan_fit(rates, small, rows, many.seconds[0], one.seconds[0], huge, far.seconds[0]);
        if (wake.n && alone.n && shared.n) {
            rates->wake_seconds = median(&wake);
            rates->meet_seconds = frnn_plan_fit_meeting(tiny, alone.seconds[0], shared.seconds[0]);
        }
        is_quiet = wake.n && !is_disturbed(&many) && !is_disturbed(&one) && !is_disturbed(&far) &&
                   !is_disturbed(&alone) && !is_disturbed(&shared);
    }
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        if (layers[i])
            frnn_params_free(layers[i]);
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
    if (atomic_load(&is_set) || !target || index >= MOST_TARGETS || kernels->width == 1)
        return frnn_rates_known(kernels);
    record *found = &records[index][dtype];
    const size_t count = atomic_load(&found->count);
    frnn_rates rates = latest(found, kernels);
    if (count == MOST_MEASUREMENTS || (count && frnn_seconds() < atomic_load(&found->again_at)) ||
        !frnn_target_usable(target) || !begin())
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

bool frnn_rates_are_set(void) { return atomic_load_explicit(&is_set, memory_order_relaxed); }

double frnn_rates_wake(const frnn_rates *rates)
{
    return frnn_rates_are_set() ? rates->wake_seconds : frnn_recent_wake(rates->wake_seconds);
}

void frnn_rates_set(const frnn_rates *rates)
{
    atomic_store(&is_set, false);
    if (rates) {
        as_set = *rates;
        atomic_store_explicit(&is_set, true, memory_order_release);
    }
}
