/* A call: its batch is dealt out to strands, and these to threads.
 *
 * A stack in one direction is one strand a part of the batch, through all layers. A bidirectional stack is run layer by
 * layer, since each layer needs both directions of the one below over the whole sequence. */
#include "strand.h"
#include "trials.h"

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

/* The caller's rows. Those of the same length are taken as they lie, so that parts share few lines of x and y; others are dealt
 * out like cards, the longest first, so that each part gets as many long rows as the others. */
static void deal_rows(const frnn_call *call, size_t parts, ranked *ranks, size_t *rows)
{
    for (size_t r = 0; r < call->B; r++) {
        rows[r] = r;
        ranks[r] = (ranked){call->lengths ? call->lengths[r] : call->T, r};
    }
    if (!call->lengths)
        return;
    qsort(ranks, call->B, sizeof *ranks, longest_first);
    size_t n = 0;
    for (size_t part = 0; part < parts; part++)
        for (size_t r = part; r < call->B; r += parts)
            rows[n++] = ranks[r].row;
}

/* Some layers of a call. Strand i is direction i % D of part i / D of the batch. */
typedef struct phase {
    const frnn_params *params;
    const frnn_call *call;
    frnn_plan plan;
    size_t first, layers, parity;
    frnn_sequence source, sink;
    frnn_tokens tokens; /* what source is made of */
    const size_t *rows;
    frnn_strand *strands;
    size_t from, until; /* steps */
    frnn_progress progress;
    const frnn_record *record; /* these two as of frnn_strand */
    const frnn_tape *marks;
    bool alone;  /* no other thread was to be had */
    void *local; /* memory for the scratch of a strand that is the only one */
    size_t local_bytes;
} phase;

static frnn_strand make_strand(phase *p, size_t i)
{
    const size_t D = p->params->D, parts = p->plan.parts, part = i / D;
    const size_t each = p->call->B / parts, longer = p->call->B % parts; /* as deal_rows deals */
    const size_t before = part * each + (part < longer ? part : longer);
    frnn_strand strand = {
        .params = p->params,
        .call = p->call,
        .plan = p->plan,
        .n = each + (part < longer),
        .rows = p->rows ? p->rows + before : NULL, /* NULL where scratch is only counted */
        .first = p->first,
        .layers = p->layers,
        .direction = i % D,
        .parity = p->parity,
        .source = p->source,
        .sink = p->sink,
        .tokens = p->tokens,
        .progress = &p->progress,
        .from = p->from,
        .until = p->until,
        .record = p->record,
        .marks = p->marks,
    };
    if (strand.sink.base)
        strand.sink.base += strand.direction * p->params->out * p->params->number_bytes;
    return strand;
}

/* Task i is a thread of strand i % strands. Tasks below `strands` are the first threads of their strands, which the
 * others join: they must begin before them. */
static void take_part(void *context, size_t i, frnn_thread_context where)
{
    phase *p = context;
    const size_t strands = p->plan.parts * p->params->D;
    if (where.caller)
        p->alone = where.alone;
    frnn_strand_run(&p->strands[i % strands], i < strands, where, p->local, p->local_bytes);
}

/* The calling thread asks whether to go on, while it waits for tasks of other threads. */
static void ask(void *context)
{
    phase *p = context;
    if (frnn_is_on(&p->progress))
        frnn_ask(&p->progress);
}

static void run_phase(phase *p)
{
    p->progress.forks = frnn_forks(); /* of now: the phase before this one may have forked, and gone on in the child */
    const size_t strands = p->plan.parts * p->params->D;
    for (size_t i = 0; i < strands; i++)
        p->strands[i] = make_strand(p, i);
    const size_t tasks = strands * p->plan.unit_threads * p->plan.layer_threads;
    if (!frnn_parallel(tasks, p->plan.threads, take_part, ask, p))
        frnn_give_up(&p->progress, FRNN_FORKED);
    for (size_t i = 0; i < strands; i++)
        frnn_strand_end(&p->strands[i]);
}

/* What is run of a call, and what is kept of it. */
typedef struct running {
    const frnn_params *params;
    const frnn_call *call;
    size_t from, until;        /* steps */
    size_t first, layers;      /* of the stack */
    const frnn_tape *tape;     /* from which x is read, and where outputs of whole layers go; NULL: none */
    const frnn_record *record; /* these two as of frnn_strand */
    const frnn_tape *marks;
    size_t *rows;            /* of the batch, to be written, the longest first; NULL: not wanted */
    const frnn_trial *trial; /* that it is; NULL: none */
} running;

static running all_of(const frnn_params *params, const frnn_call *call)
{
    return (running){.params = params, .call = call, .until = call->T, .layers = params->spec.num_layers};
}

/* Arrays of a call that its strands share. */
typedef struct call_memory {
    ranked *ranks;
    size_t *rows;
    frnn_strand *strands;
    char *whole[2]; /* outputs of a bidirectional stack's layers, alternating */
} call_memory;

static bool runs_by_layer(const frnn_params *params) { return params->D == 2 && params->spec.num_layers > 1; }

static call_memory lay_out(frnn_arena *arena, const frnn_params *params, const frnn_plan *plan, size_t T, size_t B)
{
    const size_t width = params->D * params->out * params->number_bytes;
    call_memory all = {
        .ranks = frnn_arena_take(arena, B, sizeof *all.ranks),
        .rows = frnn_arena_take(arena, B, sizeof *all.rows),
        .strands = frnn_arena_take(arena, plan->parts * params->D, sizeof *all.strands),
    };
    for (size_t i = 0; i < 2 && runs_by_layer(params) && i + 1 < params->spec.num_layers; i++)
        all.whole[i] = frnn_arena_take(arena, T, frnn_arena_product(arena, B, width));
    return all;
}

/* The outputs of the layer before a phase, and of its last one: by time, which the call's rows are. */
static frnn_sequence inner(const running *r, const call_memory *all, size_t first)
{
    const size_t width = r->params->D * r->params->out * r->params->number_bytes;
    return r->tape ? frnn_tape_whole(r->tape, first + 1)
                   : frnn_sequence_of(all->whole[first % 2], FRNN_BY_TIME, r->call->B, width);
}

static void run_phases(const running *r, phase *p, const call_memory *all)
{
    const frnn_call *call = r->call;
    const frnn_sequence y = {call->return_sequences ? call->y : NULL, call->y_time, call->y_row, FRNN_BY_TIME, 0};
    const size_t L = r->params->spec.num_layers, end = r->first + r->layers;
    p->source = r->tape ? frnn_tape_whole(r->tape, r->first)
                        : (frnn_sequence){(char *)call->x.data, call->x.outer, call->x.row, FRNN_BY_TIME, 0};
    p->tokens = r->first ? FRNN_NO_TOKENS : r->tape ? r->tape->lookup.tokens : call->tokens;
    for (p->first = r->first; p->first < end && frnn_is_on(&p->progress); p->first += p->layers) {
        p->sink = p->first + p->layers == L ? y : inner(r, all, p->first);
        run_phase(p);
        p->source = p->sink;
        p->tokens = FRNN_NO_TOKENS;
    }
}

/* Called in the floating-point mode of calls; it puts the caller's mode back. */
static frnn_status run(const running *r, frnn_plan plan, uint64_t mode)
{
    /* Steps of all calls of this thread: their number says in which direction the last one went through the panels, and
     * the next one goes the other way. Only time depends on it. */
    static _Thread_local size_t steps_so_far;
    const frnn_params *params = r->params;
    const frnn_call *call = r->call;
    _Alignas(FRNN_ALIGNMENT) char local[4096], scratch[16384];

    const size_t times = r->tape ? 0 : call->T; /* of whole outputs, which a tape has */
    frnn_arena arena = {0};
    lay_out(&arena, params, &plan, times, call->B);
    if (!frnn_arena_allocate(&arena, local, sizeof local)) {
        frnn_leave_float_mode(mode);
        return FRNN_NO_MEMORY;
    }
    const call_memory all = lay_out(&arena, params, &plan, times, call->B);
    if (r->rows)
        deal_rows(call, 1, all.ranks, r->rows);
    deal_rows(call, plan.parts, all.ranks, all.rows);

    const bool one = plan.parts * params->D == 1;
    phase p = {
        .params = params,
        .call = call,
        .plan = plan,
        .layers = runs_by_layer(params) ? 1 : params->spec.num_layers,
        .parity = steps_so_far,
        .rows = all.rows,
        .strands = all.strands,
        .from = r->from,
        .until = r->until,
        .record = r->record,
        .marks = r->marks,
        .progress = {.mode = mode, .interrupted = call->interrupted, .context = call->context},
        .local = one ? scratch : NULL,
        .local_bytes = one ? sizeof scratch : 0,
    };
    atomic_init(&p.progress.status, FRNN_OK);
    run_phases(r, &p, &all);
    steps_so_far += r->until - r->from;
    if (r->trial && (plan.threads == 1 || !p.alone) && frnn_is_on(&p.progress))
        frnn_trials_end(r->trial);
    free(arena.memory);
    frnn_leave_float_mode(p.progress.mode);
    return (frnn_status)atomic_load(&p.progress.status);
}

/* All steps of a call, in the way that the plan takes, which learns from it. */
static frnn_status run_and_learn(running *all, bool taped)
{
    const uint64_t mode = frnn_enter_float_mode(); /* the plan computes too, and would leave flags */
    frnn_trial trial;
    const frnn_plan plan = frnn_trials_next(all->params, all->call, taped, &trial);
    all->trial = trial.kind ? &trial : NULL;
    return run(all, plan, mode);
}

frnn_status frnn_run_planned(const frnn_params *params, const frnn_call *call, frnn_plan plan)
{
    const running all = all_of(params, call);
    if (call->tokens && !frnn_tokens_are_known(params, call))
        return FRNN_NO_SUCH_TOKEN;
    return run(&all, plan, frnn_enter_float_mode());
}

frnn_status frnn_run(const frnn_params *params, const frnn_call *call)
{
    running all = all_of(params, call);
    if (call->tokens && !frnn_tokens_are_known(params, call))
        return FRNN_NO_SUCH_TOKEN;
    return run_and_learn(&all, false);
}

frnn_status frnn_run_taped(const frnn_params *params, const frnn_call *call, size_t segment, frnn_tape **tape)
{
    if (call->tokens && !frnn_tokens_are_known(params, call))
        return FRNN_NO_SUCH_TOKEN;
    frnn_tape *made = frnn_tape_new(params, call, segment ? segment : SIZE_MAX);
    if (!made)
        return FRNN_NO_MEMORY;
    running all = all_of(params, call);
    all.tape = made;
    all.rows = made->rows;
    all.record = frnn_tape_is_marked(made) ? NULL : &made->all;
    all.marks = frnn_tape_is_marked(made) ? made : NULL;
    const frnn_status status = run_and_learn(&all, true);
    if (status == FRNN_OK)
        *tape = made;
    else
        frnn_tape_free(made);
    return status;
}

/* Only the numbers on a tape are read, and nothing but the record is written. */
frnn_status frnn_run_again(const frnn_record *record, const frnn_pull *pull)
{
    const frnn_tape *tape = record->tape;
    const frnn_params *params = tape->params;
    const size_t steps = record->until - record->from, number = params->number_bytes, H = params->spec.hidden_size;
    frnn_call call = {
        .T = tape->T,
        .B = tape->B,
        .lengths = tape->lengths,
        .resets = tape->resets,
        .reset_time = (ptrdiff_t)tape->B,
        .reset_row = 1,
        .threads = pull->threads,
        .interrupted = pull->interrupted,
        .context = pull->context,
    };
    for (size_t s = 0; s < params->states; s++) {
        const size_t row = (s ? H : params->out) * number;
        call.initial[s] = (frnn_array){frnn_tape_mark(tape, s, record->from / tape->segment, 0, 0),
                                       (ptrdiff_t)(tape->B * row), (ptrdiff_t)row};
    }
    const running some = {.params = params,
                          .call = &call,
                          .from = record->from,
                          .until = record->until,
                          .first = record->first,
                          .layers = record->layers,
                          .tape = tape,
                          .record = record};
    const uint64_t mode = frnn_enter_float_mode();
    return run(&some, frnn_make_plan(params, steps, tape->B, pull->threads), mode);
}

size_t frnn_scratch_bytes(const frnn_params *params, const frnn_plan *plan, size_t T, size_t B)
{
    frnn_arena arena = {0};
    lay_out(&arena, params, plan, T, B);
    const frnn_call call = {.T = T, .B = B};
    phase p = {
        .params = params, .call = &call, .plan = *plan, .layers = runs_by_layer(params) ? 1 : params->spec.num_layers};
    frnn_strand longest = make_strand(&p, 0);
    const size_t strands = plan->parts * params->D, each = frnn_strand_bytes(&longest),
                 own = arena.used + FRNN_ALIGNMENT;
    const bool countable = !arena.too_large && each < SIZE_MAX && each + FRNN_ALIGNMENT < (SIZE_MAX - own) / strands;
    return countable ? own + (each + FRNN_ALIGNMENT) * strands : SIZE_MAX;
}
