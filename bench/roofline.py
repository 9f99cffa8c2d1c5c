"""How long a case takes at least, by this machine's measured limits: what docs/benchmarks.md defines, in code."""

from __future__ import annotations

from dataclasses import dataclass

from bench.cases import CELLS, Case


@dataclass(frozen=True)
class Level:
    """A cache level or memory: what it holds and how fast it is read, for all threads of a run together."""

    name: str
    capacity: float | None  # bytes; None is without end
    bandwidth: float  # bytes a second
    measured_at: int  # bytes that were read again and again to find it


@dataclass(frozen=True)
class Limits:
    """Measured limits of this machine, for a number of threads: seconds, and rates a second."""

    threads: int
    flops: float  # float32 fused multiply-adds count two
    levels: tuple[Level, ...]  # nearest first
    activation: float  # one float32 sigmoid in a vector of them, on one thread
    barrier: float | None  # all threads, or two, meeting once; None where there is one processor
    call: float  # Python calling a function in C
    empty: float  # Python making an array of 128 numbers
    compiler: str

    def level(self, size: float) -> Level:
        """The nearest level that holds so many bytes."""
        return next(level for level in self.levels if level.capacity is None or size <= level.capacity)


def roofline(case: Case, limits: Limits) -> float:
    """Seconds of a call by the limits: input part, recurrent part and activations, one after the other."""
    cell, H, D = CELLS[case.cell], case.H, case.directions
    G, number = len(cell.gates), 8 if case.f64 else 4
    flops = limits.flops * 4 / number
    steps, row_steps = int(case.lengths.max()), int(case.lengths.sum())

    U = G * H * case.output + case.P * H
    all_bytes = number * D * sum(G * H * inputs + U for inputs in case.inputs)
    level_of_all = limits.levels[-1] if case.cold else limits.level(all_bytes)
    level_of_U = level_of_all if steps == 1 else limits.level(number * U)  # in a single step nothing is used again

    seconds = 0.0
    for inputs in case.inputs:
        W = G * H * inputs
        input_part = max(2 * W * row_steps / flops, number * W / level_of_all.bandwidth)
        recurrent_part = max(2 * U * row_steps / flops, steps * number * U / level_of_U.bandwidth)
        activations = cell.activations * H * row_steps * limits.activation * (number / 4) / limits.threads
        seconds += D * (input_part + recurrent_part + activations)
    return seconds
