/* Why a call runs as it does, on one page. frnn_explain (explain.c) says it in words.
 *
 * (a) Time goes in blocks. The x part of a block is one product of many rows, at the multipliers' full speed, and its
 *     sums wait for their steps in L2. Where there are so many rows in one step that the panels of W are read rarely
 *     anyway, or W is so small that nothing can be gained, x and h are multiplied together, step by step.
 * (b) The h part goes step by step. With one row its speed is that of the memory which holds U; with many rows that of
 *     the multipliers. Each step goes through U in the direction opposite to the step before, so what was read last is
 *     read first: as much of U as L2 holds is found there.
 * (c) Threads split the directions and the rows of a batch, which never wait for each other; or the units of a layer,
 *     which meet after each step, and of which each thread keeps its own part of U in its own L2; or the layers of a
 *     stack, each a block of steps behind the one below. What is expected to be fastest is taken, and one thread where
 *     more would gain too little.
 *
 * The numbers below were measured on one machine (a Xeon with AVX-512, 2 MB of L2 and a slow third level). On others
 * they err, but on both sides of each comparison. */
#include "plan.h"

#define MULTIPLIES_PER_LANE 5e9 /* a second, in tiles of many rows */
#define NEAR_BYTES 120e9        /* a second from L2 */
#define FAR_BYTES 25e9          /* a second from beyond it */
#define CELL_SECONDS 20e-9      /* a vector of units: gates and state */
#define STEP_SECONDS 60e-9      /* a stage of a step, whatever its size */
#define MEET_SECONDS 500e-9     /* threads that meet */
#define WORTH_IT 0.9            /* of the time alone: more threads must gain as much */
#define TRIFLE_SECONDS 60e-6    /* a call as short as this is run alone without looking further */

enum {
    HOISTED_ROWS = 192,     /* of an x product: enough that its panels are read rarely */
    HOISTED_PART = 3,       /* eighths of L2 for the sums that wait */
    TILES_ENOUGH = 12,      /* tiles of rows in one step after which W is read rarely enough without hoisting */
    SMALL_W = 4096,         /* bytes of W: one row's x part fits between the waits of the h part before it */
    WAVE_BLOCKS_WANTED = 12 /* of a sequence whose layers run apart: threads wait at its ends, a block a layer */
};

static size_t at_least_one(size_t n) { return n ? n : 1; }

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Bytes of the sums of one row: of all stages of a layer, which have the same in every layer. */
static size_t sums_bytes(const frnn_params *params)
{
    size_t bytes = 0;
    for (int s = 0; s < params->layers[0].stages; s++)
        bytes += frnn_sums_bytes(params, &params->layers[0].stage[s]);
    return bytes;
}

static double read_seconds(const frnn_params *params, double bytes)
{
    const double l2 = (double)params->l2_bytes, near = bytes < 0.75 * l2 ? bytes : 0.5 * l2;
    return near / NEAR_BYTES + (bytes - near) / FAR_BYTES;
}

/* One step of one layer in one direction, for some rows and one of `members` equal parts of the units. */
static double step_seconds(const frnn_params *params, const frnn_layer *layer, size_t rows, size_t members, bool hoist)
{
    const double lanes = (double)params->kernels->width, rate = MULTIPLIES_PER_LANE * lanes;
    const double row_count = (double)rows, part = 1 / (double)members;
    double seconds = 0;
    for (int s = 0; s < layer->stages; s++) {
        const frnn_stage *stage = &layer->stage[s];
        const double weights = (double)(frnn_stage_gates(stage->kind) * stage->blocks) * lanes * part;
        const double x = weights * (double)stage->I, h = weights * (double)stage->K;
        const double read = read_seconds(params, (hoist ? h : x + h) * (double)params->element);
        const double alone = (hoist ? h : x + h) * row_count / rate;
        seconds += (hoist ? x * row_count / rate : 0) + (alone > read ? alone : read);
        seconds += row_count * (double)stage->blocks * part * CELL_SECONDS + STEP_SECONDS;
        seconds += members > 1 ? MEET_SECONDS : 0;
    }
    return seconds;
}

/* Block and hoisting for strands of some rows. */
static frnn_plan with_block(const frnn_params *params, size_t T, size_t rows, frnn_plan plan)
{
    const frnn_stage *first = &params->layers[0].stage[0];
    const size_t affordable = params->l2_bytes / 8 * HOISTED_PART / sums_bytes(params);
    const size_t W = first->I * frnn_stage_gates(first->kind) * frnn_unit_bytes(params, first);
    plan.block = at_least_one(smaller(affordable, HOISTED_ROWS) / rows);
    if (plan.hands > 1)
        plan.block = smaller(plan.block, at_least_one(T / WAVE_BLOCKS_WANTED));
    plan.block = smaller(plan.block, at_least_one(T));
    plan.hoist = plan.block > 1 && rows < TILES_ENOUGH * params->kernels->max_rows && (rows > 1 || W > SMALL_W);
    return plan;
}

static frnn_plan make(const frnn_params *params, size_t T, size_t B, size_t parts, size_t members, size_t hands,
                      size_t threads)
{
    const size_t rows = at_least_one((B + parts - 1) / parts), strands = parts * params->D;
    frnn_plan plan = with_block(params, T, rows, (frnn_plan){.parts = parts, .members = members, .hands = hands});
    double seconds = 0;
    for (size_t l = 0; l < params->spec.L; l++)
        seconds += step_seconds(params, &params->layers[l * params->D], rows, members, plan.hoist);
    seconds *= (double)T;
    if (hands > 1)
        seconds = seconds / (double)hands * (1 + (double)((hands - 1) * plan.block) / (double)T);
    const size_t together = members * hands, at_once = smaller(strands, at_least_one(threads / together));
    plan.threads = at_once * together;
    plan.seconds = seconds * (double)((strands + at_once - 1) / at_once) + (plan.threads > 1 ? FRNN_WAKE_SECONDS : 0);
    return plan;
}

frnn_plan frnn_make_plan(const frnn_params *params, size_t T, size_t B, size_t threads)
{
    frnn_plan best = make(params, T, B, 1, 1, 1, 1);
    const double alone = best.seconds;
    if (alone > TRIFLE_SECONDS && B > 0) {
        frnn_plan other = best;
        for (size_t parts = 1; parts <= smaller(B, threads); parts++)
            for (size_t members = 1; members == 1 || parts * params->D * members <= threads; members++) {
                other = make(params, T, B, parts, members, 1, threads);
                if (other.seconds < WORTH_IT * alone && other.seconds < best.seconds)
                    best = other;
            }
        if (params->D == 1 && params->spec.L > 1 && threads > 1) {
            other = make(params, T, B, 1, 1, smaller(threads, params->spec.L), threads);
            if (other.seconds < WORTH_IT * alone && other.seconds < best.seconds)
                best = other;
        }
    }
    best.alone = alone;
    return best;
}
