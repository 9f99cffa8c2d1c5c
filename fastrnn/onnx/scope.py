"""The meaning of a name within one graph, body or function of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastrnn import _check

DEFAULT_DOMAIN = ("", "ai.onnx")


@contextmanager
def named(what: str) -> Iterator[None]:
    """Put the name of what is at fault in front of an error's message."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


class Budget:
    """What may be done to find and compute the constants of one model.

    Models are hostile: a few bytes can ask for much memory (ConstantOfShape, Expand, a Concat of a tensor with itself,
    again and again), and the inputs of many nodes can share one long chain, which is followed and computed for each.
    """

    MOST_STEPS = (
        1_000_000  # that are followed: a state may depend on a whole network before it, which is then no constant
    )
    MOST_NODES = 20_000  # that are computed: a layer that PyTorch exports without constant folding takes some 30
    LEAST_BYTES = 2**24
    TIMES = 32  # bytes for each byte read: int8 weights made float32, and passed through eight nodes

    def __init__(self) -> None:
        self._steps, self._nodes, self._bytes = self.MOST_STEPS, self.MOST_NODES, self.LEAST_BYTES
        self._read: dict[int, object] = {}  # tensors, which stay alive so that their identities last

    def follow(self) -> None:
        """Take a step towards the constants that a value depends on."""
        if not self._steps:
            raise ValueError(f"expected at most {self.MOST_STEPS} steps from inputs to constants, got more")
        self._steps -= 1

    def note(self, tensor: object, nbytes: int) -> None:
        """Count the bytes of a tensor that was read, once."""
        if id(tensor) not in self._read:
            self._read[id(tensor)] = tensor
            self._bytes += self.TIMES * nbytes

    def take(self, nbytes: int) -> None:
        """Take what the outputs of one node need, before they are made."""
        if nbytes > self._bytes:
            most = f"{self.LEAST_BYTES} bytes and {self.TIMES} for each byte of constants that it is made of"
            raise ValueError(f"expected at most {most}, got {nbytes} where {self._bytes} are left")
        if not self._nodes:
            raise ValueError(f"expected at most {self.MOST_NODES} nodes that compute constants, got more")
        self._bytes -= nbytes
        self._nodes -= 1


@dataclass(frozen=True)
class Scope:
    """The names of one graph or function."""

    where: str
    sources: Mapping[str, Any]  # an initializer, a node that has the name among its outputs, or None for an input
    outer: Scope | None
    opset: int | None
    folder: str | None  # of external data; None where the model did not come from a file
    budget: Budget = field(default_factory=Budget)  # of the whole model
    repeated: bool = False  # whether it is, or lies in, the body of a Loop or a Scan

    def find(self, name: str) -> tuple[Scope, Any]:
        """What defines a name, and in which scope: this one, or one around it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.sources:
                return scope, scope.sources[name]
            scope = scope.outer
        raise ValueError(f"expected a constant, got {_check.shown(name)}, which nothing in the model defines")
