#include <stdlib.h>
#include <string.h>

#include "tape.h"

/* One layer in one direction. */
typedef struct tracing {
    const frnn_tape *tape;
    const frnn_trace *to;
    size_t index;
    char *row; /* [gate][unit], then [state][unit] */
} tracing;

static bool is_reverse(const tracing *self)
{
    const frnn_params *params = self->tape->params;
    return self->index % params->D || !params->spec.forward;
}

/* With the states beside h before a step. */
static const void *row_before(const tracing *self, size_t time, size_t row)
{
    const frnn_tape *tape = self->tape;
    const bool reverse = is_reverse(self), first = time == (reverse ? tape->lengths[row] - 1 : 0);
    if (first)
        return frnn_tape_start(tape, self->index, row);
    return frnn_tape_row(tape, self->index, 0, reverse ? time + 1 : time - 1, row);
}

static void put(void *array, size_t at, size_t bytes, const void *from)
{
    if (array && from)
        memcpy((char *)array + at * bytes, from, bytes);
    else if (array)
        memset((char *)array + at * bytes, 0, bytes);
}

static void read_step(const tracing *self, size_t time, size_t row)
{
    const frnn_tape *tape = self->tape;
    const frnn_params *params = tape->params;
    const void *stages[] = {frnn_tape_row(tape, self->index, 0, time, row),
                            frnn_tape_row(tape, self->index, 1, time, row)};
    const void *before = row_before(self, time, row);
    frnn_past past = {.tape = {&stages[0], &stages[1]}, .before = &before};
    const frnn_gates gates = {&params->layers[self->index], 1, &past, (void *const *)&self->row};
    params->kernels->gates(&gates);
}

/* Of a step, or zeros past a row's end. */
static void put_step(const tracing *self, size_t time, size_t row)
{
    const frnn_tape *tape = self->tape;
    const frnn_params *params = tape->params;
    const size_t H = params->spec.hidden_size * params->number_bytes, out = params->out * params->number_bytes;
    const size_t at = time * tape->B + row, G = frnn_cell_gates(params->spec.cell);
    const bool is_there = time < tape->lengths[row];
    const char *outputs = tape->outputs + self->index / params->D * frnn_tape_output_bytes(tape);
    if (is_there)
        read_step(self, time, row);
    for (size_t g = 0; g < G && params->spec.cell != FRNN_RNN; g++)
        put(self->to->gates[g], at, H, is_there ? self->row + g * H : NULL);
    for (size_t s = 1; s < params->states; s++)
        put(self->to->states[s], at, H, is_there ? self->row + (G + s - 1) * H : NULL);
    put(self->to->states[0], at, out, is_there ? outputs + (at * params->D + self->index % params->D) * out : NULL);
}

frnn_status frnn_tape_read(const frnn_tape *tape, size_t index, const frnn_trace *to)
{
    const frnn_params *params = tape->params;
    const size_t numbers = (frnn_cell_gates(params->spec.cell) + params->states) * params->spec.hidden_size;
    const tracing self = {tape, to, index, malloc(numbers * params->number_bytes)};
    if (!self.row)
        return FRNN_NO_MEMORY;
    const uint64_t mode = frnn_enter_float_mode();
    for (size_t time = 0; time < tape->T; time++)
        for (size_t row = 0; row < tape->B; row++)
            put_step(&self, time, row);
    frnn_leave_float_mode(mode);
    free(self.row);
    return FRNN_OK;
}
