/* What a call keeps of itself: its inputs, the sums of all stages, and each layer's outputs and states beside h. */
#ifndef FRNN_TAPE_H
#define FRNN_TAPE_H

#include "kernel.h"

struct frnn_tape {
    const frnn_params *params;
    size_t T, B;
    bool return_sequences;
    size_t bytes;
    void *memory;    /* frnn_pages_take */
    size_t *lengths; /* (B) */
    size_t *rows;    /* (B), the longest first */
    char *x;         /* (T, B, I) */
    char *outputs;   /* [layer](T, B, D * out) */
    /* Of each layer and direction: */
    char *h;                      /* (B, out) before the first step */
    char *start;                  /* [row] rows of the first stage's sums, in which the initial states beside h are */
    char *sums[FRNN_MOST_STAGES]; /* [time][row] rows of sums, those of the first stage with states beside h; or NULL */
    size_t sums_row_bytes[FRNN_MOST_STAGES];
};

static inline size_t frnn_tape_output_bytes(const frnn_tape *tape) /* of one layer */
{
    return tape->T * tape->B * tape->params->D * tape->params->out * tape->params->number_bytes;
}

/* The sums of a stage of a layer in a direction. */
static inline char *frnn_tape_sums(const frnn_tape *tape, size_t index, int stage)
{
    char *sums = tape->sums[stage];
    return sums ? sums + index * tape->T * tape->B * tape->sums_row_bytes[stage] : NULL;
}

/* The row of a stage's sums at a time; NULL: the stage keeps none. */
static inline char *frnn_tape_row(const frnn_tape *tape, size_t index, int stage, size_t time, size_t row)
{
    char *sums = frnn_tape_sums(tape, index, stage);
    return sums ? sums + (time * tape->B + row) * tape->sums_row_bytes[stage] : NULL;
}

/* The row with the states beside h before the first step; NULL: there are none. */
static inline const char *frnn_tape_start(const frnn_tape *tape, size_t index, size_t row)
{
    return tape->start ? tape->start + (index * tape->B + row) * tape->sums_row_bytes[0] : NULL;
}

/* Lays a tape out for a call, copies its inputs. NULL: no memory. */
frnn_tape *frnn_tape_new(const frnn_params *params, const frnn_call *call);

#endif
