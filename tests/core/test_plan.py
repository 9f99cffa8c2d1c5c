"""The plan: what `explain` says, and the bits of layers that are large enough to be split over threads in every way."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn import config
from support.cases import assert_same_bits, flat
from support.cells import CELLS
from support.splits import SPLITS


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("cell", CELLS)
def test_each_split_has_the_same_bits(cell: str, split: str) -> None:
    rng = np.random.default_rng(7)
    params, x = SPLITS[split].make(rng, cell)
    lengths = rng.integers(0, len(x) + 1, x.shape[1])
    function = getattr(fastrnn, cell)
    for options in ({}, {"lengths": lengths}, {"return_sequences": False}):
        alone = function(x, params, threads=1, **options)
        for threads in (2, 3):
            assert_same_bits(flat(function(x, params, threads=threads, **options)), flat(alone))


@pytest.mark.parametrize("split", SPLITS)
def test_more_threads_than_processors_have_the_same_bits(split: str) -> None:
    """64 of them, as on a large machine, whatever this one has."""
    rng = np.random.default_rng(8)
    params, x = SPLITS[split].make(rng, "lstm")
    x = np.concatenate([x] * 3, axis=1)
    assert re.search(r"^(?:[3-9]|\d\d) threads: ", params.explain(len(x), x.shape[1], 64), re.MULTILINE)
    assert_same_bits(flat(fastrnn.lstm(x, params, threads=64)), flat(fastrnn.lstm(x, params, threads=1)))


@pytest.mark.parametrize("split", SPLITS)
def test_explain_names_the_split(split: str) -> None:
    """The plan of an LSTM of each of these sizes is the split that the size is named for."""
    params, x = SPLITS[split].make(np.random.default_rng(7), "lstm")
    steps, rows = x.shape[:2]
    text = params.explain(steps, rows, threads=2)
    assert text.startswith(f"T={steps} steps, B={rows} row")
    assert SPLITS[split].words in text
    assert "2 threads: " in text
    assert "One thread: " in params.explain(steps, rows, threads=1)


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
