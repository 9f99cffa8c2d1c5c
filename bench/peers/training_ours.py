"""fastrnn in training: `fastrnn.vjp` and its pullback, with new weights at each step or with the same ones."""

from __future__ import annotations

from typing import Any

from bench.cases import Array
from bench.peers.ours import FastRNNLibrary
from bench.peers.peer import Call
from bench.training.cases import TrainingCase, TrainingData, as_argument, named

NEW, HELD = "with_weights and vjp", "vjp"


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
        vjp, params, wrt = self.fastrnn.vjp, self.params(case, data.weights), self.wrt(case)
        state = as_argument(data.state)
        options = {"lengths": case.lengths if case.ragged else None, "threads": self.threads}

        def step_with(params: Any) -> Any:
            _, pullback = vjp(data.x, params, state, **options)
            return pullback(data.dy, wrt=wrt)

        if form == HELD:
            return lambda: step_with(params)
        return lambda: step_with(params.with_weights(data.weights))

    def gradients(self, case: TrainingCase, result: Any) -> dict[str, Array]:
        return named(result)


class FastRNNHeld(FastRNNStep):
    """All gradients with weights that stay: what packing takes shows beside it, or what frozen weights save."""

    title = "all gradients, same weights"

    def forms(self, case: TrainingCase) -> list[str]:
        return [HELD]

    def wrt(self, case: TrainingCase) -> list[str]:
        return ["x", "weights", *(["state"] if case.state else [])]
