"""Measure the errors of narrow weights, and print them as the tables of docs/precision.md.

Errors are root mean squares relative to that of the exact output, which is that of `fastrnn.reference` in float64 with
the weights as they were given. Random layers: weights and biases uniform in +-1/sqrt(H), I = H, normal inputs, 4 rows;
the largest error of three layers is printed. The trained layers are those of examples/char_lm, on the held-out text
that comes with it.

Errors do not depend on the machine: any target gives the same bits. `--times` adds times, which do.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn import reference

PRECISIONS = ("float32", "float16", "int8", "int8_fast")
CELLS = {"rnn": (1, fastrnn.RNNParams), "lstm": (4, fastrnn.LSTMParams), "gru": (3, fastrnn.GRUParams)}
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "char_lm"


def random_layer(cell: str, hidden: int, seed: int) -> dict[str, Any]:
    rng, rows = np.random.default_rng(seed), CELLS[cell][0] * hidden
    shapes = {"weight_ih": (rows, hidden), "weight_hh": (rows, hidden), "bias_ih": (rows,), "bias_hh": (rows,)}
    return {name: rng.uniform(-1, 1, shape) / np.sqrt(hidden) for name, shape in shapes.items()}


def errors(cell: str, hidden: int, steps: int) -> list[float]:
    """The largest error of each precision over three layers."""
    found = []
    for seed in range(3):
        weights = random_layer(cell, hidden, seed)
        x = np.random.default_rng(seed + 100).normal(size=(steps, 4, hidden)).astype(np.float32)
        exact = getattr(reference, cell)(x, weights)[0]
        outputs = (fastrnn.run(x, params_of(cell, weights, precision))[0] for precision in PRECISIONS)
        found.append([float(np.sqrt(np.mean((y - exact) ** 2) / np.mean(exact**2))) for y in outputs])
    return np.max(found, axis=0).tolist()


def params_of(cell: str, weights: dict[str, Any], precision: str) -> Any:
    return CELLS[cell][1](weights, dtype="float32", precision=precision)


def print_table(first: list[str], rows: list[list[str]]) -> None:
    print("| " + " | ".join(first) + " |\n|" + "---|" * len(first))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def row_of_errors(cell: str, hidden: int, steps: int) -> list[str]:
    return [cell, str(hidden), str(steps), *(f"{error:.1e}" for error in errors(cell, hidden, steps))]


def bits_per_character(precision: str) -> float:
    sys.path.insert(0, str(EXAMPLE))
    import model as char_lm

    trained = char_lm.load_model()
    params = fastrnn.LSTMParams(trained.lstm, precision=precision)  # type: ignore[arg-type]

    def lstm(x: Any, state: Any, lengths: Any) -> Any:
        return fastrnn.lstm(x, params, state, lengths=lengths)

    return float(char_lm.bits_per_character(trained, char_lm.load_heldout(), lstm))


def row_of_times(cell: str, hidden: int, steps: int, rows: int) -> list[str]:
    """Times over that of float32, on one thread: the least of each, the precisions taking turns."""
    weights = random_layer(cell, hidden, 0)
    x = np.random.default_rng(1).normal(size=(steps, rows, hidden)).astype(np.float32)
    layers = [params_of(cell, weights, precision) for precision in PRECISIONS]
    state = fastrnn.run(x[:1], layers[0])[1]
    least, end = [np.inf] * len(layers), time.perf_counter() + 3
    while time.perf_counter() < end:
        for i, params in enumerate(layers):
            begin = time.perf_counter()
            fastrnn.run(x, params, state, threads=1)
            least[i] = min(least[i], time.perf_counter() - begin)
    return [cell, str(hidden), str(steps), str(rows), *(f"{least[0] / seconds:.2f}" for seconds in least[1:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", action="store_true")
    arguments = parser.parse_args()
    sizes = [(cell, hidden, 100) for cell in CELLS for hidden in (32, 128, 256, 512)]
    sizes += [(cell, 128, steps) for cell in CELLS for steps in (1, 10, 1000)]
    print_table(["cell", "H", "T", *PRECISIONS], [row_of_errors(*size) for size in sizes])
    print_table(["precision", "bits a character"], [[p, f"{bits_per_character(p):.4f}"] for p in PRECISIONS])
    if arguments.times:
        calls = [(cell, hidden, 1, 1) for cell in CELLS for hidden in (32, 64, 128, 512, 1024)]
        calls += [(cell, hidden, 50, rows) for cell in CELLS for hidden in (32, 64, 128, 256) for rows in (1, 32)]
        print(f"{layer_target()}: times as fast as float32\n")
        print_table(["cell", "H", "T", "B", *PRECISIONS[1:]], [row_of_times(*call) for call in calls])


def layer_target() -> str:
    return str(params_of("rnn", random_layer("rnn", 1, 0), "int8").target)


if __name__ == "__main__":
    main()
