"""sigmoid and tanh over all finite inputs, against higher precision: the figures of docs/numerics.md.

FASTRNN_SWEEP=1 visits every float32; otherwise every 251st, with all around the places where a formula changes.
The element functions are run as users run them: through a layer whose products are exact, the input times one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest

import fastrnn
from support.environment import ROOT, TARGETS

# Largest errors in units in the last place. Every figure of the documents is read from there.
NUMERICS = (ROOT / "docs/numerics.md").read_text()
TABLE = re.findall(r"^\| `(\w+)` \| (float\d\d) \| ([\d.]+) \|", NUMERICS, re.MULTILINE)
LIMITS = {(function, dtype): float(limit) for function, dtype, limit in TABLE}
STRIDE = 1 if os.environ.get("FASTRNN_SWEEP") else 251
CHUNK = 1 << 22


def elementwise(function: str, x: np.ndarray, target: str) -> np.ndarray:
    """The library's activation of each number: 16 at a time through an identity matrix."""
    lanes = 16
    padded = np.zeros(-(-x.size // lanes) * lanes, x.dtype)
    padded[: x.size] = x
    weights = {"weight_ih_l0": np.eye(lanes, dtype=x.dtype), "weight_hh_l0": np.zeros((lanes, lanes), x.dtype)}
    params = fastrnn.RNNParams(weights, activation=function, target=target)
    y, _ = fastrnn.rnn(padded.reshape(1, -1, lanes), params)
    return y.ravel()[: x.size]


def exact(function: str, x: np.ndarray) -> np.ndarray:
    """The function in the next higher precision of NumPy: far below an ulp of x's own."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    if function == "tanh":
        return np.tanh(wide)
    e = np.exp(-np.abs(wide))
    return np.where(wide >= 0, 1, e) / (1 + e)


def error_in_ulps(function: str, x: np.ndarray, got: np.ndarray) -> float:
    """The largest error; the unit is that of the exact value, and of the smallest normal number below it.

    Numbers below the smallest normal are flushed to zero, as inputs and as results.
    """
    expected = exact(function, x)
    smallest = np.finfo(x.dtype).smallest_normal
    flushed = np.abs(expected) < smallest
    assert not got[flushed & (np.abs(x) < smallest) & (function == "tanh")].any()
    ulp = np.spacing(np.maximum(np.abs(expected), smallest).astype(x.dtype)).astype(expected.dtype)
    error = np.abs(got - expected) / ulp
    error[flushed] = np.where(np.abs(got[flushed]) <= smallest, 0, np.inf)
    return float(error.max(initial=0))


def all_float32() -> Iterator[np.ndarray]:
    """Finite floats of both signs, in chunks: bits from 0 to the largest finite number."""
    largest = int(np.float32(np.finfo("f4").max).view(np.uint32)) + 1
    for begin in range(0, largest, CHUNK * STRIDE):
        bits = np.arange(begin, min(begin + CHUNK * STRIDE, largest), STRIDE, dtype=np.uint32)
        yield bits.view(np.float32)
        yield -bits.view(np.float32)


def around(points: np.ndarray, width: int) -> np.ndarray:
    """All floats within `width` of some points."""
    kind = f"i{points.itemsize}"
    bits = points.view(kind)[:, None] + np.arange(-width, width + 1, dtype=kind)
    return bits.ravel().view(points.dtype)


def turning_points(dtype: str) -> np.ndarray:
    """Where x / ln 2 (sigmoid) or 2 x / ln 2 (tanh) is rounded the other way, and where inputs are bounded."""
    n = np.arange(-1500, 1501) + 0.5
    bounds = [-88, -87.3365, 20, 10, 9.0109, -709, -708.396, 40, 22, 19.06, 1e-4, 1e-8, 0.5, 1]
    points = np.concatenate([n * np.log(2), n * np.log(2) / 2, bounds, np.negative(bounds)])
    return points[np.abs(points) < np.finfo(dtype).max].astype(dtype)


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_float32_sweep(function: str) -> None:
    """One target stands for all: test_bits.py and the next test compare them to the bit."""
    worst = 0.0
    for x in [*([around(turning_points("float32"), 40)]), *all_float32()]:
        got = elementwise(function, x, TARGETS[0])
        worst = max(worst, error_in_ulps(function, x, got))
        assert np.abs(got).max() <= 1
        if function == "sigmoid":
            assert got.min() >= 0
    print(f"{function} float32: {worst:.3f} ulp")
    assert worst <= LIMITS[function, "float32"]


needs_wide = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant, reason="long double is no wider than float64 here"
)


@needs_wide
@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_float64_sample(function: str) -> None:
    rng = np.random.default_rng(0)
    exponents = rng.uniform(-1022, 10, 1 << 19)
    x = np.concatenate([np.exp2(exponents), rng.uniform(0, 45, 1 << 19), rng.uniform(0, 1, 1 << 18)])
    known = [float.fromhex("-0x1.e7f891cab0416p+2"), float.fromhex("0x1.c4598bf304a6ap-3")]  # the worst ever found
    points = around(np.array([*turning_points("float64"), *known, -6.930568788247921, -4.845252426974333]), 20)
    x = np.concatenate([x, -x, points, [np.finfo("f8").max, -np.finfo("f8").max, 0.0]])
    got = elementwise(function, x, TARGETS[0])
    worst = error_in_ulps(function, x, got)
    print(f"{function} float64: {worst:.3f} ulp")
    assert np.abs(got).max() <= 1
    assert worst <= LIMITS[function, "float64"]


@needs_wide
@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_float64_against_mpmath(function: str) -> None:
    """The oracle of the test above is itself right, at a hundred points."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-40, 40, 80), np.exp2(rng.uniform(-60, 0, 20))])
    with mpmath.workdps(40):
        points = [mpmath.mpf(value) for value in x.tolist()]
        truth = [mpmath.tanh(v) if function == "tanh" else 1 / (1 + mpmath.exp(-v)) for v in points]
        for value, expected in zip(exact(function, x), truth, strict=True):
            assert abs(mpmath.mpf(str(value)) / expected - 1) < 2e-18


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_targets_agree(function: str, dtype: str) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([around(turning_points(dtype), 3), rng.normal(size=50000) * 10.0 ** rng.integers(-30, 4, 50000)])
    x = x.astype(dtype)
    expected = elementwise(function, x, TARGETS[0])
    for target in TARGETS[1:]:
        np.testing.assert_array_equal(elementwise(function, x, target), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tanh_is_odd(target: str, dtype: str) -> None:
    x = np.random.default_rng(3).normal(scale=3, size=100000).astype(dtype)
    np.testing.assert_array_equal(elementwise("tanh", -x, target), -elementwise("tanh", x, target))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits(target: str, dtype: str) -> None:
    """At infinity, at NaN and at zero; each alone in its row, since infinity times zero is NaN."""
    weights = {"weight_ih_l0": np.ones((1, 1), dtype), "weight_hh_l0": np.zeros((1, 1), dtype)}
    x = np.array([-np.inf, -0.0, 0.0, np.inf, np.nan], dtype).reshape(1, -1, 1)
    expected = {
        "sigmoid": [0, 0.5, 0.5, 1, np.nan],
        "tanh": [-1, 0, 0, 1, np.nan],
        "relu": [0, 0, 0, np.inf, np.nan],
        "softsign": [np.nan, 0, 0, np.nan, np.nan],
        "hard_sigmoid": [0, 0.5, 0.5, 1, np.nan],
        "linear": [-np.inf, 0, 0, np.inf, np.nan],
    }
    for function, values in expected.items():
        y, _ = fastrnn.rnn(x, fastrnn.RNNParams(weights, activation=function, target=target))
        np.testing.assert_array_equal(y.ravel(), np.array(values, dtype), err_msg=function)


def test_coefficients_are_those_of_the_fit() -> None:
    """csrc/kernel/activations.inc.h holds what tools/fit_expm1.py finds."""
    namespace: dict[str, object] = {"__name__": "fit_expm1"}
    exec((ROOT / "tools/fit_expm1.py").read_text(), namespace)
    text = re.sub(r"[\\\s]+", " ", (ROOT / "csrc/kernel/activations.inc.h").read_text())
    for bits in (32, 64):
        for name, value in namespace["constants"](bits).items():  # type: ignore[operator]
            assert f"#define {name} {value}" in text, f"{name} of float{bits}: {value}"
