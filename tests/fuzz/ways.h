/* One call in some way: other strides, some rows, threads and plans, under conditions, interrupted. It gives the bits
 * of the plain call, and leaves inputs, params and gaps between rows as they were. */
#ifndef WAYS_H
#define WAYS_H

#include "arena.h"
#include "decode.h"
#include "hooks.h"
#include "random.h"
#include "strided.h"

static void check_same(const problem *p, const char *what, const void *got, const void *expected, size_t n)
{
    const size_t i = first_difference(got, expected, n, p->l.spec.dtype);
    if (i == n)
        return;
    const double a = get(got, i, p->l.spec.dtype), b = get(expected, i, p->l.spec.dtype);
    fail("%s: number %zu of %zu is %.17g (%a), expected %.17g (%a)", what, i, n, a, a, b, b);
}

/* Against the rows of the whole batch from `first` on. */
static void check_rows(const problem *p, const char *what, const strided *got, const void *whole, size_t first)
{
    for (size_t i = 0; i < got->outers * got->rows; i++) {
        const size_t outer = i / got->rows, row = i % got->rows;
        check_same(p, what, strided_row(got, outer, row),
                   (const char *)whole + (outer * p->b.B + first + row) * got->row_bytes,
                   got->row_bytes / p->l.element);
    }
}

/* Overwrites the rows, so it comes after all that reads them. */
static void check_gaps(const strided *a, const char *what)
{
    if (!is_tidy(a))
        fail("a gap between rows of %s was written", what);
}

/* FNV-1a over all that was packed. */
static uint64_t hash_of(const frnn_params *params)
{
    const uint64_t *words = params->memory;
    uint64_t hash = 0;
    for (size_t i = 0, n = malloc_usable_size(params->memory) / sizeof *words; i < n; i++)
        hash = (hash ^ words[i]) * UINT64_C(1099511628211);
    return hash;
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

/* Mostly on one thread: threads that wake, and wait for each other on too few processors, take longer than all else. */
static frnn_plan pick_plan(const problem *p, size_t B)
{
    frnn_plan plan = random_plan(&p->l.spec, p->b.T, B);
    if (!rarely(12))
        plan.threads = 1;
    plan.seconds = (double)pick(2);
    plan.alone = (double)pick(2); /* so long that the caller is asked */
    return plan;
}

/* What the caller does when it is asked. */
typedef struct questions {
    const problem *p;
    size_t left; /* after which the answer is to end */
    bool nested; /* it makes a call of its own first */
    result own;
} questions;

static bool answer(void *context)
{
    questions *q = context;
    check_mode();
    if (q->nested && q->left) {
        frnn_call call = make_call(&q->p->l, &q->p->b, &q->own);
        call.threads = 2;
        if (frnn_run(q->p->l.params, &call) == FRNN_OK)
            check_same(q->p, "y of a call within a call", q->own.y, q->p->whole.y,
                       q->p->b.T * q->p->b.B * y_width(&q->p->l));
        q->nested = false;
    }
    return q->left == 0 || --q->left == 0;
}

static questions pick_questions(const problem *p, frnn_call *call)
{
    questions q = {.p = p};
    if (!chance(4))
        return q;
    q.left = 1 + pick(4);
    q.nested = chance(2);
    q.own = new_result(&p->l, p->b.T, p->b.B);
    call->interrupted = answer;
    return q;
}

/* Some rows of the batch, laid out anew. */
typedef struct way {
    size_t first, rows;
    strided x, state[FRNN_MOST_STATES], y;
    result states; /* its y is not used */
    frnn_call call;
} way;

/* A state is an array, also where it is zeros, or NULL. */
static void place_state(way *w, const problem *p, size_t i)
{
    const size_t width = i ? p->l.spec.hidden_size : p->l.out, states = stacked(&p->l);
    const void *dense = i ? p->b.c : p->b.h;
    w->call.initial[i].data = NULL;
    if (i >= frnn_cell_states(p->l.spec.cell) || (!dense && !chance(3)))
        return;
    void *const zeros = dense ? NULL : allocate(states * p->b.B * width, p->l.element);
    w->state[i] = new_strided(states, p->b.B, width, p->l.element, false);
    scatter(&w->state[i], dense ? dense : zeros);
    w->call.initial[i] = array_from(&w->state[i], w->first);
    free(zeros);
}

static way pick_way(const problem *p)
{
    const layer *l = &p->l;
    way w = {.rows = p->b.B};
    if (p->b.B && chance(4)) {
        w.first = pick(p->b.B);
        w.rows = chance(2) ? 1 : 1 + pick(p->b.B - w.first);
    }
    w.states = new_result(l, 0, w.rows);
    w.call = make_call(l, &p->b, &w.states);
    w.call.B = w.rows;
    w.call.lengths = p->b.ragged ? p->b.lengths + w.first : NULL;
    w.call.resets = p->b.resets ? p->b.resets + w.first : NULL;
    w.x = new_strided(p->b.T, p->b.B, l->spec.input_size, l->element, p->same_rows);
    scatter(&w.x, p->b.x);
    w.call.x = array_from(&w.x, w.first);
    for (size_t i = 0; i < FRNN_MOST_STATES; i++)
        place_state(&w, p, i);
    w.call.return_sequences = !chance(3);
    w.y = new_strided(w.call.return_sequences ? p->b.T : 1, w.rows, y_width(l), l->element, false);
    w.call.y = w.y.data, w.call.y_time = w.y.outer, w.call.y_row = w.y.row;
    w.call.threads = rarely(6) ? 2 + pick(3) : 1;
    return w;
}

static void free_way(way *w)
{
    free(w->x.memory), free(w->y.memory), free_result(&w->states);
    for (size_t i = 0; i < FRNN_MOST_STATES; i++)
        free(w->state[i].memory);
}

/* What a call returns that returns the last step alone: (B, D*out). */
static void *last_step(const problem *p)
{
    const size_t D = p->l.D, bytes = p->l.out * p->l.element;
    char *y = allocate(p->b.B * D, bytes);
    for (size_t i = 0; i < p->b.B * D; i++) {
        const size_t state = ((p->l.spec.num_layers - 1) * D + i % D) * p->b.B + i / D;
        memcpy(y + i * bytes, (char *)p->whole.h + state * bytes, bytes);
    }
    return y;
}

static void check_results(const problem *p, const way *w)
{
    const size_t states = stacked(&p->l), size = p->l.element;
    const strided h = strided_of(w->states.h, states, w->rows, p->l.out * size);
    const strided c = strided_of(w->states.c, states, w->rows, p->l.spec.hidden_size * size);
    void *const last = w->call.return_sequences ? NULL : last_step(p);
    check_rows(p, "y", &w->y, last ? last : p->whole.y, w->first);
    check_rows(p, "the final h", &h, p->whole.h, w->first);
    if (has_c(&p->l))
        check_rows(p, "the final c", &c, p->whole.c, w->first);
    free(last);
}

static void check_inputs(const problem *p, const way *w)
{
    check_rows(p, "x", &w->x, p->b.x, 0);
    check_gaps(&w->x, "x");
    if (p->b.h)
        check_rows(p, "the initial h", &w->state[0], p->b.h, 0);
    if (p->b.c)
        check_rows(p, "the initial c", &w->state[1], p->b.c, 0);
}

static size_t scratch_of(const problem *p, const way *w, const frnn_plan *plan)
{
    const size_t starts = (plan->parts * p->l.D + 1) * FRNN_ALIGNMENT; /* what aligns the parts of it */
    return frnn_scratch_bytes(p->l.params, plan, p->b.T, w->rows) + starts;
}

/* Memory is what was said of the plan, or of the way that needs most if the call chose one. */
static void check_memory(const problem *p, const way *w, const frnn_plan *plan)
{
    size_t said = plan ? scratch_of(p, w, plan) : 0;
    if (!plan) {
        frnn_plan ways[FRNN_MOST_WAYS];
        const size_t count = frnn_plan_ways(p->l.params, p->b.T, w->rows, w->call.threads, 0, ways);
        for (size_t i = 0; i < count; i++)
            if (scratch_of(p, w, &ways[i]) > said)
                said = scratch_of(p, w, &ways[i]);
    }
    if (!w->call.interrupted && atomic_load(&peak) > said)
        fail("a call took %zu bytes, and was to take %zu", atomic_load(&peak), said);
    if (atomic_load(&live))
        fail("a call kept %zu bytes", atomic_load(&live));
}

static void run_some_way(const problem *p)
{
    const frnn_params *params = p->l.params;
    const conditions c = pick_conditions();
    way w = pick_way(p);
    frnn_plan plan = frnn_make_plan(params, p->b.T, w.rows, w.call.threads);
    check_plan(params, &plan, w.rows, w.call.threads);
    const bool planned = chance(2);
    if (planned)
        plan = pick_plan(p, w.rows);
    questions q = pick_questions(p, &w.call);
    w.call.context = &q;
    const uint64_t before = hash_of(params);
    begin_watching(&c);
    const frnn_status status = planned ? frnn_run_planned(params, &w.call, plan) : frnn_run(params, &w.call);
    end_watching();
    check_memory(p, &w, planned ? &plan : NULL);
    if (status == FRNN_OK)
        check_results(p, &w);
    else if (!(status == FRNN_NO_MEMORY && atomic_load(&failures)) &&
             !(status == FRNN_INTERRUPTED && w.call.interrupted))
        fail("the answer is %d", status);
    check_gaps(&w.y, "y");
    check_inputs(p, &w);
    if (hash_of(params) != before)
        fail("the params were written");
    free_result(&q.own), free_way(&w);
}

#endif
