"""Gradients of calls by `fastrnn.vjp`.

(a) The right numbers: as the reference has them, and as finite differences do.
(b) Bits: what they depend on and what they do not.
(c) The life of a pullback: what it keeps, what may happen between the call and the way back.
"""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sys
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastrnn
from support.apart import run_python
from support.callers import Crowd
from support.cases import EDGES, Case, assert_same_bits, cases, make_state, make_weights
from support.cells import CELLS, PARAMS, as_state
from support.environment import TARGETS
from support.gradients import (
    There,
    arrays,
    exact_back,
    gradient_tolerance,
    is_smooth,
    laid_out,
    named,
    parts,
    random_like,
    reference_back,
    there_and_back,
)
from support.oracle import stays_small
from support.splits import SPLITS

few = settings(max_examples=max(settings.default.max_examples // 2, 1))
FORMS = [(cell, flag) for cell in CELLS for flag in (False, True) if CELLS[cell].flags or not flag]
LAYOUTS = ["dense", "backward", "swapped", "part"]


def given_for(case: Case, seed: int = 1) -> list[Any]:
    """Gradients of y and of the final states, of the call's dtype."""
    return random_like(case.run(), seed)


def form(cell: str, flag: bool) -> dict[str, Any]:
    """Options of one of the forms of a cell."""
    return dict.fromkeys(CELLS[cell].flags, flag)


# (a)


def assert_exact(case: Case, gradients: list[Any], got: fastrnn.Gradients) -> None:
    """Every gradient there is, of the right shape and dtype, as near to the reference as rounding lets it be."""
    expected, exact = case.reference(), exact_back(case, gradients)
    limit = gradient_tolerance(case, expected, exact)
    ours, theirs = named(got), named(exact.gradients)
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        assert ours[name].shape == array.shape, name
        assert ours[name].dtype == case.x.dtype, name
        assert np.abs(ours[name] - array).max(initial=0) <= limit, name


def assume_smooth(case: Case, gradients: list[Any]) -> None:
    expected = case.reference()
    assume(stays_small(expected))
    assume(is_smooth(case, expected, exact_back(case, gradients)))


@given(case=cases(may_reset=True), data=st.data())
def test_layer(case: Case, data: st.DataObject) -> None:
    """Any layer and call, with any of the gradients of the results absent."""
    gradients = [None if data.draw(st.integers(0, 4)) == 0 else g for g in given_for(case)]
    assume_smooth(case, gradients)
    assert_exact(case, gradients, There(case).back(gradients))


@given(case=cases(batched=False, may_reset=True).filter(lambda case: case.x.ndim == 2))
def test_layer_without_batch(case: Case) -> None:
    gradients = given_for(case)
    assume_smooth(case, gradients)
    assert_exact(case, gradients, There(case).back(gradients))


@pytest.mark.parametrize("size", [0, *EDGES])
@pytest.mark.parametrize(("cell", "flag"), FORMS)
def test_edges(cell: str, flag: bool, size: int) -> None:
    """Widths of vectors and chains, and one less and more, as inputs, units, rows and steps."""
    rng = np.random.default_rng(size)
    shapes = ((size, 3, 2, 2), (3, size or 1, 2, 2), (3, 5, size, 1), (2, 3, 1, size))
    for I, H, B, T in shapes:  # noqa: E741
        weights = make_weights(rng, cell, (I, H), peepholes=True, dtype="float64")
        x = rng.uniform(-1, 1, (T, B, I))
        case = Case(cell, weights, x, make_state(rng, cell, (1, B), H, H, "float64"), options=form(cell, flag))
        gradients = given_for(case)
        assert_exact(case, gradients, There(case).back(gradients))


@pytest.mark.parametrize(("steps", "rows"), [(300, 7), (129, 11), (700, 1), (3, 600)])
@pytest.mark.parametrize(("cell", "flag"), FORMS)
def test_long_work(cell: str, flag: bool, steps: int, rows: int) -> None:
    """Calls that go back in many chunks of time, with sums of weights over many chains, rows ending where they will."""
    rng = np.random.default_rng(steps)
    weights = make_weights(rng, cell, (3, 5), directions=("", "_reverse"), peepholes=True, dtype="float64")
    x, lengths = rng.uniform(-1, 1, (steps, rows, 3)), rng.integers(0, steps + 1, rows)
    lengths[0] = steps
    case = Case(cell, weights, x, lengths=lengths, options=form(cell, flag))
    gradients = given_for(case)
    got = There(case, case.params(TARGETS[0])).back(gradients)
    assert_exact(case, gradients, got)
    for target in TARGETS[1:]:
        assert_same_bits(there_and_back(case, gradients, case.params(target)), arrays(got))


@settings(max_examples=max(settings.default.max_examples // 4, 1))
@given(
    form_of=st.sampled_from(FORMS),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_small_integers_are_exact(target: str, form_of: tuple[str, bool], sizes: tuple[int, int], seed: int) -> None:
    """With linear activations and small integers nothing rounds, so a wrong index anywhere shows to the bit."""
    (cell, flag), rng = form_of, np.random.default_rng(seed)
    weights = {name: rng.integers(-1, 2, a.shape).astype("f4") for name, a in make_weights(rng, cell, sizes).items()}
    options: dict[str, Any] = dict.fromkeys(CELLS[cell].activations, "linear") | form(cell, flag)
    x = rng.integers(-1, 2, (2, 3, sizes[0])).astype("f4")
    x[..., 2:] = 0  # few terms, so that products of sums stay below 2**24
    for name in weights:
        if name.startswith("weight_hh"):
            weights[name][:, 2:] = 0
    case = Case(cell, weights, x, options=options)
    gradients = [rng.integers(-1, 2, a.shape).astype("f4") for a in case.reference()]
    exact = exact_back(case, gradients)
    theirs = arrays(exact.gradients)
    assume(exact.largest < 2**12)
    assume(max(float(np.abs(a).max(initial=0)) for a in (*case.reference(), *theirs)) < 2**16)
    for a, b in zip(arrays(There(case, case.params(target)).back(gradients)), theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize(("cell", "flag"), FORMS)
def test_finite_differences(cell: str, flag: bool, sequences: bool) -> None:
    """Along single axes of all that a call is given, and along a direction over all of it at once.

    The layers are smooth, so a central difference over a distance of 1e-5 is off by some 1e-10 (its third derivative)
    and as much again (the rounding of a loss near 10).
    """
    rng = np.random.default_rng(8)
    weights = make_weights(rng, cell, (3, 4), layers=2, directions=("", "_reverse"), peepholes=True, dtype="float64")
    weights = {name: 2 * a for name, a in weights.items()}
    state, lengths = make_state(rng, cell, (4, 3), 4, 4, "float64"), np.array([5, 0, 2])
    x = rng.uniform(-1, 1, (5, 3, 3))
    case = Case(cell, weights, x, state, lengths, form(cell, flag), return_sequences=sequences)
    gradients = given_for(case)

    def loss(moved: list[np.ndarray]) -> float:
        new_x, *rest = moved
        names, states = dict(zip(weights, rest, strict=False)), tuple(rest[len(weights) :])
        results = case.but(x=new_x, weights=names, state=as_state(cell, states)).run()
        return sum(float(np.vdot(g, a)) for g, a in zip(gradients, results, strict=True))

    point = [x, *weights.values(), *parts(state)]
    ours = arrays(There(case).back(gradients))

    def check(way: list[np.ndarray]) -> None:
        ahead, behind = ([p + d * w for p, w in zip(point, way, strict=True)] for d in (1e-5, -1e-5))
        slope = sum(float(np.vdot(g, w)) for g, w in zip(ours, way, strict=True))
        assert abs(slope - (loss(ahead) - loss(behind)) / 2e-5) <= 1e-8

    check([rng.uniform(-1, 1, p.shape) for p in point])
    for number, array in enumerate(point):
        for entry in rng.choice(array.size, min(array.size, 3), replace=False):
            way = [np.zeros_like(p) for p in point]
            way[number].flat[entry] = 1
            check(way)


FLOAT32 = 1.5e-6  # of the largest entry: most are within 5e-7, and the worst, as PyTorch's, at 10e-7


@pytest.mark.large
@pytest.mark.parametrize(("hidden", "rows"), [(64, 8), (256, 8), (512, 2)])
@pytest.mark.parametrize(("cell", "flag"), FORMS)
def test_float32_over_a_hundred_steps(cell: str, flag: bool, hidden: int, rows: int) -> None:
    """T = 100, weights uniform in +-1/sqrt(H), biases too, x normal; against float64, which the tests above hold."""
    rng = np.random.default_rng(hidden)
    shapes = {name: a.shape for name, a in make_weights(rng, cell, (hidden, hidden)).items()}
    weights = {name: (rng.uniform(-1, 1, shape) / hidden**0.5).astype("f4") for name, shape in shapes.items()}
    case = Case(cell, weights, rng.normal(size=(100, rows, hidden)).astype("f4"), options=form(cell, flag))
    gradients = [rng.normal(size=a.shape).astype("f4") for a in case.run()]
    wide = case.but(x=case.x.astype("f8"), weights={name: a.astype("f8") for name, a in weights.items()})
    ours, exact = named(There(case).back(gradients)), named(There(wide).back([g.astype("f8") for g in gradients]))
    errors = {name: float(np.abs(ours[name] - a).max() / (np.abs(a).max() or 1)) for name, a in exact.items()}
    assert max(errors.values()) <= FLOAT32, errors


ACTIVATED = ["tanh", "sigmoid", "relu", "hard_sigmoid", "softsign", "linear"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [None, 4.0])
@pytest.mark.parametrize("activation", [None, *ACTIVATED])
@pytest.mark.parametrize("cell", CELLS)
def test_nan_stays_in_its_row(target: str, cell: str, activation: str | None, clip: float | None, dtype: str) -> None:
    """NaN in a row's x or dy is in that row's gradients and in those of the weights, as in the reference.

    Of dy not where relu is 0: no gradient passes there, as in PyTorch, where the reference multiplies it by 0.
    """
    rng = np.random.default_rng(2)
    options: dict[str, Any] = {} if activation is None else dict.fromkeys(CELLS[cell].activations, activation)
    weights, x = make_weights(rng, cell, (3, 19), dtype=dtype), rng.uniform(-1, 1, (4, 5, 3)).astype(dtype)
    case = Case(cell, weights, x, options=options if clip is None else options | {"clip": clip})
    for place in ("x",) if activation == "relu" else ("x", "dy"):
        x, (dy, *dstate) = case.x.copy(), given_for(case)
        (x if place == "x" else dy)[1, 2, 0] = np.nan
        broken = case.but(x=x)
        ours = There(broken, broken.params(target)).back([dy, *dstate])
        for a, b in zip(arrays(ours), arrays(reference_back(broken, [dy, *dstate])), strict=True):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        assert not np.isnan(ours.x[:, [0, 1, 3, 4]]).any()


# (b)


@few
@given(case=cases(may_reset=True))
def test_results_are_those_of_the_plain_call(target: str, case: Case) -> None:
    assert_same_bits(There(case, case.params(target)).results, case.run(target))


@given(case=cases(may_reset=True))
def test_targets_agree(case: Case) -> None:
    gradients = given_for(case)
    expected = there_and_back(case, gradients, case.params(TARGETS[0]))
    for target in TARGETS[1:]:
        assert_same_bits(there_and_back(case, gradients, case.params(target)), expected)


@few
@given(case=cases(may_reset=True), threads=st.integers(2, 7))
def test_threads_change_nothing(case: Case, threads: int) -> None:
    gradients = given_for(case)
    assert_same_bits(there_and_back(case, gradients, threads=threads), there_and_back(case, gradients, threads=1))


@given(case=cases(may_reset=True), target=st.sampled_from(TARGETS), threads=st.integers(1, 3), data=st.data())
def test_checkpoints_change_nothing(case: Case, target: str, threads: int, data: st.DataObject) -> None:
    """Neither results nor gradients, whatever is asked for, from one step between two states to more than there are."""
    gradients, names = given_for(case), ["x", "weights", "state", *case.weights]
    wrt = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    checkpoint = data.draw(st.integers(1, case.steps + 2))
    call = There(case, case.params(target), threads=threads, checkpoint=checkpoint)
    assert_same_bits(call.results, case.run())
    for _ in range(2):
        assert_same_bits(arrays(call.back(gradients)), there_and_back(case, gradients))
        assert_same_bits(arrays(call.back(gradients, wrt=wrt)), arrays(There(case).back(gradients, wrt=wrt)))


@pytest.mark.parametrize("checkpoint", [1, 40, 127, 128])
@pytest.mark.parametrize(("cell", "flag"), FORMS)
def test_checkpoints_and_chains(cell: str, flag: bool, checkpoint: int) -> None:
    """Segments that end within a chain of a sum of weights, which goes on in the segment before."""
    rng = np.random.default_rng(checkpoint)
    for layers, directions in ((2, ("",)), (2, ("", "_reverse")), (1, ("_reverse",))):
        weights = make_weights(rng, cell, (3, 5), layers=layers, directions=directions, peepholes=True)
        x, lengths = rng.uniform(-1, 1, (300, 5, 3)).astype("f4"), rng.integers(0, 301, 5)
        case = Case(cell, weights, x, lengths=lengths, options=form(cell, flag))
        gradients = given_for(case)
        expected = there_and_back(case, gradients)
        for threads in (1, 2):
            got = there_and_back(case, gradients, checkpoint=checkpoint, threads=threads)
            assert_same_bits(got, expected)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("cell", CELLS)
def test_split_work(cell: str, split: str) -> None:
    """Enough work for two threads, however the plan shares it, with rows of all lengths."""
    rng = np.random.default_rng(1)
    params, x = SPLITS[split].make(rng, cell)
    steps, rows = x.shape[:2]
    lengths = rng.integers(0, steps + 1, rows) if rows > 1 else None
    case = Case(cell, params.weights, x, lengths=lengths)
    gradients = given_for(case)
    expected = there_and_back(case, gradients, params, threads=1)
    for threads, checkpoint in ((2, None), (3, None), (2, 1 + steps // 3)):
        call = There(case, params, threads=threads, checkpoint=checkpoint)
        assert_same_bits(call.results, case.run(threads=1))
        assert_same_bits(arrays(call.back(gradients)), expected)


@few
@given(case=cases(), data=st.data())
def test_memory_layout_changes_nothing(case: Case, data: st.DataObject) -> None:
    """x, states, lengths and the gradients of results with strides of any size and sign, or read-only."""
    rng, gradients = np.random.default_rng(3), given_for(case)
    expected = there_and_back(case.but(x=np.ascontiguousarray(case.x)), gradients)

    def scattered(array: np.ndarray) -> np.ndarray:
        view = laid_out(rng, array, data.draw(st.sampled_from(LAYOUTS)))
        view.flags.writeable = False
        return view

    state = None if case.state is None else as_state(case.cell, tuple(map(scattered, parts(case.state))))
    lengths = None if case.lengths is None else np.repeat(case.lengths, 2)[::-2][::-1]
    moved = case.but(x=scattered(case.x), state=state, lengths=lengths)
    assert_same_bits(there_and_back(moved, list(map(scattered, gradients))), expected)


@few
@given(case=cases(may_reset=True).filter(lambda case: case.return_sequences))
def test_batch_first_is_time_first(case: Case) -> None:
    dy, *dstate = given_for(case)
    resets = None if case.resets is None else case.resets.swapaxes(0, 1)
    other = case.but(x=case.x.swapaxes(0, 1), resets=resets, batch_first=not case.batch_first)
    got = There(other).back([dy.swapaxes(0, 1), *dstate])
    assert_same_bits((got.x.swapaxes(0, 1), *arrays(got)[1:]), there_and_back(case, [dy, *dstate]))


@few
@given(case=cases(may_reset=True), data=st.data(), garbage=st.sampled_from([np.nan, np.inf, 3e38]))
def test_padding_is_never_read(case: Case, data: st.DataObject, garbage: float) -> None:
    """Whatever lies past a row's end, in x and in dy, changes no bit; the gradient of x is 0 there."""
    rows = case.x.shape[0 if case.batch_first else 1]
    lengths = np.array(data.draw(st.lists(st.integers(0, case.steps), min_size=rows, max_size=rows)), int)
    case = case.but(lengths=lengths)
    past = np.arange(case.steps)[:, np.newaxis] >= lengths
    past = past.T if case.batch_first else past
    dy, *dstate = given_for(case)
    expected = There(case).back([dy, *dstate])

    def spoiled(a: np.ndarray) -> np.ndarray:
        return np.where(past[..., np.newaxis], a.dtype.type(garbage), a)

    broken, checkpoint = case.but(x=spoiled(case.x)), data.draw(st.none() | st.integers(1, 5))
    got = There(broken, checkpoint=checkpoint).back([spoiled(dy) if case.return_sequences else dy, *dstate])
    assert_same_bits(arrays(got), arrays(expected))
    assert not got.x[past].any()
    assert not any(np.isnan(a).any() for a in arrays(got))


@few
@given(case=cases(may_reset=True).filter(lambda case: case.x.size), data=st.data())
def test_a_row_has_its_own_gradients(case: Case, data: st.DataObject) -> None:
    """Those of x and of the state depend on their row alone: not on its place, nor on rows beside it."""
    rows = case.x.shape[0 if case.batch_first else 1]
    picked = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows))
    dy, *dstate = given_for(case)
    first = case.batch_first or not case.return_sequences
    some = [dy[picked] if first else dy[:, picked], *(part[:, picked] for part in dstate)]
    whole, alone = There(case).back([dy, *dstate]), There(case.rows(picked)).back(some)
    assert_same_bits((alone.x,), (whole.x[picked] if case.batch_first else whole.x[:, picked],))
    assert_same_bits(parts(alone.state), tuple(part[:, picked] for part in parts(whole.state)))


@few
@given(case=cases())
def test_absent_gradients_are_zero(case: Case) -> None:
    gradients = given_for(case)
    for absent in range(len(gradients)):
        some = [None if i == absent else g for i, g in enumerate(gradients)]
        zero = [np.zeros_like(g) if i == absent else g for i, g in enumerate(gradients)]
        assert_same_bits(there_and_back(case, some), there_and_back(case, zero))
    nothing = There(case).pullback()
    assert not any(np.nan_to_num(a).any() for a in arrays(nothing))


@few
@given(case=cases(), data=st.data())
def test_wrt_leaves_out(case: Case, data: st.DataObject) -> None:
    """What is asked for has the bits that it has among all others, in the order of the weights; the rest is None."""
    names = ["x", "weights", "state", *case.weights]
    wrt = data.draw(st.lists(st.sampled_from(names), unique=True))
    gradients, call = given_for(case), There(case)
    every = call.back(gradients)
    got = call.back(gradients, wrt=data.draw(st.sampled_from([list, tuple, set, iter]))(wrt))
    weights = [name for name in case.weights if "weights" in wrt or name in wrt]
    assert (got.x is None, got.state is None) == ("x" not in wrt, "state" not in wrt)
    assert (got.weights is None) == (not weights)
    assert list(got.weights or {}) == weights
    expected = {name: a for name, a in named(every).items() if name in named(got)}
    assert_same_bits(arrays(got), tuple(expected.values()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormals_are_flushed_inside_and_kept_outside(target: str, dtype: str) -> None:
    tiny, smallest = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).smallest_normal
    weights = {"weight_ih_l0": np.ones((1, 1), dtype), "weight_hh_l0": np.zeros((1, 1), dtype)}
    params = fastrnn.RNNParams(weights, target=target, activation="linear")
    _, pullback = fastrnn.vjp(np.ones((4, 1), dtype), params)
    dx = pullback(np.array([[tiny], [smallest / 2], [smallest], [-smallest]], dtype)).x
    assert dx.ravel().tolist() == [0, 0, smallest, -smallest]
    assert np.array([tiny]) * 1 == tiny  # the caller's mode is as it was
    assert np.array([smallest]) / 2 > 0


# (c)


@few
@given(case=cases(), checkpoint=st.none() | st.integers(1, 5))
def test_a_pullback_keeps_what_it_needs(case: Case, checkpoint: int | None) -> None:
    """Twice the same bits, after the caller has overwritten all that it gave, with another way back in between."""
    gradients, others = given_for(case), given_for(case, seed=2)
    state = as_state(case.cell, tuple(part.copy() for part in parts(case.state))) if case.state is not None else None
    lengths = None if case.lengths is None else case.lengths.copy()
    weights = {name: a.copy() for name, a in case.weights.items()}
    mine = case.but(x=case.x.copy(), state=state, lengths=lengths, weights=weights)
    call = There(mine, checkpoint=checkpoint)
    first = call.back(gradients)
    saved = tuple(a.copy() for a in arrays(first))
    for array in (mine.x, *weights.values(), *(parts(state) if state is not None else ()), *call.results):
        array.fill(np.nan)
    if lengths is not None:
        lengths.fill(0)
    between = arrays(call.back(others))
    assert_same_bits(between, there_and_back(case, others))
    again = call.back(gradients)
    assert_same_bits(arrays(again), saved)
    assert_same_bits(arrays(first), saved)  # later calls wrote to arrays of their own
    for array in arrays(again):
        assert array.flags.writeable
        assert array.flags.c_contiguous
    assert not any(np.shares_memory(a, b) for a, b in zip(arrays(first), arrays(again), strict=True))


@few
@given(case=cases())
def test_arguments_stay(case: Case) -> None:
    gradients = given_for(case)
    arguments = (case.x, *case.weights.values(), *(parts(case.state) if case.state is not None else ()), *gradients)
    before = tuple(a.copy() for a in arguments)
    there_and_back(case, gradients)
    assert_same_bits(arguments, before)


def small_call(cell: str = "lstm", **more: Any) -> There:
    rng = np.random.default_rng(4)
    x = rng.uniform(-1, 1, (6, 3, 5)).astype("f4")
    return There(Case(cell, make_weights(rng, cell, (5, 7), layers=2), x), **more)


@pytest.mark.parametrize("cell", CELLS)
def test_params_that_are_dropped(cell: str) -> None:
    """The pullback keeps the params, and they are free once it is."""
    gradients = given_for(small_call(cell).case)
    expected = arrays(small_call(cell).back(gradients))
    params = PARAMS[cell](small_call(cell).case.weights)
    call, gone = small_call(cell, params=params), weakref.ref(params)
    del params
    gc.collect()
    assert_same_bits(arrays(call.back(gradients)), expected)
    del call
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("cell", CELLS)
def test_params_with_other_weights(cell: str) -> None:
    """Params that were made of others, whose way back was laid out before, go back over their own weights."""
    call = small_call(cell)
    gradients, params = given_for(call.case), call.case.params()
    there_and_back(call.case, gradients, params)
    moved = {name: a - np.float32(0.25) for name, a in call.case.weights.items()}
    got = there_and_back(call.case.but(weights=moved), gradients, params.with_weights(moved))
    assert_same_bits(got, there_and_back(call.case.but(weights=moved), gradients))


@pytest.mark.parametrize("cell", CELLS)
def test_names_of_a_single_cell(cell: str) -> None:
    """Gradients come under the names that the weights were given under, whatever order they were given in."""
    rng = np.random.default_rng(5)
    weights = {name.removesuffix("_l0"): a for name, a in reversed(make_weights(rng, cell, (5, 7)).items())}
    _, pullback = fastrnn.vjp(np.ones((2, 3, 5), "f4"), PARAMS[cell](weights))
    gradients = pullback(wrt=["weights"]).weights
    assert {name: a.shape for name, a in gradients.items()} == {name: a.shape for name, a in weights.items()}
    assert list(gradients) == list(PARAMS[cell](weights).weights)


@pytest.mark.parametrize("cell", CELLS)
def test_weights_that_params_convert(cell: str) -> None:
    """Gradients have the dtype that is computed in."""
    weights = make_weights(np.random.default_rng(5), cell, (5, 7), dtype="float64")
    _, pullback = fastrnn.vjp(np.ones((2, 3, 5), "f4"), PARAMS[cell](weights, dtype="float32"))
    assert {a.dtype.name for a in arrays(pullback())} == {"float32"}


@pytest.mark.parametrize("checkpoint", [None, 4])
def test_threads_of_callers(checkpoint: int | None) -> None:
    """One pullback from several threads at once, and params whose way back all of them want first."""
    call = small_call(checkpoint=checkpoint)
    case, gradients = call.case, given_for(call.case)
    expected, fresh = arrays(call.back(gradients)), case.params()

    def work() -> None:
        for _ in range(5):
            assert_same_bits(arrays(call.back(gradients)), expected)
            assert_same_bits(there_and_back(case, gradients, fresh), expected)

    with Crowd([work] * 4):
        pass


def test_params_are_renewed_while_a_pullback_wants_them_first() -> None:
    """What a pullback adds to params does not disturb an optimiser's step in another thread."""
    weights = {"weight_ih": np.ones((4, 1)), "weight_hh": np.ones((4, 4))}
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(150):
            params = fastrnn.RNNParams(weights)
            pullback = fastrnn.vjp(np.ones((1, 1, 1)), params)[1]

            def renew(params: Any = params) -> None:
                for _ in range(15):
                    params.with_weights(weights)

            with Crowd([renew, pullback]):
                pass
    finally:
        sys.setswitchinterval(often)


def test_nbytes() -> None:
    """The memory of a tape: at least that of x, of the outputs and of the gates, and in proportion to the steps."""
    weights = make_weights(np.random.default_rng(0), "lstm", (16, 32))
    params = fastrnn.LSTMParams(weights)
    sizes = [fastrnn.vjp(np.zeros((T, 8, 16), "f4"), params)[1].nbytes for T in (0, 100, 200)]
    assert sizes[1] >= 100 * 8 * (16 + 32 + 4 * 32) * 4
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], rel=0.01)


@pytest.mark.parametrize("cell", CELLS)
def test_checkpoints_save_memory(cell: str) -> None:
    """States of every 20th step, beside x."""
    params = PARAMS[cell](make_weights(np.random.default_rng(0), cell, (4, 64), layers=3))
    x = np.zeros((400, 8, 4), "f4")
    every, some = (fastrnn.vjp(x, params, checkpoint=n)[1].nbytes - x.nbytes for n in (None, 20))
    assert some < every / 20 + 4096


def test_pickles_and_copies() -> None:
    call = small_call()
    assert copy.copy(call.pullback) is call.pullback
    assert copy.deepcopy([call.pullback]) == [call.pullback]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"cannot pickle a Pullback, .*; its gradients can be pickled"):
            pickle.dumps(call.pullback, protocol=protocol)
    gradients = call.back(given_for(call.case))
    again = pickle.loads(pickle.dumps(gradients))
    assert type(again) is fastrnn.Gradients
    assert_same_bits(arrays(again), arrays(gradients))


def test_repr() -> None:
    pullback = small_call().pullback
    text = repr(pullback)
    assert text.startswith("Pullback(LSTMParams(input_size=5, ")
    assert text.endswith(f", nbytes={pullback.nbytes})")


def test_chunks_with_the_state_carried_over_are_the_whole() -> None:
    """What a chunk's pullback says of its initial state is what the chunk before it is given: the whole gradient."""
    rng = np.random.default_rng(0)
    weights, x = make_weights(rng, "lstm", (5, 7), dtype="float64"), rng.normal(size=(30, 3, 5))
    params, pullbacks, state = fastrnn.LSTMParams(weights), [], None
    dy, dstate = rng.normal(size=(30, 3, 7)), (rng.normal(size=(1, 3, 7)), rng.normal(size=(1, 3, 7)))
    expected = fastrnn.vjp(x, params)[1](dy, dstate)
    for begin in range(0, 30, 10):
        (_, state), pullback = fastrnn.vjp(x[begin : begin + 10], params, state)
        pullbacks.append(pullback)
    got: dict[str, Any] = dict.fromkeys(weights, 0.0)
    for begin, pullback in zip((20, 10, 0), reversed(pullbacks), strict=True):
        gradients = pullback(dy[begin : begin + 10], dstate)
        dstate = gradients.state
        np.testing.assert_allclose(gradients.x, expected.x[begin : begin + 10], atol=1e-13)
        got = {name: got[name] + gradients.weights[name] for name in got}
    for name in got:
        np.testing.assert_allclose(got[name], expected.weights[name], atol=1e-12)


FORKED = """
import os, sys
import numpy as np
import fastrnn
rng = np.random.default_rng(0)
params = fastrnn.LSTMParams({"weight_ih": rng.normal(size=(160, 30)), "weight_hh": rng.normal(size=(160, 40)) / 9})
(y, state), pullback = fastrnn.vjp(rng.normal(size=(60, 20, 30)), params, threads=2)
expected = pullback(y).weights["weight_hh"].tobytes()
child = os.fork()
same = pullback(y).weights["weight_hh"].tobytes() == expected
if child == 0:
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
print(same, os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_fork_between_forward_and_backward() -> None:
    assert run_python(FORKED).stdout.split() == ["True", "0"]
