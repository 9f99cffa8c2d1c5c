/* AVX-512 F, DQ, BW and VL. */
#include <immintrin.h>

#define REGISTERS 32
#define PIN(a) __asm__("" : "+v"(a)) /* in a register, not read from memory by each use */

#if FRNN_BITS == 32
typedef __m512 vec;
enum { WIDTH = 16 };

INLINE __mmask16 v_mask(size_t n) { return (__mmask16)((1u << n) - 1); }

INLINE vec v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vec a) { _mm512_storeu_ps(p, a); }
INLINE vec v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_mask(n), p); }
INLINE void v_store_n(float *p, size_t n, vec a) { _mm512_mask_storeu_ps(p, v_mask(n), a); }
INLINE vec v_set1(float a) { return _mm512_set1_ps(a); }
INLINE vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm512_div_ps(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vec v_min(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
INLINE vec v_past_zero(vec a, vec b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NLE_UQ), _mm512_setzero_ps(), b);
}
INLINE vec v_abs(vec a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
INLINE vec v_copysign(vec a, vec sign) { return _mm512_or_ps(v_abs(a), _mm512_and_ps(_mm512_set1_ps(-0.0f), sign)); }
INLINE vec v_exponent(vec a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23)); }
INLINE vec v_load_halves(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }

typedef __m512i ivec; /* an integer of 32 bits a lane */
typedef __m512i bvec; /* four bytes a lane */

INLINE ivec i_load(const int32_t *p) { return _mm512_loadu_si512(p); }
INLINE void i_store(int32_t *p, ivec a) { _mm512_storeu_si512(p, a); }
INLINE ivec i_set1(int32_t a) { return _mm512_set1_epi32(a); }
INLINE ivec i_add(ivec a, ivec b) { return _mm512_add_epi32(a, b); }
INLINE ivec i_sub(ivec a, ivec b) { return _mm512_sub_epi32(a, b); }
INLINE ivec i_max(ivec a, ivec b) { return _mm512_max_epi32(a, b); }
INLINE ivec i_and(ivec a, ivec b) { return _mm512_and_si512(a, b); }
INLINE ivec i_left(ivec a, unsigned n) { return _mm512_slli_epi32(a, n); }
INLINE ivec i_right(ivec a, unsigned n) { return _mm512_srai_epi32(a, n); }
INLINE ivec i_bits(vec a) { return _mm512_castps_si512(a); }
INLINE int32_t i_largest(ivec a) { return _mm512_reduce_max_epi32(a); }
INLINE ivec i_round(vec a) { return _mm512_cvtps_epi32(a); }
INLINE vec i_float(ivec a) { return _mm512_cvtepi32_ps(a); }
INLINE void i_store_bytes(char *p, ivec a) { _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(a)); }
INLINE bvec b_load(const char *p) { return _mm512_loadu_si512(p); }
INLINE bvec b_set4(const char *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

INLINE ivec i_dot_unsigned(ivec sum, bvec w, bvec a)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(a, w), _mm512_set1_epi16(1)));
}
INLINE ivec i_dot_signed(ivec sum, bvec w, bvec a)
{
    const bvec turned = _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(w), _mm512_setzero_si512(), a);
    return i_dot_unsigned(sum, turned, _mm512_abs_epi8(w)); /* w may be -128, a is not */
}

/* The compiler's own text of this instruction copies registers. */
enum { INSTRUCTION_OFFSET = 128 }; /* it takes the bytes of `a` as unsigned */
INLINE ivec i_dot_instruction(ivec sum, bvec w, bvec a)
{
    __asm__("vpdpbusd %1, %2, %0" : "+v"(sum) : "v"(w), "v"(a));
    return sum;
}

#else
typedef __m512d vec;
enum { WIDTH = 8 };

INLINE __mmask8 v_mask(size_t n) { return (__mmask8)((1u << n) - 1); }

INLINE vec v_load(const double *p) { return _mm512_loadu_pd(p); }
INLINE void v_store(double *p, vec a) { _mm512_storeu_pd(p, a); }
INLINE vec v_load_n(const double *p, size_t n) { return _mm512_maskz_loadu_pd(v_mask(n), p); }
INLINE void v_store_n(double *p, size_t n, vec a) { _mm512_mask_storeu_pd(p, v_mask(n), a); }
INLINE vec v_set1(double a) { return _mm512_set1_pd(a); }
INLINE vec v_add(vec a, vec b) { return _mm512_add_pd(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm512_sub_pd(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm512_mul_pd(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm512_div_pd(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
INLINE vec v_min(vec a, vec b) { return _mm512_min_pd(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm512_max_pd(a, b); }
INLINE vec v_past_zero(vec a, vec b)
{
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, _mm512_setzero_pd(), _CMP_NLE_UQ), _mm512_setzero_pd(), b);
}
INLINE vec v_abs(vec a) { return _mm512_andnot_pd(_mm512_set1_pd(-0.0), a); }
INLINE vec v_copysign(vec a, vec sign) { return _mm512_or_pd(v_abs(a), _mm512_and_pd(_mm512_set1_pd(-0.0), sign)); }
INLINE vec v_exponent(vec a) { return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a), 52)); }
#endif
