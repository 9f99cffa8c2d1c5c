/* The way back over a tape: backpropagation through time.
 *
 * Layers are gone through from the top. A chunk of steps of a layer, the last ones first, takes two jobs for threads: its
 * steps, for which threads take directions and rows of the batch; then its products, for which they take rows of what the
 * layer read, and slices of its weights' gradients. Every number is one thread's, from its first term to its last, so the
 * bits depend neither on threads nor on chunks. */
#include "back.h"
#include "pages.h"
#include "plan.h"

enum { LEAST_CHAINS = 2, MOST_CHAINS = 16 /* of terms in a chunk, where a step has fewer */ };

/* One layer, in all directions. */
typedef struct layer_back {
    frnn_back *directions;
    size_t D, parts, slices, threads;
    size_t begin, end; /* of the chunk */
    bool asks;
    size_t steps, rows; /* frnn_back_thread */
    frnn_progress *progress;
    char *scratch; /* of outer products, one a slice */
    size_t scratch_bytes;
} layer_back;

static frnn_back_thread thread_of(const layer_back *layer, frnn_thread_context where)
{
    return (frnn_back_thread){
        layer->progress, where.caller && layer->asks, where.alone, layer->steps, layer->rows, NULL};
}

static void steps_task(void *context, size_t i, frnn_thread_context where)
{
    const layer_back *layer = context;
    frnn_back *back = &layer->directions[i % layer->D];
    const frnn_back_thread thread = thread_of(layer, where);
    const uint64_t mode = where.caller ? 0 : frnn_enter_float_mode(); /* the calling thread is in this mode already */
    frnn_back_steps(back, i / layer->D, layer->begin, layer->end, &thread);
    if (!where.caller)
        frnn_leave_float_mode(mode);
}

static void products_of(const layer_back *layer, size_t i, const frnn_back_thread *thread)
{
    for (size_t d = 0; d < layer->D; d++) {
        frnn_back *back = &layer->directions[d];
        if (i >= layer->parts)
            frnn_terms_add(back, frnn_terms_ready(back, layer->begin == 0), i - layer->parts, layer->slices, thread);
        else
            frnn_back_source(back, i, layer->begin, layer->end, thread);
        if (i < layer->parts && layer->begin == 0 && frnn_goes_on(thread->progress, thread->asks, thread->alone))
            frnn_back_initial(back, i);
    }
}

static void products_task(void *context, size_t i, frnn_thread_context where)
{
    const layer_back *layer = context;
    frnn_back_thread thread = thread_of(layer, where);
    if (i >= layer->parts)
        thread.scratch = layer->scratch + (i - layer->parts) * layer->scratch_bytes;
    const uint64_t mode = where.caller ? 0 : frnn_enter_float_mode();
    products_of(layer, i, &thread);
    if (!where.caller)
        frnn_leave_float_mode(mode);
}

/* The calling thread asks whether to go on, while it waits for tasks of other threads. */
static void ask(void *context)
{
    const layer_back *layer = context;
    if (atomic_load(&layer->progress->status) == FRNN_OK)
        frnn_ask(layer->progress);
}

static bool goes_on(const layer_back *layer) { return atomic_load(&layer->progress->status) == FRNN_OK; }

static void run(layer_back *layer, size_t tasks, frnn_task *task)
{
    layer->progress->forks = frnn_forks();
    if (goes_on(layer) && !frnn_parallel(tasks, layer->threads, task, ask, layer))
        frnn_give_up(layer->progress, FRNN_FORKED);
}

static void chunk_back(layer_back *layer)
{
    const bool weights = layer->directions[0].weights != NULL;
    run(layer, layer->D * layer->parts, steps_task);
    for (size_t d = 0; d < layer->D && weights; d++)
        frnn_terms_take(&layer->directions[d], layer->begin, layer->end);
    run(layer, layer->parts + (weights ? layer->slices : 0), products_task);
    for (size_t d = 0; d < layer->D && weights; d++)
        frnn_terms_drop(&layer->directions[d], frnn_terms_ready(&layer->directions[d], layer->begin == 0));
}

/* Gradients of what the layer read: zeros past the rows' ends, and everywhere if directions add to them. */
static void clear_source(const frnn_back *back)
{
    for (size_t row = 0; row < back->tape->B && back->dsource; row++)
        for (size_t t = back->adds ? 0 : back->tape->lengths[row]; t < back->tape->T; t++)
            memset(back->dsource + (ptrdiff_t)t * back->dsource_time + (ptrdiff_t)row * back->dsource_row, 0,
                   back->source_row);
}

/* Chunks are counted from the first step, so that all but the last one are whole. */
static void run_layer(layer_back *layer)
{
    const frnn_tape *tape = layer->directions[0].tape;
    const size_t steps = tape->B ? tape->lengths[tape->rows[0]] : 0, chunk = layer->directions[0].chunk;
    for (size_t d = 0; d < layer->D; d++) {
        frnn_back_begin(&layer->directions[d]);
        if (layer->directions[d].weights)
            frnn_terms_clear(&layer->directions[d]);
    }
    clear_source(&layer->directions[0]);
    for (layer->end = steps; layer->end > 0 && goes_on(layer); layer->end = layer->begin) {
        layer->begin = (layer->end - 1) / chunk * chunk;
        chunk_back(layer);
    }
    for (size_t p = 0; p < layer->parts && steps == 0; p++)
        for (size_t d = 0; d < layer->D; d++)
            frnn_back_initial(&layer->directions[d], p);
}

static void lay_out(layer_back *layer, frnn_arena *arena)
{
    const frnn_back *back = &layer->directions[0];
    for (size_t d = 0; d < layer->D; d++)
        frnn_back_lay_out(&layer->directions[d], arena);
    const size_t columns = back->source_row / back->number + back->params->out + back->params->spec.hidden_size;
    layer->scratch_bytes = frnn_outer_numbers(columns, back->params->kernels->width) * back->number;
    layer->scratch = frnn_arena_take(arena, back->weights ? layer->slices : 0, layer->scratch_bytes);
}

static frnn_status layer_back_run(layer_back *layer)
{
    frnn_arena arena = {0};
    lay_out(layer, &arena);
    if (!frnn_arena_allocate_pages(&arena))
        return FRNN_NO_MEMORY;
    lay_out(layer, &arena);
    run_layer(layer);
    frnn_pages_give(arena.memory);
    return FRNN_OK;
}

/* Steps whose rows of gradients stay near until their products, and fill some chains of terms. */
static size_t chunk_of(const frnn_tape *tape, size_t row_bytes)
{
    const size_t near = tape->params->l2_bytes / 2 / row_bytes;
    const size_t least = LEAST_CHAINS * FRNN_CHAIN, most = MOST_CHAINS * FRNN_CHAIN;
    const size_t rows = near < least ? least : near > most ? most : near, B = tape->B ? tape->B : 1;
    const size_t steps = (rows + B - 1) / B, all = tape->T ? tape->T : 1;
    return steps < all ? steps : all;
}

/* Rows of gradients are an odd number of cache lines long, so that a column of them does not fall into few sets. */
static size_t row_bytes_of(const frnn_back_layer *layer, size_t number)
{
    return ((layer->row.numbers * number + FRNN_ALIGNMENT - 1) / FRNN_ALIGNMENT | 1) * FRNN_ALIGNMENT;
}

/* How many things, at most, of which one takes so many seconds, are done before it is asked whether to go on. */
static size_t pieces(double seconds, double most)
{
    if (seconds * most < FRNN_DEAF_SECONDS)
        return (size_t)most;
    return seconds < FRNN_DEAF_SECONDS ? (size_t)(FRNN_DEAF_SECONDS / seconds) : 1;
}

/* Gradients of the outputs of layers within a stack: of those with odd numbers and with even ones. */
typedef struct stack {
    char *odd, *even;
} stack;

static stack make_stack(const frnn_tape *tape, frnn_arena *arena)
{
    stack made;
    made.odd = frnn_arena_take(arena, 1, frnn_tape_output_bytes(tape));
    made.even = frnn_arena_take(arena, 1, frnn_tape_output_bytes(tape));
    return made;
}

static frnn_back make_back(const frnn_tape *tape, const frnn_transposed *transposed, const frnn_pull *pull,
                           stack between, size_t l, size_t d)
{
    const frnn_params *params = tape->params;
    const size_t D = params->D, L = params->spec.num_layers, number = params->number_bytes, B = tape->B;
    const size_t output = params->out * number, width = D * output;
    char *const above = l % 2 ? between.odd : between.even, *const below = l % 2 ? between.even : between.odd;
    frnn_back back = {
        .params = params,
        .tape = tape,
        .pull = pull,
        .layer = &transposed->layers[l * D + d],
        .index = l * D + d,
        .direction = d,
        .number = number,
        .dy = l + 1 == L ? pull->dy : (frnn_array){above, (ptrdiff_t)(B * width), (ptrdiff_t)width},
        .dy_is_last = l + 1 == L && !tape->return_sequences,
        .outputs = tape->outputs + l * frnn_tape_output_bytes(tape) + d * output,
        .source = l ? tape->outputs + (l - 1) * frnn_tape_output_bytes(tape) : tape->x,
        .source_row = l ? width : params->spec.input_size * number,
        .dsource = l ? below : pull->dx,
        .dsource_time = l ? (ptrdiff_t)(B * width) : pull->dx_time,
        .dsource_row = l ? (ptrdiff_t)width : pull->dx_row,
        .adds = D > 1,
        .weights = pull->weights ? &pull->weights[l * D + d] : NULL,
    };
    back.row_bytes = row_bytes_of(back.layer, number);
    back.chunk = chunk_of(tape, back.row_bytes);
    if (back.dy.data)
        back.dy.data = (const char *)back.dy.data + d * output;
    return back;
}

static frnn_status pull_layer(const frnn_tape *tape, const frnn_transposed *transposed, const frnn_pull *pull,
                              stack between, size_t l, const frnn_plan *plan, frnn_progress *progress)
{
    const frnn_params *params = tape->params;
    frnn_back directions[2];
    layer_back layer = {.directions = directions, .D = params->D, .progress = progress};
    const double one = frnn_step_seconds(params) / (double)(params->spec.num_layers * params->D);
    layer.threads = plan->threads;
    layer.parts = (layer.threads + layer.D - 1) / layer.D;
    if (layer.parts > tape->B)
        layer.parts = tape->B ? tape->B : 1;
    layer.asks = pull->interrupted && plan->alone > FRNN_SHORT_SECONDS;
    layer.steps = pieces(one * (double)(tape->B / layer.parts + 1), (double)tape->T + 1);
    layer.rows = pieces(one, 1e3);
    for (size_t d = 0; d < layer.D; d++) {
        directions[d] = make_back(tape, transposed, pull, between, l, d);
        directions[d].parts = layer.parts;
    }
    const double weights = (double)frnn_cell_gates(params->spec.cell) * (double)params->spec.hidden_size *
                           (double)(directions[0].source_row / params->number_bytes + params->out);
    const double seconds = frnn_multiply_seconds(params, FRNN_OUTER_ROWS * weights) / (double)layer.threads;
    layer.slices = layer.threads * (1 + (size_t)(seconds / FRNN_DEAF_SECONDS));
    return layer_back_run(&layer);
}

static frnn_status pull_back(const frnn_tape *tape, const frnn_transposed *transposed, const frnn_pull *pull,
                             frnn_progress *progress)
{
    const frnn_params *params = tape->params;
    const size_t L = params->spec.num_layers;
    const frnn_plan plan = frnn_make_plan(params, tape->T, tape->B, pull->threads);
    frnn_arena arena = {0};
    stack between = make_stack(tape, &arena);
    if (L > 1 && !frnn_arena_allocate_pages(&arena))
        return FRNN_NO_MEMORY;
    if (L > 1)
        between = make_stack(tape, &arena);
    frnn_status status = FRNN_OK;
    for (size_t l = L; l-- > 0 && status == FRNN_OK && atomic_load(&progress->status) == FRNN_OK;)
        status = pull_layer(tape, transposed, pull, between, l, &plan, progress);
    frnn_pages_give(arena.memory);
    return status == FRNN_OK ? (frnn_status)atomic_load(&progress->status) : status;
}

frnn_status frnn_pull_back(const frnn_tape *tape, const frnn_transposed *transposed, const frnn_pull *pull)
{
    frnn_progress progress = {
        .mode = frnn_enter_float_mode(), .interrupted = pull->interrupted, .context = pull->context};
    atomic_init(&progress.status, FRNN_OK);
    const frnn_status status = pull_back(tape, transposed, pull, &progress);
    frnn_leave_float_mode(progress.mode);
    return status;
}
