"""joblib as its users use it: params in Parallel, dump and load, Memory; weights that are mapped, not copied."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from support.apart import run_apart
from support.cases import assert_same_bits, flat, make_weights
from support.environment import package

joblib = package("joblib")

LARGE = (256, 300)  # arrays of more than a megabyte are mapped


def make_params(sizes: tuple[int, int] = LARGE, **options: Any) -> fastrnn.LSTMParams:
    return fastrnn.LSTMParams(make_weights(np.random.default_rng(5), "lstm", sizes), **options)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).uniform(-1, 1, shape).astype("f4")


def memory_of(array: Any) -> Any:
    """What an array is a view of, through any number of views."""
    while (base := array.obj if isinstance(array, memoryview) else getattr(array, "base", None)) is not None:
        if isinstance(array, np.memmap):
            break
        array = base
    return array


def work(params: Any, stream: fastrnn.Stream, x: np.ndarray) -> Any:
    mapped = [isinstance(memory_of(array), np.memmap) for array in params.weights.values()]
    y, state = fastrnn.lstm(x, params, threads=2)
    return (y, *state), stream.run(x[:, :1], threads=2), mapped


def parallel() -> None:
    """Workers map large arrays and compute the same; twice, since joblib keeps its workers."""
    backend = sys.argv[1]
    if backend == "multiprocessing":
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
    params = make_params()
    large = [backend != "threading" and array.nbytes > 2**20 for array in params.weights.values()]
    stream, batches = fastrnn.Stream(params), [numbers(6, rows, LARGE[0]) for rows in (1, 2, 5, 8)]
    stream.step(batches[0][0])
    with joblib.Parallel(n_jobs=2, backend=backend, timeout=60) as pool:
        for _ in range(2):
            results = pool(joblib.delayed(work)(params, copy.copy(stream), x) for x in batches)
            for (got, y, mapped), x in zip(results, batches, strict=True):
                assert_same_bits(got, flat(fastrnn.lstm(x, params, threads=1)))
                assert_same_bits((y,), (copy.copy(stream).run(x[:, :1]),))
                assert mapped == large


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_parallel(backend: str) -> None:
    run_apart(parallel, backend)


@pytest.mark.parametrize("mode", [None, "r", "r+", "c"])
def test_dump_and_load(mode: Any, tmp_path: Path) -> None:
    params, x = make_params(), numbers(6, 2, LARGE[0])
    joblib.dump(params, tmp_path / "params")
    again = joblib.load(tmp_path / "params", mmap_mode=mode)
    assert again == params
    assert_same_bits(flat(fastrnn.lstm(x, again)), flat(fastrnn.lstm(x, params)))
    for array in again.weights.values():
        assert isinstance(memory_of(array), np.memmap) == (mode is not None)
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_a_file_that_changes(tmp_path: Path) -> None:
    """Results stay when the mapped file is overwritten: they come from the packed weights."""
    params, x, path = make_params(), numbers(6, 2, LARGE[0]), tmp_path / "params"
    joblib.dump(params, path)
    again = joblib.load(path, mmap_mode="r")
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert not again.weights["weight_hh_l0"].any()
    assert_same_bits(flat(fastrnn.lstm(x, again)), flat(fastrnn.lstm(x, params)))


@pytest.mark.parametrize("compress", [1, ("gzip", 3)])
def test_compressed(compress: Any, tmp_path: Path) -> None:
    params = make_params((7, 19), dtype="float64", activation=("linear", 0.5, 0.0))
    joblib.dump(params, tmp_path / "params", compress=compress)
    again = joblib.load(tmp_path / "params")
    assert again == params
    assert repr(again) == repr(params)


def test_memory(tmp_path: Path) -> None:
    """The cache knows params by what is in them, wherever they come from."""
    params, x, calls = make_params((7, 19)), numbers(6, 2, 7), []

    def counted(x: np.ndarray, params: Any) -> Any:
        calls.append(params)
        return flat(fastrnn.lstm(x, params))

    joblib.dump(params, tmp_path / "params")
    others = [joblib.load(tmp_path / "params", mmap_mode=mode) for mode in (None, "r")]
    cached = joblib.Memory(tmp_path / "cache", verbose=0).cache(counted)
    for same in (params, make_params((7, 19)), *others):
        assert_same_bits(cached(x, same), flat(fastrnn.lstm(x, params)))
    assert len(calls) == 1
    for different in (make_params((7, 19), clip=0.25), make_params((7, 19), dtype="float64")):
        cached(x.astype(different.dtype), different)
    assert len(calls) == 3
