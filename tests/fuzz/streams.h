/* A stream over the sequences of a problem: steps, runs, and states that are got and set, in any order. */

typedef struct listener {
    const problem *p;
    const frnn_params *params;
    frnn_stream *stream;
    placed x;
    size_t t;
    char *h, *c;      /* a state */
    const void *held; /* an output that must stay, and what it is; NULL: none */
    void *held_copy;
} listener;

static size_t output_bytes(const problem *p) { return p->B * p->out * p->element; }

static void *scratch_state(const problem *p, bool of_c)
{
    return take(p->spec.num_layers * p->B * (of_c ? p->spec.hidden_size : p->out) * p->element);
}

static void check_held(const listener *l)
{
    if (l->held && memcmp(l->held, l->held_copy, output_bytes(l->p)) != 0)
        fail("an output of a stream was written over at step %zu", l->t);
}

/* The newest output is to stay over one more step or run. */
static void hold(listener *l, int slot)
{
    if (slot != frnn_stream_newest(l->stream))
        fail("the slot is %d, and the newest %d", slot, frnn_stream_newest(l->stream));
    l->held = frnn_stream_output(l->stream, slot);
    memcpy(l->held_copy, l->held, output_bytes(l->p));
}

static void step_once(input *in, listener *l)
{
    const problem *p = l->p;
    conditions c = pick_conditions(in);
    const void *x = p->B ? row_at(&l->x, l->t, 0) : l->x.start;
    begin_watching(&c);
    const int slot = frnn_stream_step(l->stream, x, l->x.row);
    end_watching();
    if (atomic_load(&allocations))
        fail("a step allocates");
    check_held(l);
    hold(l, slot);
    check_same(p, "a step's output", l->held, (char *)p->y.data + l->t * output_bytes(p), p->B * p->out);
    l->t++;
}

static void check_state(const listener *l, const void *h, const void *c, const char *what)
{
    const problem *p = l->p;
    char *got_h = scratch_state(p, false), *got_c = has_c(p) ? scratch_state(p, true) : NULL;
    frnn_stream_get_state(l->stream, (void *[]){got_h, got_c});
    check_same(p, what, got_h, h, p->h_n.n);
    if (has_c(p))
        check_same(p, what, got_c, c, p->c_n.n);
}

static void run_steps(input *in, listener *l)
{
    const problem *p = l->p;
    const conditions c = pick_conditions(in);
    void *const nowhere = (void *)(uintptr_t)p->element; /* is not read */
    frnn_call call = plain_call(p);
    call.T = pick(in, p->T - l->t + 1);
    call.B = p->B + 1000;
    call.initial[0].data = call.initial[1].data = call.final[0] = call.final[1] = nowhere;
    call.x = (frnn_array){call.T ? row_at(&l->x, l->t, 0) : l->x.start, l->x.outer, l->x.row};
    call.return_sequences = !chance(in, 3);
    call.threads = 1 + chance(in, 4);
    placed y = place(in, call.return_sequences ? call.T : 1, p->B, p->out, p->element, false);
    call.y = y.start, call.y_time = y.outer, call.y_row = y.row;
    frnn_stream_get_state(l->stream, (void *[]){l->h, l->c});
    begin_watching(&c);
    const frnn_status status = frnn_stream_run(l->stream, &call);
    end_watching();
    check_held(l);
    if (status != FRNN_OK) {
        if (status != FRNN_NO_MEMORY || !atomic_load(&failures))
            fail("a stream's run answers %d", status);
        check_state(l, l->h, l->c, "the state after a run that failed");
        return;
    }
    hold(l, frnn_stream_newest(l->stream));
    const size_t shown = call.return_sequences ? l->t : l->t + call.T - 1;
    if (call.return_sequences || call.T)
        check_rows(p, "y of a stream's run", &y, (char *)p->y.data + shown * output_bytes(p), 0);
    check_gaps(&y, "y of a stream's run");
    l->t += call.T;
}

/* Goes elsewhere and comes back. */
static void set_state(input *in, listener *l)
{
    frnn_stream_get_state(l->stream, (void *[]){l->h, l->c});
    if (chance(in, 2)) {
        frnn_stream_set_state(l->stream, NULL);
        check_held(l);
        if (chance(in, 2)) /* a step over which no output need stay */
            frnn_stream_step(l->stream, row_at(&l->x, 0, 0), l->x.row);
        l->held = NULL;
    }
    frnn_stream_set_state(l->stream, (const void *[]){l->h, l->c});
    check_held(l);
    l->held = NULL;
    check_state(l, l->h, l->c, "the state that was set");
}

/* The last output as the next input, where it lies. */
static void feed_back(listener *l)
{
    const problem *p = l->p;
    const ptrdiff_t row = (ptrdiff_t)(p->out * p->element);
    frnn_stream_get_state(l->stream, (void *[]){l->h, l->c});
    const void *x = frnn_stream_output(l->stream, frnn_stream_newest(l->stream));
    void *copy = take(output_bytes(p)), *h_n = scratch_state(p, false);
    memcpy(copy, x, output_bytes(p));
    frnn_call call = plain_call(p);
    call.T = 1;
    call.x.data = copy, call.x.outer = 0, call.x.row = row;
    call.initial[0].data = l->h, call.initial[1].data = l->c;
    call.y = take(output_bytes(p)), call.final[0] = h_n, call.final[1] = has_c(p) ? scratch_state(p, true) : NULL;
    if (frnn_run(l->params, &call) != FRNN_OK)
        fail("a call of one step fails");
    const int slot = frnn_stream_step(l->stream, x, row);
    check_same(p, "a step on its own output", frnn_stream_output(l->stream, slot), call.y, p->B * p->out);
    check_state(l, call.final[0], call.final[1], "the state of a step on its own output");
}

static void run_stream(input *in, const problem *p, const frnn_params *params)
{
    const conditions c = pick_conditions(in);
    listener l = {.p = p, .params = params, .x = place(in, p->T, p->B, p->spec.input_size, p->element, p->same_rows)};
    scatter(&l.x, &p->x);
    begin_watching(&c);
    const frnn_status status = frnn_stream_new(params, p->B, &l.stream);
    end_watching();
    if (status != (atomic_load(&failures) ? FRNN_NO_MEMORY : FRNN_OK))
        fail("frnn_stream_new answers %d", status);
    if (status != FRNN_OK)
        return;
    l.h = scratch_state(p, false);
    l.c = has_c(p) ? scratch_state(p, true) : NULL;
    l.held_copy = take(output_bytes(p));
    if (p->h.data || p->c.data || chance(in, 2))
        frnn_stream_set_state(l.stream, (const void *[]){p->h.data, p->c.data});
    while (l.t < p->T)
        switch (pick(in, 4)) {
        case 1: run_steps(in, &l); break;
        case 2: set_state(in, &l); break;
        default: step_once(in, &l);
        }
    check_state(&l, p->h_n.data, p->c_n.data, "a stream's last state");
    for (size_t steps = p->spec.input_size == p->out ? 1 + pick(in, 3) : 0; steps; steps--)
        feed_back(&l);
    check_rows(p, "x of a stream", &l.x, p->x.data, 0);
    frnn_stream_free(l.stream);
}
