"""How long a step of training takes at least, by this machine's measured limits: docs/benchmarks.md has it in words."""

from __future__ import annotations

from bench.cases import CELLS
from bench.roofline import Limits
from bench.training.cases import TrainingCase


def limit(case: TrainingCase, limits: Limits) -> float:
    """Seconds of forward and backward: three times the forward pass's arithmetic, or U's bytes where they take longer.

    Each weight is multiplied forward, backward, and once more for its own gradient, which frozen weights do without.
    The first two products of U follow the steps, so U is read at each step; its gradient is one product over all steps.
    """
    G, number = len(CELLS[case.cell].gates), 8 if case.f64 else 4
    flops = limits.flops * 4 / number
    steps, row_steps = int(case.lengths.max()), int(case.lengths.sum())
    last = 0 if case.frozen else 1

    U = G * case.H * case.output + case.P * case.H
    product_of_U = 2 * U * row_steps / flops
    reading_U = steps * number * U / limits.level(number * U).bandwidth
    seconds = 0.0
    for inputs in case.inputs:
        input_part = (2 + last) * 2 * G * case.H * inputs * row_steps / flops
        recurrent_part = 2 * max(product_of_U, reading_U) + last * product_of_U
        seconds += case.directions * (input_part + recurrent_part)
    return seconds
