/* How a call is run. Only time depends on it: results have the same bits under every plan. */
#ifndef FRNN_PLAN_H
#define FRNN_PLAN_H

#include "kernel.h"
#include "rates.h"

/* What is done with the x part of a chunk, and why. */
typedef enum frnn_x_part {
    FRNN_X_AHEAD,       /* one product, kept until its steps */
    FRNN_X_ENOUGH_ROWS, /* with the h part, step by step: a step has so many rows that W is read rarely anyway */
    FRNN_X_ONE_STEP,    /* the same: a chunk is one step */
    FRNN_X_SMALL        /* the same: W is so small that its product fits where the h part waits */
} frnn_x_part;

/* A strand is some rows of the batch in one direction: parts * D of them run side by side. */
typedef struct frnn_plan {
    size_t chunk; /* steps that a layer takes before the next layer takes them */
    frnn_x_part x_part;
    size_t parts;        /* of the batch */
    size_t unit_threads; /* threads that share the units of a strand, and meet at the end of each stage */
    /* Threads that share the layers of a strand, each a chunk behind the layer below (a wavefront); 1: layer by layer. */
    size_t layer_threads;
    size_t threads; /* that take part in the call */
    double seconds; /* that the call is expected to take */
    double alone;   /* that it is expected to take on one thread */
} frnn_plan;

enum {
    FRNN_WAVEFRONT_CHUNKS = 3 /* chunks between two layers of a wavefront: how far one may be ahead of the next */
};

/* Seconds that a sleeping worker is expected to take until it runs. */
#define FRNN_WAKE_SECONDS 20e-6

/* The most that a thread may take until it looks whether the call goes on. */
#define FRNN_DEAF_SECONDS 30e-3

/* A call that is expected to be as short as this runs on one thread. */
#define FRNN_TRIFLE_SECONDS 25e-6

enum {
    FRNN_MOST_WAYS = 64 /* to run a call, where threads are doubled until there are FRNN_MOST_THREADS */
};

/* The ways to run a call, that of one thread first, with the seconds that each is expected to take: writes FRNN_MOST_WAYS
 * at most, and answers how many. A call that is expected to take `trifle` seconds at most has one way. */
size_t frnn_plan_ways(const frnn_params *params, size_t T, size_t B, size_t threads, double trifle, frnn_plan *ways);

/* The way that is expected to be the fastest; that of one thread, the first, where others gain too little. */
frnn_plan frnn_plan_fastest(const frnn_plan *ways, size_t count);

frnn_plan frnn_make_plan(const frnn_params *params, size_t T, size_t B, size_t threads);

/* frnn_run under a given plan. parts <= B unless 1; unit_threads or layer_threads is 1; layer_threads > 1 is for a stack
 * in one direction. */
frnn_status frnn_run_planned(const frnn_params *params, const frnn_call *call, frnn_plan plan);

/* What rates follow from the seconds of a step of an RNN whose U stays in L2, for some rows (many) and for one, and of one
 * whose U does not, for one row. `rates` has what was known before. */
void frnn_plan_fit(frnn_rates *rates, const frnn_params *small, size_t rows, double many, double one,
                   const frnn_params *huge, double one_far);

/* What two threads need to meet: from the seconds of a step of a layer that runs alone, and of one whose units they share. */
double frnn_plan_fit_meeting(const frnn_params *params, double alone, double shared);

/* Seconds that so many multiplications are expected to take, in tiles of many rows. */
double frnn_multiply_seconds(const frnn_params *params, double terms);

/* Bytes of scratch of a call that returns the last step alone, which needs more than one that returns sequences.
 * SIZE_MAX: too many to count. */
size_t frnn_scratch_bytes(const frnn_params *params, const frnn_plan *plan, size_t T, size_t B);

/* Bytes of the sums of one row that are kept: of all stages of a layer, which have the same in every layer. */
size_t frnn_kept_bytes(const frnn_params *params);

/* Whether a row of a table is expected to be read in less time than it takes to make it. A table that stays in L2 is. */
bool frnn_table_pays(const frnn_params *params, double row_bytes, double row_terms, double table_bytes);

/* Whether weights of so many bytes stay in L2 from one step to the next. */
bool frnn_stays_near(const frnn_params *params, double bytes);

/* Seconds to wait for another thread that is to share the units: a small part of a long call, and in a short one the time of
 * waking a worker. */
double frnn_plan_patience(const frnn_plan *plan);

/* How many of so many threads share the units of a step back for some rows, in a layer in one direction: all, or one. */
size_t frnn_plan_sharers(const frnn_params *params, size_t rows, size_t most);

/* Parts into which a step of some rows through all layers is dealt out, to as many threads; 1 where more gain too little. */
size_t frnn_plan_step_parts(const frnn_params *params, size_t rows, size_t threads);

/* Steps that a ring of outputs holds. Those of a chunk lie in order, and the step before a chunk is still there. */
static inline size_t frnn_plan_slots(const frnn_plan *plan)
{
    const size_t chunks = plan->layer_threads > 1 ? FRNN_WAVEFRONT_CHUNKS : plan->chunk == 1 ? 2 : 1;
    return chunks * plan->chunk;
}

#endif
