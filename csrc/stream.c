/* A stream: one step at a time of a stack that runs forward, with everything that a step needs made beforehand.
 *
 * (a) h of all layers lies in two slots that alternate: a step reads h of the step before where that step wrote it, and
 *     writes the other slot. So nothing is copied, and an output stays until its slot is written again.
 *     That slot's content is needed no more, so a caller who wants to keep it moves the slot to other memory.
 * (b) A run writes its final h to the other slot too, and makes it the newest if it succeeds: if not, it has changed
 *     nothing. A state that is set goes there as well.
 * (c) A step multiplies x and h in the step, without sums kept: the bits are those of call.c.
 * (d) A step that may take several threads, and is long enough for them, is a run of one step: it has a plan, which learns.
 */
#include "embedding.h"
#include "plan.h"
#include "step.h"

/* A step that is expected to take more is worth what a run costs beside it: two microseconds. */
#define LONG_SECONDS 60e-6

struct frnn_stream {
    const frnn_params *params;
    size_t B;
    size_t h_row, state_row, carry_row; /* bytes of a row of h, of a state beside it, and of carry */
    int newest;                         /* the slot that holds the state */
    bool is_long;                       /* whether a step may be worth several threads */

    frnn_arena arena;              /* of all below, but for slots that were moved */
    char *h[2];                    /* [layer][row]: the slots */
    char *carry;                   /* [layer][row], as kernels keep it: a state is padded to whole vectors */
    char *run_final;               /* [state][layer][row], dense: what a run writes before it is known to succeed */
    void **h_rows[2];              /* [layer][row] of the slots */
    void **carry_rows;             /* [layer][row] */
    const void **x_rows;           /* [row] */
    const void **found;            /* [row]: rows that tokens name */
    void **middle;                 /* two stages: rows of H */
    void *x_integers, *h_integers; /* of rows, where weights are bytes */
};

/* Rows of all layers. */
static size_t rows_of(const frnn_stream *self) { return self->params->spec.num_layers * self->B; }

size_t frnn_stream_slot_bytes(const frnn_stream *self) { return rows_of(self) * self->h_row; }

static void place_slot(frnn_stream *self, int slot, char *memory)
{
    self->h[slot] = memory;
    for (size_t i = 0; i < rows_of(self); i++)
        self->h_rows[slot][i] = memory + i * self->h_row;
}

void frnn_stream_move_slot(frnn_stream *self, void *memory) { place_slot(self, !self->newest, memory); }

/* Once to learn the size, once for real. */
static void lay_out(frnn_stream *self)
{
    const frnn_params *params = self->params;
    frnn_arena *arena = &self->arena;
    const size_t rows = frnn_arena_product(arena, params->spec.num_layers, self->B);
    const size_t two = params->layers[0].stages == 2 ? self->B : 0;
    for (int slot = 0; slot < 2; slot++)
        self->h[slot] = frnn_arena_take(arena, rows, self->h_row);
    self->carry = frnn_arena_take(arena, rows, self->carry_row);
    self->run_final = frnn_arena_take(arena, rows, (params->states - 1) * self->state_row);
    for (int slot = 0; slot < 2; slot++)
        self->h_rows[slot] = frnn_arena_take(arena, rows, sizeof *self->h_rows[slot]);
    self->carry_rows = frnn_arena_take(arena, rows, sizeof *self->carry_rows);
    self->x_rows = frnn_arena_take(arena, self->B, sizeof *self->x_rows);
    self->found = frnn_arena_take(arena, self->B, sizeof *self->found);
    self->middle = frnn_arena_take(arena, two, sizeof *self->middle);
    self->x_integers = frnn_arena_take(arena, self->B, params->x_integer_bytes);
    self->h_integers = frnn_arena_take(arena, self->B, params->h_integer_bytes);
    char *middle = frnn_arena_take(arena, two, self->state_row);
    if (!arena->base)
        return;
    for (size_t r = 0; r < two; r++)
        self->middle[r] = middle + r * self->state_row;
    for (int slot = 0; slot < 2; slot++)
        place_slot(self, slot, self->h[slot]);
    for (size_t i = 0; i < rows; i++)
        self->carry_rows[i] = self->carry + i * self->carry_row;
}

frnn_status frnn_stream_new(const frnn_params *params, size_t B, frnn_stream **result)
{
    assert(B > 0);
    if (params->spec.reverse)
        return FRNN_REVERSE;
    frnn_stream *self = malloc(sizeof *self);
    if (!self)
        return FRNN_NO_MEMORY;
    *self = (frnn_stream){
        .params = params,
        .B = B,
        .h_row = params->out * params->number_bytes,
        .state_row = params->spec.hidden_size * params->number_bytes,
        .carry_row = frnn_carry_bytes(params),
    };
    lay_out(self);
    if (!frnn_arena_allocate(&self->arena, NULL, 0)) {
        free(self);
        return FRNN_NO_MEMORY;
    }
    lay_out(self);
    frnn_stream_set_state(self, NULL);
    const uint64_t mode = frnn_enter_float_mode(); /* the plan would leave flags */
    self->is_long = frnn_make_plan(params, 1, B, 1).seconds > LONG_SECONDS;
    frnn_leave_float_mode(mode);
    *result = self;
    return FRNN_OK;
}

void frnn_stream_free(frnn_stream *self)
{
    if (self)
        free(self->arena.memory);
    free(self);
}

/* A step from the rows of x. */
static int take_step(frnn_stream *self, const frnn_lookup *lookup)
{
    const frnn_step step = {
        .params = self->params,
        .n = self->B,
        .apart = self->B,
        .x = self->x_rows,
        .lookup = lookup,
        .found = self->found,
        .h = self->h_rows[self->newest],
        .y = self->h_rows[!self->newest],
        .carry = self->carry_rows,
        .middle = self->middle,
        .x_integers = self->x_integers,
        .h_integers = self->h_integers,
        .parity = (size_t)self->newest,
    };
    const uint64_t mode = frnn_enter_float_mode();
    frnn_step_rows(&step);
    frnn_leave_float_mode(mode);
    return self->newest = !self->newest;
}

/* Where the top layer's output is in a slot. */
static char *output(const frnn_stream *self, int slot)
{
    return self->h[slot] + (rows_of(self) - self->B) * self->h_row;
}

static void place_x(frnn_stream *self, const void *x, ptrdiff_t x_row)
{
    for (size_t r = 0; r < self->B; r++)
        self->x_rows[r] = (const char *)x + (ptrdiff_t)r * x_row;
}

int frnn_stream_newest(const frnn_stream *self) { return self->newest; }

const void *frnn_stream_output(const frnn_stream *self, int slot) { return output(self, slot); }

/* Where a state beside h of a row is kept. */
static char *kept_state(const frnn_stream *self, size_t state, size_t row)
{
    return frnn_kept_state(self->params, self->carry + row * self->carry_row, state);
}

void frnn_stream_get_state(const frnn_stream *self, void *const states[])
{
    memcpy(states[0], self->h[self->newest], rows_of(self) * self->h_row);
    for (size_t s = 1; s < self->params->states; s++)
        for (size_t r = 0; r < rows_of(self); r++)
            memcpy((char *)states[s] + r * self->state_row, kept_state(self, s, r), self->state_row);
}

/* A state beside h, dense, to where the kernels keep it. */
static void place_state(frnn_stream *self, size_t state, const char *from)
{
    for (size_t r = 0; r < rows_of(self); r++)
        frnn_keep_state(self->params, self->carry + r * self->carry_row, state,
                        from ? from + r * self->state_row : NULL);
}

void frnn_stream_set_state(frnn_stream *self, const void *const states[])
{
    const void *h = states ? states[0] : NULL;
    self->newest = !self->newest;
    if (h)
        memcpy(self->h[self->newest], h, rows_of(self) * self->h_row);
    else
        memset(self->h[self->newest], 0, rows_of(self) * self->h_row);
    for (size_t s = 1; s < self->params->states; s++)
        place_state(self, s, states ? states[s] : NULL);
}

/* The final states of a run, beside h. */
static char *final_state(const frnn_stream *self, size_t state)
{
    return self->run_final + (state - 1) * rows_of(self) * self->state_row;
}

frnn_status frnn_stream_run(frnn_stream *self, const frnn_call *call)
{
    const size_t B = self->B;
    frnn_call filled = *call;
    filled.B = B;
    filled.lengths = NULL;
    filled.initial[0] = (frnn_array){self->h[self->newest], (ptrdiff_t)(B * self->h_row), (ptrdiff_t)self->h_row};
    filled.final[0] = self->h[!self->newest];
    for (size_t s = 1; s < self->params->states; s++) {
        filled.initial[s] =
            (frnn_array){kept_state(self, s, 0), (ptrdiff_t)(B * self->carry_row), (ptrdiff_t)self->carry_row};
        filled.final[s] = final_state(self, s);
    }
    const frnn_status status = frnn_run(self->params, &filled);
    if (status != FRNN_OK)
        return status;
    self->newest = !self->newest;
    for (size_t s = 1; s < self->params->states; s++)
        place_state(self, s, final_state(self, s));
    return FRNN_OK;
}

int frnn_stream_step(frnn_stream *self, const void *x, ptrdiff_t x_row, frnn_tokens tokens, size_t threads)
{
    const bool shared = threads > 1 && self->is_long;
    if (tokens || shared) { /* a brief step of numbers needs no call */
        const frnn_call one = {
            .T = 1,
            .B = self->B,
            .x = {x, 0, x_row},
            .tokens = tokens,
            .y = output(self, !self->newest), /* where a run writes its final h too */
            .y_row = (ptrdiff_t)self->h_row,
            .threads = threads,
        };
        if (tokens && !frnn_tokens_are_known(self->params, &one))
            return -1;
        if (shared && frnn_stream_run(self, &one) == FRNN_OK)
            return self->newest;
    }
    place_x(self, x, x_row); /* alone: also where a run found no memory, or its threads gone with a fork */
    if (!tokens)
        return take_step(self, NULL);
    const frnn_lookup lookup = frnn_lookup_of(self->params, tokens, 0);
    return take_step(self, &lookup);
}
