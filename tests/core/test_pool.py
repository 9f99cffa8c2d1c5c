"""Pools: each stream has the bits that it has alone, whatever the others do.

(a) Bits, as properties: random opens, closes, steps, runs and states, beside a `Stream` for each of them.
(b) Ids: given once, found out when they are wrong.
(c) Outputs of steps: arrays that are used again, and stay as they are while anybody keeps them.
(d) Use by several threads, and in signal handlers.
(e) Bad calls and their errors, as in test_bad_input.py.

What a step asks of the system is in system/test_stream_step.py.
"""

from __future__ import annotations

import copy
import pickle
import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import GRUParams, LSTMParams, Stream, StreamPool
from support.apart import run_python
from support.cases import (
    Case,
    Drawn,
    Seeded,
    Source,
    assert_same_bits,
    cases,
    forward,
    make_state,
    make_weights,
)
from support.cells import CELLS, PARAMS
from support.errors import bad_calls, raises_as_said

PRECISIONS = [None, "float16", "int8", "int8_fast"]

# (a)


class Model:
    """A pool, and for each of its streams a `Stream` of its own that must be equal to it at all times."""

    def __init__(self, params: Any, capacity: int, source: Source) -> None:
        self.params, self.source = params, source
        self.rng = np.random.default_rng(source.integer(0, 2**32 - 1))
        self.pool = StreamPool(params, capacity)
        self.alone: dict[int, Stream] = {}
        self.closed: list[int] = []

    def some(self, least: int = 0) -> list[int]:
        """Some of the streams, in any order."""
        n = self.source.integer(least, len(self.alone))
        return [int(stream) for stream in self.rng.permutation([*self.alone])[:n]]

    def x(self, *shape: int) -> np.ndarray:
        vocabulary = self.params._vocabulary
        if vocabulary and self.source.choose([False, True]):
            return self.rng.integers(0, vocabulary, shape).astype(self.source.choose(["int32", "int64"]))
        return self.rng.uniform(-1, 1, (*shape, self.params.input_size)).astype(self.params.dtype)

    def new_state(self, rows: int) -> Any:
        p = self.params
        return make_state(self.rng, p._cell.name, (p.num_layers, rows), p.hidden_size, size_of(p), p.dtype.name)

    def as_ids(self, ids: list[int]) -> Any:
        return self.source.choose([list, tuple, np.array])(ids) if ids else []

    def check(self, stream: int) -> None:
        assert_same_bits(parts(self.pool.state([stream])), parts(self.alone[stream].state))

    # What may happen.

    def open(self) -> None:
        how = self.source.choose(["zeros", "random", "without rows", "moved"])
        if how == "moved" and self.alone:
            state = self.pool.state(self.some(1)[0])
        else:
            state = None if how == "zeros" else self.new_state(1)
        if how == "without rows":
            state = without_rows(state)
        stream = self.pool.open(state)
        assert stream not in self.alone
        assert stream not in self.closed
        self.alone[stream] = Stream(self.params)
        self.alone[stream].state = state

    def open_many(self) -> None:
        for _ in range(self.source.integer(0, 20)):
            self.open()

    def close(self) -> None:
        ids = self.some()
        self.pool.close(self.as_ids(ids))
        self.closed += ids
        for stream in ids:
            del self.alone[stream]

    def reset(self) -> None:
        ids = self.source.choose([None, self.some()])
        self.pool.reset(None if ids is None else self.as_ids(ids))
        for stream in [*self.alone] if ids is None else ids:
            self.alone[stream].reset()

    def step(self) -> None:
        ids, threads = self.some(), self.source.choose([1, 1, 3, None])
        x, out = self.x(len(ids)), None
        size = size_of(self.params)
        if self.source.choose([False, True]):
            out = np.full((len(ids), size + 3), np.nan, self.params.dtype)[:, 1 : size + 1]  # rows apart
        y = self.pool.step(self.as_ids(ids), x, out, threads=threads)
        assert out is None or y is out
        assert y.shape == (len(ids), size)
        for row, stream in enumerate(ids):
            assert_same_bits((y[row],), (self.alone[stream].step(x[row]),))

    def step_one(self) -> None:
        (stream,), x = self.some(1)[:1], self.x()
        assert_same_bits((self.pool.step(stream, x),), (self.alone[stream].step(x),))

    def run(self) -> None:
        ids, steps = self.some(), self.source.integer(0, 5)
        x = self.x(len(ids), steps)
        lengths = self.source.choose([None, self.rng.integers(0, steps + 1, len(ids))])
        resets = self.source.choose([None, self.rng.random((len(ids), steps)) < 0.2])
        threads = self.source.choose([1, 2, None])
        y = self.pool.run(self.as_ids(ids), x, lengths, resets=resets, threads=threads)
        for row, stream in enumerate(ids):
            length = steps if lengths is None else int(lengths[row])
            of_row = None if resets is None else resets[row, :length, None]
            alone = self.alone[stream].run(x[row, :length, None], resets=of_row, batch_first=False)
            assert_same_bits((y[row, :length],), (alone[:, 0],))
            assert not y[row, length:].any()

    def run_one(self) -> None:
        (stream,), x = self.some(1)[:1], self.x(3)
        out = self.source.choose([None, np.full((3, size_of(self.params)), np.nan, self.params.dtype)])
        resets = self.source.choose([None, self.rng.random(3) < 0.2])
        y = self.pool.run(stream, x, resets=resets, out=out)
        assert out is None or y is out
        assert_same_bits((y,), (self.alone[stream].run(x, resets=resets),))

    def set_state(self) -> None:
        ids = self.some()
        state = self.source.choose([None, self.new_state(len(ids))])
        self.pool.set_state(self.as_ids(ids), state)
        for row, stream in enumerate(ids):
            self.alone[stream].state = None if state is None else rows_of(state, row)

    def hand_over(self) -> None:
        """Another pool goes on with the same streams."""
        how = self.source.choose([copy.copy, copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))])
        before, self.pool = self.pool, how(self.pool)
        assert self.pool.capacity == before.capacity
        before.reset()

    def do_something(self) -> None:
        actions = ACTIONS + ACTIONS_OF_ONE if self.alone else ACTIONS
        getattr(self, self.source.choose(actions))()

    def check_all(self) -> None:
        assert [*self.pool] == sorted(self.alone, key=lambda stream: stream % 2**24)
        assert len(self.pool) == len(self.alone) <= self.pool.capacity
        assert all(stream in self.pool for stream in self.alone)
        assert not any(stream in self.pool for stream in self.closed)
        for stream in self.alone:
            self.check(stream)


def size_of(params: Any) -> int:
    return params.proj_size or params.hidden_size


def parts(state: Any) -> tuple[np.ndarray, ...]:
    return state if isinstance(state, tuple) else (state,)


def rows_of(state: Any, row: int) -> Any:
    """One row of a state, with its axis."""
    return tuple(part[:, [row]] for part in state) if isinstance(state, tuple) else state[:, [row]]


def without_rows(state: Any) -> Any:
    return tuple(part[:, 0] for part in state) if isinstance(state, tuple) else state[:, 0]


ACTIONS = ["open", "open", "close", "reset", "step", "step", "step", "run", "set_state", "hand_over"]
ACTIONS_OF_ONE = ["step_one", "run_one"]


@given(case=cases(most_steps=0).map(forward), data=st.data())
def test_bits_of_each_stream_alone(target: str, case: Case, data: st.DataObject) -> None:
    source = Drawn(data.draw)
    precision = source.choose(PRECISIONS) if case.x.dtype == np.float32 else None
    vocabulary = source.integer(0, 5)
    embedding = np.random.default_rng(vocabulary).uniform(-1, 1, (vocabulary, case.x.shape[-1])).astype(case.x.dtype)
    params = case.params(target, precision=precision, embedding=embedding if vocabulary else None)
    model = Model(params, source.integer(1, 9), source)
    for _ in range(source.integer(1, 20)):
        model.do_something()
    model.check_all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_thousands_of_actions(target: str, cell: str, precision: str | None) -> None:
    """A pool that grows and is emptied again, with streams by the dozen."""
    params = layer(cell, hidden=9, layers=2, target=target, precision=precision)
    model = Model(params, 1, Seeded(np.random.default_rng(8)))
    for _ in range(300):
        model.do_something()
        if model.source.integer(0, 9) == 0:
            model.open_many()
        if model.source.integer(0, 19) == 0:
            model.check_all()
    model.check_all()


def layer(
    cell: str, inputs: int = 5, hidden: int = 20, target: str | None = None, precision: str | None = None, **sizes: Any
) -> Any:
    weights = make_weights(np.random.default_rng(3), cell, (inputs, hidden), **sizes)
    return PARAMS[cell](weights, target=target, precision=precision)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.large
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("n", [1, 5, 97, 131])
def test_large_layers(cell: str, precision: str | None, n: int) -> None:
    """Steps that release the interpreter lock and that threads share, beside a stream of n rows."""
    params, x = layer(cell, 150, 260, precision=precision, layers=2), numbers(4, n, 150)
    pool, stream, rng = StreamPool(params), Stream(params, n), np.random.default_rng(n)
    ids = np.array([pool.open() for _ in range(n)])
    for threads, x_t in zip([1, 2, 3, 2], x):
        order = rng.permutation(n)
        assert_same_bits((pool.step(ids[order], x_t[order], threads=threads),), (stream.step(x_t)[order],))
    assert_same_bits(parts(pool.state(ids)), parts(stream.state))
    assert_same_bits((pool.run(ids, x.swapaxes(0, 1), threads=2),), (stream.run(x).swapaxes(0, 1),))
    assert_same_bits(parts(pool.state(ids)), parts(stream.state))


@pytest.mark.parametrize("cell", CELLS)
def test_rows_anywhere(cell: str) -> None:
    """Rows of a step need not lie one after the other, nor those of its output."""
    params, x = layer(cell), numbers(3, 5)
    expected = Stream(params, 3).step(x).copy()
    wide, reversed_rows = np.zeros((6, 9), np.float32), np.zeros((3, 20), np.float32)
    wide[::2, 2:7] = x
    for view in (wide[::2, 2:7], x[::-1].copy()[::-1], np.asfortranarray(np.stack([x, x], 2))[:, :, 1].copy()):
        pool = StreamPool(params)
        y = pool.step([pool.open() for _ in range(3)], view, out=reversed_rows[::-1])
        assert_same_bits((y,), (expected,))
    pool = StreamPool(params)
    same = pool.step([pool.open() for _ in range(3)], np.broadcast_to(x[0], (3, 5)))
    assert_same_bits((same,), (np.repeat(expected[:1], 3, axis=0),))


def test_out_may_be_the_input() -> None:
    params, x = layer("gru", 20), numbers(3, 20)
    for threads in (1, 2):
        pool = StreamPool(params)
        ids = [pool.open() for _ in range(3)]
        expected = Stream(params, 3).step(x).copy()
        y = x.copy()
        assert_same_bits((pool.step(ids, y, out=y, threads=threads),), (expected,))


def test_no_inputs_no_streams_no_steps() -> None:
    pool = StreamPool(layer("gru", 0))
    a = pool.open()
    assert pool.step(a, numbers(0)).shape == (20,)
    before = pool.state(a)
    assert pool.step([], numbers(0, 0)).shape == (0, 20)
    assert pool.run([], numbers(0, 7, 0)).shape == (0, 7, 20)
    assert pool.run(a, numbers(0, 0)).shape == (0, 20)
    assert pool.state([]).shape == (1, 0, 20)
    pool.reset([])
    pool.set_state([], None)
    pool.close([])
    assert_same_bits((pool.state(a),), (before,))


def test_a_session_moves_to_a_stream_and_back() -> None:
    params, x = layer("lstm", layers=2, proj=3), numbers(3, 5)
    pool, stream, expected = StreamPool(params), Stream(params), Stream(params).run(x)
    a = pool.open()
    pool.step(a, x[0])
    stream.state = pool.state([a])
    stream.step(x[1])
    pool.set_state(a, stream.state)
    assert_same_bits((pool.step(a, x[2]),), (expected[2],))
    assert_same_bits((pool.step(pool.open(stream.state), x[2]),), (expected[2],))


def test_shapes_and_attributes() -> None:
    params = layer("lstm", layers=3, proj=4)
    pool = StreamPool(params, capacity=2)
    a, b = pool.open(), pool.open()
    assert pool.params is params
    assert repr(pool) == f"StreamPool({params!r}, capacity=2)"
    assert [part.shape for part in pool.state(a)] == [(3, 4), (3, 20)]
    assert [part.shape for part in pool.state([b, a])] == [(3, 2, 4), (3, 2, 20)]
    assert pool.step([a], numbers(1, 5)).shape == (1, 4)
    assert pool.step(a, numbers(5)).shape == (4,)
    assert pool.run(a, numbers(6, 5)).shape == (6, 4)
    assert StreamPool(params).capacity == 64
    for name in ("params", "capacity"):
        with pytest.raises(AttributeError):
            setattr(pool, name, 1)


def test_subnormals_of_the_caller_are_kept() -> None:
    pool = StreamPool(layer("gru", 200, 300))
    pool.step([pool.open() for _ in range(60)], numbers(60, 200), threads=2)
    assert np.array([np.finfo("f4").smallest_normal]) / 2 > 0


# (b)


def test_ids_are_given_once() -> None:
    """In a process, whichever pools are there, also ones that came from another process."""
    params, seen = layer("rnn"), set[int]()
    pools = [StreamPool(params, 1), StreamPool(params, 3)]
    pools += [pickle.loads(pickle.dumps(pools[0]))]
    for i in range(300):
        pool = pools[i % 3]
        if len(pool) > 5:
            pool.close([*pool][1::2])
        stream = pool.open()
        assert type(stream) is int
        assert 0 <= stream < 2**63
        assert stream not in seen
        seen.add(stream)
    assert pools[0].capacity == 8


def test_a_pool_from_elsewhere_gives_no_id_again() -> None:
    """That of a stream which was closed there is not given here, though this process has opened fewer streams."""
    code = """if True:
        import pickle, sys, numpy as np, fastrnn
        pool = pickle.loads(bytes.fromhex(sys.argv[1]))
        print(*pool, pool.open())"""
    pool = StreamPool(layer("rnn", 1, 1))
    ids = [pool.open() for _ in range(4)]
    pool.close(ids[1:])
    result = run_python(code, pickle.dumps(pool).hex())
    kept, opened = map(int, result.stdout.split())
    assert kept == ids[0]
    assert opened not in ids


def test_ids_that_no_pool_had() -> None:
    """What a pickle may hold by mistake is found out before anything is made of it."""
    pool, other = StreamPool(layer("rnn")), StreamPool(layer("rnn"))
    a = pool.open()
    for ids, latest in ([a, a], a // 2**24), ([-1], 5), ([3], 5), ([a], 0), ([a], -1), ([a], 2**60):
        with pytest.raises(ValueError, match="ids: expected those of a pool, got others"):
            other._restore(np.array(ids), latest, None)
        assert len(other) == 0
    with pytest.raises(ValueError, match="pool: expected one without streams"):
        pool._restore(np.array([a]), a // 2**24, None)


def test_kinds_of_ids() -> None:
    params, x = layer("lstm"), numbers(3, 5)
    expected = Stream(params, 3).step(x).copy()
    for kind in (
        list,
        tuple,
        np.array,
        lambda ids: np.array(ids, np.uint64),
        lambda ids: [np.int64(i) for i in ids],
    ):
        pool = StreamPool(params)
        ids = [pool.open() for _ in range(3)]
        assert_same_bits((pool.step(kind(ids), x),), (expected,))
    pool = StreamPool(params)
    ids = np.array([pool.open() for _ in range(3)])
    assert_same_bits((pool.step(np.repeat(ids[::-1], 2)[::-2], x),), (expected,))
    assert_same_bits((pool.step(np.int64(pool.open()), x[0]),), (expected[0],))
    assert ids[0] in pool
    for other in (True, "a", None, 2**70, -(2**70), 0.5):
        assert other not in pool


# (c)


def test_outputs_stay_while_they_are_kept() -> None:
    pool = StreamPool(layer("gru"))
    ids, x = [pool.open(), pool.open()], numbers(9, 2, 5)
    kept, copies = [], []
    for x_t in x:
        y = pool.step(ids, x_t)
        kept.append(y if len(kept) % 2 else y[:1])
        copies.append(kept[-1].copy())
    for one, expected in zip(kept, copies):
        np.testing.assert_array_equal(one, expected)


def test_outputs_are_used_again() -> None:
    pool = StreamPool(layer("gru"))
    ids, x = [pool.open(), pool.open()], numbers(2, 5)
    assert len({pool.step(ids, x).__array_interface__["data"][0] for _ in range(9)}) <= 2
    y = pool.step(ids, x)
    assert y.flags.writeable
    y.shape = (1, 2, 20)
    del y
    for _ in range(3):
        assert pool.step(ids, x).shape == (2, 20)
        assert pool.step(ids[0], x[0]).shape == (20,)
    y = pool.step(ids, x)
    y.flags.writeable = False
    del y
    assert all(pool.step(ids, x).flags.writeable for _ in range(3))


@pytest.mark.parametrize("kind", [copy.copy, copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))])
def test_copies_are_independent(kind: Any) -> None:
    pool, x = StreamPool(layer("lstm"), 3), numbers(2, 5)
    ids = [pool.open() for _ in range(4)]
    pool.close(ids.pop(1))
    pool.step(ids[:2], x)
    twin = kind(pool)
    assert twin.params == pool.params
    assert [*twin] == [*pool]
    expected = [pool.step(ids[1:], x).copy() for _ in range(3)]
    assert_same_bits(tuple(twin.step(ids[1:], x).copy() for _ in range(3)), tuple(expected))


# (d)


@pytest.mark.large
def test_two_threads_at_once() -> None:
    """While one call computes, others into the same pool are refused and change nothing."""
    params, x = layer("lstm", 300, 300), numbers(1, 3000, 300)
    pool, results = StreamPool(params), []
    a, b = pool.open(), pool.open()
    thread = threading.Thread(target=lambda: results.append(pool.run([a], x)))
    refused = set()
    calls = {
        "step": lambda: pool.step([b], x[0, :1]),
        "run": lambda: pool.run([b], x),
        "state": lambda: pool.state(b),
        "set": lambda: pool.set_state(b, None),
        "open": pool.open,
        "close": lambda: pool.close(b),
        "reset": pool.reset,
        "reset one": lambda: pool.reset(b),
        "copy": lambda: copy.copy(pool),
    }
    thread.start()
    while thread.is_alive() and "state" not in refused:
        try:
            pool.state(b)
        except RuntimeError:
            refused.add("state")
    for name, call in calls.items():
        if thread.is_alive():
            with pytest.raises(RuntimeError, match=r"^pool: expected one call at a time, got a call while another"):
                call()
            refused.add(name)
    assert [*pool] == [a, b]
    thread.join()
    assert refused == set(calls)
    y, state = fastrnn.lstm(x, params, batch_first=True)
    assert_same_bits((results[0], *pool.state([a])), (y, *state))
    assert not any(part.any() for part in pool.state(b))


def test_many_threads_stepping_one_pool() -> None:
    """Each step is whole or refused: states are those after as many steps of one thread as were not refused."""
    params, x = layer("gru", 300, 300), numbers(300)
    pool, taken = StreamPool(params), [0] * 4
    ids, together = [pool.open() for _ in range(4)], threading.Barrier(4)

    def work(i: int) -> None:
        together.wait()
        for _ in range(200):
            with suppress(RuntimeError):
                pool.step(ids[i], x)
                taken[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for stream, n in zip(ids, taken):
        _, h_n = fastrnn.gru(np.broadcast_to(x, (n, 1, 300)), params)
        assert_same_bits((pool.state([stream]),), (h_n,))


@pytest.mark.parametrize("handler", ["signal.default_int_handler", "lambda *_: pool.step(b, x[0])"])
def test_a_long_run_can_be_interrupted(handler: str) -> None:
    """The states stay as they were before the run; a handler cannot use the pool that it interrupts."""
    code = f"""if True:
        import signal, numpy as np, fastrnn
        pool = fastrnn.StreamPool(fastrnn.LSTMParams({{"weight_ih": np.ones((4, 1)), "weight_hh": np.ones((4, 1))}}))
        x = np.broadcast_to(np.ones(1), (2**26, 1))
        a, b = pool.open(), pool.open()
        pool.step([a, b], x[:2])
        before = [part.tobytes() for part in pool.state([a, b])]
        signal.signal(signal.SIGALRM, {handler})
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            pool.run(a, x)
        except (KeyboardInterrupt, RuntimeError) as error:
            print(type(error).__name__)
        assert [part.tobytes() for part in pool.state([a, b])] == before
        print(pool.step(a, x[0]).shape)"""
    result = run_python(code)
    name = "KeyboardInterrupt" if "int" in handler else "RuntimeError"
    assert result.stdout.split("\n")[:2] == [name, "(1,)"], result.stderr


# (e)

I, H = 3, 4  # noqa: E741
weights = {cell: make_weights(np.random.default_rng(5), cell, (I, H)) for cell in CELLS}
BOTH = LSTMParams(make_weights(np.random.default_rng(5), "lstm", (I, H), directions=("", "_reverse")))
LSTM, GRU = LSTMParams(weights["lstm"]), GRUParams(weights["gru"])
x, chunk, h, c, wide = numbers(2, I), numbers(2, 5, I), numbers(1, 2, H), numbers(1, 2, H), numbers(2, 5, 2 * I)
gru, lstm, full = StreamPool(GRU), StreamPool(LSTM), StreamPool(LSTM, 1)
words = StreamPool(GRUParams(weights["gru"], embedding=np.eye(4, 3, dtype="float32")))
u, v = words.open(), words.open()
a, b, closed = gru.open(), gru.open(), gru.open()
la, lb, only = lstm.open(), lstm.open(), full.open()
gru.close(closed)
gru.step([a, b], x)
lstm.step([la, lb], x)


def huge(*shape: int) -> np.ndarray:
    return np.broadcast_to(np.zeros(shape[-1], np.float32), shape)


TABLE = r"""
making one
>>> StreamPool(weights["lstm"])
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got dict; fastrnn.LSTMParams(weights) makes them
>>> StreamPool()
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got NoneType
>>> StreamPool(LSTMParams.__new__(LSTMParams))
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got LSTMParams...
>>> StreamPool(BOTH)
ValueError: params: expected direction 'forward', since a stream cannot see what is to come, got 'bidirectional'
>>> StreamPool(LSTM, 0)
ValueError: capacity: expected from 1 to 16777216, got 0
>>> StreamPool(LSTM, 2**24 + 1)
ValueError: capacity: expected from 1 to 16777216, got 16777217
>>> StreamPool(LSTM, 2.0)
TypeError: capacity: expected an integer, got float
>>> StreamPool(LSTM, True)
TypeError: capacity: expected an integer, got bool
>>> StreamPool(LSTM, batch_size=4)
TypeError: StreamPool() got an unexpected keyword argument 'batch_size'; step takes any of the open streams as a batch
>>> StreamPool(LSTM, max_streams=4)
TypeError: StreamPool() got an unexpected keyword argument 'max_streams'; capacity= takes the number
>>> StreamPool(LSTM, dtype="float32")
TypeError: StreamPool() got an unexpected keyword argument 'dtype'; its keywords are params, capacity

ids
>>> gru.step([a, closed], x)
ValueError: ids: expected open streams of this pool, got ... at position 1, which is closed, or not of this pool
>>> gru.step([la, a], x)
ValueError: ids: expected open streams of this pool, got ... at position 0, which is closed, or not of this pool
>>> gru.step([0, 1], x)
ValueError: ids: expected open streams of this pool, got 0 at position 0, which is closed, or not of this pool
>>> gru.step([a, -1], x)
ValueError: ids: expected open streams of this pool, got -1 at position 1, which is negative
>>> gru.step([a, a + 2**24], x)
ValueError: ids: expected open streams of this pool, got ... at position 1, which is closed, or not of this pool
>>> gru.step([a, a + 500], x)
ValueError: ids: expected open streams of this pool, got ... at position 1, which is closed, or not of this pool
>>> gru.step([a, b, a], numbers(3, I))
ValueError: ids: expected distinct streams, got ... at positions 0 and 2
>>> gru.step(np.array([b, a, a]), numbers(3, I))
ValueError: ids: expected distinct streams, got ... at positions 1 and 2
>>> gru.step([a] * 1000, numbers(1000, I))
ValueError: ids: expected distinct streams, got ... at positions 0 and 1
>>> full.step([only, la], x)
ValueError: ids: expected open streams of this pool, got ... at position 1, which is closed, or not of this pool
>>> full.step([only] * 2, x)
ValueError: ids: expected distinct streams, got ... at positions 0 and 1
>>> gru.step([a, 2**70], x)
ValueError: ids: expected open streams of this pool, got 1180591620717411303424 at position 1, which is closed, or ...
>>> gru.step(2**70, x[0])
ValueError: ids: expected open streams of this pool, got 1180591620717411303424, which is closed, or not of this pool
>>> gru.step(np.array([a, 2**63], "uint64"), x)
ValueError: ids: expected open streams of this pool, got 9223372036854775808 at position 1, which is closed, or ...
>>> gru.step(closed, x[0])
ValueError: ids: expected open streams of this pool, got ..., which is closed, or not of this pool
>>> gru.step({a, b}, x)
TypeError: ids: expected an integer, or a list or an array of integers, got set; list(ids) makes a list
>>> gru.step(iter([a, b]), x)
TypeError: ids: expected an integer, or a list or an array of integers, got list_iterator; list(ids) makes a list
>>> gru.step("ab", x)
TypeError: ids: expected an integer, or a list or an array of integers, got str
>>> gru.step(None, x)
TypeError: ids: expected an integer, or a list or an array of integers, got NoneType
>>> gru.step(True, x[0])
TypeError: ids: expected an integer, or a list or an array of integers, got bool
>>> gru.step([a, True], x)
TypeError: ids: expected integers, got bool at position 1
>>> gru.step([a, float(b)], x)
TypeError: ids: expected integers, got float at position 1
>>> gru.step(np.array([a, b], float), x)
TypeError: ids: expected integers, got float at position 0
>>> gru.step(np.array([[a, b]]), x)
ValueError: ids: expected one axis, got 2: (1, 2)
>>> gru.step([[a], [b]], x)
ValueError: ids: expected one axis, got 2: (2, 1)
>>> gru.run([a, closed], chunk)
ValueError: ids: expected open streams of this pool, got ... at position 1, which is closed, or not of this pool
>>> gru.close([b, a, closed])
ValueError: ids: expected open streams of this pool, got ... at position 2, which is closed, or not of this pool
>>> gru.close([a, a])
ValueError: ids: expected distinct streams, got ... at positions 0 and 1
>>> gru.reset([a, closed])
ValueError: ids: expected open streams of this pool, got ... at position 1, which is closed, or not of this pool
>>> gru.state(closed)
ValueError: ids: expected open streams of this pool, got ..., which is closed, or not of this pool
>>> gru.state([a, a])
ValueError: ids: expected distinct streams, got ... at positions 0 and 1
>>> gru.set_state([a, closed], h)
ValueError: ids: expected open streams of this pool, got ... at position 1, which is closed, or not of this pool

step
>>> gru.step([a, b], x.tolist())
TypeError: x: expected a numpy.ndarray, got list; numpy.ascontiguousarray(x, dtype='float32') makes one
>>> gru.step([a, b], x.astype("float64"))
TypeError: x: expected float32 (the dtype of params), got float64; x.astype('float32') converts it, or params ...
>>> gru.step([a, b], wide[:, 0, ::2])
ValueError: x: expected a dense last axis (stride 4 bytes), got stride 8; numpy.ascontiguousarray(x) makes a dense copy
>>> gru.step([a, b], x[:1])
ValueError: x: expected (2, 3) for 2 streams, got (1, 3)
>>> gru.step([a, b], x[:, :2])
ValueError: x: expected (2, 3) for 2 streams, got (2, 2)
>>> gru.step([a, b], chunk)
ValueError: x: expected (2, 3) for 2 streams, got (2, 5, 3); run() takes a chunk of steps
>>> gru.step([a], x[0])
ValueError: x: expected (1, 3) for 1 streams, got (3,)
>>> gru.step(a, x[:1])
ValueError: x: expected (3,) for one stream, got (1, 3); run() takes a chunk of steps
>>> gru.step([a, b], np.array(x[0, 0]))
ValueError: x: expected (2, 3) for 2 streams, got ()
>>> gru.step([a, b], x, x)
ValueError: out: expected (2, 4), got (2, 3)
>>> gru.step(a, x[0], out=np.zeros((1, H), "float32"))
ValueError: out: expected (4,), got (1, 4)
>>> gru.step([a, b], x, out=[0.0])
TypeError: out: expected a numpy.ndarray, got list
>>> gru.step([a, b], x, out=np.broadcast_to(h[0, 0], (2, H)))
ValueError: out: expected an array that can be written to, got a read-only one
>>> gru.step([a, b], x, out=np.lib.stride_tricks.as_strided(np.zeros(H, "float32"), (2, H), (0, 4)))
ValueError: out: expected elements of their own, got strides (0, 4), which make them overlap
>>> gru.step([a, b], x, threads=0)
ValueError: threads: expected from 1 to 256, got 0
>>> gru.step([a, b], x, threads=1.0)
TypeError: threads: expected an integer or None, got float
>>> gru.step([a, b])
TypeError: step() takes at least 2 positional arguments (1 given)

run
>>> gru.run([a, b], chunk.tolist())
TypeError: x: expected a numpy.ndarray, got list; numpy.ascontiguousarray(x, dtype='float32') makes one
>>> gru.run([a, b], chunk.astype("float64"))
TypeError: x: expected float32 (the dtype of params), got float64; ...
>>> gru.run([a, b], chunk[:1])
ValueError: x: expected (2, T, 3) for 2 streams, got (1, 5, 3)
>>> gru.run([a, b], chunk[0])
ValueError: x: expected (2, T, 3) for 2 streams, got (5, 3)
>>> gru.run(a, chunk[:1])
ValueError: x: expected (T, 3) for one stream, got (1, 5, 3); [id] is a list of one
>>> gru.run([a, b], chunk[..., :2])
ValueError: x: expected (B, T, 3), got (2, 5, 2)
>>> gru.run([a, b], chunk, lengths=[5])
ValueError: lengths: expected (2,), one for each row of the batch, got a list of 1
>>> gru.run([a, b], chunk, lengths=[5, 6])
ValueError: lengths: expected values from 0 to T=5, got 6 at row 1
>>> gru.run(a, chunk[0], lengths=[5])
ValueError: lengths: expected None, since x has no batch axis, got lengths; x[:length] is one sequence
>>> gru.run([a, b], huge(2, 2**57, 3))
ValueError: x: expected T * B * outputs that an array can hold, got T=144115188075855872, B=2 and 4 outputs a step
>>> gru.run([a, b], chunk, out=chunk)
ValueError: out: expected (2, 5, 4), got (2, 5, 3)
>>> gru.run([a, b], chunk, resets=np.zeros((5, 2), bool))
ValueError: resets: expected (2, 5), which is (B, T), ..., got (5, 2); resets.T has it
>>> gru.run(a, chunk[0], resets=np.zeros((1, 5), bool))
ValueError: resets: expected (5,), ... got (1, 5)...
>>> words.step([u, v], np.array([0, 4]))
ValueError: x: expected tokens from 0 to 3, the rows of the embedding, got 4 at x[1]
>>> words.step(u, -1)
ValueError: x: expected tokens from 0 to 3, the rows of the embedding, got -1
>>> words.step(u, np.array([1]))
ValueError: x: expected one integer for one stream, got (1,); run() takes a chunk of steps
>>> words.step([u], 1)
ValueError: x: expected tokens (1,) for 1 streams, got 1
>>> words.run([u, v], np.zeros((3, 2), int))
ValueError: x: expected tokens (2, T) for 2 streams, got (3, 2)
>>> words.run(u, np.zeros((1, 3), int))
ValueError: x: expected tokens (T,) for one stream, got (1, 3)...
>>> gru.step([a, b], np.zeros(2, int))
TypeError: x: expected float32 (the dtype of params), got int64; ...params with embedding=E take tokens...
>>> gru.run([a, b], chunk, threads=True)
TypeError: threads: expected an integer or None, got bool
>>> gru.run([a, b], chunk, batch_first=True)
TypeError: ...run() got an unexpected keyword argument 'batch_first'

state
>>> gru.set_state([a, b], (h, c))
TypeError: state: expected one array, got a tuple of 2
>>> gru.set_state([a, b], h.tolist())
TypeError: state: expected one array, got a list of 1
>>> gru.set_state([a, b], h.astype("float64"))
TypeError: state: expected float32 (the dtype of params), got float64; state.astype('float32') converts it...
>>> gru.set_state([a, b], h[:, :1])
ValueError: state: expected (1, 2, 4), which is (layers * directions, B, size), got (1, 1, 4)
>>> gru.set_state(a, h)
ValueError: state: expected (1, 1, 4), which is (layers * directions, B, size), got (1, 2, 4)
>>> gru.set_state(a, h[:, 0, :2])
ValueError: state: expected (1, 4), which is (layers * directions, size), got (1, 2)
>>> lstm.set_state([la, lb], h)
TypeError: state: expected a tuple (h, c) for an LSTM, got ndarray
>>> lstm.set_state([la, lb], (h, c, c))
ValueError: state: expected a tuple (h, c) for an LSTM, got 3 entries
>>> lstm.set_state([la, lb], (h, None))
TypeError: state[1] (c): expected a numpy.ndarray, got NoneType
>>> lstm.set_state([la, lb], (h, c[:, :1]))
ValueError: state[1] (c): expected (1, 2, 4), which is ..., got (1, 1, 4)
>>> gru.open(h)
ValueError: state: expected (1, 1, 4), which is (layers * directions, B, size), got (1, 2, 4)
>>> lstm.open((h[:, 0], None))
TypeError: state[1] (c): expected a numpy.ndarray, got NoneType
>>> lstm.open(h[:, 0])
TypeError: state: expected a tuple (h, c) for an LSTM, got ndarray
"""


def snapshot() -> list[Any]:
    arrays = [x, chunk, h, c, wide, gru.state([a, b]), *lstm.state([la, lb]), *full.state([only])]
    return [array.tobytes() for array in arrays] + [[*pool] for pool in (gru, lstm, full)]


BEFORE = snapshot()


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(TABLE, at_least=70))
def test_bad_call(call: str, error: str, message: str) -> None:
    with raises_as_said(error, message):
        eval(call)
    assert snapshot() == BEFORE
