/* What the equations of the cells are written in, and the equations: a function `finish_KIND` for each kind of stage.
 *
 *     vec finish_KIND(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
 *
 * takes the sums of one block of units of one row and answers y. `standard` is a constant: true for a layer with tanh
 * and sigmoid in their places and no option, whose text then has no branches and no calls. `KIND_ROW_BLOCKS` says how
 * many blocks one row takes side by side (row.inc.h), 0 where a kind has no such text. */

INLINE vec bound(const frnn_stage *stage, vec x)
{
    return v_min(v_set1((real)stage->spec->clip), v_max(v_set1((real)-stage->spec->clip), x));
}

INLINE vec gate(bool standard, const frnn_stage *stage, vec sum)
{
    return standard ? sigmoid(sum) : activate_any(&stage->spec->recurrent_activation, bound(stage, sum));
}

INLINE vec candidate(bool standard, const frnn_stage *stage, vec sum)
{
    return standard ? tanh_(sum) : activate_any(&stage->spec->activation, bound(stage, sum));
}

/* Rows of units are dense: the last block reads and writes only the units that there are. */
INLINE vec load_units(const void *row, size_t block, size_t units)
{
    const size_t unit = block * WIDTH;
    const real *p = (const real *)row + unit;
    return units - unit >= WIDTH ? v_load(p) : v_load_n(p, units - unit);
}

INLINE void store_units(void *row, size_t block, size_t units, vec a)
{
    const size_t unit = block * WIDTH;
    real *p = (real *)row + unit;
    if (units - unit >= WIDTH)
        v_store(p, a);
    else
        v_store_n(p, units - unit, a);
}

/* h of the step before. */
INLINE vec previous_h(const stage_step *k, size_t row, size_t block)
{
    return load_units(k->previous[row], block, k->stage->units);
}

/* A number that a row carries: the states beside h come first, then what a stage hands to the next one. */
INLINE real *carried(const stage_step *k, size_t row, size_t block, size_t number)
{
    return (real *)k->carry[row] + (number * k->stage->blocks + block) * WIDTH;
}

/* What a stage of the way forward kept of a block, and where a number goes in a row of gradients, or of gates. */
INLINE const real *taped(const stage_step *k, int stage, size_t row, size_t block, size_t numbers)
{
    return (const real *)k->past->tape[stage][row] + block * numbers * WIDTH;
}

INLINE void store_number(const stage_step *k, size_t row, size_t block, size_t at, vec a)
{
    store_units((real *)k->y[row] + at, block, k->stage->units, a);
}

/* d times the slope of a gate or candidate, whose sum is x and whose value is y; 0 where the sum is at a bound of clip,
 * or beyond. */
INLINE vec bounded_slope(const frnn_stage *stage, const frnn_activation *activation, vec d, vec x, vec y)
{
    const vec inside = v_sub(v_set1((real)stage->spec->clip), v_abs(x));
    return v_past_zero(inside, slope_any(activation, d, bound(stage, x), y));
}

INLINE vec gate_back(bool standard, const frnn_stage *stage, vec d, vec x, vec y)
{
    return standard ? sigmoid_slope(d, y) : bounded_slope(stage, &stage->spec->recurrent_activation, d, x, y);
}

INLINE vec candidate_back(bool standard, const frnn_stage *stage, vec d, vec x, vec y)
{
    return standard ? tanh_slope(d, y) : bounded_slope(stage, &stage->spec->activation, d, x, y);
}

#define FRNN_KERNEL_TEXT
#include "../cells.def"
#undef FRNN_KERNEL_TEXT

INLINE vec finish_unit(frnn_stage_kind kind, bool standard, const stage_step *k, size_t row, size_t block,
                       const vec *sums)
{
    switch (kind) {
#define FRNN_STAGE(KIND, ...)                                                                                          \
    case FRNN_STAGE_##KIND: return finish_##KIND(standard, k, row, block, sums);
#include "../cells.def"
    case FRNN_STAGE_KINDS: assert(0 && "no kind");
    }
    return sums[0];
}

/* Gates and other states of steps that are on the tape, a row of each: [gate][unit], then [state][unit]. */
static void read_rows(const stage_step *k)
{
    const bool standard = k->stage->standard;
    for (size_t row = 0; row < k->n; row++)
        for (size_t block = 0; block < k->stage->blocks; block++)
            switch (k->stage->kind) {
            case FRNN_STAGE_LSTM: read_LSTM(standard, k, row, block); break;
            case FRNN_STAGE_GRU: read_GRU(standard, k, row, block); break;
            case FRNN_STAGE_GRU_RESET: read_GRU_RESET(standard, k, row, block); break;
            default: break; /* an Elman layer's gate is its h */
            }
}

/* Keeps a unit's sums, and then its new states beside h: rows of the tape are [block][sum, state][lane]. */
INLINE void keep_sums(const stage_step *k, size_t row, size_t block, const vec *sums, size_t n)
{
    real *to = (real *)k->tape[row] + block * (n + k->states) * WIDTH;
    for (size_t i = 0; i < n; i++)
        v_store(to + i * WIDTH, sums[i]);
}

INLINE void keep_states(const stage_step *k, size_t row, size_t block, size_t n)
{
    real *to = (real *)k->tape[row] + (block * (n + k->states) + n) * WIDTH;
    for (size_t i = 0; i < k->states; i++)
        v_store(to + i * WIDTH, v_load(carried(k, row, block, i)));
}

INLINE void finish_tile(frnn_stage_kind kind, size_t sums_of_unit, bool standard, const stage_step *k, const tile *t)
{
    for (size_t r = 0; r < t->rows; r++)
        for (size_t b = 0; b < t->blocks; b++) {
            const real *from = t->sums + r * t->stride + b * sums_of_unit * WIDTH;
            vec sums[MOST_SUMS];
            UNROLL
            for (size_t i = 0; i < sums_of_unit; i++)
                sums[i] = v_load(from + i * WIDTH);
            if (k->tape)
                keep_sums(k, t->row + r, t->block + b, sums, sums_of_unit);
            store_units(k->y[t->row + r], t->block + b, k->stage->units,
                        finish_unit(kind, standard, k, t->row + r, t->block + b, sums));
            if (k->tape)
                keep_states(k, t->row + r, t->block + b, sums_of_unit);
        }
}

/* Ends the step for one tile, from its sums. */
static void finish(const stage_step *k, const tile *t)
{
    switch (k->stage->kind) {
#define FRNN_STAGE(KIND, first, G, S, handed)                                                                          \
    case FRNN_STAGE_##KIND:                                                                                            \
        if (k->stage->standard)                                                                                        \
            finish_tile(FRNN_STAGE_##KIND, S, true, k, t);                                                             \
        else                                                                                                           \
            finish_tile(FRNN_STAGE_##KIND, S, false, k, t);                                                            \
        break;
#include "../cells.def"
    case FRNN_STAGE_KINDS: assert(0 && "no kind");
    }
}
