/* The product: sums += panels * input, a register tile at a time.
 *
 * A tile is some rows by some blocks of units, a few sums each, one chain of fused multiply-adds a sum. A chain runs
 * over k in order, and where it is broken depends on k alone, so the bits of a sum do not depend on its tile.
 * What keeps the multipliers busy is the number of chains: up to MAX_SUMS, which leaves registers for one vector of
 * weights a gate and for one broadcast input.
 *
 * Shapes are constants, which the compiler folds: `multiply` becomes one straight loop for each of them. Between
 * products the sums are in memory, [row][block][sum][lane]: a few stores and loads for a whole pass over k. */

#if REGISTERS == 32
#define MAX_ROWS 6
#else
#define MAX_ROWS 3
#endif

enum {
    SUMS_ACROSS = 4,            /* sums of a row in a tile of several rows: blocks side by side make up for few gates */
    SUMS_ACROSS_OF_ONE_ROW = 8, /* one row alone has too few chains otherwise */
    MAX_SUMS = MAX_ROWS * SUMS_ACROSS,
    CHAIN =
        128 /* terms summed in a row: part of what the bits are. One long chain has three times the rounding error at
                   1024 terms; at 128, adding the parts costs 1 in 128 */
};

/* What is multiplied, in one tile. */
typedef struct operands {
    const real *panels; /* of the first block */
    const void *const *in;
    size_t K;
    real *sums;       /* of the first row and block */
    size_t sums_step; /* from row to row */
} operands;

typedef struct shape {
    int gates; /* of a unit, in the panels */
    int sums;  /* of a unit */
    int last;  /* where the last gate is summed; gate g < gates - 1 has sum g */
    int rows, blocks;
} shape;

/* Panels hold weights as they are multiplied: the one line to change where they do not. */
INLINE vec load_weights(const real *panel) { return v_load(panel); }

/* sums[row][column] += panel[column / gates][k][column % gates] * in[row][k], for one k. */
INLINE void multiply_term(vec *sums, shape s, const real *const *panels, const real *const *in, size_t k)
{
    const int columns = s.blocks * s.gates;
    vec weights[MAX_SUMS];
    UNROLL
    for (int c = 0; c < columns; c++)
        weights[c] = load_weights(panels[c / s.gates] + (k * (size_t)s.gates + (size_t)(c % s.gates)) * WIDTH);
    UNROLL
    for (int r = 0; r < s.rows; r++) {
        const vec a = v_set1(in[r][k]);
        UNROLL
        for (int c = 0; c < columns; c++)
            sums[r * columns + c] = v_fma(weights[c], a, sums[r * columns + c]);
    }
}

/* For k = from .. to-1, in this order. */
INLINE void multiply_chain(vec *sums, shape s, const real *const *panels, const real *const *in, size_t from, size_t to)
{
    size_t k = from;
    if (s.rows == 1) /* the loop's own cost shows where a tile is this small */
        for (; k + 4 <= to; k += 4) {
            multiply_term(sums, s, panels, in, k);
            multiply_term(sums, s, panels, in, k + 1);
            multiply_term(sums, s, panels, in, k + 2);
            multiply_term(sums, s, panels, in, k + 3);
        }
    for (; k < to; k++)
        multiply_term(sums, s, panels, in, k);
}

INLINE real *sum_at(const operands *o, shape s, int row, int column)
{
    const int gate = column % s.gates, sum = gate == s.gates - 1 ? s.last : gate;
    return o->sums + (size_t)row * o->sums_step + (size_t)(column / s.gates * s.sums + sum) * WIDTH;
}

/* One tile. The first CHAIN terms go on from the sums that there are, each later CHAIN from zero, to be added whole. */
INLINE void multiply(shape s, const operands *o)
{
    const int columns = s.blocks * s.gates;
    if (columns > (s.rows == 1 ? SUMS_ACROSS_OF_ONE_ROW : SUMS_ACROSS))
        return; /* a shape that is never asked for: no code is made for it */

    const real *panels[SUMS_ACROSS_OF_ONE_ROW], *in[MAX_ROWS];
    vec sums[MAX_SUMS];
    UNROLL
    for (int b = 0; b < s.blocks; b++)
        panels[b] = o->panels + (size_t)b * o->K * (size_t)s.gates * WIDTH;
    UNROLL
    for (int r = 0; r < s.rows; r++)
        in[r] = o->in[r];
    UNROLL
    for (int i = 0; i < s.rows * columns; i++)
        sums[i] = v_load(sum_at(o, s, i / columns, i % columns));
    for (size_t k = 0; k < o->K; k += CHAIN) {
        multiply_chain(sums, s, panels, in, k, o->K - k < CHAIN ? o->K : k + CHAIN);
        UNROLL
        for (int i = 0; i < s.rows * columns; i++) {
            real *total = sum_at(o, s, i / columns, i % columns);
            v_store(total, k ? v_add(v_load(total), sums[i]) : sums[i]);
            sums[i] = v_set1(0);
        }
    }
}

INLINE void multiply_rows(shape s, const operands *o, size_t rows)
{
    switch (rows) {
    case 1: s.rows = 1, multiply(s, o); break;
    case 2: s.rows = 2, multiply(s, o); break;
    case 3: s.rows = 3, multiply(s, o); break;
#if MAX_ROWS == 6
    case 4: s.rows = 4, multiply(s, o); break;
    case 5: s.rows = 5, multiply(s, o); break;
    case 6: s.rows = 6, multiply(s, o); break;
#endif
    default: assert(!"a tile has from 1 to MAX_ROWS rows");
    }
}

INLINE void multiply_blocks(shape s, const operands *o, size_t rows, size_t blocks)
{
    switch (blocks) {
    case 1: s.blocks = 1, multiply_rows(s, o, rows); break;
    case 2: s.blocks = 2, multiply_rows(s, o, rows); break;
    case 4: s.blocks = 4, multiply_rows(s, o, rows); break;
    case 8: s.blocks = 8, multiply_rows(s, o, rows); break;
    default: assert(!"blocks side by side are a power of two");
    }
}

/* Every kind of product, by its gates and where the last of them is summed. */
static OUTLINE void multiply_1(const operands *o, size_t rows, size_t blocks)
{
    multiply_blocks((shape){.gates = 1, .sums = 1, .last = 0}, o, rows, blocks);
}

static OUTLINE void multiply_2(const operands *o, size_t rows, size_t blocks)
{
    multiply_blocks((shape){.gates = 2, .sums = 2, .last = 1}, o, rows, blocks);
}

static OUTLINE void multiply_4(const operands *o, size_t rows, size_t blocks)
{
    multiply_blocks((shape){.gates = 4, .sums = 4, .last = 3}, o, rows, blocks);
}

static OUTLINE void multiply_3_of_4(const operands *o, size_t rows, size_t blocks)
{
    multiply_blocks((shape){.gates = 3, .sums = 4, .last = 2}, o, rows, blocks);
}

static OUTLINE void multiply_3_around(const operands *o, size_t rows, size_t blocks)
{
    multiply_blocks((shape){.gates = 3, .sums = 4, .last = 3}, o, rows, blocks);
}

/* What a stage multiplies x and h with. */
typedef struct products {
    void (*x)(const operands *o, size_t rows, size_t blocks);
    void (*h)(const operands *o, size_t rows, size_t blocks);
} products;

static products products_of(frnn_stage_kind kind)
{
    switch (kind) {
    case FRNN_STAGE_LSTM: return (products){multiply_4, multiply_4};
    case FRNN_STAGE_GRU: return (products){multiply_3_of_4, multiply_3_around};
    case FRNN_STAGE_GRU_RESET: return (products){multiply_2, multiply_2};
    case FRNN_STAGE_RNN:
    case FRNN_STAGE_GRU_NEW:
    case FRNN_STAGE_PROJECT: break;
    }
    return (products){multiply_1, multiply_1};
}
