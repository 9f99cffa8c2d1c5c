"""Tensors of PyTorch as arrays, and packed weights with what shows that they are current."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from fastrnn import _core
from fastrnn._arrays import Unpickled
from fastrnn._cells import Cell
from fastrnn._types import Precision
from fastrnn.params import CLASSES, Params

if TYPE_CHECKING:
    from fastrnn._arrays import Array

_FEW = 2**14  # numbers in all weights of a layer
UNCOUNTED = -1  # in place of a count of changes
Marks = tuple[Any, ...]
_DTYPES: dict[Any, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


class PackedLayer(NamedTuple):
    """Packed weights, with marks and samples of their tensors that show whether these have changed."""

    params: Params | None  # None where fastrnn does not take such weights
    dtype: np.dtype[Any] | None
    marks: Marks
    samples: _core.Samples  # which keeps the weights' memory, so that an address is not used again
    arrays: list[Array]  # the same memory
    numbers: bytes | None  # of all arrays, where they are few
    refused: str = ""  # why fastrnn does not take such weights, where their numbers are the reason

    def is_current(self, exactly: bool) -> bool:
        """Whether the memory holds what was packed: by samples, or by all numbers where they are few."""
        if not self.samples.are_current():
            return False
        return not exactly or self.numbers is None or self.numbers == _numbers_of(self.arrays)


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


def pack(
    cell: Cell,
    names: list[str],
    weights: list[Any],
    activation: str | None,
    like: PackedLayer | None = None,
    precision: Precision | None = None,
) -> PackedLayer:
    """Pack weights; faster where they have the names, the shapes and the dtype of others that were packed."""
    marks = marks_of(weights, activation)  # before the numbers are read: a change in between is a change
    arrays = [view_of(weight.detach()) for weight in weights]  # a detached tensor keeps the memory if the weight moves
    refused = PackedLayer(None, None, marks, _core.Samples([]), [], None)
    if any(array is None or array.dtype != arrays[0].dtype for array in arrays):
        return refused
    few = sum(array.size for array in arrays) <= _FEW
    options: dict[str, Any] = {"precision": precision} | ({} if activation is None else {"activation": activation})
    named = Unpickled(zip(names, arrays, strict=True))  # whose arrays are packed as they are, without a copy
    try:
        samples, numbers = _core.Samples(arrays), _numbers_of(arrays) if few else None
        params = _renewed(like, named, activation) if few else None
        params = params or CLASSES[cell.name](named, **options)
    except (TypeError, ValueError) as error:  # shapes that PyTorch has an error of its own for; numbers too large
        return refused._replace(refused=str(error))
    return PackedLayer(params, arrays[0].dtype, marks, samples, arrays, numbers)


def _renewed(like: PackedLayer | None, named: dict[str, Array], activation: str | None) -> Params | None:
    """Params of the layer that was packed before, with other numbers; None where this is another layer.

    It copies the arrays, which takes less time than checking them anew, if they are small.
    """
    if like is None or like.params is None or like.marks[0] != activation:
        return None
    try:
        return like.params.with_weights(named)
    except (TypeError, ValueError):
        return None


def _numbers_of(arrays: list[Array]) -> bytes:
    return b"".join([array.tobytes() for array in arrays])


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
