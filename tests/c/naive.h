/* The equations of docs/numerics.md as they stand there, in double, one row and one unit at a time: what a call should
 * give to within rounding, and exactly where it comes to NaN and infinity. */
#ifndef NAIVE_H
#define NAIVE_H

#include "layers.h"

static inline double naive_activation(const frnn_activation *a, double x)
{
    const double line = a->alpha * x + a->beta;
    switch (a->function) {
    case FRNN_TANH: return tanh(x);
    case FRNN_SIGMOID: return 1 / (1 + exp(-x));
    case FRNN_RELU: return x < 0 ? 0 : x;
    case FRNN_HARD_SIGMOID: return line < 0 ? 0 : line > 1 ? 1 : line;
    case FRNN_SOFTSIGN: return x / (1 + fabs(x));
    case FRNN_LINEAR: return line;
    }
    return x;
}

/* What goes into an activation, bounded. */
static inline double naive_clip(const frnn_spec *s, double x)
{
    return x > s->clip ? s->clip : x < -s->clip ? -s->clip : x;
}

static inline double naive_gate(const frnn_spec *s, double x)
{
    return naive_activation(&s->recurrent_activation, naive_clip(s, x));
}

static inline double naive_candidate(const frnn_spec *s, double x)
{
    return naive_activation(&s->activation, naive_clip(s, x));
}

/* One step of one layer in one direction. */
typedef struct naive {
    const layer *l;
    const frnn_weights *w;
    size_t I;
    const double *x;
    double *h, *c; /* in and out */
} naive;

static inline double naive_product(const naive *n, const void *weights, size_t row, const double *vector, size_t size)
{
    double sum = 0;
    for (size_t k = 0; k < size; k++)
        sum += get(weights, row * size + k, n->l->spec.dtype) * vector[k];
    return sum;
}

static inline double naive_x(const naive *n, size_t row)
{
    return naive_product(n, n->w->W, row, n->x, n->I) + get(n->w->b, row, n->l->spec.dtype);
}

static inline double naive_h(const naive *n, size_t row, const double *h)
{
    return naive_product(n, n->w->U, row, h, n->l->out) + get(n->w->d, row, n->l->spec.dtype);
}

static inline double naive_sum(const naive *n, size_t gate, size_t unit)
{
    const size_t row = gate * n->l->spec.hidden_size + unit;
    return naive_x(n, row) + naive_h(n, row, n->h);
}

static inline double naive_peephole(const naive *n, size_t gate, size_t unit, double c)
{
    return n->w->p ? get(n->w->p, gate * n->l->spec.hidden_size + unit, n->l->spec.dtype) * c : 0;
}

static inline double naive_lstm_unit(const naive *n, size_t u)
{
    const frnn_spec *s = &n->l->spec;
    const double c = n->c[u], i = naive_gate(s, naive_sum(n, 0, u) + naive_peephole(n, 0, u, c));
    const double f = s->input_forget ? 1 - i : naive_gate(s, naive_sum(n, 1, u) + naive_peephole(n, 1, u, c));
    const double next_c = f * c + i * naive_candidate(s, naive_sum(n, 2, u));
    n->c[u] = next_c;
    return naive_gate(s, naive_sum(n, 3, u) + naive_peephole(n, 2, u, next_c)) *
           naive_activation(&s->output_activation, next_c);
}

static inline double naive_gru_unit(const naive *n, size_t u, const double *reset_h)
{
    const frnn_spec *s = &n->l->spec;
    const size_t row = 2 * s->hidden_size + u;
    const double r = naive_gate(s, naive_sum(n, 0, u)), z = naive_gate(s, naive_sum(n, 1, u));
    const double from_h = s->reset_after ? r * naive_h(n, row, n->h) : naive_h(n, row, reset_h);
    return (1 - z) * naive_candidate(s, naive_x(n, row) + from_h) + z * n->h[u];
}

static inline void naive_step(const naive *n)
{
    const frnn_spec *s = &n->l->spec;
    double *next_h = allocate(s->hidden_size, sizeof *next_h), *reset_h = allocate(s->hidden_size, sizeof *reset_h);
    for (size_t u = 0; u < s->hidden_size && s->cell == FRNN_GRU; u++)
        reset_h[u] = naive_gate(s, naive_sum(n, 0, u)) * n->h[u];
    for (size_t u = 0; u < s->hidden_size; u++)
        switch (s->cell) {
        case FRNN_RNN: next_h[u] = naive_candidate(s, naive_sum(n, 0, u)); break;
        case FRNN_LSTM: next_h[u] = naive_lstm_unit(n, u); break;
        case FRNN_GRU: next_h[u] = naive_gru_unit(n, u, reset_h); break;
        case FRNN_CELLS: abort();
        }
    for (size_t u = 0; u < n->l->out; u++)
        n->h[u] = s->proj_size ? naive_product(n, n->w->V, u, next_h, s->hidden_size) : next_h[u];
    free(next_h), free(reset_h);
}

static inline double *naive_read(const void *from, size_t start, size_t n, frnn_dtype dtype)
{
    double *to = allocate(n, sizeof *to);
    for (size_t i = 0; i < n; i++)
        to[i] = get(from, start + i, dtype);
    return to;
}

/* One row of a batch through all layers: answers y, (length, D * out), for free. */
static inline double *naive_row(const layer *l, const batch *b, size_t row)
{
    const frnn_dtype dtype = l->spec.dtype;
    const size_t length = length_of(b, row), H = l->spec.hidden_size;
    size_t I = l->spec.input_size;
    double *x = allocate(length * I, sizeof *x);
    for (size_t i = 0; i < length * I; i++)
        x[i] = get(b->x, (i / I * b->B + row) * I + i % I, dtype);
    for (size_t index = 0; index < l->spec.num_layers * l->D; index += l->D) {
        double *y = allocate(length * y_width(l), sizeof *y);
        for (size_t d = 0; d < l->D; d++) {
            double *h = naive_read(b->h, ((index + d) * b->B + row) * l->out, l->out, dtype);
            double *c = naive_read(b->c, ((index + d) * b->B + row) * H, H, dtype);
            for (size_t step = 0; step < length; step++) {
                const size_t t = d || !l->spec.forward ? length - 1 - step : step;
                naive_step(&(naive){l, &l->weights[index + d], I, x + t * I, h, c});
                memcpy(y + t * y_width(l) + d * l->out, h, l->out * sizeof *h);
            }
            free(h), free(c);
        }
        free(x);
        x = y;
        I = y_width(l);
    }
    return x;
}

#endif
