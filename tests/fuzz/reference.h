/* What docs/numerics.md says in float64 and plain loops, with a bound on how far a kernel may be from it.
 *
 * Every number is a ball: a value, and how far the kernel's may be off. Bounds are those of a running error analysis, u
 * being the unit roundoff:
 *   an operation      u |value|, and the smallest normal number, since what is below it is flushed to zero
 *   a sum of n terms  (n + 4) u times the sum of the terms' magnitudes, in whatever order they are added
 *   tanh, sigmoid     8 u |value|: docs/numerics.md has 3 ulp, and an ulp is at most 2 u |value|
 * An error that comes in goes out times the operation's largest slope (1 of tanh, 1/4 of sigmoid), and never exceeds the
 * width of a function's range. So large weights and states that grow need no rule of their own: the bounds grow with
 * them. A number that might overflow, or that depends on whether something rounds to zero, is unknown, which is a bound
 * of infinity, and is not compared. NaN and infinities that no rounding can change are known. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

typedef struct ball {
    double v, e;
} ball;

typedef struct precision {
    double u, tiny, most;
} precision;

/* float64 is compared with float64, which errs as much. */
static precision precision_of(frnn_dtype dtype)
{
    return dtype == FRNN_FLOAT32 ? (precision){FLT_EPSILON / 2, FLT_MIN, FLT_MAX}
                                 : (precision){2 * DBL_EPSILON / 2, DBL_MIN, DBL_MAX};
}

static const ball unknown = {0, INFINITY};

static bool is_known(ball a) { return isfinite(a.e); }

static ball exact(double v) { return (ball){v, 0}; }

/* The result of an operation, its inputs' errors being e. */
static ball rounded(const precision *p, double v, double e, double roundings)
{
    if (!isfinite(e) || fabs(v) + e > p->most / 4) /* finite inputs, so an infinite v has overflowed */
        return unknown;
    return (ball){v, 1.001 * (e + roundings * p->u * (fabs(v) + e)) + 2 * p->tiny};
}

static bool may_be_zero(ball a) { return isfinite(a.v) && a.e > 0 && fabs(a.v) <= a.e; }

static ball multiply(const precision *p, ball a, ball b)
{
    if (!is_known(a) || !is_known(b))
        return unknown;
    if (isfinite(a.v) && isfinite(b.v))
        return rounded(p, a.v * b.v, fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e, 1);
    return may_be_zero(a) || may_be_zero(b) ? unknown : exact(a.v * b.v);
}

static ball add(const precision *p, ball a, ball b)
{
    if (!is_known(a) || !is_known(b))
        return unknown;
    return isfinite(a.v) && isfinite(b.v) ? rounded(p, a.v + b.v, a.e + b.e, 1) : exact(a.v + b.v);
}

typedef struct sum {
    double v, e, magnitude, terms;
} sum;

static void sum_number(sum *s, double number)
{
    s->v += number;
    s->magnitude += isfinite(number) ? fabs(number) : 0;
    s->terms++;
}

static void sum_products(sum *s, const precision *p, const double *weights, const ball *x, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        if (isfinite(weights[k]) && isfinite(x[k].v)) {
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

static ball sum_end(const precision *p, sum s)
{
    if (!isfinite(s.e) || !(s.magnitude < p->most / 4)) /* else a part of the sum might overflow */
        return unknown;
    if (!isfinite(s.v))
        return exact(s.v);
    const double e = s.e + (s.terms + 4) * (p->u * s.magnitude + p->tiny);
    return rounded(p, s.v, e, 1);
}

static double least(double a, double b) { return a < b ? a : b; }

static ball clamp(ball x, double low, double high)
{
    if (!is_known(x) || isnan(x.v))
        return x;
    return (ball){x.v < low ? low : x.v > high ? high : x.v, least(x.e, high - low)};
}

/* A number of an option, as kernels have it. */
static double in_dtype(const precision *p, double a)
{
    const double b = p->most == FLT_MAX ? (double)(float)a : a;
    return fabs(b) < p->tiny ? 0 : b;
}

static ball linear(const precision *p, frnn_activation f, ball x)
{
    return add(p, multiply(p, exact(in_dtype(p, f.alpha)), x), exact(in_dtype(p, f.beta)));
}

static ball activate(const precision *p, frnn_activation f, ball x)
{
    if (!is_known(x) || isnan(x.v))
        return x;
    const double half = exp(-fabs(x.v)); /* e^-|x| never overflows */
    switch (f.function) {
    case FRNN_TANH: return rounded(p, tanh(x.v), least(x.e, 2), 8);
    case FRNN_SIGMOID: return rounded(p, x.v < 0 ? half / (1 + half) : 1 / (1 + half), least(x.e / 4, 1), 8);
    case FRNN_RELU: return (ball){x.v > 0 ? x.v : 0, x.e};
    case FRNN_HARD_SIGMOID: return clamp(linear(p, f, x), 0, 1);
    case FRNN_SOFTSIGN: return isinf(x.v) ? exact(NAN) : rounded(p, x.v / (1 + fabs(x.v)), least(x.e, 2), 4);
    case FRNN_LINEAR: return linear(p, f, x);
    }
    abort();
}

/* The arrays of a layer in one direction, as frnn_weights has them; NULL where absent. */
typedef struct reference_weights {
    const double *W, *U, *b, *d, *V, *p;
    size_t I;
} reference_weights;

/* One step of one layer for one row. */
typedef struct cell {
    precision p;
    const frnn_spec *spec;
    const reference_weights *w;
    size_t out;
    const ball *x;
    ball *h, *c;
} cell;

/* b + W x, or d + U h, or the sum of both, of one row of the weights. */
static ball gate_sum(const cell *k, size_t row, bool with_x, bool with_h, const ball *h)
{
    const reference_weights *w = k->w;
    sum s = {0};
    if (with_x) {
        sum_number(&s, w->b ? w->b[row] : 0);
        sum_products(&s, &k->p, w->W + row * w->I, k->x, w->I);
    }
    if (with_h) {
        sum_number(&s, w->d ? w->d[row] : 0);
        sum_products(&s, &k->p, w->U + row * k->out, h, k->out);
    }
    return sum_end(&k->p, s);
}

static ball bounded(const cell *k, ball x)
{
    const double clip = in_dtype(&k->p, k->spec->clip);
    return clamp(x, -clip, clip);
}

static ball gate(const cell *k, ball s) { return activate(&k->p, k->spec->recurrent_activation, bounded(k, s)); }

static ball candidate(const cell *k, ball s) { return activate(&k->p, k->spec->activation, bounded(k, s)); }

static ball one_minus(const precision *p, ball a) { return add(p, exact(1), (ball){-a.v, a.e}); }

static ball with_peephole(const cell *k, size_t which, size_t unit, ball s, ball c)
{
    return k->w->p ? add(&k->p, s, multiply(&k->p, exact(k->w->p[which * k->spec->hidden_size + unit]), c)) : s;
}

static void lstm_step(const cell *k, ball *next)
{
    const size_t H = k->spec->hidden_size;
    const precision *p = &k->p;
    ball *whole = malloc(H * sizeof *whole);
    for (size_t u = 0; u < H; u++) {
        const ball i = gate(k, with_peephole(k, 0, u, gate_sum(k, u, true, true, k->h), k->c[u]));
        const ball f = k->spec->input_forget
                           ? one_minus(p, i)
                           : gate(k, with_peephole(k, 1, u, gate_sum(k, H + u, true, true, k->h), k->c[u]));
        const ball g = candidate(k, gate_sum(k, 2 * H + u, true, true, k->h));
        k->c[u] = add(p, multiply(p, f, k->c[u]), multiply(p, i, g));
        const ball o = gate(k, with_peephole(k, 2, u, gate_sum(k, 3 * H + u, true, true, k->h), k->c[u]));
        whole[u] = multiply(p, o, activate(p, k->spec->output_activation, k->c[u]));
    }
    for (size_t u = 0; u < k->out; u++) {
        sum s = {0};
        if (k->spec->proj_size)
            sum_products(&s, p, k->w->V + u * H, whole, H);
        next[u] = k->spec->proj_size ? sum_end(p, s) : whole[u];
    }
    free(whole);
}

static void gru_step(const cell *k, ball *next)
{
    const size_t H = k->spec->hidden_size;
    const precision *p = &k->p;
    ball *r = malloc(2 * H * sizeof *r), *reset = r + H;
    for (size_t u = 0; u < H; u++) {
        r[u] = gate(k, gate_sum(k, u, true, true, k->h));
        reset[u] = multiply(p, r[u], k->h[u]);
    }
    for (size_t u = 0; u < H; u++) {
        const ball z = gate(k, gate_sum(k, H + u, true, true, k->h));
        ball s = gate_sum(k, 2 * H + u, true, true, reset);
        if (k->spec->reset_after)
            s = add(p, gate_sum(k, 2 * H + u, true, false, k->h),
                    multiply(p, r[u], gate_sum(k, 2 * H + u, false, true, k->h)));
        const ball n = candidate(k, s);
        next[u] = add(p, multiply(p, one_minus(p, z), n), multiply(p, z, k->h[u]));
    }
    free(r);
}

static void cell_step(const cell *k)
{
    ball *next = malloc(k->out * sizeof *next);
    switch (k->spec->cell) {
    case FRNN_RNN:
        for (size_t u = 0; u < k->out; u++)
            next[u] = candidate(k, gate_sum(k, u, true, true, k->h));
        break;
    case FRNN_LSTM: lstm_step(k, next); break;
    case FRNN_GRU: gru_step(k, next); break;
    case FRNN_CELLS: abort();
    }
    memcpy(k->h, next, k->out * sizeof *next);
    free(next);
}

/* A whole call, all arrays dense. x: (T, B, I). y: (T, B, D*out). h, c: states in, and out. */
typedef struct reference_call {
    const frnn_spec *spec;
    const reference_weights *weights;
    size_t T, B;
    const size_t *lengths;
    ball *x, *y, *h, *c;
} reference_call;

static void reference_layer(const reference_call *call, size_t layer, size_t direction, const ball *in, ball *y)
{
    const frnn_spec *spec = call->spec;
    const size_t D = (size_t)spec->forward + (size_t)spec->reverse,
                 out = spec->proj_size ? spec->proj_size : spec->hidden_size;
    const size_t index = layer * D + direction, I = call->weights[index].I;
    const bool reverse = direction || !spec->forward;
    for (size_t row = 0; row < call->B; row++) {
        const size_t length = call->lengths ? call->lengths[row] : call->T;
        for (size_t step = 0; step < length; step++) {
            const size_t place = (reverse ? length - 1 - step : step) * call->B + row;
            const cell k = {.p = precision_of(spec->dtype),
                            .spec = spec,
                            .w = &call->weights[index],
                            .out = out,
                            .x = in + place * I,
                            .h = call->h + (index * call->B + row) * out,
                            .c = call->c + (index * call->B + row) * spec->hidden_size};
            cell_step(&k);
            memcpy(y + place * D * out + direction * out, k.h, out * sizeof *y);
        }
    }
}

/* What y has past a row's length is left to the caller, who fills y with zeros. */
static void reference_run(const reference_call *call)
{
    const frnn_spec *spec = call->spec;
    const size_t D = (size_t)spec->forward + (size_t)spec->reverse,
                 out = spec->proj_size ? spec->proj_size : spec->hidden_size;
    const size_t numbers = call->T * call->B * D * out;
    ball *in = malloc((numbers + 1) * sizeof *in);
    for (size_t layer = 0; layer < spec->num_layers; layer++) {
        if (layer)
            memcpy(in, call->y, numbers * sizeof *in);
        for (size_t direction = 0; direction < D; direction++)
            reference_layer(call, layer, direction, layer ? in : call->x, call->y);
    }
    free(in);
}
