/* The product: sums = bias + W x + U h, a register tile at a time.
 *
 * A tile is some rows by some blocks of units, a few sums each, one chain of fused multiply-adds a sum. A chain runs over
 * k in order and is never split, so the bits of a sum do not depend on the tile that it was in. What keeps the
 * multipliers busy is the number of chains: up to MAX_SUMS, which leaves registers for one vector of weights a gate and
 * for one broadcast input.
 *
 * Shapes are constants, which the compiler folds: every inline function here becomes a straight text for each of them. */

#if REGISTERS == 32
#define MAX_ROWS 6
#else
#define MAX_ROWS 3
#endif

enum {
    SUMS_ACROSS = 4,            /* sums of a row in a tile of several rows: blocks side by side make up for few gates */
    SUMS_ACROSS_OF_ONE_ROW = 8, /* one row alone has too few chains otherwise */
    MAX_SUMS = MAX_ROWS * SUMS_ACROSS
};

typedef struct shape {
    int gates; /* of a unit, in the panels */
    int sums;  /* of a unit */
    int rows, blocks;
} shape;

/* Where a tile starts. */
typedef struct place {
    size_t row, block;
} place;

/* Panels hold weights as they are multiplied: the one line to change where they do not. */
INLINE vec load_weights(const real *panel)
{
    return v_load(panel);
}

/* sums[row][block][sum] += panel[block][k][gate] * in[row][k], for one k. The last gate adds to sum `last`. */
INLINE void multiply_term(vec *sums, shape s, int last, const real *const *panels, const real *const *in, size_t k)
{
    vec weights[MAX_SUMS];
    UNROLL
    for (int c = 0; c < s.blocks * s.gates; c++)
        weights[c] = load_weights(panels[c / s.gates] + (k * (size_t)s.gates + (size_t)(c % s.gates)) * WIDTH);
    UNROLL
    for (int r = 0; r < s.rows; r++) {
        const vec a = v_set1(in[r][k]);
        UNROLL
        for (int c = 0; c < s.blocks * s.gates; c++) {
            const int gate = c % s.gates, sum = gate == s.gates - 1 ? last : gate;
            vec *chain = &sums[(r * s.blocks + c / s.gates) * s.sums + sum];
            *chain = v_fma(weights[c], a, *chain);
        }
    }
}

/* The same for k = 0 .. K-1, in this order. */
INLINE void multiply(vec *sums, shape s, int last, const void *panel, size_t block, const void *const *in, size_t K)
{
    const real *panels[SUMS_ACROSS_OF_ONE_ROW], *rows[MAX_ROWS];
    UNROLL
    for (int b = 0; b < s.blocks; b++)
        panels[b] = (const real *)panel + (block + (size_t)b) * K * (size_t)s.gates * WIDTH;
    UNROLL
    for (int r = 0; r < s.rows; r++)
        rows[r] = in[r];
    size_t k = 0;
    if (s.rows == 1) /* the loop's own cost shows where a tile is this small */
        for (; k + 4 <= K; k += 4) {
            multiply_term(sums, s, last, panels, rows, k);
            multiply_term(sums, s, last, panels, rows, k + 1);
            multiply_term(sums, s, last, panels, rows, k + 2);
            multiply_term(sums, s, last, panels, rows, k + 3);
        }
    for (; k < K; k++)
        multiply_term(sums, s, last, panels, rows, k);
}

/* The sums of one row and block where they wait between input and step. */
INLINE real *kept_sums(const frnn_stage *stage, const frnn_rows *rows, shape s, size_t row, size_t block)
{
    return (real *)rows->sums + (row * stage->blocks + block) * (size_t)s.sums * WIDTH;
}

/* One tile. INPUT keeps bias + W x in rows->sums; STEP goes on from there, or from the start, and ends the step. */
typedef enum part { INPUT, STEP } part;

INLINE void tile(part part, shape s, const frnn_stage *stage, const frnn_rows *rows, place at)
{
    if (s.blocks * s.sums > (s.rows == 1 ? SUMS_ACROSS_OF_ONE_ROW : SUMS_ACROSS))
        return; /* a shape that is never asked for: no code is made for it */

    const bool kept = part == STEP && rows->sums;
    vec sums[MAX_SUMS];
    UNROLL
    for (int i = 0; i < s.rows * s.blocks * s.sums; i++) {
        const size_t row = at.row + (size_t)(i / (s.blocks * s.sums)), block = at.block + (size_t)(i / s.sums % s.blocks);
        const real *bias = (const real *)stage->bias + block * (size_t)s.sums * WIDTH;
        sums[i] = v_load((kept ? kept_sums(stage, rows, s, row, block) : bias) + i % s.sums * WIDTH);
    }
    if (!kept)
        multiply(sums, s, s.gates - 1, stage->W, at.block, rows->x + at.row, stage->I);
    if (part == STEP)
        multiply(sums, s, s.sums - 1, stage->U, at.block, rows->h + at.row, stage->K);

    vec done[MAX_SUMS]; /* the finish loops over it, which would keep `sums` itself out of registers */
    UNROLL
    for (int i = 0; i < s.rows * s.blocks * s.sums; i++) {
        const size_t row = at.row + (size_t)(i / (s.blocks * s.sums)), block = at.block + (size_t)(i / s.sums % s.blocks);
        v_store(part == INPUT ? kept_sums(stage, rows, s, row, block) + i % s.sums * WIDTH : (real *)&done[i], sums[i]);
    }
    if (part == STEP)
        finish(stage, rows, at.row, at.block, (size_t)s.rows, (size_t)s.blocks, done);
}

/* All rows of some blocks, in tiles of as equal a height as can be: eight rows are four and four, not six and two. */
INLINE void tiles(part part, int gates, int sums, int blocks, const frnn_stage *stage, const frnn_rows *rows,
                  size_t block)
{
    place at = {0, block};
    for (size_t left = (rows->n + MAX_ROWS - 1) / MAX_ROWS; left > 0; left--) {
        const size_t height = (rows->n - at.row + left - 1) / left;
        switch (height) {
        case 1: tile(part, (shape){gates, sums, 1, blocks}, stage, rows, at); break;
        case 2: tile(part, (shape){gates, sums, 2, blocks}, stage, rows, at); break;
        case 3: tile(part, (shape){gates, sums, 3, blocks}, stage, rows, at); break;
#if MAX_ROWS == 6
        case 4: tile(part, (shape){gates, sums, 4, blocks}, stage, rows, at); break;
        case 5: tile(part, (shape){gates, sums, 5, blocks}, stage, rows, at); break;
        case 6: tile(part, (shape){gates, sums, 6, blocks}, stage, rows, at); break;
#endif
        default: assert(!"a tile has from 1 to MAX_ROWS rows");
        }
        at.row += height;
    }
}

/* All blocks, as many side by side as a tile takes. A block's panels stay in cache while its rows pass. */
INLINE void sweep(part part, int gates, int sums, const frnn_stage *stage, const frnn_rows *rows)
{
    const size_t across = (size_t)((rows->n == 1 ? SUMS_ACROSS_OF_ONE_ROW : SUMS_ACROSS) / sums);
    for (size_t block = 0; block < stage->blocks;) {
        const size_t left = stage->blocks - block, fit = left < across ? left : across;
        if (fit >= 8) {
            tiles(part, gates, sums, 8, stage, rows, block);
            block += 8;
        } else if (fit >= 4) {
            tiles(part, gates, sums, 4, stage, rows, block);
            block += 4;
        } else if (fit >= 2) {
            tiles(part, gates, sums, 2, stage, rows, block);
            block += 2;
        } else {
            tiles(part, gates, sums, 1, stage, rows, block);
            block += 1;
        }
    }
}

INLINE void product(part part, const frnn_stage *stage, const frnn_rows *rows)
{
    switch (stage->kind) {
    case FRNN_STAGE_LSTM: sweep(part, 4, 4, stage, rows); break;
    case FRNN_STAGE_GRU: sweep(part, 3, 4, stage, rows); break;
    case FRNN_STAGE_GRU_RESET: sweep(part, 2, 2, stage, rows); break;
    case FRNN_STAGE_RNN:
    case FRNN_STAGE_GRU_NEW:
    case FRNN_STAGE_PROJECT: sweep(part, 1, 1, stage, rows); break;
    }
}
