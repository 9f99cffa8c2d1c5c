/* Runs random layers through the C interface and prints a digest of every bit of their results: `digest TARGET`.
 *
 * The same program is built for other processors and with ThreadSanitizer: four threads at a time run the same params,
 * and each call may use two. Then plans that no size would be given are run, to the same bits. A target that cannot be
 * used here prints nothing. */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

enum { LAYERS = 120, CALLERS = 4, PLANS = 6, MOST = 40, LARGE = 200 };

static uint64_t state;

/* xorshift64*, so that every processor sees the same layers. */
static uint64_t next(void)
{
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

static size_t pick(size_t n) { return (size_t)(next() >> 33) % n; }

static void *numbers(size_t n, frnn_dtype dtype)
{
    const size_t size = dtype == FRNN_FLOAT32 ? 4 : 8;
    char *array = malloc((n ? n : 1) * size);
    for (size_t i = 0; i < n; i++) {
        const float value = ((float)(int)pick(2001) - 1000) / 2048;
        const double wide = value;
        memcpy(array + i * size, dtype == FRNN_FLOAT32 ? (const void *)&value : (const void *)&wide, size);
    }
    return array;
}

/* Of n numbers; any NaN is as good as any other. */
static uint64_t digest(uint64_t hash, const void *array, size_t n, frnn_dtype dtype)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t word = 0;
        if (dtype == FRNN_FLOAT32) {
            const float value = ((const float *)array)[i];
            memcpy(&word, &value, isnan(value) ? 0 : sizeof value);
        } else {
            const double value = ((const double *)array)[i];
            memcpy(&word, &value, isnan(value) ? 0 : sizeof value);
        }
        hash = (hash ^ word) * UINT64_C(1099511628211);
    }
    return hash;
}

typedef struct job {
    const frnn_params *params;
    frnn_call call;
    frnn_dtype dtype;
    size_t y, h, c; /* numbers in each result */
    uint64_t hash;
} job;

static void run_planned(job *j, const frnn_plan *plan)
{
    j->call.y = calloc(j->y + 1, sizeof(double));
    j->call.h_n = calloc(j->h + 1, sizeof(double));
    j->call.c_n = calloc(j->c + 1, sizeof(double));
    if ((plan ? frnn_run_planned(j->params, &j->call, *plan) : frnn_run(j->params, &j->call)) != FRNN_OK)
        abort();
    j->hash = digest(digest(1, j->call.y, j->y, j->dtype), j->call.h_n, j->h, j->dtype);
    j->hash = digest(j->hash, j->call.c_n, j->c, j->dtype);
    free(j->call.y), free(j->call.h_n), free(j->call.c_n);
}

static void *run(void *context)
{
    run_planned(context, NULL);
    return NULL;
}

static frnn_plan pick_plan(const frnn_spec *spec, size_t T, size_t B)
{
    const size_t D = (size_t)spec->forward + (size_t)spec->reverse;
    frnn_plan plan = {.members = 1, .hands = 1};
    plan.block = 1 + pick(T + 1);
    plan.x_part = pick(2) ? FRNN_X_AHEAD : FRNN_X_ONE_STEP;
    plan.parts = 1 + pick(B < 3 ? B : 3);
    const size_t together = 1 + pick(3);
    const bool apart = pick(2) && D == 1 && spec->L > 1;
    *(apart ? &plan.hands : &plan.members) = together;
    plan.threads = 1 + pick(D * plan.parts * together);
    return plan;
}

static uint64_t run_layer(const frnn_target *target)
{
    static const size_t gates[] = {1, 4, 3};
    frnn_spec spec = {0}; /* one pick a statement: the order within an expression is the compiler's */
    spec.cell = (frnn_cell)pick(3);
    spec.dtype = (frnn_dtype)pick(2);
    const bool large = pick(8) == 0; /* more terms than a chain has: fewer steps and rows, since emulation is slow */
    const size_t most = large ? LARGE : MOST;
    spec.I = pick(most);
    spec.H = 1 + pick(most);
    spec.L = 1 + pick(2);
    spec.forward = pick(3) > 0;
    spec.reverse = pick(2) || !spec.forward;
    const size_t P = 1 + pick(MOST), projects = pick(3) == 0;
    spec.P = spec.cell == FRNN_LSTM && projects ? P : 0;
    spec.reset_after = pick(2);
    const bool usual = pick(2);
    spec.input_forget = pick(3) == 0 && !usual;
    spec.clip = pick(3) || usual ? (double)INFINITY : 0.5;
    spec.activation.function = spec.output_activation.function = FRNN_TANH;
    spec.recurrent_activation.function = FRNN_SIGMOID;
    frnn_activation *activations[] = {&spec.activation, &spec.recurrent_activation, &spec.output_activation};
    for (int i = 0; i < 3 && !usual; i++)
        *activations[i] = (frnn_activation){(frnn_function)pick(6), 0.25, 0.5};

    const size_t D = (size_t)spec.forward + (size_t)spec.reverse, rows = gates[spec.cell] * spec.H;
    const size_t out = spec.P ? spec.P : spec.H, size = spec.dtype == FRNN_FLOAT32 ? 4 : 8;
    frnn_weights weights[4];
    for (size_t i = 0; i < spec.L * D; i++) {
        const size_t I = i < D ? spec.I : D * out;
        weights[i].W = numbers(rows * I, spec.dtype);
        weights[i].U = numbers(rows * out, spec.dtype);
        weights[i].b = numbers(rows, spec.dtype);
        weights[i].d = numbers(rows, spec.dtype);
        weights[i].V = spec.P ? numbers(spec.P * spec.H, spec.dtype) : NULL;
        weights[i].p = spec.cell == FRNN_LSTM && !usual ? numbers(3 * spec.H, spec.dtype) : NULL;
    }
    frnn_params *params;
    if (frnn_params_new(&spec, weights, target, &params) != FRNN_OK)
        abort();

    const size_t T = pick(large ? 8 : 30);
    const size_t B = 1 + pick(large ? 6 : 20);
    const bool ragged = pick(2);
    void *x = numbers(T * B * spec.I, spec.dtype);
    void *h = numbers(spec.L * D * B * out, spec.dtype);
    void *c = numbers(spec.L * D * B * spec.H, spec.dtype);
    size_t lengths[20];
    for (size_t r = 0; r < B; r++)
        lengths[r] = pick(T + 1);
    const frnn_call call = {
        .T = T,
        .B = B,
        .x = {x, (ptrdiff_t)(B * spec.I * size), (ptrdiff_t)(spec.I * size)},
        .h = {h, (ptrdiff_t)(B * out * size), (ptrdiff_t)(out * size)},
        .c = {c, (ptrdiff_t)(B * spec.H * size), (ptrdiff_t)(spec.H * size)},
        .lengths = ragged ? lengths : NULL,
        .return_sequences = true,
        .y_time = (ptrdiff_t)(B * D * out * size),
        .y_row = (ptrdiff_t)(D * out * size),
        .threads = 2,
    };
    pthread_t threads[CALLERS];
    job jobs[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        jobs[i] = (job){params, call, spec.dtype, T * B * D * out, spec.L * D * B * out, 0, 0};
        jobs[i].c = spec.cell == FRNN_LSTM ? spec.L * D * B * spec.H : 0;
        if (pthread_create(&threads[i], NULL, run, &jobs[i]))
            abort();
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        if (jobs[i].hash != jobs[0].hash)
            abort();
    }
    const uint64_t hash = jobs[0].hash;
    for (int i = 0; i < PLANS; i++) {
        const frnn_plan plan = pick_plan(&spec, T, B);
        run_planned(&jobs[1], &plan);
        if (jobs[1].hash != jobs[0].hash)
            abort();
    }
    memset(h, 0, spec.L * D * B * out * size); /* zeros that are given are the same as none */
    run_planned(&jobs[0], NULL);
    jobs[1].call.h.data = NULL;
    run_planned(&jobs[1], NULL);
    if (jobs[1].hash != jobs[0].hash)
        abort();
    frnn_params_free(params);
    for (size_t i = 0; i < spec.L * D; i++) {
        const void *arrays[] = {weights[i].W, weights[i].U, weights[i].b, weights[i].d, weights[i].V, weights[i].p};
        for (size_t a = 0; a < sizeof arrays / sizeof *arrays; a++)
            free((void *)(uintptr_t)arrays[a]);
    }
    free(x), free(h), free(c);
    return hash;
}

int main(int count, char **arguments)
{
    for (size_t i = 0; count == 2 && i < frnn_target_count(); i++) {
        const frnn_target *target = frnn_target_at(i);
        if (strcmp(frnn_target_name(target), arguments[1]) != 0 || !frnn_target_usable(target))
            continue;
        state = 88172645463325252u;
        uint64_t hash = 0;
        for (int layer = 0; layer < LAYERS; layer++)
            hash = hash * 31 + run_layer(target);
        printf("%s %016" PRIx64 "\n", arguments[1], hash);
    }
    return 0;
}
