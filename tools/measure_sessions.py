"""Times sessions for the planning of a service, for docs/serving.md: steps, states, and how long it takes to move them.

python tools/measure_sessions.py [--hidden H ..] [--precisions NAME ..]

LSTM, I = H, one thread. Each way has as many sessions as fill 32 MB with states, which take turns, so that a state is
seldom in a near cache when its turn comes, as among a million. The ways take turns too. Seconds are those that the
process had a core, so that others who want it count little; they still take part of its caches and its memory.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from itertools import cycle
from multiprocessing import get_context

import numpy as np
from measure_pool import seconds_of

import fastrnn

BATCH = 256
STATES = 2**25  # bytes


def resident() -> int:
    """Bytes of memory that the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def steps_of_pool(pool: fastrnn.StreamPool, ids: list[int], n: int, x: np.ndarray) -> Callable[[], object]:
    """Steps of n streams, others each time, in no order."""
    parts = cycle(np.random.default_rng(0).permutation(ids)[: len(ids) // n * n].reshape(-1, n))
    out = np.empty((n, pool.params.hidden_size), "f4")
    return lambda: pool.step(next(parts), x[:n], out)


def steps_alone(streams: list[fastrnn.Stream], x: np.ndarray) -> Callable[[], object]:
    """A step of each of so many streams, others each time."""
    parts = cycle([streams[i : i + BATCH] for i in range(0, len(streams), BATCH)])

    def run() -> None:
        for stream, row in zip(next(parts), x):
            stream.step(row)

    return run


def bytes_of_state(params: fastrnn.LSTMParams, count: int) -> float:
    """Memory that a stream of a pool takes. The process is new, or memory that was free before would be missed."""
    x, out = np.ones((count, params.input_size), "f4"), np.ones((count, params.hidden_size), "f4")
    warm = fastrnn.StreamPool(params)
    warm.step([warm.open()], x[:1], out[:1])
    before = resident()
    pool = fastrnn.StreamPool(params, count)
    pool.step([pool.open() for _ in range(count)], x, out)
    return (resident() - before) / count


def measure(hidden: int, precisions: list[str]) -> None:
    rng, bound = np.random.default_rng(0), hidden**-0.5
    shapes = {"weight_ih": (4 * hidden, hidden), "weight_hh": (4 * hidden, hidden)}
    weights = {name: rng.uniform(-bound, bound, shape).astype("f4") for name, shape in shapes.items()}
    x = rng.uniform(-1, 1, (BATCH, hidden)).astype("f4")
    made = {precision: fastrnn.LSTMParams(weights, precision=precision) for precision in precisions}
    count = max(BATCH, STATES // (8 * hidden) // BATCH * BATCH)
    state = bytes_of_state(made[precisions[0]], count)
    ways = {}
    for precision, params in made.items():
        pool = fastrnn.StreamPool(params, capacity=count)
        ids = [pool.open() for _ in range(count)]
        ways[precision, "pool"] = steps_of_pool(pool, ids, BATCH, x)
        ways[precision, "first"] = steps_of_pool(pool, ids, 1, x)
        ways[precision, "alone"] = steps_alone([fastrnn.Stream(params) for _ in range(count)], x)
    some, other = np.array(ids[:BATCH]), fastrnn.StreamPool(params)
    to = np.array([other.open() for _ in some])
    ways["", "move"] = lambda: other.set_state(to, pool.state(some))
    seconds = seconds_of(ways, time.process_time)
    for precision, params in made.items():
        batch, first = seconds[precision, "pool"], seconds[precision, "first"]
        further, alone = (batch - first) / (BATCH - 1), seconds[precision, "alone"] / BATCH
        cells = [f"{hidden}", precision, f"{params.nbytes / 2**20:.2f}", f"{state / 1024:.2f}"]
        cells += [f"{1e6 * each:.2f}" for each in (alone, batch / BATCH, first, further, seconds["", "move"] / BATCH)]
        cells += [f"{period * BATCH / batch:,.0f}" for period in (10e-3, 32e-3)]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024])
    parser.add_argument("--precisions", nargs="+", default=["float32", "float16", "int8"])
    arguments = parser.parse_args()
    print(f"Load of the machine: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores.\n")
    print(
        "| H | precision | weights, MB | a state in a pool, kB | a `Stream`'s step, us | in a batch of 256 |"
        " alone in a batch | each further one | a state moved | sessions a core, 10 ms | 32 ms |"
    )
    print(f"|{'---|' * 11}", flush=True)
    for hidden in arguments.hidden:
        process = get_context("spawn").Process(target=measure, args=(hidden, arguments.precisions))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
