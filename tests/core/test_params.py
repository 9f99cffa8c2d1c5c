"""Params: sizes from names and shapes, arrays given back, repr, equality."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import _core
from support.cases import Case, assert_same_bits, cases, flat, make_weights
from support.cells import CELLS, GATES, PARAMS
from support.environment import TARGETS

RNG = np.random.default_rng(0)


def weights_of(cell: str, **options: Any) -> dict[str, np.ndarray]:
    return make_weights(np.random.default_rng(5), cell, (7, 19), **options)


@given(case=cases())
def test_sizes_are_inferred(case: Case) -> None:
    params = case.params()
    names = [name for name in case.weights if name.startswith("weight_ih")]
    assert params.input_size == case.x.shape[-1]
    assert params.hidden_size == case.weights[names[0]].shape[0] // GATES[case.cell]
    assert params.bidirectional == (len({name.endswith("_reverse") for name in names}) == 2)
    assert params.num_layers == len(names) // (2 if params.bidirectional else 1)
    assert params.direction in ("forward", "reverse", "bidirectional")
    projection = [a for name, a in case.weights.items() if name.startswith("weight_hr")]
    assert params.proj_size == (projection[0].shape[0] if projection else 0)
    assert params.dtype == case.x.dtype
    assert params.nbytes >= sum(a.nbytes for name, a in case.weights.items() if name.startswith("weight_hh"))


@given(case=cases())
def test_weights_come_back_unchanged(case: Case) -> None:
    params = case.params()
    assert list(params.weights) == list(case.weights)
    for name, array in params.weights.items():
        assert array.dtype == case.weights[name].dtype
        np.testing.assert_array_equal(array, case.weights[name])


@given(case=cases(), target=st.sampled_from(TARGETS))
def test_with_weights_are_params_of_these_weights(case: Case, target: str) -> None:
    """The same bits, and all else the same, as params that were made of the new weights; the old params stay."""
    weights = {name: array[::-1] * 0.5 for name, array in case.weights.items()}
    params = case.params(target=target)
    before = fastrnn_run(case, params)
    changed, made = params.with_weights(weights), case.but(weights=weights).params(target=target)
    assert type(changed) is type(made)
    assert changed == made
    assert repr(changed) == repr(made)
    assert_same_bits(fastrnn_run(case, changed), fastrnn_run(case, made))
    assert_same_bits(fastrnn_run(case, params), before)
    assert pickle.loads(pickle.dumps(changed)) == made
    assert changed.with_weights(params.weights) == params


def test_with_weights_takes_either_dtype() -> None:
    weights = {name: array.astype("float64") for name, array in weights_of("gru").items()}
    params = fastrnn.GRUParams(weights, dtype="float32")
    narrow = {name: array.astype("float32") for name, array in weights.items()}
    assert params.with_weights(weights) == params.with_weights(narrow) == params


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda w: [*w.values()], TypeError, "weights: expected a mapping of names to arrays, got list"),
        (
            lambda w: {},
            ValueError,
            "weights: expected the names 'weight_ih_l0', .*, got them without 'weight_ih_l0', .*'bias_hh_l0'",
        ),
        (
            lambda w: w | {"weight_hr_l0": w["weight_hh_l0"]},
            ValueError,
            "weights: expected the names .*'bias_hh_l0', got them with 'weight_hr_l0'",
        ),
        (
            lambda w: {name.replace("bias_ih_l0", "bias"): array for name, array in w.items()},
            ValueError,
            "weights: expected the names .*, got them without 'bias_ih_l0' and with 'bias'",
        ),
        (
            lambda w: w | {"bias_ih_l0": np.zeros((57, 1), "f4")},
            ValueError,
            r"bias_ih_l0: expected \(57,\), as before, got \(57, 1\)",
        ),
        (
            lambda w: w | {"bias_ih_l0": np.zeros(57)},
            TypeError,
            r"bias_ih_l0: expected float32, as before, got float64; "
            r"weights\['bias_ih_l0'\].astype\('float32'\) converts it",
        ),
        (lambda w: w | {"bias_ih_l0": [0.0] * 57}, TypeError, "bias_ih_l0: expected an array, got list"),
    ],
)
def test_with_other_weights_is_refused(change: Any, error: type[Exception], message: str) -> None:
    weights = weights_of("gru")
    with pytest.raises(error, match=f"^{message}$"):
        fastrnn.GRUParams(weights).with_weights(change(weights))


def fastrnn_run(case: Case, params: Any) -> tuple[np.ndarray, ...]:
    y, state = getattr(fastrnn, case.cell)(case.x, params, case.state, **case.call)
    return (y, *state) if isinstance(state, tuple) else (y, state)


@pytest.mark.parametrize("cell", CELLS)
def test_arrays_are_copied_and_locked(cell: str) -> None:
    weights = weights_of(cell)
    params = PARAMS[cell](weights)
    x = RNG.normal(size=(3, 2, 7)).astype("f4")
    before = getattr(fastrnn, cell)(x, params)[0]
    for array in weights.values():
        array[...] = np.nan
    np.testing.assert_array_equal(getattr(fastrnn, cell)(x, params)[0], before)
    with pytest.raises(ValueError, match="read-only"):
        params.weights["weight_ih_l0"][0, 0] = 1
    params.weights.clear()  # a dict of the caller's own
    assert params.weights


@pytest.mark.parametrize("cell", CELLS)
def test_equality_is_of_what_they_compute(cell: str) -> None:
    weights = weights_of(cell)
    params = PARAMS[cell](weights)
    assert all(PARAMS[cell](weights, target=target) == params for target in TARGETS)
    assert PARAMS[cell]({name.removesuffix("_l0"): a for name, a in weights.items()}) == params
    without = {name: a for name, a in weights.items() if not name.startswith("bias")}
    zeros = {name: np.zeros_like(a) for name, a in weights.items() if name.startswith("bias")}
    assert PARAMS[cell](without) == PARAMS[cell](without | zeros)
    assert PARAMS[cell](weights, dtype="float64") != params
    assert PARAMS[cell](weights, activation="relu") != params
    assert PARAMS[cell](weights, clip=1.0) != params
    assert PARAMS[cell](weights, clip=0.1) == PARAMS[cell](weights, clip=float(np.float32(0.1)))
    assert params != weights
    for name, array in weights.items():
        changed = array.copy()
        changed.flat[-1] += 1
        assert PARAMS[cell](weights | {name: changed}) != params, name


def test_zero_peepholes_are_not_absent_ones() -> None:
    """An infinite c times a peephole of 0 is NaN."""
    weights = weights_of("lstm")
    assert fastrnn.LSTMParams({**weights, "weight_peephole_l0": np.zeros(57, "f4")}) != fastrnn.LSTMParams(weights)


def test_biases_that_are_added_are_one() -> None:
    weights = weights_of("gru")
    both = {
        **weights,
        "bias_ih_l0": weights["bias_ih_l0"] + weights["bias_hh_l0"],
        "bias_hh_l0": 0 * weights["bias_hh_l0"],
    }
    assert fastrnn.GRUParams(both, reset_after=False) == fastrnn.GRUParams(weights, reset_after=False)
    assert fastrnn.GRUParams(both) != fastrnn.GRUParams(weights)  # n's second bias is inside the reset gate


def test_infinite_biases_are_compared_without_a_warning() -> None:
    infinite = {name: np.full_like(a, np.inf) for name, a in weights_of("lstm").items()}
    opposite = {name: -a if name == "bias_hh_l0" else a for name, a in infinite.items()}
    assert fastrnn.LSTMParams(infinite) == fastrnn.LSTMParams(infinite)
    assert fastrnn.LSTMParams(opposite) == fastrnn.LSTMParams(opposite) != fastrnn.LSTMParams(infinite)


def test_unused_rows_do_not_count() -> None:
    weights = weights_of("lstm", peepholes=True)
    other = {name: a.copy() for name, a in weights.items()}
    for array in other.values():
        array[19:38] = 9
    assert fastrnn.LSTMParams(other, input_forget=True) == fastrnn.LSTMParams(weights, input_forget=True)
    assert fastrnn.LSTMParams(other) != fastrnn.LSTMParams(weights)
    x = RNG.normal(size=(5, 3, 7)).astype("f4")
    a, b = (fastrnn.lstm(x, fastrnn.LSTMParams(w, input_forget=True))[0] for w in (weights, other))
    np.testing.assert_array_equal(a, b)


def test_repr_says_what_is_not_the_default() -> None:
    params = fastrnn.LSTMParams(
        weights_of("lstm", proj=3), target="scalar", activation=("hard_sigmoid", 0.2, 0.5), clip=2
    )
    text = repr(params)
    assert text.startswith("LSTMParams(input_size=7, hidden_size=19, num_layers=1, direction='forward', proj_size=3, ")
    assert "activation=('hard_sigmoid', 0.2, 0.5), clip=2.0, dtype='float32', target='scalar'" in text
    assert "recurrent_activation" not in text


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("asked", ["float32", np.float64, np.dtype("f4")])
def test_dtype_converts_because_it_was_asked_to(dtype: str, asked: Any) -> None:
    weights = {name: a.astype(dtype) for name, a in weights_of("gru").items()}
    params = fastrnn.GRUParams(weights, dtype=asked)
    assert params.dtype == np.dtype(asked)
    assert all(array.dtype == dtype for array in params.weights.values())
    converted = fastrnn.GRUParams({name: a.astype(asked) for name, a in weights.items()})
    assert converted == params


@pytest.mark.parametrize("cell", CELLS)
def test_a_mapping_serves_in_place_of_params(cell: str) -> None:
    weights = weights_of(cell)
    case = Case(cell, weights, RNG.normal(size=(4, 2, 7)).astype("f4"))
    assert_same_bits(fastrnn_run(case, weights), case.run())


def test_cells_are_the_same_in_both_tables() -> None:
    """csrc/cells.def and fastrnn/_cells.py have the same cells, in the same order, with as many gates and states."""
    assert list(_core.CELLS) == list(CELLS)
    assert {name: (len(cell.gates), len(cell.states)) for name, cell in CELLS.items()} == _core.CELL_SIZES


@given(case=cases())
def test_calls_take_the_layout_of_their_params(case: Case) -> None:
    """And a call that names another one takes that."""
    call = {**case.call, "batch_first": None}
    expected, function = case.run(), getattr(fastrnn, case.cell)
    assert_same_bits(flat(function(case.x, case.params(batch_first=case.batch_first), case.state, **call)), expected)
    assert_same_bits(
        flat(function(case.x, case.params(batch_first=not case.batch_first), case.state, **case.call)), expected
    )


@pytest.mark.parametrize("cell", CELLS)
def test_the_layout_is_kept(cell: str, tmp_path: Path) -> None:
    weights = weights_of(cell)
    time_first, batch_first = (PARAMS[cell](weights, batch_first=first) for first in (False, True))
    assert (time_first.batch_first, batch_first.batch_first) == (False, True)
    assert time_first != batch_first
    assert "batch_first=True" in repr(batch_first)
    assert "batch_first" not in repr(time_first)
    assert pickle.loads(pickle.dumps(batch_first)) == batch_first
    batch_first.save(tmp_path / "layer.npz")
    assert fastrnn.load(tmp_path / "layer.npz") == batch_first
    np.savez(tmp_path / "theirs.npz", **weights)
    assert fastrnn.load(tmp_path / "theirs.npz", cell, batch_first=True) == batch_first
    stream, x = fastrnn.Stream(batch_first, 2), RNG.normal(size=(2, 5, 7)).astype("f4")
    y, _ = getattr(fastrnn, cell)(x, batch_first)
    assert_same_bits((stream.run(x[:, :3]), stream.run(x[:, 3:])), (y[:, :3], y[:, 3:]))
    stream.reset()
    assert_same_bits((stream.run(x.swapaxes(0, 1), batch_first=False),), (y.swapaxes(0, 1),))
