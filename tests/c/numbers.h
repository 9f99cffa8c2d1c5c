/* Promises about numbers: the equations, NaN and infinity, targets that agree, subnormals, the caller's mode. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include "mode.h"
#include "reference.h"
#include "subject.h"

/* On every target there is. */
static inline void check_targets(const subject *s)
{
    for (size_t i = 0; i < frnn_target_count(); i++) {
        if (!frnn_target_usable(frnn_target_at(i)) || frnn_target_at(i) == s->target)
            continue;
        layer other = *s->l;
        other.params = make_params(s->l, frnn_target_at(i));
        result r = run(&other, s->b);
        must(same_results(s->l, s->b, &r, &s->whole), "targets agree");
        frnn_params_free(other.params), free_result(&r);
    }
}

/* Two rows and a few steps, and NaN and infinities among what goes in. */
static inline void check_equations(const subject *s)
{
    if (s->wild)
        return;
    const size_t rows[] = {pick(s->b->B), pick(s->b->B)}, I = s->l->spec.input_size, H = s->l->spec.hidden_size;
    const double odd[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    batch two = take_rows(s->l, s->b, rows, 2, s->b->T < 4 ? s->b->T : 4);
    if (two.T && I)
        put(two.x, ((two.T - 1) * 2 + 1) * I + pick(I), s->l->spec.dtype, odd[pick(3)]);
    if (pick(2))
        put(two.c, H + pick(H), s->l->spec.dtype, odd[pick(3)]); /* of the second row */
    result r = run(s->l, &two);
    check_reference(s->l, &two, &r);
    free_batch(&two), free_result(&r);
}

/* Puts subnormals, or zeros of their signs, in place of some numbers: of the same ones for the same seed. */
static inline void make_tiny(void *array, size_t n, frnn_dtype dtype, uint64_t seed, bool flushed)
{
    const uint64_t before = random_state;
    const double least = least_normal(dtype);
    random_state = seed;
    for (size_t i = 0; i < n && array; i++) {
        const double sign = pick(2) ? -1 : 1, value = least * (double)(1 + pick(31)) / 16;
        const bool small = is_subnormal(value, dtype);
        if (pick(4) > 0)
            put(array, i, dtype, sign * (small && flushed ? 0 : value));
    }
    random_state = before;
}

typedef enum tiny_state { TINY, ZERO, NONE } tiny_state;

static inline result run_tiny(const subject *s, uint64_t seed, bool flushed, tiny_state state)
{
    layer l = *s->l;
    const frnn_dtype dtype = l.spec.dtype;
    const size_t B = s->b->B, T = s->b->T < 4 ? s->b->T : 4;
    size_t rows[MOST_ROWS] = {0};
    for (size_t i = 0; i < B; i++)
        rows[i] = i;
    batch tiny = take_rows(&l, s->b, rows, B, T);
    make_tiny(tiny.x, T * B * l.spec.input_size, dtype, seed, flushed);
    memset(tiny.h, 0, h_count(&l, B) * l.element);
    memset(tiny.c, 0, c_count(&l, B) * l.element);
    make_tiny(tiny.h, state == TINY ? h_count(&l, B) : 0, dtype, seed + 2, flushed);
    make_tiny(tiny.c, state == TINY ? c_count(&l, B) : 0, dtype, seed + 4, flushed);
    for (size_t i = 0; i < B; i++)
        tiny.lengths[i] = T;
    void *bias = allocate(4 * l.spec.hidden_size, l.element);
    make_tiny(bias, 4 * l.spec.hidden_size, dtype, seed + 6, flushed);
    for (size_t i = 0; i < stacked(&l); i++)
        l.weights[i].b = bias, l.weights[i].d = NULL;
    l.params = make_params(&l, s->target);
    const result r = new_result(&l, T, B);
    frnn_call call = make_call(&l, &tiny, &r);
    if (state == NONE)
        call.initial[0].data = call.initial[1].data = NULL;
    run_call(&l, &call, "a call succeeds");
    frnn_params_free(l.params);
    free(bias), free_batch(&tiny);
    return r;
}

static inline bool has_subnormal(const void *array, size_t n, frnn_dtype dtype)
{
    for (size_t i = 0; i < n; i++)
        if (is_subnormal(get(array, i, dtype), dtype))
            return true;
    return false;
}

static inline void must_agree(const subject *s, result *a, result *b, size_t T, const char *promise)
{
    must(digest_result(s->l, a, T, s->b->B) == digest_result(s->l, b, T, s->b->B), promise);
    free_result(a), free_result(b);
}

/* As inputs, of weights too, and as results. Sums that are flushed are the ones that are -0 before U h is added. */
static inline void check_subnormals(const subject *s)
{
    const layer *l = s->l;
    const size_t B = s->b->B, T = s->b->T < 4 ? s->b->T : 4;
    const uint64_t seed = next() | 1;
    if (!T)
        return;
    result given = run_tiny(s, seed, false, TINY), flushed = run_tiny(s, seed, true, TINY);
    must(!has_subnormal(given.y, T * B * y_width(l), l->spec.dtype) &&
             !has_subnormal(given.h, h_count(l, B), l->spec.dtype) &&
             !has_subnormal(given.c, has_c(l) ? c_count(l, B) : 0, l->spec.dtype),
         "no result is subnormal");
    must_agree(s, &given, &flushed, T, "subnormals that go in are zeros");
    result zeros = run_tiny(s, seed, false, ZERO), none = run_tiny(s, seed, false, NONE);
    must_agree(s, &zeros, &none, T, "no state is a state of +0, to the sign of sums that are flushed");
}

static inline void must_keep(uint64_t mode, const char *promise)
{
    const bool kept = get_float_mode() == mode;
    set_float_mode(float_modes[0]);
    must(kept, promise);
    set_float_mode(mode);
}

static inline void run_stream_in(const subject *s, uint64_t mode, const frnn_call *call)
{
    frnn_stream *stream;
    must(frnn_stream_new(s->l->params, s->b->B, &stream) == FRNN_OK, "a stream is made");
    must_keep(mode, "the caller's mode and flags are kept by frnn_stream_new");
    frnn_stream_set_state(stream, (const void *[]){s->b->h, s->b->c});
    must_keep(mode, "the caller's mode and flags are kept by frnn_stream_set_state");
    if (s->b->T)
        frnn_stream_step(stream, s->b->x, call->x.row, FRNN_NO_TOKENS, 1);
    must_keep(mode, "the caller's mode and flags are kept by frnn_stream_step");
    must(frnn_stream_run(stream, call) == FRNN_OK, "a stream's run succeeds");
    must_keep(mode, "the caller's mode and flags are kept by frnn_stream_run");
    frnn_stream_get_state(stream, (void *[]){call->final[0], call->final[1]});
    frnn_stream_free(stream);
}

static inline void check_mode(const subject *s, uint64_t mode)
{
    const layer *l = s->l;
    layer other = *l;
    result r = new_result(l, s->b->T, s->b->B), unused = new_result(l, s->b->T, s->b->B);
    frnn_call call = make_call(l, s->b, &r), streamed = make_call(l, s->b, &unused);
    set_float_mode(mode);
    mode = get_float_mode(); /* an emulator may not have all of it */
    other.params = make_params(l, s->target);
    must_keep(mode, "the caller's mode and flags are kept by frnn_params_new");
    for (call.threads = 1; call.threads <= 2; call.threads++) {
        run_call(&other, &call, "a call succeeds");
        must_keep(mode, "the caller's mode and flags are kept by frnn_run");
    }
    if (!l->spec.reverse)
        run_stream_in(s, mode, &streamed);
    set_float_mode(float_modes[0]);
    must(same_results(l, s->b, &r, &s->whole), "the caller's mode changes no bit");
    frnn_params_free(other.params);
    free_result(&r), free_result(&unused);
}

/* In the mode that programs start in, and in one of the others. */
static inline void check_modes(const subject *s)
{
    check_mode(s, float_modes[0]);
    check_mode(s, float_modes[pick(sizeof float_modes / sizeof *float_modes)]);
}

#endif
