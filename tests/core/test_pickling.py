"""Pickles of params and streams: the same bits from every protocol; buffers out of band, kept without a copy."""

from __future__ import annotations

import copy
import io
import mmap
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import fastrnn
from support.cases import Case, assert_same_bits, cases, flat, make_weights
from support.cells import CELLS, PARAMS

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def run(case: Case, params: Any) -> tuple[np.ndarray, ...]:
    return flat(getattr(fastrnn, case.cell)(case.x, params, case.state, **case.call))


def with_buffers(thing: Any) -> tuple[bytes, list[Any]]:
    """A pickle, and the buffers that do not lie in it."""
    buffers: list[Any] = []
    return pickle.dumps(thing, protocol=5, buffer_callback=buffers.append), buffers


def assert_kept(params: Any, buffers: list[Any]) -> None:
    """Each of the weights lies in one of the buffers, and can't be written to."""
    for array, buffer in zip(params.weights.values(), buffers, strict=True):
        memory = np.frombuffer(buffer, np.uint8)
        assert array.nbytes == memory.nbytes
        assert not array.size or np.shares_memory(array, memory)
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@given(case=cases())
def test_pickles_and_copies_compute_the_same(case: Case) -> None:
    params = case.params()
    assert copy.copy(params) is params
    assert copy.deepcopy(params) is params
    data, buffers = with_buffers(params)
    inside = [pickle.loads(pickle.dumps(params, protocol=protocol)) for protocol in PROTOCOLS]
    for again in (*inside, pickle.loads(data, buffers=buffers), pickle.loads(pickle.dumps(inside[0]))):
        assert type(again) is type(params)
        assert again == params
        assert hash(again) == hash(params)
        assert repr(again) == repr(params)
        assert list(again.weights) == list(params.weights)
        assert_same_bits(tuple(again.weights.values()), tuple(params.weights.values()))
        assert_same_bits(run(case, again), case.run())


@given(case=cases())
def test_weights_travel_out_of_band(case: Case) -> None:
    """Weights that arrived in buffers of any kind travel on out of band too; the pickle itself is short."""
    params = case.params()
    data, buffers = with_buffers(params)
    assert len(data) < 500 + 100 * len(case.weights)
    assert_kept(params, buffers)  # no copy at the first pickling
    received = [bytearray(buffer.raw()) for buffer in buffers]
    again = pickle.loads(data, buffers=received)
    assert_kept(again, received)  # no copy at loading
    data, buffers = with_buffers(again)
    assert_kept(again, buffers)
    third = pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert third == params
    assert_same_bits(run(case, third), case.run())


def layer(cell: str = "lstm", **options: Any) -> Any:
    return PARAMS[cell](make_weights(np.random.default_rng(5), cell, (7, 19)), **options)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).uniform(-1, 1, shape).astype("f4")


@pytest.mark.parametrize("cell", CELLS)
def test_a_buffer_that_changes(cell: str) -> None:
    """A buffer that is changed later: results still come from the packed weights; `weights` shows the buffer."""
    params, function = layer(cell), getattr(fastrnn, cell)
    x = numbers(4, 2, 7)
    expected = flat(function(x, params))
    data, buffers = with_buffers(params)
    received = [bytearray(buffer.raw()) for buffer in buffers]
    again = pickle.loads(data, buffers=received)
    for buffer in received:
        buffer[:] = bytes(len(buffer))
    assert_same_bits(flat(function(x, again)), expected)
    assert_same_bits((fastrnn.Stream(again, 2).run(x),), expected[:1])
    assert not any(array.any() for array in again.weights.values())
    assert again != params
    assert hash(again) == hash(params)
    assert_same_bits(flat(function(x, params)), expected)


def test_buffers_live_as_long_as_params() -> None:
    data, buffers = with_buffers(layer())
    received = bytearray(buffers[0].raw())
    again = pickle.loads(data, buffers=[received, *buffers[1:]])
    del buffers
    with pytest.raises(BufferError):
        received.append(0)
    assert again == layer()
    del again
    received.append(0)


@pytest.mark.parametrize("offset", [0, 1, 4])
def test_buffers_anywhere(offset: int) -> None:
    """Buffers that are parts of a message, at addresses that are not aligned."""
    params, x = layer("gru"), numbers(4, 2, 7)
    data, buffers = with_buffers(params)
    message = bytearray(offset)
    message += b"".join(buffer.raw() for buffer in buffers)
    received, at = [], offset
    for buffer in buffers:
        received.append(memoryview(message)[at : at + len(buffer.raw())])
        at += len(buffer.raw())
    again = pickle.loads(data, buffers=received)
    assert_kept(again, received)
    assert again == params
    assert_same_bits(flat(fastrnn.gru(x, again)), flat(fastrnn.gru(x, params)))


def test_buffers_in_a_mapped_file() -> None:
    data, buffers = with_buffers(layer())
    with mmap.mmap(-1, sum(len(buffer.raw()) for buffer in buffers)) as mapped:
        mapped.write(b"".join(buffer.raw() for buffer in buffers))
        received, at = [], 0
        for buffer in buffers:
            received.append(memoryview(mapped)[at : at + len(buffer.raw())])
            at += len(buffer.raw())
        again = pickle.loads(data, buffers=received)
        assert_kept(again, received)
        assert again == layer()
        del again
        for view in received:
            view.release()


def given_weights(how: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    weights = make_weights(np.random.default_rng(5), "lstm", (7, 19), proj=3, peepholes=True)
    if how == "float16":
        return {name: array.astype("f2") for name, array in weights.items()}, {"dtype": "float32"}
    if how == "float64":
        return {name: array.astype("f8") for name, array in weights.items()}, {"dtype": np.float32}
    if how == "fortran":
        return {name: np.asfortranarray(array) for name, array in weights.items()}, {}
    return {name: np.repeat(array, 2, axis=-1)[..., ::2] for name, array in weights.items()}, {}


@pytest.mark.parametrize("how", ["float16", "float64", "fortran", "strided"])
def test_weights_of_other_dtypes_and_layouts(how: str) -> None:
    """Arrays of any layout are copied to C order when params are made, and travel in that order."""
    weights, options = given_weights(how)
    params, x = fastrnn.LSTMParams(weights, activation="relu", clip=0.5, **options), numbers(4, 2, 7)
    data, buffers = with_buffers(params)
    again = pickle.loads(data, buffers=buffers)
    assert_kept(again, buffers)
    for name, array in again.weights.items():
        assert array.flags.c_contiguous
        assert array.dtype == weights[name].dtype
        np.testing.assert_array_equal(array, weights[name])
        assert not np.shares_memory(array, weights[name])
    assert again == params
    assert repr(again) == repr(params)
    assert_same_bits(flat(fastrnn.lstm(x, again)), flat(fastrnn.lstm(x, params)))


def test_a_mapping_that_is_given_is_copied() -> None:
    """A mapping of any class, whatever memory its arrays lie in."""
    again = pickle.loads(pickle.dumps(layer()))
    for weights in (again.weights, dict(again.weights), type("Weights", (dict,), {})(again.weights)):
        other = fastrnn.LSTMParams(weights)
        assert not any(np.shares_memory(other.weights[name], again.weights[name]) for name in weights)


def test_loading_copies_nothing() -> None:
    """What Python and NumPy allocate while weights of 20 MB are loaded; packed weights are allocated in C."""
    weights = {"weight_ih": np.ones((4096, 256), "f4"), "weight_hh": np.ones((4096, 1024), "f4")}
    data, buffers = with_buffers(fastrnn.LSTMParams(weights))
    tracemalloc.start()
    try:
        params = pickle.loads(data, buffers=buffers)
        assert_kept(params, buffers)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


class Shared(fastrnn.GRUParams):
    """A class of a user's own."""


def test_subclasses_and_targets_travel() -> None:
    weights = make_weights(np.random.default_rng(5), "gru", (7, 19))
    params = Shared(weights, target="scalar", reset_after=False)
    data, buffers = with_buffers(params)
    again = pickle.loads(data, buffers=buffers)
    assert type(again) is Shared
    assert again.target == "scalar"
    assert again == params


def test_many_in_one_pickle() -> None:
    """Params that are there twice are one afterwards."""
    params, other = layer(), layer("gru")
    data, buffers = with_buffers({"a": params, "b": [params, other], "stream": fastrnn.Stream(params)})
    again = pickle.loads(data, buffers=buffers)
    assert again["a"] is again["b"][0] is again["stream"].params
    assert (again["a"], again["b"][1]) == (params, other)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("protocol", [*PROTOCOLS, "buffers"])
def test_streams_travel(cell: str, protocol: Any) -> None:
    """Pickled streams go on from where they were, and share with others only weights, which nobody writes to."""
    stream, x = fastrnn.Stream(layer(cell), 2), numbers(5, 2, 7)
    stream.run(x[:2])
    if protocol == "buffers":
        data, buffers = with_buffers(stream)
        again = pickle.loads(data, buffers=buffers)
        names = len(stream.params.weights)
        assert_kept(again.params, buffers[:names])
        states = [np.frombuffer(buffer, np.uint8) for buffer in buffers[names:]]
        again.step(x[2])
        assert [part.tobytes() for part in states] != [part.tobytes() for part in flat((x, again.state))[1:]]
        again = pickle.loads(data, buffers=buffers)
    else:
        again = pickle.loads(pickle.dumps(stream, protocol=protocol))
    assert_same_bits((again.run(x[2:]), *flat((x, again.state))[1:]), (stream.run(x[2:]), *flat((x, stream.state))[1:]))


BROKEN: dict[str, Callable[[bytes, list[Any]], Any]] = {
    "a buffer is missing": lambda data, buffers: pickle.loads(data, buffers=buffers[:-1]),
    "a buffer is short": lambda data, buffers: pickle.loads(data, buffers=[bytes(8), *buffers[1:]]),
    "no buffers": lambda data, buffers: pickle.loads(data),
    "cut short": lambda data, buffers: pickle.Unpickler(io.BytesIO(data[:-20]), buffers=buffers).load(),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_pickles(broken: str) -> None:
    """An error of pickle or of NumPy, and nothing worse."""
    with pytest.raises((pickle.UnpicklingError, ValueError, EOFError)):
        BROKEN[broken](*with_buffers(layer()))
