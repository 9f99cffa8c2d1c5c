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
    const void *peephole;  /* [block][i f o][lane], or NULL */
    bool usual;            /* tanh and sigmoid where they usually are, and no option: the kernel's fast text */
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

enum { FRNN_MOST_STAGES = 2 };

/* One layer in one direction. All layers of a stack have the same kinds of stages. */
typedef struct frnn_layer {
    int stages;
    frnn_stage stage[FRNN_MOST_STAGES];
} frnn_layer;

struct frnn_params {
    frnn_spec spec;
    const frnn_kernels *kernels;
    size_t D, out, element; /* directions; size of an output row, P or H; bytes of a number */
    size_t bytes;
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
