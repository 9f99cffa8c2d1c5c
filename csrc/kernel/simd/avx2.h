/* AVX2 and FMA. */
#include <immintrin.h>

#define REGISTERS 16
#define PIN(a) __asm__("" : "+x"(a)) /* in a register, not read from memory by each use */

#if FRNN_BITS == 32
typedef __m256 vec;
enum { WIDTH = 8 };

/* The first n lanes. */
INLINE __m256i v_mask(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE vec v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vec a) { _mm256_storeu_ps(p, a); }
INLINE vec v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, v_mask(n)); }
INLINE void v_store_n(float *p, size_t n, vec a) { _mm256_maskstore_ps(p, v_mask(n), a); }
INLINE vec v_set1(float a) { return _mm256_set1_ps(a); }
INLINE vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm256_div_ps(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vec v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
INLINE vec v_past_zero(vec a, vec b) { return _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NLE_UQ), b); }
INLINE vec v_abs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE vec v_copysign(vec a, vec sign) { return _mm256_or_ps(v_abs(a), _mm256_and_ps(_mm256_set1_ps(-0.0f), sign)); }
INLINE vec v_exponent(vec a) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23)); }

#else
typedef __m256d vec;
enum { WIDTH = 4 };

INLINE __m256i v_mask(size_t n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), _mm256_setr_epi64x(0, 1, 2, 3));
}

INLINE vec v_load(const double *p) { return _mm256_loadu_pd(p); }
INLINE void v_store(double *p, vec a) { _mm256_storeu_pd(p, a); }
INLINE vec v_load_n(const double *p, size_t n) { return _mm256_maskload_pd(p, v_mask(n)); }
INLINE void v_store_n(double *p, size_t n, vec a) { _mm256_maskstore_pd(p, v_mask(n), a); }
INLINE vec v_set1(double a) { return _mm256_set1_pd(a); }
INLINE vec v_add(vec a, vec b) { return _mm256_add_pd(a, b); }
INLINE vec v_sub(vec a, vec b) { return _mm256_sub_pd(a, b); }
INLINE vec v_mul(vec a, vec b) { return _mm256_mul_pd(a, b); }
INLINE vec v_div(vec a, vec b) { return _mm256_div_pd(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
INLINE vec v_min(vec a, vec b) { return _mm256_min_pd(a, b); }
INLINE vec v_max(vec a, vec b) { return _mm256_max_pd(a, b); }
INLINE vec v_past_zero(vec a, vec b) { return _mm256_and_pd(_mm256_cmp_pd(a, _mm256_setzero_pd(), _CMP_NLE_UQ), b); }
INLINE vec v_abs(vec a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
INLINE vec v_copysign(vec a, vec sign) { return _mm256_or_pd(v_abs(a), _mm256_and_pd(_mm256_set1_pd(-0.0), sign)); }
INLINE vec v_exponent(vec a) { return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a), 52)); }
#endif
