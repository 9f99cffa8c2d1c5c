"""dask as its users use it, on threads and processes: delayed calls, arrays in chunks of the batch, closures."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pytest

import fastrnn
from support.apart import run_apart
from support.cases import assert_same_bits, flat, make_weights
from support.environment import package

dask = package("dask")
cloudpickle = package("cloudpickle")  # which dask needs


def make_params(**options: Any) -> fastrnn.GRUParams:
    return fastrnn.GRUParams(make_weights(np.random.default_rng(5), "gru", (40, 100)), **options)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).uniform(-1, 1, shape).astype("f4")


def graph() -> None:
    """Params as an argument, as a node, and in closures, which cloudpickle sends; a batch in chunks of rows."""
    params, x = make_params(), numbers(30, 64, 40)
    y, h_n = fastrnn.gru(x, params, threads=1)

    def call(x: np.ndarray, params: Any) -> tuple[np.ndarray, np.ndarray]:
        return fastrnn.gru(x, params, threads=2)

    def run(x: np.ndarray) -> tuple[np.ndarray, Any]:
        stream = fastrnn.Stream(params, x.shape[1])
        return stream.run(x, threads=2), stream.state

    node, array = dask.delayed(params), package("dask.array")
    calls = [dask.delayed(call)(x, params), dask.delayed(call)(x, node), dask.delayed(run)(x)]
    calls += [dask.delayed(call)(x[:, :rows], node) for rows in range(1, 9)]
    chunked = array.from_array(x, chunks=(30, (7, 20, 1, 36), 40)).map_blocks(
        lambda block: fastrnn.gru(block, params)[0], chunks=(30, (7, 20, 1, 36), 100), meta=np.empty((0, 0, 0), "f4")
    )
    whole, *results = dask.compute(chunked, *calls, scheduler=sys.argv[1], num_workers=2)
    assert_same_bits((whole,), (y,))
    for got in results:
        rows = got[0].shape[1]
        assert_same_bits(got, (y[:, :rows], h_n[:, :rows]))


@pytest.mark.parametrize("scheduler", ["threads", "processes", "synchronous"])
def test_graph(scheduler: str) -> None:
    run_apart(graph, scheduler)


def test_params_in_a_closure() -> None:
    """Weights travel out of band in cloudpickle too."""
    params, x, buffers = make_params(), numbers(3, 2, 40), []
    data = cloudpickle.dumps(lambda x: fastrnn.gru(x, params), protocol=5, buffer_callback=buffers.append)
    assert [len(buffer.raw()) for buffer in buffers] == [array.nbytes for array in params.weights.values()]
    again = pickle.loads(data, buffers=buffers)
    assert_same_bits(flat(again(x)), flat(fastrnn.gru(x, params)))


def test_tokens() -> None:
    """Names that dask gives depend on what is in params, not on where they come from."""
    token = package("dask.base").tokenize
    assert token(make_params()) == token(make_params()) == token(pickle.loads(pickle.dumps(make_params())))
    assert token(make_params()) != token(make_params(clip=0.5))
