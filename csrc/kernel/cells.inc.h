/* The cells: what becomes of a tile's sums. Equations: docs/numerics.md.
 *
 * `usual` is a constant: true for a layer with tanh and sigmoid in their places and no option, whose text then has no
 * branches and no calls. */

INLINE vec activate(bool usual, frnn_function usually, const frnn_activation *activation, vec x)
{
    if (!usual)
        return activate_any(activation, x);
    return usually == FRNN_TANH ? tanh_(x) : sigmoid(x);
}

INLINE vec bound(bool usual, const frnn_stage *stage, vec x)
{
    return usual ? x : v_min(v_set1((real)stage->spec->clip), v_max(v_set1((real)-stage->spec->clip), x));
}

INLINE vec gate(bool usual, const frnn_stage *stage, vec sum)
{
    return activate(usual, FRNN_SIGMOID, &stage->spec->recurrent_activation, bound(usual, stage, sum));
}

INLINE vec candidate(bool usual, const frnn_stage *stage, vec sum)
{
    return activate(usual, FRNN_TANH, &stage->spec->activation, bound(usual, stage, sum));
}

/* Rows of units are dense: the last block reads and writes only the units that there are. */
INLINE vec load_units(const void *row, size_t unit, size_t units)
{
    const real *p = (const real *)row + unit;
    return units - unit >= WIDTH ? v_load(p) : v_load_n(p, units - unit);
}

INLINE void store_units(void *row, size_t unit, size_t units, vec a)
{
    real *p = (real *)row + unit;
    if (units - unit >= WIDTH)
        v_store(p, a);
    else
        v_store_n(p, units - unit, a);
}

INLINE vec sum(const real *sums, int i) { return v_load(sums + i * WIDTH); }

/* sums i f g o; c at `side`; answers h'. */
INLINE vec lstm(bool usual, const frnn_stage *stage, size_t block, const real *sums, real *side)
{
    const vec c = v_load(side);
    const real *peephole = usual || !stage->peephole ? NULL : (const real *)stage->peephole + block * 3 * WIDTH;
    vec i = sum(sums, 0), f = sum(sums, 1), o = sum(sums, 3);
    if (peephole) {
        i = v_fma(v_load(peephole), c, i);
        f = v_fma(v_load(peephole + WIDTH), c, f);
    }
    i = gate(usual, stage, i);
    f = usual || !stage->spec->input_forget ? gate(usual, stage, f) : v_sub(v_set1(1), i);
    const vec g = candidate(usual, stage, sum(sums, 2));
    const vec next = v_fma(f, c, v_mul(i, g));
    v_store(side, next);
    if (peephole)
        o = v_fma(v_load(peephole + 2 * WIDTH), next, o);
    o = gate(usual, stage, o);
    return v_mul(o, activate(usual, FRNN_TANH, &stage->spec->output_activation, next));
}

/* (1 - z) n + z h */
INLINE vec blend(vec z, vec n, vec h) { return v_fma(z, h, v_mul(v_sub(v_set1(1), z), n)); }

/* sums r z n and n's recurrent part; answers h'. */
INLINE vec gru(bool usual, const frnn_stage *stage, const real *sums, vec h)
{
    const vec r = gate(usual, stage, sum(sums, 0)), z = gate(usual, stage, sum(sums, 1));
    const vec n = candidate(usual, stage, v_fma(r, sum(sums, 3), sum(sums, 2)));
    return blend(z, n, h);
}

/* sums r z; z goes to `side`; answers r * h. */
INLINE vec gru_reset(bool usual, const frnn_stage *stage, const real *sums, vec h, real *side)
{
    v_store(side, gate(usual, stage, sum(sums, 1)));
    return v_mul(gate(usual, stage, sum(sums, 0)), h);
}

INLINE real *side_of(const frnn_stage *stage, const frnn_rows *rows, size_t row, size_t block)
{
    return (real *)rows->side + (row * stage->blocks + block) * WIDTH;
}

INLINE void finish_tile(frnn_stage_kind kind, bool usual, const frnn_stage *stage, const frnn_rows *rows, const tile *t)
{
    const size_t units = stage->units, sums_of_unit = frnn_stage_sums(kind) * WIDTH;
    for (size_t r = t->row; r < t->row + t->rows; r++)
        for (size_t b = t->block; b < t->block + t->blocks; b++) {
            const real *sums = t->sums + (r - t->row) * t->stride + (b - t->block) * sums_of_unit;
            const size_t unit = b * WIDTH;
            vec y = sum(sums, 0);
            switch (kind) {
            case FRNN_STAGE_RNN: y = candidate(usual, stage, y); break;
            case FRNN_STAGE_LSTM: y = lstm(usual, stage, b, sums, side_of(stage, rows, r, b)); break;
            case FRNN_STAGE_GRU: y = gru(usual, stage, sums, load_units(rows->previous[r], unit, units)); break;
            case FRNN_STAGE_GRU_RESET:
                y = gru_reset(usual, stage, sums, load_units(rows->previous[r], unit, units),
                              side_of(stage, rows, r, b));
                break;
            case FRNN_STAGE_GRU_NEW:
                y = blend(v_load(side_of(stage, rows, r, b)), candidate(usual, stage, y),
                          load_units(rows->previous[r], unit, units));
                break;
            case FRNN_STAGE_PROJECT: break;
            case FRNN_STAGE_KINDS: assert(!"no kind");
            }
            store_units(rows->y[r], unit, units, y);
        }
}

/* Ends the step for one tile, from its sums. */
static void finish(const frnn_stage *stage, const frnn_rows *rows, const tile *t)
{
    switch (stage->kind) {
#define FRNN_STAGE(kind, gates, sums)                                                                                  \
    case FRNN_STAGE_##kind:                                                                                            \
        if (stage->usual)                                                                                              \
            finish_tile(FRNN_STAGE_##kind, true, stage, rows, t);                                                      \
        else                                                                                                           \
            finish_tile(FRNN_STAGE_##kind, false, stage, rows, t);                                                     \
        break;
#include "../stages.def"
#undef FRNN_STAGE
    case FRNN_STAGE_KINDS: assert(!"no kind");
    }
}
