/* Between the two halves of the library: strand.c, stream.c and params.c above, which know no instruction set, and the
 * kernels below, which know one layer and some steps of it.
 *
 * A step of a layer is one or two stages. A stage is a product and the equations that follow it (the epilogue): for n
 * rows and all units, sums = bias + W x + U h, then y and what the stage carries. */
#ifndef FRNN_KERNEL_H
#define FRNN_KERNEL_H

#include <assert.h>
#include <stdint.h>

#include "cell.h"
#include "cpu.h"
#include "fastrnn.h"
#include "matrix.h"

typedef struct frnn_stage {
    frnn_stage_kind kind;
    size_t gates, sums;      /* of a unit: cells.def */
    size_t units, blocks;    /* outputs, and vectors of outputs: the last is padded with zeros */
    bool takes_x;            /* it multiplies x: all but a projection */
    bool standard;           /* tanh and sigmoid in their places and no option: the kernels' fast text */
    const frnn_spec *spec;   /* of the params: activations, clip, options */
    frnn_matrix W, U;        /* what multiplies x, and h or the rows that the stage before it made */
    const void *bias;        /* [block][sum][lane] */
    const void *zero_h;      /* [block][sum][lane]: what U h adds to a sum where h is +0: 0 with a sign, or NaN */
    const void *peephole;    /* [block][i f o][lane], or NULL */
    size_t vector_row_bytes; /* of a number a unit for one row, padded to whole vectors */
    size_t sums_row_bytes;   /* of all sums of one row */
} frnn_stage;

enum { FRNN_CHAIN = 128 /* terms of a chain of fused multiply-adds: part of what the bits are */ };

/* One layer in one direction. All layers of a stack have the same kinds of stages. */
typedef struct frnn_layer {
    int stages;
    frnn_stage stage[FRNN_MOST_STAGES];
} frnn_layer;

/* What a row of numbers becomes where the weights are bytes: what one of its integers stands for, a float, then the bytes
 * of the integers, in as many vectors as an integer has bytes. */
enum { FRNN_INTEGERS_HEAD = 16 /* bytes of the float, and of nothing */ };

static inline size_t frnn_integer_bytes(const frnn_matrix *matrix)
{
    const size_t vectors = matrix->K ? frnn_matrix_vectors(matrix) : 0;
    return vectors ? FRNN_INTEGERS_HEAD + vectors * frnn_matrix_vector_bytes(matrix) : 0;
}

/* The embedding of params, and what W makes of it. */
typedef struct frnn_embedding {
    size_t V; /* rows; 0: there is no embedding */
    const char *rows;
    ptrdiff_t row; /* bytes from one to the next, which may overlap */
    /* Of each direction and stage: bias + W E[v], a row of sums a token, or NULL. */
    const char *table[2][FRNN_MOST_STAGES];
    size_t table_bytes;
} frnn_embedding;

/* How a layer reads rows of x that are tokens: each as the row of the embedding that it names, or of a table of sums. */
typedef struct frnn_lookup {
    frnn_tokens tokens;
    const frnn_embedding *embedding;
    const char *const *table; /* of each stage, rows of its kept sums; NULL: rows of the embedding are multiplied */
} frnn_lookup;

/* A token at an address. It was checked before, but the caller may write to its array meanwhile: then it is row 0. */
static inline size_t frnn_token_at(const frnn_lookup *lookup, const void *at)
{
    const uint64_t token =
        lookup->tokens == FRNN_TOKENS_32 ? (uint64_t)*(const int32_t *)at : (uint64_t)*(const int64_t *)at;
    return token < lookup->embedding->V ? (size_t)token : 0;
}

/* The row of the embedding that it names. */
static inline const void *frnn_row_of_token(const frnn_lookup *lookup, const void *at)
{
    return lookup->embedding->rows + (ptrdiff_t)frnn_token_at(lookup, at) * lookup->embedding->row;
}

/* The x part of some rows, to be kept: sums = bias + W x. */
typedef struct frnn_inputs {
    size_t n;
    const void *const *x; /* n rows of I */
    void *sums;           /* [n][block][sum][lane] */
    void *integers;       /* of the n rows: frnn_integer_bytes of W; unused where that is 0 */
    size_t share, shares; /* which of how many shares of the blocks is computed: each thread has its own */
} frnn_inputs;

/* Where a share of some blocks begins. */
static inline size_t frnn_share_of(size_t blocks, size_t share, size_t shares)
{
    return shares == 1 ? blocks * share : blocks * share / shares;
}

/* What a step back reads of the step that it goes back over: rows of the tape, and the bytes from a step's to those of
 * the step before it. */
typedef struct frnn_past {
    const void **tape[FRNN_MOST_STAGES]; /* of each stage of the way forward */
    const void **before;                 /* of the first stage at the step before: its states beside h */
    const void **h;                      /* before the step, dense */
    ptrdiff_t tape_step[FRNN_MOST_STAGES], h_step;
} frnn_past;

/* Steps that are on the tape, whose gates and then states beside h are wanted: rows of [gate or state][unit]. */
typedef struct frnn_gates {
    const frnn_layer *layer;
    size_t n;
    frnn_past *past;
    void *const *to;
} frnn_gates;

/* Where numbers of a unit are in a row of gradients, in numbers. Of GRUs that reset after the product the sums of U h
 * and of W x are different for n: "dn of U h, dr, dz, dn of W x", so that either three lie side by side. */
typedef struct frnn_gradient_row {
    size_t x, h;      /* where those of W x and of U h begin: G*H numbers each */
    size_t projected; /* dh after a projection (P), then what V multiplied (H) */
    size_t reset;     /* r * h of a GRU that resets before the product (H) */
    size_t peephole;  /* what peepholes multiplied, times the gradient: i f o (3*H) */
    size_t numbers;
} frnn_gradient_row;

frnn_gradient_row frnn_gradient_row_of(const frnn_spec *spec, bool peepholes);

enum {
    FRNN_OUTER_COLUMNS = 240, /* of a that are copied at once */
    FRNN_OUTER_ROWS = 4 * FRNN_CHAIN
};

/* to[j][k] += the sum over rows r of a[r][a_from + j] * b[r][b_from + k]: chains of FRNN_CHAIN rows, each from zero. */
typedef struct frnn_outer {
    size_t n;                        /* at most FRNN_OUTER_ROWS */
    const void *const *a, *const *b; /* a NULL: ones, in one column */
    size_t a_from, a_columns, b_from, b_columns;
    void *to;      /* a_columns rows of b_columns */
    size_t to_row; /* numbers from one to the next */
    void *scratch; /* frnn_outer_numbers */
} frnn_outer;

/* Numbers of scratch of an outer product with so many columns of b. */
static inline size_t frnn_outer_numbers(size_t b_columns, size_t width)
{
    return FRNN_OUTER_ROWS * (FRNN_OUTER_COLUMNS + b_columns + width) + FRNN_OUTER_COLUMNS * width;
}

/* Steps of one layer: n rows, each step from what the one before wrote. The kernel moves the pointers of x, h and y
 * along. */
typedef struct frnn_steps {
    const frnn_layer *layer;
    size_t n, steps;
    const void **x;                /* n rows of I, or tokens, at the first step; NULL where sums are kept */
    const frnn_lookup *lookup;     /* what tokens name; NULL: rows of x are of numbers */
    const void **found;            /* room for n rows that tokens name */
    const void **h;                /* n rows of P or H: the state before the first step */
    void **y;                      /* n rows of P or H: written, and the next step's h */
    void *const *carry;            /* n rows of [number][block][lane]: states beside h, then what stages hand on */
    bool from_zeros;               /* h before the first step is +0 throughout */
    ptrdiff_t x_step, y_step;      /* bytes from a row's step to its next one */
    void *const *middle;           /* n rows of H between two stages; unused where there is one */
    void *x_integers, *h_integers; /* of the n rows: frnn_integer_bytes of W and of U, the most of all stages */
    void *wide;                    /* room for U of all stages as numbers, where its weights are halves; NULL: none */
    bool is_wide;                  /* which is filled already */
    void *sums[FRNN_MOST_STAGES];  /* kept x part of each stage, [step][n][block][sum][lane]; NULL: not kept */
    size_t parity;                 /* odd: the first step goes through the blocks downwards. Then they alternate */
    size_t share, shares;          /* as of frnn_inputs */
    void (*meet)(void *context);   /* called when a share of a stage is done: returns when all shares are */
    void *context;
    /* Forward: where the sums of each stage are kept for the way back, n rows of [block][sum][lane], those of the first
     * stage with the cell's states beside h after the sums of a block; NULL: nowhere. */
    void **tape[FRNN_MOST_STAGES];
    ptrdiff_t tape_step[FRNN_MOST_STAGES];
    frnn_past *past; /* backward, when `middle` are rows of gradients, and move as y does; NULL: forward */
} frnn_steps;

/* The kernels of one target and dtype. They may move the pointers to rows along, and write nothing else of a struct. */
typedef struct frnn_kernels {
    size_t width;    /* lanes of a vector */
    size_t max_rows; /* rows of the tallest register tile */
    void (*input)(const frnn_stage *stage, const frnn_inputs *inputs);
    void (*steps)(frnn_steps *steps);
    void (*outer)(const frnn_outer *outer);
    void (*gates)(const frnn_gates *gates);
} frnn_kernels;

struct frnn_target {
    const char *name, *base;
    unsigned features; /* FRNN_CPU_ sets that it needs */
    bool dots;         /* whether it has instructions for products of bytes */
    const frnn_kernels *kernels[FRNN_DTYPES];
};

struct frnn_params {
    frnn_spec spec;
    const frnn_kernels *kernels;
    bool dots;           /* kernels may use instructions for products of bytes */
    size_t D, out;       /* directions; size of an output row, P or H */
    size_t number_bytes; /* of a number of x, states, sums and y: the arithmetic's. A matrix has a format of its own */
    size_t states;       /* of the cell: h, and the others, which are the first numbers of its carry */
    size_t carried;      /* numbers of a unit in a row of carry */
    size_t bytes;        /* of everything packed */
    size_t l2_bytes;     /* of this processor: the plan's */
    size_t x_integer_bytes, h_integer_bytes; /* the most that a row takes for W, and for U, of any layer */
    frnn_embedding embedding;
    const void *zeros;   /* a row of +0, as long as that of any state */
    void *memory;        /* of everything packed */
    bool in_pages;       /* which is kept for others when it is freed */
    frnn_layer layers[]; /* L * D */
};

/* Bytes of a row of carry. */
static inline size_t frnn_carry_bytes(const frnn_params *params)
{
    return params->carried * params->layers[0].stage[0].vector_row_bytes;
}

#endif
