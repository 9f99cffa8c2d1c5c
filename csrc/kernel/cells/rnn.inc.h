/* Elman: h' = act(sum). */
enum { RNN_ROW_BLOCKS = 8, RNN_BACK_ROW_BLOCKS = 0 };

INLINE vec finish_RNN(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    (void)row, (void)block;
    return candidate(standard, k->stage, sums[0]);
}

/* Gradients: h, of the sum. */
INLINE vec finish_RNN_BACK(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    const vec sum = v_load(taped(k, 0, row, block, 1));
    return candidate_back(standard, k->stage, sums[0], sum, candidate(standard, k->stage, sum));
}
