"""What tests know of each cell, from the rows of the library: with a row there a cell is in all property tests."""

from __future__ import annotations

from typing import Any

import fastrnn
from fastrnn._cells import CELLS

PARAMS: dict[str, Any] = {name: getattr(fastrnn, cell.params) for name, cell in CELLS.items()}
GATES = {name: len(cell.gates) for name, cell in CELLS.items()}
PROJECTING = [name for name, cell in CELLS.items() if "weight_hr" in cell.weights]
ACTIVATIONS = [
    "tanh",
    "sigmoid",
    "relu",
    "softsign",
    "hard_sigmoid",
    "linear",
    ("hard_sigmoid", 0.2, 0.5),
    ("linear", 0.5, -0.25),
]
CLIPS = [None, 0.125, 0.5]


def as_state(cell: str, parts: tuple[Any, ...]) -> Any:
    """The state of a call: h alone, or a tuple of what the cell has."""
    return parts if len(CELLS[cell].states) > 1 else parts[0]
