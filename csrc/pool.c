/* A pool: streams that come and go, of which any take a step together.
 *
 * (a) A stream has a place for as long as it is open. At its place are two slots of h of all layers, which alternate as
 *     those of stream.c do, and its carry. Which slot is the newest is the stream's own matter, since others step without it.
 * (b) Kernels take a pointer for each row. So a step gathers pointers, never numbers; only its output is copied.
 * (c) Places are in blocks of memory, each as large as all before it: a pool that grows moves no state. What it keeps for
 *     each place beside that, and the scratch of a step, does move.
 * (d) An id is a place and the number of the stream among all that the process opened. Ids are looked at before anything
 *     is done, so a wrong one has changed nothing.
 */
#include "arena.h"
#include "embedding.h"
#include "plan.h"
#include "step.h"
#include "threads.h"

enum { CLOSED = -1, MOST_BLOCKS = 26 /* the first, and one for each time that 1 doubles up to FRNN_MOST_STREAMS */ };

typedef struct place {
    frnn_id id;    /* of its stream; CLOSED: it has none */
    uint64_t mark; /* of the last look that came by: frnn_pool_find_wrong */
    char *memory;  /* two slots of h, then carry, [layer] in each */
    int newest;    /* the slot that holds the state */
} place;

struct frnn_pool {
    const frnn_params *params;
    size_t h_row, state_row, carry_row; /* bytes of a row of h, of a state beside it, and of carry */
    size_t slot_bytes, place_bytes;
    size_t capacity, vacancies;
    frnn_id latest; /* the number of the stream that was opened last */
    uint64_t looks; /* of frnn_pool_find_wrong, so far */
    size_t steps;   /* so far, which bears on time alone */
    size_t blocks;
    void *block[MOST_BLOCKS]; /* of places */

    frnn_arena arena;              /* of all below, which is made anew when the pool grows */
    place *places;                 /* [place] */
    uint32_t *vacant;              /* places without a stream: the last one is taken first */
    void **h, **y, **carry;        /* [layer][row] of the rows of a step */
    const void **x;                /* [row] */
    const void **found;            /* [row]: rows that tokens name */
    void **middle;                 /* two stages: rows of H */
    void *x_integers, *h_integers; /* of rows, where weights are bytes */
};

/* Streams that were opened in this process, in all pools. */
static atomic_int_fast64_t opened;

size_t frnn_pool_capacity(const frnn_pool *self) { return self->capacity; }

frnn_id frnn_pool_latest(const frnn_pool *self) { return self->latest; }

static place *place_of(const frnn_pool *self, frnn_id id)
{
    place *found = &self->places[id % FRNN_MOST_STREAMS];
    assert(found->id == id);
    return found;
}

static char *slot_of(const frnn_pool *self, const place *of, int slot)
{
    return of->memory + (size_t)slot * self->slot_bytes;
}

/* The carry of a layer. */
static char *carry_of(const frnn_pool *self, const place *of, size_t layer)
{
    return of->memory + 2 * self->slot_bytes + layer * self->carry_row;
}

/* Once to learn the size, once for real. */
static void lay_out(frnn_pool *self, size_t capacity)
{
    const frnn_params *params = self->params;
    frnn_arena *arena = &self->arena;
    const size_t rows = frnn_arena_product(arena, params->spec.num_layers, capacity);
    const size_t two = params->layers[0].stages == 2 ? capacity : 0;
    self->places = frnn_arena_take(arena, capacity, sizeof *self->places);
    self->vacant = frnn_arena_take(arena, capacity, sizeof *self->vacant);
    self->h = frnn_arena_take(arena, rows, sizeof *self->h);
    self->y = frnn_arena_take(arena, rows, sizeof *self->y);
    self->carry = frnn_arena_take(arena, rows, sizeof *self->carry);
    self->x = frnn_arena_take(arena, capacity, sizeof *self->x);
    self->found = frnn_arena_take(arena, params->embedding.V ? capacity : 0, sizeof *self->found);
    self->middle = frnn_arena_take(arena, two, sizeof *self->middle);
    self->x_integers = frnn_arena_take(arena, capacity, params->x_integer_bytes);
    self->h_integers = frnn_arena_take(arena, capacity, params->h_integer_bytes);
    char *middle = frnn_arena_take(arena, two, self->state_row);
    for (size_t r = 0; r < two && arena->base; r++)
        self->middle[r] = middle + r * self->state_row;
}

/* Adds vacant places that have memory, so that those of the lowest numbers are taken first. */
static void add_places(frnn_pool *self, char *memory, size_t capacity)
{
    for (size_t i = self->capacity; i < capacity; i++)
        self->places[i] = (place){.id = CLOSED, .memory = memory + (i - self->capacity) * self->place_bytes};
    for (size_t i = capacity; i-- > self->capacity;)
        self->vacant[self->vacancies++] = (uint32_t)i;
    self->capacity = capacity;
}

/* Makes room for more streams; false, with nothing changed, where memory can't be had. */
static bool grow(frnn_pool *self, size_t capacity)
{
    frnn_pool grown = *self;
    frnn_arena block = {0};
    frnn_arena_take(&block, capacity - self->capacity, self->place_bytes);
    if (!frnn_arena_allocate(&block, NULL, 0))
        return false;
    char *memory = frnn_arena_take(&block, capacity - self->capacity, self->place_bytes);
    grown.arena = (frnn_arena){0};
    lay_out(&grown, capacity);
    if (!frnn_arena_allocate(&grown.arena, NULL, 0)) {
        free(block.memory);
        return false;
    }
    lay_out(&grown, capacity);
    if (self->capacity) {
        memcpy(grown.places, self->places, self->capacity * sizeof *self->places);
        memcpy(grown.vacant, self->vacant, self->vacancies * sizeof *self->vacant);
    }
    free(self->arena.memory);
    grown.block[grown.blocks++] = block.memory;
    *self = grown;
    add_places(self, memory, capacity);
    return true;
}

/* Rows at powers of two from each other would share few lines of a cache. */
static size_t spread(size_t bytes)
{
    const size_t lines = (bytes + FRNN_ALIGNMENT - 1) / FRNN_ALIGNMENT;
    return (lines | 1) * FRNN_ALIGNMENT;
}

frnn_status frnn_pool_new(const frnn_params *params, size_t capacity, frnn_pool **result)
{
    assert(capacity > 0 && capacity <= FRNN_MOST_STREAMS);
    if (params->spec.reverse)
        return FRNN_REVERSE;
    frnn_pool *self = malloc(sizeof *self);
    if (!self)
        return FRNN_NO_MEMORY;
    *self = (frnn_pool){
        .params = params,
        .h_row = params->out * params->number_bytes,
        .state_row = params->spec.hidden_size * params->number_bytes,
        .carry_row = frnn_carry_bytes(params),
    };
    frnn_arena sizes = {0};
    frnn_arena_take(&sizes, params->spec.num_layers, self->h_row);
    self->slot_bytes = sizes.used;
    frnn_arena_take(&sizes, params->spec.num_layers, self->h_row);
    frnn_arena_take(&sizes, params->spec.num_layers, self->carry_row);
    self->place_bytes = spread(sizes.used);
    if (sizes.too_large || !grow(self, capacity)) {
        free(self);
        return FRNN_NO_MEMORY;
    }
    *result = self;
    return FRNN_OK;
}

void frnn_pool_free(frnn_pool *self)
{
    for (size_t i = 0; self && i < self->blocks; i++)
        free(self->block[i]);
    if (self)
        free(self->arena.memory);
    free(self);
}

static void set_zeros(const frnn_pool *self, place *of)
{
    memset(slot_of(self, of, of->newest), 0, self->slot_bytes);
    for (size_t layer = 0; layer < self->params->spec.num_layers; layer++)
        for (size_t s = 1; s < self->params->states; s++)
            frnn_keep_state(self->params, carry_of(self, of, layer), s, NULL);
}

static size_t doubled(size_t capacity)
{
    return capacity < FRNN_MOST_STREAMS / 2 ? 2 * capacity : (size_t)FRNN_MOST_STREAMS;
}

frnn_status frnn_pool_open(frnn_pool *self, frnn_id *id)
{
    if (!self->vacancies && (self->capacity == FRNN_MOST_STREAMS || !grow(self, doubled(self->capacity))))
        return FRNN_NO_MEMORY;
    const uint32_t at = self->vacant[--self->vacancies];
    place *of = &self->places[at];
    self->latest = (frnn_id)atomic_fetch_add(&opened, 1) + 1;
    *id = of->id = self->latest * FRNN_MOST_STREAMS + at;
    set_zeros(self, of);
    return FRNN_OK;
}

size_t frnn_pool_ids(const frnn_pool *self, frnn_id *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < self->capacity && ids; i++)
        if (self->places[i].id != CLOSED)
            ids[n++] = self->places[i].id;
    return self->capacity - self->vacancies;
}

size_t frnn_pool_find_wrong(frnn_pool *self, size_t n, const frnn_id *ids)
{
    const uint64_t look = ++self->looks;
    for (size_t i = 0; i < n; i++) {
        const frnn_id id = ids[i], at = id % FRNN_MOST_STREAMS;
        if (id < 0 || at >= (frnn_id)self->capacity || self->places[at].id != id || self->places[at].mark == look)
            return i;
        self->places[at].mark = look;
    }
    return n;
}

void frnn_pool_close(frnn_pool *self, size_t n, const frnn_id *ids)
{
    for (size_t i = 0; i < n; i++) {
        place_of(self, ids[i])->id = CLOSED;
        self->vacant[self->vacancies++] = (uint32_t)(ids[i] % FRNN_MOST_STREAMS);
    }
}

/* Rows of a step that is dealt out to threads. */
typedef struct stepping {
    frnn_pool *pool;
    const frnn_lookup *lookup; /* NULL: x is of numbers */
    size_t n, parts;
} stepping;

/* Where the rows of all layers are: of x, of h before and after the step, and of carry. */
static void gather_rows(frnn_pool *self, size_t n, const frnn_id *ids, const char *x, ptrdiff_t x_row)
{
    const size_t layers = self->params->spec.num_layers;
    for (size_t r = 0; r < n; r++) {
        const place *of = place_of(self, ids[r]);
        char *h = slot_of(self, of, of->newest), *y = slot_of(self, of, !of->newest), *carry = carry_of(self, of, 0);
        self->x[r] = x + (ptrdiff_t)r * x_row;
        for (size_t i = r; i < layers * n; i += n, h += self->h_row, y += self->h_row, carry += self->carry_row) {
            self->h[i] = h;
            self->y[i] = y;
            self->carry[i] = carry;
        }
    }
}

static void step_part(void *context, size_t i, frnn_thread_context where)
{
    const stepping *s = context;
    const frnn_pool *self = s->pool;
    const size_t from = s->n * i / s->parts, until = s->n * (i + 1) / s->parts;
    const frnn_step step = {
        .params = self->params,
        .n = until - from,
        .apart = s->n,
        .x = self->x + from,
        .lookup = s->lookup,
        .found = s->lookup ? self->found + from : NULL,
        .h = self->h + from,
        .y = self->y + from,
        .carry = self->carry + from,
        .middle = self->params->layers[0].stages == 2 ? self->middle + from : NULL,
        .x_integers = (char *)self->x_integers + from * self->params->x_integer_bytes,
        .h_integers = (char *)self->h_integers + from * self->params->h_integer_bytes,
        .parity = self->steps,
    };
    const uint64_t mode = where.caller ? 0 : frnn_enter_float_mode(); /* the calling thread is in this mode already */
    frnn_step_rows(&step);
    if (!where.caller)
        frnn_leave_float_mode(mode);
}

/* A step is no longer than that of a stream, which asks for nothing either. */
static void wait_for_parts(void *context) { (void)context; }

frnn_status frnn_pool_step(frnn_pool *self, size_t n, const frnn_id *ids, const void *x, ptrdiff_t x_row,
                           frnn_tokens tokens, void *y, ptrdiff_t y_row, size_t threads)
{
    const frnn_lookup lookup = frnn_lookup_of(self->params, tokens, 0);
    if (!n)
        return FRNN_OK;
    if (!frnn_tokens_are_known(self->params, &(frnn_call){.T = 1, .B = n, .x = {x, 0, x_row}, .tokens = tokens}))
        return FRNN_NO_SUCH_TOKEN;
    const uint64_t mode = frnn_enter_float_mode(); /* the plan computes too, and would leave flags */
    stepping s = {self, tokens ? &lookup : NULL, n, frnn_plan_step_parts(self->params, n, threads)};
    gather_rows(self, n, ids, x, x_row);
    const bool whole = frnn_parallel(s.parts, s.parts, step_part, wait_for_parts, &s);
    frnn_leave_float_mode(mode);
    self->steps++;
    if (!whole)
        return FRNN_FORKED;
    const size_t top = (self->params->spec.num_layers - 1) * n;
    for (size_t r = 0; r < n; r++) {
        place *of = place_of(self, ids[r]);
        of->newest = !of->newest;
        memcpy((char *)y + (ptrdiff_t)r * y_row, self->y[top + r], self->h_row);
    }
    return FRNN_OK;
}

void frnn_pool_get_states(const frnn_pool *self, size_t n, const frnn_id *ids, void *const states[])
{
    for (size_t r = 0; r < n; r++) {
        const place *of = place_of(self, ids[r]);
        for (size_t layer = 0; layer < self->params->spec.num_layers; layer++) {
            const size_t row = layer * n + r;
            memcpy((char *)states[0] + row * self->h_row, slot_of(self, of, of->newest) + layer * self->h_row,
                   self->h_row);
            for (size_t s = 1; s < self->params->states; s++)
                memcpy((char *)states[s] + row * self->state_row,
                       frnn_kept_state(self->params, carry_of(self, of, layer), s), self->state_row);
        }
    }
}

/* A row of a state that is given; NULL: zeros. */
static const void *given(const frnn_array *array, size_t layer, size_t row)
{
    if (!array->data)
        return NULL;
    return (const char *)array->data + (ptrdiff_t)layer * array->outer + (ptrdiff_t)row * array->row;
}

void frnn_pool_set_states(frnn_pool *self, size_t n, const frnn_id *ids, const frnn_array states[])
{
    for (size_t r = 0; r < n; r++) {
        place *of = place_of(self, ids[r]);
        set_zeros(self, of);
        for (size_t layer = 0; states && layer < self->params->spec.num_layers; layer++) {
            if (states[0].data)
                memcpy(slot_of(self, of, of->newest) + layer * self->h_row, given(&states[0], layer, r), self->h_row);
            for (size_t s = 1; s < self->params->states; s++)
                frnn_keep_state(self->params, carry_of(self, of, layer), s, given(&states[s], layer, r));
        }
    }
}

/* States of n streams, before a run and after it. */
typedef struct run_states {
    void *before[FRNN_MOST_STATES], *after[FRNN_MOST_STATES];
} run_states;

static size_t row_bytes(const frnn_pool *self, size_t state) { return state ? self->state_row : self->h_row; }

static run_states lay_out_states(const frnn_pool *self, frnn_arena *arena, size_t n)
{
    run_states states = {0};
    const size_t rows = frnn_arena_product(arena, self->params->spec.num_layers, n);
    for (size_t s = 0; s < self->params->states; s++) {
        states.before[s] = frnn_arena_take(arena, rows, row_bytes(self, s));
        states.after[s] = frnn_arena_take(arena, rows, row_bytes(self, s));
    }
    return states;
}

frnn_status frnn_pool_run(frnn_pool *self, const frnn_id *ids, const frnn_call *call)
{
    const size_t n = call->B;
    frnn_arena arena = {0};
    lay_out_states(self, &arena, n);
    if (!frnn_arena_allocate(&arena, NULL, 0))
        return FRNN_NO_MEMORY;
    const run_states states = lay_out_states(self, &arena, n);
    frnn_pool_get_states(self, n, ids, states.before);
    frnn_call filled = *call;
    frnn_array after[FRNN_MOST_STATES];
    for (size_t s = 0; s < self->params->states; s++) {
        const ptrdiff_t row = (ptrdiff_t)row_bytes(self, s);
        filled.initial[s] = (frnn_array){states.before[s], (ptrdiff_t)n * row, row};
        filled.final[s] = states.after[s];
        after[s] = (frnn_array){states.after[s], (ptrdiff_t)n * row, row};
    }
    const frnn_status status = frnn_run(self->params, &filled);
    if (status == FRNN_OK)
        frnn_pool_set_states(self, n, ids, after);
    free(arena.memory);
    return status;
}

/* The highest place of streams that were open in another pool; FRNN_MOST_STREAMS, if it can't have had them. */
static size_t highest_place(size_t n, const frnn_id *ids, frnn_id latest)
{
    size_t highest = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t at = (size_t)(ids[i] % FRNN_MOST_STREAMS);
        if (ids[i] < FRNN_MOST_STREAMS || ids[i] / FRNN_MOST_STREAMS > latest)
            return FRNN_MOST_STREAMS;
        highest = at > highest ? at : highest;
    }
    return highest;
}

/* All places as they are when no stream has ever been open, but for some. */
static bool take_places(frnn_pool *self, size_t n, const frnn_id *ids)
{
    bool apart = true;
    for (size_t i = 0; i < n && apart; i++) {
        place *of = &self->places[ids[i] % FRNN_MOST_STREAMS];
        apart = of->id == CLOSED;
        of->id = ids[i];
    }
    self->vacancies = 0;
    for (size_t i = self->capacity; i-- > 0;) {
        self->places[i].id = apart ? self->places[i].id : CLOSED;
        if (self->places[i].id == CLOSED)
            self->vacant[self->vacancies++] = (uint32_t)i;
        else
            set_zeros(self, &self->places[i]);
    }
    return apart;
}

frnn_status frnn_pool_restore(frnn_pool *self, size_t n, const frnn_id *ids, frnn_id latest)
{
    assert(self->vacancies == self->capacity);
    const size_t highest = highest_place(n, ids, latest);
    if (highest == FRNN_MOST_STREAMS || latest < 0 || latest > INT64_MAX / FRNN_MOST_STREAMS / 2)
        return FRNN_WRONG_IDS;
    while (highest >= self->capacity)
        if (!grow(self, doubled(self->capacity)))
            return FRNN_NO_MEMORY;
    if (!take_places(self, n, ids))
        return FRNN_WRONG_IDS;
    self->latest = latest;
    int_fast64_t so_far = atomic_load(&opened);
    while (so_far < latest && !atomic_compare_exchange_weak(&opened, &so_far, (int_fast64_t)latest))
        ;
    return FRNN_OK;
}
