/* What happens where the system refuses something: `faults WHAT ALLOWED` refuses calls of WHAT but the first ALLOWED ones.
 * `faults malloc` refuses in turn each malloc that the library makes, alone and with all that follow it.
 *
 * Every call must then be right to the bit, or say that there is no memory and leave everything as it was. Linked with
 * --wrap of each function below. It prints how much was refused, and ends with 1 where something is wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pages.h"
#include "plan.h"

#define EXPECT(condition) ((condition) ? (void)0 : fail(#condition, __LINE__))

static _Noreturn void fail(const char *what, int line)
{
    fprintf(stderr, "line %d: expected %s\n", line, what);
    _exit(1); /* without a report of leaks */
}

/* What is refused. */

static const char *refused_name = "";
static atomic_long asked, first = LONG_MAX, last, refusals; /* of its calls, from 0: those that are refused */
static atomic_long held;                                    /* blocks of memory */

static bool refuses(const char *name)
{
    if (strcmp(name, refused_name))
        return false;
    const long n = atomic_fetch_add(&asked, 1);
    const bool refuse = n >= first && n <= last;
    refusals += refuse;
    return refuse;
}

static void refuse(long from, long to)
{
    asked = 0;
    first = from;
    last = to;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
    if (refuses("malloc"))
        return NULL;
    held++;
    return __real_malloc(n);
}

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p)
{
    held -= p != NULL;
    __real_free(p);
}

#define WRAP(type, name, parameters, arguments, refusal)                                                               \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters { return refuses(#name) ? (refusal) : __real_##name arguments; }

WRAP(int, pthread_create, (pthread_t * t, const pthread_attr_t *a, void *(*f)(void *), void *c), (t, a, f, c), EAGAIN)
WRAP(int, pthread_atfork, (void (*a)(void), void (*b)(void), void (*c)(void)), (a, b, c), ENOMEM)
WRAP(int, pthread_attr_init, (pthread_attr_t * a), (a), ENOMEM)
WRAP(int, pthread_attr_setstacksize, (pthread_attr_t * a, size_t n), (a, n), EINVAL)
WRAP(int, pthread_setaffinity_np, (pthread_t t, size_t n, const cpu_set_t *s), (t, n, s), EINVAL)
WRAP(int, sched_getaffinity, (pid_t p, size_t n, cpu_set_t *s), (p, n, s), -1)
WRAP(int, sched_getcpu, (void), (), -1)
WRAP(long, sysconf, (int name), (name), -1)

/* Layers, and calls of them whose results are known. */

enum { T = 30, B = 12, I = 9, H = 20, MOST = 3, MOST_PLANS = 8, MANY = 600 };

static const frnn_spec specs[] = {
    {.cell = FRNN_RNN, .hidden_size = H, .num_layers = 1, .forward = true},
    {.cell = FRNN_RNN, .hidden_size = H, .num_layers = 3, .forward = true},
    {.cell = FRNN_LSTM, .hidden_size = H, .proj_size = 5, .num_layers = 2, .forward = true, .reverse = true},
    {.cell = FRNN_LSTM, .hidden_size = H, .num_layers = 2, .forward = true},
    {.cell = FRNN_GRU, .hidden_size = H, .num_layers = 1, .reverse = true},
    {.cell = FRNN_GRU, .hidden_size = H, .num_layers = 2, .forward = true, .reset_after = true},
};
enum { SPECS = sizeof specs / sizeof *specs };

typedef struct results {
    float y[T * B * 2 * H], h_n[MOST * 2 * B * H], c_n[MOST * 2 * B * H];
} results;

/* Gradients of x, and of two arrays of weights of the first layer. */
typedef struct pulled {
    float dx[T * B * I], dW[4 * H * I], dU[4 * H * H];
} pulled;

typedef struct layers {
    frnn_spec spec;
    size_t D, out;
    frnn_weights weights[MOST * 2];
    float numbers[4 * H * 2 * H];
    float x[T * B * I];
    size_t lengths[B];
    frnn_params *params;
    frnn_stream *stream, *many; /* after one step, of B rows, and of MANY rows; NULL: none */
    float stepped[H];           /* a row that two steps of all of them, which are the same, put out */
    results expected, streamed, got;
    pulled expected_gradients;
    frnn_plan plans[MOST_PLANS];
    size_t plan_count;
} layers;

static frnn_call call_of(layers *all, results *to, size_t threads)
{
    memset(to, 0xff, sizeof *to); /* NaN */
    const ptrdiff_t size = sizeof(float), row = (ptrdiff_t)(all->D * all->out) * size;
    return (frnn_call){
        .T = T,
        .B = B,
        .x = {all->x, B * I * size, I * size},
        .lengths = all->lengths,
        .return_sequences = true,
        .y = to->y,
        .y_time = B * row,
        .y_row = row,
        .final = {to->h_n, to->c_n},
        .threads = threads,
    };
}

static bool equal(const layers *all, const results *a, const results *b)
{
    const size_t size = sizeof(float), states = all->spec.num_layers * all->D * B;
    return !memcmp(a->y, b->y, T * B * all->D * all->out * size) && !memcmp(a->h_n, b->h_n, states * all->out * size) &&
           (all->spec.cell != FRNN_LSTM || !memcmp(a->c_n, b->c_n, states * H * size));
}

static void add_plan(layers *all, frnn_plan plan)
{
    plan.seconds = plan.alone = 1e-3;
    all->plans[all->plan_count++] = plan;
}

/* Every way to share a call, in blocks whose scratch is too long for the stack. */
static void make_plans(layers *all)
{
    const size_t D = all->D;
    for (size_t n = 1; n <= 3; n++) {
        add_plan(all, (frnn_plan){8, FRNN_X_AHEAD, 1, n, 1, D * n, 0, 0});
        if (n > 1)
            add_plan(all, (frnn_plan){16, FRNN_X_AHEAD, n, 1, 1, n, 0, 0});
        if (n > 1 && D == 1 && all->spec.num_layers > 1)
            add_plan(all, (frnn_plan){8, FRNN_X_AHEAD, 1, 1, n, n, 0, 0});
    }
}

static frnn_status new_params(const layers *all, frnn_params **params)
{
    return frnn_params_new(&all->spec, all->weights, frnn_target_at(frnn_target_count() - 1), params);
}

static void run_stream(layers *all, frnn_stream *stream, results *to)
{
    const frnn_call call = call_of(all, to, 3);
    EXPECT(frnn_stream_run(stream, &call) == FRNN_OK);
    frnn_stream_get_state(stream, (void *[]){to->h_n, to->c_n});
}

/* There and back, the gradients of y being y. Whatever is refused, nothing is left but pages, which are given up. */
static frnn_status pull_back(layers *all, size_t threads, size_t segment, pulled *to)
{
    frnn_tape *const no_tape = (frnn_tape *)all, *tape = no_tape;
    frnn_transposed *const nothing = (frnn_transposed *)all, *transposed = nothing;
    frnn_call call = call_of(all, &all->got, threads);
    frnn_status status = frnn_run_taped(all->params, &call, segment, &tape);
    EXPECT((status == FRNN_OK) == (tape != no_tape && tape));
    if (status == FRNN_OK) {
        EXPECT(equal(all, &all->got, &all->expected));
        status = frnn_transposed_new(all->params, all->weights, &transposed);
        EXPECT((status == FRNN_OK) == (transposed != nothing));
    }
    const frnn_weight_gradients weights[MOST * 2] = {{.W = to->dW, .U = to->dU}};
    const frnn_pull pull = {
        .dy = {call.y, call.y_time, call.y_row},
        .dx = to->dx,
        .dx_time = B * I * sizeof(float),
        .dx_row = I * sizeof(float),
        .weights = weights,
        .threads = threads,
    };
    memset(to, 0, sizeof *to);
    if (status == FRNN_OK)
        status = frnn_pull_back(tape, transposed, &pull);
    frnn_transposed_free(transposed == nothing ? NULL : transposed);
    frnn_tape_free(tape == no_tape ? NULL : tape);
    frnn_pages_release();
    return status;
}

static void prepare(layers *all, const frnn_spec *spec)
{
    all->spec = *spec;
    all->spec.input_size = I;
    all->spec.dtype = FRNN_FLOAT32;
    all->spec.clip = INFINITY;
    all->spec.activation.function = all->spec.output_activation.function = FRNN_TANH;
    all->spec.recurrent_activation.function = FRNN_SIGMOID;
    all->D = (size_t)spec->forward + (size_t)spec->reverse;
    all->out = spec->proj_size ? spec->proj_size : spec->hidden_size;
    for (size_t i = 0; i < sizeof all->numbers / sizeof *all->numbers; i++)
        all->numbers[i] = (float)(i * 7919 % 401) / 2000 - 0.1f;
    for (size_t i = 0; i < T * B * I; i++)
        all->x[i] = (float)(i * 104729 % 1999) / 1000 - 1;
    for (size_t r = 0; r < B; r++)
        all->lengths[r] = r ? r * 5 % (T + 1) : T;
    for (size_t i = 0; i < MOST * 2; i++) {
        const float *n = all->numbers + i;
        all->weights[i] = (frnn_weights){n, n + 1, n + 2, n + 3, spec->proj_size ? n + 4 : NULL, NULL};
    }
    make_plans(all);
    EXPECT(new_params(all, &all->params) == FRNN_OK);
    const frnn_call call = call_of(all, &all->expected, 1);
    EXPECT(frnn_run(all->params, &call) == FRNN_OK);
    EXPECT(pull_back(all, 1, 0, &all->expected_gradients) == FRNN_OK);
    if (spec->reverse)
        return;
    frnn_stream *other;
    EXPECT(frnn_stream_new(all->params, B, &other) == FRNN_OK);
    frnn_stream_step(other, all->x, I * sizeof(float), FRNN_NO_TOKENS, 1);
    run_stream(all, other, &all->streamed);
    frnn_stream_free(other);
    EXPECT(frnn_stream_new(all->params, B, &all->stream) == FRNN_OK);
    frnn_stream_step(all->stream, all->x, I * sizeof(float), FRNN_NO_TOKENS, 1);
    EXPECT(frnn_stream_new(all->params, MANY, &all->many) == FRNN_OK);
}

static void drop(layers *all)
{
    frnn_stream_free(all->stream);
    frnn_stream_free(all->many);
    frnn_params_free(all->params);
}

/* Calls that may be refused memory, and nothing else. */

static bool is_good(frnn_status status)
{
    EXPECT(status == FRNN_OK || status == FRNN_NO_MEMORY);
    return status == FRNN_OK;
}

static void try_params(layers *all, size_t unused)
{
    (void)unused;
    frnn_params *const nothing = (frnn_params *)all, *params = nothing;
    if (!is_good(new_params(all, &params))) {
        EXPECT(params == nothing);
        return;
    }
    const frnn_call call = call_of(all, &all->got, 2);
    if (is_good(frnn_run(params, &call)))
        EXPECT(equal(all, &all->got, &all->expected));
    frnn_params_free(params);
}

static void try_plan(layers *all, size_t i)
{
    const frnn_call call = call_of(all, &all->got, all->plans[i].threads);
    if (is_good(frnn_run_planned(all->params, &call, all->plans[i])))
        EXPECT(equal(all, &all->got, &all->expected));
}

static void try_pull(layers *all, size_t threads)
{
    static pulled got;
    if (is_good(pull_back(all, threads, threads % 2 ? 0 : 2, &got)))
        EXPECT(!memcmp(&got, &all->expected_gradients, sizeof got));
}

static void try_stream(layers *all, size_t unused)
{
    (void)unused;
    frnn_stream *const nothing = (frnn_stream *)all, *stream = nothing;
    if (is_good(frnn_stream_new(all->params, B, &stream)))
        frnn_stream_free(stream);
    else
        EXPECT(stream == nothing);
}

/* A run that is refused memory leaves the stream where it was; one that is not is undone. */
static void try_stream_run(layers *all, size_t unused)
{
    (void)unused;
    static results before, after;
    memset(&before, 0, sizeof before), memset(&after, 0, sizeof after);
    frnn_stream_get_state(all->stream, (void *[]){before.h_n, before.c_n});
    const frnn_call call = call_of(all, &all->got, 3);
    if (is_good(frnn_stream_run(all->stream, &call))) {
        frnn_stream_get_state(all->stream, (void *[]){all->got.h_n, all->got.c_n});
        EXPECT(equal(all, &all->got, &all->streamed));
        frnn_stream_set_state(all->stream, (const void *[]){before.h_n, before.c_n});
    }
    frnn_stream_get_state(all->stream, (void *[]){after.h_n, after.c_n});
    EXPECT(equal(all, &before, &after));
}

/* A step of so many rows that threads are worth it is a run: where that is refused memory, the step is taken without it. All
 * rows are the same. */
static void try_step(layers *all, size_t threads)
{
    const size_t row = all->out * sizeof(float);
    frnn_stream_set_state(all->many, NULL);
    for (size_t t = 0; t < 2; t++)
        frnn_stream_step(all->many, all->x + t * I, 0, FRNN_NO_TOKENS, threads);
    const char *y = frnn_stream_output(all->many, frnn_stream_newest(all->many));
    if (threads == 1)
        memcpy(all->stepped, y, row);
    for (size_t r = 0; r < MANY; r++)
        EXPECT(!memcmp(y + r * row, all->stepped, row));
}

/* A pool that is refused memory when it grows has the streams that it had; a run moves all of its streams or none. */
static void try_pool(layers *all, size_t unused)
{
    (void)unused;
    static results before, after;
    memset(&before, 0, sizeof before), memset(&after, 0, sizeof after);
    frnn_pool *const nothing = (frnn_pool *)all, *pool = nothing;
    frnn_id ids[B];
    size_t n = 0;
    if (!is_good(frnn_pool_new(all->params, 5, &pool))) {
        EXPECT(pool == nothing);
        return;
    }
    while (n < B && is_good(frnn_pool_open(pool, &ids[n])))
        n++;
    EXPECT(frnn_pool_ids(pool, NULL) == n && frnn_pool_find_wrong(pool, n, ids) == n);
    frnn_pool_get_states(pool, n, ids, (void *[]){before.h_n, before.c_n});
    const frnn_call call = call_of(all, &all->got, 3);
    if (n == B && is_good(frnn_pool_run(pool, ids, &call))) {
        frnn_pool_get_states(pool, n, ids, (void *[]){all->got.h_n, all->got.c_n});
        EXPECT(equal(all, &all->got, &all->expected));
    } else {
        frnn_pool_get_states(pool, n, ids, (void *[]){after.h_n, after.c_n});
        EXPECT(equal(all, &before, &after));
    }
    frnn_pool_free(pool);
}

static void try_explain(layers *all, size_t threads)
{
    static char text[4096];
    EXPECT(frnn_explain(all->params, T, B, threads, text, sizeof text) <= sizeof text);
}

typedef void attempt(layers *all, size_t i);

/* Once, where what is refused is not memory. Else until nothing was left to refuse: each malloc, alone and with all that
 * follow. Nothing may be left behind, and what was there before must be as good as ever. */
static void exhaust(layers *all, attempt *try, size_t i)
{
    const long before = held;
    if (strcmp(refused_name, "malloc"))
        try(all, i);
    for (int rest = 0; rest < 2 && !strcmp(refused_name, "malloc"); rest++)
        for (long n = 0, refused = -1; refused < refusals; n++) {
            refused = refusals;
            refuse(n, rest ? LONG_MAX : n);
            try(all, i);
            refuse(LONG_MAX, 0);
            EXPECT(held == before);
            const frnn_call call = call_of(all, &all->got, 1);
            EXPECT(frnn_run(all->params, &call) == FRNN_OK && equal(all, &all->got, &all->expected));
        }
    EXPECT(held == before);
}

static void try_all(layers *all)
{
    exhaust(all, try_params, 0);
    for (size_t i = 0; i < all->plan_count; i++)
        exhaust(all, try_plan, i);
    exhaust(all, try_explain, 3);
    exhaust(all, try_pull, 1), exhaust(all, try_pull, 3);
    if (all->stream) {
        exhaust(all, try_stream, 0);
        exhaust(all, try_stream_run, 0);
        exhaust(all, try_step, 1), exhaust(all, try_step, 3);
        exhaust(all, try_pool, 0);
    }
}

int main(int count, char **arguments)
{
    static layers all[SPECS];
    EXPECT(count == 3);
    refused_name = arguments[1];
    if (strcmp(refused_name, "malloc"))
        refuse(atol(arguments[2]), LONG_MAX);
    for (size_t i = 0; i < SPECS; i++)
        prepare(&all[i], &specs[i]);
    for (size_t i = 0; i < SPECS; i++)
        try_all(&all[i]);
    for (size_t i = 0; i < SPECS; i++)
        drop(&all[i]);
    EXPECT(held == 0);
    printf("%ld\n", (long)refusals);
    return 0;
}
