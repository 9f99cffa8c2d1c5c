"""What a peer of training is: it makes a call that is a forward pass, and a backward pass to the gradients wanted."""

from __future__ import annotations

from typing import Any, Protocol

from bench.cases import Array
from bench.peers.peer import Call, Library
from bench.training.cases import TrainingCase, TrainingData


class Trainer(Library, Protocol):
    """The interface of every peer of training."""

    def forms(self, case: TrainingCase) -> list[str]:
        """Names of the forms that may be the fastest."""

    def build(self, case: TrainingCase, data: TrainingData, form: str) -> Call:
        """A function of no arguments that answers the gradients, in the library's own type."""

    def gradients(self, case: TrainingCase, result: Any) -> dict[str, Array]:
        """What the call answered by the names of `case.wanted`, in the shapes of what they are gradients of."""
