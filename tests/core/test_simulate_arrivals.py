"""The simulation in tools/simulate_arrivals.py against queues whose means have formulas."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from support.environment import ROOT

TOOL = ROOT / "tools" / "simulate_arrivals.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("simulate_arrivals", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


tool = load()
RUNS = 30


def assert_mean(runs: list[np.ndarray], expected: float) -> None:
    """The mean over independent runs is within four of its standard errors: off by chance once in 3000 seeds.

    Steps of a run are not independent, as they wait for each other, but runs are: the error comes from their means.
    """
    means = np.array([run.mean() for run in runs])
    error = means.std(ddof=1) / len(means) ** 0.5
    assert error < 0.02 * expected  # or the test would accept what is wrong
    assert abs(means.mean() - expected) < 4 * error


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_server(load: float) -> None:
    """Batches of one step of a fixed time are an M/D/1 queue: Pollaczek and Khinchine's mean waiting time."""
    rng, service = np.random.default_rng(0), 1e-3
    arrivals = [tool.poisson(rng, load / service, 20.0) for _ in range(RUNS)]
    outcomes = [tool.simulate(each, service, 0.0, window=0.0, max_batch=1) for each in arrivals]
    assert all(set(outcome.sizes) == {1} for outcome in outcomes)
    assert_mean([outcome.seconds - service for outcome in outcomes], load * service / (2 * (1 - load)))
    assert_mean([np.array([outcome.share]) for outcome in outcomes], load)


def test_window() -> None:
    """Batches that take no time: 1 + rate window steps a batch: the first waits for the window, others half of it."""
    rng, rate, window = np.random.default_rng(0), 1000.0, 3e-3
    arrivals = [tool.poisson(rng, rate, 20.0) for _ in range(RUNS)]
    outcomes = [tool.simulate(each, 0.0, 0.0, window, max_batch=10**6) for each in arrivals]
    size = 1 + rate * window
    assert_mean([outcome.sizes for outcome in outcomes], size)
    assert_mean([outcome.seconds for outcome in outcomes], window * (1 + rate * window / 2) / size)


def test_a_schedule_by_hand() -> None:
    """A window that ends, a batch that is full before it, and one that waits for the batch at work."""
    arrivals = np.array([0.0, 1.0, 5.0, 6.0, 6.5, 7.0])
    seconds, sizes, share = tool.simulate(arrivals, first=2.0, further=1.0, window=2.0, max_batch=3)
    assert sizes.tolist() == [2, 3, 1]  # begin at 2, 6.5 and 10.5: when the second one ends
    assert seconds.tolist() == [5.0, 4.0, 5.5, 4.5, 4.0, 5.5]
    assert share == (3 + 4 + 2) / 12.5


def test_periodic_frames() -> None:
    arrivals = tool.periodic(np.random.default_rng(0), sessions=7, period=0.5, jitter=0.0, until=4.0)
    assert len(arrivals) == 7 * 8
    assert np.allclose(arrivals[7:] - arrivals[:-7], 0.5)


def test_table() -> None:
    """The same seed, the same table; a core that is too slow is said to fall behind."""
    command = [sys.executable, str(TOOL), "--until", "1", "--windows", "0", "2"]
    first, again = (subprocess.run(command, capture_output=True, text=True, timeout=60) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == again.stdout
    assert len(first.stdout.splitlines()) == 4
    slow = subprocess.run([*command, "--further", "100"], capture_output=True, text=True, timeout=60)
    assert "falls behind" not in first.stdout
    assert "falls behind" in slow.stdout
