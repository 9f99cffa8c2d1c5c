"""Every kernel against the float64 reference, over cells, options, shapes, element types, lengths, strides, targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support.cases import Case, cases, make_weights
from support.cells import CELLS
from support.environment import TARGETS
from support.oracle import (
    GOLDEN,
    RESULTS,
    SEQUENCES,
    assert_close,
    golden_tolerance,
    initial_state,
    stays_small,
    tolerance,
)


@settings(max_examples=4 * settings.default.max_examples)
@given(case=cases(may_reset=True))
def test_layer(target: str, case: Case) -> None:
    expected = case.reference()
    assume(stays_small(expected))
    got = case.run(target)
    assert all(part.dtype == case.x.dtype for part in got)
    assert_close(got, expected, tolerance(case, expected))


@given(case=cases(batched=False, may_reset=True).filter(lambda case: case.x.ndim == 2))
def test_layer_without_batch(target: str, case: Case) -> None:
    expected = case.reference()
    assume(stays_small(expected))
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
    cell=st.sampled_from(list(CELLS)),
    flag=st.booleans(),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_small_integers_are_exact(target: str, cell: str, flag: bool, sizes: tuple[int, int], seed: int) -> None:
    """With linear activations and small integers nothing rounds, so a wrong index anywhere shows to the bit."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.integers(-1, 2, a.shape).astype("f4") for name, a in make_weights(rng, cell, sizes).items()}
    kind = CELLS[cell]
    options: dict[str, Any] = dict.fromkeys(kind.activations, "linear") | dict.fromkeys(kind.flags, flag)
    x = rng.integers(-1, 2, (2 if sizes[1] < 16 else 1, 7, sizes[0])).astype("f4")
    x[..., 3:] = 0  # few terms, so that products of sums stay below 2**24
    case = Case(cell, weights, x, options=options)
    expected = case.reference()
    assume(max(np.abs(part).max() for part in expected) < 2**20)
    for a, b in zip(case.run(target), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.large
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
    golden = GOLDEN[name]
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
