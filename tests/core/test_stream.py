"""Streams: the bits of the whole sequence, what a step returns, what it costs, and its errors.

(a) Bits, as properties.
(b) Outputs of steps: they are the stream's memory, and stay as they are while anybody keeps them.
(c) Use by several threads, and in signal handlers.
(d) Bad calls and their errors, as in test_bad_input.py.

What a step asks of the system is in system/test_stream_step.py.
"""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import GRUParams, LSTMParams, RNNParams, Stream
from support.apart import run_python
from support.cases import Case, assert_same_bits, cases, flat, forward, make_weights
from support.cells import CELLS, PARAMS
from support.errors import bad_calls, raises_as_said

stream_cases = cases(most_steps=20).map(forward).filter(lambda case: case.x.shape[1] > 0)


def whole(case: Case, params: Any) -> tuple[np.ndarray, ...]:
    return flat(getattr(fastrnn, case.cell)(case.x, params, case.state))


def handed_over(stream: Stream, how: str) -> Stream:
    """A stream that goes on from where this one is."""
    if how == "pickle":
        return pickle.loads(pickle.dumps(stream))
    if how == "copy":
        return copy.copy(stream)
    if how == "deepcopy":
        return copy.deepcopy(stream)
    other = Stream(stream.params, stream.batch_size) if how == "other" else stream
    state = stream.state
    other.reset()
    other.state = state
    return other


def step_keeping(stream: Stream, x: np.ndarray, how: str) -> np.ndarray:
    """The output of a step, kept in one of the ways in which users do."""
    if how == "out":
        size = stream.params.proj_size or stream.params.hidden_size
        out = np.full((*x.shape[:-1], size + 3), np.nan, x.dtype)[..., 1 : size + 1]  # rows apart
        assert stream.step(x, out) is out
        return out
    y = stream.step(x)
    return {"kept": y, "view": y[...], "buffer": np.asarray(memoryview(y)), "copied": y.copy()}[how]


def without_batch(x: np.ndarray, leave_out: bool) -> np.ndarray:
    return x[..., 0, :] if leave_out and x.shape[-2] == 1 else x


@given(case=stream_cases, data=st.data())
def test_bits_of_the_whole_sequence(target: str, case: Case, data: st.DataObject) -> None:
    """Steps, chunks, and states carried from stream to stream, in any order."""
    params, (steps, rows, _) = case.params(target), case.x.shape
    expected = whole(case, params)
    stream, ys, t = Stream(params, rows), [expected[0][:0]], 0
    stream.state = case.state
    while t < steps:
        chosen = data.draw(st.sampled_from(["step", "step", "run", "state", "other", "pickle", "copy", "deepcopy"]))
        leave_out = rows == 1 and data.draw(st.booleans())
        if chosen == "step":
            how = data.draw(st.sampled_from(["kept", "view", "buffer", "copied", "out"]))
            y = step_keeping(stream, without_batch(case.x[t], leave_out), how)
            ys.append(y.reshape(1, rows, y.shape[-1]))
            t += 1
        elif chosen == "run":
            end = data.draw(st.integers(t, steps))
            y = stream.run(without_batch(case.x[t:end], leave_out), threads=data.draw(st.sampled_from([None, 1, 3])))
            ys.append(y.reshape(end - t, rows, y.shape[-1]))
            t = end
        else:
            stream = handed_over(stream, chosen)
    assert_same_bits(flat((np.concatenate(ys), stream.state)), expected)


@settings(max_examples=max(settings.default.max_examples // 4, 1))
@given(case=stream_cases.filter(lambda case: case.x.shape[0] > 0))
def test_steps_alone(target: str, case: Case) -> None:
    params = case.params(target)
    stream = Stream(params, case.x.shape[1])
    stream.state = case.state
    y = np.array([stream.step(x) for x in case.x])
    assert_same_bits(flat((y, stream.state)), whole(case, params))


@settings(max_examples=max(settings.default.max_examples // 4, 1))
@given(case=stream_cases.filter(lambda case: case.x.shape[0] > 0))
def test_reset_and_streams_apart(case: Case) -> None:
    """After a reset a stream is as when it was new, and streams that share params share nothing else."""
    params = case.params()
    one, other = (Stream(params, case.x.shape[1]) for _ in range(2))
    first = [one.step(x) for x in case.x]
    other.state = one.state
    one.reset()
    for x, expected in zip(case.x, first):
        other.step(x)
        assert_same_bits((one.step(x),), (expected,))


def layer(cell: str, inputs: int = 5, hidden: int = 20, **options: Any) -> Any:
    return PARAMS[cell](make_weights(np.random.default_rng(3), cell, (inputs, hidden), **options))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rows", [1, 7])
def test_large_layers(cell: str, rows: int) -> None:
    """Steps that release the interpreter lock, and sums of more than one chain of 128 terms."""
    params, x = layer(cell, 300, 260, layers=2), numbers(9, rows, 300)
    stream = Stream(params, rows)
    ys = [stream.step(x_t).copy() for x_t in x[:4]]
    y = np.concatenate([ys, stream.run(x[4:])])
    assert_same_bits(flat((y, stream.state)), flat(getattr(fastrnn, cell)(x, params)))


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_that_threads_share(cell: str, rows: int) -> None:
    """Their bits, outputs and states are those of one thread, whichever step has which number of threads."""
    params, x = layer(cell, 700, 720, layers=2), numbers(9, rows, 700)
    assert "2 threads: " in params.explain(1, rows, threads=2)
    stream, kept = Stream(params, rows), []
    for t, threads in enumerate([2, 1, None, 3, 2, 1, 2]):
        y = stream.step(x[t], threads=threads)
        kept.append(y if t % 3 == 0 else y.copy())
    y = np.concatenate([kept, stream.run(x[7:], threads=2)])
    assert_same_bits(flat((y, stream.state)), flat(getattr(fastrnn, cell)(x, params)))


def test_tokens_of_steps_that_threads_share() -> None:
    rng = np.random.default_rng(5)
    embedding = rng.normal(size=(7, 600)).astype("f4")
    params = GRUParams(make_weights(rng, "gru", (600, 720)), embedding=embedding)
    tokens = rng.integers(7, size=(5, 8))
    stream = Stream(params, 8)
    y = [stream.step(row, threads=2).copy() for row in tokens]
    assert_same_bits(flat((np.array(y), stream.state)), flat(fastrnn.gru(tokens, params)))
    before = stream.state
    with pytest.raises(ValueError, match="expected tokens from 0 to 6"):
        stream.step(tokens[0] + 1, threads=2)
    assert_same_bits((stream.state,), (before,))


@pytest.mark.parametrize("cell", CELLS)
def test_rows_anywhere(cell: str) -> None:
    """Rows of a step need not lie one after the other."""
    params, x = layer(cell), numbers(3, 5)
    expected = Stream(params, 3).step(x).copy()
    wide = np.zeros((6, 9), np.float32)
    wide[::2, 2:7] = x
    for view in (wide[::2, 2:7], x[::-1].copy()[::-1], np.asfortranarray(np.stack([x, x], 2))[:, :, 1].copy()):
        assert_same_bits((Stream(params, 3).step(view),), (expected,))
    same = np.broadcast_to(x[0], (3, 5))
    assert_same_bits((Stream(params, 3).step(same)[2:],), (expected[:1],))


def test_no_inputs() -> None:
    params = layer("gru", 0)
    assert_same_bits((Stream(params).step(numbers(0)),), (fastrnn.gru(numbers(1, 0), params)[0][0],))


def test_no_steps() -> None:
    stream = Stream(layer("lstm"), 2)
    stream.step(numbers(2, 5))
    before = stream.state
    assert stream.run(numbers(0, 2, 5)).shape == (0, 2, 20)
    assert_same_bits(stream.state, before)


def test_shapes_and_attributes() -> None:
    params = layer("lstm", layers=3, proj=4)
    stream = Stream(params, batch_size=2)
    assert stream.params is params
    assert stream.batch_size == 2
    assert [part.shape for part in stream.state] == [(3, 2, 4), (3, 2, 20)]
    assert stream.step(numbers(2, 5)).shape == (2, 4)
    assert stream.run(numbers(6, 2, 5)).shape == (6, 2, 4)
    assert repr(stream) == f"Stream({params!r}, batch_size=2)"
    one = Stream(params)
    assert one.step(numbers(5)).shape == (4,)
    assert one.step(numbers(1, 5)).shape == (1, 4)
    assert one.run(numbers(6, 5)).shape == (6, 4)
    one.state = fastrnn.lstm(numbers(6, 5), params)[1]  # a state without a batch axis
    assert [part.shape for part in one.state] == [(3, 1, 4), (3, 1, 20)]
    for name in ("params", "batch_size"):
        with pytest.raises(AttributeError):
            setattr(stream, name, 1)


def test_states_are_copies() -> None:
    stream, x = Stream(layer("lstm")), numbers(5)
    h, c = numbers(1, 1, 20), numbers(1, 1, 20)
    stream.state = h, c
    first = stream.step(x)
    got = stream.state
    stream.state = h, c
    h.fill(7)
    c.fill(7)
    for part in got:  # who writes to a copy means the state
        with pytest.raises(ValueError, match="read-only"):
            part[:] = 0
    assert_same_bits((stream.step(x),), (first,))


def test_subnormals_of_the_caller_are_kept() -> None:
    stream = Stream(layer("gru"))
    stream.step(numbers(5))
    assert np.array([np.finfo("f4").smallest_normal]) / 2 > 0


# (b)


@pytest.mark.parametrize("rows", [None, 1, 3])
def test_output_cannot_be_written_to_and_stays(rows: int | None) -> None:
    stream, x = Stream(layer("gru"), rows or 1), numbers(4, 5) if rows is None else numbers(4, rows, 5)
    kept, copies = [], []
    for x_t in x:
        y = stream.step(x_t)
        kept.append(y)
        copies.append(y.copy())
        h = stream.state
        np.testing.assert_array_equal(y.reshape(h.shape), h)
        for other in (None, -h, None, None, h):
            stream.state = other
            np.testing.assert_array_equal(kept, copies)
        assert not y.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            y.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            y.fill(0)


def test_output_outlives_its_stream() -> None:
    params = layer("lstm", hidden=300)
    packed, x = params._packed, numbers(5)
    expected = Stream(params).step(x).copy()
    references = sys.getrefcount(packed)
    for _ in range(20):
        y = Stream(params).step(x)
    gc.collect()
    assert_same_bits((y,), (expected,))
    assert sys.getrefcount(packed) == references + 1  # of 20 streams, y keeps its own one's memory
    del y
    assert sys.getrefcount(packed) == references


@pytest.mark.parametrize("cell", CELLS)
def test_output_may_be_an_input(cell: str) -> None:
    """Whichever output of the stream itself: the last one, or the one before it, whose place is written next."""
    params, x = layer(cell, 20), numbers(3, 20)
    stream, other = Stream(params, 3), Stream(params, 3)
    outputs, expected = [stream.step(x)] * 2, [other.step(x).copy()] * 2
    for back in (1, 2, 2, 1, 2):
        outputs.append(stream.step(outputs[-back]))
        expected.append(other.step(expected[-back].copy()).copy())
    assert_same_bits(tuple(outputs), tuple(expected))
    assert_same_bits((stream.run(outputs[-2][None]),), (other.run(expected[-2][None]),))


def test_a_step_takes_new_memory_where_an_older_output_is_kept() -> None:
    """And only there: whoever keeps no output but the last finds all of them in two places."""
    stream, x = Stream(layer("lstm"), 2), numbers(2, 5)

    def address(y: np.ndarray) -> int:
        return y.__array_interface__["data"][0]

    assert len({address(stream.step(x)) for _ in range(10)}) == 2
    last = stream.step(x)
    for _ in range(10):
        last = stream.step(x)
        assert len({address(last), address(stream.step(x))}) == 2
    kept = [stream.step(x) for _ in range(10)]
    assert len({address(y) for y in kept}) == 10
    del kept, last
    assert len({address(stream.step(x)) for _ in range(10)}) == 2


def test_out_may_be_the_input() -> None:
    stream, other = Stream(layer("gru", 20), 2), Stream(layer("gru", 20), 2)
    x = numbers(2, 20)
    expected = other.step(x.copy())
    assert_same_bits((stream.step(x, out=x),), (expected,))


def test_output_may_be_the_state() -> None:
    stream, x = Stream(layer("gru"), 2), numbers(2, 5)
    older, y = stream.step(x), stream.step(x)
    for part in (y, older, y[::-1], older[::-1]):
        expected = part.copy()
        stream.state = part[None]
        np.testing.assert_array_equal(stream.state[0], expected)


@pytest.mark.parametrize("kind", [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))])
def test_copies_are_independent(kind: Any) -> None:
    stream, x = Stream(layer("lstm"), 2), numbers(2, 5)
    stream.step(x)
    twin = kind(stream)
    assert twin.params == stream.params
    expected = [stream.step(x).copy() for _ in range(3)]
    assert_same_bits(tuple(twin.step(x).copy() for _ in range(3)), tuple(expected))


# (c)


@pytest.mark.large
def test_two_threads_at_once() -> None:
    """While one call computes, others into the same stream are refused and change nothing."""
    params, x = layer("lstm", 300, 300), numbers(3000, 1, 300)
    stream, results = Stream(params), []
    stream.step(x[0])
    thread = threading.Thread(target=lambda: results.append(stream.run(x[1:])))
    refused = set()
    calls = {
        "step": lambda: stream.step(x[0]),
        "run": lambda: stream.run(x[:2]),
        "state": lambda: stream.state,
        "set": lambda: setattr(stream, "state", None),
        "reset": stream.reset,
        "copy": lambda: copy.copy(stream),
    }
    thread.start()
    while thread.is_alive() and "state" not in refused:
        try:
            _ = stream.state
        except RuntimeError:
            refused.add("state")
    for name, call in calls.items():
        if thread.is_alive():
            with pytest.raises(RuntimeError, match=r"^stream: expected one call at a time, got a call while another"):
                call()
            refused.add(name)
    thread.join()
    assert refused == set(calls)
    y, state = fastrnn.lstm(x, params)
    assert_same_bits((results[0], *stream.state), (y[1:], *state))


def test_many_threads_stepping_one_stream() -> None:
    """Each step is whole or refused: the state is that after as many steps of one thread as were not refused."""
    params, x = layer("gru", 300, 300), numbers(300)
    stream, taken = Stream(params), [0] * 4
    together = threading.Barrier(4)

    def work(i: int) -> None:
        together.wait()
        for _ in range(200):
            with suppress(RuntimeError):
                stream.step(x)
                taken[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _, h_n = fastrnn.gru(np.broadcast_to(x, (sum(taken), 1, 300)), params)
    assert_same_bits((stream.state,), (h_n,))


def test_many_threads_with_a_stream_each() -> None:
    params, x = layer("lstm", 40, 40), numbers(200, 40)
    results: list[Any] = [None] * 4

    def work(i: int) -> None:
        stream = Stream(params)
        results[i] = np.array([stream.step(x_t).copy() for x_t in x])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected, _ = fastrnn.lstm(x, params)
    for y in results:
        assert_same_bits((y,), (expected,))


@pytest.mark.parametrize("handler", ["signal.default_int_handler", "lambda *_: stream.step(x[0])"])
def test_a_long_run_can_be_interrupted(handler: str) -> None:
    """The state stays as it was before the run; a handler cannot use the stream that it interrupts."""
    code = f"""if True:
        import signal, numpy as np, fastrnn
        stream = fastrnn.Stream(fastrnn.LSTMParams({{"weight_ih": np.ones((4, 1)), "weight_hh": np.ones((4, 1))}}))
        x = np.broadcast_to(np.ones(1), (2**26, 1))
        stream.step(x[0])
        before = [part.tobytes() for part in stream.state]
        signal.signal(signal.SIGALRM, {handler})
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            stream.run(x)
        except (KeyboardInterrupt, RuntimeError) as error:
            print(type(error).__name__)
        assert [part.tobytes() for part in stream.state] == before
        print(stream.step(x[0]).shape)"""
    result = run_python(code)
    name = "KeyboardInterrupt" if "int" in handler else "RuntimeError"
    assert result.stdout.split("\n")[:2] == [name, "(1,)"], result.stderr


# (d)

B, I, H = 3, 3, 4  # noqa: E741
weights = {cell: make_weights(np.random.default_rng(5), cell, (I, H)) for cell in CELLS}
BOTH = LSTMParams(make_weights(np.random.default_rng(5), "lstm", (I, H), directions=("", "_reverse")))
REVERSE = LSTMParams(make_weights(np.random.default_rng(5), "lstm", (I, H), directions=("_reverse",)))
RNN, LSTM, GRU = RNNParams(weights["rnn"]), LSTMParams(weights["lstm"]), GRUParams(weights["gru"])
x, chunk, h, c, wide = numbers(B, I), numbers(5, B, I), numbers(1, B, H), numbers(1, B, H), numbers(5, B, 2 * I)
gru, lstm, one = Stream(GRU, B), Stream(LSTM, B), Stream(LSTM)
square = Stream(GRUParams(make_weights(np.random.default_rng(5), "gru", (H, H))), B)
for stream in (gru, lstm):
    stream.step(x)
one.step(x[0])
newest = square.step(numbers(B, H))


def misaligned(array: np.ndarray) -> np.ndarray:
    view: np.ndarray = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    return view


def huge(*shape: int) -> np.ndarray:
    return np.broadcast_to(np.zeros(shape[-1], np.float32), shape)


TABLE = r"""
making one
>>> Stream(weights["lstm"])
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got dict; fastrnn.LSTMParams(weights) makes them
>>> Stream(None)
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got NoneType
>>> Stream(LSTM._packed)
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got Packed
>>> Stream(LSTMParams.__new__(LSTMParams))
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got LSTMParams...
>>> Stream(BOTH)
ValueError: params: expected direction 'forward', since a stream cannot see what is to come, got 'bidirectional'
>>> Stream(REVERSE)
ValueError: params: expected direction 'forward', since a stream cannot see what is to come, got 'reverse'
>>> Stream(LSTM, 0)
ValueError: batch_size: expected from 1 to ..., got 0
>>> Stream(LSTM, -1)
ValueError: batch_size: expected from 1 to ..., got -1
>>> Stream(LSTM, 10**30)
ValueError: batch_size: expected from 1 to ..., got 1000000000000000000000000000000
>>> Stream(LSTM, batch_size=2.0)
TypeError: batch_size: expected an integer, got float
>>> Stream(LSTM, True)
TypeError: batch_size: expected an integer, got bool
>>> Stream(LSTM, None)
TypeError: batch_size: expected an integer, got NoneType
>>> Stream(LSTM, 2**58)
MemoryError: no memory for a stream of B=288230376151711744 rows
>>> Stream()
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got NoneType
>>> Stream(LSTM, batch=4)
TypeError: Stream() got an unexpected keyword argument 'batch'; batch_size= takes the number of rows
>>> Stream(LSTM, 1, 2)
TypeError: ...
>>> Stream(LSTM, dtype="float32")
TypeError: Stream() got an unexpected keyword argument 'dtype'; its keywords are params, batch_size
>>> Stream.__new__(Stream)
TypeError: ...

step
>>> gru.step(x.tolist())
TypeError: x: expected a numpy.ndarray, got list; numpy.ascontiguousarray(x, dtype='float32') makes one
>>> gru.step(None)
TypeError: x: expected a numpy.ndarray, got NoneType
>>> gru.step(np.ma.array(x))
TypeError: x: expected an array without a mask, got a MaskedArray...
>>> gru.step(x.astype("float64"))
TypeError: x: expected float32 (the dtype of params), got float64; x.astype('float32') converts it, or params ...
>>> gru.step(x.astype("int64"))
TypeError: x: expected float32 (...), got int64; x.astype('float32') converts it; params with embedding=E take tokens
>>> gru.step(x.astype(x.dtype.newbyteorder()))
TypeError: x: expected ... byte order, got '...f4'; numpy.ascontiguousarray(x, dtype='float32') converts it
>>> gru.step(misaligned(x))
ValueError: x: expected aligned memory, got an array that is not; x.copy() is aligned
>>> gru.step(wide[0][:, ::2])
ValueError: x: expected a dense last axis (stride 4 bytes), got stride 8; numpy.ascontiguousarray(x) makes a dense copy
>>> gru.step(x[:, ::-1])
ValueError: x: expected a dense last axis (stride 4 bytes), got stride -4...
>>> gru.step(np.array(x[0, 0]))
ValueError: x: expected (3, 3), got ()
>>> gru.step(x[:2])
ValueError: x: expected (3, 3), got (2, 3)
>>> gru.step(x[:, :2])
ValueError: x: expected (3, 3), got (3, 2)
>>> gru.step(x[0])
ValueError: x: expected (3, 3), got (3,)
>>> gru.step(chunk[:1])
ValueError: x: expected (3, 3), got (1, 3, 3); run() takes a chunk of steps
>>> one.step(x)
ValueError: x: expected (1, 3) or (3,), got (3, 3); run() takes a chunk of steps
>>> one.step(x[0, :2])
ValueError: x: expected (1, 3) or (3,), got (2,)
>>> one.step(huge(2**59, 3))
ValueError: x: expected (1, 3) or (3,), got (576460752303423488, 3); run() takes a chunk of steps
>>> gru.step()
TypeError: step() takes at least 1 positional argument (0 given)
>>> gru.step(x, x)
ValueError: out: expected (3, 4), got (3, 3)
>>> one.step(x[0], out=np.zeros((1, H), "float32"))
ValueError: out: expected (4,), got (1, 4)
>>> gru.step(x, out=[0.0])
TypeError: out: expected a numpy.ndarray, got list
>>> gru.step(x, out=h[0].astype("float64"))
TypeError: out: expected float32 (the dtype of params), got float64
>>> gru.step(x, out=newest)
ValueError: out: expected an array that can be written to, got a read-only one
>>> gru.step(x, out=np.lib.stride_tricks.as_strided(np.zeros(H, "float32"), (B, H), (0, 4)))
ValueError: out: expected elements of their own, got strides (0, 4), which make them overlap
>>> gru.step(x, out=np.zeros((B, 2 * H), "float32")[:, ::2])
ValueError: out: expected a dense last axis (stride 4 bytes), got stride 8
>>> newest.fill(0)
ValueError: assignment destination is read-only

run
>>> gru.run(chunk.tolist())
TypeError: x: expected a numpy.ndarray, got list; numpy.ascontiguousarray(x, dtype='float32') makes one
>>> gru.run(chunk.astype("float64"))
TypeError: x: expected float32 (the dtype of params), got float64; ...
>>> gru.run(chunk.swapaxes(0, 1))
ValueError: x: expected (T, 3, 3), ... got (3, 5, 3); with batch_first=True it fits, and x is (B, T, I)
>>> gru.run(chunk[:, :2])
ValueError: x: expected (T, 3, 3), the stream's batch_size being 3, got (5, 2, 3)
>>> gru.run(chunk[:, 0])
ValueError: x: expected (T, 3, 3), the stream's batch_size being 3, got (5, 3)
>>> one.run(chunk)
ValueError: x: expected (T, 1, 3) or (T, 3), the stream's batch_size being 1, got (5, 3, 3)
>>> gru.run(chunk[..., :2])
ValueError: x: expected (T, B, 3), got (5, 3, 2)
>>> one.run(x[0])
ValueError: x: expected (T, B, 3) or (T, 3), got 1 axes: (3,)
>>> gru.run(wide[..., ::2])
ValueError: x: expected a dense last axis (stride 4 bytes), got stride 8...
>>> gru.run(misaligned(chunk))
ValueError: x: expected aligned memory, got an array that is not; x.copy() is aligned
>>> gru.run(huge(2**57, 3, 3))
ValueError: x: expected T * B * outputs that an array can hold, got T=144115188075855872, B=3 and 4 outputs a step
>>> gru.run(chunk, threads=0)
ValueError: threads: expected from 1 to 256, got 0
>>> gru.run(chunk, threads=1.0)
TypeError: threads: expected an integer or None, got float
>>> gru.step(chunk[0], threads=0)
ValueError: threads: expected from 1 to 256, got 0
>>> gru.run(chunk, threads=True)
TypeError: threads: expected an integer or None, got bool
>>> gru.run(chunk, lengths=[1, 2, 3])
TypeError: ...run() got an unexpected keyword argument 'lengths'

state
>>> setattr(gru, "state", (h, c))
TypeError: state: expected one array, got a tuple of 2
>>> setattr(gru, "state", h.tolist())
TypeError: state: expected one array, got a list of 1
>>> setattr(gru, "state", 0)
TypeError: state: expected a numpy.ndarray, got int
>>> setattr(gru, "state", h.astype("float64"))
TypeError: state: expected float32 (the dtype of params), got float64; state.astype('float32') converts it...
>>> setattr(gru, "state", h[:, :2])
ValueError: state: expected (1, 3, 4), which is (layers * directions, B, size), got (1, 2, 4)
>>> setattr(gru, "state", h[0])
ValueError: state: expected (1, 3, 4), which is ..., got (3, 4)
>>> setattr(gru, "state", np.repeat(h, 2, axis=-1)[..., ::2])
ValueError: state: expected a dense last axis (stride 4 bytes), got stride 8...
>>> setattr(lstm, "state", h)
TypeError: state: expected a tuple (h, c) for an LSTM, got ndarray
>>> setattr(lstm, "state", (h, c, c))
ValueError: state: expected a tuple (h, c) for an LSTM, got 3 entries
>>> setattr(lstm, "state", (h, None))
TypeError: state[1] (c): expected a numpy.ndarray, got NoneType
>>> setattr(lstm, "state", (h[..., :2], c))
ValueError: state[0] (h): expected (1, 3, 4), which is ..., got (1, 3, 2)
>>> setattr(lstm, "state", (h, c[:, :1]))
ValueError: state[1] (c): expected (1, 3, 4), which is ..., got (1, 1, 4)
>>> setattr(one, "state", (h[:, 0, :2], c[:, 0]))
ValueError: state[0] (h): expected (1, 4), which is ..., got (1, 2)
>>> setattr(one, "stat", None)
AttributeError: 'Stream' object has no attribute 'stat'...
>>> delattr(one, "state")
AttributeError: ...
"""


def snapshot() -> list[bytes]:
    arrays = [
        x,
        chunk,
        h,
        c,
        wide,
        newest,
        gru.state,
        *lstm.state,
        *one.state,
        square.state,
    ]
    return [array.tobytes() for array in arrays]


BEFORE = snapshot()


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(TABLE, at_least=60))
def test_bad_call(call: str, error: str, message: str) -> None:
    with raises_as_said(error, message):
        eval(call)
    assert snapshot() == BEFORE


GOOD = {
    "subclass": lambda stream: stream.step(x.view(np.recarray)),
    "read-only": lambda stream: stream.step(np.broadcast_to(x, x.shape)),
    "fortran rows of a chunk": lambda stream: stream.run(np.asfortranarray(x.T).T[None])[0],
    "threads": lambda stream: stream.run(x[None], threads=np.int8(2))[0],
    "list of states": lambda stream: (setattr(stream, "state", [np.zeros_like(h), np.zeros_like(c)]), stream.step(x))[
        1
    ],
    "no state": lambda stream: (setattr(stream, "state", None), stream.step(x))[1],
}


@pytest.mark.parametrize("call", GOOD.values(), ids=GOOD)
def test_unusual_but_good(call: Any) -> None:
    assert_same_bits((np.asarray(call(Stream(LSTM, np.int64(B)))),), (fastrnn.lstm(x[None], LSTM)[0][0],))
