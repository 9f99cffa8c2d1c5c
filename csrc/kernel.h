/* Between the two halves of the library: strand.c, stream.c and pack.c above, which know no instruction set, and the
 * kernels below, which know one layer and some steps of it.
 *
 * A step of a layer is one or two stages. A stage is a product and what is done with it: for n rows and all units,
 * sums = bias + W x + U h, then the cell's equations. */
#ifndef FRNN_KERNEL_H
#define FRNN_KERNEL_H

#include <assert.h>
#include <stdint.h>

#include "cpu.h"
#include "fastrnn.h"

typedef enum frnn_stage_kind {
#define FRNN_STAGE(kind, gates, sums) FRNN_STAGE_##kind,
#include "stages.def"
#undef FRNN_STAGE
    FRNN_STAGE_KINDS
} frnn_stage_kind;

/* Gates of a unit in the panels of W and U. */
static inline size_t frnn_stage_gates(frnn_stage_kind kind)
{
    static const size_t gates[] = {
#define FRNN_STAGE(kind, gates, sums) gates,
#include "stages.def"
#undef FRNN_STAGE
    };
    return gates[kind];
}

/* Sums of a unit, each with a bias. */
static inline size_t frnn_stage_sums(frnn_stage_kind kind)
{
    static const size_t sums[] = {
#define FRNN_STAGE(kind, gates, sums) sums,
#include "stages.def"
#undef FRNN_STAGE
    };
    return sums[kind];
}

typedef struct frnn_stage {
    frnn_stage_kind kind;
    const frnn_spec *spec; /* of the params: activations, clip, options */
    size_t I, K;           /* lengths of an x row and of an h row */
    size_t units, blocks;  /* outputs, and vectors of outputs: the last is padded with zeros */
    const void *W;         /* panels [block][k < I][gate][lane] */
    const void *U;         /* panels [block][k < K][gate][lane] */
    const void *bias;      /* [block][sum][lane] */
    const void *zero_h;    /* [block][sum][lane]: what U h adds to a sum where h is +0: 0 with a sign, or NaN */
    const void *peephole;  /* [block][i f o][lane], or NULL */
    bool standard;         /* tanh and sigmoid where they usually are, and no option: the kernel's fast text */
} frnn_stage;

enum {
    FRNN_MOST_STAGES = 2,
    FRNN_CHAIN = 128 /* terms of a chain of fused multiply-adds: part of what the bits are */
};

/* One layer in one direction. All layers of a stack have the same kinds of stages. */
typedef struct frnn_layer {
    int stages;
    frnn_stage stage[FRNN_MOST_STAGES];
} frnn_layer;

/* The x part of some rows, to be kept: sums = bias + W x. */
typedef struct frnn_inputs {
    size_t n;
    const void *const *x; /* n rows of I */
    void *sums;           /* [n][block][sum][lane] */
    size_t share, shares; /* which of how many shares of the blocks is computed: each thread has its own */
} frnn_inputs;

/* Steps of one layer: n rows, each step from what the one before wrote. The kernel moves the pointers of rows along. */
typedef struct frnn_steps {
    const frnn_layer *layer;
    size_t n, steps;
    const void **x;               /* n rows of I at the first step; NULL where sums are kept */
    const void **h;               /* n rows of P or H: the state before the first step */
    void **y;                     /* n rows of P or H: written, and the next step's h */
    bool from_zeros;              /* h before the first step is +0 throughout */
    ptrdiff_t x_step, y_step;     /* bytes from a row's step to its next one */
    void *const *middle;          /* n rows of H between two stages; unused where there is one */
    void *carry;                  /* [n][block][lane] */
    void *sums[FRNN_MOST_STAGES]; /* kept x part of each stage, [step][n][block][sum][lane]; NULL: not kept */
    size_t parity;                /* odd: the first step goes through the blocks downwards. Then they alternate */
    size_t share, shares;         /* as of frnn_inputs */
    void (*meet)(void *context);  /* called when a share of a stage is done: returns when all shares are */
    void *context;
} frnn_steps;

/* The kernels of one target and dtype. They may move the pointers to rows along, and write nothing else of a struct. */
typedef struct frnn_kernels {
    size_t width;    /* lanes of a vector */
    size_t max_rows; /* rows of the tallest register tile */
    void (*input)(const frnn_stage *stage, const frnn_inputs *inputs);
    void (*steps)(frnn_steps *steps);
} frnn_kernels;

struct frnn_target {
    const char *name;
    unsigned features; /* FRNN_CPU_ sets that it needs */
    const frnn_kernels *kernels[FRNN_DTYPES];
};

struct frnn_params {
    frnn_spec spec;
    const frnn_kernels *kernels;
    size_t D, out, element; /* directions; size of an output row, P or H; bytes of a number */
    size_t bytes;
    size_t l2_bytes;     /* of this processor: the plan's */
    void *memory;        /* of all panels */
    frnn_layer layers[]; /* L * D */
};

/* Bytes of one number a unit for one row, padded to whole vectors. */
static inline size_t frnn_unit_bytes(const frnn_params *params, const frnn_stage *stage)
{
    return stage->blocks * params->kernels->width * params->element;
}

/* Bytes of the sums of one row. */
static inline size_t frnn_sums_bytes(const frnn_params *params, const frnn_stage *stage)
{
    return frnn_unit_bytes(params, stage) * frnn_stage_sums(stage->kind);
}

#endif
