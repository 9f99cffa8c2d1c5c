/* Runs random layers through the C interface and prints a digest of every bit of their results, "TARGET DIGEST":
 * `digest [--layers N] [TARGET..]`, of all that can be used here if none is named.
 *
 * The same program is built for other processors and with ThreadSanitizer: four threads at a time run the same params,
 * and each call may use two. Then plans that no size would be given are run, to the same bits. A target that cannot be
 * used here prints nothing. */
#include <inttypes.h>
#include <pthread.h>

#include "random.h"

enum { FIRST_CELLS = 3 /* RNN, LSTM, GRU: the digest began with them */, LAYERS = 120, CALLERS = 4, PLANS = 6 };

typedef struct job {
    const layer *layer;
    const batch *batch;
    const frnn_plan *plan; /* NULL: what the library plans */
    uint64_t hash;
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

static uint64_t run_callers(const layer *l, const batch *b)
{
    pthread_t threads[CALLERS];
    job jobs[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        jobs[i] = (job){.layer = l, .batch = b};
        if (pthread_create(&threads[i], NULL, run, &jobs[i]))
            abort();
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        if (jobs[i].hash != jobs[0].hash)
            abort();
    }
    return jobs[0].hash;
}

static uint64_t run_layer(const frnn_target *target, frnn_cell cell)
{
    const frnn_dtype dtype = (frnn_dtype)pick(2);
    layer l = random_layer(cell, dtype, 2);
    l.params = make_params(&l, target);
    batch b = random_batch(&l);
    const uint64_t hash = run_callers(&l, &b);
    for (int i = 0; i < PLANS; i++) {
        const frnn_plan plan = random_plan(&l.spec, b.T, b.B);
        job j = {.layer = &l, .batch = &b, .plan = &plan};
        run(&j);
        if (j.hash != hash)
            abort();
    }
    free_batch(&b);
    free_layer(&l);
    return hash;
}

static void run_layers(const frnn_target *target, size_t layers)
{
    random_state = 88172645463325252u;
    uint64_t hash = 0;
    for (size_t i = 0; i < layers; i++)
        hash = hash * 31 + run_layer(target, (frnn_cell)pick(FIRST_CELLS));
    for (int cell = FIRST_CELLS; cell < FRNN_CELLS; cell++) /* each that came later, after them */
        for (size_t i = 0; i < layers / FIRST_CELLS; i++)
            hash = hash * 31 + run_layer(target, (frnn_cell)cell);
    printf("%s %016" PRIx64 "\n", frnn_target_name(target), hash);
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
    return 0;
}
