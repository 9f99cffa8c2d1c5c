/* Between the two halves of the library: run.c and pack.c above, which know no instruction set, and the kernels
 * below, which know no layers, no time and no threads.
 *
 * A step of a layer is one or two stages. A stage is a product and what is done with it: for n rows and all units,
 * sums = bias + W x + U h, then the cell's equations. */
#ifndef FRNN_TARGET_H
#define FRNN_TARGET_H

#include <assert.h>
#include <stdint.h>

#include "cpu.h"
#include "fastrnn.h"

/* kind              gates in W and U, sums kept a unit                       side            y
 * STAGE_RNN         h                 h                                      -               h'
 * STAGE_LSTM        i f g o           i f g o                                c, in and out   h' (before a projection)
 * STAGE_GRU         r z n             r z, n's W x + b, n's U h + d          -               h'
 * STAGE_GRU_RESET   r z               r z                                    z, out          r * h
 * STAGE_GRU_NEW     n                 n                                      z, in           h'
 * STAGE_PROJECT     (V)               V h                                    -               V h
 */
typedef enum frnn_stage_kind {
    FRNN_STAGE_RNN,
    FRNN_STAGE_LSTM,
    FRNN_STAGE_GRU,
    FRNN_STAGE_GRU_RESET,
    FRNN_STAGE_GRU_NEW,
    FRNN_STAGE_PROJECT
} frnn_stage_kind;

/* Gates of a unit in the panels of W and U. */
static inline int frnn_stage_gates(frnn_stage_kind kind)
{
    return kind == FRNN_STAGE_LSTM ? 4 : kind == FRNN_STAGE_GRU ? 3 : kind == FRNN_STAGE_GRU_RESET ? 2 : 1;
}

/* Sums of a unit, each with a bias. GRU's fourth is the recurrent part of n, which has its own chain. */
static inline int frnn_stage_sums(frnn_stage_kind kind) { return kind == FRNN_STAGE_GRU ? 4 : frnn_stage_gates(kind); }

typedef struct frnn_stage {
    frnn_stage_kind kind;
    size_t I, K;          /* lengths of an x row and of an h row */
    size_t units, blocks; /* outputs, and vectors of outputs: the last is padded with zeros */
    const void *W;        /* panels [block][k < I][gate][lane] */
    const void *U;        /* panels [block][k < K][gate][lane] */
    const void *bias;     /* [block][sum][lane] */
    const void *peephole; /* [block][i f o][lane], or NULL */
    frnn_activation activation, recurrent_activation, output_activation;
    double clip;
    bool input_forget;
    bool usual; /* tanh and sigmoid where they usually are, and no option: the kernel's fast text */
} frnn_stage;

/* The rows of one step. A pointer that the stage's kind has no use for may be NULL. */
typedef struct frnn_rows {
    size_t n;
    const void *const *x;        /* n rows of I; not read where sums are kept */
    const void *const *h;        /* n rows of K: what U multiplies */
    const void *const *previous; /* n rows of units: h of the step before (GRU) */
    void *const *y;              /* n rows of units */
    void *side;                  /* [n][block][lane] */
    void *sums;                  /* [n][block][sum][lane]: bias + W x, kept from input to step; NULL: not kept */
} frnn_rows;

/* The kernels of one target and dtype. */
typedef struct frnn_kernels {
    size_t width;                                                  /* lanes of a vector */
    size_t max_rows;                                               /* rows of the tallest register tile */
    void (*input)(const frnn_stage *stage, const frnn_rows *rows); /* fills rows->sums from rows->x */
    void (*step)(const frnn_stage *stage, const frnn_rows *rows);  /* the stage, from rows->sums or from rows->x */
} frnn_kernels;

struct frnn_target {
    const char *name;
    unsigned features; /* FRNN_CPU_ sets that it needs */
    const frnn_kernels *kernels[FRNN_DTYPES];
};

/* One layer in one direction. */
typedef struct frnn_layer {
    int stages;
    frnn_stage stage[2];
} frnn_layer;

struct frnn_params {
    frnn_spec spec;
    const frnn_target *target;
    const frnn_kernels *kernels;
    size_t D, out, element; /* directions; size of an output row, P or H; bytes of a number */
    size_t bytes;
    void *memory;        /* of all panels */
    frnn_layer layers[]; /* L * D */
};

#endif
