"""Find the constants of csrc/kernel/activations.inc.h: run it to print them.

p(r) = r + r^2 q(r) stands for e^r - 1 on |r| <= ln(2)/2. q is the polynomial of a given degree whose largest relative
error of p is least, by Remez' exchange: at degree + 2 points the errors are made equal with alternating signs, then the
points are moved to where the error is largest, until they stay. The error of p is r times that of q to first order, so
its sign is turned at r < 0, which lets the alternation hold through zero. ln 2 is split so that n times its first
part is exact for every n that can come up.
"""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np

BOUND = mp.log(2) / 2 * mp.mpf("1.0001")  # rounding x / ln 2 may overshoot a little
GRID = 2001  # odd: zero, where the error says nothing, is no point of it


def solve(points: list[Any], degree: int) -> list[Any]:
    """Coefficients of q for which the error alternates with one size at the points."""
    count = degree + 1
    matrix, right = mp.matrix(count + 1, count + 1), mp.matrix(count + 1, 1)
    for i, r in enumerate(points):
        for j in range(count):
            matrix[i, j] = r ** (j + 2) / mp.expm1(r)
        matrix[i, count] = (-1) ** i * mp.sign(r)
        right[i] = 1 - r / mp.expm1(r)
    return list(mp.lu_solve(matrix, right))[:count]


def error(r: Any, q: list[Any]) -> Any:
    """Relative error of p at r, with the sign turned where r < 0."""
    p = r + sum(c * r ** (j + 2) for j, c in enumerate(q))
    return mp.sign(r) * (p / mp.expm1(r) - 1)


def extremes(q: list[Any], count: int) -> list[Any]:
    """Where the error is largest between its changes of sign: `count` points."""
    best: list[tuple[Any, Any]] = []
    for i in range(GRID + 1):
        r = BOUND * (mp.mpf(2 * i) / GRID - 1)
        e = error(r, q)
        if best and (e > 0) == (best[-1][1] > 0):
            best[-1] = max(best[-1], (r, e), key=lambda point: abs(point[1]))
        else:
            best.append((r, e))
    while len(best) > count:
        best.pop(0 if abs(best[0][1]) < abs(best[-1][1]) else -1)
    return best


def fit(degree: int) -> tuple[list[Any], Any]:
    """Coefficients of q, lowest power first, and the largest relative error of p."""
    count = degree + 2
    points = [-BOUND * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    for _ in range(20):
        q = solve(points, degree)
        best = extremes(q, count)
        points = [r for r, _ in best]
        sizes = [abs(e) for _, e in best]
        if max(sizes) < min(sizes) * mp.mpf("1.001"):
            break
    return q, max(sizes)


def literal(value: Any, bits: int) -> str:
    """The nearest float as a literal of C."""
    number = float(np.float32(float(value))) if bits == 32 else float(value)
    mantissa, exponent = number.hex().split("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}{'f' if bits == 32 else ''}"


def constants(bits: int) -> dict[str, str]:
    """Name -> text of every constant, for float32 or float64."""
    mp.mp.prec = 200
    degree, exact_bits = (4, 13) if bits == 32 else (9, 42)
    ln2 = mp.log(2)
    high = mp.floor(mp.ldexp(ln2, exact_bits)) / 2**exact_bits
    q, _ = fit(degree)
    return {
        "LOG2_E": literal(1 / ln2, bits),
        "LN2_HIGH": literal(high, bits),
        "LN2_LOW": literal(ln2 - high, bits),
        "Q_TERMS": ", ".join(literal(c, bits) for c in q),
    }


if __name__ == "__main__":
    for bits in (32, 64):
        print(f"float{bits}: largest relative error 2^{mp.nstr(mp.log(fit(4 if bits == 32 else 9)[1], 2), 5)}")
        for name, value in constants(bits).items():
            print(f"#define {name} {value}")
