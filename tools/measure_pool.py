"""Times steps of a StreamPool beside those of a Stream of as many rows and of as many Streams, for docs/serving.md.

python tools/measure_pool.py [H ..]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np

import fastrnn

SECONDS = 0.3  # of each way, in rounds that take turns
ROUNDS = 15


def seconds_of(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Of a call of each way: the median of rounds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start, n = time.perf_counter(), 0
            while time.perf_counter() - start < SECONDS / ROUNDS:
                way()
                n += 1
            times[name].append((time.perf_counter() - start) / n)
    return {name: median(each) for name, each in times.items()}


def measure(hidden: int, n: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    shapes = {"weight_ih": (4 * hidden, hidden), "weight_hh": (4 * hidden, hidden)}
    bound = hidden**-0.5
    weights = {name: rng.uniform(-bound, bound, shape).astype("f4") for name, shape in shapes.items()}
    params = fastrnn.LSTMParams(weights)
    pool, whole, alone = (
        fastrnn.StreamPool(params),
        fastrnn.Stream(params, n),
        [fastrnn.Stream(params) for _ in range(n)],
    )
    ids = [pool.open() for _ in range(2 * n)]
    shuffled = [int(i) for i in rng.permutation(ids)[:n]]
    array = np.array(shuffled)
    x, out = rng.uniform(-1, 1, (n, hidden)).astype("f4"), np.empty((n, hidden), "f4")

    def steps_alone() -> None:
        for stream, row in zip(alone, x):
            stream.step(row)

    return seconds_of(
        {
            "stream": lambda: whole.step(x),
            "pool, list": lambda: pool.step(shuffled, x),
            "pool, array": lambda: pool.step(array, x, out),
            "alone": steps_alone,
        }
    )


def main() -> None:
    print("| H | n | one `Stream` of n rows, us | pool, ids in a list | ids in an array, `out=` | n `Stream`s |")
    print("|---|---|---|---|---|---|")
    for hidden in [int(word) for word in sys.argv[1:]] or [32, 128, 512]:
        for n in (1, 20, 200, 2000):
            times = measure(hidden, n)
            stream = times["stream"]
            cells = [
                f"{1e6 * seconds:.1f} ({stream / seconds:.2f})" for name, seconds in times.items() if name != "stream"
            ]
            print(f"| {hidden} | {n} | {1e6 * stream:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
