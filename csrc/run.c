/* The loop over layers, directions, blocks of steps and steps: the same for every cell and target.
 *
 * (a) A strand is some rows in one direction through one or more layers, with all the scratch that it needs. Strands share
 *     nothing that is written. A stack in one direction is one strand a part of the batch; a bidirectional stack is run
 *     layer by layer, since each layer needs both directions of the one below over the whole sequence.
 * (b) A strand takes a block of steps through all its layers, then the next block: between layers there is one block.
 * (c) Steps are counted from where a row starts: step s of a row of length n is time s, or n-1-s in reverse. Rows run
 *     longest first, so the rows still active at a step are the first ones.
 * (d) Nothing is copied between steps: h of a step is read where the step before wrote it.
 */
#include <stdatomic.h>
#include <string.h>

#include "arena.h"
#include "plan.h"
#include "threads.h"

#define ASK_SECONDS 0.03

/* Rows of a sequence in memory: those of the caller, at their times, or a ring of slots that only a strand sees. */
typedef struct sequence {
    char *base;
    ptrdiff_t time, row; /* bytes */
    size_t slots;        /* 0: by time and the caller's row; else by step modulo slots and the strand's row */
} sequence;

typedef struct strand {
    const frnn_params *params;
    const frnn_call *call;
    frnn_plan plan;
    size_t n;             /* rows */
    const size_t *rows;   /* the caller's row of each, longest first */
    size_t first, layers; /* layers of the stack that it runs */
    size_t direction;     /* 0 .. D-1 */
    bool reverse;
    sequence source, sink; /* what its first layer reads and its last one writes */
    atomic_int *status;    /* of all strands: the first that cannot go on ends the others */
    double ask_at;         /* when the caller is asked next; 0: not yet set */

    frnn_arena arena;  /* of all below */
    sequence *between; /* output of each layer, the last being sink */
    char **c;          /* LSTM: [layer], each [n][block][lane] */
    void *z, *middle, *zeros;
    void *sums[2];             /* kept x parts, a stage each */
    void **x, **h, **y, **mid; /* pointers to rows */
} strand;

static size_t length_of(const strand *w, size_t row)
{
    return w->call->lengths ? w->call->lengths[w->rows[row]] : w->call->T;
}

static char *at(const strand *w, const sequence *s, size_t step, size_t row)
{
    if (s->slots)
        return s->base + (ptrdiff_t)(step % s->slots) * s->time + (ptrdiff_t)row * s->row;
    const size_t time = w->reverse ? length_of(w, row) - 1 - step : step;
    return s->base + (ptrdiff_t)time * s->time + (ptrdiff_t)w->rows[row] * s->row;
}

static const frnn_layer *layer_of(const strand *w, size_t layer)
{
    return &w->params->layers[(w->first + layer) * w->params->D + w->direction];
}

static size_t vectors_bytes(const strand *w, const frnn_stage *stage)
{
    return stage->blocks * w->params->kernels->width * w->params->element;
}

/* Whether a cell carries c beside h. */
static bool has_c(const strand *w) { return w->params->spec.cell == FRNN_LSTM; }

static bool is_top(const strand *w, size_t layer) { return w->first + layer + 1 == w->params->spec.L; }

/* The caller's initial state of a row, or zeros. */
static void *initial_h(const strand *w, size_t layer, size_t row)
{
    const frnn_call *call = w->call;
    const size_t i = (w->first + layer) * w->params->D + w->direction;
    return call->h ? (char *)call->h + (ptrdiff_t)i * call->h_layer + (ptrdiff_t)w->rows[row] * call->h_row : w->zeros;
}

static const void *initial_c(const strand *w, size_t layer, size_t row)
{
    const frnn_call *call = w->call;
    const size_t i = (w->first + layer) * w->params->D + w->direction;
    return call->c ? (const char *)call->c + (ptrdiff_t)i * call->c_layer + (ptrdiff_t)w->rows[row] * call->c_row
                   : w->zeros;
}

/* Numbers in the longer of an h row and a c row. */
static size_t state_size(const frnn_params *params)
{
    return params->out > params->spec.H ? params->out : params->spec.H;
}

static sequence make_ring(strand *w, size_t slots)
{
    const size_t row = w->params->out * w->params->element;
    sequence ring = {.row = (ptrdiff_t)row, .slots = slots};
    ring.base = frnn_arena_take(&w->arena, slots * w->n, row);
    ring.time = (ptrdiff_t)(w->n * row);
    return ring;
}

/* Lays a strand's scratch out: once to learn its size, once for real. */
static void lay_out(strand *w)
{
    const frnn_params *params = w->params;
    const size_t H = params->spec.H, element = params->element, kept_rows = w->plan.hoist ? w->plan.block * w->n : 0;
    size_t sums[2] = {0, 0}, side = 0;

    w->c = frnn_arena_take(&w->arena, w->layers, sizeof *w->c);
    w->between = frnn_arena_take(&w->arena, w->layers, sizeof *w->between);
    for (size_t l = 0; l < w->layers; l++) {
        const frnn_layer *layer = layer_of(w, l);
        const sequence out = l + 1 < w->layers ? make_ring(w, w->plan.block + 1)
                             : w->sink.base    ? w->sink
                                               : make_ring(w, 2);
        side = vectors_bytes(w, &layer->stage[0]);
        char *c = has_c(w) ? frnn_arena_take(&w->arena, w->n, side) : NULL;
        if (w->arena.base) {
            w->between[l] = out;
            w->c[l] = c;
        }
        for (int s = 0; s < layer->stages; s++)
            sums[s] = vectors_bytes(w, &layer->stage[s]) * (size_t)frnn_stage_sums(layer->stage[s].kind);
    }
    const bool two = layer_of(w, 0)->stages == 2;
    w->z = frnn_arena_take(&w->arena, two ? w->n : 0, side);
    w->middle = frnn_arena_take(&w->arena, two ? w->n : 0, H * element);
    w->zeros = frnn_arena_take(&w->arena, state_size(params), element);
    for (int s = 0; s < 2; s++)
        w->sums[s] = frnn_arena_take(&w->arena, kept_rows, sums[s]);
    w->x = frnn_arena_take(&w->arena, w->plan.hoist ? kept_rows : w->n, sizeof *w->x);
    w->h = frnn_arena_take(&w->arena, w->n, sizeof *w->h);
    w->y = frnn_arena_take(&w->arena, w->n, sizeof *w->y);
    w->mid = frnn_arena_take(&w->arena, w->n, sizeof *w->mid);
}

static void fill_start(strand *w)
{
    const size_t row_bytes = w->params->spec.H * w->params->element;
    memset(w->zeros, 0, state_size(w->params) * w->params->element);
    for (size_t r = 0; r < w->n; r++)
        w->mid[r] = (char *)w->middle + r * row_bytes;
    for (size_t l = 0; l < w->layers && has_c(w); l++) {
        const size_t side = vectors_bytes(w, &layer_of(w, l)->stage[0]);
        for (size_t r = 0; r < w->n; r++) {
            memcpy(w->c[l] + r * side, initial_c(w, l, r), row_bytes);
            memset(w->c[l] + r * side + row_bytes, 0, side - row_bytes);
        }
    }
}

/* The x part of all steps of a block, in one product. */
static void keep_inputs(strand *w, const frnn_layer *layer, const sequence *source, size_t begin, size_t end,
                        size_t active)
{
    size_t n = 0;
    for (size_t step = begin; step < end; step++) {
        while (active && length_of(w, active - 1) <= step)
            active--;
        for (size_t r = 0; r < active; r++)
            w->x[n++] = at(w, source, step, r);
    }
    for (int s = 0; s < layer->stages; s++)
        if (layer->stage[s].I)
            w->params->kernels->input(&layer->stage[s],
                                      &(frnn_rows){.n = n, .x = (const void **)w->x, .sums = w->sums[s]});
}

/* One step of one layer, for the first n rows, whose kept sums (if any) start at row `kept`. */
static void run_step(strand *w, size_t l, const sequence *source, size_t step, size_t n, size_t kept)
{
    const frnn_layer *layer = layer_of(w, l);
    const sequence *sink = &w->between[l];
    for (size_t r = 0; r < n; r++) {
        w->y[r] = at(w, sink, step, r);
        w->h[r] = step ? at(w, sink, step - 1, r) : initial_h(w, l, r);
        if (!w->plan.hoist)
            w->x[r] = at(w, source, step, r);
    }
    for (int s = 0; s < layer->stages; s++) {
        const frnn_stage *stage = &layer->stage[s];
        const bool last = s + 1 == layer->stages;
        const size_t sums = vectors_bytes(w, stage) * (size_t)frnn_stage_sums(stage->kind);
        const frnn_rows rows = {
            .n = n,
            .x = (const void **)w->x,
            .h = (const void **)(s ? w->mid : w->h),
            .previous = (const void **)w->h,
            .y = last ? w->y : w->mid,
            .side = has_c(w) ? w->c[l] : w->z,
            .sums = w->plan.hoist && stage->I ? (char *)w->sums[s] + kept * sums : NULL,
        };
        w->params->kernels->step(stage, &rows);
    }
}

/* Final states, the last step's output, and zeros past the ends: of one layer. */
static void write_results(strand *w, size_t l)
{
    const frnn_call *call = w->call;
    const frnn_params *params = w->params;
    const size_t i = (w->first + l) * params->D + w->direction, H = params->spec.H * params->element;
    const size_t out = params->out * params->element;
    for (size_t r = 0; r < w->n; r++) {
        const size_t length = length_of(w, r), row = w->rows[r];
        const void *h = length ? at(w, &w->between[l], length - 1, r) : initial_h(w, l, r);
        memcpy((char *)call->h_n + (i * call->B + row) * out, h, out);
        if (has_c(w))
            memcpy((char *)call->c_n + (i * call->B + row) * H,
                   w->c[l] + r * vectors_bytes(w, &layer_of(w, l)->stage[0]), H);
        if (!is_top(w, l))
            continue;
        char *y = (char *)call->y + (ptrdiff_t)row * call->y_row + (ptrdiff_t)(w->direction * out);
        if (!call->return_sequences)
            memcpy(y, h, out);
        for (size_t t = length; t < call->T && call->return_sequences; t++)
            memset(y + (ptrdiff_t)t * call->y_time, 0, out);
    }
}

static void give_up(const strand *w, frnn_status why)
{
    int expected = FRNN_OK;
    atomic_compare_exchange_strong(w->status, &expected, (int)why);
}

/* Asks the caller, not more often than its answer is wanted: the question may have to wait for a lock. */
static bool goes_on(strand *w)
{
    const double now = w->call->interrupted ? frnn_seconds() : 0;
    if (!w->ask_at)
        w->ask_at = now + ASK_SECONDS;
    if (w->call->interrupted && now >= w->ask_at) {
        w->ask_at = now + ASK_SECONDS;
        if (w->call->interrupted(w->call->context))
            give_up(w, FRNN_INTERRUPTED);
    }
    return atomic_load_explicit(w->status, memory_order_relaxed) == FRNN_OK;
}

static void run_strand(strand *w)
{
    lay_out(w);
    if (!frnn_arena_allocate(&w->arena)) {
        give_up(w, FRNN_NO_MEMORY);
        return;
    }
    lay_out(w);
    fill_start(w);

    const size_t steps = w->n ? length_of(w, 0) : 0;
    size_t active = w->n;
    for (size_t begin = 0; begin < steps && (!begin || goes_on(w)); begin += w->plan.block) {
        const size_t end = steps - begin < w->plan.block ? steps : begin + w->plan.block;
        size_t n = active;
        for (size_t l = 0; l < w->layers; l++) {
            const sequence *source = l ? &w->between[l - 1] : &w->source;
            if (w->plan.hoist)
                keep_inputs(w, layer_of(w, l), source, begin, end, active);
            n = active;
            size_t kept = 0;
            for (size_t step = begin; step < end; step++, kept += n) {
                while (n && length_of(w, n - 1) <= step)
                    n--;
                run_step(w, l, source, step, n, kept);
            }
        }
        active = n;
    }
    if (atomic_load(w->status) == FRNN_OK)
        for (size_t l = 0; l < w->layers; l++)
            write_results(w, l);
    free(w->arena.memory);
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
    atomic_int status;
} phase;

/* Strand i is direction i % D of part i / D of the batch. */
static void run_strand_of(void *context, size_t i, bool by_caller)
{
    phase *p = context;
    const size_t D = p->params->D, parts = p->plan.parts, part = i / D, direction = i % D;
    const size_t each = p->call->B / parts, longer = p->call->B % parts; /* as deal_rows deals */
    frnn_call call = *p->call;
    if (!by_caller)
        call.interrupted = NULL; /* the calling thread asks for all */
    strand w = {
        .params = p->params,
        .call = &call,
        .plan = p->plan,
        .n = each + (part < longer),
        .rows = p->rows + part * each + (part < longer ? part : longer),
        .first = p->first,
        .layers = p->layers,
        .direction = direction,
        .reverse = direction || !p->params->spec.forward,
        .source = p->source,
        .sink = p->sink,
        .status = &p->status,
    };
    if (w.sink.base)
        w.sink.base += direction * p->params->out * p->params->element;
    const unsigned long mode = frnn_enter_float_mode();
    run_strand(&w);
    frnn_leave_float_mode(mode);
}

frnn_status frnn_run(const frnn_params *params, const frnn_call *call)
{
    const size_t D = params->D, L = params->spec.L, width = D * params->out * params->element;
    const bool by_layer = D == 2 && L > 1;
    const frnn_plan plan = frnn_make_plan(params, call->T, call->B, call->threads);
    const sequence y = {call->y, call->y_time, call->y_row, 0};
    ranked *ranks = NULL;
    size_t *rows = NULL;
    char *whole[2] = {NULL, NULL}; /* outputs of the layers of a bidirectional stack, in turns */
    phase p = {.params = params, .call = call, .plan = plan, .layers = by_layer ? 1 : L, .status = FRNN_OK};

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
    p.rows = rows;
    p.source = (sequence){(char *)call->x, call->x_time, call->x_row, 0};

    for (p.first = 0; p.first < L && atomic_load(&p.status) == FRNN_OK; p.first += p.layers) {
        const sequence inner = {whole[p.first % 2], (ptrdiff_t)(call->B * width), (ptrdiff_t)width, 0};
        const bool top = p.first + p.layers == L;
        p.sink = !top ? inner : call->return_sequences ? y : (sequence){0};
        frnn_parallel(plan.parts * D, plan.threads, run_strand_of, &p);
        p.source = inner;
    }
    free(arena.memory);
    return (frnn_status)atomic_load(&p.status);
}
