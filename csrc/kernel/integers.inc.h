/* Weights that are bytes. Every row of x and of h becomes integers once a step, and a product is a sum of integers, which
 * is exact: so its bits depend on no order. docs/precision.md has the formulas.
 *
 * Integers of 14 bits are two vectors of 7, v + 8192 = 128 high + low: bytes below 128, whose products with weights can be
 * added in pairs in 16 bits on every processor. Those of 8 bits are one vector. A tile is some vectors by some columns of
 * weights, and knows nothing of gates: its sums are in memory, and become the stage's sums at the end. */
#if FRNN_BITS == 32

enum {
    TOP = 8191, /* the largest integer of 14 bits that is used, and of 8 */
    TOP_FAST = 127,
    MIDDLE = 8192,        /* what is added to integers of 14 bits */
    HIGH_MIDDLE_BITS = 6, /* 2 to this power is what MIDDLE adds to the high part */
    OFFSET_BITS = 7       /* and INSTRUCTION_OFFSET, where there is one */
};

#define LEAST_SCALE_OF_X 0x1p-100f /* of less than this, nothing is left but zeros */

/* How bytes are multiplied. */
typedef enum dot_kind {
    DOT_UNSIGNED,   /* those of inputs are below 128 */
    DOT_SIGNED,     /* from -127 to 127 */
    DOT_INSTRUCTION /* of either kind, to which INSTRUCTION_OFFSET is added where they have a sign */
} dot_kind;

INLINE dot_kind dot_kind_of(const frnn_matrix *m)
{
    return m->dots ? DOT_INSTRUCTION : m->format == FRNN_FORMAT_INT8 ? DOT_UNSIGNED : DOT_SIGNED;
}

INLINE ivec dot(dot_kind kind, ivec sum, bvec w, bvec a)
{
    switch (kind) {
    case DOT_UNSIGNED: return i_dot_unsigned(sum, w, a);
    case DOT_SIGNED: return i_dot_signed(sum, w, a);
    default: return i_dot_instruction(sum, w, a);
    }
}

/* Vectors of inputs by columns of weights, and their sums: [vector][column][lane]. A column goes on from four to four. */
typedef struct dot_tile {
    int32_t *sums;
    const char *const *vectors, *const *columns;
    size_t step; /* bytes from a column's four to its next one */
    size_t fours;
} dot_tile;

/* Weights come from the second-level cache as fast as they are multiplied: a tile goes through all of K at once. */
INLINE void sum_dots(dot_kind kind, int vectors, int columns, const dot_tile *t)
{
    const char *in[MAX_ROWS], *weights[COLUMNS_OF_FEW];
    ivec sums[MAX_COLUMNS];
    if ((size_t)columns > columns_across((size_t)vectors)) {
        assert(0 && "the first tile of a band is the tallest, and says how many columns there are");
        return; /* no code is made for this tile */
    }
    UNROLL
    for (int i = 0; i < vectors * columns; i++)
        sums[i] = i_set1(0);
    UNROLL
    for (int r = 0; r < vectors; r++)
        in[r] = t->vectors[r];
    UNROLL
    for (int c = 0; c < columns; c++)
        weights[c] = t->columns[c];
    for (size_t k = 0, at = 0; k < t->fours; k++, at += t->step) {
        bvec a[MAX_ROWS];
        UNROLL
        for (int r = 0; r < vectors; r++)
            a[r] = b_set4(in[r] + k * FRNN_FOUR);
        UNROLL
        for (int c = 0; c < columns; c++) {
            bvec w = b_load(weights[c] + at);
            if (vectors > 1)
                PIN(w);
            UNROLL
            for (int r = 0; r < vectors; r++)
                sums[r * columns + c] = dot(kind, sums[r * columns + c], w, a[r]);
        }
    }
    UNROLL
    for (int i = 0; i < vectors * columns; i++)
        i_store(t->sums + i * WIDTH, sums[i]);
}

/* Gates side by side: 1, 2, 3 or 4 of each of 1, 2, 4 or 8 blocks. */
INLINE void sum_dots_of(dot_kind kind, int vectors, size_t columns, const dot_tile *t)
{
    switch (columns) {
    case 1: sum_dots(kind, vectors, 1, t); break;
    case 2: sum_dots(kind, vectors, 2, t); break;
    case 3: sum_dots(kind, vectors, 3, t); break;
    case 4: sum_dots(kind, vectors, 4, t); break;
    case 6: sum_dots(kind, vectors, 6, t); break;
    case 8: sum_dots(kind, vectors, 8, t); break;
    default: assert(0 && "no such columns");
    }
}

#define SUM_DOTS(KIND, VECTORS)                                                                                        \
    static OUTLINE void dots_##KIND##_##VECTORS(size_t columns, const dot_tile *t)                                     \
    {                                                                                                                  \
        sum_dots_of(DOT_##KIND, VECTORS, columns, t);                                                                  \
    }
SUM_DOTS(UNSIGNED, 2)
SUM_DOTS(SIGNED, 1)
SUM_DOTS(SIGNED, 2)
SUM_DOTS(SIGNED, 3)
SUM_DOTS(INSTRUCTION, 1)
SUM_DOTS(INSTRUCTION, 2)
SUM_DOTS(INSTRUCTION, 3)
#if REGISTERS == 32
SUM_DOTS(UNSIGNED, 4)
SUM_DOTS(UNSIGNED, 6)
SUM_DOTS(SIGNED, 4)
SUM_DOTS(SIGNED, 6)
SUM_DOTS(INSTRUCTION, 4)
SUM_DOTS(INSTRUCTION, 6)
#endif

static void (*const dots[3][MAX_ROWS + 1])(size_t columns, const dot_tile *t) = {
    [DOT_UNSIGNED][2] = dots_UNSIGNED_2,
    [DOT_SIGNED] = {NULL, dots_SIGNED_1, dots_SIGNED_2, dots_SIGNED_3},
    [DOT_INSTRUCTION] = {NULL, dots_INSTRUCTION_1, dots_INSTRUCTION_2, dots_INSTRUCTION_3},
#if REGISTERS == 32
    [DOT_UNSIGNED][4] = dots_UNSIGNED_4,
    [DOT_UNSIGNED][6] = dots_UNSIGNED_6,
    [DOT_SIGNED][4] = dots_SIGNED_4,
    [DOT_SIGNED][6] = dots_SIGNED_6,
    [DOT_INSTRUCTION][4] = dots_INSTRUCTION_4,
    [DOT_INSTRUCTION][6] = dots_INSTRUCTION_6,
#endif
};

/* Vectors of a tile, of `left` that are still to be tiled: as equal as can be, and of heights that there are. None is
 * taller than the one before it. */
INLINE size_t tile_vectors(size_t left, size_t vectors_of_row)
{
    const size_t tallest = MAX_ROWS / vectors_of_row * vectors_of_row, tiles = (left + tallest - 1) / tallest;
    if (tiles == 1)
        return left != 5 ? left : 4;
    const size_t height = (left + tiles - 1) / tiles;
    return height == 5 ? 6 : height + height % vectors_of_row;
}

/* The largest |a| of a row, the least that its scale may be included; infinity or NaN where a number is not finite. The
 * bits of positive floats, as integers, are in the floats' order, and NaN comes last. */
static real largest_of(const real *row, size_t K, real least)
{
    ivec most = i_bits(v_set1(least));
    for (size_t k = 0; k < K; k += WIDTH)
        most = i_max(i_bits(v_abs(K - k >= WIDTH ? v_load(row + k) : v_load_n(row + k, K - k))), most);
    const int32_t word = i_largest(most);
    real largest;
    memcpy(&largest, &word, sizeof largest);
    return largest;
}

/* One row. Where a number is not finite, the integers are zeros that stand for NaN. */
static void make_integers_of(const frnn_matrix *m, const real *row, real least, char *to)
{
    const bool fast = m->format == FRNN_FORMAT_INT8_FAST;
    const size_t bytes = frnn_matrix_vector_bytes(m);
    const real scale = largest_of(row, m->K, least), top = fast ? TOP_FAST : TOP;
    const bool is_finite = scale <= (real)FLT_MAX;
    const real unit = is_finite ? scale / top : (real)NAN;
    const vec times = v_set1(is_finite ? top / scale : 0);
    const ivec offset = i_set1(!fast ? MIDDLE : m->dots ? INSTRUCTION_OFFSET : 0);
    memcpy(to, &unit, sizeof unit);
    to += FRNN_INTEGERS_HEAD;
    if (m->K % FRNN_FOUR)
        memset(to + m->K / FRNN_FOUR * FRNN_FOUR, 0, FRNN_FOUR); /* weights are zeros there */
    if (m->K % FRNN_FOUR && !fast)
        memset(to + bytes + m->K / FRNN_FOUR * FRNN_FOUR, 0, FRNN_FOUR);
    for (size_t k = 0; k < m->K; k += WIDTH) {
        const vec a = !is_finite ? v_set1(0) : m->K - k >= WIDTH ? v_load(row + k) : v_load_n(row + k, m->K - k);
        const ivec v = i_add(i_round(v_mul(a, times)), offset);
        if (fast) {
            i_store_bytes(to + k, v);
        } else {
            i_store_bytes(to + k, i_right(v, 7));
            i_store_bytes(to + bytes + k, i_and(v, i_set1(127)));
        }
    }
}

/* What n rows become for a matrix. */
static void make_integers(const frnn_matrix *m, const void *const *rows, size_t n, real least, void *to)
{
    const size_t bytes = frnn_integer_bytes(m);
    for (size_t r = 0; r < n && bytes; r++)
        make_integers_of(m, rows[r], least, (char *)to + r * bytes);
}

/* What a row's integers and a block's weights have become. */
typedef struct integer_sums {
    const int32_t *totals; /* [gate][lane], and as much further on of the second vector of 14 bits */
    size_t next_vector;
    const int32_t *byte_sums; /* of the block, [gate][lane] each */
    const float *scales;
    real unit;
    bool is_offset;
} integer_sums;

INLINE integer_sums integer_sums_of(const frnn_matrix *m, size_t block, const int32_t *totals, size_t columns,
                                    const char *integers)
{
    integer_sums from = {.totals = totals,
                         .next_vector = columns * WIDTH,
                         .byte_sums = frnn_panel_byte_sums(m, block),
                         .scales = frnn_panel_scales(m, block),
                         .is_offset = INSTRUCTION_OFFSET && m->dots};
    memcpy(&from.unit, integers, sizeof from.unit);
    return from;
}

/* A gate's sum from `start`, as numbers: each of the integers' sums is rounded to one, and the rest is fused. */
INLINE vec add_integers_of(bool fast, const integer_sums *from, int gate, vec start)
{
    const ivec sum = i_load(from->totals + gate * WIDTH), bytes = i_load(from->byte_sums + gate * WIDTH);
    const vec scale = v_mul(v_load(from->scales + gate * WIDTH), v_set1(from->unit));
    if (fast)
        return v_fma(i_float(from->is_offset ? i_sub(sum, i_left(bytes, OFFSET_BITS)) : sum), scale, start);
    const ivec low = i_load(from->totals + from->next_vector + gate * WIDTH);
    return v_fma(v_fma(i_float(i_sub(sum, i_left(bytes, HIGH_MIDDLE_BITS))), v_set1(128), i_float(low)), scale, start);
}

/* What the integers of some rows add to their sums. */
INLINE void add_integers(shape s, bool fast, const operands *o, const tile *t, const int32_t *totals)
{
    const frnn_matrix *m = o->matrix;
    const size_t columns = t->blocks * (size_t)s.gates;
    for (size_t b = 0; b < t->blocks; b++) {
        const char *integers = o->integers + t->row * frnn_integer_bytes(m);
        integer_sums from = integer_sums_of(m, t->block + b, totals + b * (size_t)s.gates * WIDTH, columns, integers);
        for (size_t r = 0; r < t->rows; r++, integers += frnn_integer_bytes(m)) {
            memcpy(&from.unit, integers, sizeof from.unit);
            UNROLL
            for (int g = 0; g < s.gates; g++) {
                const size_t place = (b * (size_t)s.sums + place_of(s, g)) * WIDTH;
                v_store(t->sums + r * t->stride + place,
                        add_integers_of(fast, &from, g, v_load(t->start + r * t->start_stride + place)));
            }
            from.totals += from.next_vector << !fast;
        }
    }
}

/* Where the columns of some blocks begin. */
INLINE void find_columns(const frnn_matrix *m, int gates, size_t block, size_t blocks, const char **columns)
{
    for (size_t b = 0, c = 0; b < blocks; b++)
        for (int g = 0; g < gates; g++)
            columns[c++] = (const char *)frnn_panel(m, block + b) + g * WIDTH * FRNN_FOUR;
}

/* One row, whose sums come in registers and stay there. */
INLINE void multiply_row_of_integers(vec *sums, shape s, const frnn_matrix *m, const char *integers, size_t block)
{
    const bool fast = m->format == FRNN_FORMAT_INT8_FAST;
    const size_t columns = (size_t)(s.blocks * s.gates);
    const char *in[] = {integers + FRNN_INTEGERS_HEAD, integers + FRNN_INTEGERS_HEAD + frnn_matrix_vector_bytes(m)};
    const char *weights[COLUMNS_OF_FEW];
    int32_t totals[2 * COLUMNS_OF_FEW * WIDTH];
    find_columns(m, s.gates, block, (size_t)s.blocks, weights);
    dots[dot_kind_of(m)][fast ? 1 : 2](
        columns, &(dot_tile){totals, in, weights, (size_t)s.gates * WIDTH * FRNN_FOUR, frnn_matrix_columns(m)});
    UNROLL
    for (int b = 0; b < s.blocks; b++) {
        const integer_sums from =
            integer_sums_of(m, block + (size_t)b, totals + b * s.gates * WIDTH, columns, integers);
        vec *of_block = sums + b * s.sums;
        if (fast) {
            UNROLL
            for (int g = 0; g < s.gates; g++)
                of_block[place_of(s, g)] = add_integers_of(true, &from, g, of_block[place_of(s, g)]);
        } else {
            UNROLL
            for (int g = 0; g < s.gates; g++)
                of_block[place_of(s, g)] = add_integers_of(false, &from, g, of_block[place_of(s, g)]);
        }
    }
}

/* A band of rows, some of them at a time. */
INLINE void multiply_band_of_integers(shape s, bool fast, const operands *o, const tile *band)
{
    const frnn_matrix *m = o->matrix;
    const size_t vectors = fast ? 1 : 2, row_bytes = frnn_integer_bytes(m), vector_bytes = frnn_matrix_vector_bytes(m);
    const size_t columns = band->blocks * (size_t)s.gates;
    void (*const *run)(size_t columns, const dot_tile *t) = dots[dot_kind_of(m)];
    int32_t totals[MAX_COLUMNS * WIDTH];
    const char *in[MAX_ROWS], *weights[COLUMNS_OF_FEW];
    dot_tile dot = {totals, in, weights, (size_t)s.gates * WIDTH * FRNN_FOUR, frnn_matrix_columns(m)};
    tile t = *band;
    s.rows = (int)band->rows;
    s.blocks = (int)band->blocks;
    copy_other_sums(s, band);
    find_columns(m, s.gates, band->block, band->blocks, weights);
    for (size_t left = band->rows; left; left -= t.rows) {
        const size_t height = tile_vectors(left * vectors, vectors);
        const char *row = o->integers + t.row * row_bytes + FRNN_INTEGERS_HEAD;
        for (size_t i = 0; i < height; row += row_bytes) {
            in[i++] = row;
            if (!fast)
                in[i++] = row + vector_bytes;
        }
        run[height](columns, &dot);
        t.rows = height / vectors;
        add_integers(s, fast, o, &t, totals);
        t.row += t.rows;
        t.sums += t.rows * t.stride;
        t.start += t.rows * t.start_stride;
    }
}

INLINE void multiply_integers(shape s, const operands *o, const tile *t)
{
    if (o->matrix->format == FRNN_FORMAT_INT8_FAST)
        multiply_band_of_integers(s, true, o, t);
    else
        multiply_band_of_integers(s, false, o, t);
}

typedef void integer_product(const operands *o, const tile *t);

#define MULTIPLY_INTEGERS(G, S)                                                                                        \
    static OUTLINE void multiply_integers_x_##G##_##S(const operands *o, const tile *t)                                \
    {                                                                                                                  \
        multiply_integers((shape){.gates = G, .sums = S, .for_h = false}, o, t);                                       \
    }                                                                                                                  \
    static OUTLINE void multiply_integers_h_##G##_##S(const operands *o, const tile *t)                                \
    {                                                                                                                  \
        multiply_integers((shape){.gates = G, .sums = S, .for_h = true}, o, t);                                        \
    }
SHAPES(MULTIPLY_INTEGERS)

static integer_product *const integer_products[][2] = {
#define FRNN_STAGE(KIND, first, G, S, handed)                                                                          \
    [FRNN_STAGE_##KIND] = {multiply_integers_x_##G##_##S,                                                              \
                           (G) == (S) ? multiply_integers_x_##G##_##S : multiply_integers_h_##G##_##S},
#include "../cells.def"
};
#endif
