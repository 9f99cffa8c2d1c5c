#include "pages.h"

#include <stdatomic.h>

/* Blocks lie in slots, each of which is taken and filled by one exchange: no lock, which a fork could leave closed. */
enum { SLOTS = 16 };
static const size_t most_kept = (size_t)1 << 29; /* bytes of all blocks that are kept */
#ifdef NDEBUG
enum { LARGER = 2 }; /* a block may be larger than what is wanted by half of it: by one LARGERth */
#else
enum { LARGER = 1 << 30 }; /* by next to nothing, so that sanitizers see what is written behind it */
#endif

typedef union block {
    size_t bytes; /* behind this header */
    max_align_t aligned;
} block;

static _Atomic(block *) slots[SLOTS];
static atomic_size_t kept;

static block *take_from(size_t slot)
{
    block *found = atomic_exchange(&slots[slot], NULL);
    if (found)
        atomic_fetch_sub(&kept, found->bytes);
    return found;
}

static bool put_into(size_t slot, block *given)
{
    block *nothing = NULL;
    const size_t bytes =
        given->bytes; /* another thread may take the block, and free it, as soon as it is in its slot */
    if (atomic_fetch_add(&kept, bytes) + bytes <= most_kept &&
        atomic_compare_exchange_strong(&slots[slot], &nothing, given))
        return true;
    atomic_fetch_sub(&kept, bytes);
    return false;
}

static bool put(block *given)
{
    for (size_t slot = 0; slot < SLOTS; slot++)
        if (put_into(slot, given))
            return true;
    return false;
}

/* Where there is no room, blocks that are kept make it, in turn: they may be of sizes that nobody asks for any more. */
static void keep(block *given)
{
    static atomic_size_t turn;
    bool is_put = false;
    for (size_t i = 0; i <= SLOTS && given->bytes <= most_kept && !(is_put = put(given)); i++)
        free(take_from(atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % SLOTS));
    if (!is_put)
        free(given);
}

void *frnn_pages_take(size_t bytes)
{
    for (size_t slot = 0; slot < SLOTS; slot++) {
        block *found = atomic_load_explicit(&slots[slot], memory_order_relaxed) ? take_from(slot) : NULL;
        if (found && found->bytes >= bytes && found->bytes - bytes <= bytes / LARGER)
            return found + 1;
        if (found && !put(found))
            free(found);
    }
    if (bytes > PTRDIFF_MAX - 2 * sizeof(block))
        return NULL;
    block *new = malloc(sizeof *new + bytes);
    if (!new) { /* what is kept may be what is missing */
        frnn_pages_release();
        new = malloc(sizeof *new + bytes);
    }
    if (!new)
        return NULL;
    new->bytes = bytes;
    return new + 1;
}

void frnn_pages_give(void *pages)
{
    if (pages)
        keep((block *)pages - 1);
}

void frnn_pages_release(void)
{
    for (size_t slot = 0; slot < SLOTS; slot++)
        free(take_from(slot));
}

bool frnn_arena_allocate_pages(frnn_arena *arena)
{
    arena->memory = arena->too_large ? NULL : frnn_pages_take(arena->used + FRNN_ALIGNMENT);
    return frnn_arena_place(arena, arena->memory);
}
