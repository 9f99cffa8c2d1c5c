"""Times single steps, in Python and in C, for docs/realtime.md: medians, percentiles and the longest of a million.

python tools/measure_realtime.py FOLDER [--cells CELL ..] [--hidden H ..] [--steps N]

FOLDER is the one that the C library was installed to; measure_realtime.c is compiled against it. The second table is of
one layer in other ways: paced, a step every millisecond with sleep between them, as in a program that waits for sound;
with all memory locked; with a priority of real time (SCHED_FIFO), which may need rights that the process lacks.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import numpy as np

import fastrnn

HEAD = "| cell | H | Python: p50 | p99 | p99.9 | max | C: p50 | p99 | p99.9 | max |"
PERIOD = 1_000_000  # nanoseconds, when paced


def make_params(cell: str, hidden: int) -> Any:
    kind = {"rnn": fastrnn.RNNParams, "lstm": fastrnn.LSTMParams, "gru": fastrnn.GRUParams}[cell]
    rows, rng, bound = {"rnn": 1, "lstm": 4, "gru": 3}[cell] * hidden, np.random.default_rng(0), hidden**-0.5
    names = ("weight_ih_l0", "weight_hh_l0")
    return kind({name: rng.uniform(-bound, bound, (rows, hidden)).astype("f4") for name in names})


def time_python(params: Any, steps: int, paced: bool = False) -> list[float]:
    """p50, p99, p99.9 and the maximum in microseconds, page faults, and involuntary switches to other threads."""
    step: Callable[..., Any] = fastrnn.Stream(params).step
    x, out = np.zeros(params.input_size, "f4"), np.zeros(params.hidden_size, "f4")
    took, clock = np.ones(steps, np.int64), time.perf_counter_ns
    before, start = getrusage(RUSAGE_SELF), clock()
    for i in range(steps):
        if paced:
            time.sleep(max(start + i * PERIOD - clock(), 0) * 1e-9)
        at = clock()
        step(x, out=out)
        took[i] = clock() - at
    after = getrusage(RUSAGE_SELF)
    percentiles = np.percentile(took, [50, 99, 99.9, 100]) * 1e-3
    return [*percentiles, after.ru_minflt - before.ru_minflt, after.ru_nivcsw - before.ru_nivcsw]


def compile_program(installed: Path, to: Path) -> Path:
    source = Path(__file__).with_suffix(".c")
    packages = {**os.environ, "PKG_CONFIG_PATH": str(next(installed.glob("lib*/pkgconfig")))}
    asked = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "fastrnn"], env=packages, check=True, capture_output=True, text=True
    )
    subprocess.run(["cc", "-O2", source, "-o", to / source.stem, *asked.stdout.split()], check=True)
    return to / source.stem


def time_c(program: Path, image: Path, steps: int, *words: str) -> list[float]:
    result = subprocess.run([program, image, str(steps), *words], capture_output=True, text=True)
    if result.returncode:
        print(f"{' '.join(words)}: {result.stderr.strip()}", file=sys.stderr)  # a right that this process lacks
        return [float("nan")] * 6
    return [float(word) for word in result.stdout.split()]


def row(numbers: list[float]) -> str:
    return " | ".join(f"{number:.3g}" if number < 1000 else f"{number:.0f}" for number in numbers)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("installed", type=Path)
    parser.add_argument("--cells", nargs="+", default=["rnn", "lstm", "gru"])
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--steps", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program, image = compile_program(arguments.installed, Path(folder)), Path(folder, "layer.frnn")
        print(HEAD, "|---" * HEAD.count(" | ") + "|---|", sep="\n")
        for cell in arguments.cells:
            for hidden in arguments.hidden:
                params = make_params(cell, hidden)
                params.save_image(image)
                python, c = time_python(params, arguments.steps), time_c(program, image, arguments.steps)
                print(f"| {cell} | {hidden} | {row(python[:4])} | {row(c[:4])} |", flush=True)
        params, paced = make_params("lstm", 128), arguments.steps // 50
        params.save_image(image)
        ways = [
            ("Python, without a pause", time_python(params, arguments.steps)),
            ("C, without a pause", time_c(program, image, arguments.steps)),
            ("C, memory locked", time_c(program, image, arguments.steps, "locked")),
            ("Python, paced", time_python(params, paced, True)),
            ("C, paced", time_c(program, image, paced, "paced")),
            ("C, paced, locked", time_c(program, image, paced, "paced", "locked")),
            ("C, paced, locked, SCHED_FIFO", time_c(program, image, paced, "paced", "locked", "fifo")),
        ]
        print("\n| LSTM, H = 128 | p50 | p99 | p99.9 | max | page faults | switches |\n|---|---|---|---|---|---|---|")
        for way, numbers in ways:
            print(f"| {way} | {row(numbers)} |", flush=True)


if __name__ == "__main__":
    main()
