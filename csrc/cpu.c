#define _DEFAULT_SOURCE /* sizes of caches, on Linux */

#include "cpu.h"

#include <stdatomic.h>

/* What the system says of the second-level cache; 0: nothing. */
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <stdlib.h>

static size_t ask_l2_bytes(void)
{
    DWORD bytes = 0;
    size_t found = 0;
    GetLogicalProcessorInformation(NULL, &bytes); /* how many it has to say */
    SYSTEM_LOGICAL_PROCESSOR_INFORMATION *all = malloc(bytes ? bytes : 1);
    if (all && GetLogicalProcessorInformation(all, &bytes))
        for (size_t i = 0; i < bytes / sizeof *all && !found; i++)
            if (all[i].Relationship == RelationCache && all[i].Cache.Level == 2)
                found = all[i].Cache.Size;
    free(all);
    return found;
}

#elif defined(__APPLE__)
#include <sys/sysctl.h>

static size_t ask_system(const char *name)
{
    uint64_t number = 0; /* of 4 or 8 bytes: the low ones are written */
    size_t bytes = sizeof number;
    return sysctlbyname(name, &number, &bytes, NULL, 0) ? 0 : (size_t)number;
}

/* Apple's own processors: a cache for some of the fast cores. */
static size_t ask_l2_bytes(void)
{
    const size_t shared = ask_system("hw.perflevel0.l2cachesize"), cores = ask_system("hw.perflevel0.cpusperl2");
    return shared && cores ? shared / cores : ask_system("hw.l2cachesize");
}

#else
#include <unistd.h>

static size_t ask_l2_bytes(void)
{
#ifdef _SC_LEVEL2_CACHE_SIZE
    const long told = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return told > 0 ? (size_t)told : 0;
#else
    return 0;
#endif
}
#endif

size_t frnn_l2_bytes(void)
{
    static atomic_size_t known;
    size_t bytes = atomic_load_explicit(&known, memory_order_relaxed);
    if (!bytes)
        bytes = ask_l2_bytes();
    if (!bytes)
        bytes = (size_t)1 << 20;
    atomic_store_explicit(&known, bytes, memory_order_relaxed);
    return bytes;
}

#if FRNN_X86
#include <cpuid.h>
#include <xmmintrin.h>

/* XCR0: the register state that the operating system saves. It may be read only where CPUID reports OSXSAVE. */
static unsigned read_xcr0(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

unsigned frnn_cpu_features(void)
{
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;       /* leaf 1, ecx */
    const unsigned avx2 = 1u << 5, f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31; /* leaf 7, ebx */
    const unsigned avx512_vnni = 1u << 11, avx_vnni = 1u << 4; /* leaf 7, ecx; its subleaf 1, eax */
    const unsigned ymm_state = 0x06, zmm_state = 0xe6;         /* XCR0 */
    unsigned a, b, c, d, basic, found = 0;

    if (!__get_cpuid(1, &a, &b, &basic, &d) || (basic & (fma | osxsave | avx | f16c)) != (fma | osxsave | avx | f16c))
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    const unsigned state = read_xcr0();
    if ((state & ymm_state) == ymm_state && (b & avx2))
        found |= FRNN_CPU_AVX2;
    if (found && (state & zmm_state) == zmm_state && (b & (f | dq | bw | vl)) == (f | dq | bw | vl))
        found |= FRNN_CPU_AVX512 | (c & avx512_vnni ? FRNN_CPU_AVX512_VNNI : 0);
    if (found && a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & avx_vnni))
        found |= FRNN_CPU_AVX_VNNI;
    return found;
}

uint64_t frnn_enter_float_mode(void)
{
    const unsigned before = _mm_getcsr();
    _mm_setcsr(0x9fc0); /* flush to zero, denormals are zero, all exceptions masked, round to nearest */
    return before;
}

void frnn_leave_float_mode(uint64_t before) { _mm_setcsr((unsigned)before); }

#elif FRNN_ARM64

#if defined(__linux__)
#include <sys/auxv.h>

static bool has_dotprod(void) { return getauxval(AT_HWCAP) & 1u << 20; /* HWCAP_ASIMDDP */ }
#elif defined(__APPLE__)
static bool has_dotprod(void) { return ask_system("hw.optional.arm.FEAT_DotProd"); }
#else
static bool has_dotprod(void) { return false; }
#endif

unsigned frnn_cpu_features(void) { return FRNN_CPU_NEON | (has_dotprod() ? FRNN_CPU_DOTPROD : 0); }

/* The mode is in FPCR, the exception flags in FPSR; each has 32 bits that mean something. */
uint64_t frnn_enter_float_mode(void)
{
    uint64_t control, status;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("mrs %0, fpsr" : "=r"(status));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24)); /* flush to zero, no traps, round to nearest */
    return status << 32 | control;
}

void frnn_leave_float_mode(uint64_t before)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(before & 0xffffffff));
    __asm__ volatile("msr fpsr, %0" : : "r"(before >> 32));
}

#else

unsigned frnn_cpu_features(void) { return 0; }

uint64_t frnn_enter_float_mode(void) { return 0; }

void frnn_leave_float_mode(uint64_t before) { (void)before; }

#endif
