/* Times of calls correct the plan.
 *
 * (a) A kind of call keeps the last times of some of its ways, each as a part of what the machine's rates let expect: the plan
 *     knows the sizes, and the times what it does not. Their median is taken, since other work makes single calls long.
 * (b) The first calls of a kind go through its ways some times, and through each some times in a row, since a call after one of
 *     another way finds other caches. A way that turned out to be much slower is left out. Then the fastest is taken, and the
 *     ways are gone through again, each once, after twice as many calls as the last time. Where another one seems to have become
 *     the fastest, all begins afresh.
 * (c) Only ways that are expected to be near the fastest are tried: the longer a call, the less is left to chance, and the more
 *     would be lost.
 *
 * All of this is of the process, in memory of its own that never grows, without locks: where threads come between each other a
 * time is lost, or counts for another way, and only time depends on it. */
#include "trials.h"

#include "threads.h"

enum {
    KINDS = 128,      /* that are remembered */
    PLACES = 4,       /* where one may be */
    KEPT_CALLS = 512, /* of others, until a kind that is not seen makes room */
    WAYS = 6,         /* of a kind, that are tried */
    TIMES = 7,        /* of a way, that are kept */
    TURNS = 2,        /* of each way at first; one when ways are tried anew */
    SURE = 4,         /* times of a way that is left out */
    IN_A_ROW = 3,     /* calls of a turn, the first of which does not count */
    LEAST_CALLS = 64,
    MOST_CALLS = 4096, /* until ways are tried anew */
    ALL_CALLS = 512,   /* from which on those that were left out are, too */
    TAKEN = 1          /* a kind's key while it is made */
};

#define LONG_SECONDS 3e-3 /* of a call that is not changed by the one before it, and expected more surely */
#define SLOWER 2.0        /* times the fastest way that is expected: what is tried, of brief calls */
#define SLOWER_LONG 1.35  /* and of long ones */
#define SLOWER_ALONE 3.0  /* and of one thread, of brief calls */
#define FASTER 0.95       /* of the time of the way that was the fastest: one that takes its place */
#define HOPELESS 1.4      /* times the fastest that is known: a way that is left out */
#define WORTH_IT 0.95     /* more threads are taken where they need at most this part of one thread's time */

typedef struct times {
    _Atomic(uint64_t) way;
    _Atomic(float) of_expected[TIMES];
    atomic_uint count; /* so far: the last ones are kept */
} times;

struct frnn_trial_kind {
    _Atomic(uint64_t) key, seen; /* 0: none; when it was last seen, counted in calls of all kinds */
    atomic_uint calls, until;    /* since ways were tried first, or anew, and when they are again */
    atomic_uint ways, best;      /* how many; the index of the fastest, WAYS: none was tried */
    times times[WAYS];
};

static frnn_trial_kind kinds[KINDS];
static _Atomic(uint64_t) calls_of_all;

static uint64_t mix(uint64_t key, uint64_t value) { return (key ^ value) * 0x9e3779b97f4a7c15 ^ (key >> 29); }

/* The same for numbers that differ by less than an eighth. */
static uint64_t about(size_t n)
{
    uint64_t halvings = 0;
    for (; n >= 16; n /= 2)
        halvings++;
    return halvings << 8 | n;
}

static uint64_t key_of(const frnn_params *params, size_t T, size_t B, size_t threads, unsigned options)
{
    const frnn_spec *spec = &params->spec;
    const uint64_t of[] = {(uintptr_t)params->kernels,
                           (uint64_t)spec->cell,
                           (uint64_t)spec->precision,
                           params->dots,
                           spec->input_size,
                           spec->hidden_size,
                           spec->num_layers,
                           params->D,
                           params->out,
                           about(T),
                           about(B),
                           threads,
                           options};
    uint64_t key = 0;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        key = mix(key, of[i]);
    return key > TAKEN ? key : TAKEN + 1;
}

static uint64_t name_of(const frnn_plan *way)
{
    return (uint64_t)way->parts << 24 | (uint64_t)way->unit_threads << 12 | (uint64_t)way->layer_threads;
}

/* The kind of this key; NULL: there is none, and *room is where it may be made, if not NULL. */
static frnn_trial_kind *find(uint64_t key, frnn_trial_kind **room)
{
    const uint64_t now = atomic_fetch_add_explicit(&calls_of_all, 1, memory_order_relaxed);
    uint64_t oldest = UINT64_MAX;
    for (size_t i = 0; i < PLACES; i++) {
        frnn_trial_kind *kind = &kinds[(key + i) % KINDS];
        const uint64_t there = atomic_load_explicit(&kind->key, memory_order_acquire),
                       seen = atomic_load_explicit(&kind->seen, memory_order_relaxed);
        if (there == key) {
            atomic_store_explicit(&kind->seen, now, memory_order_relaxed);
            return kind;
        }
        const bool may_go = !there || (there != TAKEN && now > seen + KEPT_CALLS);
        if (may_go && seen < oldest) {
            oldest = seen;
            *room = kind;
        }
    }
    return NULL;
}

static bool is_long(const frnn_plan *fastest) { return fastest->seconds > LONG_SECONDS; }

/* Whether a way is to be tried, the fastest being so fast as expected. */
static bool is_near(const frnn_plan *way, const frnn_plan *fastest)
{
    const double most = is_long(fastest) ? SLOWER_LONG : way->threads == 1 ? SLOWER_ALONE : SLOWER;
    return way->seconds < most * fastest->seconds;
}

/* Those that are to be tried, the fastest first, as they are expected. */
static size_t choose_ways(const frnn_plan *ways, size_t count, const frnn_plan *fastest, uint64_t chosen[WAYS])
{
    bool is_chosen[FRNN_MOST_WAYS] = {false};
    for (size_t n = 0; n < WAYS; n++) {
        size_t next = count;
        for (size_t i = 0; i < count; i++)
            if (!is_chosen[i] && is_near(&ways[i], fastest) && (next == count || ways[i].seconds < ways[next].seconds))
                next = i;
        if (next == count)
            return n;
        is_chosen[next] = true;
        chosen[n] = name_of(&ways[next]);
    }
    return WAYS;
}

/* Ways are tried anew now, and again after so many calls. */
static void begin(frnn_trial_kind *kind, unsigned until)
{
    atomic_store_explicit(&kind->until, until, memory_order_relaxed);
    atomic_store_explicit(&kind->calls, 0, memory_order_relaxed);
}

/* No time of any way counts any more. */
static void begin_afresh(frnn_trial_kind *kind)
{
    for (size_t w = 0; w < WAYS; w++)
        atomic_store_explicit(&kind->times[w].count, 0, memory_order_relaxed);
    atomic_store_explicit(&kind->best, WAYS, memory_order_relaxed);
    begin(kind, LEAST_CALLS);
}

static void make_kind(frnn_trial_kind *room, uint64_t key, const uint64_t *chosen, size_t n)
{
    uint64_t before = atomic_load_explicit(&room->key, memory_order_relaxed);
    if (before == TAKEN || !atomic_compare_exchange_strong(&room->key, &before, TAKEN))
        return;
    for (size_t w = 0; w < n; w++)
        atomic_store_explicit(&room->times[w].way, chosen[w], memory_order_relaxed);
    atomic_store_explicit(&room->ways, (unsigned)n, memory_order_relaxed);
    begin_afresh(room);
    atomic_store_explicit(&room->seen, atomic_load(&calls_of_all), memory_order_relaxed);
    atomic_store_explicit(&room->key, key, memory_order_release);
}

/* The median of the times that are kept of a way, as a part of what is expected; 0: there is none. */
static double median(const times *t)
{
    float sorted[TIMES];
    unsigned n = atomic_load_explicit(&t->count, memory_order_relaxed);
    n = n < TIMES ? n : TIMES;
    for (unsigned k = 0; k < n; k++) {
        const float value = atomic_load_explicit(&t->of_expected[k], memory_order_relaxed);
        unsigned i = k;
        for (; i > 0 && sorted[i - 1] > value; i--)
            sorted[i] = sorted[i - 1];
        sorted[i] = value;
    }
    return n ? (double)sorted[(n - 1) / 2] : 0;
}

/* What is known of the ways of a call. */
typedef struct known {
    size_t index[WAYS];   /* of a kind's way in the list of all; SIZE_MAX: it is not there */
    double seconds[WAYS]; /* that it takes; 0: it was not tried */
    size_t n, best;       /* the index of the fastest that was tried; SIZE_MAX: none was */
} known;

static known look_up(const frnn_trial_kind *kind, const frnn_plan *ways, size_t count)
{
    known k = {.n = atomic_load_explicit(&kind->ways, memory_order_relaxed), .best = SIZE_MAX};
    const size_t before = atomic_load_explicit(&kind->best, memory_order_relaxed);
    double alone = 0, least = 0;
    for (size_t w = 0; w < k.n; w++) {
        const uint64_t name = atomic_load_explicit(&kind->times[w].way, memory_order_relaxed);
        k.index[w] = SIZE_MAX;
        for (size_t i = 0; i < count; i++)
            if (name_of(&ways[i]) == name)
                k.index[w] = i;
        k.seconds[w] = k.index[w] < count ? median(&kind->times[w]) * ways[k.index[w]].seconds : 0;
        if (k.seconds[w] > 0 && k.index[w] == 0)
            alone = k.seconds[w];
        if (k.seconds[w] > 0 && (least == 0 || k.seconds[w] < least)) {
            least = k.seconds[w];
            k.best = w;
        }
    }
    if (before < k.n && k.seconds[before] > 0 && least > FASTER * k.seconds[before])
        k.best = before;
    for (size_t w = 0; w < k.n && alone > 0 && (least > WORTH_IT * alone || alone < FRNN_TRIFLE_SECONDS); w++)
        if (k.index[w] == 0)
            k.best = w;
    return k;
}

static bool is_hopeless(const frnn_trial_kind *kind, const known *k, size_t w)
{
    return k->best < k->n && k->seconds[w] > HOPELESS * k->seconds[k->best] &&
           atomic_load_explicit(&kind->times[w].count, memory_order_relaxed) >= SURE;
}

/* The way whose turn it is to be tried; SIZE_MAX: none. *counts: whether this call's time does. */
static size_t turn(frnn_trial_kind *kind, const known *k, size_t in_a_row, bool *counts)
{
    unsigned until = atomic_load_explicit(&kind->until, memory_order_relaxed);
    if (atomic_load_explicit(&kind->calls, memory_order_relaxed) >= until) {
        until = until < MOST_CALLS / 2 ? 2 * until : MOST_CALLS;
        begin(kind, until);
    }
    const size_t call = atomic_fetch_add_explicit(&kind->calls, 1, memory_order_relaxed), w = call / in_a_row % k->n,
                 best = atomic_load_explicit(&kind->best, memory_order_relaxed);
    atomic_store_explicit(&kind->best, (unsigned)(k->best < k->n ? k->best : WAYS), memory_order_relaxed);
    *counts = true;
    if (call >= k->n * in_a_row * (until == LEAST_CALLS ? TURNS : 1)) {
        if (best != k->best)
            begin_afresh(kind);
        return SIZE_MAX;
    }
    if (k->index[w] == SIZE_MAX || (until < ALL_CALLS && is_hopeless(kind, k, w)))
        return SIZE_MAX;
    *counts = in_a_row == 1 || call % in_a_row > 0;
    return w;
}

/* A way as it is run, with what is known of its time. */
static frnn_plan as_known(const frnn_plan *ways, const known *k, size_t w)
{
    frnn_plan plan = ways[k->index[w]];
    plan.seconds = k->seconds[w] > 0 ? k->seconds[w] : plan.seconds;
    plan.alone = ways[0].seconds;
    for (size_t i = 0; i < k->n; i++)
        if (k->index[i] == 0 && k->seconds[i] > 0)
            plan.alone = k->seconds[i];
    return plan;
}

/* Steps of all rows, on average. */
static size_t mean_length(const frnn_call *call)
{
    if (!call->lengths || !call->B)
        return call->T;
    double sum = 0;
    for (size_t r = 0; r < call->B; r++)
        sum += (double)call->lengths[r];
    return (size_t)(sum / (double)call->B + 0.5);
}

static unsigned options_of(const frnn_call *call, bool taped)
{
    return (call->tokens != FRNN_NO_TOKENS) | (call->lengths != NULL) << 1 | (call->resets != NULL) << 2 | taped << 3;
}

frnn_plan frnn_trials_next(const frnn_params *params, const frnn_call *call, bool taped, frnn_trial *trial)
{
    frnn_plan ways[FRNN_MOST_WAYS];
    const size_t T = call->threads > 1 ? mean_length(call) : call->T,
                 count = frnn_plan_ways(params, T, call->B, call->threads, FRNN_TRIFLE_SECONDS, ways);
    const frnn_plan fastest = frnn_plan_fastest(ways, count);
    trial->kind = NULL;
    if (count == 1 || frnn_rates_are_set())
        return fastest;
    const uint64_t key = key_of(params, T, call->B, call->threads, options_of(call, taped));
    frnn_trial_kind *room = NULL, *kind = find(key, &room);
    if (!kind && room) {
        uint64_t chosen[WAYS];
        make_kind(room, key, chosen, choose_ways(ways, count, &fastest, chosen));
        kind = atomic_load(&room->key) == key ? room : NULL;
    }
    if (!kind)
        return fastest;
    const known k = look_up(kind, ways, count);
    if (k.n < 2)
        return fastest;
    bool counts;
    size_t w = turn(kind, &k, is_long(&fastest) ? 1 : IN_A_ROW, &counts);
    w = w < k.n ? w : k.best;
    if (w >= k.n)
        return fastest;
    if (counts)
        *trial = (frnn_trial){kind, key, w, ways[k.index[w]].seconds, frnn_seconds()};
    return as_known(ways, &k, w);
}

void frnn_trials_end(const frnn_trial *trial)
{
    const float of_expected = (float)((frnn_seconds() - trial->begun) / trial->expected);
    frnn_trial_kind *kind = trial->kind;
    if (atomic_load_explicit(&kind->key, memory_order_acquire) != trial->key)
        return;
    times *t = &kind->times[trial->way];
    const unsigned n = atomic_fetch_add_explicit(&t->count, 1, memory_order_relaxed);
    atomic_store_explicit(&t->of_expected[n % TIMES], of_expected, memory_order_relaxed);
}

frnn_plan frnn_trials_best(const frnn_params *params, size_t T, size_t B, size_t threads)
{
    frnn_plan ways[FRNN_MOST_WAYS];
    const size_t count = frnn_plan_ways(params, T, B, threads, FRNN_TRIFLE_SECONDS, ways);
    frnn_trial_kind *room = NULL,
                    *kind = count == 1 || frnn_rates_are_set() ? NULL : find(key_of(params, T, B, threads, 0), &room);
    if (kind) {
        const known k = look_up(kind, ways, count);
        if (k.best < k.n)
            return as_known(ways, &k, k.best);
    }
    return frnn_plan_fastest(ways, count);
}
