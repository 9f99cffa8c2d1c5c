/* A chunk of steps, the last ones first, takes two jobs for threads: its steps, for which threads take directions and rows
 * of the batch; then its products, for which they take rows of what the layer read, and slices of its weights' gradients.
 * Every number is one thread's, from its first term to its last, so the bits depend neither on threads nor on chunks. */
#include "layer_pull.h"

#include "pages.h"

static frnn_back_thread thread_of(const frnn_layer_pull *layer, frnn_thread_context where)
{
    return (frnn_back_thread){
        .progress = layer->progress,
        .asks = where.caller && layer->asks,
        .alone = where.alone,
        .steps = layer->steps,
        .rows = layer->rows,
        .shares = 1,
    };
}

/* Takes part in a team, as its first thread or a later one; false: it came too late. */
static bool join(const frnn_layer_pull *layer, frnn_team *team, bool first, frnn_back_thread *thread)
{
    const size_t forks = layer->progress->forks;
    if (first && layer->sharers > 1)
        frnn_team_begin(team, 1 + frnn_team_close(team, thread->alone ? 0 : layer->sharers - 1, layer->patience),
                        forks);
    thread->share = first ? 0 : frnn_team_join(team, forks);
    thread->team = team;
    if (!first && !thread->share) /* the team may begin just now: what is in it is not to be read */
        return false;
    thread->shares = layer->sharers > 1 ? team->n : 1;
    return true;
}

/* Tasks below `strands` are the first threads of their teams. */
static void steps_task(void *context, size_t i, frnn_thread_context where)
{
    frnn_layer_pull *layer = context;
    const size_t strands = layer->D * layer->parts, strand = i % strands;
    frnn_back_thread thread = thread_of(layer, where);
    const uint64_t mode = where.caller ? 0 : frnn_enter_float_mode(); /* the calling thread is in this mode already */
    if (join(layer, &layer->teams[strand], i < strands, &thread))
        frnn_back_steps(&layer->directions[strand % layer->D], strand / layer->D, layer->begin, layer->end, &thread);
    if (!where.caller)
        frnn_leave_float_mode(mode);
}

static void sources_of(frnn_layer_pull *layer, size_t source, const frnn_back_thread *thread)
{
    for (size_t d = 0; d < layer->D; d++)
        frnn_back_source(&layer->directions[d], source, layer->begin, layer->end, thread);
    for (size_t d = 0; d < layer->D && layer->begin == 0 && source < layer->parts; d++)
        if (frnn_goes_on(thread->progress, thread->asks, thread->alone))
            frnn_back_initial(&layer->directions[d], source);
}

static void weights_of(frnn_layer_pull *layer, size_t first, const frnn_back_thread *thread)
{
    for (size_t d = 0; d < layer->D; d++) {
        const frnn_back *back = &layer->directions[d];
        for (size_t slice = first; slice < layer->slices; slice += layer->threads)
            frnn_terms_add(back, frnn_terms_ready(back, layer->begin == 0), slice, layer->slices, thread);
    }
}

static void products_task(void *context, size_t i, frnn_thread_context where)
{
    frnn_layer_pull *layer = context;
    frnn_back_thread thread = thread_of(layer, where);
    const uint64_t mode = where.caller ? 0 : frnn_enter_float_mode();
    if (i < layer->sources) {
        sources_of(layer, i, &thread);
    } else {
        thread.scratch = layer->scratch + (i - layer->sources) * layer->scratch_bytes;
        weights_of(layer, i - layer->sources, &thread);
    }
    if (!where.caller)
        frnn_leave_float_mode(mode);
}

/* The calling thread asks whether to go on, while it waits for tasks of other threads. */
static void ask(void *context)
{
    const frnn_layer_pull *layer = context;
    if (frnn_is_on(layer->progress))
        frnn_ask(layer->progress);
}

static void run(frnn_layer_pull *layer, size_t tasks, frnn_task *task)
{
    layer->progress->forks = frnn_forks();
    if (frnn_is_on(layer->progress) && !frnn_parallel(tasks, layer->threads, task, ask, layer))
        frnn_give_up(layer->progress, FRNN_FORKED);
}

static void chunk_back(frnn_layer_pull *layer)
{
    const bool weights = layer->directions[0].weights != NULL;
    memset(layer->teams, 0, layer->D * layer->parts * sizeof *layer->teams);
    run(layer, layer->D * layer->parts * layer->sharers, steps_task);
    for (size_t d = 0; d < layer->D && weights; d++)
        frnn_terms_take(&layer->directions[d], layer->begin, layer->end);
    run(layer, layer->sources + (weights ? layer->threads : 0), products_task);
    for (size_t d = 0; d < layer->D && weights; d++)
        frnn_terms_drop(&layer->directions[d], frnn_terms_ready(&layer->directions[d], layer->begin == 0));
}

/* Gradients of what the layer read: zeros past the rows' ends, and everywhere if directions add to them. By step, only
 * those of steps that a row has are read. */
static void clear_source(const frnn_back *back)
{
    const frnn_sequence *to = &back->dsource;
    for (size_t row = 0; row < back->tape->B && to->base && to->order == FRNN_BY_TIME; row++)
        for (size_t t = back->adds ? 0 : back->tape->lengths[row]; t < back->tape->T; t++)
            memset(frnn_sequence_at(to, t, row), 0, back->source_row);
}

void frnn_layer_pull_begin(frnn_layer_pull *layer)
{
    const size_t steps = frnn_tape_longest(layer->directions[0].tape);
    for (size_t d = 0; d < layer->D; d++) {
        frnn_back_begin(&layer->directions[d]);
        if (layer->directions[d].weights)
            frnn_terms_clear(&layer->directions[d]);
    }
    clear_source(&layer->directions[0]);
    for (size_t p = 0; p < layer->parts && steps == 0; p++)
        for (size_t d = 0; d < layer->D; d++)
            frnn_back_initial(&layer->directions[d], p);
}

/* Chunks are counted from the record's first step, so that all but the last one are whole. */
void frnn_layer_pull_run(frnn_layer_pull *layer)
{
    const frnn_back *back = &layer->directions[0];
    const size_t steps = frnn_tape_longest(back->tape), from = back->record->from;
    for (layer->end = steps < back->record->until ? steps : back->record->until;
         layer->end > from && frnn_is_on(layer->progress); layer->end = layer->begin) {
        layer->begin = from + (layer->end - 1 - from) / back->chunk * back->chunk;
        chunk_back(layer);
    }
}

static void lay_out(frnn_layer_pull *layer, frnn_arena *arena)
{
    const frnn_back *back = &layer->directions[0];
    layer->teams = frnn_arena_take(arena, layer->D * layer->parts, sizeof *layer->teams);
    for (size_t d = 0; d < layer->D; d++)
        frnn_back_lay_out(&layer->directions[d], arena);
    const size_t inputs = back->source_row / back->number, out = back->params->out, H = back->params->spec.hidden_size;
    const size_t outputs = out > H ? out : H, columns = inputs > outputs ? inputs : outputs; /* of the widest b */
    layer->scratch_bytes = frnn_outer_numbers(columns, back->params->kernels->width) * back->number;
    layer->scratch = frnn_arena_take(arena, back->weights ? layer->threads : 0, layer->scratch_bytes);
}

bool frnn_layer_pull_allocate(frnn_layer_pull *layer)
{
    frnn_arena arena = {0};
    lay_out(layer, &arena);
    if (!frnn_arena_allocate_pages(&arena))
        return false;
    layer->memory = arena.memory;
    lay_out(layer, &arena);
    return true;
}

void frnn_layer_pull_free(frnn_layer_pull *layer) { frnn_pages_give(layer->memory); }
