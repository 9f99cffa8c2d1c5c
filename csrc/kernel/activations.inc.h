/* Element functions of a vector.
 *
 * tanh and sigmoid come from one core, e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln(2)/2:
 *   p = e^r - 1 = r + r^2 q(r), q minimax for the relative error of p: 2^-26.1 (float32), 2^-55.6 (float64);
 *       tools/fit_expm1.py finds the coefficients
 *   sigmoid(x) = e^x / (1 + e^x)
 *   tanh(x)    = (e^2x - 1) / (e^2x + 1), for |x|, and the sign put back: exactly odd
 * Largest errors over all finite inputs are in docs/numerics.md and are measured by tests/core/test_activations.py. What
 * dominates is the rounding of p and of the last sum and quotient, not q.
 *
 * v_min and v_max answer their second argument where one is NaN, so the bound stands first and NaN goes through. */

#if FRNN_BITS == 32
#define LOG2_E 0x1.715476p+0f
#define LN2_HIGH 0x1.62ep-1f /* 13 bits: n * LN2_HIGH is exact */
#define LN2_LOW 0x1.0bfbe8p-15f
#define LN2 0x1.62e43p-1f
#define ROUNDER (0x1.8p23f + 127) /* x + ROUNDER holds round(x) + 127 in its low bits */
#define SIGMOID_LOW -88.0f        /* n = -127: e^x is 0, as the subnormals below e^-87.34 are */
#define SIGMOID_HIGH 20.0f        /* 1 + e^x == e^x */
#define TANH_HIGH 10.0f           /* e^2x + 1 == e^2x - 1 */

#else
#define LOG2_E 0x1.71547652b82fep+0
#define LN2_HIGH 0x1.62e42fefa38p-1 /* 42 bits */
#define LN2_LOW 0x1.ef35793c7673p-45
#define LN2 0x1.62e42fefa39efp-1
#define ROUNDER (0x1.8p52 + 1023)
#define SIGMOID_LOW -709.0
#define SIGMOID_HIGH 40.0
#define TANH_HIGH 22.0
#endif

/* q of the head comment, lowest power first. */
#if FRNN_BITS == 32
#define Q_TERMS 0x1.fffffep-2f, 0x1.5554bp-3f, 0x1.555674p-5f, 0x1.122776p-7f, 0x1.6bec06p-10f
#else
#define Q_TERMS                                                                                                        \
    0x1.0000000000005p-1, 0x1.5555555555539p-3, 0x1.55555555522b8p-5, 0x1.1111111118fa8p-7, 0x1.6c16c17edb9d7p-10,     \
        0x1.a01a017515db3p-13, 0x1.a019a76f69422p-16, 0x1.71de880438a81p-19, 0x1.28a1dfdb81a97p-22,                    \
        0x1.ae6bac7350ca4p-26
#endif

/* q(r): pairs of terms, then Horner in r^2, which halves the chain. */
INLINE vec polynomial(vec r, vec r2)
{
    static const real terms[] = {Q_TERMS};
    enum { TERMS = sizeof terms / sizeof *terms, LAST = (TERMS - 1) / 2 * 2 };
    vec q = v_set1(terms[LAST]);
    if (LAST + 1 < TERMS)
        q = v_fma(v_set1(terms[(LAST + 1) % TERMS]), r, q);
    UNROLL
    for (int i = LAST - 2; i >= 0; i -= 2)
        q = v_fma(q, r2, v_fma(v_set1(terms[i + 1]), r, v_set1(terms[i])));
    return q;
}

/* e^x = scale * (1 + p), for SIGMOID_LOW <= x <= 2 * TANH_HIGH. `far`: x may be so far below 0 that n ln 2 needs both
 * of its parts. */
INLINE void exponential(vec x, bool far, vec *p, vec *scale)
{
    const vec rounded = v_fma(x, v_set1(LOG2_E), v_set1(ROUNDER));
    const vec n = v_sub(rounded, v_set1(ROUNDER));
    const vec r = far ? v_fma(n, v_set1(-LN2_LOW), v_fma(n, v_set1(-LN2_HIGH), x)) : v_fma(n, v_set1(-LN2), x);
    const vec r2 = v_mul(r, r);
    *p = v_fma(polynomial(r, r2), r2, r);
    *scale = v_exponent(rounded);
}

/* A quotient that is still to be divided, so that a product of two takes one division. Both parts are below 2^64. */
typedef struct quotient {
    vec over, under;
} quotient;

INLINE vec divide(quotient q) { return v_div(q.over, q.under); }

INLINE quotient times(quotient a, quotient b) { return (quotient){v_mul(a.over, b.over), v_mul(a.under, b.under)}; }

INLINE quotient sigmoid_quotient(vec x)
{
    vec p, scale;
    exponential(v_min(v_set1(SIGMOID_HIGH), v_max(v_set1(SIGMOID_LOW), x)), true, &p, &scale);
    return (quotient){v_fma(scale, p, scale), v_fma(scale, p, v_add(scale, v_set1(1)))};
}

INLINE quotient tanh_quotient(vec x)
{
    vec p, scale;
    const vec a = v_min(v_set1(TANH_HIGH), v_abs(x));
    exponential(v_add(a, a), false, &p, &scale);
    return (quotient){v_copysign(v_fma(scale, p, v_sub(scale, v_set1(1))), x),
                      v_fma(scale, p, v_add(scale, v_set1(1)))};
}

INLINE vec sigmoid(vec x) { return divide(sigmoid_quotient(x)); }

INLINE vec tanh_(vec x) { return divide(tanh_quotient(x)); }

INLINE vec relu(vec x) { return v_max(v_set1(0), x); }

INLINE vec linear(vec x, double alpha, double beta) { return v_fma(v_set1((real)alpha), x, v_set1((real)beta)); }

INLINE vec hard_sigmoid(vec x, double alpha, double beta)
{
    return v_max(v_set1(0), v_min(v_set1(1), linear(x, alpha, beta)));
}

INLINE vec softsign(vec x) { return v_div(x, v_add(v_set1(1), v_abs(x))); }

/* d times the slope, from y = act(x). At corners the slope is 0: relu at 0, hard_sigmoid at its bounds. */
INLINE vec sigmoid_slope(vec d, vec y) { return v_mul(v_mul(d, y), v_sub(v_set1(1), y)); }

INLINE vec tanh_slope(vec d, vec y) { return v_fma(v_mul(d, y), v_sub(v_set1(0), y), d); }

static OUTLINE vec slope_any(const frnn_activation *activation, vec d, vec x, vec y)
{
    switch (activation->function) {
    case FRNN_TANH: return tanh_slope(d, y);
    case FRNN_SIGMOID: return sigmoid_slope(d, y);
    case FRNN_RELU: return v_past_zero(x, d);
    case FRNN_HARD_SIGMOID: {
        const vec inside = linear(x, activation->alpha, activation->beta), slope = v_set1((real)activation->alpha);
        return v_past_zero(inside, v_past_zero(v_sub(v_set1(1), inside), v_mul(d, slope)));
    }
    case FRNN_SOFTSIGN: {
        const vec under = v_add(v_set1(1), v_abs(x));
        return v_div(v_div(d, under), under);
    }
    case FRNN_LINEAR: return v_mul(d, v_set1((real)activation->alpha));
    }
    return d;
}

/* Out of line: the kernels' standard text inlines tanh and sigmoid, and everything else comes here. */
static OUTLINE vec activate_any(const frnn_activation *activation, vec x)
{
    switch (activation->function) {
    case FRNN_TANH: return tanh_(x);
    case FRNN_SIGMOID: return sigmoid(x);
    case FRNN_RELU: return relu(x);
    case FRNN_HARD_SIGMOID: return hard_sigmoid(x, activation->alpha, activation->beta);
    case FRNN_SOFTSIGN: return softsign(x);
    case FRNN_LINEAR: return linear(x, activation->alpha, activation->beta);
    }
    return x;
}
