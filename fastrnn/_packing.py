"""Weights of params as `_core.Packed` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastrnn import _core
from fastrnn._arrays import Array
from fastrnn._cells import Cell
from fastrnn._names import Names
from fastrnn._shapes import Sizes


class Part(NamedTuple):
    """The arrays of one layer in one direction, in the order that `_core.Packed` takes them."""

    weight_ih: Array
    weight_hh: Array | None = None
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None
    weight_peephole: Array | None = None


def parts_of(names: Names, weights: Mapping[str, Array], dtype: np.dtype[Any]) -> list[Part]:
    """Arrays of every layer and direction, in the dtype that they are computed with."""
    return [
        Part(**{plain: np.require(weights[name], dtype, ["C", "A"]) for plain, name in part.items()})
        for part in names.values()
    ]


def pack(cell: Cell, sizes: Sizes, parts: Sequence[Part], options: Mapping[str, Any], target: str) -> _core.Packed:
    """Copy arrays into panels for a target. What a cell has no option for is handed over as its kernels expect it."""
    activation = options["activation"]
    return _core.Packed(
        cell.name,
        parts[0].weight_ih.dtype,
        sizes[:4],
        sizes.directions,
        (
            activation,
            options.get("recurrent_activation", ("sigmoid", 0.0, 0.0)),
            options.get("output_activation") or activation,
        ),
        clip=options["clip"] or float("inf"),
        reset_after=options.get("reset_after", True),
        input_forget=options.get("input_forget", False),
        weights=[tuple(part) for part in parts],
        target=target,
    )
