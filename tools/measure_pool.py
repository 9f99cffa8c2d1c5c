"""Times steps of a StreamPool beside those of a Stream of as many rows and of as many Streams, for docs/serving.md.

python tools/measure_pool.py [--onnxruntime] [H ..]

With --onnxruntime also beside sessions of ONNX Runtime, whose inputs and outputs have the states: one for each stream,
and one that all streams share, each with bindings of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

import fastrnn

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.cases import Case, Data
from bench.peers.onnx import BOUND, OnnxRuntime

MOST_SESSIONS = 200  # of ONNX Runtime: each has weights of its own
SECONDS = 0.3  # of each way, in rounds that take turns
ROUNDS = 15


def seconds_of(
    ways: dict[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Of a call of each way, by this clock: the median of rounds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun, start, n = clock(), time.perf_counter(), 0
            while time.perf_counter() - start < SECONDS / ROUNDS:
                way()
                n += 1
            times[name].append((clock() - begun) / n)
    return {name: median(each) for name, each in times.items()}


def one_after_the_other(calls: list[Callable[[], object]]) -> Callable[[], None]:
    def call_all() -> None:
        for call in calls:
            call()

    return call_all


def measure(hidden: int, n: int, with_onnxruntime: bool) -> dict[str, float]:
    case = Case("lstm", T=1, B=1, I=hidden, H=hidden)
    data = Data.make(case)
    rng = np.random.default_rng(0)
    params = fastrnn.LSTMParams(data.weights)
    pool, whole = fastrnn.StreamPool(params), fastrnn.Stream(params, n)
    ids = [pool.open() for _ in range(2 * n)]
    shuffled = [int(i) for i in rng.permutation(ids)[:n]]
    array = np.array(shuffled)
    x, out = rng.uniform(-1, 1, (n, hidden)).astype("f4"), np.empty((n, hidden), "f4")
    ways: dict[str, Callable[[], object]] = {
        "stream": lambda: whole.step(x),
        "pool, list": lambda: pool.step(shuffled, x),
        "pool, array": lambda: pool.step(array, x, out),
        "alone": one_after_the_other([partial(fastrnn.Stream(params).step, row) for row in x]),
    }
    if with_onnxruntime:
        peer = OnnxRuntime(threads=1)
        session = peer.make_session(case, data)
        ways["shared session"] = one_after_the_other([peer.bound(session, case, data) for _ in range(n)])
        if n <= MOST_SESSIONS:
            ways["own sessions"] = one_after_the_other([peer.build(case, data, BOUND) for _ in range(n)])
    return seconds_of(ways)


TITLES = {
    "stream": "one `Stream` of n rows, us",
    "pool, list": "pool, ids in a list",
    "pool, array": "ids in an array, `out=`",
    "alone": "n `Stream`s",
    "shared session": "ONNX Runtime, one session",
    "own sessions": "ONNX Runtime, n sessions",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnxruntime", action="store_true")
    parser.add_argument("hidden", metavar="H", type=int, nargs="*", default=[32, 128, 512])
    arguments = parser.parse_args()
    titles = [title for name, title in TITLES.items() if arguments.onnxruntime or "ONNX" not in title]
    print(f"| H | n | {' | '.join(titles)} |\n|{'---|' * (2 + len(titles))}")
    for hidden in arguments.hidden:
        for n in (1, 20, 200, 2000):
            times = measure(hidden, n, arguments.onnxruntime)
            stream = times.pop("stream")
            cells = [f"{1e6 * each:.1f} ({stream / each:.2f})" for each in times.values()]
            print(f"| {hidden} | {n} | {1e6 * stream:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
