"""Layers whose weights are halves or bytes: docs/precision.md to the bit, and the promises about bits and errors."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import reference
from support import narrow
from support.cases import (
    EDGES,
    Case,
    Drawn,
    Seeded,
    Source,
    assert_rows_are_alone,
    assert_same_bits,
    flat,
    make_state,
    make_weights,
    pick_rows,
    random_case,
)
from support.cells import CELLS, GATES, PARAMS, as_state
from support.environment import ALL_TARGETS, package
from support.narrow import LEAST_OF_H, LEAST_OF_X, add_product, bytes_of, flushed, fma

NARROW = ["float16", "int8", "int8_fast"]
OF_BYTES = ["int8", "int8_fast"]
few = settings(max_examples=max(settings.default.max_examples // 2, 1))
targets = st.sampled_from(ALL_TARGETS)

# What rows of weights, inputs and states are multiplied by. The least are subnormal, or below 2^-100, the least that
# the largest integer of an input stands for; states beyond 1 have a unit of their own.
FACTORS_OF_WEIGHTS = [1, 1, 1, 0, 1e-39, 1e-12, 30]
FACTORS_OF_X = [1, 1, 1, 0, 1e-39, 1e-34, 1e-3, 100]
FACTORS_OF_STATES = [1, 1, 0, 1e-39, 0.1, 5, 1000]
SPECIALS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38]


def season(rng: np.random.Generator, a: np.ndarray, factors: list[float], special: bool = False) -> np.ndarray:
    """The same numbers as float32, each row times a factor; special: some of them not finite, subnormal or huge."""
    shape = (*a.shape[:-1], 1) if a.ndim > 1 else a.shape
    a = (a * rng.choice(factors, size=shape)).astype(np.float32)
    if special and a.size:
        spoilt = rng.random(a.shape) < 2 / a.size
        a[spoilt] = rng.choice(SPECIALS, spoilt.sum()).astype(np.float32)
    return a


def made_narrow(case: Case, precision: str, seed: int = 0, wild: bool = False) -> Case:
    """The case in float32, to be held in a precision; wild: with numbers of many sizes, some of them not finite."""
    rng = np.random.default_rng(seed)
    weights = {name: season(rng, a, FACTORS_OF_WEIGHTS if wild else [1]) for name, a in case.weights.items()}
    x = season(rng, case.x, FACTORS_OF_X if wild else [1], wild and seed % 2 == 0)
    if case.x.dtype == np.float32:  # in the memory that the case has laid out
        case.x[...] = x
        x = case.x
    state = case.state
    if state is not None:
        parts = state if isinstance(state, tuple) else (state,)
        factors = FACTORS_OF_STATES if wild else [1]
        state = as_state(case.cell, tuple(season(rng, a, factors, wild and seed % 3 == 0) for a in parts))
    return case.but(weights=weights, x=x, state=state, options={**case.options, "precision": precision})


def narrow_case(source: Source, precisions: list[str], most_steps: int) -> Case:
    case = random_case(source, most_steps=most_steps)
    return made_narrow(case, source.choose(precisions), source.integer(0, 2**32 - 1), source.choose([False, True]))


@st.composite
def narrow_cases(draw: Any, precisions: list[str] = NARROW, most_steps: int = 9) -> Case:
    return narrow_case(Drawn(draw), precisions, most_steps)


def time_first(case: Case) -> Case:
    x = case.x.swapaxes(0, 1) if case.batch_first else case.x
    return case.but(x=x, batch_first=False, return_sequences=True)


def product_alone(target: str, precision: str, w: np.ndarray, a: np.ndarray, *, recurrent: bool) -> tuple[Any, ...]:
    """Multiply w (rows, K) by a (n, K) in the library, (n, rows), without biases; and what it is to be.

    w of int8 has a scale of 1. It is W x of a layer, whose rows may be fewer than K, or U h of a first step, whose rows
    are K. `linear` makes h of the sum, and +0 of either zero.
    """
    rows = len(w)
    zeros = np.zeros((rows, rows), w.dtype)
    weights = {"weight_ih": zeros[:, :0], "weight_hh": w} if recurrent else {"weight_ih": w, "weight_hh": zeros}
    if w.dtype == np.int8:
        weights |= {f"{name}_scale": np.ones(rows, "f4") for name in weights}
    params = fastrnn.RNNParams(weights, activation="linear", precision=precision, target=target)
    x, state = (a[None, :, :0], a[None]) if recurrent else (a[None], None)
    name, least = ("weight_hh", LEAST_OF_H) if recurrent else ("weight_ih", LEAST_OF_X)
    held = params.weights
    start = np.zeros((len(a), rows), "f4")
    expected = add_product(start, held[name], held[f"{name}_scale"], a, precision, least)
    return fastrnn.rnn(x, params, state)[0][0], flushed(expected) + np.float32(0)


# The arithmetic.


@settings(max_examples=2 * settings.default.max_examples)
@given(case=narrow_cases(OF_BYTES, most_steps=5))
def test_bytes_are_those_of_the_model(case: Case) -> None:
    """Whole layers on every target: cells, options, stacks, directions, lengths, states."""
    expected = narrow.run(case)
    for target in ALL_TARGETS:
        assert_same_bits(case.run(target), expected)


@pytest.mark.parametrize("precision", OF_BYTES)
@pytest.mark.parametrize("cell", CELLS)
def test_edges_of_sizes(cell: str, precision: str) -> None:
    """Sizes about the vectors of all targets, about fours of bytes and about chains, as I, H, P, B and T."""
    rng = np.random.default_rng(len(cell))
    inputs, rows = cycle([0, 128, 1, 17, 4, 131, 3, 64, 5, 15, 2, 63]), cycle([*range(1, 15), 19])
    steps, outputs = cycle([1, 3, 2, 0]), cycle([0, 1, 17, 4, 0, 5, 16] if cell == "lstm" else [0])
    for H in EDGES:
        I, B, T, P = next(inputs), next(rows), next(steps), next(outputs)  # noqa: E741
        weights, x = make_weights(rng, cell, (I, H), proj=P), rng.uniform(-3, 3, (T, B, I)).astype("f4")
        state = make_state(rng, cell, (1, B), H, P or H, "f4")
        options = {"precision": precision} | ({"reset_after": H % 2 == 0} if cell == "gru" else {})
        case = Case(cell, weights, x, state, options=options)
        expected = narrow.run(case)
        for target in ALL_TARGETS:
            assert_same_bits(case.run(target), expected)


@given(case=narrow_cases())
def test_weights_are_rounded_as_the_formula_says(case: Case) -> None:
    held = case.params().weights
    for name, array in case.weights.items():
        if array.ndim == 1:
            assert_same_bits((held[name],), (array,))
        elif case.options["precision"] == "float16":
            assert_same_bits((held[name],), (array.astype("f2"),))
        else:
            whole, scale = bytes_of(array)
            np.testing.assert_array_equal(held[name], whole, strict=True)
            assert_same_bits((held[f"{name}_scale"],), (scale,))


@given(case=narrow_cases(["float16"]))
def test_float16_is_float32_of_the_halves(case: Case) -> None:
    halves = {name: a.astype("f2").astype("f4") if a.ndim == 2 else a for name, a in case.weights.items()}
    wide = case.but(weights=halves, options={**case.options, "precision": "float32"})
    for target in ALL_TARGETS:
        assert_same_bits(case.run(target), wide.run(target))


@pytest.mark.parametrize("cell", CELLS)
def test_float16_of_one_row(cell: str) -> None:
    """Sequences so short, so long and of layers so small and so large that halves are made wide at other times."""
    rng = np.random.default_rng(len(cell))
    for H in (3, 16, 17, 24, 40, 70):
        for T, I, P in ((1, 2, 0), (3, 40, 0), (4, 1, 2), (5, H, 0), (20, 4, 0), (20, 90, 2)):  # noqa: E741
            size = P if cell == "lstm" else 0
            weights = make_weights(rng, cell, (I, H), proj=size)
            halves = {name: a.astype("f2").astype("f4") for name, a in weights.items()}
            x = rng.uniform(-3, 3, (T, 1, I)).astype("f4")
            narrow_one = Case(cell, halves, x, options={"precision": "float16"})
            for target in ALL_TARGETS:
                assert_same_bits(narrow_one.run(target), narrow_one.but(options={}).run(target))


@pytest.mark.parametrize("rows", [1, 256])
def test_every_half_is_widened_exactly(rows: int) -> None:
    """All of them, subnormal ones too, which are normal numbers of float32: for one row, and for many."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    halves = np.where(np.isfinite(halves), halves, np.float16(0))
    weights = {"weight_ih": halves, "weight_hh": np.zeros((256, 256), "f2")}
    for target in ALL_TARGETS:
        params = fastrnn.RNNParams(weights, activation="linear", precision="float16", target=target)
        x = np.eye(256, dtype="f4").reshape(-1, rows, 256)
        np.testing.assert_array_equal(fastrnn.rnn(x, params)[0].reshape(256, 256), halves.T.astype("f4"))


KS = [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 127, 128, 129, 511, 512, 513, 2047, 5000]


@pytest.mark.parametrize("K", KS)
@pytest.mark.parametrize("precision", OF_BYTES)
def test_extremes_do_not_saturate(precision: str, K: int) -> None:
    """Weights and inputs at their ends, in every pattern of signs whose products add up: exact on every target.

    An instruction that adds two products of bytes in 16 bits saturates where one byte may be 255.
    """
    signs = np.stack(
        [np.ones(K), -np.ones(K), np.where(np.arange(K) % 2, -1, 1), np.where(np.arange(K) % 4 < 2, -1, 1)]
    )
    w, a = signs.astype("f4"), np.repeat(signs, [1, 3, 2, 2], axis=0).astype("f4")
    for target in ALL_TARGETS:
        got, expected = product_alone(target, precision, w, a, recurrent=False)
        assert_same_bits((got,), (expected,))
        np.testing.assert_allclose(got, a @ w.T, rtol=1e-6)
        one, _ = product_alone(target, precision, w, a[:1], recurrent=False)
        assert_same_bits((one,), (expected[:1],))


@pytest.mark.parametrize("K", KS)
@pytest.mark.parametrize("precision", OF_BYTES)
def test_the_lowest_byte_does_not_saturate(precision: str, K: int) -> None:
    """-128, which weights of other programs may have."""
    signs = np.where(np.arange(K) % np.arange(2, 7)[:, None], -1, 1)
    w = np.concatenate([np.full((1, K), -128), np.where(signs < 0, -128, 127)]).astype("i1")
    a = np.concatenate([np.ones((1, K)), -np.ones((1, K)), signs]).astype("f4")
    for target in ALL_TARGETS:
        got, expected = product_alone(target, precision, w, a, recurrent=False)
        assert_same_bits((got,), (expected,))
        np.testing.assert_allclose(got, a @ w.T.astype("f4"), rtol=1e-5, atol=K * 1e-3)


@pytest.mark.parametrize("K", [K for K in KS if K < 600])
@pytest.mark.parametrize("precision", OF_BYTES)
def test_extremes_of_states_do_not_saturate(precision: str, K: int) -> None:
    signs = np.where(np.arange(K) % np.arange(2, K + 2)[:, None], -1, 1)
    for largest in (1, 3):  # of which the second has a unit of its own
        a = np.stack([np.ones(K), -np.ones(K), signs[0]]).astype("f4") * np.float32(largest)
        for target in ALL_TARGETS:
            got, expected = product_alone(target, precision, signs.astype("f4"), a, recurrent=True)
            assert_same_bits((got,), (expected,))
            np.testing.assert_allclose(got, a @ signs.T, rtol=1e-6)


@pytest.mark.parametrize("precision", OF_BYTES)
@given(K=st.sampled_from(KS), rows=st.integers(1, 40), n=st.integers(1, 13), seed=st.integers(0, 2**32 - 1))
def test_products_of_any_bytes(precision: str, K: int, rows: int, n: int, seed: int) -> None:
    """Many of the numbers at their ends, and those that lie between two integers."""
    rng = np.random.default_rng(seed)
    w = rng.choice([-127, 127, *range(-127, 128)], (rows, K)).astype("f4")
    w[:, 0] = 127  # so that a row's scale is what it is multiplied by
    w *= np.exp2(rng.integers(-20, 20, (rows, 1))).astype("f4")
    top = narrow.TOP[precision]
    a = np.where(rng.random((n, K)) < 0.5, rng.choice([-top, top], (n, K)), rng.integers(-2 * top, 2 * top, (n, K)) / 2)
    a = (a / top * np.exp2(rng.integers(-110, 20, (n, 1)))).astype("f4")
    results = [product_alone(target, precision, w, a, recurrent=False) for target in ALL_TARGETS]
    for got, expected in results:
        assert_same_bits((got,), (expected,))


def test_the_model_rounds_once() -> None:
    """`fma` against fractions, where float64 alone would round twice: near ties that it takes for ties."""
    rng = np.random.default_rng(5)
    a, b = (rng.integers(2**23, 2**24, 3000).astype("f4") for _ in range(2))
    c = rng.choice([-1, 1], 3000) * np.exp2(rng.integers(-60, 90, 3000)) * rng.integers(2**23, 2**24, 3000)
    ties = (
        np.float32(1 + 2.0**-12),
        np.float32(1 + 2.0**-12),
        np.exp2(-rng.integers(40, 90, 3000)) * rng.choice([-1, 1], 3000),
    )
    twice = 0
    for x, y, z in ((a, b, c.astype("f4")), (*(np.full(3000, tie) for tie in ties[:2]), ties[2].astype("f4"))):
        got = fma(x, y, z)
        twice += np.count_nonzero(got != (np.float64(x) * y + z).astype("f4"))
        for one, *parts in zip(got, x, y, z, strict=True):
            p, q, r = (Fraction(float(part)) for part in parts)
            errors = [
                abs(Fraction(float(near)) - (p * q + r))
                for near in (one, np.nextafter(one, -np.inf, dtype="f4"), np.nextafter(one, np.inf, dtype="f4"))
            ]
            assert errors[0] < min(errors[1:]) or (errors[0] == min(errors[1:]) and one.view("u4") % 2 == 0)
    assert twice > 1000


def linear_layer(cell: str, rng: np.random.Generator, sizes: tuple[int, int, int], precision: str) -> Any:
    """A layer whose gates are its sums, so that a trace shows them."""
    I, H, P = sizes  # noqa: E741
    G, out = GATES[cell], P or H
    shapes = {"weight_ih": (G * H, I), "weight_hh": (G * H, out), "bias_ih": (G * H,), "bias_hh": (G * H,)}
    if P:
        shapes["weight_hr"] = (P, H)
    weights = {
        name: (rng.uniform(-1, 1, shape) * rng.choice([0.01, 1, 3])).astype("f4") for name, shape in shapes.items()
    }
    options = {"activation": "linear"} | ({} if cell == "rnn" else {"recurrent_activation": "linear"})
    return PARAMS[cell](weights, precision=precision, **options)


@pytest.mark.parametrize("precision", OF_BYTES)
@pytest.mark.parametrize("cell", CELLS)
@few
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_traced_gates_are_sums_of_the_model(cell: str, precision: str, seed: int, data: st.DataObject) -> None:
    """Every gate of every step of a trace, from the step's x and the h before it."""
    size = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 128, 129])
    inputs, H, B = (
        data.draw(st.sampled_from([0, 1, 3, 4, 5, 16, 17, 131])),
        data.draw(size),
        data.draw(st.integers(1, 14)),
    )
    P = data.draw(size) if cell == "lstm" and data.draw(st.booleans()) else 0
    rng = np.random.default_rng(seed)
    params = linear_layer(cell, rng, (inputs, H, P), precision)
    x = (rng.normal(size=(3, B, inputs)) * rng.choice([1e-39, 1e-3, 1, 100], size=(3, B, 1))).astype("f4")
    h0 = (rng.normal(size=(1, B, P or H)) * rng.choice([0, 0.1, 5])).astype("f4")
    state = (h0, np.zeros((1, B, H), "f4")) if cell == "lstm" else h0
    trace = fastrnn.trace(x, params, state)
    before = np.concatenate([h0, trace.y[:-1]])
    for t in range(3):
        of_gates = sums_of(cell, params, x[t], before[t], trace["r_l0"][t] if cell == "gru" else None)
        names = {"rnn": ["h"], "lstm": ["i", "f", "g", "o"], "gru": ["r", "z", "n"]}[cell]
        for name, expected in zip(names, of_gates, strict=True):
            with np.errstate(all="ignore"):  # linear is 1 * x + 0
                assert_same_bits((trace[f"{name}_l0"][t],), (flushed(expected) + np.float32(0),))


def sums_of(cell: str, params: Any, x: np.ndarray, h: np.ndarray, r: Any) -> list[np.ndarray]:
    """Of each gate: one chain where biases are added, and two of n of a GRU."""
    held, H, precision = params.weights, params.hidden_size, params.precision
    both = (np.float64(held["bias_ih"]) + np.float64(held["bias_hh"])).astype("f4")
    if cell == "gru":
        both[2 * H :] = held["bias_ih"][2 * H :]
    W = (held["weight_ih"], held["weight_ih_scale"], x, precision, LEAST_OF_X)
    U = (held["weight_hh"], held["weight_hh_scale"], h, precision, LEAST_OF_H)
    of_x = add_product(np.broadcast_to(both, (len(x), len(both))), *W)
    sums = np.split(add_product(of_x, *U), GATES[cell], axis=1)
    if cell == "gru":
        of_h = add_product(np.broadcast_to(held["bias_hh"], (len(x), len(both))), *U)
        sums[2] = fma(r, of_h[:, 2 * H :], of_x[:, 2 * H :])
    return sums


# Promise 1, within each precision.


@settings(max_examples=2 * settings.default.max_examples)
@given(case=narrow_cases())
def test_targets_agree(case: Case) -> None:
    expected = case.run(ALL_TARGETS[0])
    for target in ALL_TARGETS[1:]:
        assert_same_bits(case.run(target), expected)


@few
@given(case=narrow_cases().filter(lambda case: case.x.size), target=targets, data=st.data())
def test_a_row_depends_on_itself_alone(case: Case, target: str, data: st.DataObject) -> None:
    """Any rows, in any order, beside any others, and each alone; whatever they are: some of them are not finite."""
    assert_rows_are_alone(case, target, data)


@few
@given(case=narrow_cases(), target=targets, data=st.data())
def test_cuts_in_time_and_streams_change_nothing(case: Case, target: str, data: st.DataObject) -> None:
    """All at once, cut anywhere with the state carried over, and one by one."""
    case = time_first(case).but(lengths=None)
    params, run = case.params(target), getattr(fastrnn, case.cell)
    if params.direction != "forward":
        return
    whole = case.run(target)
    cuts = sorted({0, case.steps, *data.draw(st.lists(st.integers(0, case.steps), max_size=3))})
    state, parts = case.state, []
    for begin, end in pairwise(cuts):
        y, state = run(case.x[begin:end], params, state)
        parts.append(y)
    if parts:
        assert_same_bits((np.concatenate(parts), *flat((y, state))[1:]), whole)
    if case.x.shape[1] == 0:
        return
    stream = fastrnn.Stream(params, case.x.shape[1])
    if case.state is not None:
        stream.state = case.state
    for t in range(case.steps):
        assert_same_bits((stream.step(case.x[t]),), (whole[0][t],))
    assert_same_bits(flat((whole[0], stream.state))[1:], whole[1:])


@few
@given(case=narrow_cases(most_steps=12).filter(lambda case: case.x.size), target=targets, data=st.data())
def test_lengths_are_cuts(case: Case, target: str, data: st.DataObject) -> None:
    """A row of a length has the bits of that row cut to the length, and zeros after it, whatever lies there."""
    case = time_first(case)
    row, length = data.draw(st.integers(0, case.x.shape[1] - 1)), data.draw(st.integers(0, case.steps))
    one = case.rows([row])
    rest = one.x.copy()
    rest[length:] = np.nan
    y, *states = one.but(x=rest, lengths=np.array([length])).run(target)
    cut_y, *cut_states = one.but(lengths=None, x=one.x[:length]).run(target)
    assert_same_bits((y[:length], *states), (cut_y, *cut_states))
    assert not y[length:].any()


@few
@given(case=narrow_cases(), target=targets, threads=st.integers(2, 7))
def test_threads_and_memory_change_nothing(case: Case, target: str, threads: int) -> None:
    dense = case.but(x=np.ascontiguousarray(case.x)).run(target, threads=1)
    assert_same_bits(case.run(target, threads=threads), dense)
    assert_same_bits(case.run(target, threads=1), dense)


@few
@given(case=narrow_cases(), target=targets)
def test_no_state_is_a_state_of_zeros(case: Case, target: str) -> None:
    params, shape = case.params(target), (len(case.run(target)[1]), case.x.shape[0 if case.batch_first else 1])
    sizes = [
        params.proj_size or params.hidden_size if name == "h" else params.hidden_size
        for name in CELLS[case.cell].states
    ]
    zeros = as_state(case.cell, tuple(np.zeros((*shape, size), "f4") for size in sizes))
    assert_same_bits(case.but(state=None).run(target), case.but(state=zeros).run(target))


@pytest.mark.large
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("directions", [("",), ("", "_reverse")])
def test_long_work(cell: str, precision: str, directions: tuple[str, ...]) -> None:
    """Sizes at which work is hoisted, blocked and shared by threads: rows of all lengths, targets, a row alone."""
    rng = np.random.default_rng(len(precision))
    weights = make_weights(rng, cell, (70, 130), layers=2, directions=directions)
    for B in (1, 2, 7, 24, 110):
        T = 30 if B < 100 else 8
        lengths = rng.integers(0, T + 1, B)
        lengths[0] = T
        x = rng.normal(size=(T, B, 70)).astype("f4")
        case = Case(cell, weights, x, lengths=lengths, options={"precision": precision})
        whole = case.run(ALL_TARGETS[0], threads=1)
        for target in ALL_TARGETS[: 2 if B > 7 else None]:
            assert_same_bits(case.run(target, threads=3), whole)
        assert_same_bits(case.rows([B // 2]).run(), pick_rows(case, whole, [B // 2]))


# Promises 2 and 5.


@pytest.mark.parametrize("place", ["x", *sorted({name for cell in CELLS.values() for name in cell.states})])
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_not_finite_stays_in_its_row(cell: str, precision: str, place: str) -> None:
    """In x and in states, for one row and for many. In what bytes multiply, infinity is NaN too."""
    rng, H = np.random.default_rng(4), 19
    if place != "x" and place not in CELLS[cell].states:
        return
    weights = {"weight_ih": rng.normal(size=(GATES[cell] * H, 6)), "weight_hh": rng.normal(size=(GATES[cell] * H, H))}
    x, others = rng.normal(size=(5, 4, 6)).astype("f4"), [0, 2, 3]
    states = {name: rng.normal(size=(1, 4, H)).astype("f4") for name in CELLS[cell].states}
    for target in ALL_TARGETS:
        params = PARAMS[cell](weights, dtype="float32", precision=precision, target=target)
        run = getattr(fastrnn, cell)
        clean = run(x, params, as_state(cell, tuple(states.values())))[0]
        for odd in (np.nan, np.inf, -np.inf):
            broken_x, broken = x.copy(), {name: a.copy() for name, a in states.items()}
            if place == "x":
                broken_x[2, 1, 3] = odd
            else:
                broken[place][0, 1, 7] = odd
            y = run(broken_x, params, as_state(cell, tuple(broken.values())))[0]
            first = 2 if place == "x" else 0
            assert_same_bits((y[:, others], y[:first]), (clean[:, others], clean[:first]))
            if np.isnan(odd):  # of the c of one unit, all units are NaN a step later
                assert np.isnan(y[first + (place == "c") :, 1]).all()
            elif precision != "float16" and place != "c":
                assert np.isnan(y[first:, 1]).all()


@pytest.mark.parametrize("precision", OF_BYTES)
def test_zeros_and_the_least_inputs(precision: str) -> None:
    """Of an input whose largest number is below 2^-100 / 2 TOP nothing is left; what is subnormal is zero before."""
    w, top = np.ones((3, 6), "f4"), narrow.TOP[precision]
    rows = [0.0, 1e-45, 2.0**-127, 2.0**-100 / top * 0.49, 2.0**-100 / top * 0.51, 2.0**-100 / top, 2.0**-100]
    a = np.array(rows, "f4")[:, None] * np.ones(6, "f4")
    for target in ALL_TARGETS:
        got, expected = product_alone(target, precision, w, a, recurrent=False)
        assert_same_bits((got,), (expected,))
        assert np.count_nonzero(got, axis=1).tolist() == [0, 0, 0, 0, 3, 3, 3]
        np.testing.assert_allclose(got[5:, 0], 6 * a[5:, 0], rtol=1e-6)


BOUNDS = {"float16": 5e-4, "int8": 6e-3, "int8_fast": 1.5e-2}


@pytest.mark.parametrize("H", [32, 64, 100, 128, 256])
@pytest.mark.parametrize("cell", CELLS)
def test_errors_are_within_the_promise(cell: str, H: int) -> None:
    """100 steps, weights uniform in +-1/sqrt(H), normal inputs."""
    rng, G = np.random.default_rng(H), GATES[cell]
    shapes = {"weight_ih": (G * H, H), "weight_hh": (G * H, H), "bias_ih": (G * H,), "bias_hh": (G * H,)}
    weights = {name: rng.uniform(-1, 1, shape) / np.sqrt(H) for name, shape in shapes.items()}
    x = rng.normal(size=(100, 4, H))
    exact = getattr(reference, cell)(x, weights)[0]
    for precision, bound in BOUNDS.items():
        params = PARAMS[cell](weights, dtype="float32", precision=precision)
        y = getattr(fastrnn, cell)(x.astype("f4"), params)[0]
        error = np.sqrt(np.mean((y - exact) ** 2) / np.mean(exact**2))
        assert error <= bound, precision
        assert error > bound / 100, f"{precision}: another precision ran"


# What params hold.


def layer(precision: str, cell: str = "lstm", **options: Any) -> Any:
    rng, G = np.random.default_rng(8), GATES[cell]
    weights = {"weight_ih_l0": rng.normal(size=(G * 9, 5)), "weight_hh_l0": rng.normal(size=(G * 9, 9))}
    weights["bias_ih_l0"] = rng.normal(size=G * 9)
    weights = {name: array.astype("f4") for name, array in weights.items()}
    return PARAMS[cell](weights, precision=precision, **options)


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_and_pickles_hold_what_params_hold(precision: str, suffix: str, tmp_path: Path) -> None:
    if suffix == ".safetensors":
        package("safetensors")
    params, path = layer(precision), tmp_path / f"layer{suffix}"
    params.save(path)
    for other in (fastrnn.load(path), pickle.loads(pickle.dumps(params)), copy.deepcopy(params)):
        assert other == params
        assert hash(other) == hash(params)
        assert other.precision == precision
        assert other.weights.keys() == params.weights.keys()
        for name, array in params.weights.items():
            assert_same_bits((other.weights[name].view("u1"),), (array.view("u1"),))
    assert fastrnn.load(path, precision="float32").precision == "float32"
    assert fastrnn.load(path) != layer("float32")


@pytest.mark.parametrize(("precision", "shrinks"), [("float16", 1.9), ("int8", 3.7)])
def test_files_and_memory_shrink(precision: str, shrinks: float, tmp_path: Path) -> None:
    weights = {"weight_ih": np.ones((512, 256), "f4"), "weight_hh": np.ones((512, 128), "f4")}
    params = fastrnn.LSTMParams(weights)
    small = params.to(precision)
    params.save(tmp_path / "wide.npz")
    small.save(tmp_path / "narrow.npz")
    assert (tmp_path / "wide.npz").stat().st_size > shrinks * (tmp_path / "narrow.npz").stat().st_size
    assert params.nbytes > shrinks * small.nbytes * 0.9
    assert sum(array.nbytes for array in small.weights.values()) * shrinks < sum(a.nbytes for a in weights.values())


def test_to_and_back() -> None:
    params = layer("float32")
    assert params.to("float32") is params
    assert params.to("int8").to("int8_fast").to("int8") == params.to("int8")
    assert params.to("int8") != params.to("int8_fast")
    halves = params.to("float16")
    assert halves.to("float32").to("float16") == halves
    for name, array in params.to("int8").dequantized().items():
        most = np.abs(params.weights[name]).max(axis=-1, keepdims=True) / 254 if array.ndim == 2 else 0
        assert (np.abs(array - params.weights[name]) <= most * 1.00001).all()


def test_held_weights_make_the_same_params() -> None:
    params = layer("int8", "gru", reset_after=False)
    assert fastrnn.GRUParams(params.weights, reset_after=False) == params
    assert params.with_weights(params.weights) == params
    wide = {name: 2 * array for name, array in params.dequantized().items()}
    assert params.with_weights(wide).precision == "int8"
    assert "precision='int8'" in repr(params)


def test_instructions_for_bytes_are_a_target_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTRNN_TARGET", raising=False)
    best = ALL_TARGETS[0]
    assert layer("int8").target == best
    assert layer("float32").target == layer("float16").target == best.split("_")[0]
    assert layer("int8", target="scalar").target == "scalar"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "int4"}, "precision: expected one of float32"),
        ({"precision": 8}, "precision: expected a name or None"),
        ({"precision": "float16"}, "since weights are int8"),
        ({"weight_ih_scale": None}, "missing 'weight_ih_scale'"),
        ({"weight_ih_scale": np.ones(7, "f4")}, r"weight_ih_scale: expected float32 \(8,\)"),
        ({"weight_ih_scale": np.ones(8)}, r"weight_ih_scale: expected float32 \(8,\).*float64"),
        ({"weight_ih_scale": np.full(8, np.nan, "f4")}, "weight_ih_scale: expected positive finite numbers, got nan"),
        ({"weight_ih_scale": np.zeros(8, "f4")}, "weight_ih_scale: expected positive finite numbers, got 0"),
        ({"weight_ih_scale": np.full(8, -1, "f4")}, "weight_ih_scale: expected positive finite numbers, got -1"),
        ({"weight_ih": np.ones((8, 3), "f4")}, "weight_ih: expected int8, since there is 'weight_ih_scale'"),
        ({"dtype": "float64"}, "dtype: expected float32 with precision='int8'"),
        ({"weight_hr_scale": np.ones(2, "f4")}, "unknown 'weight_hr_scale'"),
    ],
)
def test_wrong_bytes_are_refused(change: dict[str, Any], message: str) -> None:
    scales = {"weight_ih_scale": np.ones(8, "f4"), "weight_hh_scale": np.ones(8, "f4")}
    arguments: dict[str, Any] = {"weight_ih": np.ones((8, 3), "i1"), "weight_hh": np.ones((8, 2), "i1"), **scales}
    arguments |= change
    options = {name: arguments.pop(name) for name in ("precision", "dtype") if name in arguments}
    weights = {name: array for name, array in arguments.items() if array is not None}
    with pytest.raises((TypeError, ValueError), match=message):
        fastrnn.LSTMParams(weights, **options)


@pytest.mark.parametrize("precision", NARROW)
def test_floats_that_do_not_fit_are_refused(precision: str) -> None:
    weights = {"weight_ih": np.ones((2, 3)), "weight_hh": np.ones((2, 2))}
    with pytest.raises(TypeError, match=r"expected float32 with precision=.*dtype='float32' converts"):
        fastrnn.RNNParams(weights, precision=precision)
    wrong = {
        name: array.astype("f4") * np.float32(1e6 if precision == "float16" else np.nan)
        for name, array in weights.items()
    }
    with pytest.raises(ValueError, match=r"weight_ih: expected (numbers up to 65504|finite numbers)"):
        fastrnn.RNNParams(wrong, precision=precision)
    with pytest.raises(ValueError, match="dtype: expected float32 with precision"):
        fastrnn.RNNParams(weights, dtype="float64", precision=precision)


@pytest.mark.parametrize("precision", NARROW)
def test_gradients_are_refused_in_words(precision: str) -> None:
    with pytest.raises(
        TypeError, match=f"params: expected float32 or float64 weights for gradients, got '{precision}'"
    ):
        fastrnn.vjp(np.zeros((2, 1, 5), "f4"), layer(precision))


def test_the_plan_knows_the_bytes() -> None:
    rng = np.random.default_rng(1)
    weights = {"weight_ih": rng.normal(size=(2048, 8)), "weight_hh": rng.normal(size=(2048, 512))}
    wide = fastrnn.LSTMParams(weights, dtype="float32")
    said = [wide.to(precision).explain(100).splitlines()[2] for precision in ("float32", "float16", "int8")]
    assert [line.split()[5] for line in said] == ["4.2", "2.1", "1.1"]


def test_random_cases_are_narrow() -> None:
    """The cases that the properties above see are of all cells and forms."""
    seen = {
        type(made_narrow(random_case(Seeded(np.random.default_rng(seed))), "int8").params()).__name__
        for seed in range(40)
    }
    assert len(seen) == len(CELLS)
