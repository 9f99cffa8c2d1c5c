/* Packing transposes: lanes of a panel's vector are rows of the matrix. It goes through the matrix in squares of some
 * rows by one cache line, each transposed in registers: a line that is read is read once, and the lines that are written
 * are in the first-level cache until they are full. */
#include "matrix.h"

#include <stdint.h>
#include <string.h>

frnn_matrix frnn_matrix_of(frnn_format format, size_t units, size_t gates, size_t K, size_t width)
{
    frnn_matrix matrix = {.K = K, .gates = gates, .units = units, .width = width, .format = format};
    const size_t lanes = gates * width, columns = frnn_matrix_columns(&matrix);
    if (!K)
        return matrix;
    const bool integer = frnn_format_is_integer(format);
    size_t row_bytes; /* of a lane of a gate: a row of the matrix */
    const bool too_large =
        __builtin_mul_overflow(columns, integer ? FRNN_FOUR : frnn_format_bytes(format), &row_bytes) ||
        __builtin_add_overflow(row_bytes, integer ? sizeof(float) + sizeof(int32_t) : 0, &row_bytes) ||
        __builtin_mul_overflow(lanes, row_bytes, &matrix.panel_bytes) ||
        __builtin_mul_overflow((units + width - 1) / width, matrix.panel_bytes, &matrix.bytes);
    if (too_large)
        matrix.bytes = SIZE_MAX; /* which cannot be had */
    return matrix;
}

/* A vector of words, of the least registers that every processor has. */
typedef uint32_t words4 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

#if defined(__clang__)
#define SHUFFLE4(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define SHUFFLE2(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE4(a, b, ...) __builtin_shuffle(a, b, (words4){__VA_ARGS__})
#define SHUFFLE2(a, b, ...) __builtin_shuffle(a, b, (words2){__VA_ARGS__})
#endif

/* Four rows by four columns of 4 bytes: columns come out `to_step` bytes apart. */
static inline void transpose4(char *to, size_t to_step, const char *const rows[], size_t at)
{
    words4 r[4];
    for (int i = 0; i < 4; i++)
        memcpy(&r[i], rows[i] + at, sizeof r[i]);
    const words4 low01 = SHUFFLE4(r[0], r[1], 0, 4, 1, 5), high01 = SHUFFLE4(r[0], r[1], 2, 6, 3, 7);
    const words4 low23 = SHUFFLE4(r[2], r[3], 0, 4, 1, 5), high23 = SHUFFLE4(r[2], r[3], 2, 6, 3, 7);
    const words4 columns[] = {SHUFFLE4(low01, low23, 0, 1, 4, 5), SHUFFLE4(low01, low23, 2, 3, 6, 7),
                              SHUFFLE4(high01, high23, 0, 1, 4, 5), SHUFFLE4(high01, high23, 2, 3, 6, 7)};
    for (size_t i = 0; i < 4; i++)
        memcpy(to + i * to_step, &columns[i], sizeof columns[i]);
}

/* Two rows by two columns of 8 bytes. */
static inline void transpose2(char *to, size_t to_step, const char *const rows[], size_t at)
{
    words2 r[2];
    for (int i = 0; i < 2; i++)
        memcpy(&r[i], rows[i] + at, sizeof r[i]);
    const words2 columns[] = {SHUFFLE2(r[0], r[1], 0, 2), SHUFFLE2(r[0], r[1], 1, 3)};
    for (size_t i = 0; i < 2; i++)
        memcpy(to + i * to_step, &columns[i], sizeof columns[i]);
}

/* Some lanes of one gate of one panel, for k from `from` up to `to_k`, number by number: for the edges. */
static void pack_numbers(const frnn_matrix *m, char *to, size_t to_step, const char *const rows[], size_t lanes,
                         size_t from, size_t to_k)
{
    const size_t bytes = frnn_format_bytes(m->format);
    for (size_t k = from; k < to_k; k++)
        for (size_t lane = 0; lane < lanes; lane++)
            memcpy(to + (k - from) * to_step + lane * bytes, rows[lane] + k * bytes, bytes);
}

enum { LINE = 64, SQUARE = 16 }; /* bytes of a cache line, and of a register */

/* One gate of one panel, whose first `lanes` units there are. */
static void pack_gate(const frnn_matrix *m, char *panel, size_t gate, const char *row, size_t lanes)
{
    const size_t bytes = frnn_format_bytes(m->format), step = m->gates * m->width * bytes;
    const size_t row_bytes = m->K * bytes, n = SQUARE / bytes, whole = row_bytes / SQUARE * SQUARE;
    char *to = panel + frnn_panel_column(0, gate, m->gates) * m->width * bytes;
    for (size_t line = 0; line < row_bytes; line += LINE)
        for (size_t lane = 0; lane < lanes; lane += n) {
            const size_t some = lanes - lane < n ? lanes - lane : n, end = line + LINE;
            const char *rows[SQUARE];
            for (size_t i = 0; i < some; i++)
                rows[i] = row + (lane + i) * row_bytes;
            size_t at = line;
            for (; some == n && at < end && at < whole; at += SQUARE) {
                char *corner = to + at / bytes * step + lane * bytes;
                if (bytes == 4)
                    transpose4(corner, step, rows, at);
                else if (bytes == 8)
                    transpose2(corner, step, rows, at);
                else
                    pack_numbers(m, corner, step, rows, n, at / bytes, (at + SQUARE) / bytes);
            }
            pack_numbers(m, to + at / bytes * step + lane * bytes, step, rows, some, at / bytes,
                         (end < row_bytes ? end : row_bytes) / bytes);
        }
}

/* One gate of one panel of bytes. */
static void pack_bytes(const frnn_matrix *m, char *panel, size_t gate, const int8_t *row, const float *scales,
                       size_t lanes)
{
    const size_t vector = m->width * FRNN_FOUR, columns = frnn_matrix_columns(m);
    char *after = panel + columns * m->gates * vector + gate * m->width * sizeof(float);
    for (size_t lane = 0; lane < lanes; lane++, row += m->K) {
        char *to = panel + gate * vector + lane * FRNN_FOUR;
        int32_t sum = 0;
        for (size_t k = 0; k < m->K; k += FRNN_FOUR, to += m->gates * vector) {
            int8_t four[FRNN_FOUR] = {0};
            memcpy(four, row + k, m->K - k < FRNN_FOUR ? m->K - k : FRNN_FOUR);
            memcpy(to, four, sizeof four);
            sum += four[0] + four[1] + four[2] + four[3];
        }
        memcpy(after + lane * sizeof(float), &scales[lane], sizeof(float));
        memcpy(after + (m->gates * m->width + lane) * sizeof(float), &sum, sizeof sum);
    }
}

void frnn_matrix_pack(const frnn_matrix *m, void *panels, const void *rows, const float *scales)
{
    const size_t bytes = frnn_format_bytes(m->format);
    for (size_t unit = 0, block = 0; unit < m->units; unit += m->width, block++) {
        char *panel = (char *)panels + block * m->panel_bytes;
        const size_t lanes = m->units - unit < m->width ? m->units - unit : m->width;
        if (lanes < m->width)
            memset(panel, 0, m->panel_bytes);
        for (size_t gate = 0; gate < m->gates; gate++) {
            const size_t row = gate * m->units + unit;
            const char *first = (const char *)rows + row * m->K * bytes;
            if (frnn_format_is_integer(m->format))
                pack_bytes(m, panel, gate, (const int8_t *)first, scales + row, lanes);
            else
                pack_gate(m, panel, gate, first, lanes);
        }
    }
}

/* Row by row: each is read from end to end, which the processor foresees, and fills whole lines of every panel. */
void frnn_matrix_pack_transposed(const frnn_matrix *m, void *panels, const void *rows, size_t from, size_t count)
{
    const size_t bytes = frnn_format_bytes(m->format), step = m->width * bytes;
    for (size_t k = 0; k < count; k++) {
        char *to = (char *)panels + (from + k) * step;
        for (size_t unit = 0; unit < m->units; unit += m->width, to += m->panel_bytes) {
            const size_t some = (m->units - unit < m->width ? m->units - unit : m->width) * bytes;
            memcpy(to, (const char *)rows + (k * m->units + unit) * bytes, some);
            memset(to + some, 0, step - some);
        }
    }
}
