"""Simulates steps that arrive at a batcher on one core: how late they are answered, and how much of the core they take.

    python tools/simulate_arrivals.py --sessions 1000 --period 32 --first 20 --further 3

Every session has a frame each period. A batch of n steps takes first + further (n - 1) microseconds, which
tools/measure_sessions.py measures. As in `fastrnn.aio.Batcher` it begins when the oldest step that waits has waited
for the window, or when `max_batch` wait, as soon as no other batch is at work. Deadlines, steps of a session behind
each other, and batches that begin early since nobody else can come are not simulated.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from typing import NamedTuple

import numpy as np

WINDOWS = (0, 0.25, 0.5, 1, 2, 4, 8, 16)  # ms


class Outcome(NamedTuple):
    """Of all steps: seconds from arrival to answer; of all batches: steps; and the part of the time at work."""

    seconds: np.ndarray
    sizes: np.ndarray
    share: float


def poisson(rng: np.random.Generator, rate: float, until: float) -> np.ndarray:
    """Times of arrivals that know nothing of each other, in order."""
    return np.sort(rng.uniform(0, until, rng.poisson(rate * until)))


def periodic(rng: np.random.Generator, sessions: int, period: float, jitter: float, until: float) -> np.ndarray:
    """The same of sessions that have a frame each period, from a phase of their own, up to `jitter` seconds late."""
    frames = np.arange(int(until / period)) * period
    times = rng.uniform(0, period, (sessions, 1)) + frames
    return np.sort((times + rng.uniform(0, jitter, times.shape)).ravel())


def simulate(arrivals: np.ndarray, first: float, further: float, window: float, max_batch: int) -> Outcome:
    """Run steps that arrive at these times, all in seconds."""
    times = arrivals.tolist()
    seconds, sizes = np.empty(len(times)), []
    free, i = 0.0, 0  # when the batch at work ends; the oldest step that waits
    while i < len(times):
        due = times[i] + window
        if i + max_batch <= len(times):
            due = min(due, times[i + max_batch - 1])
        begin = max(free, due)
        end = min(bisect_right(times, begin, lo=i), i + max_batch)
        free = begin + first + further * (end - i - 1)
        seconds[i:end] = free - arrivals[i:end]
        sizes.append(end - i)
        i = end
    busy = len(sizes) * first + further * (len(times) - len(sizes))
    return Outcome(seconds, np.array(sizes), busy / max(free, times[-1]) if times else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--period", type=float, default=32.0, help="ms between frames of a session")
    parser.add_argument(
        "--jitter", type=float, help="ms that a frame is late at most; without it, arrivals are Poisson's"
    )
    parser.add_argument("--first", type=float, default=20.0, help="us of a batch of one step")
    parser.add_argument("--further", type=float, default=3.0, help="us of each further step of a batch")
    parser.add_argument("--max-batch", type=int, default=256)
    parser.add_argument("--windows", type=float, nargs="+", default=WINDOWS, help="ms")
    parser.add_argument("--until", type=float, default=20.0, help="seconds that are simulated")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, period, until = np.random.default_rng(arguments.seed), arguments.period * 1e-3, arguments.until
    if arguments.jitter is None:
        arrivals = poisson(rng, arguments.sessions / period, until)
    else:
        arrivals = periodic(rng, arguments.sessions, period, arguments.jitter * 1e-3, until)
    print("| window, ms | steps a batch | p50, ms | p99, ms | share of the core |")
    print("|---|---|---|---|---|")
    most = arguments.max_batch / (arguments.first + arguments.further * (arguments.max_batch - 1)) * 1e6
    for window in arguments.windows:
        times = (arguments.first * 1e-6, arguments.further * 1e-6, window * 1e-3)
        seconds, sizes, share = simulate(arrivals, *times, arguments.max_batch)
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        print(f"| {window:g} | {sizes.mean():.1f} | {p50:.2f} | {p99:.2f} | {share:.2f} |")
    if len(arrivals) / until > most:
        print(f"The core falls behind: {len(arrivals) / until:.0f} steps a second come, {most:.0f} can run.")


if __name__ == "__main__":
    main()
