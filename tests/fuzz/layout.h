/* Arrays in other memory than dense: either axis outside, gaps, steps backward, and strides that mean nothing where an
 * axis has no second element. Gaps are NaN, and must stay as they are. Beyond the last number lies nothing: the
 * sanitizer sees who goes there. */

typedef struct placed {
    char *memory, *start; /* the allocation, and the first number */
    size_t bytes, outers, rows, row_bytes;
    ptrdiff_t outer, row;
} placed;

/* One axis of n, a stride apart: where to start so that all of it lies above 0. */
static size_t turn_axis(input *in, size_t n, size_t element, ptrdiff_t *stride)
{
    static const ptrdiff_t any[] = {0, 1, -1, PTRDIFF_MAX / 16, PTRDIFF_MIN / 16, 12345};
    if (n < 2) {
        if (chance(in, 4))
            *stride = PICK_OF(in, any) * (ptrdiff_t)element;
        return 0;
    }
    if (!chance(in, 4))
        return 0;
    *stride = -*stride;
    return (n - 1) * (size_t)-*stride;
}

/* shared: all rows are alike, so they may lie in one place. */
static placed place(input *in, size_t outers, size_t rows, size_t numbers, size_t element, bool shared)
{
    placed a = {.outers = outers, .rows = rows, .row_bytes = numbers * element};
    const size_t gap = chance(in, 2) ? element * pick(in, 5) : 0, wide_gap = chance(in, 2) ? element * pick(in, 4) : 0;
    const bool row_outside = chance(in, 3), one_row = shared && rows && chance(in, 2);
    const size_t near = a.row_bytes + gap, inner = row_outside ? outers : rows;
    const size_t far = near * (one_row && !row_outside ? 1 : inner) + wide_gap;
    a.row = one_row ? 0 : (ptrdiff_t)(row_outside ? far : near);
    a.outer = (ptrdiff_t)(row_outside ? near : far);
    if (outers && rows)
        a.bytes = (outers - 1) * (size_t)a.outer + (rows - 1) * (size_t)a.row + a.row_bytes;
    a.memory = take(a.bytes);
    memset(a.memory, 0xff, a.bytes);
    a.start = a.memory + turn_axis(in, outers, element, &a.outer);
    a.start += one_row ? 0 : turn_axis(in, rows, element, &a.row);
    return a;
}

static char *row_at(const placed *a, size_t outer, size_t row)
{
    return a->start + (ptrdiff_t)outer * a->outer + (ptrdiff_t)row * a->row;
}

static void scatter(const placed *a, const numbers *dense)
{
    for (size_t i = 0; i < a->outers * a->rows; i++)
        memcpy(row_at(a, i / a->rows, i % a->rows), (char *)dense->data + i * a->row_bytes, a->row_bytes);
}

static void *copy_of(const numbers *a, size_t element)
{
    void *copy = take(a->n * element);
    memcpy(copy, a->data, a->n * element);
    return copy;
}

/* Numbers from a to b are those of the same place in dense arrays: equal to the bit, NaN being NaN. */
static void check_same(const problem *p, const char *what, const void *got, const void *expected, size_t n)
{
    for (size_t i = 0; i < n && memcmp(got, expected, n * p->element) != 0; i++) {
        const double a = number_of(p, got, i), b = number_of(p, expected, i);
        if (memcmp((char *)got + i * p->element, (char *)expected + i * p->element, p->element) != 0 &&
            !(isnan(a) && isnan(b)))
            fail("%s: number %zu of %zu is %.17g (%a), expected %.17g (%a)", what, i, n, a, a, b, b);
    }
}

/* All but the rows is as `place` left it. Takes the rows' numbers away. */
static void check_gaps(const placed *a, const char *what)
{
    for (size_t i = 0; i < a->outers * a->rows; i++)
        memset(row_at(a, i / a->rows, i % a->rows), 0xff, a->row_bytes);
    for (size_t i = 0; i < a->bytes; i++)
        if ((unsigned char)a->memory[i] != 0xff)
            fail("%s: byte %zu of %zu, in a gap, was written", what, i, a->bytes);
}
