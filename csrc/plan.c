/* Why a call runs as it does, on one page. frnn_explain (explain.c) says it in words.
 *
 * (a) Time goes in chunks of steps. The x part of a chunk is one product of many rows, at the multipliers' full speed, and its
 *     sums wait for their steps in L2, or beyond it where W is there too. Where there are so many rows in one step that the
 *     panels of W are read rarely anyway, or W is so small that nothing can be gained, x and h are multiplied together, step by
 *     step.
 * (b) The h part goes step by step. With one row its speed is that of the memory which holds U; with many rows that of
 *     the multipliers. Each step goes through U in the direction opposite to the step before, so what was read last is
 *     read first: as much of U as L2 holds is found there.
 * (c) Threads split the directions and the rows of a batch, which never wait for each other; or the units of a layer,
 *     when they meet after each stage, and each keeps its own part of U in its own L2; or the layers of a
 *     stack, each a chunk behind the one below (a wavefront). What is expected to be fastest is taken, and one thread where
 *     more would gain too little.
 *
 * How fast the machine is, rates.c measures. The numbers below say how these rates make up a call. */
#include "plan.h"

#include "rates.h"

#define HALVES 0.9         /* of the rate of multiplying, where weights are halves: they are made wide first */
#define DOTS 4.0           /* times that rate, where four products of bytes are one instruction */
#define OVERLAP 0.25       /* part of the shorter of reading and multiplying that adds to the longer */
#define STEP_SECONDS 60e-9 /* of a stage of a step, whatever its size */
#define UNEVEN 1.07  /* times its share of a step: threads that meet wait for the slowest, each time another one */
#define WORTH_IT 0.9 /* more threads are taken where they need at most this part of one thread's time */

enum {
    HOISTED_ROWS = 192, /* of an x product: enough that its panels are read rarely */
    HOISTED_PART = 3,   /* eighths of L2 for the sums that wait; as many bytes as W has, where W does not stay near */
    TILES_ENOUGH = 12,  /* tiles of rows in one step after which W is read rarely enough without hoisting */
    ROWS_ENOUGH = 192,  /* of a strand: more rows do not make it faster */
    SMALL_W = 4096,     /* bytes of W: one row's W x fits into the time in which U h waits for h. Not where it is of
                         * integers, whose making and sums cost more for one row than for one of many */
    WAVEFRONT_CHUNKS_WANTED =
        12 /* of a sequence whose layers run as a wavefront: threads wait at its ends, a chunk a layer */
};

static size_t at_least_one(size_t n) { return n ? n : 1; }

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

size_t frnn_kept_bytes(const frnn_params *params)
{
    size_t bytes = 0;
    for (int s = 0; s < params->layers[0].stages; s++)
        bytes += params->layers[0].stage[s].sums_row_bytes;
    return bytes;
}

/* How many times as many narrow weights are multiplied in a second. */
static double advantage(const frnn_params *params)
{
    switch (params->spec.precision) {
    case FRNN_FLOAT16: return HALVES;
    case FRNN_INT8: return params->dots ? DOTS / 2 : DOTS / 4; /* by two vectors of integers */
    case FRNN_INT8_FAST: return params->dots ? DOTS : DOTS / 2;
    default: return 1;
    }
}

/* Params, and how fast they are run. */
typedef struct model {
    const frnn_params *params;
    frnn_rates rates;
} model;

static model model_of(const frnn_params *params, frnn_rates rates)
{
    rates.multiplies *= params->kernels->width > 1 ? (double)params->kernels->width * advantage(params) : 1;
    return (model){params, rates};
}

static model known(const frnn_params *params) { return model_of(params, frnn_rates_known(params->kernels)); }

static model measured(const frnn_params *params)
{
    model m = model_of(params, frnn_rates_measured(params->kernels));
    m.rates.wake_seconds = frnn_rates_wake(&m.rates);
    return m;
}

double frnn_multiply_seconds(const frnn_params *params, double terms) { return terms / known(params).rates.multiplies; }

double frnn_step_seconds(const frnn_params *params)
{
    double bytes = 0, terms = 0;
    for (size_t l = 0; l < params->spec.num_layers * params->D; l++)
        for (int s = 0; s < params->layers[l].stages; s++) {
            const frnn_stage *stage = &params->layers[l].stage[s];
            bytes += (double)(stage->W.bytes + stage->U.bytes);
            terms += frnn_matrix_terms(&stage->W) + frnn_matrix_terms(&stage->U);
        }
    const frnn_rates rates = known(params).rates;
    const double reading = bytes / rates.near_bytes, multiplying = terms / rates.multiplies;
    return reading > multiplying ? reading : multiplying;
}

bool frnn_table_pays(const frnn_params *params, double row_bytes, double row_terms, double table_bytes)
{
    enum { SCATTERED = 2 }; /* times the time of reading rows in order */
    const frnn_rates rates = known(params).rates;
    return frnn_stays_near(params, table_bytes) ||
           row_terms / rates.multiplies > SCATTERED * row_bytes / rates.far_bytes;
}

bool frnn_stays_near(const frnn_params *params, double bytes) { return bytes < 0.75 * (double)params->l2_bytes; }

static double read_seconds(const model *m, double bytes)
{
    const double near = frnn_stays_near(m->params, bytes) ? bytes : 0.5 * (double)m->params->l2_bytes;
    return near / m->rates.near_bytes + (bytes - near) / m->rates.far_bytes;
}

/* Seconds in which a thread that changes to another layer reads W and U into L2; 0 where they stay there. */
static double reload_seconds(const model *m, const frnn_layer *layer)
{
    double bytes = 0;
    for (int s = 0; s < layer->stages; s++)
        bytes += (double)(layer->stage[s].W.bytes + layer->stage[s].U.bytes);
    return frnn_stays_near(m->params, bytes) ? 0 : bytes / m->rates.far_bytes;
}

/* Threads arrive at a barrier one after the other. */
static double meet_seconds(const model *m, size_t threads)
{
    return threads > 1 ? m->rates.meet_seconds * 0.5 * (double)threads : 0;
}

/* Seconds of one step of one layer in one direction, for some rows and one of `unit_threads` equal parts of the units. */
static double step_seconds(const model *m, const frnn_layer *layer, size_t rows, size_t unit_threads, bool hoist)
{
    const double rate = m->rates.multiplies, row_count = (double)rows;
    double seconds = 0;
    for (int s = 0; s < layer->stages; s++) {
        const frnn_stage *stage = &layer->stage[s];
        const size_t most_blocks = (stage->blocks + unit_threads - 1) / unit_threads; /* of a thread */
        const double part = (unit_threads > 1 ? UNEVEN : 1) * (double)most_blocks / (double)stage->blocks;
        const double x = frnn_matrix_terms(&stage->W) * part, h = frnn_matrix_terms(&stage->U) * part;
        const double bytes = (double)(hoist ? stage->U.bytes : stage->W.bytes + stage->U.bytes) * part;
        const double read = read_seconds(m, bytes);
        const double alone = (hoist ? h : x + h) * row_count / rate;
        seconds +=
            (hoist ? x * row_count / rate : 0) + (alone > read ? alone + OVERLAP * read : read + OVERLAP * alone);
        seconds +=
            row_count * (double)stage->blocks * part * m->rates.cell_seconds * (double)stage->gates / FRNN_MOST_GATES;
        seconds += STEP_SECONDS;
        seconds += meet_seconds(m, unit_threads);
    }
    return seconds;
}

size_t frnn_plan_sharers(const frnn_params *params, size_t rows, size_t most)
{
    if (most < 2)
        return 1;
    frnn_layer way_back = params->layers[0]; /* which multiplies by U alone */
    for (int s = 0; s < way_back.stages; s++)
        way_back.stage[s].W = (frnn_matrix){0};
    const model m = measured(params);
    return step_seconds(&m, &way_back, rows, most, true) < step_seconds(&m, &way_back, rows, 1, true) ? most : 1;
}

/* Whether the x part of a chunk is one product, and why. */
static frnn_x_part x_part_of(const frnn_params *params, size_t chunk, size_t rows)
{
    if (rows >= TILES_ENOUGH * params->kernels->max_rows)
        return FRNN_X_ENOUGH_ROWS;
    if (chunk == 1)
        return FRNN_X_ONE_STEP;
    const frnn_matrix *W = &params->layers[0].stage[0].W;
    return rows == 1 && W->bytes <= SMALL_W && !frnn_format_is_integer(W->format) ? FRNN_X_SMALL : FRNN_X_AHEAD;
}

/* Chunk and x part for strands of some rows. */
static frnn_plan with_chunk(const frnn_params *params, size_t T, size_t rows, frnn_plan plan)
{
    const frnn_matrix *W = &params->layers[0].stage[0].W;
    const size_t near = params->l2_bytes / 8 * HOISTED_PART / frnn_kept_bytes(params),
                 far = frnn_stays_near(params, (double)W->bytes) ? 0 : W->bytes / frnn_kept_bytes(params);
    plan.chunk = at_least_one(smaller(near > far ? near : far, HOISTED_ROWS) / rows);
    if (plan.layer_threads > 1)
        plan.chunk = smaller(plan.chunk, at_least_one(T / WAVEFRONT_CHUNKS_WANTED));
    plan.chunk = smaller(plan.chunk, at_least_one(T));
    plan.x_part = x_part_of(params, plan.chunk, rows);
    return plan;
}

/* Seconds of one step of all layers in one direction. */
static double stack_seconds(const model *m, size_t rows, const frnn_plan *plan)
{
    const frnn_params *params = m->params;
    double seconds = 0;
    for (size_t l = 0; l < params->spec.num_layers; l++) {
        const frnn_layer *layer = &params->layers[l * params->D];
        seconds += step_seconds(m, layer, rows, plan->unit_threads, plan->x_part == FRNN_X_AHEAD);
        seconds += plan->layer_threads > 1 ? reload_seconds(m, layer) / (double)plan->chunk : 0;
    }
    return seconds;
}

static frnn_plan make(const model *m, size_t T, size_t B, size_t threads, frnn_plan split)
{
    const frnn_params *params = m->params;
    const size_t rows = at_least_one((B + split.parts - 1) / split.parts), strands = split.parts * params->D;
    frnn_plan plan = with_chunk(params, T, rows, split);
    double seconds = stack_seconds(m, rows, &plan);
    if ((double)plan.chunk * seconds > FRNN_DEAF_SECONDS) {
        plan.chunk = at_least_one((size_t)(FRNN_DEAF_SECONDS / seconds));
        plan.x_part = x_part_of(params, plan.chunk, rows);
        seconds = stack_seconds(m, rows, &plan);
    }
    seconds *= (double)T;
    if (plan.layer_threads > 1)
        seconds =
            seconds / (double)plan.layer_threads * (1 + (double)((plan.layer_threads - 1) * plan.chunk) / (double)T);
    const size_t together = plan.unit_threads * plan.layer_threads;
    const size_t at_once = smaller(strands, at_least_one(threads / together));
    plan.threads = at_once * together;
    plan.seconds =
        seconds * (double)((strands + at_once - 1) / at_once) + (plan.threads > 1 ? m->rates.wake_seconds : 0);
    return plan;
}

/* Parts of the batch: a multiple of `wanted`, and so many that no part's step takes longer than FRNN_DEAF_SECONDS. */
static size_t parts_of(const model *m, size_t B, size_t wanted)
{
    const frnn_plan whole = {.chunk = 1, .unit_threads = 1, .layer_threads = 1};
    const double longest = stack_seconds(m, at_least_one(B), &whole) / FRNN_DEAF_SECONDS;
    const size_t most = at_least_one(B / ROWS_ENOUGH);
    const size_t least = longest < (double)most ? at_least_one((size_t)longest) : most;
    return (least + wanted - 1) / wanted * wanted;
}

/* The next number of threads to try: powers of two, and the most. */
static size_t next_count(size_t n, size_t most) { return n < most && 2 * n > most ? most : 2 * n; }

/* Ways to run a call on their way into an array. */
typedef struct listing {
    model model;
    size_t T, B, threads;
    frnn_plan *ways;
    size_t count;
} listing;

static void list(listing *l, size_t parts, size_t unit_threads, size_t layer_threads)
{
    const frnn_plan split = {
        .parts = parts_of(&l->model, l->B, parts), .unit_threads = unit_threads, .layer_threads = layer_threads};
    if (l->count == FRNN_MOST_WAYS || (unit_threads * layer_threads > 1 &&
                                       split.parts * l->model.params->D * unit_threads * layer_threads > l->threads))
        return; /* strands whose threads wait for each other must all run at once */
    l->ways[l->count++] = make(&l->model, l->T, l->B, l->threads, split);
}

static void list_all(listing *l)
{
    const size_t most_parts = smaller(l->B, l->threads);
    for (size_t parts = 1; parts <= most_parts; parts = next_count(parts, most_parts))
        for (size_t unit_threads = 1; parts * unit_threads <= l->threads;
             unit_threads = next_count(unit_threads, l->threads / parts))
            if (parts * unit_threads * l->model.params->D > 1)
                list(l, parts, unit_threads, 1);
    if (l->model.params->D == 1 && l->model.params->spec.num_layers > 1)
        list(l, 1, 1, smaller(l->threads, l->model.params->spec.num_layers));
}

static frnn_plan on_one_thread(const model *m, size_t T, size_t B)
{
    const frnn_plan alone = {.parts = parts_of(m, B, 1), .unit_threads = 1, .layer_threads = 1};
    return make(m, T, B, 1, alone);
}

size_t frnn_plan_ways(const frnn_params *params, size_t T, size_t B, size_t threads, double trifle, frnn_plan *ways)
{
    model m = known(params);
    ways[0] = on_one_thread(&m, T, B);
    listing l = {.T = T, .B = B, .threads = threads, .ways = ways, .count = 1};
    if (threads > 1 && B > 0 && ways[0].seconds > trifle) {
        l.model = measured(params);
        ways[0] = on_one_thread(&l.model, T, B);
        list_all(&l);
    }
    return l.count;
}

frnn_plan frnn_plan_fastest(const frnn_plan *ways, size_t count)
{
    frnn_plan fastest = ways[0];
    for (size_t i = 1; i < count; i++)
        if (ways[i].seconds < WORTH_IT * ways[0].seconds && ways[i].seconds < fastest.seconds)
            fastest = ways[i];
    fastest.alone = ways[0].seconds;
    return fastest;
}

frnn_plan frnn_make_plan(const frnn_params *params, size_t T, size_t B, size_t threads)
{
    frnn_plan ways[FRNN_MOST_WAYS];
    return frnn_plan_fastest(ways, frnn_plan_ways(params, T, B, threads, FRNN_TRIFLE_SECONDS, ways));
}

size_t frnn_plan_step_parts(const frnn_params *params, size_t rows, size_t threads)
{
    const frnn_plan step = {.chunk = 1, .x_part = FRNN_X_ONE_STEP, .parts = 1, .unit_threads = 1, .layer_threads = 1};
    if (threads < 2)
        return 1;
    model m = known(params);
    double alone = stack_seconds(&m, rows, &step);
    if (alone > FRNN_TRIFLE_SECONDS) {
        m = measured(params);
        alone = stack_seconds(&m, rows, &step);
    }
    double best = WORTH_IT * alone;
    size_t best_parts = 1;
    for (size_t parts = 2, most = smaller(rows, threads); alone > FRNN_TRIFLE_SECONDS && parts <= most;
         parts = next_count(parts, most)) {
        const double seconds = stack_seconds(&m, (rows + parts - 1) / parts, &step) + m.rates.wake_seconds;
        if (seconds < best) {
            best = seconds;
            best_parts = parts;
        }
    }
    return best_parts;
}

double frnn_plan_patience(const frnn_plan *plan)
{
    const double least = 4 * FRNN_WAKE_SECONDS, most = 100 * FRNN_WAKE_SECONDS, afforded = plan->seconds / 16;
    return afforded < least ? least : afforded > most ? most : afforded;
}

void frnn_plan_fit(frnn_rates *rates, const frnn_params *small, size_t rows, double many, double one,
                   const frnn_params *huge, double one_far)
{
    const frnn_stage *near = &small->layers[0].stage[0], *far = &huge->layers[0].stage[0];
    const double near_terms = frnn_matrix_terms(&near->W) + frnn_matrix_terms(&near->U),
                 far_terms = frnn_matrix_terms(&far->W) + frnn_matrix_terms(&far->U),
                 near_bytes = (double)(near->W.bytes + near->U.bytes),
                 far_bytes = (double)(far->W.bytes + far->U.bytes), kept = 0.5 * (double)small->l2_bytes,
                 least = 0.2; /* of a look, whatever is taken off */
    const double guessed = rates->multiplies, rate = (double)rows * near_terms / (many - STEP_SECONDS);
    rates->multiplies = rate / (double)small->kernels->width;
    rates->cell_seconds *= guessed / rates->multiplies;
    const double read = one - OVERLAP * near_terms / rate - STEP_SECONDS;
    rates->near_bytes = near_bytes / (read > least * one ? read : least * one);
    const double read_far = one_far - OVERLAP * far_terms / rate - STEP_SECONDS - kept / rates->near_bytes;
    rates->far_bytes = (far_bytes - kept) / (read_far > least * one_far ? read_far : least * one_far);
}

double frnn_plan_fit_meeting(const frnn_params *params, double alone, double shared)
{
    const frnn_stage *stage = &params->layers[0].stage[0];
    const double least = 50e-9, part = UNEVEN * (double)((stage->blocks + 1) / 2) / (double)stage->blocks;
    const double left = shared - part * (alone - STEP_SECONDS) - STEP_SECONDS;
    return left > least ? left : least;
}
