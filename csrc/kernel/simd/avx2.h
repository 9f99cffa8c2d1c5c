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
INLINE vec v_load_halves(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }

typedef __m256i ivec; /* an integer of 32 bits a lane */
typedef __m256i bvec; /* four bytes a lane */

INLINE ivec i_load(const int32_t *p) { return _mm256_loadu_si256((const void *)p); }
INLINE void i_store(int32_t *p, ivec a) { _mm256_storeu_si256((void *)p, a); }
INLINE ivec i_set1(int32_t a) { return _mm256_set1_epi32(a); }
INLINE ivec i_add(ivec a, ivec b) { return _mm256_add_epi32(a, b); }
INLINE ivec i_sub(ivec a, ivec b) { return _mm256_sub_epi32(a, b); }
INLINE ivec i_max(ivec a, ivec b) { return _mm256_max_epi32(a, b); }
INLINE ivec i_and(ivec a, ivec b) { return _mm256_and_si256(a, b); }
INLINE ivec i_left(ivec a, int n) { return _mm256_slli_epi32(a, n); }
INLINE ivec i_right(ivec a, int n) { return _mm256_srai_epi32(a, n); }
INLINE ivec i_bits(vec a) { return _mm256_castps_si256(a); }
INLINE int32_t i_largest(ivec a)
{
    __m128i most = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1)));
}
INLINE ivec i_round(vec a) { return _mm256_cvtps_epi32(a); }
INLINE vec i_float(ivec a) { return _mm256_cvtepi32_ps(a); }
INLINE void i_store_bytes(char *p, ivec a)
{
    const ivec lowest = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1,
                                         -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const ivec bytes = _mm256_shuffle_epi8(a, lowest);
    _mm_storel_epi64((void *)p, _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
}
INLINE bvec b_load(const char *p) { return _mm256_loadu_si256((const void *)p); }
INLINE bvec b_set4(const char *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}

INLINE ivec i_dot_unsigned(ivec sum, bvec w, bvec a)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, w), _mm256_set1_epi16(1)));
}
INLINE ivec i_dot_signed(ivec sum, bvec w, bvec a)
{
    return i_dot_unsigned(sum, _mm256_sign_epi8(a, w), _mm256_abs_epi8(w)); /* w may be -128, a is not */
}

/* The compiler's own text of this instruction copies registers, and needs its flag. */
enum { INSTRUCTION_OFFSET = 128 }; /* it takes the bytes of `a` as unsigned */
INLINE ivec i_dot_instruction(ivec sum, bvec w, bvec a)
{
    __asm__("%{vex%} vpdpbusd %1, %2, %0" : "+x"(sum) : "x"(w), "x"(a));
    return sum;
}

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
