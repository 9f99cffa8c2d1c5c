/* One lane, any processor. The other headers of this folder define the same words. */
#include <math.h>
#include <string.h>

#define REGISTERS 16
#define PIN(a) (void)(a)
enum { WIDTH = 1 };

#if FRNN_BITS == 32
typedef float vec;
typedef uint32_t bits;
enum { MANTISSA_BITS = 23 };
#else
typedef double vec;
typedef uint64_t bits;
enum { MANTISSA_BITS = 52 };
#endif

INLINE vec v_load(const vec *p) { return *p; }
INLINE void v_store(vec *p, vec a) { *p = a; }
INLINE vec v_load_n(const vec *p, size_t n) { return (void)n, *p; }
INLINE void v_store_n(vec *p, size_t n, vec a) { (void)n, *p = a; }
INLINE vec v_set1(vec a) { return a; }
INLINE vec v_add(vec a, vec b) { return a + b; }
INLINE vec v_sub(vec a, vec b) { return a - b; }
INLINE vec v_mul(vec a, vec b) { return a * b; }
INLINE vec v_div(vec a, vec b) { return a / b; }
INLINE vec v_min(vec a, vec b) { return a < b ? a : b; }
INLINE vec v_max(vec a, vec b) { return a > b ? a : b; }
INLINE vec v_past_zero(vec a, vec b) { return a <= 0 ? 0 : b; } /* 0 where a <= 0, and b elsewhere and for NaN */

#if FRNN_BITS == 32
INLINE vec v_abs(vec a) { return fabsf(a); }
INLINE vec v_copysign(vec a, vec sign) { return copysignf(a, sign); }
#ifdef FP_FAST_FMAF
INLINE vec v_fma(vec a, vec b, vec c) { return fmaf(a, b, c); }
#else
/* Fused without the instruction: the product of two floats is exact in a double, and a sum that was rounded to odd can
 * be rounded once more without harm (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", 2008).
 * Out of line: it stands in every tile. */
static __attribute__((noinline)) vec v_fma(vec a, vec b, vec c)
{
    const double product = (double)a * b, sum = product + c, part = sum - product;
    const double error = (product - (sum - part)) + (c - part); /* NaN where the sum is not finite */
    uint64_t word;
    double odd;
    memcpy(&word, &sum, sizeof word);
    const uint64_t step = (error > 0) == (sum > 0) ? 1 : (uint64_t)-1;
    word += (error > 0 || error < 0) && !(word & 1) ? step : 0;
    memcpy(&odd, &word, sizeof odd);
    return (float)odd;
}
#endif
#else
INLINE vec v_abs(vec a) { return fabs(a); }
INLINE vec v_copysign(vec a, vec sign) { return copysign(a, sign); }
#if defined(_WIN32) && FRNN_X86 && !defined(FP_FAST_FMA)
#include "fused64.h"
INLINE vec v_fma(vec a, vec b, vec c) { return fused(a, b, c); }
#else
INLINE vec v_fma(vec a, vec b, vec c) { return fma(a, b, c); }
#endif
#endif

#if FRNN_BITS == 32
/* Of a half: all its numbers are floats. Out of line: it stands in every tile of one row. */
static OUTLINE vec v_load_halves(const uint16_t *p)
{
    const uint32_t exponent = *p >> 10 & 31, mantissa = *p & 1023u, sign = (uint32_t)(*p & 0x8000u) << 16;
    uint32_t word = sign | (exponent + 112) << 23 | mantissa << 13;
    float number;
    if (exponent == 31)
        word = sign | 0x7f800000u | mantissa << 13 | (mantissa ? 1u << 22 : 0);
    memcpy(&number, &word, sizeof number);
    if (!exponent) {
        number = (float)mantissa * 0x1p-24f;
        return sign ? -number : number;
    }
    return number;
}

typedef int32_t ivec; /* an integer of 32 bits a lane */
typedef struct bvec { /* four bytes a lane */
    int8_t bytes[4];
} bvec;

INLINE ivec i_load(const int32_t *p) { return *p; }
INLINE void i_store(int32_t *p, ivec a) { *p = a; }
INLINE ivec i_set1(int32_t a) { return a; }
INLINE ivec i_max(ivec a, ivec b) { return a > b ? a : b; }
INLINE ivec i_add(ivec a, ivec b) { return a + b; }
INLINE ivec i_sub(ivec a, ivec b) { return a - b; }
INLINE ivec i_and(ivec a, ivec b) { return a & b; }
INLINE ivec i_left(ivec a, int n) { return a * (1 << n); }
INLINE ivec i_right(ivec a, int n) { return a >> n; } /* every compiler that there is copies the sign */
INLINE ivec i_bits(vec a)
{
    ivec word;
    memcpy(&word, &a, sizeof word);
    return word;
}
INLINE int32_t i_largest(ivec a) { return a; }
INLINE ivec i_round(vec a) { return (ivec)lrintf(a); }
INLINE vec i_float(ivec a) { return (vec)a; }
INLINE void i_store_bytes(char *p, ivec a) { *p = (char)(uint8_t)a; }
INLINE bvec b_load(const char *p)
{
    bvec b;
    memcpy(b.bytes, p, sizeof b.bytes);
    return b;
}
INLINE bvec b_set4(const char *p) { return b_load(p); }

INLINE ivec i_dot_signed(ivec sum, bvec w, bvec a)
{
    for (int i = 0; i < 4; i++)
        sum += w.bytes[i] * a.bytes[i];
    return sum;
}
INLINE ivec i_dot_unsigned(ivec sum, bvec w, bvec a) { return i_dot_signed(sum, w, a); } /* of bytes below 128 */

enum { INSTRUCTION_OFFSET = 0 };
INLINE ivec i_dot_instruction(ivec sum, bvec w, bvec a) { return i_dot_signed(sum, w, a); } /* there is none */
#endif

INLINE vec v_exponent(vec a)
{
    bits word;
    memcpy(&word, &a, sizeof word);
    word <<= MANTISSA_BITS;
    memcpy(&a, &word, sizeof a);
    return a;
}
