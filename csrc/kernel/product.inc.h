/* The product: sums += matrix * input, a register tile at a time.
 *
 * A chain runs over k in order, and where it is broken depends on k alone, so the bits of a sum do not depend on its
 * tile. One chain of 1024 terms has two to three times the rounding error of chains of 128, whose parts cost one
 * addition in 128 to add up.
 *
 * Shapes are constants, which the compiler folds: `multiply` becomes one straight loop for each of them. Between
 * products the sums are in memory, which costs a few stores and loads for a whole pass over k. */

enum { CHAIN = FRNN_CHAIN, LINE = 64 / sizeof(real) /* numbers in a line of the cache */ };

/* What is multiplied: a matrix, and rows of K numbers. */
typedef struct operands {
    const frnn_matrix *matrix;
    const void *const *in;
    const frnn_matrix *next; /* what is multiplied afterwards, from a block on: to be brought near */
    size_t next_block;
    const char *integers; /* what the rows have become, where the weights are bytes */
    real *widened;        /* [block][k < CHAIN][gate][lane]: a chain's halves, made wide for all rows; NULL: not */
} operands;

typedef struct shape {
    int gates;   /* of a unit, in the matrix */
    int sums;    /* of a unit */
    bool halved; /* half of the gates are multiplied, from `first` on */
    int first;
    bool for_h; /* a product with h: gates with two sums add to the second one, at the end */
    int rows, blocks;
    bool halves;   /* of weights, which are made wide here, each time that they are multiplied */
    bool integers; /* the weights are bytes */
} shape;

/* Gates of a unit that are multiplied. */
INLINE int part_of(shape s) { return s.halved ? s.gates / 2 : s.gates; }

/* Whether weights are halves: in kernels of doubles they never are. */
INLINE bool has_halves(const frnn_matrix *matrix) { return FRNN_BITS == 32 && matrix->format == FRNN_FORMAT_FLOAT16; }

/* The weights of a column for one k, as they are multiplied: panel[column / part][k][first + column % part]. */
INLINE vec load_weights(shape s, const void *const *panels, int c, size_t k)
{
    const void *panel = panels[c / part_of(s)];
    const size_t column = frnn_panel_column(k, (size_t)(s.first + c % part_of(s)), (size_t)s.gates);
#if FRNN_BITS == 32
    if (s.halves)
        return v_load_halves((const uint16_t *)panel + column * WIDTH);
#endif
    return v_load((const real *)panel + column * WIDTH);
}

/* The weights of a block from k on. */
INLINE const void *panel_from(shape s, const operands *o, size_t block, size_t k)
{
    const size_t bytes = s.halves ? sizeof(uint16_t) : sizeof(real);
    return (const char *)frnn_panel(o->matrix, block) + frnn_panel_column(k, 0, (size_t)s.gates) * WIDTH * bytes;
}

/* sums[row][column] += weights[column][k] * in[row][k], for one k. */
INLINE void multiply_term(vec *sums, shape s, const void *const *panels, const real *const *in, size_t k)
{
    const int columns = s.blocks * part_of(s);
    if (s.rows > ROWS_AT_HAND) {
        vec weights[COLUMNS];
        UNROLL
        for (int c = 0; c < columns; c++) {
            weights[c] = load_weights(s, panels, c, k);
            PIN(weights[c]);
        }
        UNROLL
        for (int r = 0; r < s.rows; r++) {
            IN_ORDER;
            const vec a = v_set1(in[r][k]);
            UNROLL
            for (int c = 0; c < columns; c++)
                sums[r * columns + c] = v_fma(weights[c], a, sums[r * columns + c]);
        }
        return;
    }
    vec a[MAX_ROWS];
    UNROLL
    for (int r = 0; r < s.rows; r++)
        a[r] = v_set1(in[r][k]);
    UNROLL
    for (int c = 0; c < columns; c++) {
        vec weights = load_weights(s, panels, c, k);
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
INLINE void multiply_chain(vec *sums, shape s, const void *const *panels, const real *const *in, range ks,
                           const real *ahead)
{
    /* The loop's own cost shows where a tile is small, or has so many terms of K that its end is not foreseen. */
    const size_t unrolled = s.rows == 1 || (s.rows == TALLEST && TALLEST > MAX_ROWS) ? 4 : 1;
    size_t k = ks.from;
    if (s.rows > FEW_ROWS && ahead)
        for (; k + unrolled <= ks.to; k += unrolled) {
            UNROLL
            for (size_t i = 0; i < unrolled; i++, ahead += LINE) {
                PREFETCH(ahead);
                multiply_term(sums, s, panels, in, k + i);
            }
        }
    for (; k + unrolled <= ks.to; k += unrolled) {
        UNROLL
        for (size_t i = 0; i < unrolled; i++)
            multiply_term(sums, s, panels, in, k + i);
    }
    for (; k < ks.to; k++)
        multiply_term(sums, s, panels, in, k);
}

/* Where the sum of a column is among a row's sums. */
INLINE size_t place_of(shape s, int column)
{
    const int gate = s.first + column % part_of(s), two = s.for_h ? s.sums - s.gates : 0;
    const int sum = gate < s.gates - two ? gate : gate + two;
    return (size_t)(column / part_of(s) * s.sums + sum);
}

/* Where the sum of row i / columns and column i % columns is in memory: [row][place][lane], rows a stride apart. */
INLINE size_t sum_at(shape s, int i, size_t stride)
{
    const int columns = s.blocks * part_of(s);
    return (size_t)(i / columns) * stride + place_of(s, i % columns) * WIDTH;
}

/* The chain that begins at k. */
INLINE range chain_at(size_t k, size_t K) { return (range){k, K - k < CHAIN ? K : k + CHAIN}; }

INLINE void add_totals(vec *sums, shape s, const real *totals, size_t stride)
{
    UNROLL
    for (int i = 0; i < s.rows * s.blocks * part_of(s); i++)
        sums[i] = v_add(v_load(totals + sum_at(s, i, stride)), sums[i]);
}

/* Chains over K terms. The first chain of a product goes on from `sums`, which are in registers and stay there; each
 * later one starts from zero and is added whole to `totals`, where the sums are meanwhile. `later`: these chains begin
 * with a later one, and `sums` are zero. */
INLINE void multiply_chains(vec *sums, shape s, const void *const *panels, const real *const *in, size_t K, bool later,
                            const real *ahead, real *totals, size_t stride)
{
    multiply_chain(sums, s, panels, in, chain_at(0, K), ahead);
    if (later)
        add_totals(sums, s, totals, stride);
    for (size_t k = CHAIN; k < K; k += CHAIN) {
        UNROLL
        for (int i = 0; i < s.rows * s.blocks * part_of(s); i++) {
            v_store(totals + sum_at(s, i, stride), sums[i]);
            sums[i] = v_set1(0);
        }
        multiply_chain(sums, s, panels, in, chain_at(k, K), ahead);
        add_totals(sums, s, totals, stride);
    }
}

/* Of gates with two sums, this product adds to one: the other one is copied from `start` to `sums`. */
INLINE void copy_other_sums(shape s, const tile *t)
{
    if (s.gates == s.sums || t->start == t->sums)
        return;
    const int two = s.sums - s.gates, first = s.for_h ? s.gates - two : s.gates;
    for (int r = 0; r < s.rows; r++)
        for (int b = 0; b < s.blocks; b++)
            for (int i = 0; i < two; i++) {
                const size_t place = (size_t)(b * s.sums + first + i) * WIDTH;
                v_store(t->sums + (size_t)r * t->stride + place,
                        v_load(t->start + (size_t)r * t->start_stride + place));
            }
}

/* Some gates of a tile, for the chains that begin in a range. */
INLINE void multiply_gates(shape s, const operands *o, const tile *t, range ks)
{
    const int columns = s.blocks * part_of(s);
    if ((size_t)columns > columns_across((size_t)s.rows))
        return; /* blocks_across never answers so many: no code is made for this shape */

    const void *panels[COLUMNS_OF_FEW];
    const real *in[TALLEST];
    vec sums[MAX_COLUMNS];
    UNROLL
    for (int b = 0; b < s.blocks; b++)
        panels[b] = o->widened ? o->widened + (size_t)(b * s.gates) * CHAIN * WIDTH
                               : panel_from(s, o, t->block + (size_t)b, ks.from);
    UNROLL
    for (int r = 0; r < s.rows; r++)
        in[r] = (const real *)o->in[t->row + (size_t)r] + ks.from;
    UNROLL
    for (int i = 0; i < s.rows * columns; i++)
        sums[i] = ks.from ? v_set1(0) : v_load(t->start + sum_at(s, i, t->start_stride));
    const real *ahead = t->ahead ? t->ahead + (size_t)(s.first / part_of(s) * CHAIN * LINE) : NULL;
    multiply_chains(sums, s, panels, in, ks.to - ks.from, ks.from > 0, ahead, t->sums, t->stride);
    UNROLL
    for (int i = 0; i < s.rows * columns; i++)
        v_store(t->sums + sum_at(s, i, t->stride), sums[i]);
}

/* One tile: so many gates at a time as its rows leave registers for. */
INLINE void multiply(shape s, const operands *o, const tile *t, range ks)
{
    if ((size_t)s.rows > most_rows((size_t)s.gates, (size_t)s.blocks))
        return; /* no tile is so tall */
    if (ks.from == 0)
        copy_other_sums(s, t);
    s.halved = passes_of((size_t)s.gates, (size_t)s.rows) == 2;
    multiply_gates(s, o, t, ks);
    s.first = s.gates / 2;
    if (s.halved)
        multiply_gates(s, o, t, ks);
}

INLINE void multiply_rows(shape s, const operands *o, const tile *t, range ks)
{
    switch (t->rows) {
    case 1:
        s.rows = 1;
        if (has_halves(o->matrix))
            s.halves = true, multiply(s, o, t, ks);
        else
            multiply(s, o, t, ks);
        break;
    case 2: s.rows = 2, multiply(s, o, t, ks); break;
    case 3: s.rows = 3, multiply(s, o, t, ks); break;
    case 4: s.rows = 4, multiply(s, o, t, ks); break;
    case 5: s.rows = 5, multiply(s, o, t, ks); break;
    case 6: s.rows = 6, multiply(s, o, t, ks); break;
    default: assert(0 && "a tile has from 1 to most_rows rows");
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

typedef void product(const operands *o, const tile *t, range ks);

/* Every pair of gates and sums that a stage has: stages of the same pair share its code. */
#define SHAPES(SHAPE) SHAPE(1, 1) SHAPE(2, 2) SHAPE(3, 4) SHAPE(4, 4)

#define MULTIPLY(G, S)                                                                                                 \
    static OUTLINE void multiply_x_##G##_##S(const operands *o, const tile *t, range ks)                               \
    {                                                                                                                  \
        multiply_blocks((shape){.gates = G, .sums = S, .for_h = false}, o, t, ks);                                     \
    }                                                                                                                  \
    static OUTLINE void multiply_h_##G##_##S(const operands *o, const tile *t, range ks)                               \
    {                                                                                                                  \
        multiply_blocks((shape){.gates = G, .sums = S, .for_h = true}, o, t, ks);                                      \
    }
SHAPES(MULTIPLY)

/* The products of W x and of U h of each kind of stage. If the compiler misses a name here, SHAPES lacks its pair. */
static const struct products {
    product *x, *h;
} products[] = {
#define FRNN_STAGE(KIND, first, G, S, handed)                                                                          \
    [FRNN_STAGE_##KIND] = {multiply_x_##G##_##S, (G) == (S) ? multiply_x_##G##_##S : multiply_h_##G##_##S},
#include "../cells.def"
};
