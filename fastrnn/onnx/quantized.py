"""ONNX Runtime's DynamicQuantizeLSTM: an LSTM node with bytes for W and R, which it multiplies with x and h as bytes.

`quantize_dynamic` of ONNX Runtime makes these nodes. W and R are transposed beside those of an LSTM node: (directions,
columns, rows). (byte - zero point) * scale is a weight; each direction has a scale and a zero point, or each row has.
The operator is described in ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn._arrays import Array
from fastrnn._precision import Quantized
from fastrnn._untrusted import Entry
from fastrnn.onnx.scope import named

OP = "com.microsoft.DynamicQuantizeLSTM"
AS = "LSTM"  # the operator whose attributes, outputs and other inputs it has
_BYTES = ("int8", "uint8")


def shape_of(entry: Entry) -> tuple[int, ...]:
    """The shape that an LSTM node's W or R would have."""
    if entry.dtype not in _BYTES:
        raise ValueError(f"expected {_check.either(_BYTES)}, got {entry.dtype}")
    return entry.shape[:1] + entry.shape[:0:-1] if len(entry.shape) == 3 else entry.shape


def check_sides(which: str, matrix: Entry, scales: Entry, zeros: Entry) -> None:
    """Raise where what belongs to the bytes of W or R is of another dtype or shape, before anything is read."""
    shapes = [matrix.shape[:1], matrix.shape[::2]]
    for name, entry, dtype in ((f"{which}_scale", scales, "float32"), (f"{which}_zero_point", zeros, matrix.dtype)):
        if entry.dtype != dtype:
            raise ValueError(f"{name}: expected {dtype}, got {entry.dtype}")
        if entry.shape not in shapes:
            raise ValueError(f"{name}: expected {_check.either(map(str, shapes))}, got {_check.shown(entry.shape)}")


def read(which: str, matrix: Entry, scales: Entry, zeros: Entry) -> list[Quantized]:
    """W or R of each direction, with the rows of an LSTM node."""
    sides: list[Any] = []
    for name, entry in ((f"{which}_zero_point", zeros), (f"{which}_scale", scales)):
        with named(name):
            array = entry.read()
            sides.append(array[:, None, None] if array.ndim == 1 else array[:, :, None])
    with named(which):
        integers = matrix.read().swapaxes(1, 2)
    bad = sides[1][~np.isfinite(sides[1])]
    if bad.size:
        raise ValueError(f"{which}_scale: expected finite numbers, got {bad[0]}")
    return [Quantized(integers[d], sides[0][d], sides[1][d]) for d in range(len(integers))]


def floats_of(matrices: list[Quantized]) -> Array:
    """W or R of an LSTM node: the weights that the bytes stand for."""
    return np.stack([matrix.floats() for matrix in matrices])
