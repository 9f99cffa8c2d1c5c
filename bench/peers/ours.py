"""fastrnn itself: its functions, and its streams."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.cases import Array, Case, Data
from bench.peers.peer import Call, Unable


class FastRNNLibrary:
    """The library: its versions, and params of a case."""

    title = "fastrnn"

    def __init__(self, threads: int) -> None:
        import fastrnn

        self.fastrnn, self.threads = fastrnn, threads

    def about(self) -> dict[str, str]:
        from fastrnn import _core

        weights = {"weight_ih_l0": np.zeros((4, 1), np.float32), "weight_hh_l0": np.zeros((4, 1), np.float32)}
        target = self.params(Case("lstm", 1, 1, 1, 1), weights).target
        return {"version": self.fastrnn.__version__, "target": target, "compiler": _core.COMPILER}

    def params(self, case: Case, weights: dict[str, Array]) -> Any:
        kind = getattr(self.fastrnn, case.function.upper() + "Params")
        return kind(weights, **case.options)


class FastRNN(FastRNNLibrary):
    """A call of `fastrnn.lstm` and its like: a new array of outputs and the final state each time."""

    def forms(self, case: Case) -> list[str]:
        return [f"fastrnn.{case.function}"]

    def build(self, case: Case, data: Data, form: str) -> Call:
        function, params = getattr(self.fastrnn, case.function), self.params(case, data.weights)
        x, threads = data.x, self.threads
        if case.ragged:
            return lambda: function(x, params, lengths=case.lengths, threads=threads)[0]
        if not case.carries_state:
            return lambda: function(x, params, threads=threads)[0]
        state = None

        def step() -> Any:
            nonlocal state
            y, state = function(x, params, state, threads=threads)
            return y

        return step

    def outputs(self, case: Case, result: Any) -> Array:
        y: Array = result
        return y


class FastRNNStream(FastRNN):
    """`fastrnn.Stream`, for cases of a single step: what a program uses that gets one step at a time."""

    title = "Stream.step"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        if not hasattr(self.fastrnn, "Stream"):
            raise ImportError("this fastrnn has no Stream")

    def forms(self, case: Case) -> list[str]:
        if case.T > 1 or case.bi:
            raise Unable("takes one step at a time")
        return ["Stream.step"]

    def build(self, case: Case, data: Data, form: str) -> Call:
        stream, x = self.fastrnn.Stream(self.params(case, data.weights), batch_size=case.B), data.x[0]
        return (lambda: stream.step(x)) if self.threads == 1 else (lambda: stream.step(x, threads=self.threads))

    def outputs(self, case: Case, result: Any) -> Array:
        return np.array(result, ndmin=3)
