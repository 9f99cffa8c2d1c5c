#include "plan.h"

/* They bear on time alone. The first three were chosen by hand on one machine with 2 MB of L2 a core: against 96 rows,
 * 512 kB and 3 tiles they gained 1 to 6 % where H is 256 and more; 1.5 MB gained no more. */
enum {
    HOISTED_ROWS = 192,      /* rows of an x product: enough that its panels are read rarely */
    HOISTED_BYTES = 1 << 20, /* of the sums that wait for their steps: they stay in L2 beside panels */
    TILES_ENOUGH = 12,       /* tiles of rows in one step after which W is read rarely enough without hoisting */
    WORTH_A_THREAD = 2000000 /* multiply-adds: a guess, not measured */
};

static size_t at_least_one(size_t n) { return n ? n : 1; }

/* Bytes of the sums of one row: of all stages of a layer, which have the same in every layer. */
static size_t sums_bytes(const frnn_params *params)
{
    size_t bytes = 0;
    for (int s = 0; s < params->layers[0].stages; s++)
        bytes += frnn_sums_bytes(params, &params->layers[0].stage[s]);
    return bytes;
}

/* Weights that a step of one row multiplies with. */
static double weights_of(const frnn_params *params)
{
    double n = 0;
    for (size_t i = 0; i < params->spec.L * params->D; i++)
        for (int s = 0; s < params->layers[i].stages; s++) {
            const frnn_stage *stage = &params->layers[i].stage[s];
            n += (double)frnn_stage_gates(stage->kind) * (double)stage->units * ((double)stage->I + (double)stage->K);
        }
    return n;
}

frnn_plan frnn_make_plan(const frnn_params *params, size_t T, size_t B, size_t threads)
{
    const double work = weights_of(params) * (double)T * (double)B;
    const size_t worth =
        work < (double)threads * WORTH_A_THREAD ? at_least_one((size_t)(work / WORTH_A_THREAD)) : threads;
    const size_t wanted = at_least_one(worth / params->D), parts = at_least_one(wanted < B ? wanted : B);
    const size_t rows = at_least_one((B + parts - 1) / parts);
    const size_t affordable_rows = HOISTED_BYTES / sums_bytes(params);
    size_t block = at_least_one((affordable_rows < HOISTED_ROWS ? affordable_rows : HOISTED_ROWS) / rows);
    if (block > T)
        block = at_least_one(T);
    return (frnn_plan){
        .block = block,
        .hoist = block > 1 && rows < TILES_ENOUGH * params->kernels->max_rows,
        .parts = parts,
        .threads = worth,
    };
}
