"""Sequences of different lengths, made into a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check
from fastrnn._arrays import SupportsArray

__all__ = ["pad"]

Array = NDArray[Any]


def pad(sequences: Iterable[SupportsArray], batch_first: bool = False) -> tuple[Array, NDArray[np.intp]]:
    """Put sequences of different lengths side by side, with zeros after the end of each.

    Parameters
    ----------
    sequences : iterable of (T_b, I) ndarrays, or of (T_b,) ndarrays of tokens
        A sequence for each row of the batch, of any lengths, 0 among them; all with the same I and dtype. Tokens are
        integers, and x has no axis I then.
    batch_first : bool
        Whether `x` is (B, T, I).

    Returns
    -------
    x : (T, B, I) ndarray, (B, T, I) with `batch_first`
        Of the dtype of the sequences; T is the length of the longest.
    lengths : (B,) ndarray of intp
        Steps of each row. Pass them on as `lengths`: without them the zeros would be read as input.

    Raises
    ------
    TypeError
        Sequences that are no arrays, or of different dtypes; one array in place of several.
    ValueError
        No sequences, or of other shapes.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> x, lengths = fastrnn.pad([np.ones((3, 2)), np.ones((5, 2))])
    >>> x.shape, lengths
    ((5, 2, 2), array([3, 5]))
    >>> weights = {"weight_ih_l0": np.ones((4, 2)), "weight_hh_l0": np.zeros((4, 4))}
    >>> y, h_n = fastrnn.rnn(x, weights, lengths=lengths)
    >>> print(y[:, 0, 0].round(4))
    [0.964 0.964 0.964 0.    0.   ]
    """
    batch_first = _check.flag("batch_first", batch_first)
    if hasattr(sequences, "__array__") or not isinstance(sequences, Iterable):
        got = type(sequences).__name__
        raise TypeError(f"sequences: expected a list of arrays, one for each row, got one {got}; [x] is a list of one")
    arrays = [_check.converted(f"sequences[{row}]", sequence) for row, sequence in enumerate(sequences)]
    if not arrays:
        raise ValueError("sequences: expected at least one, got none")
    first, dtype = arrays[0], arrays[0].dtype
    of_tokens = first.ndim == 1 and dtype.kind in "iu"
    width = first.shape[1:] if first.ndim == 2 or of_tokens else None
    for row, array in enumerate(arrays):
        if width is None or array.shape[:1] + width != array.shape:
            expected = "(T, I)" if row == 0 or width is None else f"(T,{''.join(f' {n}' for n in width)})"
            cure = f"; sequences[{row}][:, None] has one number a step" if array.ndim == 1 else ""
            raise ValueError(f"sequences[{row}]: expected {expected}, got {array.shape}{cure}")
        if array.dtype != dtype:
            raise TypeError(f"sequences[{row}]: expected {dtype}, as sequences[0] is, got {array.dtype}")
    lengths = np.array([len(array) for array in arrays], np.intp)
    rows, steps = len(arrays), int(lengths.max())
    x = np.zeros((*((rows, steps) if batch_first else (steps, rows)), *(width or ())), dtype)
    for row, array in enumerate(arrays):
        (x[row] if batch_first else x[:, row])[: len(array)] = array
    return x, lengths
