"""A loop in NumPy as one would write it by hand: bench/numpy_loop.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import numpy_loop
from bench.cases import Array, Case, Data
from bench.peers.peer import Call


class NumPyLoop:
    """All input products at once, then the steps."""

    title = "NumPy loop"

    def __init__(self, threads: int) -> None:
        pass  # its matrix products use as many as the environment of the process says

    def about(self) -> dict[str, str]:
        return {"version": np.__version__}

    def forms(self, case: Case) -> list[str]:
        return ["a loop"]

    def build(self, case: Case, data: Data, form: str) -> Call:
        weights = {name: array.T.copy() if array.ndim == 2 else array for name, array in data.weights.items()}
        state = None

        def run() -> Array:
            nonlocal state
            y, last = numpy_loop.run(case, data.x, weights, state)
            if case.carries_state:
                state = last
            return y

        return run

    def outputs(self, case: Case, result: Any) -> Array:
        y: Array = result
        return y
