/* Advanced SIMD of 64-bit Arm. Minimum and maximum are written as comparisons, so that NaN and the sign of zero come
 * out as on the other targets. */
#include <arm_neon.h>
#include <string.h>

#define REGISTERS 32
#define ROWS_AT_HAND 5                             /* beside the sums of a sixth there is no room */
#define IN_ORDER __asm__ volatile("" ::: "memory") /* what follows is not loaded before */
#define PIN(a) __asm__("" : "+w"(a))               /* in a register, not read from memory by each use */

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
INLINE vec v_load_halves(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }

typedef int32x4_t ivec; /* an integer of 32 bits a lane */
typedef int8x16_t bvec; /* four bytes a lane */

INLINE ivec i_load(const int32_t *p) { return vld1q_s32(p); }
INLINE void i_store(int32_t *p, ivec a) { vst1q_s32(p, a); }
INLINE ivec i_set1(int32_t a) { return vdupq_n_s32(a); }
INLINE ivec i_add(ivec a, ivec b) { return vaddq_s32(a, b); }
INLINE ivec i_sub(ivec a, ivec b) { return vsubq_s32(a, b); }
INLINE ivec i_max(ivec a, ivec b) { return vmaxq_s32(a, b); }
INLINE ivec i_and(ivec a, ivec b) { return vandq_s32(a, b); }
INLINE ivec i_left(ivec a, int n) { return vshlq_s32(a, vdupq_n_s32(n)); }
INLINE ivec i_right(ivec a, int n) { return vshlq_s32(a, vdupq_n_s32(-n)); }
INLINE ivec i_bits(vec a) { return vreinterpretq_s32_f32(a); }
INLINE int32_t i_largest(ivec a) { return vmaxvq_s32(a); }
INLINE ivec i_round(vec a) { return vcvtnq_s32_f32(a); }
INLINE vec i_float(ivec a) { return vcvtq_f32_s32(a); }
INLINE void i_store_bytes(char *p, ivec a)
{
    const int16x4_t halves = vmovn_s32(a);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
    memcpy(p, &bytes, WIDTH);
}
INLINE bvec b_load(const char *p) { return vld1q_s8((const int8_t *)p); }
INLINE bvec b_set4(const char *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

INLINE ivec i_dot_signed(ivec sum, bvec w, bvec a)
{
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(a)), high = vmull_s8(vget_high_s8(w), vget_high_s8(a));
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}
INLINE ivec i_dot_unsigned(ivec sum, bvec w, bvec a) { return i_dot_signed(sum, w, a); } /* of bytes below 128 */

enum { INSTRUCTION_OFFSET = 0 }; /* it takes the bytes of `a` as signed */
INLINE ivec i_dot_instruction(ivec sum, bvec w, bvec a)
{
    __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(w), "w"(a));
    return sum;
}

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
