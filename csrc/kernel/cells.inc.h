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

INLINE void finish_tile(frnn_stage_kind kind, size_t sums_of_unit, bool standard, const stage_step *k, const tile *t)
{
    for (size_t r = 0; r < t->rows; r++)
        for (size_t b = 0; b < t->blocks; b++) {
            const real *from = t->sums + r * t->stride + b * sums_of_unit * WIDTH;
            vec sums[MOST_SUMS];
            UNROLL
            for (size_t i = 0; i < sums_of_unit; i++)
                sums[i] = v_load(from + i * WIDTH);
            store_units(k->y[t->row + r], t->block + b, k->stage->units,
                        finish_unit(kind, standard, k, t->row + r, t->block + b, sums));
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
