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

static void put(void *array, size_t at, size_t bytes, const void *from)
{
    if (array && from)
        memcpy((char *)array + at * bytes, from, bytes);
    else if (array)
        memset((char *)array + at * bytes, 0, bytes);
}

static const void *sums_row(const tracing *self, int stage, size_t step, size_t row)
{
    const frnn_sequence sums = frnn_record_sums(&self->tape->all, self->index, stage);
    return sums.base ? frnn_sequence_at(&sums, step, row) : NULL;
}

static void read_step(const tracing *self, size_t step, size_t row)
{
    const frnn_params *params = self->tape->params;
    const void *stages[] = {sums_row(self, 0, step, row), sums_row(self, 1, step, row)};
    const void *before = frnn_record_before(&self->tape->all, self->index, step, row);
    frnn_past past = {.tape = {&stages[0], &stages[1]}, .before = &before};
    const frnn_gates gates = {&params->layers[self->index], 1, &past, (void *const *)&self->row};
    params->kernels->gates(&gates);
}

/* Of a time, or zeros past a row's end. */
static void put_time(const tracing *self, size_t time, size_t row)
{
    const frnn_tape *tape = self->tape;
    const frnn_params *params = tape->params;
    const size_t H = params->spec.hidden_size * params->number_bytes, out = params->out * params->number_bytes;
    const size_t at = time * tape->B + row, G = frnn_cell_gates(params->spec.cell), direction = self->index % params->D;
    const bool is_there = time < tape->lengths[row], reverse = direction || !params->spec.forward;
    const size_t step = reverse && is_there ? tape->lengths[row] - 1 - time : time;
    const frnn_sequence outputs = frnn_record_outputs(&tape->all, self->index / params->D);
    if (is_there)
        read_step(self, step, row);
    for (size_t g = 0; g < G && params->spec.cell != FRNN_RNN; g++)
        put(self->to->gates[g], at, H, is_there ? self->row + g * H : NULL);
    for (size_t s = 1; s < params->states; s++)
        put(self->to->states[s], at, H, is_there ? self->row + (G + s - 1) * H : NULL);
    const char *h = frnn_sequence_at(&outputs, outputs.order == FRNN_BY_TIME ? time : step, row);
    put(self->to->states[0], at, out, is_there ? h + direction * out : NULL);
}

frnn_status frnn_tape_read(const frnn_tape *tape, size_t index, size_t begin, size_t end, const frnn_trace *to)
{
    const frnn_params *params = tape->params;
    const size_t numbers = (frnn_cell_gates(params->spec.cell) + params->states) * params->spec.hidden_size;
    const tracing self = {tape, to, index, malloc(numbers * params->number_bytes)};
    if (!self.row)
        return FRNN_NO_MEMORY;
    const uint64_t mode = frnn_enter_float_mode();
    for (size_t time = begin; time < end; time++)
        for (size_t row = 0; row < tape->B; row++)
            put_time(&self, time, row);
    frnn_leave_float_mode(mode);
    free(self.row);
    return FRNN_OK;
}
