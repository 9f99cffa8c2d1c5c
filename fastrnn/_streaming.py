"""How long the steps of a stream take, as `fastrnn bench --stream` measures it: each step alone, and none left out."""

from __future__ import annotations

import time
from array import array
from typing import NamedTuple, cast

import numpy as np

from fastrnn._arrays import Array
from fastrnn.params import AnyParams, Params
from fastrnn.stream import Stream

_MOST_STEPS = 2**22  # of which the times are kept: 32 MB
_WARM_UP = 100


class Latency(NamedTuple):
    """Seconds: percentiles of the times of steps, and how many steps took longer than the deadline."""

    steps: int
    p50: float
    p99: float
    p999: float
    longest: float
    missed: int


def latency(
    params: Params,
    x: Array,
    seconds: float,
    every: float | None = None,
    deadline: float | None = None,
) -> Latency:
    """Step through x again and again for some seconds: back to back, or with an input every so many seconds.

    A step's time begins when it is called. Where an input comes while the step before still runs, it begins when the
    input comes, so that one long step makes those late that had to wait for it.
    """
    stream, times = Stream(cast("AnyParams", params), x.shape[1]), array("d")
    inputs = [*np.ascontiguousarray(x)]
    for k in range(_WARM_UP):
        stream.step(inputs[k % len(inputs)])
    end = due = time.perf_counter()
    stop = end + seconds
    while max(end, due) < stop and len(times) < _MOST_STEPS:
        start = due if every and due < end else _wait(due if every else None)
        stream.step(inputs[len(times) % len(inputs)])
        end = time.perf_counter()
        times.append(end - start)
        due += every or 0.0
    taken = np.frombuffer(times)
    late = 0 if deadline is None else int(np.count_nonzero(taken > deadline))
    p50, p99, p999, longest = map(float, np.percentile(taken, (50, 99, 99.9, 100)))
    return Latency(len(taken), p50, p99, p999, longest, late)


def _wait(due: float | None) -> float:
    """Sleep until then, and return the time."""
    now = time.perf_counter()
    if due is None or now >= due:
        return now
    time.sleep(due - now)
    return time.perf_counter()
