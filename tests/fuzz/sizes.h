/* What is said of a call, and sizes that can't be had. */
#ifndef SIZES_H
#define SIZES_H

#include "ways.h"

static void check_text(const frnn_params *params, size_t T, size_t B)
{
    const frnn_rates rates = frnn_rates_known(params->kernels);
    frnn_rates_set(&rates); /* so that the text is the same each time */
    const size_t threads = 1 + pick(FRNN_MOST_THREADS), needed = frnn_explain(params, T, B, threads, NULL, 0);
    char *whole = allocate(1, needed);
    if (frnn_explain(params, T, B, threads, whole, needed) != needed || strlen(whole) + 1 != needed)
        fail("a text of %zu bytes is not one of %zu", strlen(whole) + 1, needed);
    const size_t size = pick(needed + 2);
    char *some = allocate(1, size);
    if (frnn_explain(params, T, B, threads, some, size) != needed)
        fail("a text needs another size where it gets %zu bytes", size);
    const size_t shown = size < needed ? size : needed;
    if (shown && (some[shown - 1] || memcmp(some, whole, shown - 1) != 0))
        fail("the first %zu bytes of a text are others", shown);
    frnn_rates_set(NULL);
    free(whole), free(some);
}

static void check_large_calls(const frnn_params *params)
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
    const size_t T = PICK_OF(sizes), B = PICK_OF(sizes), threads = 1 + pick(FRNN_MOST_THREADS);
    const frnn_plan plan = frnn_make_plan(params, T, B, threads);
    check_plan(params, &plan, B, threads);
    const size_t bytes = frnn_scratch_bytes(params, &plan, T, B);
    if (B && bytes < SIZE_MAX && bytes / B < sizeof(size_t))
        fail("scratch of %zu bytes for %zu rows", bytes, B);
    check_text(params, T, B);
    if (B > (size_t)1 << 40 && params->spec.forward && !params->spec.reverse) {
        frnn_stream *stream = NULL;
        begin_watching(&plain);
        const frnn_status status = frnn_stream_new(params, B, &stream);
        end_watching();
        if (status != FRNN_NO_MEMORY || stream || atomic_load(&live))
            fail("a stream of %zu rows: the answer is %d", B, status);
    }
}

/* Sizes of which one is far beyond memory; nothing is read before that is known. */
static void check_large_params(const frnn_target *target)
{
    static const size_t far[] = {(size_t)1 << 40, (size_t)1 << 47, (size_t)1 << 48, (size_t)1 << 56,
                                 ((size_t)1 << 57) - 1};
    const size_t large = PICK_OF(far) + pick(3) - 1, which = pick(3);
    frnn_spec spec = {
        .input_size = 1 + pick(40), .hidden_size = 1 + pick(40), .num_layers = 1 + pick(2), .forward = true};
    spec.cell = (frnn_cell)pick(FRNN_CELLS);
    spec.dtype = (frnn_dtype)pick(FRNN_DTYPES);
    if (spec.dtype == FRNN_FLOAT32)
        spec.precision = (frnn_precision)pick(FRNN_INT8_FAST + 1);
    spec.clip = (double)INFINITY;
    *(which == 0 ? &spec.input_size : which == 1 ? &spec.hidden_size : &spec.proj_size) = large;
    if (which == 2)
        spec.cell = FRNN_LSTM;
    if (chance(2))
        spec.hidden_size = large;
    const frnn_weights nothing[2] = {{0}};
    frnn_params *params = NULL;
    begin_watching(&plain);
    const frnn_status status = frnn_params_new(&spec, nothing, target, &params);
    end_watching();
    if (status != FRNN_NO_MEMORY || params || atomic_load(&live))
        fail("params of I %zu, H %zu, P %zu: the answer is %d", spec.input_size, spec.hidden_size, spec.proj_size,
             status);
}

#endif
