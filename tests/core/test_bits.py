"""The promises of docs/numerics.md about bits, each a property."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from support.cases import Case, assert_rows_are_alone, assert_same_bits, cases, flat, make_weights, pick_rows
from support.cells import CELLS, PARAMS, as_state
from support.environment import TARGETS

# Parts of a batch are compared in every test, so fewer examples than elsewhere do.
few = settings(max_examples=max(settings.default.max_examples // 2, 1))


@settings(max_examples=2 * settings.default.max_examples)
@given(case=cases(may_reset=True))
def test_targets_agree(case: Case) -> None:
    expected = case.run(TARGETS[0])
    for target in TARGETS[1:]:
        assert_same_bits(case.run(target), expected)


@few
@given(case=cases(may_reset=True).filter(lambda case: case.x.size), data=st.data())
def test_a_row_depends_on_itself_alone(target: str, case: Case, data: st.DataObject) -> None:
    assert_rows_are_alone(case, target, data)


@few
@given(case=cases(may_reset=True).filter(lambda case: case.lengths is not None and case.x.size), data=st.data())
def test_other_lengths_change_nothing(target: str, case: Case, data: st.DataObject) -> None:
    B = case.x.shape[0 if case.batch_first else 1]
    row = data.draw(st.integers(0, B - 1))
    lengths = np.array([data.draw(st.integers(0, case.steps)) for _ in range(B)])
    lengths[row] = case.lengths[row]
    assert_same_bits(
        pick_rows(case, case.but(lengths=lengths).run(target), [row]), pick_rows(case, case.run(target), [row])
    )


@few
@given(case=cases(most_steps=12).filter(lambda case: case.x.size), data=st.data())
def test_lengths_are_cuts(target: str, case: Case, data: st.DataObject) -> None:
    """A row of a length has the bits of that row cut to the length, and zeros after it."""
    case = case.but(batch_first=False, x=case.x.swapaxes(0, 1) if case.batch_first else case.x, return_sequences=True)
    row, length = data.draw(st.integers(0, case.x.shape[1] - 1)), data.draw(st.integers(0, case.steps))
    one = case.rows([row])
    y, *states = one.but(lengths=np.array([length])).run(target)
    cut_y, *cut_states = one.but(lengths=None, x=one.x[:length]).run(target)
    assert_same_bits((y[:length], *states), (cut_y, *cut_states))
    assert not y[length:].any()


@few
@given(case=cases(most_steps=40), data=st.data())
def test_cuts_in_time_change_nothing(target: str, case: Case, data: st.DataObject) -> None:
    """Step by step, in any chunks, and all at once are the same, the state being carried over."""
    reverse = all(name.endswith("_reverse") for name in case.weights if name.startswith("weight"))
    if not reverse and any("_reverse" in name for name in case.weights):
        case = case.but(weights={name: a for name, a in case.weights.items() if name.endswith("_l0_reverse")})
        reverse = True
    x = case.x.swapaxes(0, 1) if case.batch_first else case.x
    case = case.but(x=x, batch_first=False, lengths=None, return_sequences=True)
    if case.state is not None:  # keep the state of the layers and the direction that are left
        depth = sum(name.startswith("weight_ih") for name in case.weights)
        parts = case.state if isinstance(case.state, tuple) else (case.state,)
        cut = tuple(part[:depth] for part in parts)
        case = case.but(state=cut if isinstance(case.state, tuple) else cut[0])
    params, function = case.params(target), getattr(fastrnn, case.cell)
    expected = flat(function(x, params, case.state))
    cuts = sorted({0, case.steps, *data.draw(st.lists(st.integers(0, case.steps), max_size=5))})
    if data.draw(st.booleans()):
        cuts = list(range(case.steps + 1))
    state, ys = case.state, []
    pieces = list(pairwise(cuts))
    for begin, end in reversed(pieces) if reverse else pieces:
        y, state = function(x[begin:end], params, state)
        ys.append(y)
    if not pieces:
        return
    whole = np.concatenate(ys[::-1] if reverse else ys)
    assert_same_bits((whole, *(state if isinstance(state, tuple) else (state,))), expected)


@few
@given(case=cases())
def test_memory_layout_changes_nothing(target: str, case: Case) -> None:
    assert_same_bits(case.but(x=np.ascontiguousarray(case.x)).run(target), case.run(target))


@few
@given(case=cases(may_reset=True), threads=st.integers(2, 7))
def test_threads_change_nothing(target: str, case: Case, threads: int) -> None:
    assert_same_bits(case.run(target, threads=threads), case.run(target, threads=1))


@few
@given(case=cases(may_reset=True))
def test_last_step_is_that_of_the_sequence(target: str, case: Case) -> None:
    """Without sequences, y is the top layer's final state of each direction."""
    y, h_n, *_ = case.but(return_sequences=False).run(target)
    directions = y.shape[-1] // h_n.shape[-1]
    np.testing.assert_array_equal(y, np.concatenate(list(h_n[h_n.shape[0] - directions :]), axis=-1))
    assert_same_bits(case.but(return_sequences=True).run(target)[1:2], (h_n,))


@pytest.mark.large
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("directions", [("",), ("_reverse",), ("", "_reverse")])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rows", [2, 7, 24])
def test_split_work(cell: str, rows: int, directions: tuple[str, ...], threads: int) -> None:
    """Enough work for every thread, over rows of all lengths."""
    rng = np.random.default_rng(rows)
    weights = make_weights(rng, cell, (70, 130), layers=2, directions=directions)
    lengths = rng.integers(0, 201, rows)
    lengths[[0, -1]] = 0, 200
    x = rng.normal(size=(200, rows, 70)).astype("f4")
    case = Case(cell, weights, x, lengths=lengths)
    assert_same_bits(case.run(threads=threads), case.run(threads=1))


@pytest.mark.large
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rows", [1, 2, 7, 24, 40])
def test_long_work(cell: str, rows: int) -> None:
    """Sizes at which work is hoisted and blocked, against one row and against one step at a time."""
    rng = np.random.default_rng(rows)
    weights = make_weights(rng, cell, (70, 130), layers=2)
    x = rng.normal(size=(150, rows, 70)).astype("f4")
    params, function, row = PARAMS[cell](weights), getattr(fastrnn, cell), rows // 2
    whole = flat(function(x, params))
    assert_same_bits(tuple(part[:, row : row + 1] for part in whole), flat(function(x[:, row : row + 1], params)))
    state, steps = None, []
    for t in range(x.shape[0]):
        y, state = function(x[t : t + 1], params, state)
        steps.append(y)
    assert_same_bits((np.concatenate(steps), *flat((y, state))[1:]), whole)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormals_are_flushed_inside_and_kept_outside(target: str, dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    weights = {"weight_ih_l0": np.ones((1, 1), dtype), "weight_hh_l0": np.zeros((1, 1), dtype)}
    params = fastrnn.RNNParams(weights, target=target, activation="linear")
    smallest = np.finfo(dtype).smallest_normal
    y, _ = fastrnn.rnn(np.array([[tiny], [smallest / 2], [smallest], [-smallest]], dtype), params)
    assert y.ravel().tolist() == [0, 0, smallest, -smallest]
    assert np.array([tiny]) * 1 == tiny  # the caller's mode is as it was
    assert np.array([smallest]) / 2 > 0


@pytest.mark.parametrize("cell", CELLS)
def test_params_compute_the_same_after_other_calls(cell: str) -> None:
    """Params are not written to, by calls of any shape."""
    rng = np.random.default_rng(1)
    params = PARAMS[cell](make_weights(rng, cell, (5, 21), layers=2))
    x = rng.normal(size=(6, 4, 5)).astype("f4")
    before = flat(getattr(fastrnn, cell)(x, params))
    for T, B in [(0, 0), (0, 3), (3, 0), (1, 1), (40, 9), (2, 100)]:
        getattr(fastrnn, cell)(rng.normal(size=(T, B, 5)).astype("f4"), params, return_sequences=bool(T % 2))
    assert_same_bits(flat(getattr(fastrnn, cell)(x, params)), before)


@pytest.mark.parametrize("hidden", [1, 5, 16, 40, 200])
@pytest.mark.parametrize("cell", CELLS)
def test_no_state_is_a_state_of_zeros(cell: str, hidden: int, target: str) -> None:
    """To the sign of a zero, and to NaN where a weight is not finite: without a state a first step does not read U."""
    rng = np.random.default_rng(hidden)
    for dtype in ("float32", "float64"):
        weights = make_weights(rng, cell, (3, hidden), dtype=dtype)
        multiplied = "weight_hh" if "weight_hh" in CELLS[cell].weights else "weight_ih"  # a cell may multiply no h
        matrix = weights[f"{multiplied}_l0"]
        matrix[: hidden // 2] = -np.abs(matrix[: hidden // 2])
        for name in ("bias_ih_l0", "bias_hh_l0"):
            weights[name][:] = -0.0
        tiny = np.finfo(dtype).tiny
        x = rng.choice([-tiny, -0.0, 0.0, 1.0], size=(2, 7, 3)).astype(dtype)
        for spoil in (1.0, np.inf, np.nan):
            matrix[-1, 0] *= spoil
            options = dict.fromkeys(CELLS[cell].flags, bool(hidden % 2))
            params = PARAMS[cell](weights, target=target, **options)
            zeros = [np.zeros((1, 7, hidden), dtype) for _ in CELLS[cell].states]
            function = getattr(fastrnn, cell)
            for rows in (slice(0, 1), slice(0, 7)):
                given = as_state(cell, tuple(part[:, rows] for part in zeros))
                a, b = function(x[:, rows], params)[0], function(x[:, rows], params, given)[0]
                assert_same_bits((a,), (b,))
