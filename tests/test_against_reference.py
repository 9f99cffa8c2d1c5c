"""Every kernel against the float64 reference, over cells, options, shapes, element types, lengths, strides, targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cases import CELLS, Case, cases, make_weights
from conftest import TARGETS
from test_reference import CASES, RESULTS, SEQUENCES, initial_state
from test_reference import tolerance as golden_tolerance


def tolerance(case: Case, expected: tuple[np.ndarray, ...]) -> float:
    """A bound on the difference from exact arithmetic, first order in the unit roundoff u.

    With m the largest number of the case, the rows of W and U (absolute sums of at most 1/2 each) give pre-activations
    of at most about m with errors of at most (K + 8) u m, K being the longer of I and H (rounding of the sum, biases,
    peepholes, and 3 ulp of an activation). Activations have slopes of at most 1, the cell's products pass on at most
    twice the errors of their factors, and what a state carries over is passed on with a factor of at most 2 at first
    and less than 1 on the whole, since rows sum to at most 1/2: hence the factor 4 for each of T steps and L layers.
    """
    u = np.finfo(case.x.dtype).eps / 2
    most = max(1.0, *(float(np.abs(part).max(initial=0)) for part in expected))
    terms = max(a.shape[1] for name, a in case.weights.items() if name.startswith(("weight_ih", "weight_hh")))
    layers = len([name for name in case.weights if name.startswith("weight_ih")])
    return 4 * (case.steps + 1) * layers * (terms + 8) * u * most


def assert_close(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...], limit: float) -> None:
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max(initial=0) <= limit


@settings(max_examples=4 * settings.default.max_examples)
@given(case=cases())
def test_layer(target: str, case: Case) -> None:
    expected = case.reference()
    got = case.run(target)
    assert all(part.dtype == case.x.dtype for part in got)
    assert_close(got, expected, tolerance(case, expected))


@given(case=cases(batched=False).filter(lambda case: case.x.ndim == 2))
def test_layer_without_batch(target: str, case: Case) -> None:
    expected = case.reference()
    assert_close(case.run(target), expected, tolerance(case, expected))


@given(case=cases(), margin=st.integers(0, 3))
def test_out(target: str, case: Case, margin: int) -> None:
    """Results go to `out` alone: memory that was NaN is written where y is, and nowhere else."""
    expected = case.run(target)
    y = expected[0]
    wide = np.full((*y.shape[:-1], y.shape[-1] + 2 * margin), np.nan, y.dtype)
    out = wide[..., margin : margin + y.shape[-1]]
    got = case.run(target, out=out)
    assert got[0] is out
    np.testing.assert_array_equal(out, y)
    assert np.isnan(wide[..., :margin]).all()
    assert np.isnan(wide[..., margin + y.shape[-1] :]).all()


@settings(max_examples=max(settings.default.max_examples // 4, 1))
@given(
    cell=st.sampled_from(CELLS),
    reset_after=st.booleans(),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_small_integers_are_exact(target: str, cell: str, reset_after: bool, sizes: tuple[int, int], seed: int) -> None:
    """With linear activations and small integers nothing rounds, so a wrong index anywhere shows to the bit."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.integers(-1, 2, a.shape).astype("f4") for name, a in make_weights(rng, cell, sizes).items()}
    options: dict[str, Any] = {"activation": "linear"}
    if cell != "rnn":
        options["recurrent_activation"] = "linear"
    if cell == "gru":
        options["reset_after"] = reset_after
    x = rng.integers(-1, 2, (2 if sizes[1] < 16 else 1, 7, sizes[0])).astype("f4")
    x[..., 3:] = 0  # few terms, so that products of sums stay below 2**24
    case = Case(cell, weights, x, options=options)
    expected = case.reference()
    assume(max(np.abs(part).max() for part in expected) < 2**20)
    for a, b in zip(case.run(target), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("inputs", "hidden"), [(16, 16), (256, 64), (256, 256), (1024, 1024)])
def test_float32_over_a_hundred_steps(target: str, cell: str, inputs: int, hidden: int) -> None:
    """The accuracy that the documents promise: 2e-6 for T = 100, weights uniform in +-1/sqrt(H), x normal."""
    if target == "scalar" and hidden == 1024:
        target = TARGETS[0]  # the same bits, which test_bits.py shows, in a hundredth of the time
    rng = np.random.default_rng(hidden)
    shapes = {name: a.shape for name, a in make_weights(rng, cell, (inputs, hidden)).items()}
    weights = {name: (rng.uniform(-1, 1, shape) / hidden**0.5).astype("f4") for name, shape in shapes.items()}
    case = Case(cell, weights, rng.normal(size=(100, 2, inputs)).astype("f4"))
    for a, b in zip(case.run(target), case.reference(), strict=True):
        assert np.abs(a - b).max() <= 2e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_and_infinity_pass_through(target: str, cell: str, special: float, dtype: str) -> None:
    """As in NumPy: NaN where the reference has NaN, the reference's limits where it saturates."""
    rng = np.random.default_rng(0)
    weights = make_weights(rng, cell, (3, 19), dtype=dtype)
    x = rng.uniform(-1, 1, (4, 5, 3)).astype(dtype)
    x[1, 2, 1] = special
    case = Case(cell, weights, x)
    for a, b in zip(case.run(target), case.reference(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    assert np.isfinite(case.run(target)[0][:, [0, 1, 3, 4]]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_golden(target: str, name: str, dtype: str) -> None:
    """The arrays that PyTorch and ONNX made; their inputs and weights are exact in float32."""
    golden = CASES[name]
    weights = {key: a.astype(dtype) for key, a in golden["weights"].items()}
    state = initial_state(golden)
    if state is not None:
        state = tuple(part.astype(dtype) for part in state) if isinstance(state, tuple) else state.astype(dtype)
    cell, options = golden["function"], dict(golden["options"])
    call = {key: options.pop(key) for key in ("batch_first", "return_sequences") if key in options}
    case = Case(cell, weights, golden["x"].astype(dtype), state, golden.get("lengths"), options, **call)
    expected = tuple(golden[key] for key in RESULTS if key in golden)
    limit = golden_tolerance(name)
    if dtype == "float32":  # by the derivation there, with the larger roundoff
        limit *= np.finfo("f4").eps / np.finfo("f8").eps if name.split("/")[0] != "onnxruntime" else 2
    assert_close(case.run(target), expected, limit)
