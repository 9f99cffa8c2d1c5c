/* Runs random layers through the C interface and prints digests of every bit of their results, of their gradients, of results
 * of layers with narrow weights, and of results and gradients of calls with resets, "TARGET RESULTS-GRADIENTS-NARROW-RESETS":
 * `digest [--layers N] [TARGET..]`, of all that can be used here if none is named.
 *
 * The same program is built for other processors and with ThreadSanitizer: four threads at a time run the same params,
 * and each call may use two. Then plans that no size would be given are run, to the same bits. A target that cannot be
 * used here prints nothing. */
#include <inttypes.h>
#include <pthread.h>

#include "gradients.h"
#include "narrow.h"

enum {
    FIRST_CELLS = 3 /* RNN, LSTM, GRU: the digest began with them */,
    LAYERS = 120,
    CALLERS = 4,
    PULLERS = 2,
    PLANS = 6
};

typedef struct job {
    const layer *layer;
    const batch *batch;
    const frnn_plan *plan; /* NULL: what the library plans */
    size_t segment;        /* of the tape's marks */
    const frnn_transposed *transposed;
    const cotangents *from;
    uint64_t hash, gradients;
} job;

static void *run(void *context)
{
    job *j = context;
    const layer *l = j->layer;
    const batch *b = j->batch;
    result r = new_result(l, b->T, b->B);
    frnn_call call = make_call(l, b, &r);
    call.threads = 2;
    const frnn_status status = j->plan ? frnn_run_planned(l->params, &call, *j->plan) : frnn_run(l->params, &call);
    if (status != FRNN_OK)
        abort();
    j->hash = digest_result(l, &r, b->T, b->B);
    free_result(&r);
    return NULL;
}

/* The same call, then there and back. */
static void *run_and_pull(void *context)
{
    job *j = context;
    uint64_t taped;
    run(context);
    frnn_tape *tape = record(j->layer, j->batch, 2, j->segment, &taped);
    if (taped != j->hash)
        abort();
    j->gradients = pull(j->layer, j->batch, tape, j->transposed, j->from, 2);
    frnn_tape_free(tape);
    return NULL;
}

static job run_callers(const layer *l, const batch *b)
{
    const int pullers = l->spec.precision == FRNN_FULL ? PULLERS : 0;
    pthread_t threads[CALLERS];
    job jobs[CALLERS];
    frnn_transposed *transposed = pullers ? transpose(l) : NULL;
    cotangents from = random_cotangents(l, b);
    for (int i = 0; i < CALLERS; i++) {
        jobs[i] = (job){.layer = l, .batch = b, .transposed = transposed, .from = &from};
        jobs[i].segment = i % 2 ? 1 + b->T / 3 : 0;
        if (pthread_create(&threads[i], NULL, i < pullers ? run_and_pull : run, &jobs[i]))
            abort();
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        if (jobs[i].hash != jobs[0].hash || (i < pullers && jobs[i].gradients != jobs[0].gradients))
            abort();
    }
    free_cotangents(&from);
    frnn_transposed_free(transposed);
    return jobs[0];
}

/* Digests of what a target has given so far. */
typedef struct digests {
    uint64_t results, gradients, narrow, resets;
} digests;

static job run_layer(const frnn_target *target, frnn_cell cell, frnn_dtype dtype, frnn_precision precision, bool resets)
{
    layer l = random_layer(cell, dtype, 2);
    narrow_layer(&l, precision);
    l.params = make_params(&l, target);
    batch b = random_batch(&l);
    if (resets)
        add_resets(&b);
    const job done = run_callers(&l, &b);
    for (int i = 0; i < PLANS; i++) {
        const frnn_plan plan = random_plan(&l.spec, b.T, b.B);
        job j = {.layer = &l, .batch = &b, .plan = &plan};
        run(&j);
        if (j.hash != done.hash)
            abort();
    }
    free_batch(&b);
    free_layer(&l);
    return done;
}

static void run_full(const frnn_target *target, frnn_cell cell, digests *so_far)
{
    const frnn_dtype dtype = (frnn_dtype)pick(2);
    const job done = run_layer(target, cell, dtype, FRNN_FULL, false);
    so_far->results = so_far->results * 31 + done.hash;
    so_far->gradients = so_far->gradients * 31 + done.gradients;
}

static void run_layers(const frnn_target *target, size_t layers)
{
    random_state = 88172645463325252u;
    digests all = {0};
    for (size_t i = 0; i < layers; i++)
        run_full(target, (frnn_cell)pick(FIRST_CELLS), &all);
    for (int cell = FIRST_CELLS; cell < FRNN_CELLS; cell++) /* each that came later, after them */
        for (size_t i = 0; i < layers / FIRST_CELLS; i++)
            run_full(target, (frnn_cell)cell, &all);
    for (size_t i = 0; i < layers; i++) { /* cells that came later are left out, so that the others stay as they are */
        const frnn_precision precision = (frnn_precision)(FRNN_FLOAT16 + i / FIRST_CELLS % 3);
        all.narrow =
            all.narrow * 31 + run_layer(target, (frnn_cell)(i % FIRST_CELLS), FRNN_FLOAT32, precision, false).hash;
    }
    for (size_t i = 0; i < layers / 2; i++) {
        const job done =
            run_layer(target, (frnn_cell)(i % FIRST_CELLS), (frnn_dtype)(i / FIRST_CELLS % 2), FRNN_FULL, true);
        all.resets = (all.resets * 31 + done.hash) * 31 + done.gradients;
    }
    printf("%s %016" PRIx64 "-%016" PRIx64 "-%016" PRIx64 "-%016" PRIx64 "\n", frnn_target_name(target), all.results,
           all.gradients, all.narrow, all.resets);
    fflush(stdout);
}

int main(int count, char **arguments)
{
    const bool told = count > 2 && strcmp(arguments[1], "--layers") == 0;
    const size_t layers = told ? (size_t)strtoul(arguments[2], NULL, 10) : LAYERS;
    const int first = told ? 3 : 1;
    for (int i = first; i < count; i++)
        if (find_target(arguments[i]))
            run_layers(find_target(arguments[i]), layers);
    for (size_t i = 0; count == first && i < frnn_target_count(); i++)
        if (frnn_target_usable(frnn_target_at(i)))
            run_layers(frnn_target_at(i), layers);
    frnn_pages_release();
    return 0;
}
