"""Tensors of PyTorch as arrays, and packed weights with what shows that they are current."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from fastrnn import _core
from fastrnn._arrays import Unpickled
from fastrnn._cells import Cell
from fastrnn.params import CLASSES

UNCOUNTED = -1  # in place of a count of changes
Marks = tuple[Any, ...]
_DTYPES: dict[Any, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


class PackedLayer(NamedTuple):
    """Packed weights, with marks and samples of their tensors that show whether these have changed."""

    params: _core.Params | None  # None where fastrnn does not take such weights
    dtype: np.dtype[Any] | None
    marks: Marks
    samples: _core.Samples  # which keeps the weights' memory, so that an address is not used again


def marks_of(weights: list[Any], activation: str | None) -> Marks:
    """Where weights are, how often PyTorch has counted that they changed, and the one option that can be set later."""
    try:
        return (activation, *[(weight.data_ptr(), weight._version) for weight in weights])
    except RuntimeError:  # made under inference_mode: changes are not counted; or without memory
        return (activation, *[(_address(weight), UNCOUNTED) for weight in weights])


def _address(tensor: Any) -> int:
    try:
        return int(tensor.data_ptr())
    except RuntimeError:
        return 0


def pack(cell: Cell, names: list[str], weights: list[Any], activation: str | None) -> PackedLayer:
    marks = marks_of(weights, activation)  # before the numbers are read: a change in between is a change
    arrays = [view_of(weight.detach()) for weight in weights]  # a detached tensor keeps the memory if the weight moves
    refused = PackedLayer(None, None, marks, _core.Samples([]))
    if any(array is None or array.dtype != arrays[0].dtype for array in arrays):
        return refused
    options: dict[str, Any] = {} if activation is None else {"activation": activation}
    params = _core.Params()  # all that a call needs: no copy of the weights stays beside the packed ones
    try:
        samples = _core.Samples(arrays)
        named = Unpickled(zip(names, arrays, strict=True))  # whose arrays are packed as they are, without a copy
        params._packed = CLASSES[cell.name](named, **options)._packed
    except (TypeError, ValueError):  # shapes that PyTorch accepts, or has an error of its own for
        return refused
    return PackedLayer(params, arrays[0].dtype, marks, samples)


def is_plain(tensor: Any) -> bool:
    """Whether a tensor is of PyTorch's own classes, and not of one that may compute in its own way."""
    return type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter


def view_of(tensor: Any) -> Any:
    """A tensor as an array in the same memory; None for any but an ordinary, dense tensor of floats on the CPU.

    `tensor.numpy()` would do the same and leave a mark: the tensor's memory could not be resized any more.
    """
    if not is_plain(tensor):
        return None
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None or not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_neg():
        return None
    address = _address(tensor)
    if address == 0 or address % dtype.itemsize:
        return None
    return _core.array_at(address, tensor.shape, tensor.stride(), dtype, tensor)


def dense(tensor: Any) -> Any:
    """As `view_of`, but a copy where the last axis has strides."""
    array = view_of(tensor)
    if array is None or not array.ndim or array.strides[-1] == array.itemsize:
        return array
    return np.ascontiguousarray(array)
