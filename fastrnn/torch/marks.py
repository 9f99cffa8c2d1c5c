"""Resets and lengths of a call of `fastrnn.torch.run`, which PyTorch's layers do not take."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import PackedSequence

from fastrnn import _check


class Marks(NamedTuple):
    """As tensors beside x; either may be None."""

    resets: Any  # bools, laid out as the steps of x
    lengths: Any  # integers (B,)

    def swapped(self) -> Marks:
        """The same for x whose batch and time have changed places."""
        return self if self.resets is None else self._replace(resets=self.resets.transpose(0, 1))


def checked(layer: Any, x: Any, resets: Any, lengths: Any) -> Marks:
    """The marks that a caller gives."""
    if not isinstance(x, torch.Tensor):
        packed = isinstance(x, PackedSequence)
        cure = "; pad_packed_sequence(x) gives a tensor and lengths, which go to the call" if packed else ""
        raise TypeError(f"x: expected a torch.Tensor, got {type(x).__name__}{cure}")
    if x.dim() not in (2, 3):
        raise ValueError(f"x: expected 2 or 3 axes, got {x.dim()}: {tuple(x.shape)}")
    first = layer.batch_first and x.dim() == 3
    counts = None if lengths is None else _lengths(x, lengths, first)
    return Marks(None if resets is None else _resets(x, resets, first), counts)


def _resets(x: Any, resets: Any, batch_first: bool) -> Any:
    if not isinstance(resets, torch.Tensor):
        cure = "; torch.from_numpy(resets) makes one" if hasattr(resets, "__array__") else ""
        raise TypeError(f"resets: expected a torch.Tensor of bool, got {type(resets).__name__}{cure}")
    if resets.dtype != torch.bool:
        raise TypeError(f"resets: expected torch.bool, got {resets.dtype}; resets.bool() converts it")
    shape = tuple(x.shape[:-1])
    if tuple(resets.shape) != shape:
        axes = "T," if x.dim() == 2 else "B, T" if batch_first else "T, B"
        cure = "; resets.T has it" if tuple(resets.shape) == shape[::-1] else ""
        raise ValueError(
            f"resets: expected {shape}, which is ({axes}), a bool for each step of x, got {tuple(resets.shape)}{cure}"
        )
    if resets.device != x.device:
        raise ValueError(f"resets: expected them on {x.device}, where x is, got {resets.device}")
    return resets


def _lengths(x: Any, lengths: Any, batch_first: bool) -> Any:
    steps, rows = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
    value = lengths.cpu().numpy() if isinstance(lengths, torch.Tensor) else lengths
    counts = _check.lengths(value, steps, rows, x.dim() == 3, batch_first)
    return torch.from_numpy(counts.astype("int64")).to(x.device)
