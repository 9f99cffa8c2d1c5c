/* The product: sums += panels * input, a register tile at a time.
 *
 * A chain runs over k in order, and where it is broken depends on k alone, so the bits of a sum do not depend on its
 * tile. One chain of 1024 terms has two to three times the rounding error of chains of 128, whose parts cost one
 * addition in 128 to add up.
 *
 * Shapes are constants, which the compiler folds: `multiply` becomes one straight loop for each of them. Between
 * products the sums are in memory, which costs a few stores and loads for a whole pass over k. */

enum { CHAIN = 128 }; /* part of what the bits are */

/* What is multiplied: the panels of a stage, and rows of K numbers. */
typedef struct operands {
    const void *panels;
    const void *const *in;
    size_t K;
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

typedef struct range {
    size_t from, to;
} range;

/* For all k of a range, in order. */
INLINE void multiply_chain(vec *sums, shape s, const real *const *panels, const real *const *in, range ks)
{
    size_t k = ks.from;
    if (s.rows == 1) /* the loop's own cost shows where a tile is this small */
        for (; k + 4 <= ks.to; k += 4) {
            multiply_term(sums, s, panels, in, k);
            multiply_term(sums, s, panels, in, k + 1);
            multiply_term(sums, s, panels, in, k + 2);
            multiply_term(sums, s, panels, in, k + 3);
        }
    for (; k < ks.to; k++)
        multiply_term(sums, s, panels, in, k);
}

INLINE real *sum_at(const tile *t, shape s, int row, int column)
{
    const int gate = column % s.gates, sum = gate == s.gates - 1 ? s.last : gate;
    return t->sums + (size_t)row * t->stride + (size_t)(column / s.gates * s.sums + sum) * WIDTH;
}

/* One tile. The first CHAIN terms go on from the sums that there are, each later CHAIN from zero, to be added whole. */
INLINE void multiply(shape s, const operands *o, const tile *t)
{
    const int columns = s.blocks * s.gates;
    if (columns > (s.rows == 1 ? SUMS_ACROSS_OF_ONE_ROW : SUMS_ACROSS))
        return; /* a shape that is never asked for: no code is made for it */

    const real *panels[SUMS_ACROSS_OF_ONE_ROW], *in[MAX_ROWS];
    vec sums[MAX_SUMS];
    UNROLL
    for (int b = 0; b < s.blocks; b++)
        panels[b] = (const real *)o->panels + (t->block + (size_t)b) * o->K * (size_t)s.gates * WIDTH;
    UNROLL
    for (int r = 0; r < s.rows; r++)
        in[r] = o->in[t->row + (size_t)r];
    UNROLL
    for (int i = 0; i < s.rows * columns; i++)
        sums[i] = v_load(sum_at(t, s, i / columns, i % columns));
    for (size_t k = 0; k < o->K; k += CHAIN) {
        multiply_chain(sums, s, panels, in, (range){k, o->K - k < CHAIN ? o->K : k + CHAIN});
        UNROLL
        for (int i = 0; i < s.rows * columns; i++) {
            real *total = sum_at(t, s, i / columns, i % columns);
            v_store(total, k ? v_add(v_load(total), sums[i]) : sums[i]);
            sums[i] = v_set1(0);
        }
    }
}

INLINE void multiply_rows(shape s, const operands *o, const tile *t)
{
    switch (t->rows) {
    case 1: s.rows = 1, multiply(s, o, t); break;
    case 2: s.rows = 2, multiply(s, o, t); break;
    case 3: s.rows = 3, multiply(s, o, t); break;
#if MAX_ROWS == 6
    case 4: s.rows = 4, multiply(s, o, t); break;
    case 5: s.rows = 5, multiply(s, o, t); break;
    case 6: s.rows = 6, multiply(s, o, t); break;
#endif
    default: assert(!"a tile has from 1 to MAX_ROWS rows");
    }
}

INLINE void multiply_blocks(shape s, const operands *o, const tile *t)
{
    switch (t->blocks) {
    case 1: s.blocks = 1, multiply_rows(s, o, t); break;
    case 2: s.blocks = 2, multiply_rows(s, o, t); break;
    case 4: s.blocks = 4, multiply_rows(s, o, t); break;
    case 8: s.blocks = 8, multiply_rows(s, o, t); break;
    default: assert(!"blocks side by side are a power of two");
    }
}

/* Every kind of product, by its gates and where the last of them is summed. */
static OUTLINE void multiply_1(const operands *o, const tile *t)
{
    multiply_blocks((shape){.gates = 1, .sums = 1, .last = 0}, o, t);
}

static OUTLINE void multiply_2(const operands *o, const tile *t)
{
    multiply_blocks((shape){.gates = 2, .sums = 2, .last = 1}, o, t);
}

static OUTLINE void multiply_4(const operands *o, const tile *t)
{
    multiply_blocks((shape){.gates = 4, .sums = 4, .last = 3}, o, t);
}

static OUTLINE void multiply_3_of_4(const operands *o, const tile *t)
{
    multiply_blocks((shape){.gates = 3, .sums = 4, .last = 2}, o, t);
}

static OUTLINE void multiply_3_around(const operands *o, const tile *t)
{
    multiply_blocks((shape){.gates = 3, .sums = 4, .last = 3}, o, t);
}

typedef void product(const operands *o, const tile *t);

/* What each kind of stage multiplies x and h with. */
static const struct products {
    product *x, *h;
} products[] = {
    [FRNN_STAGE_RNN] = {multiply_1, multiply_1},
    [FRNN_STAGE_LSTM] = {multiply_4, multiply_4},
    [FRNN_STAGE_GRU] = {multiply_3_of_4, multiply_3_around},
    [FRNN_STAGE_GRU_RESET] = {multiply_2, multiply_2},
    [FRNN_STAGE_GRU_NEW] = {multiply_1, multiply_1},
    [FRNN_STAGE_PROJECT] = {multiply_1, multiply_1},
};
_Static_assert(sizeof products / sizeof *products == FRNN_STAGE_KINDS, "a product for every kind of stage");
