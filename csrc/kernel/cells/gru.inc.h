/* GRU: h' = (1 - z) * n + z * h.
 *
 * GRU        sums r z, n's W x + b, n's U h + d: the reset gate acts after the product
 * GRU_RESET  sums r z: answers r * h, and hands z on
 * GRU_NEW    sum n of r * h */
#if REGISTERS == 32
enum { GRU_ROW_BLOCKS = 4 };
#else
enum { GRU_ROW_BLOCKS = 3 };
#endif
enum { GRU_RESET_ROW_BLOCKS = 4, GRU_NEW_ROW_BLOCKS = 4 };
enum { GRU_BACK_ROW_BLOCKS = 0, GRU_RESET_BACK_ROW_BLOCKS = 0, GRU_NEW_BACK_ROW_BLOCKS = 0 };

/* n comes last. Where z is 1, h stays as it is. */
INLINE vec blend(vec z, vec n, vec h) { return v_fma(v_sub(v_set1(1), z), n, v_mul(z, h)); }

INLINE vec finish_GRU(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    const vec r = gate(standard, k->stage, sums[0]), z = gate(standard, k->stage, sums[1]);
    const vec n = candidate(standard, k->stage, v_fma(r, sums[3], sums[2]));
    return blend(z, n, previous_h(k, row, block));
}

INLINE vec finish_GRU_RESET(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    v_store(carried(k, row, block, 0), gate(standard, k->stage, sums[1]));
    return v_mul(gate(standard, k->stage, sums[0]), previous_h(k, row, block));
}

INLINE vec finish_GRU_NEW(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    const vec z = v_load(carried(k, row, block, 0));
    return blend(z, candidate(standard, k->stage, sums[0]), previous_h(k, row, block));
}

INLINE vec past_h(const stage_step *k, size_t row, size_t block)
{
    return load_units(k->past->h[row], block, k->stage->units);
}

/* A step that is on the tape: its sums and gates, of_h being what the reset gate multiplied. */
typedef struct gru_step {
    vec sum_r, sum_z, of_h, sum_n, r, z, n;
} gru_step;

INLINE gru_step read_gru(bool standard, const stage_step *k, size_t row, size_t block)
{
    const real *tape = taped(k, 0, row, block, 4);
    gru_step s = {.sum_r = v_load(tape), .sum_z = v_load(tape + WIDTH), .of_h = v_load(tape + 3 * WIDTH)};
    s.r = gate(standard, k->stage, s.sum_r);
    s.z = gate(standard, k->stage, s.sum_z);
    s.sum_n = v_fma(s.r, s.of_h, v_load(tape + 2 * WIDTH));
    s.n = candidate(standard, k->stage, s.sum_n);
    return s;
}

/* What h' = blend(z, n, h) says of its parts. dh is the sum and what the later step has kept for this one: z dh of it. */
typedef struct blend_back {
    vec dn, dz;
} blend_back;

INLINE blend_back unblend(const stage_step *k, size_t row, size_t block, vec sum, vec z, vec n)
{
    real *kept = carried(k, row, block, 0);
    const vec dh = v_add(sum, v_load(kept));
    v_store(kept, v_mul(dh, z));
    return (blend_back){v_mul(dh, v_sub(v_set1(1), z)), v_mul(dh, v_sub(past_h(k, row, block), n))};
}

/* Gradients: n of U h, r, z, n of W x. */
INLINE vec finish_GRU_BACK(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    const frnn_stage *stage = k->stage;
    const size_t H = stage->units;
    const gru_step s = read_gru(standard, k, row, block);
    const blend_back d = unblend(k, row, block, sums[0], s.z, s.n);
    const vec dn = candidate_back(standard, stage, d.dn, s.sum_n, s.n);
    store_number(k, row, block, H, gate_back(standard, stage, v_mul(dn, s.of_h), s.sum_r, s.r));
    store_number(k, row, block, 2 * H, gate_back(standard, stage, d.dz, s.sum_z, s.z));
    store_number(k, row, block, 3 * H, dn);
    return v_mul(dn, s.r);
}

/* Gates r z n. */
INLINE void read_GRU(bool standard, const stage_step *k, size_t row, size_t block)
{
    const gru_step s = read_gru(standard, k, row, block);
    const vec all[] = {s.r, s.z, s.n};
    for (size_t i = 0; i < 3; i++)
        store_number(k, row, block, i * k->stage->units, all[i]);
}

/* Gradients r z n, and then r * h. This stage's are z and n: its rows begin at n, and z lies before it. */
INLINE vec finish_GRU_NEW_BACK(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    const frnn_stage *stage = k->stage;
    const vec sum_z = v_load(taped(k, 0, row, block, 2) + WIDTH), sum_n = v_load(taped(k, 1, row, block, 1));
    const vec z = gate(standard, stage, sum_z), n = candidate(standard, stage, sum_n);
    const blend_back d = unblend(k, row, block, sums[0], z, n);
    store_units((real *)k->y[row] - stage->units, block, stage->units, gate_back(standard, stage, d.dz, sum_z, z));
    return candidate_back(standard, stage, d.dn, sum_n, n);
}

INLINE vec finish_GRU_RESET_BACK(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    const vec sum_r = v_load(taped(k, 0, row, block, 2)), r = gate(standard, k->stage, sum_r);
    const vec h = past_h(k, row, block);
    real *kept = carried(k, row, block, 0);
    v_store(kept, v_fma(sums[0], r, v_load(kept)));
    store_number(k, row, block, 3 * k->stage->units, v_mul(r, h));
    return gate_back(standard, k->stage, v_mul(sums[0], h), sum_r, r);
}

/* Gates r z n, of both stages. */
INLINE void read_GRU_RESET(bool standard, const stage_step *k, size_t row, size_t block)
{
    const frnn_stage *stage = k->stage;
    const real *tape = taped(k, 0, row, block, 2);
    store_number(k, row, block, 0, gate(standard, stage, v_load(tape)));
    store_number(k, row, block, stage->units, gate(standard, stage, v_load(tape + WIDTH)));
    store_number(k, row, block, 2 * stage->units, candidate(standard, stage, v_load(taped(k, 1, row, block, 1))));
}
