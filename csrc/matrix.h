/* A matrix of weights as a kernel reads it: the only place that knows the layout, which docs/packing.md draws.
 *
 * Rows belong to units: row gate * units + unit. `width` units are a block, whose weights are a panel,
 * [k < K][gate][lane]: a kernel that goes along k reads it from its first byte to its last. The last block's missing
 * units are zeros. Weights that are bytes lie in fours, [k / 4][gate][lane][k % 4], with zeros behind the last k. After
 * them come what a byte of each row stands for, a float, and the sum of the row's bytes, an int32: [gate][lane] each. */
#ifndef FRNN_MATRIX_H
#define FRNN_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a weight is stored. Halves are widened to the sums' format where a kernel reads them; bytes are multiplied by
 * integers, which x and h are made into (kernel/integers.inc.h): of 14 bits, or of 8. */
typedef enum frnn_format {
    FRNN_FORMAT_FLOAT32,
    FRNN_FORMAT_FLOAT64,
    FRNN_FORMAT_FLOAT16,
    FRNN_FORMAT_INT8,
    FRNN_FORMAT_INT8_FAST
} frnn_format;

enum {
    FRNN_FOUR = 4,             /* bytes that are multiplied and added at once */
    FRNN_INTEGERS_ALIGNED = 16 /* integers of a row are padded to a multiple of so many */
};

typedef struct frnn_matrix {
    const void *panels; /* [block][k < K][gate][lane] */
    size_t K, gates;    /* length of the rows that it is multiplied with; rows of a unit */
    size_t units, width;
    frnn_format format;
    bool dots;                 /* multiplied by the processor's instruction for products of bytes */
    size_t panel_bytes, bytes; /* of one block, and of all */
} frnn_matrix;

static inline bool frnn_format_is_integer(frnn_format format)
{
    return format == FRNN_FORMAT_INT8 || format == FRNN_FORMAT_INT8_FAST;
}

/* Bytes of one weight. */
static inline size_t frnn_format_bytes(frnn_format format)
{
    static const size_t bytes[] = {4, 8, 2, 1, 1};
    return bytes[format];
}

/* Bytes that one row of numbers is made into: one vector of K bytes for each of them that a number takes. 0: it is
 * multiplied as it is. */
static inline size_t frnn_matrix_vectors(const frnn_matrix *matrix)
{
    return matrix->format == FRNN_FORMAT_INT8 ? 2 : matrix->format == FRNN_FORMAT_INT8_FAST ? 1 : 0;
}

static inline size_t frnn_matrix_vector_bytes(const frnn_matrix *matrix)
{
    return (matrix->K + FRNN_INTEGERS_ALIGNED - 1) / FRNN_INTEGERS_ALIGNED * FRNN_INTEGERS_ALIGNED;
}

/* Columns of weights in a panel: one for each k, or for each four of them. */
static inline size_t frnn_matrix_columns(const frnn_matrix *matrix)
{
    return frnn_format_is_integer(matrix->format) ? (matrix->K + FRNN_FOUR - 1) / FRNN_FOUR : matrix->K;
}

/* A matrix without its panels, which are to have `bytes`. The caller has checked that these fit in size_t. */
frnn_matrix frnn_matrix_of(frnn_format format, size_t units, size_t gates, size_t K, size_t width);

/* Writes the panels from dense rows of the same format; scales: a float a row, of bytes. */
void frnn_matrix_pack(const frnn_matrix *matrix, void *panels, const void *rows, const float *scales);

/* Writes the panels of a matrix with one gate from `count` dense rows of its transpose, each of which is for one k, the
 * first for `from`. */
void frnn_matrix_pack_transposed(const frnn_matrix *matrix, void *panels, const void *rows, size_t from, size_t count);

/* The panel of a block. */
static inline const void *frnn_panel(const frnn_matrix *matrix, size_t block)
{
    return (const char *)matrix->panels + block * matrix->panel_bytes;
}

/* Where the vector of a gate's weights for one k is in a panel, in vectors. */
static inline size_t frnn_panel_column(size_t k, size_t gate, size_t gates) { return k * gates + gate; }

/* What comes after the bytes of a panel: a float, and then an int32, of each gate and lane. */
static inline const float *frnn_panel_scales(const frnn_matrix *matrix, size_t block)
{
    return (const float *)((const char *)frnn_panel(matrix, block) +
                           frnn_matrix_columns(matrix) * matrix->gates * matrix->width * FRNN_FOUR);
}

static inline const int32_t *frnn_panel_byte_sums(const frnn_matrix *matrix, size_t block)
{
    return (const int32_t *)(frnn_panel_scales(matrix, block) + matrix->gates * matrix->width);
}

/* Multiplications that a row takes, those with padding included. */
static inline double frnn_matrix_terms(const frnn_matrix *matrix)
{
    if (!matrix->K)
        return 0;
    return (double)((matrix->units + matrix->width - 1) / matrix->width * matrix->width * matrix->gates) *
           (double)matrix->K;
}

#endif
