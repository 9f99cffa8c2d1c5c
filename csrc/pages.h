/* Large blocks of memory that are kept for the next call: pages that the system hands out anew cost more time than what
 * is computed in them beside the products. */
#ifndef FRNN_PAGES_H
#define FRNN_PAGES_H

#include <stddef.h>

#include "arena.h"

/* At least so many bytes, their contents whatever they are; NULL: no memory. Any thread may give them back. */
void *frnn_pages_take(size_t bytes);
void frnn_pages_give(void *pages); /* NULL is allowed */

/* frnn_arena_allocate, in such a block: arena->memory, which is to be given back. */
bool frnn_arena_allocate_pages(frnn_arena *arena);

/* Gives all blocks that are kept to the system. */
void frnn_pages_release(void);

#endif
