/* The calling thread's floating-point mode and exception flags, as one word, where this processor has one that the
 * library changes. */
#ifndef MODE_H
#define MODE_H

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

#if FRNN_X86
#include <xmmintrin.h>

/* As a program starts; the four roundings; subnormals flushed already; flags raised; every trap armed. */
static const uint64_t float_modes[] = {0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9fc0, 0x1fbf, 0x0000};

static inline uint64_t get_float_mode(void) { return _mm_getcsr(); }
static inline void set_float_mode(uint64_t mode) { _mm_setcsr((unsigned)mode); }

#elif FRNN_ARM64

#define FLAGS(bits) ((uint64_t)(bits) << 32)
static const uint64_t float_modes[] = {0, 1 << 22, 2 << 22, 3 << 22, 1 << 24, 1 << 25, FLAGS(0x9f)};

static inline uint64_t get_float_mode(void)
{
    uint64_t control, status;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(status));
    return FLAGS(status) | control;
}

static inline void set_float_mode(uint64_t mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode & 0xffffffff));
    __asm__ volatile("msr fpsr, %0" : : "r"(mode >> 32));
}

#else

static const uint64_t float_modes[] = {0};

static inline uint64_t get_float_mode(void) { return 0; }
static inline void set_float_mode(uint64_t mode) { (void)mode; }

#endif
#endif
