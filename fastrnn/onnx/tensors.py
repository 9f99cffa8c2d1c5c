"""Tensors of an ONNX model as arrays: an array is made only after its size was compared with the data that is there."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastrnn import _check
from fastrnn._untrusted import short

onnx = _check.package("onnx", "fastrnn.onnx", "onnx")
Array = NDArray[Any]
MOST_AXES = 8  # of any tensor: weights have two or three
_TYPES = onnx.TensorProto.DataType


class _Kind(NamedTuple):
    """A type of numbers: NumPy's name, the bytes of one, and the field that lists them where they are not raw."""

    dtype: str
    itemsize: int
    field: str = "int32_data"


KINDS = {
    _TYPES.Value("FLOAT"): _Kind("float32", 4, "float_data"),
    _TYPES.Value("DOUBLE"): _Kind("float64", 8, "double_data"),
    _TYPES.Value("FLOAT16"): _Kind("float16", 2),
    _TYPES.Value("BFLOAT16"): _Kind("bfloat16", 2),
    _TYPES.Value("INT64"): _Kind("int64", 8, "int64_data"),
    _TYPES.Value("INT32"): _Kind("int32", 4),
    _TYPES.Value("INT16"): _Kind("int16", 2),
    _TYPES.Value("INT8"): _Kind("int8", 1),
    _TYPES.Value("UINT16"): _Kind("uint16", 2),
    _TYPES.Value("UINT8"): _Kind("uint8", 1),
    _TYPES.Value("BOOL"): _Kind("bool", 1),
}


def kind_of(data_type: int) -> _Kind:
    """The numbers of a tensor, or an error where they are others than those above."""
    if data_type not in KINDS:
        name = _TYPES.Name(data_type).lower() if data_type in _TYPES.values() else data_type
        raise ValueError(f"expected a tensor of {_check.either(kind.dtype for kind in KINDS.values())}, got {name}")
    return KINDS[data_type]


def nbytes_of(data_type: int, dims: tuple[int, ...]) -> int:
    """The bytes of a tensor, whose dims need not be sensible."""
    if len(dims) > MOST_AXES or any(dim < 0 for dim in dims):
        raise ValueError(f"expected at most {MOST_AXES} axes, none of them negative, got {_check.shown(dims)}")
    return math.prod(dims) * kind_of(data_type).itemsize


def to_array(tensor: Any, folder: str | None) -> Array:
    """The numbers of a tensor, in the model or in another file of its folder."""
    dims = tuple(tensor.dims)
    nbytes, kind = nbytes_of(tensor.data_type, dims), kind_of(tensor.data_type)
    if onnx.external_data_helper.uses_external_data(tensor):
        return _external(tensor, folder, nbytes)
    raw = tensor.HasField("raw_data")
    got = len(tensor.raw_data) if raw else len(getattr(tensor, kind.field)) * kind.itemsize
    if nbytes != got:
        raise ValueError(f"expected {nbytes} bytes, since its dims are {dims}, got {got}")
    array: Array = onnx.numpy_helper.to_array(tensor)
    return array


def _external(tensor: Any, folder: str | None, nbytes: int) -> Array:
    """Data in another file, which ONNX's own loader opens: it refuses paths out of the folder, and all but files."""
    if folder is None:
        cure = "from_onnx takes the model's path too, and onnx.load reads such data"
        raise ValueError(f"expected its data in the model, got a reference to a file; {cure}")
    entries = {text_of(entry.key): text_of(entry.value) for entry in tensor.external_data}
    for key in ("offset", "length"):
        if not entries.get(key, "0").isdecimal():
            raise ValueError(f"expected a number of bytes as the {key} of its data, got {_check.shown(entries[key])}")
    location, offset = entries.get("location", ""), int(entries.get("offset", 0))
    if int(entries.get("length", nbytes)) != nbytes:
        raise ValueError(f"expected {nbytes} bytes, since its dims are {tuple(tensor.dims)}, got {entries['length']}")
    path = os.path.join(folder, location)
    size = os.path.getsize(path) if os.path.isfile(path) else None
    if size is not None and size < offset + nbytes:  # before memory is taken for it
        raise ValueError(
            f"expected {nbytes} bytes from {offset} on in {_check.shown(location)}, got {size} bytes in all"
        )
    bounded = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(nbytes))):
        bounded.external_data.add(key=key, value=value)
    try:
        array: Array = onnx.numpy_helper.to_array(bounded, folder)
    except (onnx.checker.ValidationError, RuntimeError) as error:  # of a name that no file system takes, the latter
        raise ValueError(
            f"expected a file in the model's folder, got {_check.shown(location)}: {short(error)}"
        ) from None
    return array


def text_of(value: Any) -> str:
    """A string of a model: protobuf gives bytes where it is not UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"expected an ONNX model, got one with a name that is not UTF-8, {_check.shown(value)}")
    return value
