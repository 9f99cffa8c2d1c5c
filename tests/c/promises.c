/* What docs/numerics.md promises, of random layers of every cell, type and precision, through the C interface:
 *
 *     promises [--layers N] [--seed N] [--no-mode] [TARGET..]
 *
 * on all targets that can be used here if none is named. It says what it has run; the first promise that is broken ends
 * it with status 1, a target that cannot be used with status 2. --no-mode leaves out what an emulator without the
 * processor's floating-point mode can't have: subnormals that are flushed, roundings, exception flags. */
#include "gradients.h"
#include "narrow.h"
#include "numbers.h"
#include "pooled.h"
#include "strided.h"
#include "subject.h"

/* Whether row i of a batch comes out as when it is alone, and as long as it is. */
static bool same_alone(const layer *l, const batch *b, const result *r, size_t row)
{
    batch one = take_rows(l, b, &row, 1, length_of(b, row));
    one.ragged = false;
    result alone = run(l, &one);
    const bool kept = same_row(l, &one, &alone, 0, b, r, row);
    free_batch(&one), free_result(&alone);
    return kept;
}

static void check_alone(const subject *s)
{
    for (int i = 0; i < 3; i++)
        must(same_alone(s->l, s->b, &s->whole, pick(s->b->B)), "a row alone is as in a batch");
}

static void check_neighbours(const subject *s)
{
    const size_t n = 1 + pick(2 * s->b->B + 2);
    size_t rows[2 * MOST_ROWS + 2] = {0};
    bool kept[2 * MOST_ROWS + 2];
    for (size_t i = 0; i < n; i++)
        rows[i] = pick(s->b->B);
    batch some = take_rows(s->l, s->b, rows, n, s->b->T);
    for (size_t i = 0; i < n; i++) {
        kept[i] = pick(2);
        if (!kept[i]) {
            some.lengths[i] = pick(some.T + 1);
            spoil_row(s->l, &some, i);
        }
    }
    result r = run(s->l, &some);
    for (size_t i = 0; i < n; i++)
        must(!kept[i] || same_row(s->l, &some, &r, i, s->b, &s->whole, rows[i]),
             "neighbours and order leave a row alone");
    free_batch(&some), free_result(&r);
}

/* So many rows that a kernel takes them in more than one band: on one thread, and dealt out to two. */
static void check_crowd(const subject *s)
{
    enum { CROWD = 240 };
    const size_t n = 97 + pick(s->l->large ? 9 : CROWD - 97), most = s->l->large ? 1 : 2;
    const size_t T = s->b->T < most ? s->b->T : most;
    size_t rows[CROWD];
    if (pick(s->l->large ? 2 : 4))
        return;
    for (size_t i = 0; i < n; i++)
        rows[i] = pick(s->b->B);
    batch crowd = take_rows(s->l, s->b, rows, n, T);
    result r = run(s->l, &crowd);
    for (int i = 0; i < 4; i++)
        must(same_alone(s->l, &crowd, &r, pick(n)), "a row alone is as in a crowd");
    frnn_plan plan = {.chunk = 1 + pick(2), .parts = 2, .unit_threads = 1, .layer_threads = 1, .threads = 2};
    plan.x_part = pick(2) ? FRNN_X_AHEAD : FRNN_X_ENOUGH_ROWS;
    result planned = new_result(s->l, crowd.T, crowd.B);
    const frnn_call call = make_call(s->l, &crowd, &planned);
    must(frnn_run_planned(s->l->params, &call, plan) == FRNN_OK, "a call succeeds");
    must(same_results(s->l, &crowd, &r, &planned), "a crowd is the same under any plan");
    free_batch(&crowd), free_result(&r), free_result(&planned);
}

/* Steps [from, to) of what a batch holds, where steps of a reverse direction are counted from the end. */
static void run_chunk(const subject *s, size_t from, size_t to, result *r)
{
    size_t lengths[MOST_ROWS];
    const batch *b = s->b;
    for (size_t i = 0; i < b->B; i++) {
        const size_t left = length_of(b, i) > from ? length_of(b, i) - from : 0;
        lengths[i] = left < to - from ? left : to - from;
    }
    result chunk = new_result(s->l, to - from, b->B);
    frnn_call call = make_call(s->l, b, &chunk);
    call.x.data = (const char *)b->x + (ptrdiff_t)from * call.x.outer;
    call.resets = b->resets ? b->resets + (ptrdiff_t)from * call.reset_time : NULL;
    call.initial[0].data = r->h, call.initial[1].data = r->c;
    call.T = to - from;
    call.lengths = b->ragged || pick(2) ? lengths : NULL;
    run_call(s->l, &call, "a chunk succeeds");
    memcpy((char *)r->y + (ptrdiff_t)from * call.y_time, chunk.y, (to - from) * (size_t)call.y_time);
    memcpy(r->h, chunk.h, h_count(s->l, b->B) * s->l->element);
    memcpy(r->c, chunk.c, (has_c(s->l) ? c_count(s->l, b->B) : 0) * s->l->element);
    free_result(&chunk);
}

/* A layer in both directions can't be cut: one of them begins at the other end. */
static void check_cuts(const subject *s)
{
    const layer *l = s->l;
    if (l->D == 2)
        return;
    result r = new_result(l, s->b->T, s->b->B);
    memcpy(r.h, s->b->h, h_count(l, s->b->B) * l->element);
    memcpy(r.c, s->b->c, (has_c(l) ? c_count(l, s->b->B) : 0) * l->element);
    const size_t T = s->b->T, first = pick(T + 1), second = first + pick(T + 1 - first);
    const size_t cuts[] = {0, first, second, T};
    for (size_t i = 0; i < 3; i++) {
        const size_t chunk = l->spec.forward ? i : 2 - i;
        run_chunk(s, cuts[chunk], cuts[chunk + 1], &r);
    }
    must(same_results(l, s->b, &r, &s->whole), "time may be cut anywhere");
    free_result(&r);
}

/* `memory` has a place for a slot at every step: what was in a slot that moves is kept, as its owner would have it. */
static void take_steps(const subject *s, frnn_stream *stream, const frnn_call *whole, result *r, char *memory)
{
    for (size_t t = 0, n; t < s->b->T; t += n) {
        const char *x = (const char *)s->b->x + (ptrdiff_t)t * whole->x.outer;
        char *y = (char *)r->y + (ptrdiff_t)t * whole->y_time;
        n = 1;
        if (pick(3) == 0)
            frnn_stream_move_slot(stream, memory + t * frnn_stream_slot_bytes(stream));
        if (pick(3)) {
            const int slot = frnn_stream_step(stream, x, whole->x.row, FRNN_NO_TOKENS, 1);
            memcpy(y, frnn_stream_output(stream, slot), (size_t)whole->y_time);
        } else {
            n += pick(s->b->T - t);
            frnn_call call = *whole;
            call.T = n, call.x.data = x, call.y = y;
            must(frnn_stream_run(stream, &call) == FRNN_OK, "a stream's run succeeds");
        }
        if (pick(4) == 0) {
            frnn_stream_get_state(stream, (void *[]){r->h, r->c});
            frnn_stream_set_state(stream, (const void *[]){r->h, r->c});
        }
    }
}

/* Streams of a pool, which take numbers or tokens. */
static void check_pools(const subject *s, const batch *even, const result *expected, bool from_zeros)
{
    check_pooled(s->l, even, expected, from_zeros);
    layer l = with_embedding(s->l, s->b, s->target);
    check_pooled(&l, even, expected, from_zeros);
    frnn_params_free(l.params);
}

static void check_stream(const subject *s)
{
    const layer *l = s->l;
    if (l->spec.reverse) {
        frnn_stream *stream;
        frnn_pool *pool;
        must(frnn_stream_new(l->params, 1, &stream) == FRNN_REVERSE, "no stream runs in reverse");
        must(frnn_pool_new(l->params, 1, &pool) == FRNN_REVERSE, "no pool runs in reverse");
        return;
    }
    batch even = *s->b;
    even.ragged = false;
    even.resets = NULL; /* which a step does not take */
    const bool from_zeros = pick(3) == 0;
    result r = new_result(l, even.T, even.B), expected = new_result(l, even.T, even.B);
    frnn_call call = make_call(l, &even, &expected);
    if (from_zeros)
        call.initial[0].data = call.initial[1].data = NULL;
    run_call(l, &call, "a call succeeds");
    frnn_stream *stream;
    must(frnn_stream_new(l->params, even.B, &stream) == FRNN_OK, "a stream is made");
    if (!from_zeros)
        frnn_stream_set_state(stream, (const void *[]){even.h, even.c});
    char *memory = malloc(even.T * frnn_stream_slot_bytes(stream) + 1);
    must(memory, "memory for slots");
    memset(memory, 0xff, even.T * frnn_stream_slot_bytes(stream)); /* NaNs */
    take_steps(s, stream, &call, &r, memory);
    frnn_stream_get_state(stream, (void *[]){r.h, r.c});
    must(same_results(l, &even, &r, &expected), "step by step is as all at once");
    check_pools(s, &even, &expected, from_zeros);
    frnn_stream_free(stream);
    free(memory);
    free_result(&r), free_result(&expected);
}

static void check_threads(const subject *s)
{
    for (size_t i = 0; i < 8; i++) {
        result r = new_result(s->l, s->b->T, s->b->B);
        frnn_call call = make_call(s->l, s->b, &r);
        call.threads = i < 4 ? 1 + i : 1;
        const frnn_plan plan = random_plan(&s->l->spec, s->b->T, s->b->B);
        must((i < 4 ? frnn_run(s->l->params, &call) : frnn_run_planned(s->l->params, &call, plan)) == FRNN_OK,
             "a call succeeds");
        must(same_results(s->l, s->b, &r, &s->whole), "threads and plans change nothing");
        free_result(&r);
    }
}

static void check_layout(const subject *s)
{
    const layer *l = s->l;
    const batch *b = s->b;
    const size_t states = stacked(l);
    const strided x = new_strided(b->T, b->B, l->spec.input_size, l->element, false),
                  y = new_strided(b->T, b->B, y_width(l), l->element, false);
    const strided h = new_strided(states, b->B, l->out, l->element, false),
                  c = new_strided(states, b->B, l->spec.hidden_size, l->element, false);
    const strided resets = new_strided(b->resets ? b->T : 0, b->B, 1, 1, false);
    result r = new_result(l, b->T, b->B);
    frnn_call call = make_call(l, b, &r);
    scatter(&x, b->x), scatter(&h, b->h), scatter(&c, b->c);
    call.x = array_from(&x, 0), call.initial[0] = array_from(&h, 0), call.initial[1] = array_from(&c, 0);
    call.y = y.data, call.y_time = y.outer, call.y_row = y.row;
    if (b->resets) {
        scatter(&resets, b->resets);
        call.resets = (unsigned char *)resets.data, call.reset_time = resets.outer, call.reset_row = resets.row;
    }
    run_call(l, &call, "a call succeeds");
    gather(r.y, &y);
    must(is_tidy(&y), "nothing is written beside y");
    must(same_results(l, b, &r, &s->whole), "strides and addresses change nothing");
    const strided *const all[] = {&x, &y, &h, &c, &resets};
    for (size_t i = 0; i < 5; i++)
        free(all[i]->memory);
    free_result(&r);
}

/* What is given lies in rows with gaps of NaN, and past rows' ends is anything; so does what is wanted. */
static void check_pull_layout(const subject *s, const frnn_tape *tape, const frnn_transposed *transposed,
                              const cotangents *from, uint64_t expected)
{
    const layer *l = s->l;
    const batch *b = s->b;
    const strided dy = new_strided(b->T, b->B, y_width(l), l->element, false),
                  dx = new_strided(b->T, b->B, l->spec.input_size, l->element, false);
    const strided dh = new_strided(stacked(l), b->B, l->out, l->element, false);
    gradients g = new_gradients(l, b);
    frnn_pull to_pull = make_pull(l, b, from, &g, 1 + pick(3));
    scatter(&dy, from->dy), scatter(&dh, from->dh);
    for (size_t row = 0; row < b->B; row++)
        for (size_t t = length_of(b, row); t < b->T; t++)
            memset(strided_row(&dy, t, row), 0xff, dy.row_bytes);
    to_pull.dy = array_from(&dy, 0), to_pull.dfinal[0] = array_from(&dh, 0);
    to_pull.dx = dx.data, to_pull.dx_time = dx.outer, to_pull.dx_row = dx.row;
    must(frnn_pull_back(tape, transposed, &to_pull) == FRNN_OK, "a pullback succeeds");
    gather(g.dx, &dx);
    must(is_tidy(&dx), "nothing is written beside dx");
    must(digest_gradients(l, b, &g) == expected, "strides, and what lies past the ends, change no gradient");
    free(dy.memory), free(dx.memory), free(dh.memory);
    free_gradients(l, &g);
}

/* What is not asked for changes nothing in what is. */
static void check_some_gradients(const subject *s, const frnn_tape *tape, const frnn_transposed *transposed,
                                 const cotangents *from)
{
    const layer *l = s->l;
    gradients all = new_gradients(l, s->b), some = new_gradients(l, s->b);
    frnn_pull to_pull = make_pull(l, s->b, from, &all, 1);
    must(frnn_pull_back(tape, transposed, &to_pull) == FRNN_OK, "a pullback succeeds");
    const size_t i = pick(stacked(l)), which = pick(WEIGHTS);
    frnn_weight_gradients one[2 * MOST_STACKED] = {0};
    gradients left = {0};
    memcpy(left.weights, one, sizeof one);
    *weight_gradient(&left, i, which) = *weight_gradient(&some, i, which);
    to_pull = make_pull(l, s->b, from, &left, 1);
    const bool x = pick(2), weights = pick(2);
    to_pull.dx = x ? some.dx : NULL;
    to_pull.weights = weights ? left.weights : NULL;
    must(frnn_pull_back(tape, transposed, &to_pull) == FRNN_OK, "a pullback succeeds");
    must(!x || same(l, some.dx, 0, all.dx, 0, s->b->T * s->b->B * l->spec.input_size), "dx alone is the same");
    const void *array = *weight_gradient(&all, i, which);
    must(!weights || !array || same(l, *weight_gradient(&some, i, which), 0, array, 0, weight_count(l, i, which)),
         "a gradient alone is the same");
    free_gradients(l, &all), free_gradients(l, &some);
}

/* Weights that are packed in the place of others are the same. */
static void check_renewed(const subject *s)
{
    layer renewed = *s->l;
    uint64_t results;
    must(frnn_params_renew(s->l->params, s->l->weights, &renewed.params) == FRNN_OK, "params are renewed");
    frnn_tape_free(record(&renewed, s->b, 1, 0, &results));
    frnn_params_free(renewed.params);
    must(results == digest_result(s->l, &s->whole, s->b->T, s->b->B), "renewed params compute the same");
}

/* Layers with narrow weights have no gradients, but their steps can be traced. */
static void check_tape(const subject *s)
{
    uint64_t results;
    frnn_tape_free(record(s->l, s->b, 1 + pick(3), pick(2) ? 0 : 1 + pick(s->b->T + 1), &results));
    must(results == digest_result(s->l, &s->whole, s->b->T, s->b->B), "a tape changes no result");
}

static void check_gradients(const subject *s)
{
    const layer *l = s->l;
    uint64_t results;
    frnn_transposed *transposed = transpose(l);
    cotangents from = random_cotangents(l, s->b);
    frnn_tape *tape = record(l, s->b, 1 + pick(3), 0, &results);
    must(results == digest_result(l, &s->whole, s->b->T, s->b->B), "a tape changes no result");
    const uint64_t hash = pull(l, s->b, tape, transposed, &from, 1);
    for (size_t threads = 1; threads < 4; threads += 2)
        must(pull(l, s->b, tape, transposed, &from, threads) == hash, "threads and repetition change no gradient");
    check_pull_layout(s, tape, transposed, &from, hash);
    check_some_gradients(s, tape, transposed, &from);
    frnn_tape *marked = record(l, s->b, 1 + pick(3), 1 + pick(s->b->T + 1), &results);
    must(results == digest_result(l, &s->whole, s->b->T, s->b->B), "marks change no result");
    for (size_t threads = 1; threads < 4; threads += 2)
        must(pull(l, s->b, marked, transposed, &from, threads) == hash, "steps that are run again change no gradient");
    check_pull_layout(s, marked, transposed, &from, hash);
    check_some_gradients(s, marked, transposed, &from);
    frnn_tape_free(tape), frnn_tape_free(marked);
    frnn_transposed_free(transposed);
    free_cotangents(&from);
}

/* Also where sums are zeros of either sign: some layers have weights and inputs for it. */
static void check_no_state(const subject *s)
{
    const size_t B = s->b->B;
    batch zeros = *s->b;
    zeros.h = allocate(h_count(s->l, B), s->l->element);
    zeros.c = allocate(c_count(s->l, B), s->l->element);
    result given = run(s->l, &zeros), none = new_result(s->l, zeros.T, B);
    frnn_call call = make_call(s->l, &zeros, &none);
    call.initial[0].data = NULL;
    call.initial[1].data = pick(2) ? NULL : zeros.c;
    run_call(s->l, &call, "a call succeeds");
    must(same_results(s->l, &zeros, &given, &none), "no state is a state of +0");
    free(zeros.h), free(zeros.c);
    free_result(&given), free_result(&none);
}

/* The row of y that return_sequences = false gives: of each direction its last step's. */
static bool is_last(const subject *s, const void *last, size_t row)
{
    const layer *l = s->l;
    const size_t length = length_of(s->b, row), width = y_width(l);
    bool all = true;
    for (size_t d = 0; d < l->D; d++) {
        const size_t t = d || !l->spec.forward ? 0 : length - 1, to = row * width + d * l->out;
        const size_t state = ((l->spec.num_layers - 1) * l->D + d) * s->b->B + row;
        all = all && same(l, last, to, s->whole.h, state * l->out, l->out);
        all = all && (!length || same(l, last, to, s->whole.y, t * s->b->B * width + to, l->out));
    }
    return all;
}

/* The gradients of rows that one token each names are those of x. */
static void check_embedding_gradients(const layer *l, const batch *b, const frnn_call *of_tokens)
{
    if (l->spec.precision != FRNN_FULL)
        return;
    const size_t count = b->T * b->B * l->spec.input_size;
    cotangents from = random_cotangents(l, b);
    gradients g = new_gradients(l, b);
    void *dE = allocate_unset(count, l->element);
    frnn_pull to_pull = make_pull(l, b, &from, &g, 1 + pick(3));
    frnn_transposed *transposed = transpose(l);
    uint64_t hash;
    frnn_tape *dense_tape = record(l, b, 1, pick(3), &hash), *tape;
    must(frnn_pull_back(dense_tape, transposed, &to_pull) == FRNN_OK, "a pullback succeeds");
    must(frnn_run_taped(l->params, of_tokens, pick(3), &tape) == FRNN_OK, "a call of tokens with a tape succeeds");
    void *const dx = to_pull.dx;
    to_pull.dx = NULL, to_pull.dE = dE;
    must(frnn_pull_back(tape, transposed, &to_pull) == FRNN_OK, "a pullback of tokens succeeds");
    for (size_t i = 0; i < count; i++) /* a sum from zero is never -0 */
        put(dx, i, l->spec.dtype, get(dx, i, l->spec.dtype) + 0.0);
    must(same(l, dE, 0, dx, 0, count), "gradients of rows are those of x");
    frnn_tape_free(dense_tape), frnn_tape_free(tape), frnn_transposed_free(transposed);
    free(dE), free_gradients(l, &g), free_cotangents(&from);
}

static void check_tokens(const subject *s)
{
    const size_t rows = s->b->T * s->b->B, B = s->b->B;
    int32_t *tokens = allocate(rows, sizeof *tokens);
    layer l = with_embedding(s->l, s->b, s->target);
    result r = new_result(&l, s->b->T, B);
    for (size_t i = 0; i < rows; i++)
        tokens[i] = (int32_t)i;
    frnn_call call = make_call(&l, s->b, &r);
    call.x = dense(tokens, B, sizeof *tokens);
    call.tokens = FRNN_TOKENS_32;
    call.threads = 1 + pick(3);
    run_call(&l, &call, "a call of tokens succeeds");
    must(same_results(&l, s->b, &r, &s->whole), "tokens are the rows that they name");
    check_embedding_gradients(&l, s->b, &call);
    for (size_t row = 0; row < B; row++)
        if (length_of(s->b, row)) {
            tokens[row] = pick(2) ? -1 : (int32_t)rows;
            must(frnn_run(l.params, &call) == FRNN_NO_SUCH_TOKEN, "a token that names no row is refused");
            break;
        }
    frnn_params_free(l.params);
    free(tokens), free_result(&r);
}

static void check_ends(const subject *s)
{
    const layer *l = s->l;
    const size_t B = s->b->B, width = y_width(l), H = l->spec.hidden_size;
    void *last = allocate(B * width, l->element), *zeros = allocate(width, l->element);
    result r = new_result(l, s->b->T, B);
    frnn_call call = make_call(l, s->b, &r);
    call.return_sequences = false;
    call.y = last, call.y_time = 0;
    run_call(l, &call, "a call succeeds");
    for (size_t row = 0; row < B; row++) {
        must(is_last(s, last, row), "the last step is that of the sequence");
        for (size_t t = length_of(s->b, row); t < s->b->T; t++)
            must(same(l, s->whole.y, (t * B + row) * width, zeros, 0, width), "y is zero past a row's end");
        for (size_t i = 0; i < stacked(l) && !length_of(s->b, row); i++) {
            const size_t state = i * B + row;
            must(same(l, r.h, state * l->out, s->b->h, state * l->out, l->out), "no step leaves h");
            must(!has_c(l) || same(l, r.c, state * H, s->b->c, state * H, H), "no step leaves c");
        }
    }
    memcpy(r.y, s->whole.y, s->b->T * B * width * l->element); /* it has none of its own */
    must(same_results(l, s->b, &r, &s->whole), "states are those of the sequence");
    free(last), free(zeros), free_result(&r);
}

static uint64_t digest_stage(uint64_t hash, const layer *l, const frnn_stage *stage)
{
    const void *const arrays[] = {stage->W.panels, stage->U.panels, stage->bias, stage->zero_h, stage->peephole};
    const size_t bytes[] = {stage->W.bytes, stage->U.bytes, stage->sums_row_bytes, stage->sums_row_bytes,
                            stage->peephole ? 3 * stage->vector_row_bytes : 0};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        hash = digest(hash, arrays[i], bytes[i] / l->element, l->spec.dtype);
    return hash;
}

/* Of everything that calls read and may not write. */
static uint64_t digest_inputs(const subject *s)
{
    const layer *l = s->l;
    uint64_t hash = digest(1, s->b->x, s->b->T * s->b->B * l->spec.input_size, l->spec.dtype);
    hash = digest(hash, s->b->h, h_count(l, s->b->B), l->spec.dtype);
    hash = digest(hash, s->b->c, c_count(l, s->b->B), l->spec.dtype);
    for (size_t i = 0; i < stacked(l); i++)
        for (int stage = 0; stage < l->params->layers[i].stages; stage++)
            hash = digest_stage(hash, l, &l->params->layers[i].stage[stage]);
    return hash;
}

/* Usual numbers; half of them zeros of either sign; every sum of a first step -0; a few that are anything at all. */
typedef enum flavour { PLAIN, ZEROS, NEGATIVE, WILD, FLAVOURS } flavour;

static void season(void *array, size_t n, frnn_dtype dtype, flavour f, bool negative_zeros)
{
    for (size_t i = 0; i < n && array && f == NEGATIVE; i++)
        put(array, i, dtype, negative_zeros ? -0.0 : -fabs(get(array, i, dtype)));
    if (f == ZEROS || f == WILD)
        spoil(array, n, dtype, f == ZEROS ? 2 : 200, f == ZEROS);
}

static void season_weights(layer *l, flavour f)
{
    for (size_t i = 0; i < stacked(l); i++)
        for (size_t which = 0; which < WEIGHTS; which++)
            season((void *)(uintptr_t)*weight(l, i, which), weight_count(l, i, which), l->spec.dtype, f,
                   which == 2 || which == 3); /* the biases */
    if (f == NEGATIVE && l->spec.cell == FRNN_RNN)
        l->spec.activation.function = FRNN_TANH; /* which shows the sign */
}

static void season_batch(const layer *l, batch *b, flavour f)
{
    if (f == NEGATIVE)
        memset(b->x, 0, b->T * b->B * l->spec.input_size * l->element);
    if (f == ZEROS || f == WILD)
        spoil_batch(l, b, f == ZEROS ? 2 : 200, f == ZEROS);
}

/* The first layers of each kind have all flavours of each cell and type, or of each cell and precision. */
static void check_layer(const frnn_target *target, size_t i, bool narrow, bool with_mode)
{
    const size_t kinds = narrow ? 3 : 2, kind = i / FRNN_CELLS % kinds;
    layer l = random_layer((frnn_cell)(i % FRNN_CELLS), narrow ? FRNN_FLOAT32 : (frnn_dtype)kind, MOST_STACKED);
    batch b = random_batch(&l);
    const flavour f = (flavour)(i / FRNN_CELLS / kinds % FLAVOURS);
    frnn_activation *const activations[] = {&l.spec.activation, &l.spec.recurrent_activation,
                                            &l.spec.output_activation};
    for (int a = 0; a < 3; a++) /* numbers whose products are rounded */
        *activations[a] = (frnn_activation){activations[a]->function, 0.3, 0.45};
    season_weights(&l, f);
    narrow_layer(&l, narrow ? (frnn_precision)(FRNN_FLOAT16 + kind) : FRNN_FULL);
    season_batch(&l, &b, f);
    if (pick(3) == 0)
        add_resets(&b);
    char what[64];
    snprintf(what, sizeof what, "%s: layer %d", frnn_target_name(target), (int)i);
    set_tested(what, &l, &b);
    l.params = make_params(&l, target);
    subject s = {.target = target, .l = &l, .b = &b, .wild = f == WILD};
    s.whole = run(&l, &b);
    const uint64_t inputs = digest_inputs(&s);
    check_alone(&s), check_neighbours(&s), check_crowd(&s);
    check_cuts(&s), check_stream(&s), check_ends(&s), check_no_state(&s), check_tokens(&s);
    check_threads(&s), check_layout(&s), check_targets(&s), check_equations(&s);
    if (narrow)
        check_tape(&s);
    else if (pick(2))
        check_gradients(&s);
    check_renewed(&s);
    if (with_mode)
        check_subnormals(&s), check_modes(&s);
    must(digest_inputs(&s) == inputs, "params and inputs are left as they were");
    free_result(&s.whole), free_batch(&b), free_layer(&l);
}

static void check_target(const frnn_target *target, size_t layers, uint64_t seed, bool with_mode)
{
    random_state = seed;
    for (size_t i = 0; i < layers; i++)
        check_layer(target, i, false, with_mode);
    for (size_t i = 0; i < (layers + 1) / 2; i++)
        check_layer(target, i, true, with_mode);
    printf("%s: kept by %d layers, and %d with narrow weights\n", frnn_target_name(target), (int)layers,
           (int)(layers + 1) / 2);
    fflush(stdout);
}

int main(int count, char **arguments)
{
    size_t layers = 72, named = 0;
    uint64_t seed = 88172645463325252u;
    bool with_mode = true;
    for (int i = 1; i < count; i++) {
        const char *word = arguments[i], *value = i + 1 < count ? arguments[i + 1] : "";
        if (strcmp(word, "--layers") == 0)
            layers = (size_t)strtoul(value, NULL, 10), i++;
        else if (strcmp(word, "--seed") == 0)
            seed = strtoull(value, NULL, 10) | 1, i++;
        else if (strcmp(word, "--no-mode") == 0)
            with_mode = false;
        else if (named++, !find_target(word))
            return fprintf(stderr, "%s: no target that can be used here\n", word), 2;
        else
            check_target(find_target(word), layers, seed, with_mode);
    }
    for (size_t i = 0; !named && i < frnn_target_count(); i++)
        if (frnn_target_usable(frnn_target_at(i)))
            check_target(frnn_target_at(i), layers, seed, with_mode);
    frnn_pages_release();
    return 0;
}
