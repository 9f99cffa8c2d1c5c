"""What a cell is: one row of one table, from which everything that differs from cell to cell is derived.

This module imports nothing of the package. The equations are in `reference/cells.py` and in C; the order of gates that
another system keeps is in that system's loader, as the letters of the row in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_BIASED = {"weight_ih": ("G*H", "I"), "weight_hh": ("G*H", "O"), "bias_ih": ("G*H",), "bias_hh": ("G*H",)}
_OF_ALL: dict[str, Any] = {"clip": None, "batch_first": False}  # options that every cell has, with their defaults


class Cell(NamedTuple):
    """A row of the table.

    The axes of `weights` are in these letters: G*H a row for each gate of each unit, H units, I inputs of the layer, O
    outputs that are fed back (P with a projection, else H), P outputs of the projection, K*H a number for each unit and
    gate that has a peephole.
    """

    name: str  # of the function, here, in `reference` and in `_core.CELLS`
    title: str  # of the cell in texts; its params are of the class `{title}Params`
    gates: str  # a letter each, in the order of their rows in the weights
    activations: Mapping[str, str | None]  # options that name one, with their defaults; None: as `activation`
    states: tuple[str, ...] = ("h",)  # what a step hands to the next; h is the output
    weights: Mapping[str, tuple[str, ...]] = _BIASED
    required: tuple[str, ...] = ("weight_ih", "weight_hh")
    peepholes: str = ""  # gates that have one, in the order of the array
    flags: Mapping[str, bool] = {}  # options that are true or false, with their defaults

    @property
    def params(self) -> str:
        """The name of the class of its params."""
        return f"{self.title}Params"

    @property
    def defaults(self) -> dict[str, Any]:
        """All options by name, as they are if they are not given."""
        return {**self.activations, **self.flags, **_OF_ALL}


RNN = Cell("rnn", "RNN", "h", activations={"activation": "tanh"})
LSTM = Cell(
    "lstm",
    "LSTM",
    "ifgo",
    activations={"activation": "tanh", "recurrent_activation": "sigmoid", "output_activation": None},
    states=("h", "c"),
    weights={**_BIASED, "weight_hr": ("P", "H"), "weight_peephole": ("K*H",)},
    peepholes="ifo",
    flags={"input_forget": False},
)
GRU = Cell(
    "gru",
    "GRU",
    "rzn",
    activations={"activation": "tanh", "recurrent_activation": "sigmoid"},
    flags={"reset_after": True},
)

CELLS = {cell.name: cell for cell in (RNN, LSTM, GRU)}
OPTIONS: dict[str, Any] = {  # of any cell, each once, with its default
    **{name: value for cell in CELLS.values() for name, value in cell.activations.items()},
    **{name: value for cell in CELLS.values() for name, value in cell.flags.items()},
    **_OF_ALL,
}
WEIGHTS = tuple(dict.fromkeys(plain for cell in CELLS.values() for plain in cell.weights))  # of any cell, each once
