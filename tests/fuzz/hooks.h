/* What a call of the library takes from outside, in the harness's hands: memory, the clock and the floating-point mode.
 *
 * The linker puts these functions in the place of malloc, free and frnn_seconds (--wrap). They do as the real ones do,
 * but while a call is watched, and its conditions ask for something else. */
#ifndef HOOKS_H
#define HOOKS_H

#include <fenv.h>
#include <malloc.h>
#include <stdatomic.h>

#include "layers.h"

typedef struct conditions {
    int rounding;      /* the caller's */
    int flags;         /* floating-point exceptions that the caller has raised before */
    size_t failing;    /* which allocation fails, from 1; 0: none */
    double clock_step; /* seconds from one look at the clock to the next; 0: real time */
} conditions;

enum { MOST_BYTES = 1 << 28 }; /* of one allocation while a call is watched */

static const conditions plain = {.rounding = FE_TONEAREST};
static conditions now;
static atomic_bool watching;
static atomic_size_t allocations, failures, live, peak, looks;

void *__real_malloc(size_t bytes);
void __real_free(void *memory);
double __real_frnn_seconds(void);

void *__wrap_malloc(size_t bytes)
{
    if (!atomic_load(&watching))
        return __real_malloc(bytes);
    void *memory =
        atomic_fetch_add(&allocations, 1) + 1 == now.failing || bytes > MOST_BYTES ? NULL : __real_malloc(bytes);
    if (!memory) {
        atomic_fetch_add(&failures, 1);
        return NULL;
    }
    const size_t total = atomic_fetch_add(&live, bytes) + bytes;
    for (size_t before = atomic_load(&peak); before < total;)
        if (atomic_compare_exchange_weak(&peak, &before, total))
            break;
    return memory;
}

void __wrap_free(void *memory)
{
    if (atomic_load(&watching) && memory)
        atomic_fetch_sub(&live, malloc_usable_size(memory));
    __real_free(memory);
}

double __wrap_frnn_seconds(void)
{
    if (!atomic_load(&watching) || !(now.clock_step > 0))
        return __real_frnn_seconds();
    return (double)(atomic_fetch_add(&looks, 1) + 1) * now.clock_step;
}

static void begin_watching(const conditions *wanted)
{
    now = *wanted;
    atomic_store(&allocations, 0), atomic_store(&failures, 0), atomic_store(&live, 0), atomic_store(&peak, 0);
    feclearexcept(FE_ALL_EXCEPT);
    feraiseexcept(now.flags);
    fesetround(now.rounding);
    atomic_store(&watching, true);
}

/* The caller's mode is as it was. */
static void check_mode(void)
{
    if (fegetround() != now.rounding)
        fail("the rounding mode is %d, and was %d", fegetround(), now.rounding);
    if (fetestexcept(FE_ALL_EXCEPT) != now.flags)
        fail("the exception flags are %d, and were %d", fetestexcept(FE_ALL_EXCEPT), now.flags);
}

static void end_watching(void)
{
    atomic_store(&watching, false);
    check_mode();
    fesetround(FE_TONEAREST);
    feclearexcept(FE_ALL_EXCEPT);
}

static conditions pick_conditions(void)
{
    static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    static const double steps[] = {0, 1e-6, 1e-4, 1e-2, 1};
    conditions c = plain;
    if (chance(3)) {
        c.rounding = PICK_OF(modes);
        c.flags = pick(2) ? FE_DIVBYZERO : 0;
    }
    if (chance(4))
        c.failing = 1 + pick(8);
    if (chance(3))
        c.clock_step = PICK_OF(steps);
    return c;
}

#endif
