/* The register tile: some rows by some blocks of units, a few sums each, one chain of fused multiply-adds a sum.
 *
 * What keeps the multipliers busy is the number of chains: up to MAX_SUMS, which leaves registers for one vector of
 * weights a gate and for one broadcast input. */

#if REGISTERS == 32
#define MAX_ROWS 6
#else
#define MAX_ROWS 3
#endif

enum {
    SUMS_ACROSS = 4,            /* sums of a row in a tile of several rows: blocks side by side make up for few gates */
    SUMS_ACROSS_OF_ONE_ROW = 8, /* one row alone has too few chains otherwise */
    MAX_SUMS = MAX_ROWS * SUMS_ACROSS,
};

/* Between products and cells the sums of a tile are in memory: [row][block][sum][lane], rows a stride apart. */
typedef struct tile {
    size_t row, rows, block, blocks; /* where it starts, and how large it is */
    real *sums;
    size_t stride;
} tile;
