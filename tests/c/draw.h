/* Choices of tests in C: a generator that a seed starts makes them (digest, promises), or the bytes of a fuzzer. */
#ifndef DRAW_H
#define DRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What `next` goes on from: not 0. */
static uint64_t random_state;

/* xorshift64*. One draw a statement, always: the order within an expression is the compiler's. */
static inline uint64_t next(void)
{
    random_state ^= random_state >> 12, random_state ^= random_state << 25, random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717);
}

/* A fuzzer's bytes, each of them a choice. Where they are used up every choice is 0: that is the plain case. */
static struct {
    bool given; /* false: the generator chooses */
    const uint8_t *at;
    size_t left;
} choices;

/* From 0 to n - 1. */
static inline size_t pick(size_t n)
{
    if (!choices.given)
        return (size_t)(next() >> 33) % n;
    size_t value = 0;
    for (size_t most = 1; most < n && choices.left; most *= 256, choices.left--)
        value = value * 256 + *choices.at++;
    return value % n;
}

static inline bool chance(size_t one_in) { return pick(one_in) == 1; }

#define PICK_OF(table) (table)[pick(sizeof(table) / sizeof *(table))]

/* From -1 to 1, by the generator. */
static inline double uniform(void) { return (double)(int64_t)next() / 0x1p63; }

#endif
