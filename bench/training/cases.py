"""The cases of training: those of bench/cases.py with what a backward pass may add, and the gradients expected.

A step is a forward pass, and a backward pass from a fixed gradient of its output, `dy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import CELLS, Array, Case

GRAMMAR = "CELL-T1-B1-I1-H1[-L2][-bi][-P1][-ragged][-f64][-state][-frozen][-cells] with CELL one of " + ", ".join(CELLS)
PATTERN = re.compile(r"(?P<layers>.+?)(?P<state>-state)?(?P<frozen>-frozen)?(?P<cells>-cells)?")
EXAMPLE = "lstm-T50-B32-I256-H256"


@dataclass(frozen=True)
class TrainingCase(Case):
    """Layers and an input, whose gradients are wanted: of x, of all weights and of the initial state if there is one.

    `state` gives an initial state; `frozen` weights get no gradient; `cells` are a loop over cells in a peer, and one
    call here.
    """

    state: bool = False
    frozen: bool = False
    cells: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cold:
            raise ValueError(f"{self}: expected no -cold, since a step of training fills the caches by itself")
        if self.cells and (self.bi or self.P or self.ragged):
            raise ValueError(f"{self}: expected neither -bi, -P nor -ragged, which a loop over cells does not have")

    @classmethod
    def parse(cls, text: str) -> TrainingCase:
        match = PATTERN.fullmatch(text)
        try:
            layers = Case.parse(match["layers"] if match else text)
        except ValueError as error:
            if str(error).startswith("expected a case"):
                raise ValueError(f"expected a case such as {EXAMPLE} ({GRAMMAR}), got {text!r}") from None
            raise
        given: dict[str, Any] = {field.name: getattr(layers, field.name) for field in fields(Case)}
        given |= {name: bool(match and match[name]) for name in ("state", "frozen", "cells")}
        return cls(**given)

    def __str__(self) -> str:
        added = (f"-{name}" for name in ("state", "frozen", "cells") if getattr(self, name))
        return super().__str__() + "".join(added)

    @property
    def state_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Of the initial state's arrays: h, and for an LSTM c; none without `state`."""
        units = {"h": self.output} | ({"c": self.H} if self.function == "lstm" else {})
        return {name: (self.L * self.directions, self.B, size) for name, size in units.items() if self.state}

    def wanted(self, weights: Iterable[str]) -> list[str]:
        """Names of the gradients that every peer must give, x first."""
        return ["x", *([] if self.frozen else weights), *self.state_shapes]


@dataclass(frozen=True)
class TrainingData:
    """What all peers of a case are given, and the gradients that are expected of them; a file carries it to them."""

    x: Array
    weights: dict[str, Array]
    dy: Array  # of the loss with respect to y; 0 past the end of a row
    state: dict[str, Array]
    expected: dict[str, Array]  # in float64, of x, of all weights, and of the state if there is one

    @classmethod
    def make(cls, case: TrainingCase) -> TrainingData:
        from fastrnn import reference  # not at the top: the program itself can do without the package

        x, weights = case.arrays()
        rng = np.random.default_rng(2)
        dy = rng.normal(size=(case.T, case.B, case.directions * case.output)).astype(case.dtype)
        dy[np.arange(case.T)[:, np.newaxis] >= case.lengths] = 0
        state = {k: rng.uniform(-1, 1, shape).astype(case.dtype) for k, shape in case.state_shapes.items()}
        gradients = reference.vjp(
            case.function, x, weights, dy, state=as_argument(state),
            lengths=case.lengths if case.ragged else None, **case.options,
        )  # fmt: skip
        expected = named(gradients)
        return cls(x, weights, dy, state, {name: expected[name] for name in ("x", *weights, *state)})

    def save(self, path: Path) -> None:
        parts = {"weights": self.weights, "state": self.state, "expected": self.expected}
        arrays: dict[str, Any] = {
            f"{part}/{name}": array for part, some in parts.items() for name, array in some.items()
        }
        np.savez(path, x=self.x, dy=self.dy, **arrays)

    @classmethod
    def load(cls, path: Path) -> TrainingData:
        parts: dict[str, dict[str, Array]] = {"": {}, "weights": {}, "state": {}, "expected": {}}
        with np.load(path) as file:
            for key, array in file.items():
                part, _, name = key.rpartition("/")
                parts[part][name] = array
        x, dy = parts[""]["x"], parts[""]["dy"]
        return cls(x, parts["weights"], dy, parts["state"], parts["expected"])


def as_argument(state: Mapping[str, Array]) -> Any:
    """The state as fastrnn takes it: None, h, or (h, c)."""
    return tuple(state.values()) if len(state) > 1 else next(iter(state.values()), None)


def named(gradients: Any) -> dict[str, Array]:
    """`fastrnn.Gradients` by the names of a case."""
    states = gradients.state if isinstance(gradients.state, tuple) else (gradients.state,)
    found = {"x": gradients.x, **(gradients.weights or {}), **dict(zip("hc", states))}
    return {name: array for name, array in found.items() if array is not None}
