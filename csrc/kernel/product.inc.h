/* The product: sums += panels * input, a register tile at a time.
 *
 * A chain runs over k in order, and where it is broken depends on k alone, so the bits of a sum do not depend on its
 * tile. One chain of 1024 terms has two to three times the rounding error of chains of 128, whose parts cost one
 * addition in 128 to add up.
 *
 * Shapes are constants, which the compiler folds: `multiply` becomes one straight loop for each of them. Between
 * products the sums are in memory, which costs a few stores and loads for a whole pass over k. */

enum { CHAIN = FRNN_CHAIN };

/* What is multiplied: the panels of a stage, and rows of K numbers. */
typedef struct operands {
    const void *panels;
    const void *const *in;
    size_t K;
    const real *after; /* panels that are multiplied after these, and how long they are */
    size_t after_K;
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
    vec a[MAX_ROWS];
    UNROLL
    for (int r = 0; r < s.rows; r++)
        a[r] = v_set1(in[r][k]);
    UNROLL
    for (int c = 0; c < columns; c++) {
        vec weights = load_weights(panels[c / s.gates] + (k * (size_t)s.gates + (size_t)(c % s.gates)) * WIDTH);
        if (s.rows > 1)
            PIN(weights);
        UNROLL
        for (int r = 0; r < s.rows; r++)
            sums[r * columns + c] = v_fma(weights, a[r], sums[r * columns + c]);
    }
}

typedef struct range {
    size_t from, to;
} range;

/* For all k of a range, in order. */
INLINE void multiply_chain(vec *sums, shape s, const real *const *panels, const real *const *in, range ks,
                           const real *ahead)
{
    size_t k = ks.from;
    if (s.rows > FEW_ROWS && ahead)
        for (; k < ks.to; k++, ahead += (size_t)s.gates * WIDTH) {
            PREFETCH(ahead);
            multiply_term(sums, s, panels, in, k);
        }
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

/* Where the sum of a column of the panels is among a row's sums. */
INLINE size_t place_of(shape s, int column)
{
    const int gate = column % s.gates, sum = gate == s.gates - 1 ? s.last : gate;
    return (size_t)(column / s.gates * s.sums + sum) * WIDTH;
}

/* Sums that this product has no part in go from where they start to where they are looked for. */
INLINE void copy_other_sums(shape s, const tile *t)
{
    if (s.gates == s.sums || t->start == t->sums)
        return;
    const int other = s.last == s.gates ? s.gates - 1 : s.gates;
    for (int r = 0; r < s.rows; r++)
        for (int b = 0; b < s.blocks; b++) {
            const size_t place = (size_t)(b * s.sums + other) * WIDTH;
            v_store(t->sums + (size_t)r * t->stride + place, v_load(t->start + (size_t)r * t->start_stride + place));
        }
}

/* One tile, for the chains that begin in a range. The first goes on from where the sums start, each later one from
 * zero, to be added whole. */
INLINE void multiply(shape s, const operands *o, const tile *t, range ks)
{
    const int columns = s.blocks * s.gates;
    if (columns > sums_across((size_t)s.rows))
        return; /* a shape that is never asked for: no code is made for it */

    const real *panels[SUMS_ACROSS_OF_FEW], *in[MAX_ROWS];
    vec sums[MAX_SUMS];
    UNROLL
    for (int b = 0; b < s.blocks; b++)
        panels[b] = (const real *)o->panels + (t->block + (size_t)b) * o->K * (size_t)s.gates * WIDTH;
    UNROLL
    for (int r = 0; r < s.rows; r++)
        in[r] = o->in[t->row + (size_t)r];
    size_t k = ks.from;
    if (k == 0) {
        copy_other_sums(s, t);
        UNROLL
        for (int i = 0; i < s.rows * columns; i++)
            sums[i] = v_load(t->start + (size_t)(i / columns) * t->start_stride + place_of(s, i % columns));
        multiply_chain(sums, s, panels, in, (range){0, o->K < CHAIN ? o->K : CHAIN}, t->ahead);
        UNROLL
        for (int i = 0; i < s.rows * columns; i++)
            v_store(t->sums + (size_t)(i / columns) * t->stride + place_of(s, i % columns), sums[i]);
        k = CHAIN;
    }
    for (; k < ks.to; k += CHAIN) {
        UNROLL
        for (int i = 0; i < s.rows * columns; i++)
            sums[i] = v_set1(0);
        multiply_chain(sums, s, panels, in, (range){k, o->K - k < CHAIN ? o->K : k + CHAIN}, t->ahead);
        UNROLL
        for (int i = 0; i < s.rows * columns; i++) {
            real *total = t->sums + (size_t)(i / columns) * t->stride + place_of(s, i % columns);
            v_store(total, v_add(v_load(total), sums[i]));
        }
    }
}

INLINE void multiply_rows(shape s, const operands *o, const tile *t, range ks)
{
    switch (t->rows) {
    case 1: s.rows = 1, multiply(s, o, t, ks); break;
    case 2: s.rows = 2, multiply(s, o, t, ks); break;
    case 3: s.rows = 3, multiply(s, o, t, ks); break;
#if REGISTERS == 32
    case 4: s.rows = 4, multiply(s, o, t, ks); break;
    case 5: s.rows = 5, multiply(s, o, t, ks); break;
    case 6: s.rows = 6, multiply(s, o, t, ks); break;
#endif
    default: assert(0 && "a tile has from 1 to MAX_ROWS rows");
    }
}

INLINE void multiply_blocks(shape s, const operands *o, const tile *t, range ks)
{
    switch (t->blocks) {
    case 1: s.blocks = 1, multiply_rows(s, o, t, ks); break;
    case 2: s.blocks = 2, multiply_rows(s, o, t, ks); break;
    case 4: s.blocks = 4, multiply_rows(s, o, t, ks); break;
    case 8: s.blocks = 8, multiply_rows(s, o, t, ks); break;
    default: assert(0 && "blocks side by side are a power of two");
    }
}

/* Every kind of product, by its gates and where the last of them is summed. */
static OUTLINE void multiply_1(const operands *o, const tile *t, range ks)
{
    multiply_blocks((shape){.gates = 1, .sums = 1, .last = 0}, o, t, ks);
}

static OUTLINE void multiply_2(const operands *o, const tile *t, range ks)
{
    multiply_blocks((shape){.gates = 2, .sums = 2, .last = 1}, o, t, ks);
}

static OUTLINE void multiply_4(const operands *o, const tile *t, range ks)
{
    multiply_blocks((shape){.gates = 4, .sums = 4, .last = 3}, o, t, ks);
}

static OUTLINE void multiply_3_of_4(const operands *o, const tile *t, range ks)
{
    multiply_blocks((shape){.gates = 3, .sums = 4, .last = 2}, o, t, ks);
}

static OUTLINE void multiply_3_around(const operands *o, const tile *t, range ks)
{
    multiply_blocks((shape){.gates = 3, .sums = 4, .last = 3}, o, t, ks);
}

typedef void product(const operands *o, const tile *t, range ks);

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
