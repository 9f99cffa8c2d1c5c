/* One row, and the standard cells: the sums stay in registers from the first product to the cell's equations.
 *
 * A step of one row is short, and the next cannot begin before it ends, so what counts is the longest chain of
 * instructions that wait for each other. Nothing else may stand in it: no sums that go through memory, no branches that
 * depend on the stage, no remainders. */

enum { MOST_ACROSS = 16 }; /* sums of all blocks side by side */

#define FRNN_STAGE(KIND, first, G, S, handed)                                                                          \
    _Static_assert(KIND##_ROW_BLOCKS * (S) <= MOST_ACROSS && KIND##_ROW_BLOCKS <= 8,                                   \
                   #KIND ": one row takes at most 8 blocks side by side, and MOST_ACROSS sums of them");
#include "../cells.def"

/* The chains of one product: sums come in registers and stay there. */
INLINE void multiply_row(vec *sums, shape s, const frnn_matrix *matrix, const void *in, size_t block)
{
    const int columns = s.blocks * s.gates;
    const void *panels[MOST_ACROSS];
    const real *row = in;
    vec chain[MOST_ACROSS];
    real totals[MOST_ACROSS * WIDTH];
    UNROLL
    for (int b = 0; b < s.blocks; b++)
        panels[b] = frnn_panel(matrix, block + (size_t)b);
    UNROLL
    for (int c = 0; c < columns; c++)
        chain[c] = sums[place_of(s, c)];
    multiply_chains(chain, s, panels, &row, matrix->K, false, NULL, totals, 0);
    UNROLL
    for (int c = 0; c < columns; c++)
        sums[place_of(s, c)] = chain[c];
}

/* Adds a product to a row's sums. */
INLINE void add_row(vec *sums, shape s, const frnn_matrix *matrix, const void *in, const char *integers, size_t block)
{
#if FRNN_BITS == 32
    if (s.integers) {
        multiply_row_of_integers(sums, s, matrix, integers, block);
        return;
    }
#endif
    (void)integers;
    multiply_row(sums, s, matrix, in, block);
}

/* A stage's products and equations for some blocks side by side. */
INLINE void one_row(frnn_stage_kind kind, shape s, const stage_step *k, size_t block)
{
    const frnn_stage *stage = k->stage;
    const int n = s.blocks * s.sums;
    const real *start = (k->kept ? k->kept : (const real *)stage->bias) + block * (size_t)s.sums * WIDTH;
    vec sums[MOST_ACROSS];
    UNROLL
    for (int i = 0; i < n; i++)
        sums[i] = v_load(start + i * WIDTH);
    if (!k->kept && stage->W.K)
        add_row(sums, s, &stage->W, k->x[0], k->x_integers, block);
    if (k->zero_h) {
        const real *zero = (const real *)stage->zero_h + block * (size_t)s.sums * WIDTH;
        UNROLL
        for (int i = 0; i < n; i++)
            sums[i] = v_add(sums[i], v_load(zero + i * WIDTH));
    } else {
        s.for_h = true;
        add_row(sums, s, &stage->U, k->h[0], k->h_integers, block);
    }
    UNROLL
    for (int b = 0; b < s.blocks; b++) {
        if (k->tape)
            keep_sums(k, 0, block + (size_t)b, sums + b * s.sums, (size_t)s.sums);
        store_units(k->y[0], block + (size_t)b, stage->units,
                    finish_unit(kind, true, k, 0, block + (size_t)b, sums + b * s.sums));
        if (k->tape)
            keep_states(k, 0, block + (size_t)b, (size_t)s.sums);
    }
}

#define ROW_CASE(KIND, G, S, HALVES, n)                                                                                \
    case n:                                                                                                            \
        if (n <= KIND##_ROW_BLOCKS)                                                                                    \
            one_row(FRNN_STAGE_##KIND, (shape){.gates = G, .sums = S, .rows = 1, .blocks = n, .halves = HALVES}, k,    \
                    block);                                                                                            \
        break;

/* Some blocks of one row. */
#define ROW(NAME, KIND, G, S, HALVES)                                                                                  \
    static OUTLINE void NAME(const stage_step *k, size_t block, size_t blocks)                                         \
    {                                                                                                                  \
        switch (blocks) {                                                                                              \
            ROW_CASE(KIND, G, S, HALVES, 1)                                                                            \
            ROW_CASE(KIND, G, S, HALVES, 2)                                                                            \
            ROW_CASE(KIND, G, S, HALVES, 3)                                                                            \
            ROW_CASE(KIND, G, S, HALVES, 4)                                                                            \
            ROW_CASE(KIND, G, S, HALVES, 5)                                                                            \
            ROW_CASE(KIND, G, S, HALVES, 6)                                                                            \
            ROW_CASE(KIND, G, S, HALVES, 7)                                                                            \
            ROW_CASE(KIND, G, S, HALVES, 8)                                                                            \
        default: assert(0 && "from 1 to 8 blocks");                                                                    \
        }                                                                                                              \
        (void)k, (void)block;                                                                                          \
    }

/* Some blocks of one row of weights that are bytes: as many as one tile of integers has columns for. */
#define ROW_OF_INTEGERS_CASE(KIND, G, S, n)                                                                            \
    case n:                                                                                                            \
        if (n <= KIND##_ROW_BLOCKS && n * (G) <= COLUMNS_OF_FEW)                                                       \
            one_row(FRNN_STAGE_##KIND, (shape){.gates = G, .sums = S, .rows = 1, .blocks = n, .integers = true}, k,    \
                    block);                                                                                            \
        break;

#define ROW_OF_INTEGERS(KIND, G, S)                                                                                    \
    static OUTLINE void row_of_integers_of_##KIND(const stage_step *k, size_t block, size_t blocks)                    \
    {                                                                                                                  \
        switch (blocks) {                                                                                              \
            ROW_OF_INTEGERS_CASE(KIND, G, S, 1)                                                                        \
            ROW_OF_INTEGERS_CASE(KIND, G, S, 2)                                                                        \
            ROW_OF_INTEGERS_CASE(KIND, G, S, 4)                                                                        \
            ROW_OF_INTEGERS_CASE(KIND, G, S, 8)                                                                        \
        default: assert(0 && "blocks side by side are a power of two");                                                \
        }                                                                                                              \
        (void)k, (void)block;                                                                                          \
    }

/* Of each kind that has a text for it. */
#if FRNN_BITS == 32
#define FRNN_STAGE(KIND, first, G, S, handed)                                                                          \
    ROW(row_of_##KIND, KIND, G, S, false) ROW(row_of_halves_of_##KIND, KIND, G, S, true) ROW_OF_INTEGERS(KIND, G, S)
#else
#define FRNN_STAGE(KIND, first, G, S, handed) ROW(row_of_##KIND, KIND, G, S, false)
#endif
#include "../cells.def"

/* What runs one row of a kind of stage, with weights that are numbers of the sums, halves or bytes, and the most blocks
 * that it takes side by side; 0: this kind has none. */
typedef struct row_kernel {
    void (*run)(const stage_step *k, size_t block, size_t blocks);
    void (*run_halves)(const stage_step *k, size_t block, size_t blocks);
    void (*run_integers)(const stage_step *k, size_t block, size_t blocks);
    size_t across;
} row_kernel;

static const row_kernel row_kernels[FRNN_STAGE_KINDS] = {
#if FRNN_BITS == 32
#define FRNN_STAGE(KIND, ...)                                                                                          \
    [FRNN_STAGE_##KIND] = {row_of_##KIND, row_of_halves_of_##KIND, row_of_integers_of_##KIND, KIND##_ROW_BLOCKS},
#else
#define FRNN_STAGE(KIND, ...) [FRNN_STAGE_##KIND] = {row_of_##KIND, NULL, NULL, KIND##_ROW_BLOCKS},
#endif
#include "../cells.def"
};
