/* What the sources take for granted of a processor and a compiler. Where it is not so, results would be wrong without a
 * word: so nothing is built. Every source sees this, through cpu.h. */
#ifndef FRNN_REQUIRE_H
#define FRNN_REQUIRE_H

#include <float.h>
#include <limits.h>
#include <stddef.h>

#if !defined(__GNUC__) && !defined(__clang__)
#error "fastrnn needs gcc or clang (on Windows: MinGW-w64 or LLVM), for its vector extensions and exact arithmetic"
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fastrnn needs a little-endian processor: on big-endian ones nothing has been tested"
#endif

#if defined(__FAST_MATH__) || __FINITE_MATH_ONLY__ || defined(__NO_SIGNED_ZEROS__) || defined(__ASSOCIATIVE_MATH__) || \
    defined(__RECIPROCAL_MATH__)
#error "fastrnn promises bits, NaN and the sign of zero: build it without -ffast-math and its parts"
#endif

#if FLT_EVAL_METHOD != 0
#error "fastrnn needs arithmetic in the operands' own precision (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

_Static_assert(CHAR_BIT == 8 && sizeof(size_t) >= 4, "fastrnn needs bytes of 8 bits and a size_t of 32 bits or more");
_Static_assert(FLT_RADIX == 2 && FLT_MANT_DIG == 24 && FLT_MIN_EXP == -125 && FLT_MAX_EXP == 128 && sizeof(float) == 4,
               "fastrnn needs float to be IEEE 754 binary32");
_Static_assert(DBL_MANT_DIG == 53 && DBL_MIN_EXP == -1021 && DBL_MAX_EXP == 1024 && sizeof(double) == 8,
               "fastrnn needs double to be IEEE 754 binary64");
_Static_assert(sizeof 1.0 == sizeof(double), "fastrnn needs constants in double: without -fsingle-precision-constant");

#endif
