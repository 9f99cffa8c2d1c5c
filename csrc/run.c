/* The loop over layers, directions, blocks of steps and steps: the same for every cell and target.
 *
 * (a) A strand is some rows in one direction through one or more layers, with all the scratch that it needs. Strands
 *     share nothing that is written. A stack in one direction is one strand a part of the batch; a bidirectional stack
 *     is run layer by layer, since each layer needs both directions of the one below over the whole sequence.
 * (b) A strand takes a block of steps through all its layers, then the next block: between layers there is one block.
 * (c) Steps are counted from where a row starts: step s of a row of length n is time s, or n-1-s in reverse. Rows run
 *     longest first, so the rows still active at a step are the first ones.
 * (d) Nothing is copied between steps: h of a step is read where the step before wrote it.
 */
#include <stdatomic.h>

#include "arena.h"
#include "plan.h"
#include "threads.h"

/* How long the caller may have to wait for its answer: it is not asked more often, since asking may take a lock. */
#define ASK_SECONDS 0.03

/* Whether a call goes on: shared by its strands. */
typedef struct progress {
    atomic_int status; /* the first strand that cannot go on says why, and ends the others */
    double ask_at;     /* the calling thread's alone; 0: it has not asked for the time yet */
} progress;

/* Rows of a sequence in memory: those of the caller, at their times, or a ring of slots that only a strand sees. */
typedef struct sequence {
    char *base;          /* NULL: nobody wants it */
    ptrdiff_t time, row; /* bytes */
    size_t slots;        /* 0: by time and the caller's row; else by step modulo slots and the strand's row */
} sequence;

typedef struct strand {
    const frnn_params *params;
    const frnn_call *call;
    frnn_plan plan;
    size_t n;              /* rows */
    const size_t *rows;    /* the caller's row of each, longest first */
    size_t first, layers;  /* layers of the stack that it runs */
    size_t direction;      /* 0 .. D-1 */
    sequence source, sink; /* what its first layer reads and its last one writes */
    progress *progress;
    bool asks;     /* it runs on the calling thread */
    uint64_t mode; /* the caller's floating-point mode */

    frnn_arena arena;  /* of all below */
    sequence *between; /* output of each layer, the last being sink */
    char **c;          /* LSTM: [layer], each [n][block][lane] */
    char *z, *middle, *zeros;
    char *sums[FRNN_MOST_STAGES]; /* kept x parts, one a stage */
    const void **x, **h;          /* pointers to rows */
    void **y, **mid;
} strand;

static size_t length_of(const strand *self, size_t row)
{
    return self->call->lengths ? self->call->lengths[self->rows[row]] : self->call->T;
}

/* How many of the first n rows are still active at a step. */
static size_t active_at(const strand *self, size_t step, size_t n)
{
    while (n && length_of(self, n - 1) <= step)
        n--;
    return n;
}

static bool is_reverse(const strand *self) { return self->direction || !self->params->spec.forward; }

static char *at(const strand *self, const sequence *s, size_t step, size_t row)
{
    if (s->slots)
        return s->base + (ptrdiff_t)(step % s->slots) * s->time + (ptrdiff_t)row * s->row;
    const size_t time = is_reverse(self) ? length_of(self, row) - 1 - step : step;
    return s->base + (ptrdiff_t)time * s->time + (ptrdiff_t)self->rows[row] * s->row;
}

/* Where a layer of the strand stands among those of the params, and its states among those of the call. */
static size_t index_of(const strand *self, size_t layer)
{
    return (self->first + layer) * self->params->D + self->direction;
}

static const frnn_layer *layer_of(const strand *self, size_t layer)
{
    return &self->params->layers[index_of(self, layer)];
}

/* Whether a cell carries c beside h. */
static bool has_c(const strand *self) { return self->params->spec.cell == FRNN_LSTM; }

/* The caller's initial h or c of a row, or zeros. */
static const void *initial(const strand *self, const frnn_array *state, size_t layer, size_t row)
{
    if (!state->data)
        return self->zeros;
    return (const char *)state->data + (ptrdiff_t)index_of(self, layer) * state->outer +
           (ptrdiff_t)self->rows[row] * state->row;
}

/* Whether a stage has an x part. */
static bool takes_x(const frnn_stage *stage) { return stage->kind != FRNN_STAGE_PROJECT; }

/* Bytes of the longer of an h row and a c row. */
static size_t state_bytes(const frnn_params *params)
{
    return (params->out > params->spec.H ? params->out : params->spec.H) * params->element;
}

static sequence make_ring(strand *self, size_t slots)
{
    const size_t row = self->params->out * self->params->element;
    char *base = frnn_arena_take(&self->arena, frnn_arena_product(&self->arena, slots, self->n), row);
    return (sequence){base, (ptrdiff_t)(self->n * row), (ptrdiff_t)row, slots};
}

/* Lays a strand's scratch out: once to learn its size, once for real. */
static void lay_out(strand *self)
{
    const frnn_params *params = self->params;
    const frnn_layer *bottom = layer_of(self, 0); /* the others have the same stages, but for I */
    const size_t side = frnn_unit_bytes(params, &bottom->stage[0]), H = params->spec.H * params->element;
    const size_t kept_rows = self->plan.hoist ? frnn_arena_product(&self->arena, self->plan.block, self->n) : 0;
    const bool two = bottom->stages == 2;
    frnn_arena *arena = &self->arena;

    self->c = frnn_arena_take(arena, self->layers, sizeof *self->c);
    self->between = frnn_arena_take(arena, self->layers, sizeof *self->between);
    for (size_t l = 0; l < self->layers; l++) {
        sequence out = self->sink;
        if (l + 1 < self->layers)
            out = make_ring(self, self->plan.block + 1);
        else if (!self->sink.base)
            out = make_ring(self, 2);
        char *c = has_c(self) ? frnn_arena_take(arena, self->n, side) : NULL;
        if (arena->base) {
            self->between[l] = out;
            self->c[l] = c;
        }
    }
    self->z = frnn_arena_take(arena, two && !has_c(self) ? self->n : 0, side);
    self->middle = frnn_arena_take(arena, two ? self->n : 0, H);
    self->mid = frnn_arena_take(arena, two ? self->n : 0, sizeof *self->mid);
    self->zeros = frnn_arena_take(arena, 1, state_bytes(params));
    for (int s = 0; s < bottom->stages; s++) {
        const frnn_stage *stage = &bottom->stage[s];
        self->sums[s] = frnn_arena_take(arena, takes_x(stage) ? kept_rows : 0, frnn_sums_bytes(params, stage));
    }
    self->x = frnn_arena_take(arena, self->plan.hoist ? kept_rows : self->n, sizeof *self->x);
    self->h = frnn_arena_take(arena, self->n, sizeof *self->h);
    self->y = frnn_arena_take(arena, self->n, sizeof *self->y);
}

static void fill_start(strand *self)
{
    const size_t H = self->params->spec.H * self->params->element;
    memset(self->zeros, 0, state_bytes(self->params));
    for (size_t r = 0; r < self->n && layer_of(self, 0)->stages == 2; r++)
        self->mid[r] = self->middle + r * H;
    for (size_t l = 0; l < self->layers && has_c(self); l++) {
        const size_t side = frnn_unit_bytes(self->params, &layer_of(self, l)->stage[0]);
        for (size_t r = 0; r < self->n; r++) {
            memcpy(self->c[l] + r * side, initial(self, &self->call->c, l, r), H);
            memset(self->c[l] + r * side + H, 0, side - H);
        }
    }
}

/* The x part of all steps of a block, in one product. */
static void keep_inputs(strand *self, size_t layer, size_t begin, size_t end, size_t active)
{
    const sequence *source = layer ? &self->between[layer - 1] : &self->source;
    size_t n = 0;
    for (size_t step = begin; step < end; step++) {
        active = active_at(self, step, active);
        for (size_t r = 0; r < active; r++)
            self->x[n++] = at(self, source, step, r);
    }
    for (int s = 0; s < layer_of(self, layer)->stages; s++) {
        const frnn_stage *stage = &layer_of(self, layer)->stage[s];
        if (takes_x(stage))
            self->params->kernels->input(stage, &(frnn_rows){.n = n, .x = self->x, .sums = self->sums[s]});
    }
}

/* One step of one layer, for the first n rows, whose kept sums (if any) start at row `kept`. */
static void run_step(strand *self, size_t layer, size_t step, size_t n, size_t kept)
{
    const sequence *source = layer ? &self->between[layer - 1] : &self->source, *sink = &self->between[layer];
    const frnn_layer *stages = layer_of(self, layer);
    for (size_t r = 0; r < n; r++) {
        self->y[r] = at(self, sink, step, r);
        self->h[r] = step ? at(self, sink, step - 1, r) : initial(self, &self->call->h, layer, r);
        if (!self->plan.hoist)
            self->x[r] = at(self, source, step, r);
    }
    for (int s = 0; s < stages->stages; s++) {
        const frnn_stage *stage = &stages->stage[s];
        const bool last = s + 1 == stages->stages, keeps = self->plan.hoist && takes_x(stage);
        const frnn_rows rows = {
            .n = n,
            .x = self->x,
            .h = s ? (const void **)self->mid : self->h,
            .previous = self->h,
            .y = last ? self->y : self->mid,
            .side = has_c(self) ? self->c[layer] : self->z,
            .sums = keeps ? self->sums[s] + kept * frnn_sums_bytes(self->params, stage) : NULL,
        };
        self->params->kernels->step(stage, &rows);
    }
}

/* Final states, the last step's output, and zeros past the ends: of one layer. */
static void write_results(strand *self, size_t layer)
{
    const frnn_call *call = self->call;
    const frnn_params *params = self->params;
    const size_t H = params->spec.H * params->element, out = params->out * params->element;
    for (size_t r = 0; r < self->n; r++) {
        const size_t length = length_of(self, r), row = self->rows[r];
        const size_t state = index_of(self, layer) * call->B + row;
        const void *h = length ? at(self, &self->between[layer], length - 1, r) : initial(self, &call->h, layer, r);
        memcpy((char *)call->h_n + state * out, h, out);
        if (has_c(self))
            memcpy((char *)call->c_n + state * H,
                   self->c[layer] + r * frnn_unit_bytes(params, &layer_of(self, layer)->stage[0]), H);
        if (self->first + layer + 1 < params->spec.L)
            continue;
        char *y = (char *)call->y + (ptrdiff_t)row * call->y_row + (ptrdiff_t)(self->direction * out);
        if (!call->return_sequences)
            memcpy(y, h, out);
        for (size_t t = length; t < call->T && call->return_sequences; t++)
            memset(y + (ptrdiff_t)t * call->y_time, 0, out);
    }
}

static void give_up(strand *self, frnn_status why)
{
    int expected = FRNN_OK;
    atomic_compare_exchange_strong(&self->progress->status, &expected, (int)why);
}

static bool goes_on(strand *self)
{
    progress *progress = self->progress;
    const double now = self->asks ? frnn_seconds() : 0;
    if (self->asks && !progress->ask_at)
        progress->ask_at = now + ASK_SECONDS;
    if (self->asks && now >= progress->ask_at) {
        frnn_leave_float_mode(self->mode); /* the caller's code runs in the caller's mode */
        const bool stop = self->call->interrupted(self->call->context);
        self->mode = frnn_enter_float_mode();
        progress->ask_at = frnn_seconds() + ASK_SECONDS;
        if (stop)
            give_up(self, FRNN_INTERRUPTED);
    }
    return atomic_load_explicit(&progress->status, memory_order_relaxed) == FRNN_OK;
}

static void run_strand(strand *self)
{
    lay_out(self);
    if (!frnn_arena_allocate(&self->arena)) {
        give_up(self, FRNN_NO_MEMORY);
        return;
    }
    lay_out(self);
    fill_start(self);

    const size_t steps = self->n ? length_of(self, 0) : 0, block = self->plan.block;
    size_t active = self->n; /* when the block begins */
    for (size_t begin = 0; begin < steps && goes_on(self); begin += block) {
        const size_t end = steps - begin < block ? steps : begin + block;
        for (size_t layer = 0; layer < self->layers; layer++) {
            if (self->plan.hoist)
                keep_inputs(self, layer, begin, end, active);
            size_t n = active, kept = 0;
            for (size_t step = begin; step < end; step++, kept += n) {
                n = active_at(self, step, n);
                run_step(self, layer, step, n, kept);
            }
        }
        active = active_at(self, end, active);
    }
    if (atomic_load(&self->progress->status) == FRNN_OK)
        for (size_t layer = 0; layer < self->layers; layer++)
            write_results(self, layer);
    free(self->arena.memory);
}

typedef struct ranked {
    size_t length, row;
} ranked;

static int longest_first(const void *a, const void *b)
{
    const ranked *p = a, *q = b;
    if (p->length != q->length)
        return p->length < q->length ? 1 : -1;
    return p->row < q->row ? -1 : p->row > q->row;
}

/* The caller's rows, longest first, dealt out like cards: each part gets as many long rows as the others. */
static void deal_rows(const frnn_call *call, size_t parts, ranked *ranks, size_t *rows)
{
    for (size_t r = 0; r < call->B; r++)
        ranks[r] = (ranked){call->lengths ? call->lengths[r] : call->T, r};
    if (call->lengths)
        qsort(ranks, call->B, sizeof *ranks, longest_first);
    size_t n = 0;
    for (size_t part = 0; part < parts; part++)
        for (size_t r = part; r < call->B; r += parts)
            rows[n++] = ranks[r].row;
}

/* All strands of some layers. */
typedef struct phase {
    const frnn_params *params;
    const frnn_call *call;
    frnn_plan plan;
    size_t first, layers;
    sequence source, sink;
    const size_t *rows;
    progress progress;
} phase;

/* Strand i is direction i % D of part i / D of the batch. */
static void run_strand_of(void *context, size_t i, bool by_caller)
{
    phase *p = context;
    const size_t D = p->params->D, parts = p->plan.parts, part = i / D, direction = i % D;
    const size_t each = p->call->B / parts, longer = p->call->B % parts; /* as deal_rows deals */
    strand self = {
        .params = p->params,
        .call = p->call,
        .plan = p->plan,
        .n = each + (part < longer),
        .rows = p->rows + part * each + (part < longer ? part : longer),
        .first = p->first,
        .layers = p->layers,
        .direction = direction,
        .source = p->source,
        .sink = p->sink,
        .progress = &p->progress,
        .asks = by_caller && p->call->interrupted,
    };
    if (self.sink.base)
        self.sink.base += direction * p->params->out * p->params->element;
    self.mode = frnn_enter_float_mode();
    run_strand(&self);
    frnn_leave_float_mode(self.mode);
}

frnn_status frnn_run(const frnn_params *params, const frnn_call *call)
{
    const size_t D = params->D, L = params->spec.L, width = D * params->out * params->element;
    const bool by_layer = D == 2 && L > 1;
    const frnn_plan plan = frnn_make_plan(params, call->T, call->B, call->threads);
    ranked *ranks = NULL;
    size_t *rows = NULL;
    char *whole[2] = {NULL, NULL}; /* outputs of the layers of a bidirectional stack, in turns */

    frnn_arena arena = {0};
    for (int pass = 0; pass < 2; pass++) {
        ranks = frnn_arena_take(&arena, call->B, sizeof *ranks);
        rows = frnn_arena_take(&arena, call->B, sizeof *rows);
        for (size_t i = 0; i < 2 && by_layer && i + 1 < L; i++)
            whole[i] = frnn_arena_take(&arena, call->T, frnn_arena_product(&arena, call->B, width));
        if (!pass && !frnn_arena_allocate(&arena))
            return FRNN_NO_MEMORY;
    }
    deal_rows(call, plan.parts, ranks, rows);

    phase p = {.params = params, .call = call, .plan = plan, .layers = by_layer ? 1 : L, .rows = rows};
    atomic_init(&p.progress.status, FRNN_OK);
    p.source = (sequence){(char *)call->x.data, call->x.outer, call->x.row, 0}; /* read alone */
    for (p.first = 0; p.first < L && atomic_load(&p.progress.status) == FRNN_OK; p.first += p.layers) {
        const sequence inner = {whole[p.first % 2], (ptrdiff_t)(call->B * width), (ptrdiff_t)width, 0};
        const sequence y = {call->return_sequences ? call->y : NULL, call->y_time, call->y_row, 0};
        p.sink = p.first + p.layers == L ? y : inner;
        frnn_parallel(plan.parts * D, plan.threads, run_strand_of, &p);
        p.source = inner;
    }
    free(arena.memory);
    return (frnn_status)atomic_load(&p.progress.status);
}
