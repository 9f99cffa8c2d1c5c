/* Tokens: numbers of rows of an embedding E, which params hold beside their weights.
 *
 * What the lowest layer multiplies of a token is always the same, so bias + W E[v] is made once for every token v, by the
 * kernel that would have made it in a call: the bits are those of x = E[tokens]. Where such a table would take too many
 * bytes, rows of E are multiplied where they lie. Either way no row is copied. */
#ifndef FRNN_EMBEDDING_H
#define FRNN_EMBEDDING_H

#include "arena.h"
#include "progress.h"
#include "tape.h"

/* Lays the embedding of params out, whose layers are laid out already. Where there is memory it is filled, and the layers
 * must be filled. E as in frnn_weights. `most`: bytes at most of the table. */
void frnn_embedding_make(frnn_params *params, frnn_arena *arena, const void *E, size_t most);

/* Whether all tokens of a call are rows of the embedding: of the steps that rows have. */
bool frnn_tokens_are_known(const frnn_params *params, const frnn_call *call);

/* How a layer in a direction reads tokens. */
static inline frnn_lookup frnn_lookup_of(const frnn_params *params, frnn_tokens tokens, size_t direction)
{
    const char *const *table = params->embedding.table[direction];
    return (frnn_lookup){tokens, &params->embedding, table[0] ? table : NULL};
}

/* What it takes to add up gradients of an embedding's rows. */
typedef struct frnn_row_sums {
    char *chains;          /* (V, I) */
    unsigned char *counts; /* (V): terms of a chain so far */
} frnn_row_sums;

frnn_row_sums frnn_row_sums_lay_out(const frnn_params *params, frnn_arena *arena);

/* dE: for each token the sum of the gradients dx of all that it was read for: times from the first, and rows of a time from
 * the first, in chains of FRNN_CHAIN terms. dx is dense, (T, B, I), of a tape of tokens. */
void frnn_row_sums_add(const frnn_row_sums *sums, const frnn_tape *tape, const char *dx, void *dE,
                       frnn_progress *progress, bool asks);

#endif
