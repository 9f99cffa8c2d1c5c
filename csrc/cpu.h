/* What this processor and its operating system can run, and its floating-point mode. */
#ifndef FRNN_CPU_H
#define FRNN_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "require.h"

#if defined(__x86_64__)
#define FRNN_X86 1
#else
#define FRNN_X86 0
#endif
#if defined(__aarch64__)
#define FRNN_ARM64 1
#else
#define FRNN_ARM64 0
#endif

/* Sets of features, as the targets need them. */
enum {
    FRNN_CPU_AVX2 = 1,         /* AVX2, FMA and F16C */
    FRNN_CPU_AVX512 = 2,       /* AVX-512 F, DQ, BW and VL, and what FRNN_CPU_AVX2 names */
    FRNN_CPU_NEON = 4,         /* Advanced SIMD with fused multiply-add: every 64-bit Arm */
    FRNN_CPU_AVX_VNNI = 8,     /* products of bytes in 256 bits */
    FRNN_CPU_AVX512_VNNI = 16, /* products of bytes in 512 bits */
    FRNN_CPU_DOTPROD = 32      /* products of bytes of Arm */
};

/* The FRNN_CPU_ sets that can be used here: the processor has them, and the system saves their registers. */
unsigned frnn_cpu_features(void);

/* Bytes of the second-level cache of a core, or its share of it, or a guess. Asked once: the answer may take long. */
size_t frnn_l2_bytes(void);

/* The calling thread's floating-point mode inside a call: round to nearest, no traps, subnormals flushed to zero as
 * inputs and as results. Restoring puts back the caller's mode, and its exception flags with it. */
uint64_t frnn_enter_float_mode(void);
void frnn_leave_float_mode(uint64_t before);

#endif
