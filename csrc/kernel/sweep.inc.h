/* The one kernel text. A target's file includes its simd header, then this, with TARGET and FRNN_BITS defined; it
 * makes one object with one name, frnn_<target>_<bits>. */

#include "tile.inc.h"

#include "activations.inc.h"
#include "cells.inc.h"
#include "product.inc.h"

#include "integers.inc.h"

#include "row.inc.h"

#include "outer.inc.h"

/* Blocks in one tile: a power of two, as many as there are and as a tile of so many rows takes. */
static size_t blocks_across(size_t gates, size_t rows, size_t left)
{
    size_t blocks = (uint32_t)columns_across(rows) / (uint32_t)gates; /* a division of 64 bits takes twice as long */
    assert(left > 0);
    if (blocks == 0) /* its gates are multiplied some at a time */
        return 1;
    while (blocks > left || blocks & (blocks - 1))
        blocks--;
    return blocks;
}

/* A band's rows as tiles: heights as equal as can be, the taller ones first, eight rows being four and four and not six and
 * two. */
typedef struct tiling {
    size_t rows, tiles, least, taller; /* all rows; tiles; rows of the lower ones; how many have one more */
} tiling;

static tiling tile_rows(size_t gates, size_t blocks, size_t rows)
{
    const uint32_t most = (uint32_t)most_rows(gates, blocks), n = (uint32_t)rows, tiles = (n + most - 1) / most;
    return (tiling){rows, tiles, n / tiles, n % tiles};
}

static size_t tallest_of(const tiling *band) { return band->least + (band->taller > 0); }

static void start_tile(const stage_step *k, tile *t)
{
    const size_t sums = k->stage->sums, place = t->block * sums * WIDTH;
    if (k->kept && !k->ahead) {
        t->start_stride = k->stage->blocks * sums * WIDTH;
        t->start = k->kept + t->row * t->start_stride + place;
    } else {
        t->start_stride = 0;
        t->start = (const real *)k->stage->bias + place;
    }
}

/* Of the weights that follow, a strip of a block to fetch ahead: of the product's next chain, or after its last one, of the next
 * product. */
static const real *strip_ahead(const operands *o, size_t block, size_t beside, size_t chain, size_t strip)
{
    const bool last = chain + CHAIN >= o->matrix->K;
    const void *panel = last ? frnn_panel(o->next, o->next_block + beside) : frnn_panel(o->matrix, block + beside);
    return (const real *)panel + frnn_panel_column(last ? 0 : chain + CHAIN, 0, o->matrix->gates) * WIDTH +
           strip * CHAIN * LINE;
}

/* Brings near what the same rows of the next blocks start from: kept sums of many steps are far. */
static void fetch_start(const stage_step *k, const tile *t, size_t next_block)
{
    const size_t numbers = t->blocks * k->stage->sums * WIDTH;
    const real *start = t->start + next_block * k->stage->sums * WIDTH - t->block * k->stage->sums * WIDTH;
    for (size_t r = 0; r < t->rows; r++)
        for (size_t i = 0; i < numbers; i += LINE)
            PREFETCH(start + r * t->start_stride + i);
}

/* Halves, as numbers of the sums. */
static void widen(const void *from, size_t n, real *to)
{
#if FRNN_BITS == 32
    for (size_t i = 0; i < n; i += WIDTH)
        v_store(to + i, v_load_halves((const uint16_t *)from + i));
#else
    (void)from, (void)n, (void)to;
#endif
}

/* A chain's halves: they are made wide once for all rows. */
static void widen_chain(const operands *o, size_t block, size_t blocks, range ks)
{
    const size_t gates = o->matrix->gates;
    for (size_t b = 0; b < blocks; b++)
        widen((const uint16_t *)frnn_panel(o->matrix, block + b) + frnn_panel_column(ks.from, 0, gates) * WIDTH,
              (ks.to - ks.from) * gates * WIDTH, o->widened + b * gates * CHAIN * WIDTH);
}

/* A chain's panels are passed by all rows of a band before the next chain: they are read once from far and then from
 * the nearest cache. Meanwhile each tile fetches a column of the panels that follow. One tile alone goes
 * through all chains at once. */
static void multiply_band(const stage_step *k, const operands *o, product *pass, const tile *all, const tiling *band,
                          bool from_start)
{
    tile t = *all;
    const size_t gates = o->matrix->gates, K = o->matrix->K, strips = (gates * WIDTH + LINE - 1) / LINE;
    const bool follows = band->tiles > 1 || passes_of(gates, band->least) > 1; /* weights are fetched ahead */
    const size_t step = follows || o->widened ? CHAIN : K ? K : 1;
    size_t from = 0;
    do {
        const range ks = {from, K - from < step ? K : from + step};
        size_t beside = 0, strip = 0;
        if (o->widened)
            widen_chain(o, t.block, t.blocks, ks);
        t.row = all->row;
        t.sums = all->sums;
        for (size_t i = 0; i < band->tiles; i++) {
            t.rows = band->least + (i < band->taller);
            t.ahead = follows && !o->widened && beside < t.blocks ? strip_ahead(o, t.block, beside, from, strip) : NULL;
            for (strip += passes_of(gates, t.rows); strip >= strips; strip -= strips)
                beside++;
            if (from_start) {
                start_tile(k, &t);
                if (from == 0 && t.start_stride)
                    fetch_start(k, &t, o->next_block);
            } else {
                t.start = t.sums;
                t.start_stride = t.stride;
            }
            pass(o, &t, ks);
            t.row += t.rows;
            t.sums += t.rows * t.stride;
        }
        from += step;
    } while (from < K);
}

/* Adds U h where h is +0 throughout: it was computed when the weights were packed. */
static void add_zero_h(const stage_step *k, const tile *all, bool from_start)
{
    const size_t n = all->blocks * k->stage->sums;
    const real *zero = (const real *)k->stage->zero_h + all->block * k->stage->sums * WIDTH;
    tile t = *all;
    t.start = t.sums;
    t.start_stride = t.stride;
    if (from_start)
        start_tile(k, &t);
    for (size_t r = 0; r < t.rows; r++)
        for (size_t i = 0; i < n; i++)
            v_store(t.sums + r * t.stride + i * WIDTH,
                    v_add(v_load(t.start + r * t.start_stride + i * WIDTH), v_load(zero + i * WIDTH)));
}

/* Adds one product to the sums of a band, or to what they start from. */
static void multiply_matrix(const stage_step *k, const operands *o, bool for_h, const tile *all, const tiling *band,
                            bool from_start)
{
#if FRNN_BITS == 32
    if (frnn_format_is_integer(o->matrix->format) && o->matrix->K) {
        tile t = *all;
        t.start = t.sums;
        t.start_stride = t.stride;
        if (from_start)
            start_tile(k, &t);
        integer_products[k->stage->kind][for_h](o, &t);
        return;
    }
#endif
    const struct products *multiply = &products[k->stage->kind];
    multiply_band(k, o, for_h ? multiply->h : multiply->x, all, band, from_start);
}

/* Sums that rows were found to have are copied to where a product adds to them: one pass of loads, which the processor
 * has many of under way at a time, wherever the rows are. */
static void copy_looked_up(const stage_step *k, const tile *t)
{
    const size_t n = t->blocks * k->stage->sums, place = t->block * k->stage->sums * WIDTH;
    for (size_t r = 0; r < t->rows; r++) {
        const real *from = (const real *)k->looked_up[t->row + r] + place;
        for (size_t i = 0; i < n; i++)
            v_store(t->sums + r * t->stride + i * WIDTH, v_load(from + i * WIDTH));
    }
}

/* All rows of some blocks. `next` is the first block of the sweep's next tile; `first` are the tiles of the first band. */
static void sweep_rows(const stage_step *k, size_t block, size_t blocks, size_t next, const tiling *first)
{
    const frnn_stage *stage = k->stage;
    const bool with_x = k->ahead || (!k->kept && !k->looked_up && stage->W.K);
    const bool from_start = !with_x && !k->looked_up;
    const frnn_matrix *W = &stage->W, *U = &stage->U;
    real own[BAND_SUMS * WIDTH], wide[FRNN_BITS == 32 ? COLUMNS_OF_FEW * CHAIN * WIDTH : 1];
    operands x = {W, k->x, k->ahead ? W : U, k->ahead ? next : block, k->x_integers, NULL};
    operands h = {U, k->h, with_x ? W : U, next, k->h_integers, NULL};
    tiling band = *first;
    for (size_t row = 0; row < k->n; row += BAND_ROWS) {
        if (k->n - row < band.rows)
            band = tile_rows(stage->gates, blocks, k->n - row);
        tile t = {.row = row,
                  .rows = band.rows,
                  .block = block,
                  .blocks = blocks,
                  .sums = own,
                  .stride = blocks * stage->sums * WIDTH};
        x.widened = has_halves(W) && t.rows > 1 ? wide : NULL;
        h.widened = has_halves(U) && t.rows > 1 ? wide : NULL;
        if (k->ahead) {
            t.stride = stage->blocks * stage->sums * WIDTH;
            t.sums = k->kept + row * t.stride + block * stage->sums * WIDTH;
        }
        if (with_x)
            multiply_matrix(k, &x, false, &t, &band, true);
        if (k->looked_up)
            copy_looked_up(k, &t);
        if (!k->ahead) {
            if (k->zero_h)
                add_zero_h(k, &t, from_start);
            else
                multiply_matrix(k, &h, true, &t, &band, from_start);
            finish(k, &t);
        }
    }
}

/* One row of the standard cells. */
static void sweep_row(const stage_step *k, const row_kernel *row, size_t begin, size_t end, bool downwards)
{
    void (*const run)(const stage_step *, size_t, size_t) = has_halves(&k->stage->U) ? row->run_halves : row->run;
    for (size_t left = end - begin, blocks; left > 0; left -= blocks) {
        blocks = left;
        if (left > row->across) {
            const size_t passes = (left + row->across - 1) / row->across;
            blocks = (left + passes - 1) / passes;
        }
        run(k, downwards ? begin + left - blocks : end - left, blocks);
    }
}

/* The same of weights that are bytes. */
static void sweep_row_of_integers(const stage_step *k, const row_kernel *row, size_t begin, size_t end, bool downwards)
{
    const frnn_matrix *U = &k->stage->U;
    for (size_t left = end - begin, blocks; left > 0; left -= blocks) {
        blocks = blocks_across(U->gates, frnn_matrix_vectors(U), left);
        blocks = blocks < row->across ? blocks : row->across;
        row->run_integers(k, downwards ? begin + left - blocks : end - left, blocks);
    }
}

/* Rows of the tallest tile of a band, or vectors of integers. */
static size_t tallest_tile(const frnn_matrix *matrix, size_t rows)
{
#if FRNN_BITS == 32
    switch (frnn_matrix_vectors(matrix)) {
    case 1: return tile_vectors(rows, 1);
    case 2: return tile_vectors(2 * rows, 2);
    default: break; /* they are numbers */
    }
#endif
    const tiling band = tile_rows(matrix->gates, 1, rows);
    return tallest_of(&band);
}

/* What is the same in every step of a stage. */
typedef struct sweeping {
    size_t begin, end, tallest; /* the blocks of a share, and the rows of the tallest tile */
    const row_kernel *row;      /* NULL: one row is a tile like others */
    bool is_of_integers;
} sweeping;

static sweeping sweeping_of(const frnn_stage *stage, size_t n, bool ahead, size_t share, size_t shares)
{
    const row_kernel *row = &row_kernels[stage->kind];
    sweeping s = {.begin = frnn_share_of(stage->blocks, share, shares),
                  .end = frnn_share_of(stage->blocks, share + 1, shares),
                  .is_of_integers = frnn_format_is_integer(stage->U.format)};
    if (n == 1 && row->across && stage->standard && !ahead)
        s.row = row;
    else
        s.tallest = tallest_tile(&stage->U, n < BAND_ROWS ? n : BAND_ROWS);
    return s;
}

/* All rows and blocks of a share, upwards or downwards. Blocks are outside, so that their panels stay near while rows
 * pass. */
static void sweep(const stage_step *k, const sweeping *s, bool downwards)
{
    if (s->row) {
        (s->is_of_integers ? sweep_row_of_integers : sweep_row)(k, s->row, s->begin, s->end, downwards);
        return;
    }
    tiling first = {0};
    for (size_t left = s->end - s->begin, blocks, before = 0; left > 0; left -= blocks, before = blocks) {
        blocks = blocks_across(k->stage->gates, s->tallest, left);
        if (blocks != before)
            first = tile_rows(k->stage->gates, blocks, k->n < BAND_ROWS ? k->n : BAND_ROWS);
        const size_t block = downwards ? s->begin + left - blocks : s->end - left;
        const size_t next = left == blocks ? block : downwards ? block - blocks : block + blocks;
        sweep_rows(k, block, blocks, next, &first);
    }
}

static void input(const frnn_stage *stage, const frnn_inputs *inputs)
{
    const stage_step k = {.stage = stage,
                          .n = inputs->n,
                          .x = inputs->x,
                          .kept = inputs->sums,
                          .ahead = true,
                          .x_integers = inputs->integers};
#if FRNN_BITS == 32
    make_integers(&stage->W, inputs->x, inputs->n, LEAST_SCALE_OF_X, inputs->integers);
#endif
    if (!k.n)
        return;
    const sweeping s = sweeping_of(stage, k.n, true, inputs->share, inputs->shares);
    sweep(&k, &s, false);
}

static void move_rows(const void **rows, size_t n, ptrdiff_t bytes)
{
    for (size_t r = 0; r < n && rows; r++)
        rows[r] = (const char *)rows[r] + bytes;
}

/* Rows of the tape, which is written or gone back over. */
static OUTLINE void move_tape(frnn_steps *s)
{
    for (int i = 0; i < s->layer->stages; i++)
        move_rows((const void **)s->tape[i], s->n, s->tape_step[i]);
    if (!s->past)
        return;
    move_rows((const void **)s->middle, s->n, s->y_step);
    for (int i = 0; i < FRNN_MOST_STAGES; i++)
        move_rows(s->past->tape[i], s->n, s->past->tape_step[i]);
    move_rows(s->past->before, s->n, s->past->tape_step[0]);
    move_rows(s->past->h, s->n, s->past->h_step);
}

/* Pointers go on to the next step. */
INLINE void move(frnn_steps *s)
{
    for (size_t r = 0; r < s->n; r++) {
        s->h[r] = s->y[r];
        s->y[r] = (char *)s->y[r] + s->y_step;
        if (s->x)
            s->x[r] = (const char *)s->x[r] + s->x_step;
    }
    if (s->tape[0] || s->past)
        move_tape(s);
}

/* What the rows of x and of h have become for a stage. Stages that read x read the same x. */
INLINE void make_integers_of_step(const stage_step *k, const frnn_steps *s, int stage)
{
#if FRNN_BITS == 32
    if (!frnn_format_is_integer(k->stage->U.format))
        return;
    if (stage == 0 && !k->kept && !k->looked_up)
        make_integers(&k->stage->W, k->x, k->n, LEAST_SCALE_OF_X, s->x_integers);
    if (!k->zero_h)
        make_integers(&k->stage->U, k->h, k->n, 1, s->h_integers);
#else
    (void)k, (void)s, (void)stage;
#endif
}

/* The layer with U's halves made wide, once for all steps, in the blocks of a share. */
static OUTLINE void widen_layer(const frnn_steps *s, frnn_layer *layer)
{
    char *to = s->wide;
    *layer = *s->layer;
    for (int i = 0; i < layer->stages; i++) {
        const frnn_matrix halves = layer->stage[i].U;
        frnn_matrix *U = &layer->stage[i].U;
        const size_t blocks = layer->stage[i].blocks;
        *U = frnn_matrix_of(FRNN_FORMAT_FLOAT32, halves.units, halves.gates, halves.K, halves.width);
        U->panels = to;
        const size_t begin = frnn_share_of(blocks, s->share, s->shares),
                     end = frnn_share_of(blocks, s->share + 1, s->shares);
        for (size_t b = begin; b < end && !s->is_wide; b++)
            widen(frnn_panel(&halves, b), halves.K * halves.gates * WIDTH, (real *)(to + b * U->panel_bytes));
        to += U->bytes;
    }
}

/* What tokens name for a stage: one row's kept sums are read where they are, as those of a step that were kept ahead. */
static OUTLINE void look_up(const frnn_steps *s, int stage, stage_step *k)
{
    const char *table = s->lookup->table ? s->lookup->table[stage] : NULL;
    for (size_t r = 0; r < s->n; r++)
        s->found[r] = table ? table + frnn_token_at(s->lookup, s->x[r]) * k->stage->sums_row_bytes
                            : frnn_row_of_token(s->lookup, s->x[r]);
    if (!table)
        k->x = s->found;
    else if (s->n == 1)
        k->kept = (real *)s->found[0]; /* which is read alone */
    else
        k->looked_up = s->found;
}

static void steps(frnn_steps *s)
{
    frnn_layer wide;
    const frnn_layer *layer = s->layer;
    if (s->wide) {
        widen_layer(s, &wide);
        layer = &wide;
    }
    stage_step stages[FRNN_MOST_STAGES];
    sweeping sweeps[FRNN_MOST_STAGES];
    for (int i = 0; i < layer->stages; i++) {
        const frnn_stage *stage = &layer->stage[i];
        stages[i] = (stage_step){
            .stage = stage,
            .n = s->n,
            .x = s->x,
            .h = i ? (const void *const *)s->middle : s->h,
            .previous = s->h,
            .y = i + 1 == layer->stages ? s->y : s->middle,
            .carry = s->carry,
            .zero_h = s->from_zeros && i == 0,
            .kept = (real *)s->sums[i],
            .tape = (void *const *)s->tape[i],
            .states = i == 0 ? frnn_cell_states(stage->spec->cell) - 1 : 0,
            .past = s->past,
            .x_integers = s->x_integers,
            .h_integers = s->h_integers,
        };
        sweeps[i] = sweeping_of(stage, s->n, false, s->share, s->shares);
    }
    for (size_t step = 0; step < s->steps; step++) {
        for (int i = 0; i < layer->stages; i++) {
            stage_step *k = &stages[i];
            if (s->lookup && k->stage->takes_x)
                look_up(s, i, k);
            make_integers_of_step(k, s, i);
            sweep(k, &sweeps[i], (s->parity + step) & 1);
            k->zero_h = false;
            if (k->kept)
                k->kept += s->n * k->stage->blocks * k->stage->sums * WIDTH;
            if (s->shares > 1)
                s->meet(s->context);
        }
        if (step + 1 < s->steps)
            move(s);
    }
}

static void gates(const frnn_gates *g)
{
    const stage_step k = {.stage = &g->layer->stage[0], .n = g->n, .y = g->to, .past = g->past};
    read_rows(&k);
}

#define JOIN_(a, b, c, d) a##b##c##d
#define JOIN(a, b, c, d) JOIN_(a, b, c, d)
const frnn_kernels JOIN(frnn_, TARGET, _, FRNN_BITS) = {WIDTH, MAX_ROWS, input, steps, outer, gates};
