"""Score rows of a large array by workers of a Dask cluster, on one machine or on many.

    pip install 'dask[array,distributed]'
    python examples/dask_score.py

x (T, B, I) is in chunks of rows, and each row has a length. Params are loaded from a file by one worker, which sends
them to the others: each has them once, packed once, for all chunks that it runs. A worker is killed in between. What it
had is run by the others, the file is read again if need be, and the outputs have the bits of one plain call, since a
row's numbers depend on no other row, on no worker and on no thread.

`client.scatter(params, broadcast=True)` would not do here: what is scattered can't be made again where it is lost, and
the scheduler keeps one copy of it, not one for each worker.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster, wait

import fastrnn

CHUNKS = 40


def last_states(x: np.ndarray, lengths: np.ndarray, params: fastrnn.LSTMParams) -> np.ndarray:
    """The last layer's h after each row's last step, (1, rows, H)."""
    _, (h_n, _) = fastrnn.lstm(x, params, lengths=lengths[0, :, 0], return_sequences=False, threads=1)
    return h_n[-1:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    hidden, rows, steps = arguments.hidden, arguments.rows, arguments.steps

    rng, bound = np.random.default_rng(0), hidden**-0.5
    shapes = {"weight_ih": (4 * hidden, hidden), "weight_hh": (4 * hidden, hidden)}
    weights = {name: rng.uniform(-bound, bound, shape).astype("f4") for name, shape in shapes.items()}
    params, lengths = fastrnn.LSTMParams(weights), rng.integers(1, steps + 1, (1, rows, 1))
    x = da.random.default_rng(0).uniform(-1, 1, (steps, rows, hidden), chunks=(steps, -(-rows // CHUNKS), hidden))
    x = x.astype("f4")

    with (
        tempfile.TemporaryDirectory() as folder,  # that all workers see
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        path = str(Path(folder) / "layer.npz")
        params.save(path)
        loaded = client.submit(fastrnn.load, path)
        scores = da.map_blocks(
            last_states,
            x,
            da.from_array(lengths, chunks=(1, x.chunks[1], 1)),
            loaded,
            chunks=((1,), x.chunks[1], (hidden,)),
            dtype="f4",
            meta=np.empty((0, 0, 0), "f4"),
        )
        started, future = time.perf_counter(), client.compute(scores)
        wait(loaded)
        (first, *_) = client.who_has(loaded)[loaded.key]
        os.kill(client.run(os.getpid, workers=[first])[first], signal.SIGKILL)
        found = future.result()
        print(f"{len(x.chunks[1])} chunks of {x.chunks[1][0]} rows: {time.perf_counter() - started:.2f} s")
        print(f"worker {first} was killed, params went on at {' '.join(client.who_has(loaded)[loaded.key])}")
    expected = last_states(x.compute(), lengths, params)
    print(f"bits of all scores: {'the same' if np.array_equal(found, expected) else 'other ones'}")


if __name__ == "__main__":
    main()
