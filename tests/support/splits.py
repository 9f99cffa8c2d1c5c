"""Layers of every size at which two threads share a call: one for each way in which the plan splits it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from support.cases import Case, Source, make_weights
from support.cells import CELLS, PARAMS


class Split(NamedTuple):
    """Sizes at which threads share a call, or at which they do not."""

    sizes: tuple[int, int]  # I, H
    layers: int
    directions: int
    rows: int
    steps: int
    words: str = ""  # what `explain` says of two threads

    def weights(self, rng: np.random.Generator, cell: str) -> dict[str, np.ndarray]:
        return make_weights(rng, cell, self.sizes, layers=self.layers, directions=("", "_reverse")[: self.directions])

    def make(self, rng: np.random.Generator, cell: str) -> tuple[Any, np.ndarray]:
        """Params, and an input."""
        params = PARAMS[cell](self.weights(rng, cell))
        return params, rng.uniform(-1, 1, (self.steps, self.rows, self.sizes[0])).astype("f4")


SPLITS = {
    "rows": Split((40, 100), 1, 1, 64, 30, "the batch is dealt out in 2 parts"),
    "directions": Split((40, 160), 2, 2, 1, 30, "the two directions run side by side"),
    "units": Split((64, 400), 1, 1, 1, 60, "2 share the units of a layer"),
    "layers": Split((64, 80), 4, 1, 1, 250, "2 take the layers"),
}
ONE_THREAD = {
    "brief": Split((5, 12), 1, 1, 1, 3),  # the interpreter lock is kept
    "small": Split((5, 12), 1, 1, 1, 500),  # it is released, and all scratch is on the stack
}


def shared_case(source: Source) -> Case:
    """A random call that two threads share, half of the time with lengths."""
    cell, split = source.choose(list(CELLS)), SPLITS[source.choose(list(SPLITS))]
    rng = np.random.default_rng(source.integer(0, 2**32 - 1))
    weights = split.weights(rng, cell)
    x = rng.uniform(-1, 1, (split.steps, split.rows, split.sizes[0])).astype("float32")
    lengths = rng.integers(0, split.steps + 1, split.rows) if source.choose([False, True]) else None
    return Case(cell, weights, x, lengths=lengths)
