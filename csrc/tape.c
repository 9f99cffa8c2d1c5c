#include "tape.h"

#include "pages.h"

static void lay_out(frnn_tape *tape, frnn_arena *arena)
{
    const frnn_params *params = tape->params;
    const frnn_layer *layer = &params->layers[0];
    const size_t number = params->number_bytes, L = params->spec.num_layers, B = tape->B;
    const size_t LD = L * params->D, rows = frnn_arena_product(arena, tape->T, B);
    tape->lengths = frnn_arena_take(arena, B, sizeof *tape->lengths);
    tape->rows = frnn_arena_take(arena, B, sizeof *tape->rows);
    tape->x = frnn_arena_take(arena, rows, params->spec.input_size * number);
    tape->outputs = frnn_arena_take(arena, frnn_arena_product(arena, rows, LD), params->out * number);
    tape->h = frnn_arena_take(arena, frnn_arena_product(arena, LD, B), params->out * number);
    for (int s = 0; s < layer->stages; s++) {
        const frnn_stage *stage = &layer->stage[s];
        const size_t states = s == 0 ? params->states - 1 : 0;
        tape->sums_row_bytes[s] = stage->sums_row_bytes + states * stage->vector_row_bytes;
        if (stage->takes_x) /* a projection's sums are its outputs */
            tape->sums[s] = frnn_arena_take(arena, frnn_arena_product(arena, LD, rows), tape->sums_row_bytes[s]);
    }
    if (params->states > 1)
        tape->start = frnn_arena_take(arena, frnn_arena_product(arena, LD, B), tape->sums_row_bytes[0]);
}

static const char *row_at(const frnn_array *array, size_t outer, size_t row)
{
    return (const char *)array->data + (ptrdiff_t)outer * array->outer + (ptrdiff_t)row * array->row;
}

/* The states beside h before the first step, where the kernel keeps those after a step. */
static void fill_start(frnn_tape *tape, const frnn_call *call)
{
    const frnn_params *params = tape->params;
    const frnn_stage *stage = &params->layers[0].stage[0];
    const size_t number = params->number_bytes, vector = params->kernels->width * number;
    const size_t H = params->spec.hidden_size * number, unit = (stage->sums + params->states - 1) * vector;
    memset(tape->start, 0, params->spec.num_layers * params->D * tape->B * tape->sums_row_bytes[0]);
    for (size_t s = 1; s < params->states; s++)
        for (size_t i = 0; i < params->spec.num_layers * params->D * tape->B && call->initial[s].data; i++) {
            const char *from = row_at(&call->initial[s], i / tape->B, i % tape->B);
            char *to = tape->start + i * tape->sums_row_bytes[0] + (stage->sums + s - 1) * vector;
            for (size_t at = 0; at < H; at += vector, to += unit)
                memcpy(to, from + at, H - at < vector ? H - at : vector);
        }
}

static void fill(frnn_tape *tape, const frnn_call *call)
{
    const frnn_params *params = tape->params;
    const size_t I = params->spec.input_size * params->number_bytes, out = params->out * params->number_bytes;
    for (size_t r = 0; r < tape->B; r++)
        tape->lengths[r] = call->lengths ? call->lengths[r] : call->T;
    for (size_t r = 0; r < tape->B; r++)
        for (size_t t = 0; t < tape->lengths[r]; t++)
            memcpy(tape->x + (t * tape->B + r) * I, row_at(&call->x, t, r), I);
    for (size_t i = 0; i < params->spec.num_layers * params->D * tape->B; i++)
        memcpy(tape->h + i * out,
               call->initial[0].data ? row_at(&call->initial[0], i / tape->B, i % tape->B) : params->zeros, out);
    if (tape->start)
        fill_start(tape, call);
}

frnn_tape *frnn_tape_new(const frnn_params *params, const frnn_call *call)
{
    frnn_tape *tape = malloc(sizeof *tape);
    if (!tape)
        return NULL;
    *tape = (frnn_tape){.params = params, .T = call->T, .B = call->B, .return_sequences = call->return_sequences};
    frnn_arena arena = {0};
    lay_out(tape, &arena);
    if (!frnn_arena_allocate_pages(&arena)) {
        free(tape);
        return NULL;
    }
    tape->memory = arena.memory;
    lay_out(tape, &arena);
    tape->bytes = arena.used;
    fill(tape, call);
    return tape;
}

size_t frnn_tape_bytes(const frnn_tape *tape) { return tape->bytes; }

void frnn_tape_free(frnn_tape *tape)
{
    if (tape)
        frnn_pages_give(tape->memory);
    free(tape);
}
