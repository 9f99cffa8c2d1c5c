/* The register tile: some rows by some blocks of units, a few gates each, one chain of fused multiply-adds a column.
 *
 * What keeps the multipliers busy is the number of chains: as many as the registers hold beside one broadcast input a
 * row and one vector of weights. Few rows have several blocks side by side instead. */

#if REGISTERS == 32
enum { MAX_ROWS = 6, FEW_ROWS = 3, MAX_COLUMNS = 24, TALLEST = MAX_ROWS };
#else
enum { MAX_ROWS = 3, FEW_ROWS = 1, MAX_COLUMNS = 12, TALLEST = 6 };
#endif

/* Rows whose inputs are all in registers beside a tile's sums and one column of weights. Of more rows, weights are in registers and
 * inputs come one at a time. */
#ifndef ROWS_AT_HAND
#define ROWS_AT_HAND MAX_ROWS
#define IN_ORDER (void)0
#endif

/* A column is a gate of a block: what one row of a tile has in registers. */
enum {
    COLUMNS = 4,        /* of a tile */
    COLUMNS_OF_FEW = 8, /* of one that has at most FEW_ROWS */
    BAND_ROWS = 96,     /* rows that pass a chain's panels before the next chain */
};

_Static_assert(MAX_ROWS *COLUMNS <= MAX_COLUMNS && FEW_ROWS * COLUMNS_OF_FEW <= MAX_COLUMNS,
               "a tile's columns are all in registers");

INLINE size_t columns_across(size_t rows)
{
    return rows <= FEW_ROWS ? COLUMNS_OF_FEW : rows <= MAX_ROWS ? COLUMNS : MAX_COLUMNS / rows;
}

/* How often a tile of so many rows goes through k: twice, half of the gates each time, where its rows leave no registers for all. */
INLINE size_t passes_of(size_t gates, size_t rows) { return gates > columns_across(rows) ? 2 : 1; }

/* Rows of the tallest tile of numbers of so many gates and blocks. Four gates of one block may be taken two at a time. */
INLINE size_t most_rows(size_t gates, size_t blocks)
{
    const size_t columns = gates == COLUMNS && blocks == 1 ? COLUMNS / 2 : gates * blocks;
    const size_t rows = MAX_COLUMNS / (uint32_t)columns;
    return columns > COLUMNS ? FEW_ROWS : rows < TALLEST ? rows : TALLEST;
}

/* Sums of a band of any stage, which are kept in memory from one product to the next. */
union band_sums {
#define FRNN_STAGE(KIND, first, G, S, handed)                                                                          \
    char rows_of_##KIND[BAND_ROWS * (COLUMNS / (G)) * (S)];                                                            \
    char few_rows_of_##KIND[FEW_ROWS * (COLUMNS_OF_FEW / (G)) * (S)];
#include "../cells.def"
};
enum { BAND_SUMS = sizeof(union band_sums) };

/* Sums of a unit of any stage. */
union unit_sums {
#define FRNN_STAGE(KIND, first, G, S, handed) char sums_of_##KIND[S];
#include "../cells.def"
};
enum { MOST_SUMS = sizeof(union unit_sums) };

#define FRNN_STAGE(KIND, first, G, S, handed)                                                                          \
    _Static_assert((G) <= COLUMNS,                                                                                     \
                   #KIND ": a stage has at most as many gates as a tile has columns. A cell with more "                \
                         "of them takes them in two stages");
#include "../cells.def"

/* Where a tile is, and its sums in memory: [row][block][sum][lane], rows a stride apart. */
typedef struct tile {
    size_t row, rows, block, blocks; /* where it starts, and how large it is */
    const real *start;               /* what sums start from: biases, or a kept x part */
    size_t start_stride;
    real *sums;
    size_t stride;
    const real *ahead; /* a column of weights to fetch while this tile is multiplied; NULL: none */
} tile;

/* One stage of one step, as the products and the equations see it. */
typedef struct stage_step {
    const frnn_stage *stage;
    size_t n;
    const void *const *x, *const *h, *const *previous; /* rows that W and U multiply; h of the step before (GRU) */
    void *const *y;
    void *const *carry;
    real *kept;                   /* sums of the x part: to be filled, or to start from; NULL: none */
    const void *const *looked_up; /* the same, to start from, of several rows that lie anywhere; NULL: none */
    bool ahead;                   /* fill `kept`, and no more */
    bool zero_h;                  /* h is +0 throughout: U h is known */
    void *const *tape; /* rows that sums, and of the first stage states beside h, are kept in; NULL: not kept */
    size_t states;     /* of them, beside h */
    const char *x_integers, *h_integers; /* what rows of x and h have become, where weights are bytes */
    const frnn_past *past;
} stage_step;
