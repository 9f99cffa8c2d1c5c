#include "tape.h"

#include "pages.h"

static size_t output_bytes(const frnn_tape *tape) /* of one row of a layer */
{
    return tape->params->D * tape->params->out * tape->params->number_bytes;
}

static size_t state_bytes(const frnn_params *params, size_t state)
{
    return (state ? params->spec.hidden_size : params->out) * params->number_bytes;
}

/* Layers whose outputs both directions of the next one read. */
static size_t whole_layers(const frnn_tape *tape)
{
    return tape->params->D == 2 ? tape->params->spec.num_layers - 1 : 0;
}

static void lay_out_record(frnn_record *record, frnn_arena *arena)
{
    const frnn_tape *tape = record->tape;
    const size_t stacked = record->layers * tape->params->D;
    const size_t rows = frnn_arena_product(arena, frnn_tape_steps(tape), tape->B);
    const size_t own = frnn_tape_is_marked(tape) ? record->layers : record->layers - whole_layers(tape);
    record->outputs = frnn_arena_take(arena, frnn_arena_product(arena, rows, own), output_bytes(tape));
    for (int s = 0; s < FRNN_MOST_STAGES; s++)
        if (tape->sums_row_bytes[s])
            record->sums[s] = frnn_arena_take(arena, frnn_arena_product(arena, stacked, rows), tape->sums_row_bytes[s]);
    if (tape->params->states > 1)
        record->start = frnn_arena_take(arena, frnn_arena_product(arena, stacked, tape->B), tape->sums_row_bytes[0]);
}

static size_t segments_of(const frnn_tape *tape)
{
    return frnn_tape_is_marked(tape) ? (tape->T - 1) / tape->segment + 1 : 1;
}

static void lay_out(frnn_tape *tape, const frnn_call *call, frnn_arena *arena)
{
    const frnn_params *params = tape->params;
    const size_t L = params->spec.num_layers, B = tape->B, rows = frnn_arena_product(arena, tape->T, B);
    const size_t marks = frnn_arena_product(arena, segments_of(tape), frnn_arena_product(arena, L * params->D, B));
    tape->lengths = frnn_arena_take(arena, B, sizeof *tape->lengths);
    tape->rows = frnn_arena_take(arena, B, sizeof *tape->rows);
    tape->resets = call->resets ? frnn_arena_take(arena, rows, 1) : NULL;
    tape->zeros = call->resets ? frnn_arena_take(arena, 1, tape->sums_row_bytes[0]) : NULL;
    tape->x = frnn_arena_take(arena, rows, tape->x_row);
    tape->whole = frnn_arena_take(arena, frnn_arena_product(arena, rows, whole_layers(tape)), output_bytes(tape));
    for (size_t s = 0; s < params->states; s++)
        tape->marks[s] = frnn_arena_take(arena, marks, state_bytes(params, s));
    if (!frnn_tape_is_marked(tape))
        lay_out_record(&tape->all, arena);
}

/* The states beside h, where the kernel keeps those after a step. */
static void fill_start(frnn_record *record)
{
    const frnn_tape *tape = record->tape;
    const frnn_params *params = tape->params;
    const frnn_stage *stage = &params->layers[0].stage[0];
    const size_t vector = params->kernels->width * params->number_bytes, B = tape->B;
    const size_t H = params->spec.hidden_size * params->number_bytes,
                 unit = (stage->sums + params->states - 1) * vector;
    const size_t n = record->layers * tape->params->D * B, first = record->first * tape->params->D;
    memset(record->start, 0, n * tape->sums_row_bytes[0]);
    for (size_t s = 1; s < params->states; s++)
        for (size_t i = 0; i < n; i++) {
            const char *from = frnn_tape_mark(tape, s, record->from / tape->segment, first + i / B, i % B);
            char *to = record->start + i * tape->sums_row_bytes[0] + (stage->sums + s - 1) * vector;
            for (size_t at = 0; at < H; at += vector, to += unit)
                memcpy(to, from + at, H - at < vector ? H - at : vector);
        }
}

static const char *row_at(const frnn_array *array, size_t outer, size_t row)
{
    return (const char *)array->data + (ptrdiff_t)outer * array->outer + (ptrdiff_t)row * array->row;
}

static void fill_resets(frnn_tape *tape, const frnn_call *call)
{
    memset(tape->zeros, 0, tape->sums_row_bytes[0]);
    for (size_t r = 0; r < tape->B; r++)
        for (size_t t = 0; t < tape->lengths[r]; t++)
            tape->resets[t * tape->B + r] =
                call->resets[(ptrdiff_t)t * call->reset_time + (ptrdiff_t)r * call->reset_row];
}

static void fill(frnn_tape *tape, const frnn_call *call)
{
    const frnn_params *params = tape->params;
    const frnn_lookup given = {call->tokens, &params->embedding, NULL};
    const size_t B = tape->B;
    for (size_t r = 0; r < B; r++)
        tape->lengths[r] = call->lengths ? call->lengths[r] : call->T;
    for (size_t r = 0; r < B; r++)
        for (size_t t = 0; t < tape->lengths[r]; t++) {
            const char *x = row_at(&call->x, t, r);
            char *to = tape->x + (t * B + r) * tape->x_row;
            if (call->tokens)
                *(int64_t *)to = (int64_t)frnn_token_at(&given, x);
            else
                memcpy(to, x, tape->x_row);
        }
    if (tape->resets)
        fill_resets(tape, call);
    for (size_t s = 0; s < params->states; s++)
        for (size_t i = 0; i < params->spec.num_layers * params->D * B; i++)
            memcpy(frnn_tape_mark(tape, s, 0, i / B, i % B),
                   call->initial[s].data ? row_at(&call->initial[s], i / B, i % B) : params->zeros,
                   state_bytes(params, s));
}

frnn_tape *frnn_tape_new(const frnn_params *params, const frnn_call *call, size_t segment)
{
    frnn_tape *tape = malloc(sizeof *tape);
    if (!tape)
        return NULL;
    *tape = (frnn_tape){.params = params,
                        .T = call->T,
                        .B = call->B,
                        .return_sequences = call->return_sequences,
                        .segment = segment,
                        .x_row = call->tokens ? sizeof(int64_t) : params->spec.input_size * params->number_bytes,
                        .lookup = {call->tokens ? FRNN_TOKENS_64 : FRNN_NO_TOKENS, &params->embedding, NULL},
                        .all = {.tape = tape, .layers = params->spec.num_layers}};
    for (int s = 0; s < params->layers[0].stages; s++) {
        const frnn_stage *stage = &params->layers[0].stage[s];
        const size_t states = s == 0 ? params->states - 1 : 0;
        if (stage->takes_x) /* a projection's sums are its outputs */
            tape->sums_row_bytes[s] = stage->sums_row_bytes + states * stage->vector_row_bytes;
    }
    frnn_arena arena = {0};
    lay_out(tape, call, &arena);
    if (!frnn_arena_allocate_pages(&arena)) {
        free(tape);
        return NULL;
    }
    tape->memory = arena.memory;
    lay_out(tape, call, &arena);
    tape->bytes = arena.used;
    fill(tape, call);
    if (!frnn_tape_is_marked(tape))
        frnn_record_begin(&tape->all, 0);
    return tape;
}

size_t frnn_tape_bytes(const frnn_tape *tape) { return tape->bytes; }

void frnn_tape_free(frnn_tape *tape)
{
    if (tape)
        frnn_pages_give(tape->memory);
    free(tape);
}

char *frnn_tape_mark(const frnn_tape *tape, size_t state, size_t segment, size_t index, size_t row)
{
    const frnn_params *params = tape->params;
    const size_t stacked = params->spec.num_layers * params->D;
    return tape->marks[state] + ((segment * stacked + index) * tape->B + row) * state_bytes(params, state);
}

frnn_sequence frnn_tape_whole(const frnn_tape *tape, size_t layer)
{
    const size_t row = output_bytes(tape), each = tape->T * tape->B * row;
    if (layer == 0)
        return frnn_sequence_of(tape->x, FRNN_BY_TIME, tape->B, tape->x_row);
    return frnn_sequence_of(tape->whole + (layer - 1) * each, FRNN_BY_TIME, tape->B, row);
}

bool frnn_record_new(frnn_record *record, const frnn_tape *tape, size_t first, size_t layers)
{
    *record = (frnn_record){.tape = tape, .first = first, .layers = layers};
    frnn_arena arena = {0};
    lay_out_record(record, &arena);
    if (!frnn_arena_allocate_pages(&arena))
        return false;
    record->memory = arena.memory;
    lay_out_record(record, &arena);
    return true;
}

void frnn_record_free(frnn_record *record) { frnn_pages_give(record->memory); }

void frnn_record_begin(frnn_record *record, size_t segment)
{
    const frnn_tape *tape = record->tape;
    const size_t steps = frnn_tape_steps(tape);
    record->from = segment * steps;
    record->until = tape->T - record->from < steps ? tape->T : record->from + steps;
    if (record->start)
        fill_start(record);
}

frnn_sequence frnn_record_outputs(const frnn_record *record, size_t layer)
{
    const frnn_tape *tape = record->tape;
    const size_t first = frnn_tape_is_marked(tape) ? record->first : whole_layers(tape), row = output_bytes(tape);
    if (layer < first)
        return frnn_tape_whole(tape, layer + 1);
    char *base = record->outputs + (layer - first) * frnn_tape_steps(tape) * tape->B * row;
    return frnn_sequence_of(base, FRNN_BY_STEP, tape->B, row);
}

frnn_sequence frnn_record_source(const frnn_record *record, size_t layer)
{
    if (layer == 0 || record->tape->params->D == 2)
        return frnn_tape_whole(record->tape, layer);
    return frnn_record_outputs(record, layer - 1);
}

frnn_sequence frnn_record_sums(const frnn_record *record, size_t index, int stage)
{
    const frnn_tape *tape = record->tape;
    const size_t row = tape->sums_row_bytes[stage], local = index - record->first * tape->params->D;
    char *sums = record->sums[stage];
    return frnn_sequence_of(sums ? sums + local * frnn_tape_steps(tape) * tape->B * row : NULL, FRNN_BY_STEP, tape->B,
                            row);
}

const char *frnn_record_before(const frnn_record *record, size_t index, size_t step, size_t row)
{
    const frnn_tape *tape = record->tape;
    const size_t local = index - record->first * tape->params->D;
    if (frnn_tape_is_reset(tape, index, step, row))
        return tape->zeros;
    if (step > record->from) {
        const frnn_sequence sums = frnn_record_sums(record, index, 0);
        return frnn_sequence_at(&sums, step - 1 - record->from, row);
    }
    return record->start ? record->start + (local * tape->B + row) * tape->sums_row_bytes[0] : NULL;
}
