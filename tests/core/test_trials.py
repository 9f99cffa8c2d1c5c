"""What the plan learns from times of calls, in a world where a call takes as long as a test says."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import _core, config
from support.splits import SPLITS

Way = tuple[int, int, int, int]
USUAL_SECONDS = 0.5e-3  # that a call is expected to take on one thread
BUSY_SECONDS = 20  # that a test waits for a busy machine
LEARNT = 64  # calls after which all ways were tried
_sizes = count(8)


@pytest.fixture(autouse=True)
def learning(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plan learns where no rates are set."""
    monkeypatch.setenv("FASTRNN_PLAN", "")
    config.pin_rates()
    yield
    monkeypatch.undo()
    config.pin_rates()


def calls(number: int, seconds_of: Callable[[Way], float], size: int, threads: int = 2) -> list[Way]:
    """The ways that so many calls take, of layers of a size of their own."""
    weights = {"weight_ih": np.zeros((1024, size), "f4"), "weight_hh": np.zeros((1024, 256), "f4")}
    params = fastrnn.LSTMParams(weights)
    steps = usual_steps(params, np.zeros((10, 4, size), "f4"))
    return _core.simulate_trials(params._packed, steps, 4, threads, number, seconds_of)


def usual_steps(params: fastrnn.LSTMParams, x: np.ndarray) -> int:
    """So many that a call with such rows is neither a trifle nor long, on any machine, and two threads may be worth it.

    What waking a worker takes is remembered for a while: on a busy machine it may be too much for so short a call.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        steps = max(1, round(len(x) * USUAL_SECONDS / expected_seconds(params, x)[0]))
        alone, *shared = expected_seconds(params, np.zeros((steps, *x.shape[1:]), x.dtype))
        if min(shared) < 1.5 * alone or time.monotonic() > until:
            return steps
        time.sleep(0.1)


def expected_seconds(params: fastrnn.LSTMParams, x: np.ndarray) -> list[float]:
    """Of each way, that of one thread first."""
    return [way[4] for way in _core.time_ways(params._packed, x, 2, 0, 0, 0)[0]]


class World:
    """Each way takes its time, drawn when it is first asked for; some calls take much longer, as of a busy machine."""

    def __init__(self, seed: int, disturbed: float = 0.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.seconds: dict[Way, float] = {}
        self.disturbed = disturbed

    def __call__(self, way: Way) -> float:
        seconds = self.seconds.setdefault(way, float(self.rng.choice([1.0, 1.2, 1.5, 2.0])) * 1e-3)
        return seconds * (50.0 if self.rng.random() < self.disturbed else 1.0)

    def loss(self, way: Way) -> float:
        return self.seconds[way] / min(self.seconds.values())


@given(st.integers(0, 2**32), st.sampled_from([2, 3, 8, 64]))
def test_the_fastest_way_is_learnt(seed: int, threads: int) -> None:
    world = World(seed)
    ways = calls(200, world, next(_sizes), threads)
    assert len(set(ways)) > 1
    settled = Counter(ways[LEARNT:]).most_common(1)[0][0]
    assert world.loss(settled) == 1.0, (settled, world.seconds)


@pytest.mark.parametrize("disturbed", [0, 0.02, 0.05])
def test_learning_costs_little(disturbed: float) -> None:
    """A fiftieth of the time that the fastest way would take, also where some calls take fifty times as long."""
    losses = []
    for seed in range(12):
        world = World(seed, disturbed)
        losses += [world.loss(way) for way in calls(4000, world, next(_sizes))]
    assert np.mean(losses) < 1.02


@given(st.integers(0, 2**32))
def test_a_way_that_becomes_slow_is_left(seed: int) -> None:
    world, size = World(seed), next(_sizes)
    settled = Counter(calls(300, world, size)[LEARNT:]).most_common(1)[0][0]
    world.seconds[settled] *= 5
    assert Counter(calls(60, world, size)[10:])[settled] < 10


@pytest.mark.parametrize("seed", range(6))
def test_a_way_that_was_slow_for_a_moment_is_taken_again(seed: int) -> None:
    """Soon, and not when all ways have their next turn."""
    world, size = World(seed), next(_sizes)
    settled = Counter(calls(1500, world, size)[LEARNT:]).most_common(1)[0][0]
    disturbed = [50.0] * 4  # of the last seven times: their median
    ways = calls(200, lambda way: world(way) * (disturbed.pop() if way == settled and disturbed else 1.0), size)
    assert not disturbed
    assert Counter(ways[100:])[settled] > 80


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6])  # in the world of 5 all ways are alike
def test_a_way_that_becomes_fast_is_found(seed: int) -> None:
    world, size = World(seed), next(_sizes)
    calls(300, world, size)
    slower = next(way for way in world.seconds if world.loss(way) > 1.0)
    world.seconds[slower] = 0.5e-3
    ways = calls(12_000, world, size)
    assert Counter(ways[11_000:]).most_common(1)[0][0] == slower


def test_threads_must_gain_a_twentieth() -> None:
    """Two threads that are 3 % faster than one are left to others."""
    ways = calls(300, lambda way: 0.97e-3 if way[3] > 1 else 1e-3, next(_sizes))
    assert Counter(ways[LEARNT:]).most_common(1)[0][0] == (1, 1, 1, 1)


def test_set_rates_learn_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # to the rates that tests set
    config.pin_rates()
    assert len(set(calls(300, World(0), next(_sizes)))) == 1


def test_one_thread_tries_nothing() -> None:
    assert set(calls(300, World(0), next(_sizes), threads=1)) == {(1, 1, 1, 1)}


def test_explain_says_what_was_learnt() -> None:
    rng, split = np.random.default_rng(0), SPLITS["units"]
    params, x = split.make(rng, "lstm")
    steps, rows = usual_steps(params, x), x.shape[1]
    for alone, words in ((1e-3, "One thread: 1000 us"), (1.0, "2 threads: ")):
        _core.simulate_trials(params._packed, steps, rows, 2, 300, lambda way, s=alone: s if way[3] == 1 else 30e-3)
        assert words in params.explain(steps, rows, threads=2)
