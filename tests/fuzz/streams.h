/* A stream over the sequences of a problem: steps, runs, and states that are got and set, in any order. Or a pool, with a
 * stream for each of them. */
#ifndef STREAMS_H
#define STREAMS_H

#include "pooled.h"
#include "ways.h"

typedef struct listener {
    const problem *p;
    frnn_stream *stream;
    strided x;
    size_t t;         /* steps taken */
    result state;     /* its y is not used */
    const void *held; /* an output that must stay, and what it is; NULL: none */
    void *held_copy;
} listener;

static size_t output_bytes(const problem *p) { return p->b.B * p->l.out * p->l.element; }

static char *output_at(const problem *p, size_t t) { return (char *)p->whole.y + t * output_bytes(p); }

static void get_state(const frnn_stream *stream, const result *to)
{
    frnn_stream_get_state(stream, (void *[]){to->h, to->c});
}

static void set_state(frnn_stream *stream, const void *h, const void *c)
{
    frnn_stream_set_state(stream, (const void *[]){h, c});
}

static void check_held(const listener *s)
{
    if (s->held && memcmp(s->held, s->held_copy, output_bytes(s->p)) != 0)
        fail("an output of a stream was written over at step %zu", s->t);
}

/* The newest output is to stay over one more step or run. */
static void hold(listener *s, int slot)
{
    if (slot != frnn_stream_newest(s->stream))
        fail("the slot is %d, and the newest %d", slot, frnn_stream_newest(s->stream));
    s->held = frnn_stream_output(s->stream, slot);
    memcpy(s->held_copy, s->held, output_bytes(s->p));
}

static void check_state(const listener *s, const result *expected, const char *what)
{
    const layer *l = &s->p->l;
    const size_t B = s->p->b.B;
    result got = new_result(l, 0, B);
    get_state(s->stream, &got);
    check_same(s->p, what, got.h, expected->h, h_count(l, B));
    check_same(s->p, what, got.c, expected->c, has_c(l) ? c_count(l, B) : 0);
    free_result(&got);
}

static void step_once(listener *s)
{
    const problem *p = s->p;
    const conditions c = pick_conditions();
    begin_watching(&c);
    const int slot = frnn_stream_step(s->stream, strided_row(&s->x, s->t, 0), s->x.row, FRNN_NO_TOKENS, 1);
    end_watching();
    if (atomic_load(&allocations))
        fail("a step allocates");
    check_held(s);
    hold(s, slot);
    check_same(p, "a step's output", s->held, output_at(p, s->t), p->b.B * p->l.out);
    s->t++;
}

/* A run of n steps. Of B, lengths and the states of a call nothing is read. */
static frnn_call pick_run(const listener *s, size_t n, const strided *y, bool all_steps)
{
    const problem *p = s->p;
    void *const nowhere = (void *)(uintptr_t)p->l.element;
    frnn_call call = make_call(&p->l, &p->b, &p->whole);
    call.T = n;
    call.B = p->b.B + 1000;
    call.initial[0].data = call.initial[1].data = call.final[0] = call.final[1] = nowhere;
    call.x = (frnn_array){n ? strided_row(&s->x, s->t, 0) : s->x.data, s->x.outer, s->x.row};
    call.return_sequences = all_steps;
    call.threads = rarely(12) ? 2 : 1;
    call.y = y->data, call.y_time = y->outer, call.y_row = y->row;
    return call;
}

static void run_steps(listener *s)
{
    const problem *p = s->p;
    const conditions c = pick_conditions();
    const size_t n = pick(p->b.T - s->t + 1);
    const bool all_steps = !chance(3);
    strided y = new_strided(all_steps ? n : 1, p->b.B, p->l.out, p->l.element, false);
    const frnn_call call = pick_run(s, n, &y, all_steps);
    get_state(s->stream, &s->state);
    begin_watching(&c);
    const frnn_status status = frnn_stream_run(s->stream, &call);
    end_watching();
    check_held(s);
    if (status == FRNN_OK) {
        hold(s, frnn_stream_newest(s->stream));
        if (n)
            check_rows(p, "y of a stream's run", &y, output_at(p, all_steps ? s->t : s->t + n - 1), 0);
        s->t += n;
    } else {
        if (status != FRNN_NO_MEMORY || !atomic_load(&failures))
            fail("a stream's run answers %d", status);
        check_state(s, &s->state, "the state after a run that failed");
    }
    check_gaps(&y, "y of a stream's run");
    free(y.memory);
}

/* Goes elsewhere and comes back. */
static void leave_and_return(listener *s)
{
    get_state(s->stream, &s->state);
    if (chance(2)) {
        frnn_stream_set_state(s->stream, NULL);
        check_held(s);
        if (chance(2)) /* a step over which no output need stay */
            frnn_stream_step(s->stream, strided_row(&s->x, 0, 0), s->x.row, FRNN_NO_TOKENS, 1);
        s->held = NULL;
    }
    set_state(s->stream, s->state.h, s->state.c);
    check_held(s);
    s->held = NULL;
    check_state(s, &s->state, "the state that was set");
}

/* The last output as the next input, where it lies, against a call of one step that has a copy of it. */
static void feed_back(listener *s)
{
    const problem *p = s->p;
    const layer *l = &p->l;
    get_state(s->stream, &s->state);
    const void *x = frnn_stream_output(s->stream, frnn_stream_newest(s->stream));
    batch one = {.T = 1, .B = p->b.B, .x = copy_of(x, output_bytes(p)), .h = s->state.h, .c = s->state.c};
    result expected = new_result(l, 1, one.B);
    const frnn_call call = make_call(l, &one, &expected);
    if (frnn_run(l->params, &call) != FRNN_OK)
        fail("a call of one step fails");
    const int slot = frnn_stream_step(s->stream, x, call.x.row, FRNN_NO_TOKENS, 1);
    check_same(p, "a step on its own output", frnn_stream_output(s->stream, slot), expected.y, one.B * l->out);
    check_state(s, &expected, "the state of a step on its own output");
    free(one.x), free_result(&expected);
}

static void listen(listener *s)
{
    const problem *p = s->p;
    if (p->b.h || p->b.c || chance(2))
        set_state(s->stream, p->b.h, p->b.c);
    while (s->t < p->b.T)
        switch (pick(4)) {
        case 1: run_steps(s); break;
        case 2: leave_and_return(s); break;
        default: step_once(s);
        }
    check_state(s, &p->whole, "a stream's last state");
    for (size_t steps = p->l.spec.input_size == p->l.out ? 1 + pick(3) : 0; steps; steps--)
        feed_back(s);
    check_rows(p, "x of a stream", &s->x, p->b.x, 0);
}

static void run_stream(const problem *p)
{
    if (chance(3)) {
        check_pooled(&p->l, &p->b, &p->whole, false);
        return;
    }
    const conditions c = pick_conditions();
    listener s = {.p = p};
    begin_watching(&c);
    const frnn_status status = frnn_stream_new(p->l.params, p->b.B, &s.stream);
    end_watching();
    if (status != (atomic_load(&failures) ? FRNN_NO_MEMORY : FRNN_OK))
        fail("frnn_stream_new answers %d", status);
    if (status != FRNN_OK)
        return;
    s.x = new_strided(p->b.T, p->b.B, p->l.spec.input_size, p->l.element, p->same_rows);
    scatter(&s.x, p->b.x);
    s.state = new_result(&p->l, 0, p->b.B);
    s.held_copy = allocate(1, output_bytes(p));
    listen(&s);
    frnn_stream_free(s.stream);
    free(s.x.memory), free(s.held_copy), free_result(&s.state);
}

#endif
