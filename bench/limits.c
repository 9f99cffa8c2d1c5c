/* What this processor can do at most: loops that do one thing only. limits.py compiles and loads this file. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* One vector register, and so many chains as hide the latency of an FMA and still fit into registers. */
#if defined(__AVX512F__)
#define BYTES 64
#define CHAINS 24
#elif defined(__AVX__)
#define BYTES 32
#define CHAINS 12
#elif defined(__aarch64__)
#define BYTES 16
#define CHAINS 24
#else
#define BYTES 16
#define CHAINS 12
#endif
#define LOADS 8

typedef float vec __attribute__((vector_size(BYTES)));

enum kind { MULTIPLY_ADD, READ, SIGMOID, BARRIER };

/* Seen by Python: floating-point operations of one repeat of MULTIPLY_ADD. */
const int limits_flops_a_repeat = 2 * CHAINS * BYTES / (int)sizeof(float);

struct barrier {
    atomic_int waiting, sense;
    int threads;
};

struct team {
    enum kind kind;
    size_t bytes; /* each thread has a buffer of its own */
    long repeats;
    int rounds;
    struct barrier barrier;
    double best; /* seconds of the fastest round */
    atomic_int failed;
};

struct context {
    struct team *team;
    int number;
};

static volatile vec sink;
static volatile float one = 1.0f;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void meet(struct barrier *b)
{
    int sense = atomic_load_explicit(&b->sense, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->waiting, 1, memory_order_acq_rel) == b->threads - 1) {
        atomic_store_explicit(&b->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&b->sense, !sense, memory_order_release);
    } else {
        /* Spins; gives way only where it waits so long that the others can't be running. */
        for (long spins = 1; atomic_load_explicit(&b->sense, memory_order_acquire) == sense; spins++)
            if (spins % 100000 == 0)
                sched_yield();
    }
}

/* Uses all sums, so that none is left out. */
static void keep(const vec *sums, int count)
{
    vec sum = sums[0];
    for (int k = 1; k < count; k++)
        sum += sums[k];
    sink = sum;
}

static void multiply_add(long repeats)
{
    vec sums[CHAINS], factor = {0}, term = {0};
    factor = factor + one, term = term + one;
    for (int k = 0; k < CHAINS; k++)
        sums[k] = term * (float)k; /* equal chains would be made one */
    for (long r = 0; r < repeats; r++) {
#pragma GCC unroll 32
        for (int k = 0; k < CHAINS; k++)
            sums[k] = sums[k] * factor + term;
    }
    keep(sums, CHAINS);
}

static void read_all(const vec *from, size_t count, long repeats)
{
    vec sums[LOADS];
    memset(sums, 0, sizeof sums);
    for (long r = 0; r < repeats; r++) {
        for (size_t i = 0; i < count; i += LOADS) {
#pragma GCC unroll 8
            for (int k = 0; k < LOADS; k++)
                sums[k] += from[i + k];
        }
        __asm__ volatile("" ::: "memory"); /* what was read may have changed */
    }
    keep(sums, LOADS);
}

/* 1 / (1 + exp(-x)), good to about 1e-6, in a form that compilers make vectors of. */
static void sigmoid(float *restrict to, const float *restrict from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float x = -from[i];
        x = x < 87.0f ? x : 87.0f;
        x = x > -87.0f ? x : -87.0f;
        float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to a whole number, kept in the low bits */
        float r = x - (shifted - 12582912.0f) * 0.693147181f;
        float e = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * 0.00833333333f))));
        union {
            float number;
            uint32_t bits;
        } scale = {.number = shifted};
        scale.bits = (scale.bits + 127u) << 23;
        to[i] = 1.0f / (1.0f + e * scale.number);
    }
}

static void work(struct team *team, float *buffer)
{
    size_t count = team->bytes / sizeof(float);
    switch (team->kind) {
    case MULTIPLY_ADD: multiply_add(team->repeats); break;
    case READ: read_all((const vec *)buffer, team->bytes / sizeof(vec), team->repeats); break;
    case SIGMOID:
        for (long r = 0; r < team->repeats; r++) {
            sigmoid(buffer, buffer + count / 2, count / 2);
            __asm__ volatile("" ::: "memory");
        }
        break;
    case BARRIER:
        for (long r = 0; r < team->repeats; r++)
            meet(&team->barrier);
        break;
    }
}

static void *take_part(void *argument)
{
    struct context *context = argument;
    struct team *team = context->team;
    void *buffer = NULL;
    size_t bytes = team->bytes > 4096 ? team->bytes : 4096;
    if (posix_memalign(&buffer, bytes >= 1 << 21 ? 1 << 21 : 4096, bytes) != 0) {
        atomic_store(&team->failed, 1);
    } else {
#ifdef MADV_HUGEPAGE
        madvise(buffer, bytes, MADV_HUGEPAGE); /* so that the reads measure caches, not page tables */
#endif
        memset(buffer, 0, bytes);
    }
    meet(&team->barrier);
    for (int round = 0; round < team->rounds && !atomic_load(&team->failed); round++) {
        meet(&team->barrier);
        double start = now();
        work(team, buffer);
        meet(&team->barrier);
        double seconds = now() - start;
        if (context->number == 0 && (round == 0 || seconds < team->best))
            team->best = seconds;
    }
    free(buffer);
    return NULL;
}

/* Seconds of the fastest of `rounds` rounds, in each of which every thread does `repeats` repeats; -1 on failure. */
double limits_seconds(int kind, int threads, size_t bytes, long repeats, int rounds)
{
    struct team team = {.kind = (enum kind)kind, .bytes = bytes, .repeats = repeats, .rounds = rounds};
    struct context contexts[threads];
    pthread_t others[threads];
    team.barrier.threads = threads;
    for (int t = 0; t < threads; t++)
        contexts[t] = (struct context){&team, t};
    for (int t = 1; t < threads; t++)
        if (pthread_create(&others[t], NULL, take_part, &contexts[t]) != 0)
            abort(); /* the others would wait for it */
    take_part(&contexts[0]);
    for (int t = 1; t < threads; t++)
        pthread_join(others[t], NULL);
    return atomic_load(&team.failed) ? -1.0 : team.best;
}
