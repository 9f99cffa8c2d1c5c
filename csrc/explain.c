/* A plan in words. */
#include <stdarg.h>
#include <stdio.h>

#include "trials.h"

typedef struct text {
    char *at;
    size_t size, used;
} text;

#ifndef __MINGW_PRINTF_FORMAT
#define __MINGW_PRINTF_FORMAT printf /* MinGW-w64 has two printfs, of which this names the one in use */
#endif

static void __attribute__((format(__MINGW_PRINTF_FORMAT, 2, 3))) say(text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const size_t left = t->used < t->size ? t->size - t->used : 0;
    const int n = vsnprintf(left ? t->at + t->used : NULL, left, format, arguments);
    va_end(arguments);
    t->used += n > 0 ? (size_t)n : 0;
}

static void say_bytes(text *t, double bytes)
{
    const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    int unit = 0;
    for (; bytes >= 1000 && unit < 4; unit++)
        bytes /= 1000;
    say(t, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

static void say_seconds(text *t, double seconds)
{
    const double us = seconds * 1e6;
    say(t, us < 1000 ? "%.3g us" : "%.0f us", us);
}

static const char *plural(size_t n) { return n == 1 ? "" : "s"; }

static void say_chunk(text *t, const frnn_params *params, const frnn_plan *plan, size_t rows)
{
    const size_t chunk_rows = plan->chunk * rows;
    say(t, "Chunks of %zu step%s. ", plan->chunk, plural(plan->chunk));
    switch (plan->x_part) {
    case FRNN_X_AHEAD:
        say(t, "W x + b of a chunk is one product of %zu rows, whose sums (", chunk_rows);
        say_bytes(t, (double)frnn_kept_bytes(params) * (double)chunk_rows);
        say(t, frnn_stays_near(params, (double)frnn_kept_bytes(params) * (double)chunk_rows)
                   ? ") wait for their steps in L2.\n"
                   : ") wait for their steps. L2 does not hold them, nor W, which is read less often so.\n");
        break;
    case FRNN_X_ENOUGH_ROWS:
        say(t, "W x and U h are one product a step: it has so many rows that W is read rarely anyway.\n");
        break;
    case FRNN_X_ONE_STEP: say(t, "W x and U h are one product.\n"); break;
    case FRNN_X_SMALL:
        say(t, "W x and U h are one product a step: W is so small that doing it ahead gains nothing.\n");
        break;
    }
}

static void say_memory(text *t, const frnn_params *params, const frnn_plan *plan, size_t T)
{
    const double bytes = (double)params->layers[0].stage[0].U.bytes, share = bytes / (double)plan->unit_threads;
    const bool near = frnn_stays_near(params, share);
    say(t, "U of a layer has ");
    say_bytes(t, bytes);
    if (plan->unit_threads > 1) {
        say(t, ", ");
        say_bytes(t, share);
        say(t, " a thread");
    }
    static const char *const kinds[] = {"", ", of halves", ", of bytes", ", of bytes"};
    say(t, "%s", kinds[params->spec.precision]);
    say(t, near ? ": it stays in L2 (" : ": more than L2 holds (");
    say_bytes(t, (double)params->l2_bytes);
    say(t, near || T < 2 ? ").\n"
                         : "). Each step reads it in the opposite direction to the step before, so that what "
                           "L2 does hold is used.\n");
}

static void say_tokens(text *t, const frnn_params *params)
{
    const frnn_embedding *embedding = &params->embedding;
    if (embedding->table_bytes) {
        say(t, "W x + b of each of the %zu tokens is in a table of ", embedding->V);
        say_bytes(t, (double)embedding->table_bytes);
        say(t, ".\n");
    } else if (embedding->V) {
        say(t, "W is multiplied with the rows that tokens name: a table of W x + b for all %zu would not pay, ",
            embedding->V);
        if (params->in_pages) {
            say(t, "or is left out of params of a step of training, which with_weights makes.\n");
            return;
        }
        say(t, "or take more than ");
        say_bytes(t, (double)FRNN_MOST_TABLE_BYTES);
        say(t, ".\n");
    }
}

static void say_threads(text *t, const frnn_params *params, const frnn_plan *plan, size_t threads)
{
    if (plan->threads == 1) {
        say(t, "One thread: ");
        say_seconds(t, plan->alone);
        say(t, threads > 1 ? " expected, and more threads would gain too little.\n" : " expected.\n");
        return;
    }
    say(t, "%zu threads: ", plan->threads);
    if (params->D > 1)
        say(t, "the two directions run side by side; ");
    if (plan->parts > 1)
        say(t, "the batch is dealt out in %zu parts; ", plan->parts);
    if (plan->unit_threads > 1)
        say(t, "%zu share the units of a layer and meet after each stage; ", plan->unit_threads);
    if (plan->layer_threads > 1)
        say(t, "%zu take the layers, each a chunk behind the one below; ", plan->layer_threads);
    say_seconds(t, plan->seconds);
    say(t, " expected, ");
    say_seconds(t, plan->alone);
    say(t, " on one thread.\n");
}

size_t frnn_explain(const frnn_params *params, size_t T, size_t B, size_t threads, char *to, size_t size)
{
    const frnn_plan plan = frnn_trials_best(params, T, B, threads);
    const size_t rows = (B + plan.parts - 1) / plan.parts, strands = plan.parts * params->D;
    text t = {.at = to, .size = size};
    say(&t, "T=%zu steps, B=%zu row%s, at most %zu thread%s: %zu strand%s of %zu row%s.\n", T, B, plural(B), threads,
        plural(threads), strands, plural(strands), rows, plural(rows));
    say_chunk(&t, params, &plan, rows);
    say_memory(&t, params, &plan, T);
    say_tokens(&t, params);
    say_threads(&t, params, &plan, threads);
    const size_t scratch = frnn_scratch_bytes(params, &plan, T, B);
    say(&t, scratch < SIZE_MAX ? "Scratch: at most " : "Scratch: more than any memory holds, more than ");
    say_bytes(&t, (double)scratch);
    say(&t, ".\n");
    return t.used + 1;
}
