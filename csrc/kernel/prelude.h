/* What every kernel text starts from: the number type, and how it is inlined and unrolled. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "../kernel.h"

#if FRNN_BITS == 32
typedef float real;
#elif FRNN_BITS == 64
typedef double real;
#else
#error "FRNN_BITS must be 32 or 64"
#endif

/* Specialisation is by inlining into a caller that passes constants. */
#define INLINE static inline __attribute__((always_inline))

/* Kept as one function, so that what is inlined into it stands there once. */
#define OUTLINE __attribute__((noinline))

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

/* Asks for a line to be brought into the second-level cache. The address may be anywhere. */
#define PREFETCH(address) __builtin_prefetch((address), 0, 2)

/* Asks for a line to be brought into the nearest cache, to be written. */
#define PREFETCH_TO_WRITE(address) __builtin_prefetch((address), 1, 3)
