/* The cells: what becomes of a tile's sums. Equations: docs/numerics.md.
 *
 * `standard` is a constant: true for a layer with tanh and sigmoid in their places and no option, whose text then has no
 * branches and no calls. */

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

/* sums i f g o; c at `carry`; answers h'. Products of two quotients take one division. */
INLINE vec standard_lstm(const vec *sums, real *carry)
{
    const quotient i = sigmoid_quotient(sums[0]), g = tanh_quotient(sums[2]);
    const vec next = v_fma(sigmoid(sums[1]), v_load(carry), divide(times(i, g)));
    v_store(carry, next);
    return divide(times(sigmoid_quotient(sums[3]), tanh_quotient(next)));
}

INLINE vec other_lstm(const frnn_stage *stage, size_t block, const vec *sums, real *carry)
{
    const vec c = v_load(carry);
    const real *peephole = stage->peephole ? (const real *)stage->peephole + block * 3 * WIDTH : NULL;
    vec i = sums[0], f = sums[1], o = sums[3];
    if (peephole) {
        i = v_fma(v_load(peephole), c, i);
        f = v_fma(v_load(peephole + WIDTH), c, f);
    }
    i = gate(false, stage, i);
    f = stage->spec->input_forget ? v_sub(v_set1(1), i) : gate(false, stage, f);
    const vec g = candidate(false, stage, sums[2]);
    const vec next = v_fma(f, c, v_mul(i, g));
    v_store(carry, next);
    if (peephole)
        o = v_fma(v_load(peephole + 2 * WIDTH), next, o);
    o = gate(false, stage, o);
    return v_mul(o, activate_any(&stage->spec->output_activation, next));
}

/* (1 - z) n + z h: n comes last. Where z is 1, h stays as it is. */
INLINE vec blend(vec z, vec n, vec h) { return v_fma(v_sub(v_set1(1), z), n, v_mul(z, h)); }

/* sums r z n and n's recurrent part; answers h'. */
INLINE vec gru(bool standard, const frnn_stage *stage, const vec *sums, vec h)
{
    const vec r = gate(standard, stage, sums[0]), z = gate(standard, stage, sums[1]);
    const vec n = candidate(standard, stage, v_fma(r, sums[3], sums[2]));
    return blend(z, n, h);
}

/* sums r z; z goes to `carry`; answers r * h. */
INLINE vec gru_reset(bool standard, const frnn_stage *stage, const vec *sums, vec h, real *carry)
{
    v_store(carry, gate(standard, stage, sums[1]));
    return v_mul(gate(standard, stage, sums[0]), h);
}

INLINE real *carry_of(const stage_step *k, size_t row, size_t block)
{
    return k->carry + (row * k->stage->blocks + block) * WIDTH;
}

/* The equations of one block of units of one row. */
INLINE void finish_unit(frnn_stage_kind kind, bool standard, const stage_step *k, size_t r, size_t b, const vec *sums)
{
    const frnn_stage *stage = k->stage;
    const size_t unit = b * WIDTH, units = stage->units;
    vec y = sums[0];
    switch (kind) {
    case FRNN_STAGE_RNN: y = candidate(standard, stage, y); break;
    case FRNN_STAGE_LSTM:
        y = standard ? standard_lstm(sums, carry_of(k, r, b)) : other_lstm(stage, b, sums, carry_of(k, r, b));
        break;
    case FRNN_STAGE_GRU: y = gru(standard, stage, sums, load_units(k->previous[r], unit, units)); break;
    case FRNN_STAGE_GRU_RESET:
        y = gru_reset(standard, stage, sums, load_units(k->previous[r], unit, units), carry_of(k, r, b));
        break;
    case FRNN_STAGE_GRU_NEW:
        y = blend(v_load(carry_of(k, r, b)), candidate(standard, stage, y), load_units(k->previous[r], unit, units));
        break;
    case FRNN_STAGE_PROJECT: break;
    case FRNN_STAGE_KINDS: assert(0 && "no kind");
    }
    store_units(k->y[r], unit, units, y);
}

INLINE void finish_tile(frnn_stage_kind kind, bool standard, const stage_step *k, const tile *t)
{
    const size_t sums_of_unit = frnn_stage_sums(kind);
    for (size_t r = 0; r < t->rows; r++)
        for (size_t b = 0; b < t->blocks; b++) {
            const real *from = t->sums + r * t->stride + b * sums_of_unit * WIDTH;
            vec sums[4];
            UNROLL
            for (size_t i = 0; i < sums_of_unit; i++)
                sums[i] = v_load(from + i * WIDTH);
            finish_unit(kind, standard, k, t->row + r, t->block + b, sums);
        }
}

/* Ends the step for one tile, from its sums. */
static void finish(const stage_step *k, const tile *t)
{
    switch (k->stage->kind) {
#define FRNN_STAGE(kind, gates, sums)                                                                                  \
    case FRNN_STAGE_##kind:                                                                                            \
        if (k->stage->standard)                                                                                        \
            finish_tile(FRNN_STAGE_##kind, true, k, t);                                                                \
        else                                                                                                           \
            finish_tile(FRNN_STAGE_##kind, false, k, t);                                                               \
        break;
#include "../stages.def"
#undef FRNN_STAGE
    case FRNN_STAGE_KINDS: assert(0 && "no kind");
    }
}
