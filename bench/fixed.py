"""Times small layers beside C whose sizes are known to the compiler: one row, one thread.

Run in the checkout: ``python -m bench.fixed``. The C is fixed.c, compiled for each layer and this processor, as users
of real-time libraries compile their models; its sigmoid and tanh are coarser than fastrnn's. Both get the same weights,
and a case in which their outputs differ by more than that is an error.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from timeit import default_timer

import numpy as np

import fastrnn
from bench.cases import Case
from bench.choices import PARAMS
from bench.limits import compiler_and_flags

CASES = [
    Case(cell, 1000, 1, inputs, H)
    for cell in ("lstm", "gru")
    for inputs, H in ((1, 8), (1, 20), (1, 40), (8, 8), (16, 16), (24, 24), (32, 32), (48, 48), (64, 64))
]
# What -ffast-math allows, but for flushing subnormals: a library linked with it turns that on for the whole process.
FAST = [
    *("-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros", "-fassociative-math"),
    *("-freciprocal-math", "-ffp-contract=fast"),
]
ROUND_SECONDS = 2e-3
MOST_DIFFERENCE = 0.01  # of two outputs, where tanh has four digits


def compile_layer(case: Case, weights: Mapping[str, np.ndarray], folder: Path) -> ctypes.CDLL:
    """The layer of a case."""
    compiler, flags = compiler_and_flags()
    built = folder / f"{case}.so"
    sizes = [f"-DCELL_{case.cell.upper()}", f"-DI={case.I}", f"-DH={case.H}"]
    source = str(Path(__file__).with_suffix(".c"))
    command = [*compiler, "-std=gnu11", "-O3", *FAST, *flags, *sizes, "-shared", "-fPIC", source, "-o"]
    subprocess.run([*command, str(built)], check=True)
    library = ctypes.CDLL(str(built))
    library.fixed_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    library.fixed_begin.argtypes = [ctypes.c_void_p] * 4
    library.fixed_begin(
        *(weights[f"{name}_l0"].ctypes.data for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    )
    return library


def seconds_of(call: Callable[[], object], repeats: int) -> float:
    begun = default_timer()
    for _ in range(repeats):
        call()
    return (default_timer() - begun) / repeats


def compare(case: Case, rounds: int, folder: Path) -> tuple[float, float, float]:
    """Seconds of a step, of fastrnn and of the C; the median of their ratio over rounds in which they take turns."""
    x, weights = case.arrays()
    params = PARAMS[case.function](weights, **case.options)
    function = getattr(fastrnn, case.function)
    library, y = compile_layer(case, weights, folder), np.empty((case.T, case.H), "f4")
    library.fixed_run(x.ctypes.data, y.ctypes.data, case.T)
    difference = float(np.abs(y - function(x, params)[0][:, 0]).max())
    if not difference < MOST_DIFFERENCE:
        raise SystemExit(f"{case}: outputs differ by {difference:.3g}")

    def ours() -> object:
        return function(x, params, threads=1)

    def fixed() -> object:
        return library.fixed_run(x.ctypes.data, y.ctypes.data, case.T)

    repeats = max(1, round(ROUND_SECONDS / max(seconds_of(ours, 3), seconds_of(fixed, 3))))
    times = [(seconds_of(ours, repeats), seconds_of(fixed, repeats)) for _ in range(rounds)]
    first, second = (statistics.median(column) / case.T for column in zip(*times))
    return first, second, statistics.median(theirs / own for own, theirs in times)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.fixed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--case", action="append", type=Case.parse, help="instead of the usual ones; repeatable")
    parser.add_argument("--rounds", type=int, default=21, help="of each case, of which the median counts")
    arguments = parser.parse_args()
    print("| case | ns a step | fixed sizes | fixed / fastrnn |\n|---|---|---|---|")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for case in arguments.case or CASES:
            own, theirs, ratio = compare(case, arguments.rounds, Path(folder))
            ratios.append(ratio)
            print(f"| {case} | {own * 1e9:.0f} | {theirs * 1e9:.0f} | {ratio:.2f} |", flush=True)
    print(f"\n{len(ratios)} cases: geometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    main()
