"""The numbers that results depend on, and no others: two params with the same ones are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn._arrays import Array, Part
from fastrnn._cells import Cell


def rounded_options(options: Mapping[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Options with their numbers as they are computed with; an output_activation of None is the activation."""
    rounded = {name: _rounded(option, dtype) for name, option in options.items()}
    if "output_activation" in rounded:
        rounded["output_activation"] = rounded["output_activation"] or rounded["activation"]
    return rounded


def _rounded(option: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(option, tuple):
        return tuple(_rounded(part, dtype) for part in option)
    return dtype.type(option) if isinstance(option, float) else option


def numbers_of(cell: Cell, part: Part, separate: str, unused: str) -> list[Array]:
    """The numbers that results of a layer depend on: two biases as their sum, but for gates that keep them separate.

    Rows of unused gates are left out.
    """
    H, dtype = part.weight_ih.shape[0] // len(cell.gates), part.weight_ih.dtype
    kept, kept_peepholes = (
        np.repeat([gate not in unused for gate in gates], H) for gates in (cell.gates, cell.peepholes)
    )
    both = np.repeat([gate in separate for gate in cell.gates], H) & kept
    dtype = dtype if dtype in (np.float32, np.float64) else np.dtype(np.float32)  # of biases, where matrices are narrow
    b, d = (np.zeros(kept.size, dtype) if bias is None else bias for bias in (part.bias_ih, part.bias_hh))
    with np.errstate(invalid="ignore", over="ignore"):  # infinite biases are compared as any others
        added = b + d
    return [
        _rows(part.weight_ih, kept),
        _rows(part.weight_hh, kept),
        np.where(both, b, added)[kept],
        d[both],
        _rows(part.weight_hr),
        _rows(part.weight_ih_scale, kept),
        _rows(part.weight_hh_scale, kept),
        _rows(part.weight_hr_scale),
        _rows(part.weight_peephole, kept_peepholes),  # zeros are not the same as none: 0 times infinity is not 0
    ]


def _rows(array: Array | None, kept: Array | None = None) -> Array:
    """Some rows of an array, without a copy where that is all of them; nothing of an array that is absent."""
    if array is None:
        return np.zeros(0)
    return array if kept is None or kept.all() else array[kept]
