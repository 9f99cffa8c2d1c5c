"""One recurrent node, run: arrays under the names of its inputs, to its outputs in ONNX's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrnn import functional
from fastrnn.onnx.node import OPERATORS, Layer

if TYPE_CHECKING:
    from fastrnn.params import Params

Array = NDArray[Any]


def _readable(array: Array) -> Array:
    """The array, or a copy where its last axis is not dense or its memory not aligned. Other strides are taken."""
    dense = array.shape[-1] <= 1 or array.strides[-1] == array.itemsize
    return array if dense and array.flags.aligned else np.require(array, None, ("C", "A"))


def _state(name: str, given: Array | None, shape: tuple[int, ...], dtype: Any, batch_first: bool) -> Array:
    """An initial state (D, B, H), which the batch-first layout has as (B, D, H)."""
    if given is None:
        return np.zeros(shape, dtype)
    expected = (shape[1], shape[0], shape[2]) if batch_first else shape
    if given.shape != expected:
        raise ValueError(f"{name}: expected {expected}, got {given.shape}")
    return np.require(given.swapaxes(0, 1) if batch_first else given, None, ("C", "A"))


def compute(
    layer: Layer,
    params: Params,
    arrays: Mapping[str, Array],
    *,
    wants_sequence: bool = True,
    threads: int | None = None,
) -> tuple[Array | None, ...]:
    """Y, Y_h and, of an LSTM, Y_c, from X and perhaps sequence_lens, initial_h and initial_c.

    None in place of Y where it is not wanted: it is not written then.
    """
    X, D, H, batch_first = arrays["X"], layer.directions, params.hidden_size, layer.layout == 1
    if X.ndim != 3 or X.shape[2] != params.input_size:
        axes = "B, T" if batch_first else "T, B"
        raise ValueError(f"X: expected ({axes}, {params.input_size}), got {X.shape}")
    cell = OPERATORS[layer.op].cell
    names = [f"initial_{state}" for state in cell.states]
    state: Any = None
    if any(name in arrays for name in names):
        shape = (D, X.shape[0 if batch_first else 1], H)
        state = tuple(_state(name, arrays.get(name), shape, X.dtype, batch_first) for name in names)
        state = state[0] if len(state) == 1 else state
    y, final = getattr(functional, cell.name)(
        _readable(X),
        params,
        state,
        lengths=arrays.get("sequence_lens"),
        batch_first=batch_first,
        return_sequences=wants_sequence,
        threads=threads,
    )
    states = final if isinstance(final, tuple) else (final,)
    if batch_first:
        states = tuple(state.swapaxes(0, 1) for state in states)
    if not wants_sequence:
        return (None, *states)
    Y = y.reshape(*y.shape[:2], D, H)
    return (Y if batch_first else Y.swapaxes(1, 2), *states)
