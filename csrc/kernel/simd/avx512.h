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
