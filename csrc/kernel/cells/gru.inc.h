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
enum { GRU_RESET_ROW_BLOCKS = 0, GRU_NEW_ROW_BLOCKS = 0 };

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
