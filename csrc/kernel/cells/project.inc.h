/* A projection: y = V h, h being what the stage before it made. */
enum { PROJECT_ROW_BLOCKS = 4, PROJECT_BACK_ROW_BLOCKS = 0 };

INLINE vec finish_PROJECT(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    (void)standard, (void)k, (void)row, (void)block;
    return sums[0];
}

INLINE vec finish_PROJECT_BACK(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    return finish_PROJECT(standard, k, row, block, sums);
}
