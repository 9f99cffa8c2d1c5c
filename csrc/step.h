/* A step of some rows through all layers, on one thread: what a stream and a pool do alike. */
#ifndef FRNN_STEP_H
#define FRNN_STEP_H

#include <string.h>

#include "kernel.h"

typedef struct frnn_step {
    const frnn_params *params;
    size_t n;                      /* rows */
    size_t apart;                  /* pointers from a row of one layer to that of the next layer */
    const void **x;                /* [row] */
    const frnn_lookup *lookup;     /* what tokens of x name; NULL: x is of numbers */
    const void **found;            /* [row], with a lookup: rows that tokens name */
    void **h, **y, **carry;        /* [layer][row]: h before the step, h after it, and carry as kernels keep it */
    void **middle;                 /* [row] of H, where a layer has two stages */
    void *x_integers, *h_integers; /* of the rows, where weights are bytes */
    size_t parity;                 /* of the step: the panels that one step read last, the next reads first */
} frnn_step;

static inline void frnn_step_rows(const frnn_step *self)
{
    const frnn_params *params = self->params;
    for (size_t layer = 0, row = 0; layer < params->spec.num_layers; layer++, row += self->apart) {
        frnn_steps step = {
            .layer = &params->layers[layer],
            .n = self->n,
            .steps = 1, /* so the kernel leaves the pointers as they are */
            .x = layer ? (const void **)self->y + row - self->apart : self->x,
            .lookup = layer ? NULL : self->lookup,
            .found = self->found,
            .h = (const void **)self->h + row,
            .y = self->y + row,
            .carry = self->carry + row,
            .middle = self->middle,
            .x_integers = self->x_integers,
            .h_integers = self->h_integers,
            .parity = self->parity,
            .shares = 1,
        };
        params->kernels->steps(&step);
    }
}

/* Where a state beside h is in a row of carry, padded with zeros to whole vectors. */
static inline char *frnn_kept_state(const frnn_params *params, char *carry, size_t state)
{
    return carry + (state - 1) * params->layers[0].stage[0].vector_row_bytes;
}

/* Writes it from where it is dense; NULL: zeros. */
static inline void frnn_keep_state(const frnn_params *params, char *carry, size_t state, const void *from)
{
    char *to = frnn_kept_state(params, carry, state);
    memset(to, 0, params->layers[0].stage[0].vector_row_bytes);
    if (from)
        memcpy(to, from, params->spec.hidden_size * params->number_bytes);
}

#endif
