#include "back.h"

enum { SOURCE_ROWS = 192 /* of a product for what was read: enough that its panels are read rarely */ };

static size_t vector_row(const frnn_back *back) { return back->layer->steps.stage[0].vector_row_bytes; }

static size_t hidden_row(const frnn_back *back)
{
    return back->layer->steps.stage[back->layer->steps.stages - 1].vector_row_bytes;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t part_rows(const frnn_back_part *part, size_t active)
{
    return active > part->first ? (active - part->first + part->parts - 1) / part->parts : 0;
}

static size_t rank_of(const frnn_back_part *part, size_t i) { return part->first + i * part->parts; }

static frnn_back_pointers make_pointers(frnn_arena *arena, size_t n)
{
    frnn_back_pointers pointers;
    pointers.y = frnn_arena_take(arena, n, sizeof *pointers.y);
    pointers.middle = frnn_arena_take(arena, n, sizeof *pointers.middle);
    pointers.carry = frnn_arena_take(arena, n, sizeof *pointers.carry);
    pointers.later = frnn_arena_take(arena, n, sizeof *pointers.later);
    pointers.before = frnn_arena_take(arena, n, sizeof *pointers.before);
    pointers.h = frnn_arena_take(arena, n, sizeof *pointers.h);
    for (int s = 0; s < FRNN_MOST_STAGES; s++)
        pointers.tape[s] = frnn_arena_take(arena, n, sizeof *pointers.tape[s]);
    return pointers;
}

static void lay_out_part(const frnn_back *back, frnn_back_part *part, frnn_arena *arena)
{
    const size_t n = part->n;
    part->sums = frnn_arena_take(arena, frnn_arena_product(arena, back->chunk, n), vector_row(back));
    part->carry = frnn_arena_take(arena, n, hidden_row(back));
    part->goes_on = frnn_arena_take(arena, 1, sizeof *part->goes_on);
    part->pointers = frnn_arena_take(arena, back->sharers, sizeof *part->pointers);
    for (size_t share = 0; share < back->sharers; share++) {
        const frnn_back_pointers pointers = make_pointers(arena, n);
        if (arena->base)
            part->pointers[share] = pointers;
    }
}

void frnn_back_lay_out(frnn_back *back, frnn_arena *arena)
{
    const size_t B = back->tape->B, rows = frnn_arena_product(arena, back->chunk, B);
    back->gradients = frnn_arena_take(arena, frnn_arena_product(arena, back->chunk + 1, B), back->row_bytes);
    back->zeros = back->tape->resets ? frnn_arena_take(arena, 1, back->row_bytes) : NULL;
    frnn_back_part *parts = frnn_arena_take(arena, back->parts, sizeof *parts);
    back->part = parts;
    for (size_t p = 0; p < back->parts; p++) {
        frnn_back_part part = {.first = p, .parts = back->parts};
        part.n = part_rows(&part, B);
        lay_out_part(back, &part, arena);
        if (parts)
            parts[p] = part;
    }
    const frnn_back_layer *layer = back->layer;
    const size_t product = larger(layer->to_x.sums_row_bytes, layer->to_h.sums_row_bytes);
    back->readers = frnn_arena_take(arena, back->sources, sizeof *back->readers);
    for (size_t i = 0; i < back->sources; i++) {
        frnn_back_reader reader;
        reader.rows = frnn_arena_take(arena, SOURCE_ROWS, sizeof *reader.rows);
        reader.inputs = frnn_arena_take(arena, SOURCE_ROWS, product);
        if (arena->base)
            back->readers[i] = reader;
    }
    if (back->weights)
        frnn_terms_lay_out(back, arena, rows);
}

const char *frnn_back_h(const frnn_back *back, size_t step, size_t row)
{
    if (frnn_tape_is_reset(back->tape, back->index, step, row))
        return back->params->zeros;
    if (step == back->record->from)
        return frnn_tape_mark(back->tape, 0, step / back->tape->segment, back->index, row);
    return frnn_back_at(back, &back->outputs, step - 1, row);
}

static void add_row(const frnn_back *back, char *to, const void *from, size_t n)
{
    if (back->params->spec.dtype == FRNN_FLOAT32)
        for (size_t i = 0; i < n; i++)
            ((float *)to)[i] += ((const float *)from)[i];
    else
        for (size_t i = 0; i < n; i++)
            ((double *)to)[i] += ((const double *)from)[i];
}

static const char *array_row(const frnn_array *array, size_t outer, size_t row)
{
    return (const char *)array->data + (ptrdiff_t)outer * array->outer + (ptrdiff_t)row * array->row;
}

/* Adds the gradients of a row's last h alone: as the final state, and as y where the call returns the last step. */
static void add_last(const frnn_back *back, size_t row, char *to)
{
    const frnn_array *final = &back->pull->dfinal[0];
    if (back->dy.base && back->dy_is_last)
        add_row(back, to, frnn_sequence_at(&back->dy, 0, row), back->params->out);
    if (final->data)
        add_row(back, to, array_row(final, back->index, row), back->params->out);
}

/* The gradients of h after each step that the layer above has: the sums dh start from them. */
static void fill_sums(const frnn_back *back, const frnn_back_part *part, size_t step, size_t steps, size_t begin,
                      size_t end)
{
    const size_t out = back->params->out * back->number, bytes = vector_row(back);
    char *to = part->sums;
    for (size_t s = 0; s < steps; s++)
        for (size_t i = begin; i < end; i++, to += bytes) {
            const size_t row = back->tape->rows[rank_of(part, i)];
            memcpy(to, frnn_back_at(back, &back->dy, step - s, row), out);
            memset(to + out, 0, bytes - out);
        }
}

/* The same of rows whose last step this is, with the gradients of their final h. */
static void fill_last_sums(const frnn_back *back, const frnn_back_part *part, size_t step, size_t begin, size_t end)
{
    char *to = part->sums;
    if (back->dy.base && !back->dy_is_last)
        fill_sums(back, part, step, 1, begin, end);
    else
        memset(to, 0, (end - begin) * vector_row(back));
    for (size_t i = begin; i < end; i++, to += vector_row(back))
        add_last(back, back->tape->rows[rank_of(part, i)], to);
}

static void meet_team(void *team) { frnn_team_meet(team); }

static void meet(const frnn_back_thread *thread)
{
    if (thread->shares > 1)
        frnn_team_meet(thread->team);
}

/* The gradients of the step after one, of row i of a part, y being where those of the step go. Where the row resets between
 * the two, they are zeros, and so is what the later step has left in the carry. */
static const void *later_row(const frnn_back *back, const frnn_back_part *part, const frnn_back_thread *thread,
                             size_t step, size_t i, const char *y)
{
    if (!frnn_tape_is_reset(back->tape, back->index, step + 1, back->tape->rows[rank_of(part, i)]))
        return y - back->tape->B * back->row_bytes;
    if (thread->share == 0)
        memset(part->carry + i * hidden_row(back), 0, hidden_row(back));
    return back->zeros;
}

static void point(const frnn_back *back, const frnn_back_part *part, const frnn_back_thread *thread,
                  const frnn_sequence *sums, size_t end_of_chunk, size_t step, size_t begin, size_t end)
{
    frnn_back_pointers *to_rows = &part->pointers[thread->share];
    const size_t H = back->params->spec.hidden_size, projected = back->layer->row.projected;
    const bool two_stages = back->layer->steps.stage[0].kind == FRNN_STAGE_GRU_NEW_BACK;
    for (size_t i = begin, to = 0; i < end; i++, to++) {
        const size_t rank = rank_of(part, i), row = back->tape->rows[rank];
        char *y = frnn_back_gradients(back, end_of_chunk, step, rank);
        to_rows->y[to] = y;
        to_rows->middle[to] = y + (two_stages ? 2 * H : projected) * back->number;
        to_rows->later[to] = later_row(back, part, thread, step, i, y);
        to_rows->carry[to] = part->carry + i * hidden_row(back);
        for (int s = 0; s < FRNN_MOST_STAGES && sums[s].base; s++)
            to_rows->tape[s][to] = frnn_back_at(back, &sums[s], step, row);
        to_rows->before[to] = frnn_record_before(back->record, back->index, step, row);
        to_rows->h[to] = frnn_back_h(back, step, row);
    }
}

/* Steps back from one on, for rows of a part; `last`: it is the last one of these rows. */
static void go_back(frnn_back *back, const frnn_back_part *part, const frnn_back_thread *thread, size_t end_of_chunk,
                    size_t step, size_t steps, size_t begin, size_t end, bool last)
{
    const bool fill = back->dy.base && !back->dy_is_last;
    const bool turned = back->outputs.order == FRNN_BY_TIME && frnn_back_reverse(back);
    const frnn_sequence sums[FRNN_MOST_STAGES] = {frnn_record_sums(back->record, back->index, 0),
                                                  frnn_record_sums(back->record, back->index, 1)};
    frnn_back_pointers *rows = &part->pointers[thread->share];
    if (begin == end)
        return;
    if (thread->share == 0 && last)
        fill_last_sums(back, part, step, begin, end);
    else if (thread->share == 0 && fill)
        fill_sums(back, part, step, steps, begin, end);
    point(back, part, thread, sums, end_of_chunk, step, begin, end);
    meet(thread);
    frnn_past past = {
        .tape = {rows->tape[0], sums[1].base ? rows->tape[1] : NULL},
        .before = rows->before,
        .h = rows->h,
        .tape_step = {-sums[0].time, -sums[1].time},
        .h_step = turned ? back->outputs.time : -back->outputs.time,
    };
    frnn_steps kernel = {
        .layer = &back->layer->steps,
        .n = end - begin,
        .steps = steps,
        .parity = step,
        .h = rows->later,
        .y = rows->y,
        .y_step = (ptrdiff_t)(back->tape->B * back->row_bytes),
        .carry = rows->carry,
        .from_zeros = last,
        .middle = rows->middle,
        .sums = {last || fill ? part->sums : NULL},
        .share = thread->share,
        .shares = thread->shares,
        .meet = meet_team,
        .context = thread->team,
        .past = &past,
    };
    back->params->kernels->steps(&kernel);
}

/* Whether one of the first n rows of a part resets before a step. */
static bool resets_at(const frnn_back *back, const frnn_back_part *part, size_t step, size_t n)
{
    for (size_t i = 0; back->tape->resets && i < n; i++)
        if (frnn_tape_is_reset(back->tape, back->index, step, back->tape->rows[rank_of(part, i)]))
            return true;
    return false;
}

/* Whether the rows of a step find what is before it elsewhere than other steps do. */
static bool stands_alone(const frnn_back *back, const frnn_back_part *part, size_t step, size_t n)
{
    return step == back->record->from || resets_at(back, part, step, n);
}

/* How many steps from `step` down to `begin` all have the same rows, and one way to find what they read. */
static size_t alike(const frnn_back *back, const frnn_back_part *part, size_t begin, size_t step, size_t n, size_t most)
{
    size_t steps = 1;
    while (steps < most && step >= begin + steps && part_rows(part, frnn_back_active(back->tape, step - steps)) == n &&
           !stands_alone(back, part, step - steps, n))
        steps++;
    return steps;
}

/* Whether the threads of a part go on: all of them do, or none. */
static bool goes_on(const frnn_back_part *part, const frnn_back_thread *thread)
{
    if (thread->shares == 1)
        return frnn_goes_on(thread->progress, thread->asks, thread->alone);
    meet(thread); /* before it is decided anew, all have read it */
    if (thread->share == 0)
        *part->goes_on = frnn_goes_on(thread->progress, thread->asks, thread->alone);
    meet(thread);
    return *part->goes_on;
}

void frnn_back_steps(frnn_back *back, size_t p, size_t begin, size_t end, const frnn_back_thread *thread)
{
    const frnn_back_part *part = &back->part[p];
    for (size_t next = end, steps; next > begin; next -= steps) {
        const size_t step = next - 1, n = part_rows(part, frnn_back_active(back->tape, step));
        const size_t old = part_rows(part, frnn_back_active(back->tape, next));
        if (!goes_on(part, thread))
            return;
        steps = n > old || stands_alone(back, part, step, n) ? 1 : alike(back, part, begin, step, n, thread->steps);
        go_back(back, part, thread, end, step, steps, 0, old, false);
        go_back(back, part, thread, end, step, 1, old, n, true);
    }
    for (size_t i = 0, n = part_rows(part, frnn_back_active(back->tape, begin)); i < n && thread->share == 0; i++)
        memcpy(frnn_back_gradients(back, end, end, rank_of(part, i)),
               frnn_back_gradients(back, end, begin, rank_of(part, i)), back->row_bytes);
}

/* W^T times n rows of gradients: gradients of what was read, to where these belong. */
static void put_source(const frnn_back *back, const frnn_back_reader *reader, char **to, size_t n)
{
    const frnn_stage *stage = &back->layer->to_x;
    const frnn_inputs inputs = {n, reader->rows, reader->inputs, NULL, 0, 1};
    back->params->kernels->input(stage, &inputs);
    for (size_t i = 0; i < n; i++)
        if (back->adds)
            add_row(back, to[i], reader->inputs + i * stage->sums_row_bytes, stage->units);
        else
            memcpy(to[i], reader->inputs + i * stage->sums_row_bytes, stage->units * back->number);
}

/* Those of some steps, for the rows of a part. */
static void read_steps(frnn_back *back, const frnn_back_part *part, const frnn_back_reader *reader, size_t begin,
                       size_t end, size_t end_of_chunk, const frnn_back_thread *thread)
{
    const size_t most = thread->rows < SOURCE_ROWS ? thread->rows : SOURCE_ROWS;
    char *to[SOURCE_ROWS];
    size_t n = 0;
    for (size_t step = end; step-- > begin;)
        for (size_t i = 0, rows = part_rows(part, frnn_back_active(back->tape, step)); i < rows; i++) {
            const size_t rank = rank_of(part, i), row = back->tape->rows[rank];
            to[n] = frnn_back_at(back, &back->dsource, step, row);
            reader->rows[n++] = frnn_back_gradients(back, end_of_chunk, step, rank) + back->layer->row.x * back->number;
            if (n < most)
                continue;
            put_source(back, reader, to, n);
            n = 0;
            if (!frnn_goes_on(thread->progress, thread->asks, thread->alone))
                return;
        }
    if (n)
        put_source(back, reader, to, n);
}

void frnn_back_source(frnn_back *back, size_t source, size_t begin, size_t end, const frnn_back_thread *thread)
{
    const size_t of_part = back->sources / back->parts, i = source % of_part, steps = end - begin;
    if (back->dsource.base && back->layer->to_x.units)
        read_steps(back, &back->part[source / of_part], &back->readers[source], begin + steps * i / of_part,
                   begin + steps * (i + 1) / of_part, end, thread);
}

void frnn_back_begin(frnn_back *back)
{
    const size_t H = back->params->spec.hidden_size * back->number;
    if (back->zeros)
        memset(back->zeros, 0, back->row_bytes);
    for (size_t p = 0; p < back->parts; p++) {
        const frnn_back_part *part = &back->part[p];
        memset(part->carry, 0, part->n * hidden_row(back));
        for (size_t s = 1; s < back->params->states; s++)
            for (size_t i = 0; i < part->n && back->pull->dfinal[s].data; i++)
                memcpy(part->carry + i * hidden_row(back),
                       array_row(&back->pull->dfinal[s], back->index, back->tape->rows[rank_of(part, i)]), H);
    }
}

static char *initial_row(const frnn_back *back, size_t state, size_t numbers, size_t row)
{
    return (char *)back->pull->dinitial[state] + (back->index * back->tape->B + row) * numbers * back->number;
}

/* h before the first step, of rows of a part that have steps. */
static void write_h(const frnn_back *back, const frnn_back_part *part, const frnn_back_reader *reader, size_t begin,
                    size_t end)
{
    const frnn_stage *stage = &back->layer->to_h;
    const size_t out = back->params->out, n = end - begin;
    for (size_t i = 0; i < n; i++)
        reader->rows[i] = frnn_back_gradients(back, 0, 0, rank_of(part, begin + i)) + back->layer->row.h * back->number;
    const frnn_inputs inputs = {n, reader->rows, reader->inputs, NULL, 0, 1};
    back->params->kernels->input(stage, &inputs);
    for (size_t i = 0; i < n; i++) {
        char *to = initial_row(back, 0, out, back->tape->rows[rank_of(part, begin + i)]);
        memcpy(to, reader->inputs + i * stage->sums_row_bytes, out * back->number);
        if (back->params->spec.cell == FRNN_GRU)
            add_row(back, to, part->carry + (begin + i) * hidden_row(back), out);
    }
}

/* h before the first step is the last output and the final state of a row without steps. */
static void write_idle_h(const frnn_back *back, size_t row)
{
    char *to = initial_row(back, 0, back->params->out, row);
    memset(to, 0, back->params->out * back->number);
    add_last(back, row, to);
}

/* Nothing depends on the initial states of a row that resets before its first step. */
static void clear_reset(const frnn_back *back, size_t row)
{
    const frnn_params *params = back->params;
    for (size_t s = 0; s < params->states && frnn_tape_is_reset(back->tape, back->index, 0, row); s++) {
        const size_t numbers = s ? params->spec.hidden_size : params->out;
        if (back->pull->dinitial[s])
            memset(initial_row(back, s, numbers, row), 0, numbers * back->number);
    }
}

void frnn_back_initial(frnn_back *back, size_t p)
{
    const frnn_params *params = back->params;
    const frnn_back_part *part = &back->part[p];
    const size_t H = params->spec.hidden_size, active = part_rows(part, frnn_back_active(back->tape, 0));
    for (size_t i = 0; i < active && back->pull->dinitial[0]; i += SOURCE_ROWS)
        write_h(back, part, &back->readers[p], i, active - i < SOURCE_ROWS ? active : i + SOURCE_ROWS);
    for (size_t i = active; i < part->n && back->pull->dinitial[0]; i++)
        write_idle_h(back, back->tape->rows[rank_of(part, i)]);
    for (size_t s = 1; s < params->states && back->pull->dinitial[s]; s++)
        for (size_t i = 0; i < part->n; i++)
            memcpy(initial_row(back, s, H, back->tape->rows[rank_of(part, i)]), part->carry + i * hidden_row(back),
                   H * back->number);
    for (size_t i = 0; i < active && back->tape->resets; i++)
        clear_reset(back, back->tape->rows[rank_of(part, i)]);
}
