"""What tests know of each cell. With a row here a cell is in all property tests, and in all made for each cell."""

from __future__ import annotations

from typing import Any, NamedTuple

import fastrnn


class Cell(NamedTuple):
    gates: int
    states: int = 1  # h, or h and c
    forms: tuple[str, ...] = ()  # options of which each value is as standard as the others
    options: tuple[str, ...] = ("activation", "clip")  # the others
    projects: bool = False
    peepholes: bool = False


CELLS = {
    "rnn": Cell(gates=1),
    "lstm": Cell(
        gates=4,
        states=2,
        options=("activation", "clip", "recurrent_activation", "output_activation", "input_forget"),
        projects=True,
        peepholes=True,
    ),
    "gru": Cell(gates=3, forms=("reset_after",), options=("activation", "clip", "recurrent_activation")),
}
PARAMS: dict[str, Any] = {name: getattr(fastrnn, f"{name.upper()}Params") for name in CELLS}
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
OPTIONS: dict[str, list[Any]] = {  # values that random layers have
    "activation": ACTIVATIONS,
    "recurrent_activation": ACTIVATIONS,
    "output_activation": [None, *ACTIVATIONS],
    "clip": [None, 0.125, 0.5],
    "input_forget": [False, True],
    "reset_after": [False, True],
}
