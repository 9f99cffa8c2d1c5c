/* The outer product of weights' gradients: to[j][k] += the sum over rows r of a[r][j] * b[r][k].
 *
 * The sum over rows is broken into chains of CHAIN rows, each of which starts from zero and is added whole to what is
 * there. Rows of a and b are far apart in memory, so they are copied first: b to panels [r][some vectors of columns], of
 * which a chain stays in the nearest cache while a block of a's columns passes; a to strips [r][OUTER_ROWS columns]. */
#if REGISTERS == 32
enum { OUTER_ROWS = 6 };
#else
enum { OUTER_ROWS = 3 };
#endif
enum {
    OUTER_BLOCKS = 4, /* vectors of b's columns in a panel */
    SUM_BLOCKS = 8,   /* vectors of sums side by side */
    ROWS_COPIED = 32
};
_Static_assert(FRNN_OUTER_COLUMNS % OUTER_ROWS == 0, "a block of a's columns is whole strips");

INLINE vec load_columns(const real *p, size_t left) { return left >= WIDTH ? v_load(p) : v_load_n(p, left); }

/* Copies of columns of a, of which a vector may be stored where fewer numbers belong: what comes after overwrites the
 * rest, or finds it behind the strip. */
INLINE size_t strip_numbers(const frnn_outer *o) { return OUTER_ROWS * o->n + WIDTH; }

INLINE real *strip_at(const frnn_outer *o, size_t column)
{
    return (real *)o->scratch + column / OUTER_ROWS * strip_numbers(o);
}

/* Columns of a from j on. Some rows at a time: a column alone would touch as many pages as there are rows. */
static void fill_strips(const frnn_outer *o, size_t j, size_t columns)
{
    for (size_t begin = 0; begin < o->n; begin += ROWS_COPIED)
        for (size_t at = 0; at < columns; at += OUTER_ROWS) {
            const size_t end = o->n - begin < ROWS_COPIED ? o->n : begin + ROWS_COPIED;
            real *to = strip_at(o, at) + begin * OUTER_ROWS;
            for (size_t r = begin; r < end; r++, to += OUTER_ROWS) {
                const real *a = (const real *)o->a[r] + o->a_from + j + at;
                UNROLL
                for (size_t i = 0; i < OUTER_ROWS; i += WIDTH)
                    if (at + i < columns)
                        v_store(to + i, load_columns(a + i, o->a_columns - j - at - i));
            }
        }
}

/* Copies of some columns of b: [row][block][lane]. */
typedef struct outer_panel {
    size_t k, blocks, last; /* the first column; vectors a row; lanes of the last one */
    real *numbers;
} outer_panel;

static outer_panel panel_at(const frnn_outer *o, size_t k)
{
    const size_t left = o->b_columns - k, blocks = (left + WIDTH - 1) / WIDTH;
    return (outer_panel){
        .k = k,
        .blocks = blocks < OUTER_BLOCKS ? blocks : OUTER_BLOCKS,
        .last = blocks <= OUTER_BLOCKS ? left - (blocks - 1) * WIDTH : WIDTH,
        .numbers = strip_at(o, FRNN_OUTER_COLUMNS) + o->n * k,
    };
}

static void fill_panels(const frnn_outer *o)
{
    for (size_t r = 0; r < o->n; r++)
        for (size_t k = 0; k < o->b_columns; k += OUTER_BLOCKS * WIDTH) {
            const outer_panel panel = panel_at(o, k);
            const real *b = (const real *)o->b[r] + o->b_from + k;
            real *to = panel.numbers + r * panel.blocks * WIDTH;
            for (size_t c = 0; c + 1 < panel.blocks; c++)
                v_store(to + c * WIDTH, v_load(b + c * WIDTH));
            const size_t last = (panel.blocks - 1) * WIDTH;
            v_store(to + last, load_columns(b + last, panel.last));
        }
}

/* A chain of a strip by a panel. */
typedef struct outer_tile {
    const real *a, *b;
    size_t n;
    real *to;
    size_t to_row, last;
} outer_tile;

INLINE void multiply_outer(int rows, int blocks, const outer_tile *t)
{
    vec sums[OUTER_ROWS * OUTER_BLOCKS];
    UNROLL
    for (int i = 0; i < rows * blocks; i++) {
        sums[i] = v_set1(0);
        PREFETCH_TO_WRITE(t->to + (size_t)(i / blocks) * t->to_row + (size_t)(i % blocks) * WIDTH);
    }
    const real *a = t->a, *b = t->b;
    for (size_t r = 0; r < t->n; r++, a += OUTER_ROWS, b += blocks * WIDTH) {
        vec columns[OUTER_BLOCKS];
        UNROLL
        for (int c = 0; c < blocks; c++)
            columns[c] = v_load(b + c * WIDTH);
        UNROLL
        for (int i = 0; i < rows; i++) {
            const vec factor = v_set1(a[i]);
            UNROLL
            for (int c = 0; c < blocks; c++)
                sums[i * blocks + c] = v_fma(columns[c], factor, sums[i * blocks + c]);
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
    for (int c = 0; c < blocks; c++) {
        real *to = t->to + (size_t)i * t->to_row + (size_t)c * WIDTH;
        if (c + 1 < blocks || t->last == WIDTH)
            v_store(to, v_add(v_load(to), sums[i * blocks + c]));
        else
            v_store_n(to, t->last, v_add(v_load_n(to, t->last), sums[i * blocks + c]));
    }
}

#define OUTER_CASE(rows, n)                                                                                            \
    case n:                                                                                                            \
        if (n <= OUTER_BLOCKS && (rows) <= OUTER_ROWS)                                                                 \
            multiply_outer(rows, n, t);                                                                                \
        break;

#define OUTER_ROWS_OF(rows)                                                                                            \
    static OUTLINE void outer_rows_##rows(const outer_tile *t, size_t blocks)                                          \
    {                                                                                                                  \
        switch (blocks) {                                                                                              \
            OUTER_CASE(rows, 1)                                                                                        \
            OUTER_CASE(rows, 2)                                                                                        \
            OUTER_CASE(rows, 3)                                                                                        \
            OUTER_CASE(rows, 4)                                                                                        \
        default: assert(0 && "a panel has from 1 to OUTER_BLOCKS vectors");                                            \
        }                                                                                                              \
    }
OUTER_ROWS_OF(1)
OUTER_ROWS_OF(2)
OUTER_ROWS_OF(3)
OUTER_ROWS_OF(4)
OUTER_ROWS_OF(5)
OUTER_ROWS_OF(6)

static void (*const outer_rows[])(const outer_tile *t, size_t blocks) = {
    outer_rows_1, outer_rows_2, outer_rows_3, outer_rows_4, outer_rows_5, outer_rows_6,
};

/* A panel by a block of a's columns from j on. */
static void outer_block(const frnn_outer *o, const outer_panel *panel, size_t j, size_t columns)
{
    for (size_t r = 0; r < o->n; r += CHAIN)
        for (size_t at = 0; at < columns; at += OUTER_ROWS) {
            const size_t rows = columns - at < OUTER_ROWS ? columns - at : OUTER_ROWS;
            const outer_tile one = {
                .a = strip_at(o, at) + r * OUTER_ROWS,
                .b = panel->numbers + r * panel->blocks * WIDTH,
                .n = o->n - r < CHAIN ? o->n - r : CHAIN,
                .to = (real *)o->to + (j + at) * o->to_row + panel->k,
                .to_row = o->to_row,
                .last = panel->last,
            };
            outer_rows[rows - 1](&one, panel->blocks);
        }
}

/* to[k] += the sum over rows r of b[r][k], of some vectors side by side, the last of which has `last` lanes. */
INLINE void sum_columns(int blocks, const frnn_outer *o, size_t k, size_t last)
{
    for (size_t from = 0; from < o->n; from += CHAIN) {
        vec sums[SUM_BLOCKS];
        UNROLL
        for (int c = 0; c < blocks; c++)
            sums[c] = v_set1(0);
        for (size_t r = from; r < o->n && r < from + CHAIN; r++) {
            const real *b = (const real *)o->b[r] + o->b_from + k;
            UNROLL
            for (int c = 0; c < blocks; c++)
                sums[c] = v_add(sums[c], load_columns(b + c * WIDTH, c + 1 < blocks ? WIDTH : last));
        }
        UNROLL
        for (int c = 0; c < blocks; c++) {
            const size_t lanes = c + 1 < blocks ? WIDTH : last;
            real *to = (real *)o->to + k + (size_t)c * WIDTH;
            if (lanes == WIDTH)
                v_store(to, v_add(v_load(to), sums[c]));
            else
                v_store_n(to, lanes, v_add(v_load_n(to, lanes), sums[c]));
        }
    }
}

static void sum_rows(const frnn_outer *o)
{
    size_t k = 0;
    for (; o->b_columns - k >= SUM_BLOCKS * WIDTH; k += SUM_BLOCKS * WIDTH)
        sum_columns(SUM_BLOCKS, o, k, WIDTH);
    for (; k < o->b_columns; k += WIDTH)
        sum_columns(1, o, k, o->b_columns - k < WIDTH ? o->b_columns - k : WIDTH);
}

static void outer(const frnn_outer *o)
{
    const size_t step = OUTER_BLOCKS * WIDTH;
    if (!o->a) {
        sum_rows(o);
        return;
    }
    fill_panels(o);
    for (size_t j = 0; j < o->a_columns; j += FRNN_OUTER_COLUMNS) {
        const size_t left = o->a_columns - j, columns = left < FRNN_OUTER_COLUMNS ? left : FRNN_OUTER_COLUMNS;
        fill_strips(o, j, columns);
        for (size_t k = 0; k < o->b_columns; k += step) {
            const outer_panel panel = panel_at(o, k);
            outer_block(o, &panel, j, columns);
        }
    }
}
