/* The register tile: some rows by some blocks of units, a few sums each, one chain of fused multiply-adds a sum.
 *
 * What keeps the multipliers busy is the number of chains: as many as the registers hold beside one broadcast input a
 * row and one vector of weights. Few rows have several blocks side by side instead. */

#if REGISTERS == 32
enum { MAX_ROWS = 6, FEW_ROWS = 3, MAX_SUMS = 24 };
#else
enum { MAX_ROWS = 3, FEW_ROWS = 1, MAX_SUMS = 12 };
#endif

enum {
    SUMS_ACROSS = 4,                                /* sums of a row in a tile */
    SUMS_ACROSS_OF_FEW = 8,                         /* where the tile has at most FEW_ROWS */
    BAND_ROWS = 96,                                 /* rows that pass a chain's panels before the next chain */
    BAND_SUMS = BAND_ROWS * SUMS_ACROSS_OF_FEW / 2, /* of a band: few rows have twice the sums and are fewer */
};

_Static_assert(BAND_SUMS >= BAND_ROWS * SUMS_ACROSS && BAND_SUMS >= FEW_ROWS * SUMS_ACROSS_OF_FEW, "all fit");

INLINE int sums_across(size_t rows) { return rows <= FEW_ROWS ? SUMS_ACROSS_OF_FEW : SUMS_ACROSS; }

/* Where a tile is, and its sums in memory: [row][block][sum][lane], rows a stride apart. */
typedef struct tile {
    size_t row, rows, block, blocks; /* where it starts, and how large it is */
    const real *start;               /* what sums start from: biases, or a kept x part */
    size_t start_stride;
    real *sums;
    size_t stride;
    const real *ahead; /* one vector a term that will be wanted next: brought near meanwhile; NULL: none */
} tile;

/* One stage of one step, as the products and the cells see it. */
typedef struct stage_step {
    const frnn_stage *stage;
    size_t n;
    const void *const *x, *const *h, *const *previous; /* rows that W and U multiply; h of the step before (GRU) */
    void *const *y;
    real *carry;
    real *kept;  /* sums of the x part: to be filled, or to start from; NULL: none */
    bool ahead;  /* fill `kept`, and no more */
    bool zero_h; /* h is +0 throughout: U h is known */
} stage_step;
