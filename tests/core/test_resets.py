"""`resets=`: a row's state is zero before a step, in calls, traces, streams and gradients.

That calls with resets are the reference's, and that their bits depend on nothing else, is tested beside calls without
(test_against_reference.py, test_bits.py, test_gradients.py). Here:

(a) a reset is a cut: what follows has the bits of a call that begins there without a state;
(b) no gradient flows over one;
(c) arguments that are wrong.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from support.cases import Case, assert_same_bits, cases, flat, make_state, make_weights
from support.cells import CELLS, PARAMS, as_state
from support.gradients import There, arrays, parts, random_like
from support.splits import SPLITS

few = settings(max_examples=max(settings.default.max_examples // 2, 1))
with_resets = cases(most_steps=12, may_reset=True).filter(lambda case: case.resets is not None)


def time_first(case: Case) -> Case:
    if not case.batch_first:
        return case
    return case.but(x=case.x.swapaxes(0, 1), resets=case.resets.swapaxes(0, 1), batch_first=False)


def one_direction(case: Case) -> Case:
    """The layers of one direction of a stack of two, on top of each other where they fit: of the lowest layer alone."""
    suffix = "_l0_reverse" if any(name.endswith("_reverse") for name in case.weights) else ""
    if suffix and any(name.endswith("_l0") for name in case.weights):
        weights = {name: a for name, a in case.weights.items() if name.endswith("_l0")}
        state = case.state if case.state is None else as_state(case.cell, tuple(a[:1] for a in parts(case.state)))
        return case.but(weights=weights, state=state)
    return case


# (a)


def pieces_of(resets: np.ndarray, length: int, reverse: bool) -> list[slice]:
    """The times between resets of a row, in the order in which a direction takes them."""
    if reverse:  # a reset at t cuts between t and t + 1, from where the direction comes
        cuts = [0, *(t + 1 for t in range(length - 1) if resets[t]), length]
        return [slice(begin, end) for begin, end in pairwise(cuts)][::-1]
    cuts = [0, *(t for t in range(1, length) if resets[t]), length]
    return [slice(begin, end) for begin, end in pairwise(cuts)]


def row_by_cuts(run: Any, x: np.ndarray, resets: np.ndarray, state: Any, reverse: bool) -> tuple[np.ndarray, Any]:
    """One row (T, 1, I) of one layer in one direction, a call for each piece between resets."""
    y, length = [], len(x)
    for i, piece in enumerate(pieces_of(resets, length, reverse)):
        first = length - 1 if reverse else 0
        part, state = run(x[piece], None if i or resets[first] else state)
        y.append(part)
    return np.concatenate(y[::-1] if reverse else y), state


def by_cuts(case: Case, **options: Any) -> tuple[np.ndarray, ...]:
    """Layer by layer, direction by direction and row by row, a call for each piece between resets."""
    case, states = time_first(case), len(CELLS[case.cell].states)
    steps, rows = case.x.shape[:2]
    lengths = np.full(rows, steps) if case.lengths is None else case.lengths
    suffixes = [name.removeprefix("weight_ih") for name in case.weights if name.startswith("weight_ih")]
    x, finals, layers = case.x, [], sorted({suffix.removesuffix("_reverse") for suffix in suffixes})
    for layer in layers:
        sides = []
        for suffix in (s for s in suffixes if s.removesuffix("_reverse") == layer):
            reverse, at = suffix.endswith("_reverse"), "_l0" + suffix.removeprefix(layer)
            weights = {n.removesuffix(suffix) + at: a for n, a in case.weights.items() if n.endswith(suffix)}
            params = PARAMS[case.cell](weights, **case.options, **options)
            out, place = params.proj_size or params.hidden_size, len(finals)
            y = np.zeros((steps, rows, out), x.dtype)
            sizes = [out, params.hidden_size][:states]
            final = [np.zeros((1, rows, size), x.dtype) for size in sizes]
            for row, length in enumerate(lengths):
                state = None
                if case.state is not None:
                    initial = tuple(a[place : place + 1, row : row + 1] for a in parts(case.state))
                    state = as_state(case.cell, initial)
                if length:
                    run = lambda x, state: getattr(fastrnn, case.cell)(x, params, state, batch_first=False)  # noqa: B023, E731
                    y[:length, [row]], state = row_by_cuts(run, x[:length, [row]], case.resets[:, row], state, reverse)
                for to, a in zip(final, parts(state), strict=False):
                    to[:, [row]] = 0 if a is None else a
            sides.append(y)
            finals.append(final)
        x = np.concatenate(sides, axis=-1)
    joined = tuple(np.concatenate(a) for a in zip(*finals, strict=True))
    if not case.return_sequences:
        x = np.concatenate([final[0][0] for final in finals[len(finals) - len(sides) :]], axis=-1)
    return (x, *joined)


def as_laid_out(case: Case, results: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    y, *states = results
    return (y.swapaxes(0, 1) if case.batch_first and case.return_sequences else y, *states)


@settings(max_examples=2 * settings.default.max_examples)
@given(case=with_resets, threads=st.integers(1, 3))
def test_a_reset_is_a_cut(target: str, case: Case, threads: int) -> None:
    expected = by_cuts(case, target=target)
    assert_same_bits(case.run(target, threads=threads), as_laid_out(case, expected))


@few
@given(case=with_resets, precision=st.sampled_from(["float16", "int8", "int8_fast"]))
def test_a_reset_is_a_cut_with_narrow_weights(target: str, case: Case, precision: str) -> None:
    as_float32 = {name: a.astype("f4") for name, a in case.weights.items()}
    state = None if case.state is None else as_state(case.cell, tuple(a.astype("f4") for a in parts(case.state)))
    case = case.but(weights=as_float32, x=case.x.astype("f4"), state=state)
    params = case.params(target, precision=precision)
    got = flat(getattr(fastrnn, case.cell)(case.x, params, case.state, **case.call))
    assert_same_bits(got, as_laid_out(case, by_cuts(case, target=target, precision=precision)))


@pytest.mark.large
@pytest.mark.parametrize("every", [1, 9, 10_000])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("cell", CELLS)
def test_threads_that_share_a_call(cell: str, split: str, every: int) -> None:
    """However the plan shares it, with rows of all lengths, and the first row also beside its cuts."""
    rng = np.random.default_rng(every)
    params, x = SPLITS[split].make(rng, cell)
    steps, rows = x.shape[:2]
    lengths = rng.integers(0, steps + 1, rows) if rows > 1 else None
    resets = rng.random((steps, rows)) < 1 / every
    resets[:, -1] = False
    case = Case(cell, params.weights, x, lengths=lengths, resets=resets)
    expected = case.run(threads=1)
    for threads in (2, 3, 5):
        assert_same_bits(case.run(threads=threads), expected)
    assert_same_bits(case.rows([0]).run(threads=2), by_cuts(case.rows([0])))
    assert_same_bits(case.rows([0]).run(), tuple(a[..., [0], :] for a in expected))


@given(case=cases(batched=False, may_reset=True).filter(lambda case: case.x.ndim == 2 and case.resets is not None))
def test_without_a_batch(target: str, case: Case) -> None:
    state = None if case.state is None else as_state(case.cell, tuple(a[:, np.newaxis] for a in parts(case.state)))
    batched = case.but(x=case.x[:, np.newaxis], resets=case.resets[:, np.newaxis], state=state, batch_first=False)
    y, *states = batched.run(target)
    y = y[:, 0] if case.return_sequences else y[0]
    assert_same_bits(case.run(target), (y, *(a[:, 0] for a in states)))


@few
@given(case=cases(may_reset=True), data=st.data())
def test_resets_past_an_end_are_not_read(target: str, case: Case, data: st.DataObject) -> None:
    case = time_first(case.but(resets=np.zeros(case.x.shape[:2], bool) if case.resets is None else case.resets))
    steps, rows = case.x.shape[:2]
    lengths = np.array(data.draw(st.lists(st.integers(0, steps), min_size=rows, max_size=rows)), int)
    past = np.arange(steps)[:, np.newaxis] >= lengths
    case = case.but(lengths=lengths, resets=case.resets & ~past)
    assert_same_bits(case.but(resets=case.resets | past).run(target), case.run(target))


def test_bytes_of_bools_may_be_any() -> None:
    """NumPy lets a view of bools have any byte, and takes all but 0 for True."""
    rng = np.random.default_rng(0)
    case = Case("lstm", make_weights(rng, "lstm", (3, 5)), rng.normal(size=(9, 4, 3)).astype("f4"))
    raw = rng.integers(0, 3, (9, 4)).astype("u1")
    assert_same_bits(case.but(resets=raw.view(bool)).run(), case.but(resets=raw > 0).run())


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("cell", CELLS)
def test_streams(target: str, cell: str, every: int) -> None:
    """Chunks with resets, and steps between them."""
    rng = np.random.default_rng(every)
    params = PARAMS[cell](make_weights(rng, cell, (3, 17), layers=2), target=target)
    x = rng.normal(size=(30, 4, 3)).astype("f4")
    resets = rng.random((30, 4)) < 1 / every
    resets[10:12] = False
    expected = flat(getattr(fastrnn, cell)(x, params, resets=resets))
    stream = fastrnn.Stream(params, 4)
    stream.run(x[::-1])
    stream.reset()
    y = [stream.run(x[:10], resets=resets[:10]), *(stream.step(x[t])[None].copy() for t in (10, 11))]
    y.append(stream.run(x[12:].swapaxes(0, 1), resets=resets[12:].T, batch_first=True).swapaxes(0, 1))
    assert_same_bits(flat((np.concatenate(y), stream.state)), expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_traces(target: str, cell: str, reverse: bool) -> None:
    """Gates and states are those of the pieces."""
    rng, suffix = np.random.default_rng(0), "_reverse" if reverse else ""
    params = PARAMS[cell](
        make_weights(rng, cell, (3, 17), peepholes=True, directions=(suffix,), dtype="float64"), target=target
    )
    x, resets = rng.normal(size=(20, 3)), rng.random(20) < 0.3
    trace = fastrnn.trace(x, params, resets=resets)
    traced = [fastrnn.trace(x[piece], params) for piece in sorted_pieces(resets, reverse)]
    for name, array in trace.items():
        assert_same_bits((array,), (np.concatenate([piece[name] for piece in traced]),))


def sorted_pieces(resets: np.ndarray, reverse: bool) -> list[slice]:
    return sorted(pieces_of(resets, len(resets), reverse), key=lambda piece: piece.start)


# (b)


@few
@given(case=with_resets, checkpoint=st.none() | st.integers(1, 5), threads=st.integers(1, 3))
def test_gradients_of_pieces(target: str, case: Case, checkpoint: int | None, threads: int) -> None:
    """Those of x and of the state are those of calls of their own, and those of weights are their sum."""
    case = one_direction(time_first(case)).but(return_sequences=True, lengths=None)
    reverse = all(name.endswith("_reverse") for name in case.weights if name.startswith("weight_ih"))
    if not case.x.shape[1] or not case.steps:
        return
    case = case.rows([0])
    dy, *dstate = random_like(case.run())
    got = There(case, case.params(target), checkpoint=checkpoint, threads=threads).back([dy, *dstate])
    pieces = pieces_of(case.resets[:, 0], case.steps, reverse)
    fresh = case.resets[-1 if reverse else 0, 0]
    alone = []
    for i, piece in enumerate(pieces):
        state = case.state if i == 0 and not fresh else None
        call = There(case.but(x=case.x[piece], resets=None, state=state), case.params(target))
        alone.append(call.back([dy[piece], *(dstate if i + 1 == len(pieces) else [None] * len(dstate))]))
    in_time = alone[::-1] if reverse else alone
    np.testing.assert_array_equal(got.x, np.concatenate([g.x for g in in_time]))
    for a, b in zip(parts(got.state), parts(alone[0].state), strict=True):
        np.testing.assert_array_equal(a, np.zeros_like(b) if fresh else b)
    for name, a in got.weights.items():
        terms = [g.weights[name].astype("f8") for g in alone]
        largest = sum(float(np.abs(term).max(initial=0)) for term in terms)
        assert np.abs(a - sum(terms)).max(initial=0) <= 1e-5 * max(largest, 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("checkpoint", [None, 1, 7])
@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_flows_over_a_reset(cell: str, checkpoint: int | None, threads: int) -> None:
    """Not even NaN, in either direction of time."""
    rng = np.random.default_rng(0)
    weights = make_weights(rng, cell, (3, 17), layers=2)
    x = rng.normal(size=(20, 5, 3)).astype("f4")
    resets = np.zeros((20, 5), bool)
    resets[12, [1, 3]] = resets[0, 2] = True
    case = Case(cell, weights, x, make_state(rng, cell, (2, 5), 17, 17, "float32"), resets=resets)
    spoiled = x.copy()
    spoiled[4, 3] = np.nan
    y = case.run()[0]
    assert_same_bits((case.but(x=spoiled).run()[0][12:],), (y[12:],))
    dy, *dstate = random_like(case.run())
    dy[15, 1] = np.nan
    got = There(case, checkpoint=checkpoint, threads=threads).back([dy, *dstate])
    assert np.isfinite(got.x[:12]).all()
    assert np.isnan(got.x[12, 1]).all()
    assert all(np.isfinite(a).all() for a in parts(got.state))
    assert not any(a[:, 2].any() for a in parts(got.state))
    assert all(a[:, [0, 1, 3, 4]].any(axis=(0, 2)).all() for a in parts(got.state))


@pytest.mark.large
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_shared_work(cell: str, split: str) -> None:
    rng = np.random.default_rng(1)
    params, x = SPLITS[split].make(rng, cell)
    steps, rows = x.shape[:2]
    lengths = rng.integers(0, steps + 1, rows) if rows > 1 else None
    case = Case(cell, params.weights, x, lengths=lengths, resets=rng.random((steps, rows)) < 0.05)
    gradients = random_like(case.run())
    expected = There(case, params, threads=1).back(gradients)
    for threads, checkpoint in ((2, None), (3, None), (2, 1 + steps // 3)):
        call = There(case, params, threads=threads, checkpoint=checkpoint)
        assert_same_bits(call.results, case.run(threads=1))
        assert_same_bits(arrays(call.back(gradients)), arrays(expected))


def test_a_tape_keeps_its_own_resets() -> None:
    rng = np.random.default_rng(0)
    case = Case("gru", make_weights(rng, "gru", (3, 5)), rng.normal(size=(9, 4, 3)).astype("f4"))
    resets = rng.random((9, 4)) < 0.3
    for checkpoint in (None, 2):
        gradients = random_like(case.run())
        mine = resets.copy()
        call = There(case.but(resets=mine), checkpoint=checkpoint)
        mine[...] = ~mine
        assert_same_bits(arrays(call.back(gradients)), arrays(There(case.but(resets=resets)).back(gradients)))


# (c)


def layer() -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(0)
    return PARAMS["lstm"](make_weights(rng, "lstm", (3, 5))), rng.normal(size=(6, 4, 3)).astype("f4")


WRONG: list[tuple[Any, type[Exception], str]] = [
    (np.zeros((6, 4), "i8"), TypeError, "resets: expected bool, got int64; resets.astype(bool) converts it"),
    (np.zeros((6, 4), "f4"), TypeError, "resets: expected bool, got float32; resets.astype(bool) converts it"),
    (
        [[False] * 4] * 6,
        TypeError,
        "resets: expected a numpy.ndarray of bool, got list; numpy.ascontiguousarray(resets, dtype='bool') makes one",
    ),
    (True, TypeError, "resets: expected a numpy.ndarray of bool, got bool"),
    (
        np.ma.masked_array(np.zeros((6, 4), bool)),
        TypeError,
        "resets: expected an array without a mask, got a MaskedArray; filled() makes one",
    ),
    (
        np.zeros((4, 6), bool),
        ValueError,
        "resets: expected (6, 4), which is (T, B), a bool for each step of x, got (4, 6); resets.T has it",
    ),
    (
        np.zeros((6, 4, 1), bool),
        ValueError,
        "resets: expected (6, 4), which is (T, B), a bool for each step of x, got (6, 4, 1); resets[..., 0] has it",
    ),
    (np.zeros(4, bool), ValueError, "resets: expected (6, 4), which is (T, B), a bool for each step of x, got (4,)"),
]


@pytest.mark.parametrize(("resets", "error", "words"), WRONG)
def test_wrong_resets(resets: Any, error: type[Exception], words: str) -> None:
    params, x = layer()
    calls = [
        lambda: fastrnn.lstm(x, params, resets=resets),
        lambda: fastrnn.run(x, params, resets=resets),
        lambda: fastrnn.vjp(x, params, resets=resets),
        lambda: fastrnn.trace(x, params, resets=resets),
        lambda: fastrnn.Stream(params, 4).run(x, resets=resets),
    ]
    for call in calls:
        with pytest.raises(error) as raised:
            call()
        assert str(raised.value) == words


def test_wrong_resets_in_other_layouts() -> None:
    params, x = layer()
    with pytest.raises(ValueError, match=r"resets: expected \(6, 4\), which is \(B, T\), .* got \(4, 6\)"):
        fastrnn.lstm(x, params, resets=np.zeros((4, 6), bool), batch_first=True)
    with pytest.raises(ValueError, match=r"resets: expected \(6,\), which is \(T,\), .* got \(6, 4\)"):
        fastrnn.lstm(x[:, 0], params, resets=np.zeros((6, 4), bool))


def test_out_may_not_be_the_resets() -> None:
    params, x = layer()
    out = np.zeros((6, 4, 5), "f4")
    with pytest.raises(ValueError, match="out: expected memory of its own, got memory that overlaps resets"):
        fastrnn.lstm(x, params, out=out, resets=out.view(bool)[..., 0])


@pytest.mark.parametrize("word", ["dones", "is_first", "reset_mask"])
def test_other_words(word: str) -> None:
    params, x = layer()
    for function in (fastrnn.lstm, fastrnn.vjp, fastrnn.trace):
        with pytest.raises(TypeError, match=rf"{word}.*; resets= takes, as bools \(T, B\)"):
            function(x, params, **{word: np.zeros((6, 4), bool)})
