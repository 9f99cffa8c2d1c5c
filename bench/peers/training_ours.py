"""fastrnn in training: `fastrnn.vjp` and its pullback, with new weights at each step or with the same ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.cases import Array
from bench.peers.ours import FastRNNLibrary
from bench.peers.peer import Call, Unable
from bench.training.cases import TrainingCase, TrainingData, as_argument, named

NEW, HELD, PACKED = "with_weights and vjp", "vjp", "with_weights"


class FastRNNStep(FastRNNLibrary):
    """A step of an optimiser: new weights are packed first. Frozen weights are not new."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        if not hasattr(self.fastrnn, "vjp"):
            raise ImportError("this fastrnn has no vjp")

    def forms(self, case: TrainingCase) -> list[str]:
        return [HELD if case.frozen else NEW]

    def wrt(self, case: TrainingCase) -> list[str]:
        return ["x", *([] if case.frozen else ["weights"]), *(["state"] if case.state else [])]

    def build(self, case: TrainingCase, data: TrainingData, form: str) -> Call:
        params, step = self.params(case, data.weights), self.step(case, data)
        if form == HELD:
            return lambda: step(params)
        return lambda: step(params.with_weights(data.weights))

    def step(self, case: TrainingCase, data: TrainingData) -> Callable[[Any], Any]:
        """A function of params."""
        vjp, state, wrt = self.fastrnn.vjp, as_argument(data.state), self.wrt(case)
        options = {"lengths": case.lengths if case.ragged else None, "threads": self.threads}

        def run(params: Any) -> Any:
            _, pullback = vjp(data.x, params, state, **options)
            return pullback(data.dy, wrt=wrt)

        return run

    def gradients(self, case: TrainingCase, result: Any) -> dict[str, Array]:
        return named(result)


class FastRNNHeld(FastRNNStep):
    """All gradients with weights that stay, as in several chunks before one step of an optimiser."""

    title = "all gradients, same weights"

    def forms(self, case: TrainingCase) -> list[str]:
        return [HELD]

    def wrt(self, case: TrainingCase) -> list[str]:
        return ["x", "weights", *(["state"] if case.state else [])]


class FastRNNPacking(FastRNNStep):
    """The packing of new weights alone, both for the way forward and for the way back."""

    title = "packing"

    def forms(self, case: TrainingCase) -> list[str]:
        if case.frozen:
            raise Unable("frozen weights are not new")
        return [PACKED]

    def build(self, case: TrainingCase, data: TrainingData, form: str) -> Call:
        params, self.compared = self.params(case, data.weights), self.step(case, data)

        def pack() -> Any:
            packed = params.with_weights(data.weights)
            packed._transposed()  # the first pullback would do it
            return packed

        return pack

    def gradients(self, case: TrainingCase, result: Any) -> dict[str, Array]:
        """Those of the params that it packed."""
        return super().gradients(case, self.compared(result))
