"""The plan: what `explain` says, and layers that are large enough to be split over threads in every way."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import fastrnn
from cases import CELLS, PARAMS, make_weights
from fastrnn import config

SPLITS = {  # sizes (I, H), layers, directions, B, T, and what explain says of two threads
    "rows": ((40, 100), 1, 1, 64, 30, "the batch is dealt out in 2 parts"),
    "directions": ((40, 160), 2, 2, 1, 30, "the two directions run side by side"),
    "units": ((64, 400), 1, 1, 1, 60, "2 share the units of a layer"),
    "layers": ((64, 112), 3, 1, 1, 100, "2 take the layers"),
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("cell", CELLS)
def test_each_split_has_the_same_bits(cell: str, split: str) -> None:
    sizes, layers, directions, B, T, _ = SPLITS[split]
    rng = np.random.default_rng(7)
    weights = make_weights(rng, cell, sizes, layers=layers, directions=("", "_reverse")[:directions])
    params = PARAMS[cell](weights, dtype="float32")
    x = rng.normal(size=(T, B, sizes[0])).astype("f4")
    lengths = rng.integers(0, T + 1, B)
    function = getattr(fastrnn, cell)
    for options in ({}, {"lengths": lengths}, {"return_sequences": False}):
        alone = function(x, params, threads=1, **options)
        for threads in (2, 3):
            together = function(x, params, threads=threads, **options)
            for a, b in zip(flat(alone), flat(together), strict=True):
                np.testing.assert_array_equal(a, b)


def flat(result: object) -> list[np.ndarray]:
    return [a for part in result for a in flat(part)] if isinstance(result, tuple) else [result]  # type: ignore


@pytest.mark.parametrize("split", SPLITS)
def test_explain_names_the_split(split: str) -> None:
    """Of an LSTM: what each size above is there for does happen."""
    sizes, layers, directions, B, T, words = SPLITS[split]
    weights = make_weights(
        np.random.default_rng(7), "lstm", sizes, layers=layers, directions=("", "_reverse")[:directions]
    )
    params = fastrnn.LSTMParams(weights, dtype="float32")
    text = params.explain(T, B, threads=2)
    assert text.startswith(f"T={T} steps, B={B} row")
    assert words in text
    assert "2 threads: " in text
    assert "One thread: " in params.explain(T, B, threads=1)


def test_explain_small_and_huge() -> None:
    params = fastrnn.RNNParams({"weight_ih": np.ones((4, 3), "f4"), "weight_hh": np.ones((4, 4), "f4")})
    assert "One thread: " in params.explain(10, threads=64)
    assert "One thread: " in params.explain(0, 0)
    assert re.search(r"Scratch: at most [\d.]+ (bytes|kB)\.$", params.explain(10**9, 4, 1))
    assert "Scratch: more than any memory holds" in params.explain(sys.maxsize, sys.maxsize, 1)
    assert "Scratch: at most " in params.explain(1, 10**12, 256)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, float("inf")),
        ({"/sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, float("inf")),
        ({"/sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"/sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "/sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 0.5),
        (
            {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            float("inf"),
        ),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"/sys/fs/cgroup/a/b/cpu.max": "nonsense here\n"}, float("inf")),
    ],
)
def test_quota_of_a_control_group(files: dict[str, str], quota: float, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/self/cgroup": "12:cpu:/old\n0::/a/b\n", **files}
    monkeypatch.setattr(config, "_read", lambda path: files.get(path, ""))
    assert config._cpu_quota() == quota
    assert 1 <= config._available_cpus() <= max(1, round(min(quota, 4096)))
