/* The equations of docs/numerics.md in float64 and plain loops, with a bound on how far a kernel may be from each
 * number.
 *
 * It is the one oracle of tests in C. It shares no text with the kernels and knows nothing of panels, chunks and
 * chains. The second oracle is Python's, fastrnn/reference/, in another language and with tolerances: an error in the
 * equations themselves would have to stand in both.
 *
 * Every number is a ball: a value, and how far the kernel's may be off. Bounds are those of a running error analysis, u
 * being the unit roundoff:
 *   an operation      u |value|, and the smallest normal number, since what is below it is flushed to zero
 *   a sum of n terms  (n + 4) u times the sum of the terms' magnitudes, in whatever order they are added
 *   tanh, sigmoid     8 u |value|: docs/numerics.md has 3 ulp, and an ulp is at most 2 u |value|
 * An error that comes in goes out times the operation's largest slope (1 of tanh, 1/4 of sigmoid), and never exceeds
 * the width of a function's range. So large weights and states that grow need no rule of their own: the bounds grow
 * with them. A number that might overflow, or that depends on whether something rounds to zero, is unknown: its bound is
 * infinity, and it is not compared. NaN and infinities that no rounding can change are known.
 *
 * What bytes multiply is off by half of what one of its integers stands for, and by its rounding.
 *
 * A new cell: a function of its equations beside rnn_step, and its line in cell_step. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "narrow.h"

/* The least that the largest integer of a row stands for: of x, and of what comes from h. */
#define LEAST_OF_X 0x1p-100
#define LEAST_OF_H 1.0

typedef struct ball {
    double v, e;
} ball;

typedef struct precision {
    double u, tiny, most;
} precision;

/* float64 is compared with float64, which errs as much. */
static inline precision precision_of(frnn_dtype dtype)
{
    return dtype == FRNN_FLOAT32 ? (precision){(double)FLT_EPSILON / 2, (double)FLT_MIN, (double)FLT_MAX}
                                 : (precision){2 * DBL_EPSILON / 2, DBL_MIN, DBL_MAX};
}

static const ball unknown = {0, (double)INFINITY};

static inline bool is_known(ball a) { return is_finite(a.e); }

static inline ball exact(double v) { return (ball){v, 0}; }

/* The result of an operation, its inputs' errors being e. */
static inline ball rounded(const precision *p, double v, double e, double roundings)
{
    if (!is_finite(e) || fabs(v) + e > p->most / 4) /* finite inputs, so an infinite v has overflowed */
        return unknown;
    return (ball){v, 1.001 * (e + roundings * p->u * (fabs(v) + e)) + 2 * p->tiny};
}

static inline bool may_be_zero(ball a) { return is_finite(a.v) && a.e > 0 && fabs(a.v) <= a.e; }

static inline ball multiply(const precision *p, ball a, ball b)
{
    if (!is_known(a) || !is_known(b))
        return unknown;
    if (is_finite(a.v) && is_finite(b.v))
        return rounded(p, a.v * b.v, fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e, 1);
    return may_be_zero(a) || may_be_zero(b) ? unknown : exact(a.v * b.v);
}

static inline ball add(const precision *p, ball a, ball b)
{
    if (!is_known(a) || !is_known(b))
        return unknown;
    return is_finite(a.v) && is_finite(b.v) ? rounded(p, a.v + b.v, a.e + b.e, 1) : exact(a.v + b.v);
}

typedef struct sum {
    double v, e, magnitude, terms;
} sum;

static inline void sum_number(sum *s, double number)
{
    s->v += number;
    s->magnitude += is_finite(number) ? fabs(number) : 0;
    s->terms++;
}

static inline void sum_products(sum *s, const precision *p, const double *weights, const ball *x, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        if (is_finite(weights[k]) && is_finite(x[k].v)) {
            s->v += weights[k] * x[k].v;
            s->e += fabs(weights[k]) * x[k].e;
            s->magnitude += fabs(weights[k]) * (fabs(x[k].v) + x[k].e);
        } else {
            const ball product = multiply(p, exact(weights[k]), x[k]);
            s->v += product.v;
            s->e += product.e;
        }
    }
    s->terms += (double)n;
}

static inline ball sum_end(const precision *p, sum s)
{
    if (!is_finite(s.e) || !(s.magnitude < p->most / 4)) /* else a part of the sum might overflow */
        return unknown;
    if (!is_finite(s.v))
        return exact(s.v);
    const double e = s.e + (s.terms + 4) * (p->u * s.magnitude + p->tiny);
    return rounded(p, s.v, e, 1);
}

static inline double least(double a, double b) { return a < b ? a : b; }

static inline ball clamp(ball x, double low, double high)
{
    if (!is_known(x) || is_nan(x.v))
        return x;
    return (ball){x.v < low ? low : x.v > high ? high : x.v, least(x.e, high - low)};
}

/* A number of an option, as kernels have it. */
static inline double in_dtype(const precision *p, double a)
{
    const double b = p->most < DBL_MAX ? (double)(float)a : a;
    return fabs(b) < p->tiny ? 0 : b;
}

static inline ball linear(const precision *p, frnn_activation f, ball x)
{
    return add(p, multiply(p, exact(in_dtype(p, f.alpha)), x), exact(in_dtype(p, f.beta)));
}

static inline ball activate(const precision *p, frnn_activation f, ball x)
{
    if (!is_known(x) || is_nan(x.v))
        return x;
    const double half = exp(-fabs(x.v)); /* e^-|x| never overflows */
    switch (f.function) {
    case FRNN_TANH: return rounded(p, tanh(x.v), least(x.e, 2), 8);
    case FRNN_SIGMOID: return rounded(p, x.v < 0 ? half / (1 + half) : 1 / (1 + half), least(x.e / 4, 1), 8);
    case FRNN_RELU: return (ball){x.v > 0 ? x.v : 0, x.e};
    case FRNN_HARD_SIGMOID: return clamp(linear(p, f, x), 0, 1);
    case FRNN_SOFTSIGN:
        return is_infinite(x.v) ? exact((double)NAN) : rounded(p, x.v / (1 + fabs(x.v)), least(x.e, 2), 4);
    case FRNN_LINEAR: return linear(p, f, x);
    }
    abort();
}

/* Weights in float64, as kernels take them: what is subnormal is zero. NULL where absent. */
typedef struct reference_weights {
    double *W, *U, *b, *d, *V, *p;
} reference_weights;

/* One step of one layer for one row. */
typedef struct row_step {
    precision p;
    const frnn_spec *spec;
    const reference_weights *w;
    size_t I, out;              /* sizes of the layer's input, and of its output */
    const ball *x, *multiplied; /* as the weights multiply them: x, and h */
    ball *h, *c;                /* the states, in and out */
    ball *next, *tmp;           /* H each: h' before a projection, and what an equation likes to keep */
} row_step;

/* What weights multiply in place of a row: itself, or integers. One number that is not finite, or not known, decides over
 * all. */
static inline void as_multiplied(const precision *p, const frnn_spec *spec, const ball *from, size_t n,
                                 double least_top, ball *to)
{
    const double top = spec->precision == FRNN_INT8_FAST ? 127 : 8191;
    double largest = least_top;
    bool all_known = true, all_finite = true;
    memmove(to, from, n * sizeof *to);
    if (spec->precision == FRNN_FULL || spec->precision == FRNN_FLOAT16)
        return;
    for (size_t k = 0; k < n; k++) {
        all_known = all_known && is_known(to[k]);
        all_finite = all_finite && is_finite(to[k].v);
        largest = fabs(to[k].v) + to[k].e > largest ? fabs(to[k].v) + to[k].e : largest;
    }
    for (size_t k = 0; k < n; k++) {
        to[k].e += 0.51 * largest / top + 4 * p->u * fabs(to[k].v);
        to[k] = !all_known ? unknown : !all_finite ? exact((double)NAN) : to[k];
    }
}

/* They add one row of b + W x, and of d + U h, to a sum. */
static inline void sum_x(sum *s, const row_step *k, size_t row)
{
    sum_number(s, k->w->b ? k->w->b[row] : 0);
    sum_products(s, &k->p, k->w->W + row * k->I, k->x, k->I);
}

static inline void sum_h(sum *s, const row_step *k, size_t row, const ball *h)
{
    sum_number(s, k->w->d ? k->w->d[row] : 0);
    sum_products(s, &k->p, k->w->U + row * k->out, h, k->out);
}

static inline ball from_x(const row_step *k, size_t row)
{
    sum s = {0};
    sum_x(&s, k, row);
    return sum_end(&k->p, s);
}

static inline ball from_h(const row_step *k, size_t row)
{
    sum s = {0};
    sum_h(&s, k, row, k->multiplied);
    return sum_end(&k->p, s);
}

/* b + W x + d + U h of a gate's unit. */
static inline ball from_both(const row_step *k, size_t gate, size_t unit, const ball *h)
{
    sum s = {0};
    sum_x(&s, k, gate * k->spec->hidden_size + unit);
    sum_h(&s, k, gate * k->spec->hidden_size + unit, h);
    return sum_end(&k->p, s);
}

static inline ball bounded(const row_step *k, ball x)
{
    const double clip = in_dtype(&k->p, k->spec->clip);
    return clamp(x, -clip, clip);
}

static inline ball gate(const row_step *k, ball s)
{
    return activate(&k->p, k->spec->recurrent_activation, bounded(k, s));
}

static inline ball candidate(const row_step *k, ball s) { return activate(&k->p, k->spec->activation, bounded(k, s)); }

static inline ball one_minus(const precision *p, ball a) { return add(p, exact(1), (ball){-a.v, a.e}); }

static inline void rnn_step(const row_step *k)
{
    for (size_t u = 0; u < k->spec->hidden_size; u++)
        k->next[u] = candidate(k, from_both(k, 0, u, k->multiplied));
}

/* Of i, f and o: s + p c. */
static inline ball with_peephole(const row_step *k, size_t which, size_t unit, ball s)
{
    const size_t H = k->spec->hidden_size;
    return k->w->p ? add(&k->p, s, multiply(&k->p, exact(k->w->p[which * H + unit]), k->c[unit])) : s;
}

static inline void lstm_step(const row_step *k)
{
    const precision *p = &k->p;
    for (size_t u = 0; u < k->spec->hidden_size; u++) {
        const ball i = gate(k, with_peephole(k, 0, u, from_both(k, 0, u, k->multiplied)));
        const ball f = k->spec->input_forget ? one_minus(p, i)
                                             : gate(k, with_peephole(k, 1, u, from_both(k, 1, u, k->multiplied)));
        const ball g = candidate(k, from_both(k, 2, u, k->multiplied));
        k->c[u] = add(p, multiply(p, f, k->c[u]), multiply(p, i, g));
        const ball o = gate(k, with_peephole(k, 2, u, from_both(k, 3, u, k->multiplied)));
        k->next[u] = multiply(p, o, activate(p, k->spec->output_activation, k->c[u]));
    }
}

/* The sum of n, where r acts after the product with U, or on h. */
static inline ball gru_new_sum(const row_step *k, size_t u, ball r, const ball *reset_h)
{
    const size_t row = 2 * k->spec->hidden_size + u;
    return k->spec->reset_after ? add(&k->p, from_x(k, row), multiply(&k->p, r, from_h(k, row)))
                                : from_both(k, 2, u, reset_h);
}

static inline void gru_step(const row_step *k)
{
    const precision *p = &k->p;
    for (size_t u = 0; u < k->spec->hidden_size; u++) {
        k->next[u] = gate(k, from_both(k, 0, u, k->multiplied)); /* r, until h' is known */
        k->tmp[u] = multiply(p, k->next[u], k->h[u]);
    }
    as_multiplied(p, k->spec, k->tmp, k->spec->hidden_size, LEAST_OF_H, k->tmp);
    for (size_t u = 0; u < k->spec->hidden_size; u++) {
        const ball z = gate(k, from_both(k, 1, u, k->multiplied));
        const ball n = candidate(k, gru_new_sum(k, u, k->next[u], k->tmp));
        k->next[u] = add(p, multiply(p, one_minus(p, z), n), multiply(p, z, k->h[u]));
    }
}

static inline void cell_step(const row_step *k)
{
    switch (k->spec->cell) {
    case FRNN_RNN: rnn_step(k); break;
    case FRNN_LSTM: lstm_step(k); break;
    case FRNN_GRU: gru_step(k); break;
    case FRNN_CELLS: abort();
    }
    if (k->spec->proj_size)
        as_multiplied(&k->p, k->spec, k->next, k->spec->hidden_size, LEAST_OF_H, k->next);
    for (size_t u = 0; u < k->out; u++) {
        sum s = {0};
        if (k->spec->proj_size)
            sum_products(&s, &k->p, k->w->V + u * k->spec->hidden_size, k->next, k->spec->hidden_size);
        k->h[u] = k->spec->proj_size ? sum_end(&k->p, s) : k->next[u];
    }
}

static inline double flushed(double value, frnn_dtype dtype) { return is_subnormal(value, dtype) ? 0 : value; }

static inline double *flushed_weights(layer *l, size_t i, size_t which)
{
    const void *from = *weight(l, i, which);
    const size_t n = weight_count(l, i, which);
    double *to = from ? allocate(n, sizeof *to) : NULL;
    for (size_t k = 0; k < n && from; k++)
        to[k] = flushed(get_weight(l, i, which, k), l->spec.dtype);
    return to;
}

/* As balls that are off by nothing; zeros where there is no array. */
static inline ball *balls(const void *from, size_t n, frnn_dtype dtype)
{
    ball *to = allocate(n, sizeof *to);
    for (size_t i = 0; i < n && from; i++)
        to[i].v = flushed(get(from, i, dtype), dtype);
    return to;
}

/* A batch's results, dense as those of a call; y is zero past a row's length. */
typedef struct reference {
    ball *y, *h, *c;
} reference;

static inline void free_reference(reference *r) { free(r->y), free(r->h), free(r->c); }

static inline void reference_layer(const layer *l, const batch *b, size_t i, const reference_weights *w, const ball *x,
                                   const reference *r)
{
    const size_t H = l->spec.hidden_size, I = input_size(l, i), d = i % l->D;
    ball *scratch = allocate(2 * H + I + l->out, sizeof *scratch), *of_x = scratch + 2 * H, *of_h = of_x + I;
    const precision p = precision_of(l->spec.dtype);
    for (size_t row = 0; row < b->B; row++)
        for (size_t step = 0, length = length_of(b, row); step < length; step++) {
            const size_t t = d || !l->spec.forward ? length - 1 - step : step, at = t * b->B + row;
            const row_step k = {.p = p,
                                .spec = &l->spec,
                                .w = w,
                                .I = I,
                                .out = l->out,
                                .x = of_x,
                                .multiplied = of_h,
                                .h = r->h + (i * b->B + row) * l->out,
                                .c = r->c + (i * b->B + row) * H,
                                .next = scratch,
                                .tmp = scratch + H};
            if (b->resets && b->resets[at]) {
                memset(k.h, 0, l->out * sizeof *k.h);
                memset(k.c, 0, H * sizeof *k.c);
            }
            as_multiplied(&p, &l->spec, x + at * I, I, LEAST_OF_X, of_x);
            as_multiplied(&p, &l->spec, k.h, l->out, LEAST_OF_H, of_h);
            cell_step(&k);
            memcpy(r->y + at * y_width(l) + d * l->out, k.h, l->out * sizeof *k.h);
        }
    free(scratch);
}

static inline reference reference_of(const layer *l, const batch *b)
{
    layer of = *l;
    const frnn_dtype dtype = l->spec.dtype;
    const size_t n = b->T * b->B * y_width(l);
    ball *x = balls(b->x, b->T * b->B * l->spec.input_size, dtype);
    const reference r = {balls(NULL, n, dtype), balls(b->h, h_count(l, b->B), dtype),
                         balls(b->c, c_count(l, b->B), dtype)};
    for (size_t i = 0; i < stacked(l); i++) {
        if (i && i % l->D == 0) {
            free(x);
            x = copy_of(r.y, n * sizeof *x);
        }
        double *all[WEIGHTS];
        for (size_t which = 0; which < WEIGHTS; which++)
            all[which] = flushed_weights(&of, i, which);
        const reference_weights w = {all[0], all[1], all[2], all[3], all[4], all[5]};
        reference_layer(l, b, i, &w, x, &r);
        for (size_t which = 0; which < WEIGHTS; which++)
            free(all[which]);
    }
    free(x);
    return r;
}

/* A state that no step takes comes back as it came, below the smallest normal number too. */
static inline bool is_within(double got, ball expected, frnn_dtype dtype)
{
    if (!is_known(expected))
        return true;
    if (!is_finite(expected.v))
        return is_nan(expected.v) ? is_nan(got) : got == expected.v;
    return fabs(got - expected.v) <= expected.e + least_normal(dtype);
}

static inline void must_be_within(const char *what, const void *got, const ball *expected, size_t n, frnn_dtype dtype)
{
    for (size_t i = 0; i < n; i++)
        if (!is_within(get(got, i, dtype), expected[i], dtype))
            fail("broken: results are those of the equations: %s: number %d of %d is %.17g, expected %.17g, off by at "
                 "most %.3g",
                 what, (int)i, (int)n, get(got, i, dtype), expected[i].v, expected[i].e);
}

/* Past a row's length the reference has zeros, as y has. */
static inline void check_reference(const layer *l, const batch *b, const result *r)
{
    reference expected = reference_of(l, b);
    must_be_within("y", r->y, expected.y, b->T * b->B * y_width(l), l->spec.dtype);
    must_be_within("h", r->h, expected.h, h_count(l, b->B), l->spec.dtype);
    must_be_within("c", r->c, expected.c, has_c(l) ? c_count(l, b->B) : 0, l->spec.dtype);
    free_reference(&expected);
}

#endif
