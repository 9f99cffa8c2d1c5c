/* A matrix of weights as a kernel reads it: the only place that knows the layout, which docs/packing.md draws.
 *
 * Rows belong to units: row gate * units + unit. `width` units are a block, whose weights are a panel,
 * [k < K][gate][lane]: a kernel that goes along k reads it from its first byte to its last. The last block's missing
 * units are zeros. */
#ifndef FRNN_MATRIX_H
#define FRNN_MATRIX_H

#include <stddef.h>

/* How a weight is stored. A format that is not that of the sums is widened where a kernel reads it:
 * kernel/product.inc.h, load_weights. */
typedef enum frnn_format { FRNN_FORMAT_FLOAT32, FRNN_FORMAT_FLOAT64 } frnn_format;

typedef struct frnn_matrix {
    const void *panels; /* [block][k < K][gate][lane] */
    size_t K, gates;    /* length of the rows that it is multiplied with; rows of a unit */
    size_t units, width;
    frnn_format format;
    size_t panel_bytes, bytes; /* of one block, and of all */
} frnn_matrix;

static inline size_t frnn_format_bytes(frnn_format format) { return format == FRNN_FORMAT_FLOAT32 ? 4 : 8; }

/* A matrix without its panels, which are to have `bytes`. The caller has checked that these fit in size_t. */
frnn_matrix frnn_matrix_of(frnn_format format, size_t units, size_t gates, size_t K, size_t width);

/* Bytes of all weights for one k: K times as many are its panels. */
static inline size_t frnn_matrix_column_bytes(const frnn_matrix *matrix)
{
    return (matrix->units + matrix->width - 1) / matrix->width * matrix->width * matrix->gates *
           frnn_format_bytes(matrix->format);
}

/* Writes the panels from dense rows of the same format. */
void frnn_matrix_pack(const frnn_matrix *matrix, void *panels, const void *rows);

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

/* Multiplications that a row takes, those with padding included. */
static inline double frnn_matrix_terms(const frnn_matrix *matrix)
{
    return (double)matrix->bytes / (double)frnn_format_bytes(matrix->format);
}

#endif
