"""Weights of params as `_core.Packed` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastrnn import _core
from fastrnn._arrays import Array, Part
from fastrnn._cells import Cell
from fastrnn._shapes import Sizes

if TYPE_CHECKING:
    import numpy as np


def pack(
    cell: Cell,
    sizes: Sizes,
    parts: Sequence[Part],
    options: Mapping[str, Any],
    dtype: np.dtype[Any],
    precision: str | None,
    target: str,
    vocabulary: int,
    embedding: Array | None,
    like: _core.Packed | None = None,
) -> _core.Packed:
    """Copy arrays into panels for a target. What a cell has no option for is handed over as its kernels expect it.

    `embedding` is an array (vocabulary, I), or None for the identity matrix, and where there is no vocabulary.
    `like` is what was packed of the same layers with other numbers: then memory is kept for the next ones.
    """
    activation = options["activation"]
    return _core.Packed(
        cell.name,
        dtype,
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
        batch_first=options["batch_first"],
        weights=[tuple(part) for part in parts],
        target=target,
        precision=precision,
        vocabulary=vocabulary,
        embedding=embedding,
        like=like,
    )
