/* Advanced SIMD of 64-bit Arm. Minimum and maximum are written as comparisons, so that NaN and the sign of zero come
 * out as on the other targets. */
#include <arm_neon.h>
#include <string.h>

#define REGISTERS 32
#define PIN(a) __asm__("" : "+w"(a)) /* in a register, not read from memory by each use */

#if FRNN_BITS == 32
typedef float32x4_t vec;
enum { WIDTH = 4 };

INLINE vec v_load(const float *p) { return vld1q_f32(p); }
INLINE void v_store(float *p, vec a) { vst1q_f32(p, a); }
INLINE vec v_set1(float a) { return vdupq_n_f32(a); }
INLINE vec v_add(vec a, vec b) { return vaddq_f32(a, b); }
INLINE vec v_sub(vec a, vec b) { return vsubq_f32(a, b); }
INLINE vec v_mul(vec a, vec b) { return vmulq_f32(a, b); }
INLINE vec v_div(vec a, vec b) { return vdivq_f32(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
INLINE vec v_min(vec a, vec b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
INLINE vec v_max(vec a, vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE vec v_past_zero(vec a, vec b) { return vbslq_f32(vcleq_f32(a, vdupq_n_f32(0)), vdupq_n_f32(0), b); }
INLINE vec v_abs(vec a) { return vabsq_f32(a); }
INLINE vec v_copysign(vec a, vec sign) { return vbslq_f32(vdupq_n_u32(1u << 31), sign, a); }
INLINE vec v_exponent(vec a) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a), 23)); }

#else
typedef float64x2_t vec;
enum { WIDTH = 2 };

INLINE vec v_load(const double *p) { return vld1q_f64(p); }
INLINE void v_store(double *p, vec a) { vst1q_f64(p, a); }
INLINE vec v_set1(double a) { return vdupq_n_f64(a); }
INLINE vec v_add(vec a, vec b) { return vaddq_f64(a, b); }
INLINE vec v_sub(vec a, vec b) { return vsubq_f64(a, b); }
INLINE vec v_mul(vec a, vec b) { return vmulq_f64(a, b); }
INLINE vec v_div(vec a, vec b) { return vdivq_f64(a, b); }
INLINE vec v_fma(vec a, vec b, vec c) { return vfmaq_f64(c, a, b); }
INLINE vec v_min(vec a, vec b) { return vbslq_f64(vcltq_f64(a, b), a, b); }
INLINE vec v_max(vec a, vec b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }
INLINE vec v_past_zero(vec a, vec b) { return vbslq_f64(vcleq_f64(a, vdupq_n_f64(0)), vdupq_n_f64(0), b); }
INLINE vec v_abs(vec a) { return vabsq_f64(a); }
INLINE vec v_copysign(vec a, vec sign) { return vbslq_f64(vdupq_n_u64(1ull << 63), sign, a); }
INLINE vec v_exponent(vec a) { return vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(a), 52)); }
#endif

INLINE vec v_load_n(const real *p, size_t n)
{
    real lanes[WIDTH] = {0};
    memcpy(lanes, p, n * sizeof(real));
    return v_load(lanes);
}

INLINE void v_store_n(real *p, size_t n, vec a)
{
    real lanes[WIDTH];
    v_store(lanes, a);
    memcpy(p, lanes, n * sizeof(real));
}
