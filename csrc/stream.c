/* A stream: one step at a time of a stack that runs forward, with everything that a step needs made beforehand.
 *
 * (a) h of all layers lies in two slots that take turns: a step reads h of the step before where that step wrote it,
 *     and writes the other slot. So nothing is copied, and an output stays until its slot's next turn.
 * (b) A run writes its final h to the other slot too, and turns them if it succeeds: if not, it has changed nothing. A
 *     state that is set goes to the slot that does not hold the last output.
 * (c) A step multiplies x and h in the step, without sums kept: the bits are those of call.c.
 */
#include "arena.h"
#include "kernel.h"

struct frnn_stream {
    const frnn_params *params;
    size_t B;
    size_t h_row, c_row; /* bytes of a row of h, and of c where the kernels keep it: padded to whole vectors */
    int newest;          /* the slot that holds the state */
    int output;          /* the slot that a step or a run wrote last */

    frnn_arena arena;              /* of all below */
    char *h[2];                    /* [layer][row]: the slots */
    char *c;                       /* LSTM: [layer][row], padded, in place */
    char *c_n;                     /* LSTM: [layer][row], dense: what a run writes before it is known to succeed */
    char *z;                       /* two stages: [row], padded */
    void **middle;                 /* two stages: rows of H */
    const void **x_rows, **h_rows; /* of one step of one layer */
    void **y_rows;
};

static bool has_c(const frnn_stream *self) { return self->params->spec.cell == FRNN_LSTM; }

static size_t c_bytes(const frnn_stream *self) { return self->params->spec.hidden_size * self->params->element; }

/* Once to learn the size, once for real. */
static void lay_out(frnn_stream *self)
{
    const frnn_params *params = self->params;
    frnn_arena *arena = &self->arena;
    const size_t rows = frnn_arena_product(arena, params->spec.num_layers, self->B), c_rows = has_c(self) ? rows : 0;
    const size_t two = params->layers[0].stages == 2 ? self->B : 0;
    for (int slot = 0; slot < 2; slot++)
        self->h[slot] = frnn_arena_take(arena, rows, self->h_row);
    self->c = frnn_arena_take(arena, c_rows, self->c_row);
    self->c_n = frnn_arena_take(arena, c_rows, c_bytes(self));
    self->z = frnn_arena_take(arena, has_c(self) ? 0 : two, self->c_row);
    self->middle = frnn_arena_take(arena, two, sizeof *self->middle);
    char *middle = frnn_arena_take(arena, two, c_bytes(self));
    for (size_t r = 0; r < two && arena->base; r++)
        self->middle[r] = middle + r * c_bytes(self);
    self->x_rows = frnn_arena_take(arena, self->B, sizeof *self->x_rows);
    self->h_rows = frnn_arena_take(arena, self->B, sizeof *self->h_rows);
    self->y_rows = frnn_arena_take(arena, self->B, sizeof *self->y_rows);
}

frnn_status frnn_stream_new(const frnn_params *params, size_t B, frnn_stream **result)
{
    assert(B > 0 && params->spec.forward && !params->spec.reverse);
    frnn_stream *self = malloc(sizeof *self);
    if (!self)
        return FRNN_NO_MEMORY;
    *self = (frnn_stream){
        .params = params,
        .B = B,
        .h_row = params->out * params->element,
        .c_row = frnn_unit_bytes(params, &params->layers[0].stage[0]),
    };
    lay_out(self);
    if (!frnn_arena_allocate(&self->arena, NULL, 0)) {
        free(self);
        return FRNN_NO_MEMORY;
    }
    lay_out(self);
    frnn_stream_set_state(self, NULL, NULL);
    *result = self;
    return FRNN_OK;
}

void frnn_stream_free(frnn_stream *self)
{
    if (self)
        free(self->arena.memory);
    free(self);
}

/* One step of one layer: all that a stream does with kernels. */
static void step_layer(frnn_stream *self, size_t layer, const char *x, ptrdiff_t x_row)
{
    const char *h = self->h[self->newest] + layer * self->B * self->h_row;
    char *y = self->h[!self->newest] + layer * self->B * self->h_row;
    for (size_t r = 0; r < self->B; r++) {
        self->x_rows[r] = x + (ptrdiff_t)r * x_row;
        self->h_rows[r] = h + r * self->h_row;
        self->y_rows[r] = y + r * self->h_row;
    }
    frnn_steps step = {
        .layer = &self->params->layers[layer],
        .n = self->B,
        .steps = 1,
        .x = self->x_rows,
        .h = self->h_rows,
        .y = self->y_rows,
        .middle = self->middle,
        .carry = has_c(self) ? self->c + layer * self->B * self->c_row : self->z,
        .parity = (size_t)self->newest, /* the panels that one step read last, the next reads first */
        .shares = 1,
    };
    self->params->kernels->steps(&step);
}

int frnn_stream_step(frnn_stream *self, const void *x, ptrdiff_t x_row)
{
    const uint64_t mode = frnn_enter_float_mode();
    step_layer(self, 0, x, x_row);
    for (size_t layer = 1; layer < self->params->spec.num_layers; layer++)
        step_layer(self, layer, self->h[!self->newest] + (layer - 1) * self->B * self->h_row, (ptrdiff_t)self->h_row);
    frnn_leave_float_mode(mode);
    return self->output = self->newest = !self->newest;
}

int frnn_stream_newest(const frnn_stream *self) { return self->newest; }

const void *frnn_stream_output(const frnn_stream *self, int slot)
{
    return self->h[slot] + (self->params->spec.num_layers - 1) * self->B * self->h_row;
}

void frnn_stream_get_state(const frnn_stream *self, void *h, void *c)
{
    const size_t rows = self->params->spec.num_layers * self->B;
    memcpy(h, self->h[self->newest], rows * self->h_row);
    for (size_t r = 0; r < rows && has_c(self); r++)
        memcpy((char *)c + r * c_bytes(self), self->c + r * self->c_row, c_bytes(self));
}

/* c, dense, to where the kernels keep it. */
static void place_c(frnn_stream *self, const char *c)
{
    for (size_t r = 0; r < self->params->spec.num_layers * self->B; r++)
        memcpy(self->c + r * self->c_row, c + r * c_bytes(self), c_bytes(self));
}

void frnn_stream_set_state(frnn_stream *self, const void *h, const void *c)
{
    const size_t rows = self->params->spec.num_layers * self->B;
    self->newest = !self->output;
    if (h)
        memcpy(self->h[self->newest], h, rows * self->h_row);
    else
        memset(self->h[self->newest], 0, rows * self->h_row);
    if (has_c(self) && c)
        place_c(self, c);
    else if (has_c(self))
        memset(self->c, 0, rows * self->c_row);
}

frnn_status frnn_stream_run(frnn_stream *self, const frnn_call *call)
{
    frnn_call filled = *call;
    filled.B = self->B;
    filled.lengths = NULL;
    filled.h = (frnn_array){self->h[self->newest], (ptrdiff_t)(self->B * self->h_row), (ptrdiff_t)self->h_row};
    filled.c = (frnn_array){self->c, (ptrdiff_t)(self->B * self->c_row), (ptrdiff_t)self->c_row};
    filled.h_n = self->h[!self->newest];
    filled.c_n = self->c_n;
    const frnn_status status = frnn_run(self->params, &filled);
    if (status != FRNN_OK)
        return status;
    self->output = self->newest = !self->newest;
    if (has_c(self))
        place_c(self, self->c_n);
    return FRNN_OK;
}
