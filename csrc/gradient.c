/* The way back over a tape: backpropagation through time.
 *
 * Layers are gone through from the top (layer_pull.c).
 *
 * On a marked tape the steps of a segment are run again, the last segment first. Then all layers of a stack in one
 * direction go back over it, so that it is run again once; with two directions each layer goes back by itself, since the
 * layer below needs what both say of all steps. */
#include "embedding.h"
#include "layer_pull.h"
#include "pages.h"
#include "plan.h"

enum { LEAST_CHAINS = 2, MOST_CHAINS = 16 /* of terms in a chunk, where a step has fewer */ };

/* Steps whose rows of gradients stay near until their products, and fill some chains of terms. */
static size_t chunk_of(const frnn_tape *tape, size_t row_bytes)
{
    const size_t near = tape->params->l2_bytes / 2 / row_bytes;
    const size_t least = LEAST_CHAINS * FRNN_CHAIN, most = MOST_CHAINS * FRNN_CHAIN;
    const size_t rows = near < least ? least : near > most ? most : near, B = tape->B ? tape->B : 1;
    const size_t steps = (rows + B - 1) / B, all = tape->T ? frnn_tape_steps(tape) : 1;
    return steps < all ? steps : all;
}

/* Rows of gradients are an odd number of cache lines long, so that a column of them does not fall into few sets. */
static size_t row_bytes_of(const frnn_back_layer *layer, size_t number)
{
    return ((layer->row.numbers * number + FRNN_ALIGNMENT - 1) / FRNN_ALIGNMENT | 1) * FRNN_ALIGNMENT;
}

/* Of pieces of work that take so many seconds each: how many are done, at most, before frnn_goes_on is asked again. */
static size_t pieces(double seconds, double most)
{
    if (seconds * most < FRNN_DEAF_SECONDS)
        return (size_t)most;
    return seconds < FRNN_DEAF_SECONDS ? (size_t)(FRNN_DEAF_SECONDS / seconds) : 1;
}

/* A pull on its way. */
typedef struct pulling {
    const frnn_tape *tape;
    const frnn_transposed *transposed;
    const frnn_pull *pull;
    frnn_plan plan;
    frnn_progress *progress;
    size_t lowest;            /* layer of which a gradient is wanted */
    frnn_sequence dx;         /* gradients of x; base NULL: not wanted */
    frnn_row_sums row_sums;   /* which make those of the embedding of these */
    frnn_sequence between[2]; /* gradients of the outputs of layers within the stack: of even numbers and of odd ones */
    frnn_layer_pull *layers;  /* those that go back together, the lowest first */
} pulling;

static bool wants_weights(const pulling *p, size_t l)
{
    const size_t D = p->tape->params->D;
    for (size_t d = 0; d < D && p->pull->weights; d++) {
        const frnn_weight_gradients *w = &p->pull->weights[l * D + d];
        if (w->W || w->U || w->b || w->d || w->V || w->p)
            return true;
    }
    return false;
}

/* Whether gradients of x are wanted for those of the embedding. */
static bool wants_embedding(const pulling *p) { return p->pull->dE && p->tape->lookup.tokens; }

/* The lowest layer of which a gradient is wanted; L: there is none. */
static size_t lowest_of(const pulling *p)
{
    const frnn_pull *pull = p->pull;
    bool all = pull->dx || wants_embedding(p);
    for (size_t s = 0; s < FRNN_MOST_STATES; s++)
        all = all || pull->dinitial[s];
    size_t l = 0;
    while (!all && l < p->tape->params->spec.num_layers && !wants_weights(p, l))
        l++;
    return l;
}

/* Layers that go back together. */
static size_t group_of(const pulling *p)
{
    const bool together = frnn_tape_is_marked(p->tape) && p->tape->params->D == 1;
    return together ? p->tape->params->spec.num_layers - p->lowest : 1;
}

static void lay_out_pulling(pulling *p, frnn_arena *arena)
{
    const frnn_tape *tape = p->tape;
    const frnn_params *params = tape->params;
    const bool both = params->D == 2, within = params->spec.num_layers - p->lowest > 1;
    const size_t row = params->D * params->out * params->number_bytes;
    const size_t rows = within ? frnn_arena_product(arena, both ? tape->T : frnn_tape_steps(tape), tape->B) : 0;
    p->layers = frnn_arena_take(arena, group_of(p), sizeof *p->layers);
    p->dx = (frnn_sequence){p->pull->dx, p->pull->dx_time, p->pull->dx_row, FRNN_BY_TIME, 0};
    if (wants_embedding(p)) {
        const size_t I = params->spec.input_size * params->number_bytes;
        char *dx = frnn_arena_take(arena, frnn_arena_product(arena, tape->T, tape->B), I);
        p->dx = frnn_sequence_of(dx, FRNN_BY_TIME, tape->B, I);
        p->row_sums = frnn_row_sums_lay_out(params, arena);
    }
    for (size_t i = 0; i < 2; i++)
        p->between[i] =
            frnn_sequence_of(frnn_arena_take(arena, rows, row), both ? FRNN_BY_TIME : FRNN_BY_STEP, tape->B, row);
}

static frnn_back make_back(const pulling *p, const frnn_record *record, size_t l, size_t d)
{
    const frnn_tape *tape = p->tape;
    const frnn_params *params = tape->params;
    const frnn_pull *pull = p->pull;
    const size_t D = params->D, L = params->spec.num_layers, number = params->number_bytes,
                 output = params->out * number;
    const frnn_sequence nothing = {0};
    const frnn_sequence y = {(char *)pull->dy.data, pull->dy.outer, pull->dy.row, FRNN_BY_TIME, 0}; /* read alone */
    frnn_back back = {
        .params = params,
        .tape = tape,
        .record = record,
        .pull = pull,
        .layer = &p->transposed->layers[l * D + d],
        .index = l * D + d,
        .direction = d,
        .number = number,
        .dy = l + 1 == L ? y : p->between[l % 2],
        .dy_is_last = l + 1 == L && !tape->return_sequences,
        .outputs = frnn_record_outputs(record, l),
        .source = frnn_record_source(record, l),
        .source_row = l ? D * output : params->spec.input_size * number,
        .dsource = l == 0          ? p->dx
                   : l > p->lowest ? p->between[(l - 1) % 2]
                                   : nothing,
        .adds = D > 1,
        .weights = wants_weights(p, l) ? &pull->weights[l * D + d] : NULL,
    };
    back.row_bytes = row_bytes_of(back.layer, number);
    back.chunk = chunk_of(tape, back.row_bytes);
    back.outputs.base += d * output;
    if (back.dy.base)
        back.dy.base += d * output;
    return back;
}

static frnn_layer_pull make_layer(const pulling *p, const frnn_record *record, size_t l)
{
    const frnn_tape *tape = p->tape;
    const frnn_params *params = tape->params;
    frnn_layer_pull layer = {.D = params->D, .threads = p->plan.threads, .progress = p->progress};
    const double one = frnn_step_seconds(params) / (double)(params->spec.num_layers * params->D);
    layer.parts = (layer.threads + layer.D - 1) / layer.D;
    if (layer.parts < p->plan.parts)
        layer.parts = p->plan.parts; /* of a huge batch: a step of a part is short enough to be interrupted after it */
    if (layer.parts > tape->B)
        layer.parts = tape->B ? tape->B : 1;
    const size_t rows = tape->B / layer.parts, strands = layer.D * layer.parts;
    layer.sharers = frnn_plan_sharers(params, rows, layer.threads > strands ? layer.threads / strands : 1);
    layer.sources =
        layer.D == 1 && layer.parts < layer.threads ? layer.threads / layer.parts * layer.parts : layer.parts;
    layer.patience = frnn_plan_patience(&p->plan);
    layer.asks = p->pull->interrupted && p->plan.alone > FRNN_SHORT_SECONDS;
    layer.steps = pieces(one * (double)(tape->B / layer.parts + 1), (double)tape->T + 1);
    layer.rows = pieces(one, 1e3);
    for (size_t d = 0; d < layer.D; d++) {
        layer.directions[d] = make_back(p, record, l, d);
        layer.directions[d].parts = layer.parts;
        layer.directions[d].sharers = layer.sharers;
        layer.directions[d].sources = layer.sources;
    }
    const double weights = (double)frnn_cell_gates(params->spec.cell) * (double)params->spec.hidden_size *
                           (double)(layer.directions[0].source_row / params->number_bytes + params->out);
    const double seconds = frnn_multiply_seconds(params, FRNN_OUTER_ROWS * weights) / (double)layer.threads;
    layer.slices = layer.threads * (1 + (size_t)(seconds / FRNN_DEAF_SECONDS));
    return layer;
}

/* Runs the steps of a segment again, in the caller's floating-point mode. */
static frnn_status record_again(const pulling *p, frnn_record *record, size_t segment)
{
    frnn_leave_float_mode(p->progress->mode);
    frnn_record_begin(record, segment);
    const frnn_status status = frnn_run_again(record, p->pull);
    p->progress->mode = frnn_enter_float_mode();
    return status;
}

/* Some layers go back over all segments of steps, the last one first. */
static void go_back(const pulling *p, frnn_record *record, size_t n)
{
    const size_t steps = frnn_tape_longest(p->tape), segment = p->tape->segment;
    for (size_t i = steps ? (steps - 1) / segment + 1 : 0; i-- > 0 && frnn_is_on(p->progress);) {
        const frnn_status status = frnn_tape_is_marked(p->tape) ? record_again(p, record, i) : FRNN_OK;
        if (status != FRNN_OK)
            frnn_give_up(p->progress, status);
        for (size_t l = n; l-- > 0;)
            frnn_layer_pull_run(&p->layers[l]);
    }
}

/* So many layers from one on, together. */
static void pull_layers(const pulling *p, size_t first, size_t n)
{
    const bool marked = frnn_tape_is_marked(p->tape);
    const size_t run_from = p->tape->params->D == 1 ? 0 : first; /* a stack in one direction is run again from x */
    frnn_record again = {0};
    bool ready = !marked || frnn_record_new(&again, p->tape, run_from, first + n - run_from);
    size_t made = 0;
    while (ready && made < n) {
        p->layers[made] = make_layer(p, marked ? &again : &p->tape->all, first + made);
        ready = frnn_layer_pull_allocate(&p->layers[made++]);
    }
    if (!ready)
        frnn_give_up(p->progress, FRNN_NO_MEMORY);
    for (size_t i = 0; i < n && ready; i++)
        frnn_layer_pull_begin(&p->layers[i]);
    if (ready)
        go_back(p, &again, n);
    for (size_t i = 0; i < made; i++)
        frnn_layer_pull_free(&p->layers[i]);
    frnn_record_free(&again);
}

static void pull_back(pulling *p)
{
    const size_t L = p->tape->params->spec.num_layers, n = group_of(p);
    frnn_arena arena = {0};
    lay_out_pulling(p, &arena);
    if (!frnn_arena_allocate_pages(&arena)) {
        frnn_give_up(p->progress, FRNN_NO_MEMORY);
        return;
    }
    lay_out_pulling(p, &arena);
    for (size_t end = L; end > p->lowest && frnn_is_on(p->progress); end -= n)
        pull_layers(p, end - n, n);
    if (wants_embedding(p) && frnn_is_on(p->progress))
        frnn_row_sums_add(&p->row_sums, p->tape, p->dx.base, p->pull->dE, p->progress, p->pull->interrupted);
    frnn_pages_give(arena.memory);
}

frnn_status frnn_pull_back(const frnn_tape *tape, const frnn_transposed *transposed, const frnn_pull *pull)
{
    frnn_progress progress = {
        .mode = frnn_enter_float_mode(), .interrupted = pull->interrupted, .context = pull->context};
    atomic_init(&progress.status, FRNN_OK);
    pulling p = {.tape = tape, .transposed = transposed, .pull = pull, .progress = &progress};
    p.plan = frnn_make_plan(tape->params, tape->T, tape->B, pull->threads);
    p.lowest = lowest_of(&p);
    if (pull->dE && !wants_embedding(&p))
        memset(pull->dE, 0, tape->params->embedding.V * tape->params->spec.input_size * tape->params->number_bytes);
    if (p.lowest < tape->params->spec.num_layers)
        pull_back(&p);
    frnn_leave_float_mode(progress.mode);
    return (frnn_status)atomic_load(&progress.status);
}
