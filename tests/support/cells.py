"""What tests know of each cell. With a row here a cell is in all property tests, and in all made for each cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import fastrnn

BIASED = {"weight_ih": ("G*H", "I"), "weight_hh": ("G*H", "O"), "bias_ih": ("G*H",), "bias_hh": ("G*H",)}


class Cell(NamedTuple):
    """A row of the table.

    The axes of `weights`: G*H a row for each gate of each unit, H units, I inputs of the layer, O outputs that are fed
    back (P with a projection, else H), P outputs of the projection, K*H a number for each unit and peephole.
    """

    gates: str  # a letter each
    activations: Mapping[str, str | None]  # options that name one, with their defaults; None: as `activation`
    states: tuple[str, ...] = ("h",)
    weights: Mapping[str, tuple[str, ...]] = BIASED
    peepholes: str = ""  # gates that have one
    flags: Mapping[str, bool] = {}  # options that are true or false, with their defaults


CELLS = {
    "rnn": Cell("h", activations={"activation": "tanh"}),
    "lstm": Cell(
        "ifgo",
        activations={"activation": "tanh", "recurrent_activation": "sigmoid", "output_activation": None},
        states=("h", "c"),
        weights={**BIASED, "weight_hr": ("P", "H"), "weight_peephole": ("K*H",)},
        peepholes="ifo",
        flags={"input_forget": False},
    ),
    "gru": Cell(
        "rzn",
        activations={"activation": "tanh", "recurrent_activation": "sigmoid"},
        flags={"reset_after": True},
    ),
}
PARAMS: dict[str, Any] = {name: getattr(fastrnn, f"{name.upper()}Params") for name in CELLS}
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
