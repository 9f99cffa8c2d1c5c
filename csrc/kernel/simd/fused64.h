/* a b + c rounded once, in integers: for systems whose C library rounds twice, as MinGW-w64's does on x86. Infinities,
 * NaN and zeros, which subnormals are here, are left to the processor. */
#include <float.h>

/* |x| = mantissa * 2^exponent, the mantissa having 53 bits. */
typedef struct parts {
    uint64_t mantissa;
    int exponent;
    bool negative;
} parts;

INLINE parts take_apart(double x)
{
    uint64_t word;
    memcpy(&word, &x, sizeof word);
    return (parts){(word & ((1ull << 52) - 1)) | 1ull << 52, (int)(word >> 52 & 0x7ff) - 1075, word >> 63};
}

/* Bits that are shifted out leave a trace in the lowest one. */
INLINE unsigned __int128 shift_right(unsigned __int128 x, int n)
{
    return n > 127 ? x != 0 : x >> n | (n > 0 && x << (128 - n) != 0);
}

/* To nearest, ties to even; flushed where the result is below the smallest normal number. */
INLINE double round_once(unsigned __int128 sum, int exponent, bool negative)
{
    const uint64_t high = (uint64_t)(sum >> 64);
    const int length = high ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)sum);
    const int excess = length - 55;
    uint64_t kept = (uint64_t)(excess > 0 ? shift_right(sum, excess) : sum << -excess); /* 55 bits: two to round by */
    kept = (kept >> 2) + ((kept & 3) > 1 && ((kept & 1) || (kept & 4)));
    exponent += excess + 2 + 1075; /* biased */
    exponent += (int)(kept >> 53);
    uint64_t word = (kept >> (kept >> 53)) & ((1ull << 52) - 1);
    word |= (uint64_t)(exponent & 0x7ff) << 52;
    word = exponent > 2046 ? 0x7ffull << 52 : exponent < 1 ? 0 : word;
    word |= (uint64_t)negative << 63;
    double result;
    memcpy(&result, &word, sizeof result);
    return result;
}

static __attribute__((noinline)) double fused(double a, double b, double c)
{
    if (!(fabs(a) <= DBL_MAX && fabs(b) <= DBL_MAX) || a == 0 || b == 0)
        return a * b + c;
    if (!(fabs(c) <= DBL_MAX))
        return c;
    const parts x = take_apart(a), y = take_apart(b), z = take_apart(c);
    unsigned __int128 product = (unsigned __int128)x.mantissa * y.mantissa, other = c == 0 ? 0 : z.mantissa;
    const bool negative = x.negative != y.negative;
    int exponent = x.exponent + y.exponent;
    const int above = z.exponent - exponent; /* of c's lowest bit above the product's */
    /* 20 bits are free above the product, and 73 above c, less one for the sum of both. */
    if (above > 73) {
        product = shift_right(product, above - 73);
        other <<= 73;
        exponent += above - 73;
    } else if (above >= 0) {
        other <<= above;
    } else {
        product <<= 20;
        exponent -= 20;
        other = above < -20 ? shift_right(other, -20 - above) : other << (20 + above);
    }
    if (negative == z.negative)
        return round_once(product + other, exponent, negative);
    if (product == other)
        return 0;
    return product > other ? round_once(product - other, exponent, negative)
                           : round_once(other - product, exponent, z.negative);
}
