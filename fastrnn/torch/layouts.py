"""How the tensors of a call lie in PyTorch, and the arrays of fastrnn that they become.

A layout lets arrays enter a call and leave it: `enter` and `leave` for x and y, `enter_state` and `leave_state` for
states. Gradients take the same ways in the other direction: that of a result enters, that of an argument leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastrnn.torch.marks import Marks

if TYPE_CHECKING:
    from fastrnn._arrays import Array

# Steps times rows of the padded batch, over the steps that a packed sequence holds. PyTorch, which does not pad, is
# faster beyond that.
_MOST_PADDING = 4


class Layout:
    """That of fastrnn: (T, B, ...) or (T, ...)."""

    gives_y = True  # or states alone, as a cell does

    def __init__(self, steps: int, rows: tuple[int, ...], **options: Any) -> None:
        self.steps, self.rows = steps, rows
        self.options = options  # of the call
        self.marks: Marks | None = None

    def enter(self, x: Array) -> Array:
        return x

    def leave(self, y: Array) -> Array:
        return y

    def enter_state(self, state: Array) -> Array:
        return state

    def leave_state(self, state: Array) -> Array:
        return state

    def mark(self, marks: Marks) -> bool:
        """Adds copies of resets and lengths to the options; False where fastrnn can't read them."""
        given = [tensor for tensor in marks if tensor is not None]
        if not all(type(tensor) is torch.Tensor and tensor.is_cpu for tensor in given):
            return False
        self.marks = Marks(*(None if tensor is None else tensor.clone() for tensor in marks))
        resets, lengths = (None if tensor is None else tensor.numpy() for tensor in self.marks)
        self.options.update(resets=None if resets is None else self.enter(resets), lengths=lengths)
        return True


class BatchFirst(Layout):
    """(B, T, ...). Steps are outermost in the memory of results, as they are in PyTorch."""

    def enter(self, x: Array) -> Array:
        return x.swapaxes(0, 1)

    def leave(self, y: Array) -> Array:
        return y.swapaxes(0, 1)


class OneStep(Layout):
    """(B, ...) or (...): a cell, whose output is its state."""

    gives_y = False

    def enter(self, x: Array) -> Array:
        return x[None]

    def leave(self, y: Array) -> Array:
        return y[0]  # type: ignore[no-any-return]

    def enter_state(self, state: Array) -> Array:
        return state[None]

    def leave_state(self, state: Array) -> Array:
        return state[0]  # type: ignore[no-any-return]


class Packed(Layout):
    """The data of a PackedSequence: the steps of all rows one below the other, which are padded for the call.

    States have the order of the sequences that were packed, and enter in that of their lengths.
    """

    def __init__(self, sequence: Any, sizes: Array) -> None:
        self._runs = np.arange(sizes[0]) < sizes[:, None]  # (T, B): true at the steps in the sequence
        super().__init__(len(sizes), (int(sizes[0]),), lengths=self._runs.sum(0))
        indices = sequence.sorted_indices, sequence.unsorted_indices
        self._sorted, self._unsorted = (None if index is None else index.numpy() for index in indices)

    def enter(self, x: Array) -> Array:
        padded = np.zeros((*self._runs.shape, x.shape[1]), x.dtype)
        padded[self._runs] = x
        return padded

    def leave(self, y: Array) -> Array:
        return y[self._runs]

    def enter_state(self, state: Array) -> Array:
        return state if self._sorted is None else np.take(state, self._sorted, axis=1)

    def leave_state(self, state: Array) -> Array:
        return state if self._unsorted is None else np.take(state, self._unsorted, axis=1)


def layout_of(shape: tuple[int, ...], batch_first: bool, sequence: Any) -> Layout | None:
    """That of a layer's call, given the shape of x; None where fastrnn does not take such an x."""
    if sequence is not None:
        sizes = _sizes_of(sequence, shape[0]) if len(shape) == 2 else None
        return None if sizes is None else Packed(sequence, sizes)
    if len(shape) == 2:
        return Layout(shape[0], ())
    if len(shape) != 3:
        return None
    return BatchFirst(shape[1], shape[:1]) if batch_first else Layout(shape[0], shape[1:2])


def _sizes_of(sequence: Any, rows: int) -> Any:
    """The batch sizes of a packed sequence, as an array.

    None where sizes or indices are not those of a packed sequence, and where a padded batch would be mostly padding.
    """
    sizes, indices = sequence.batch_sizes, (sequence.sorted_indices, sequence.unsorted_indices)
    if not all(_is_vector(tensor) for tensor in (sizes, *indices) if tensor is not None) or not len(sizes):
        return None
    counts = sizes.numpy()
    if counts[-1] < 1 or (counts[1:] > counts[:-1]).any() or counts.sum() != rows:
        return None
    if len(counts) * counts[0] > _MOST_PADDING * rows:
        return None
    return counts if indices == (None, None) or _are_inverse(*indices, int(counts[0])) else None


def _are_inverse(a: Any, b: Any, count: int) -> bool:
    """Whether two vectors are permutations, of which each undoes the other."""
    if a is None or b is None or len(a) != count or len(b) != count:
        return False
    places, numbers = np.arange(count), a.numpy()
    return np.array_equal(np.sort(numbers), places) and np.array_equal(np.argsort(numbers), b.numpy())


def _is_vector(tensor: Any) -> bool:
    ordinary = type(tensor) is torch.Tensor and tensor.is_cpu and tensor.layout is torch.strided
    return ordinary and tensor.dtype is torch.int64 and tensor.dim() == 1 and tensor.is_contiguous()
