/* Coverage-guided fuzzing of the C interface: `run.sh SECONDS run` builds and runs it. `fuzz_run FILE` shows a finding again.
 *
 * Bytes become a layer stack and a batch (problem.h). On every usable target it is run
 *   - plainly: the results are within the bounds of a float64 reference that knows nothing of kernels (reference.h);
 *   - then in random other ways, which must give the same bits: other targets, strides, threads, plans, rows alone, in
 *     chunks of time, by a stream; with memory that fails, clocks that jump, interruptions, and calls within them.
 * What is not to be written stays as it was: gaps between rows, inputs, params, the caller's floating-point mode. A call
 * takes no more memory than it says. Assertions and sanitizers see the rest; the library's own scratch starts as NaN. */
#include "arena.h"
#include "plan.h"

#include "problem.h"
#include "reference.h"

#include "hooks.h"
#include "layout.h"

enum { MOST_TARGETS = 4, MOST_ACTIONS = 6 };

static const frnn_target *targets[MOST_TARGETS];
static size_t target_count;
static frnn_params *params_of[MOST_TARGETS];

static bool has_c(const problem *p) { return p->spec.cell == FRNN_LSTM; }

static bool is_one_way(const problem *p) { return p->D == 1; }

/* The results. */

/* A call on dense arrays. */
static frnn_call plain_call(const problem *p)
{
    const size_t width = p->D * p->out * p->element, state = p->out * p->element, c = p->spec.hidden_size * p->element;
    const size_t x = p->spec.input_size * p->element;
    return (frnn_call){
        .T = p->T,
        .B = p->B,
        .x = {p->x.data, (ptrdiff_t)(p->B * x), (ptrdiff_t)x},
        .initial = {{p->h.data, (ptrdiff_t)(p->B * state), (ptrdiff_t)state},
                    {p->c.data, (ptrdiff_t)(p->B * c), (ptrdiff_t)c}},
        .lengths = p->lengths,
        .return_sequences = true,
        .y = p->y.data,
        .y_time = (ptrdiff_t)(p->B * width),
        .y_row = (ptrdiff_t)width,
        .final = {p->h_n.data, has_c(p) ? p->c_n.data : NULL},
        .threads = 1,
    };
}

static double *flushed(const problem *p, const numbers *a)
{
    if (!a->data)
        return NULL;
    double *values = take(a->n * sizeof *values);
    for (size_t i = 0; i < a->n; i++) {
        const double value = number_of(p, a->data, i);
        values[i] = fabs(value) < (p->element == 4 ? FLT_MIN : DBL_MIN) ? 0 : value;
    }
    return values;
}

static ball *balls(const problem *p, const numbers *a, size_t n, double e)
{
    const double *values = flushed(p, a);
    ball *all = take(n * sizeof *all);
    for (size_t i = 0; i < n; i++)
        all[i] = (ball){values ? values[i] : 0, e};
    return all;
}

static void check_close(const problem *p, const char *what, const numbers *got, const ball *expected)
{
    for (size_t i = 0; i < got->n; i++) {
        const double a = number_of(p, got->data, i), b = expected[i].v;
        const bool close = isfinite(b) ? fabs(a - b) <= expected[i].e : isnan(b) ? isnan(a) : a == b;
        if (is_known(expected[i]) && !close)
            fail("%s: number %zu of %zu is %.17g, the reference %.17g with a bound of %.3g", what, i, got->n, a, b,
                 expected[i].e);
    }
}

static void check_reference(const problem *p)
{
    reference_weights weights[2 * MOST_LAYERS];
    for (size_t l = 0; l < p->spec.num_layers * p->D; l++) {
        const numbers *part = p->weights[l];
        weights[l] = (reference_weights){flushed(p, &part[0]),
                                         flushed(p, &part[1]),
                                         flushed(p, &part[2]),
                                         flushed(p, &part[3]),
                                         flushed(p, &part[4]),
                                         flushed(p, &part[5]),
                                         l < p->D ? p->spec.input_size : p->D * p->out};
    }
    const precision of = precision_of(p->spec.dtype);
    const size_t states = p->spec.num_layers * p->D * p->B;
    /* A state that no step takes comes back as it came, below the smallest normal number too: hence its bound. */
    const reference_call call = {&p->spec,
                                 weights,
                                 p->T,
                                 p->B,
                                 p->lengths,
                                 balls(p, &p->x, p->x.n, 0),
                                 balls(p, &(numbers){0}, p->y.n, 0),
                                 balls(p, &p->h, p->h_n.n, 0),
                                 balls(p, &p->c, states * p->spec.hidden_size, 0)};
    reference_run(&call);
    for (size_t i = 0; i < p->h_n.n; i++)
        call.h[i].e += of.tiny;
    for (size_t i = 0; i < p->c_n.n; i++)
        call.c[i].e += of.tiny;
    check_close(p, "y", &p->y, call.y);
    check_close(p, "h_n", &p->h_n, call.h);
    check_close(p, "c_n", &p->c_n, call.c);
}

/* What a call returns that returns the last step alone: (B, D*out). */
static void *last_step(const problem *p)
{
    const size_t bytes = p->out * p->element;
    char *y = take(p->B * p->D * bytes);
    for (size_t i = 0; i < p->B * p->D; i++) {
        const size_t layer = (p->spec.num_layers - 1) * p->D + i % p->D;
        memcpy(y + i * bytes, (char *)p->h_n.data + (layer * p->B + i / p->D) * bytes, bytes);
    }
    return y;
}

/* Params. */

static frnn_params *make_params(const problem *p, const frnn_target *target, const conditions *c)
{
    frnn_weights weights[2 * MOST_LAYERS];
    for (size_t l = 0; l < p->spec.num_layers * p->D; l++) {
        const void *copies[PARTS];
        for (size_t part = 0; part < PARTS; part++)
            copies[part] = p->weights[l][part].data ? copy_of(&p->weights[l][part], p->element) : NULL;
        weights[l] = (frnn_weights){copies[0], copies[1], copies[2], copies[3], copies[4], copies[5]};
    }
    frnn_params *params = NULL;
    begin_watching(c);
    const frnn_status status = frnn_params_new(&p->spec, weights, target, &params);
    end_watching();
    if (status != (atomic_load(&failures) ? FRNN_NO_MEMORY : FRNN_OK))
        fail("frnn_params_new answers %d, %zu allocations having failed", status, atomic_load(&failures));
    for (size_t l = 0; l < p->spec.num_layers * p->D; l++) { /* they are copied: what is written here is not seen */
        const void *copies[] = {weights[l].W, weights[l].U, weights[l].b, weights[l].d, weights[l].V, weights[l].p};
        for (size_t part = 0; part < PARTS; part++)
            if (copies[part]) {
                check_same(p, "weights", copies[part], p->weights[l][part].data, p->weights[l][part].n);
                memset((void *)(uintptr_t)copies[part], 0xff, p->weights[l][part].n * p->element);
            }
    }
    return status == FRNN_OK ? params : NULL;
}

/* Of what a call must not write: FNV-1a by words. */
static uint64_t hash_of(const frnn_params *params)
{
    const uint64_t *words = params->memory;
    uint64_t hash = 0;
    for (size_t i = 0, n = malloc_usable_size(params->memory) / sizeof *words; i < n; i++)
        hash = (hash ^ words[i]) * UINT64_C(1099511628211);
    return hash;
}

static frnn_plan pick_plan(input *in, const problem *p, size_t B)
{
    frnn_plan plan = {.unit_threads = 1, .layer_threads = 1};
    plan.chunk = 1 + pick(in, p->T + 2);
    plan.x_part = (frnn_x_part)pick(in, 4);
    plan.parts = 1 + pick(in, B == 0 ? 1 : B < 4 ? B : 4);
    const size_t together = 1 + pick(in, 3);
    const bool wavefront = chance(in, 2) && is_one_way(p) && p->spec.num_layers > 1;
    *(wavefront ? &plan.layer_threads : &plan.unit_threads) = together;
    plan.threads = 1 + pick(in, p->D * plan.parts * together);
    plan.seconds = pick(in, 2);
    plan.alone = pick(in, 2); /* so long that the caller is asked */
    return plan;
}

static void check_plan(const frnn_params *params, const frnn_plan *plan, size_t B, size_t threads)
{
    const bool legal = plan->chunk && plan->parts && plan->unit_threads && plan->layer_threads && plan->threads &&
                       (plan->parts == 1 || plan->parts <= B) &&
                       (plan->unit_threads == 1 || plan->layer_threads == 1) &&
                       (plan->layer_threads == 1 || params->D == 1) && plan->threads <= threads;
    if (!legal)
        fail("plan of chunk %zu, %zu parts, %zu unit threads, %zu layer threads, %zu threads of %zu", plan->chunk,
             plan->parts, plan->unit_threads, plan->layer_threads, plan->threads, threads);
}

/* One call in some way. */

typedef struct questions {
    const problem *p;
    const frnn_params *params;
    size_t left; /* after which the answer is to end */
    bool nested; /* it makes a call of its own */
    void *y, *h_n, *c_n;
} questions;

static bool interrupted(void *context)
{
    questions *q = context;
    check_mode();
    if (q->nested && q->left) {
        frnn_call call = plain_call(q->p);
        call.y = q->y, call.final[0] = q->h_n, call.final[1] = q->c_n;
        call.threads = 2;
        if (frnn_run(q->params, &call) == FRNN_OK)
            check_same(q->p, "y of a call within a call", q->y, q->p->y.data, q->p->y.n);
        q->nested = false;
    }
    return q->left == 0 || --q->left == 0;
}

/* Rows from `first` on, laid out anew. */
typedef struct way {
    size_t first, rows;
    placed x, h, c, y;
    void *h_n, *c_n;
    frnn_call call;
} way;

static way pick_way(input *in, const problem *p)
{
    way w = {.rows = p->B};
    if (p->B && chance(in, 4)) {
        w.first = pick(in, p->B);
        w.rows = chance(in, 2) ? 1 : 1 + pick(in, p->B - w.first);
    }
    const size_t states = p->spec.num_layers * p->D;
    w.x = place(in, p->T, p->B, p->spec.input_size, p->element, p->same_rows);
    scatter(&w.x, &p->x);
    w.call = plain_call(p);
    w.call.B = w.rows;
    w.call.x = (frnn_array){w.rows ? row_at(&w.x, 0, w.first) : w.x.start, w.x.outer, w.x.row};
    w.call.lengths = p->lengths ? p->lengths + w.first : NULL;
    const numbers zero_h = {calloc(p->h_n.n + 1, p->element), p->h_n.n};
    const numbers zero_c = {calloc(states * p->B * p->spec.hidden_size + 1, p->element),
                            states * p->B * p->spec.hidden_size};
    if (p->h.data || chance(in, 3)) {
        w.h = place(in, states, p->B, p->out, p->element, false);
        scatter(&w.h, p->h.data ? &p->h : &zero_h);
        w.call.initial[0] = (frnn_array){w.rows ? row_at(&w.h, 0, w.first) : w.h.start, w.h.outer, w.h.row};
    }
    if (has_c(p) && (p->c.data || chance(in, 3))) {
        w.c = place(in, states, p->B, p->spec.hidden_size, p->element, false);
        scatter(&w.c, p->c.data ? &p->c : &zero_c);
        w.call.initial[1] = (frnn_array){w.rows ? row_at(&w.c, 0, w.first) : w.c.start, w.c.outer, w.c.row};
    }
    free(zero_h.data), free(zero_c.data);
    w.call.return_sequences = !chance(in, 3);
    w.y = place(in, w.call.return_sequences ? p->T : 1, w.rows, p->D * p->out, p->element, false);
    w.call.y = w.y.start;
    w.call.y_time = w.y.outer;
    w.call.y_row = w.y.row;
    w.call.final[0] = w.h_n = take(states * w.rows * p->out * p->element);
    w.call.final[1] = w.c_n = has_c(p) ? take(states * w.rows * p->spec.hidden_size * p->element) : NULL;
    w.call.threads = 1 + pick(in, 4);
    return w;
}

/* The rows of (outers, rows, n) numbers are those of the same rows of the whole batch. */
static void check_rows(const problem *p, const char *what, const placed *got, const void *whole, size_t first)
{
    for (size_t i = 0; i < got->outers * got->rows; i++) {
        const size_t outer = i / got->rows, row = i % got->rows;
        check_same(p, what, row_at(got, outer, row), (char *)whole + (outer * p->B + first + row) * got->row_bytes,
                   got->row_bytes / p->element);
    }
}

/* A dense array as a placed one. */
static placed dense_at(void *data, size_t outers, size_t rows, size_t row_bytes)
{
    return (placed){data, data,      outers * rows * row_bytes,     outers,
                    rows, row_bytes, (ptrdiff_t)(rows * row_bytes), (ptrdiff_t)row_bytes};
}

static void check_way(const problem *p, way *w, frnn_status status, bool may_end)
{
    if (status != FRNN_OK) {
        const bool failed = status == FRNN_NO_MEMORY && atomic_load(&failures);
        if (!failed && !(status == FRNN_INTERRUPTED && may_end))
            fail("the answer is %d", status);
    } else {
        const size_t states = p->spec.num_layers * p->D;
        const placed h_n = dense_at(w->h_n, states, w->rows, p->out * p->element);
        const placed c_n = dense_at(w->c_n, states, w->rows, p->spec.hidden_size * p->element);
        check_rows(p, "y", &w->y, w->call.return_sequences ? p->y.data : last_step(p), w->first);
        check_rows(p, "h_n", &h_n, p->h_n.data, w->first);
        if (has_c(p))
            check_rows(p, "c_n", &c_n, p->c_n.data, w->first);
    }
    check_gaps(&w->y, "y");
    check_rows(p, "x", &w->x, p->x.data, 0); /* which takes the place of comparing it with itself before */
    check_gaps(&w->x, "x");
    if (p->h.data)
        check_rows(p, "h", &w->h, p->h.data, 0);
    if (p->c.data)
        check_rows(p, "c", &w->c, p->c.data, 0);
}

static void run_some_way(input *in, const problem *p, const frnn_params *params)
{
    const conditions c = pick_conditions(in);
    way w = pick_way(in, p);
    frnn_plan plan = frnn_make_plan(params, p->T, w.rows, w.call.threads);
    check_plan(params, &plan, w.rows, w.call.threads);
    const bool planned = chance(in, 2);
    if (planned)
        plan = pick_plan(in, p, w.rows);
    questions q = {p, params, 0, false, NULL, NULL, NULL};
    if (chance(in, 4)) {
        q.left = 1 + pick(in, 4);
        q.nested = chance(in, 2);
        q.y = take(p->y.n * p->element);
        q.h_n = take(p->h_n.n * p->element);
        q.c_n = take((p->c_n.n + 1) * p->element);
        w.call.interrupted = interrupted;
        w.call.context = &q;
    }
    const bool hashes = chance(in, 4);
    const uint64_t before = hashes ? hash_of(params) : 0;
    begin_watching(&c);
    const frnn_status status = planned ? frnn_run_planned(params, &w.call, plan) : frnn_run(params, &w.call);
    end_watching();
    const size_t said = frnn_scratch_bytes(params, &plan, p->T, w.rows);
    const size_t starts = (plan.parts * p->D + 1) * FRNN_ALIGNMENT;
    if (!w.call.interrupted && atomic_load(&peak) > said + starts)
        fail("a call took %zu bytes, and was to take %zu", atomic_load(&peak), said);
    if (atomic_load(&live))
        fail("a call kept %zu bytes", atomic_load(&live));
    check_way(p, &w, status, w.call.interrupted);
    if (hashes && hash_of(params) != before)
        fail("the params were written");
}

/* Time in chunks, the state carried over; in the order that the stack runs in. */
static void run_in_chunks(input *in, const problem *p, const frnn_params *params)
{
    const size_t states = p->spec.num_layers * p->B, width = p->out * p->element, h = states * width;
    const size_t c = has_c(p) ? states * p->spec.hidden_size * p->element : 0;
    frnn_call call = plain_call(p);
    char *h_n[2] = {take(h), take(h)}, *c_n[2] = {take(c), take(c)}, *y = take(p->y.n * p->element);
    size_t *lengths = take(p->B * sizeof *lengths);
    size_t done = 0, turn = 0;
    do {
        call.T = p->T ? 1 + pick(in, p->T - done) : 0;
        const size_t from = p->spec.forward ? done : p->T - done - call.T;
        for (size_t r = 0; r < p->B; r++) {
            const size_t length = p->lengths ? p->lengths[r] : p->T, left = length > from ? length - from : 0;
            lengths[r] = left < call.T ? left : call.T;
        }
        call.lengths = p->lengths || chance(in, 4) ? lengths : NULL;
        call.x.data = (const char *)p->x.data + from * p->B * p->spec.input_size * p->element;
        call.y = y + from * p->B * width;
        call.final[0] = h_n[turn];
        call.final[1] = has_c(p) ? c_n[turn] : NULL;
        call.threads = 1 + chance(in, 4);
        if (frnn_run(params, &call) != FRNN_OK)
            fail("a chunk fails");
        call.initial[0].data = h_n[turn];
        call.initial[1].data = has_c(p) ? c_n[turn] : NULL;
        turn = !turn;
        done += call.T;
    } while (done < p->T);
    check_same(p, "y in chunks", y, p->y.data, p->y.n);
    check_same(p, "h_n of chunks", call.initial[0].data, p->h_n.data, p->h_n.n);
    if (has_c(p))
        check_same(p, "c_n of chunks", call.initial[1].data, p->c_n.data, p->c_n.n);
}

#include "streams.h"

/* What is said, and sizes that cannot be had. */

static void check_text(input *in, const frnn_params *params, size_t T, size_t B)
{
    const size_t threads = 1 + pick(in, FRNN_MOST_THREADS), needed = frnn_explain(params, T, B, threads, NULL, 0);
    char *whole = take(needed);
    if (frnn_explain(params, T, B, threads, whole, needed) != needed || strlen(whole) + 1 != needed)
        fail("a text of %zu bytes is not one of %zu", strlen(whole) + 1, needed);
    const size_t size = pick(in, needed + 2);
    char *some = take(size);
    if (frnn_explain(params, T, B, threads, some, size) != needed)
        fail("a text needs another size where it gets %zu bytes", size);
    const size_t shown = size < needed ? size : needed;
    if (shown && (some[shown - 1] || memcmp(some, whole, shown - 1) != 0))
        fail("the first %zu bytes of a text are others", shown);
}

static void check_large_calls(input *in, const frnn_params *params)
{
    static const size_t sizes[] = {0,
                                   1,
                                   2,
                                   1000,
                                   1 << 20,
                                   (size_t)1 << 31,
                                   (size_t)1 << 32,
                                   (size_t)1 << 48,
                                   PTRDIFF_MAX / 64,
                                   PTRDIFF_MAX / 8,
                                   PTRDIFF_MAX};
    const size_t T = PICK_OF(in, sizes), B = PICK_OF(in, sizes), threads = 1 + pick(in, FRNN_MOST_THREADS);
    const frnn_plan plan = frnn_make_plan(params, T, B, threads);
    check_plan(params, &plan, B, threads);
    const size_t bytes = frnn_scratch_bytes(params, &plan, T, B);
    if (B && bytes < SIZE_MAX && bytes / B < sizeof(size_t))
        fail("scratch of %zu bytes for %zu rows", bytes, B);
    check_text(in, params, T, B);
    if (B > (size_t)1 << 40 && params->spec.forward && !params->spec.reverse) {
        const conditions c = {FE_TONEAREST, 0, 0, 0};
        frnn_stream *stream = NULL;
        begin_watching(&c);
        const frnn_status status = frnn_stream_new(params, B, &stream);
        end_watching();
        if (status != FRNN_NO_MEMORY || stream || atomic_load(&live))
            fail("a stream of %zu rows: the answer is %d", B, status);
    }
}

/* Sizes of which one is far beyond memory; nothing is read before that is known. */
static void check_large_params(input *in, const frnn_target *target)
{
    static const size_t far[] = {(size_t)1 << 40, (size_t)1 << 47, (size_t)1 << 48, (size_t)1 << 56,
                                 ((size_t)1 << 57) - 1};
    const size_t large = PICK_OF(in, far) + pick(in, 3) - 1, which = pick(in, 3);
    frnn_spec spec = {.input_size = 1 + pick(in, 40),
                      .hidden_size = 1 + pick(in, 40),
                      .num_layers = 1 + pick(in, 2),
                      .forward = true};
    spec.cell = (frnn_cell)pick(in, 3);
    spec.dtype = (frnn_dtype)pick(in, 2);
    spec.clip = (double)INFINITY;
    *(which == 0 ? &spec.input_size : which == 1 ? &spec.hidden_size : &spec.proj_size) = large;
    if (which == 2)
        spec.cell = FRNN_LSTM;
    if (chance(in, 2))
        spec.hidden_size = large;
    const frnn_weights nothing[2] = {{0}};
    const conditions c = {FE_TONEAREST, 0, 0, 0};
    frnn_params *params = NULL;
    begin_watching(&c);
    const frnn_status status = frnn_params_new(&spec, nothing, target, &params);
    end_watching();
    if (status != FRNN_NO_MEMORY || params || atomic_load(&live))
        fail("params of I %zu, H %zu, P %zu: the answer is %d", spec.input_size, spec.hidden_size, spec.proj_size,
             status);
}

/* All of it. */

static void act(input *in, const problem *p)
{
    const size_t which = pick(in, target_count);
    const frnn_params *params = params_of[which];
    switch (pick(in, 8)) {
    case 4:
        if (is_one_way(p))
            run_in_chunks(in, p, params);
        break;
    case 5:
        if (p->spec.forward && is_one_way(p) && p->B && !p->lengths)
            run_stream(in, p, params);
        break;
    case 6: check_text(in, params, p->T, p->B), check_large_calls(in, params); break;
    case 7: check_large_params(in, targets[which]); break;
    default: run_some_way(in, p, params);
    }
}

static void run_plainly(const problem *p, const frnn_params *params, numbers *y, numbers *h_n, numbers *c_n)
{
    frnn_call call = plain_call(p);
    call.y = y->data, call.final[0] = h_n->data, call.final[1] = has_c(p) ? c_n->data : NULL;
    if (frnn_run(params, &call) != FRNN_OK)
        fail("a plain call fails");
}

int LLVMFuzzerInitialize(const int *count, char ***arguments)
{
    (void)count, (void)arguments;
    for (size_t t = 0; t < frnn_target_count(); t++)
        if (frnn_target_usable(frnn_target_at(t)))
            targets[target_count++] = frnn_target_at(t);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size, 1};
    problem p = pick_problem(&in);
    current = &p;
    const conditions plain = {FE_TONEAREST, 0, 0, 0}, some = pick_conditions(&in);
    frnn_params_free(make_params(&p, targets[0], &some));
    for (size_t t = 0; t < target_count; t++)
        params_of[t] = make_params(&p, targets[t], &plain);
    run_plainly(&p, params_of[0], &p.y, &p.h_n, &p.c_n);
    check_reference(&p);
    for (size_t t = 1; t < target_count; t++) {
        numbers y = {take(p.y.n * p.element), p.y.n}, h_n = {take(p.h_n.n * p.element), p.h_n.n};
        numbers c_n = {take((p.c_n.n + 1) * p.element), p.c_n.n};
        run_plainly(&p, params_of[t], &y, &h_n, &c_n);
        check_same(&p, frnn_target_name(targets[t]), y.data, p.y.data, y.n);
        check_same(&p, frnn_target_name(targets[t]), h_n.data, p.h_n.data, h_n.n);
        check_same(&p, frnn_target_name(targets[t]), c_n.data, p.c_n.data, c_n.n);
    }
    for (size_t actions = 0; actions < MOST_ACTIONS && in.left; actions++)
        act(&in, &p);
    for (size_t t = 0; t < target_count; t++)
        frnn_params_free(params_of[t]);
    current = NULL;
    release();
    return 0;
}
