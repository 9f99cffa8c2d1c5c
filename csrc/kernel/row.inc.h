/* One row, and the cells that people use: the sums stay in registers from the first product to the cell's equations.
 *
 * A step of one row is short, and the next cannot begin before it ends, so what counts is the longest chain of
 * instructions that wait for each other. Nothing else may stand in it: no sums that go through memory, no branches that
 * depend on the stage, no remainders. */

enum { MOST_ACROSS = 16 };

/* The chains of one product, columns being in registers. */
INLINE void multiply_row(vec *sums, shape s, const operands *o, size_t block)
{
    const int columns = s.blocks * s.gates;
    const real *panels[MOST_ACROSS], *in = o->in[0];
    vec chain[MOST_ACROSS];
    UNROLL
    for (int b = 0; b < s.blocks; b++)
        panels[b] = (const real *)o->panels + (block + (size_t)b) * o->K * (size_t)s.gates * WIDTH;
    UNROLL
    for (int c = 0; c < columns; c++)
        chain[c] = sums[place_of(s, c) / WIDTH];
    multiply_chain(chain, s, panels, &in, (range){0, o->K < CHAIN ? o->K : CHAIN}, NULL);
    for (size_t k = CHAIN; k < o->K; k += CHAIN) {
        real total[MOST_ACROSS * WIDTH];
        UNROLL
        for (int c = 0; c < columns; c++) {
            v_store(total + c * WIDTH, chain[c]);
            chain[c] = v_set1(0);
        }
        multiply_chain(chain, s, panels, &in, (range){k, o->K - k < CHAIN ? o->K : k + CHAIN}, NULL);
        UNROLL
        for (int c = 0; c < columns; c++)
            chain[c] = v_add(v_load(total + c * WIDTH), chain[c]);
    }
    UNROLL
    for (int c = 0; c < columns; c++)
        sums[place_of(s, c) / WIDTH] = chain[c];
}

/* A kind's products and equations for some blocks side by side. */
INLINE void one_row(frnn_stage_kind kind, shape x, shape h, int blocks, const stage_step *k, size_t block)
{
    x.blocks = h.blocks = blocks;
    const int n = x.blocks * x.sums;
    const real *start = (k->kept ? k->kept : (const real *)k->stage->bias) + block * (size_t)x.sums * WIDTH;
    vec sums[MOST_ACROSS];
    UNROLL
    for (int i = 0; i < n; i++)
        sums[i] = v_load(start + i * WIDTH);
    if (!k->kept && k->stage->I)
        multiply_row(sums, x, &(operands){k->stage->W, k->x, k->stage->I, NULL, 0}, block);
    if (k->zero_h) {
        const real *zero = (const real *)k->stage->zero_h + block * (size_t)x.sums * WIDTH;
        UNROLL
        for (int i = 0; i < n; i++)
            sums[i] = v_add(sums[i], v_load(zero + i * WIDTH));
    } else {
        multiply_row(sums, h, &(operands){k->stage->U, k->h, k->stage->K, NULL, 0}, block);
    }
    UNROLL
    for (int b = 0; b < x.blocks; b++)
        finish_unit(kind, true, k, 0, block + (size_t)b, sums + b * x.sums);
}

/* Blocks side by side: enough chains to keep the multipliers busy, as far as registers go. */
#if REGISTERS == 32
enum { RNN_ACROSS = 8, LSTM_ACROSS = 3, GRU_ACROSS = 4 };
#else
enum { RNN_ACROSS = 8, LSTM_ACROSS = 2, GRU_ACROSS = 3 };
#endif

#define BLOCKS(kind, x, h, n)                                                                                          \
    case n: one_row(FRNN_STAGE_##kind, x, h, n, k, block); break;

static OUTLINE void row_of_rnn(const stage_step *k, size_t block, size_t blocks)
{
    const shape s = {.gates = 1, .sums = 1, .last = 0, .rows = 1};
    switch (blocks) {
        BLOCKS(RNN, s, s, 1)
        BLOCKS(RNN, s, s, 2)
        BLOCKS(RNN, s, s, 3)
        BLOCKS(RNN, s, s, 4)
        BLOCKS(RNN, s, s, 5)
        BLOCKS(RNN, s, s, 6)
        BLOCKS(RNN, s, s, 7)
        BLOCKS(RNN, s, s, 8)
    default: assert(0 && "from 1 to RNN_ACROSS");
    }
}

static OUTLINE void row_of_lstm(const stage_step *k, size_t block, size_t blocks)
{
    const shape s = {.gates = 4, .sums = 4, .last = 3, .rows = 1};
    switch (blocks) {
        BLOCKS(LSTM, s, s, 1)
        BLOCKS(LSTM, s, s, 2)
        BLOCKS(LSTM, s, s, 3)
    default: assert(0 && "from 1 to LSTM_ACROSS");
    }
}

static OUTLINE void row_of_gru(const stage_step *k, size_t block, size_t blocks)
{
    const shape x = {.gates = 3, .sums = 4, .last = 2, .rows = 1}, h = {.gates = 3, .sums = 4, .last = 3, .rows = 1};
    switch (blocks) {
        BLOCKS(GRU, x, h, 1)
        BLOCKS(GRU, x, h, 2)
        BLOCKS(GRU, x, h, 3)
        BLOCKS(GRU, x, h, 4)
    default: assert(0 && "from 1 to GRU_ACROSS");
    }
}

/* What runs one row of a kind of stage, and the most blocks that it takes side by side; nothing for other kinds. */
typedef struct row_kernel {
    void (*run)(const stage_step *k, size_t block, size_t blocks);
    size_t across;
} row_kernel;

static const row_kernel row_kernels[FRNN_STAGE_KINDS] = {
    [FRNN_STAGE_RNN] = {row_of_rnn, RNN_ACROSS},
    [FRNN_STAGE_LSTM] = {row_of_lstm, LSTM_ACROSS},
    [FRNN_STAGE_GRU] = {row_of_gru, GRU_ACROSS},
};
