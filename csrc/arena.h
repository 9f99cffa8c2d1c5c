/* One allocation for many arrays: lay them out once with no memory to learn the size, and once more for real. */
#ifndef FRNN_ARENA_H
#define FRNN_ARENA_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FRNN_ALIGNMENT = 64 }; /* a cache line, and the widest vector */

typedef struct frnn_arena {
    char *base; /* NULL: only count */
    size_t used;
    bool too_large; /* the sum does not fit in size_t */
    void *memory;   /* what free takes; NULL: nothing to free */
} frnn_arena;

/* a * b bytes for frnn_arena_take. */
static inline size_t frnn_arena_product(frnn_arena *arena, size_t a, size_t b)
{
    if (b && a > PTRDIFF_MAX / b) {
        arena->too_large = true;
        return 0;
    }
    return a * b;
}

/* count elements of some bytes, aligned; NULL while counting. */
static inline void *frnn_arena_take(frnn_arena *arena, size_t count, size_t bytes)
{
    const size_t limit = (PTRDIFF_MAX - FRNN_ALIGNMENT) / FRNN_ALIGNMENT * FRNN_ALIGNMENT, before = arena->used;
    if (bytes && count > (limit - before) / bytes) {
        arena->too_large = true;
        return NULL;
    }
    arena->used = (before + count * bytes + FRNN_ALIGNMENT - 1) / FRNN_ALIGNMENT * FRNN_ALIGNMENT;
    return arena->base ? arena->base + before : NULL;
}

/* After counting: back to the start, in memory for all of it and FRNN_ALIGNMENT bytes more. False where it is NULL. */
static inline bool frnn_arena_place(frnn_arena *arena, void *memory)
{
    if (!memory)
        return false;
    arena->base = (char *)(((uintptr_t)memory + FRNN_ALIGNMENT - 1) / FRNN_ALIGNMENT * FRNN_ALIGNMENT);
#ifndef NDEBUG
    memset(arena->base, 0xff, arena->used); /* NaN, of either size, and wild pointers: what is read must be written */
#endif
    arena->used = 0;
    return true;
}

/* Memory for all that was counted. It is `local` where that is large enough. False where it can't be had. */
static inline bool frnn_arena_allocate(frnn_arena *arena, void *local, size_t local_bytes)
{
    const bool fits = !arena->too_large && arena->used + FRNN_ALIGNMENT <= local_bytes;
    arena->memory = arena->too_large || fits ? NULL : malloc(arena->used + FRNN_ALIGNMENT);
    return frnn_arena_place(arena, fits ? local : arena->memory);
}

#endif
