"""Score many sequences of different lengths by processes of a Ray cluster, on one machine or on many.

    pip install ray
    python examples/ray_score.py

A score is what a sequence leaves behind: the last layer's h. Params are put into the object store once. There each
machine has one copy of the weights, which all its processes map; each process packs them once, into memory of its own.
A process is killed in between; Ray starts another, which takes the lost batch over. All scores have the bits of plain
calls, since a sequence's numbers depend on no other one, on no process and on no thread.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
import ray
from ray.util import ActorPool

import fastrnn

STEPS = 20_000  # of a batch, all its sequences together


def score(params: fastrnn.LSTMParams, sequences: list[np.ndarray]) -> np.ndarray:
    x, lengths = fastrnn.pad(sequences)
    _, (h_n, _) = fastrnn.lstm(x, params, lengths=lengths, return_sequences=False)
    return h_n[-1]


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Scorer:
    """A process that has params. A task that took them would pack them anew each time."""

    def __init__(self, params: fastrnn.LSTMParams) -> None:
        self.params = params

    def score(self, indices: np.ndarray, sequences: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return indices, score(self.params, sequences)

    def where(self) -> tuple[int, list[str]]:
        """The process, and the files that its weights are mapped from; "" for memory of its own."""
        with open("/proc/self/maps") as file:
            maps = [line.split(maxsplit=5) for line in file]
        spans = [(*(int(end, 16) for end in words[0].split("-")), "".join(words[5:]).strip()) for words in maps]
        addresses = [array.ctypes.data for array in self.params.weights.values()]
        return os.getpid(), [name for at in addresses for first, last, name in spans if first <= at < last]


def batches(sequences: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Indices of sequences that are scored together: of like lengths, the longest first, for little padding."""
    lengths = np.array([len(sequence) for sequence in sequences])
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        count = max(1, STEPS // max(1, int(lengths[order[0]])))
        yield order[:count]
        order = order[count:]


def make_params(hidden: int, rng: np.random.Generator) -> fastrnn.LSTMParams:
    bound, shapes = hidden**-0.5, {"weight_ih": (4 * hidden, hidden), "weight_hh": (4 * hidden, hidden)}
    return fastrnn.LSTMParams({k: rng.uniform(-bound, bound, shape).astype("f4") for k, shape in shapes.items()})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", help="of a cluster; without it, two processes of this machine")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--sequences", type=int, default=2000)
    arguments = parser.parse_args()
    os.chdir(Path(__file__).parent)  # Ray's processes look for modules here first: not in a checkout, unbuilt
    if arguments.address:
        ray.init(arguments.address)
    else:
        ray.init(num_cpus=arguments.processes, include_dashboard=False, log_to_driver=False)

    rng = np.random.default_rng(0)
    params = make_params(arguments.hidden, rng)
    lengths = rng.integers(1, 400, arguments.sequences)
    sequences = [rng.uniform(-1, 1, (length, arguments.hidden)).astype("f4") for length in lengths]

    shared = ray.put(params)
    scorers = [Scorer.remote(shared) for _ in range(arguments.processes)]
    places = ray.get([scorer.where.remote() for scorer in scorers])
    weights = sum(array.nbytes for array in params.weights.values())
    print(f"weights: {weights} bytes a machine, mapped by {len(scorers)} processes from {sorted(set(places[0][1]))}")
    print(f"packed: {params.nbytes} bytes a process")

    started = time.perf_counter()
    parts = [(indices, [sequences[i] for i in indices]) for indices in batches(sequences)]
    scores = np.empty((len(sequences), arguments.hidden), "f4")
    results = ActorPool(scorers).map_unordered(lambda scorer, part: scorer.score.remote(*part), parts)
    for done, (indices, found) in enumerate(results):
        if done == 0:
            os.kill(places[0][0], signal.SIGKILL) if not arguments.address else ray.kill(scorers[0], no_restart=False)
        scores[indices] = found
    print(f"{len(sequences)} sequences in {len(parts)} batches: {time.perf_counter() - started:.2f} s")
    again = ray.get(scorers[0].where.remote())
    print(f"process {places[0][0]} was killed, process {again[0]} went on in its place")

    alone = np.array([score(params, [sequence])[0] for sequence in sequences])
    print(f"bits of all scores: {'the same' if np.array_equal(scores, alone) else 'other ones'}")
    ray.shutdown()


if __name__ == "__main__":
    main()
