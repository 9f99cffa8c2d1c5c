"""What a layer did at each step: its gates and states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastrnn import _check, _core, _html, _keywords
from fastrnn._arrays import Array
from fastrnn.functional import Lengths, Resets
from fastrnn.params import AnyParams, Params

__all__ = ["Trace", "trace"]

_MEANINGS = {
    "i": "input gate",
    "f": "forget gate",
    "g": "candidate",
    "o": "output gate",
    "r": "reset gate",
    "z": "update gate",
    "n": "candidate",
    "c": "cell state",
    "h": "hidden state",
}


class Trace(Mapping[str, Array]):
    """Gates and states of every layer and direction at every step, by names. `trace` makes it.

    Names are those of the weights: `i_l0`, `f_l0`, `g_l0`, `o_l0`, `c_l0`, `h_l0` of an LSTM's first layer, `r`, `z`,
    `n` and `h` of a GRU's, `h` of an Elman layer's; then `i_l0_reverse`, `i_l1` and so on. Arrays are (T, B, H), in the
    layout of x: (B, T, H) where that is batch first, (T, H) where it has no batch. h is (T, B, P) where a projection
    makes it. Steps past a row's length are 0.

    Attributes
    ----------
    y : ndarray
        What the call returns: all outputs of the last layer.
    state : ndarray or tuple of ndarrays
        The final states: h, or (h, c) of an LSTM.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> params = fastrnn.GRUParams({"weight_ih": np.zeros((6, 3)), "weight_hh": np.zeros((6, 2))})
    >>> trace = fastrnn.trace(np.ones((5, 1, 3)), params)
    >>> list(trace), trace["z_l0"].shape, float(trace["z_l0"].max())
    (['r_l0', 'z_l0', 'n_l0', 'h_l0'], (5, 1, 2), 0.5)
    """

    y: Array
    state: Any

    def __init__(self, y: Array, state: Any, arrays: dict[str, Array]) -> None:
        self.y, self.state, self._arrays = y, state, arrays

    def __getitem__(self, name: str) -> Array:
        try:
            return self._arrays[name]
        except KeyError:
            raise KeyError(f"expected one of {', '.join(self._arrays)}, got {_check.shown(name)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {array.shape}" for name, array in self._arrays.items())
        return f"Trace({shapes})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the arrays, what they are, and their shapes, in a table."""
        rows = [(name, _MEANINGS[name[0]], array.shape) for name, array in self._arrays.items()]
        return _html.table("Trace", rows, ("array", "what it is", "shape"))


@_keywords.of_traces
def trace(
    x: Any,
    params: AnyParams,
    state: Any = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
) -> Trace:
    """Run layers, and keep every gate and state of every step: to draw them, to look for what is saturated, to learn.

    Parameters
    ----------
    x, params, state, lengths, resets, batch_first
        Those of `rnn`, `lstm` and `gru`; params of any of the three classes.

    Returns
    -------
    Trace
        A mapping of names to arrays, with the `y` and `state` of the call. All numbers have the bits that the call
        computes with.

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong type, dtype, shape or value.
    MemoryError
        Results can't be had.

    Examples
    --------
    How much of its cell state an LSTM keeps from step to step, by its forget gate:

    >>> import numpy as np, fastrnn
    >>> rng = np.random.default_rng(0)
    >>> params = fastrnn.LSTMParams({"weight_ih": rng.normal(size=(24, 3)), "weight_hh": rng.normal(size=(24, 6))})
    >>> trace = fastrnn.trace(rng.normal(size=(10, 2, 3)), params)
    >>> trace["f_l0"].shape, trace["c_l0"].shape
    ((10, 2, 6), (10, 2, 6))
    >>> i, f, g, c = (trace[f"{letter}_l0"] for letter in "ifgc")
    >>> bool(np.allclose(c[1:], f[1:] * c[:-1] + i[1:] * g[1:]))
    True
    """
    if not isinstance(params, Params):
        _check.fail_params(params)
    cell = params._cell
    (y, final), tape = _core.run_taped(cell.name, x, params, state, lengths, resets, batch_first, True, None, None)
    gates = [letter for letter in cell.gates if letter not in cell.states]
    sizes = [params.proj_size or params.hidden_size] + [params.hidden_size] * (len(cell.states) - 1)
    arrays: dict[str, Array] = {}
    for index, (layer, reverse) in enumerate(params._names):
        of_gates = [np.empty((tape.T, tape.B, params.hidden_size), params.dtype) for _ in gates]
        of_states = [np.empty((tape.T, tape.B, size), params.dtype) for size in sizes]
        tape.read(index, of_gates, of_states)
        suffix = f"_l{layer}_reverse" if reverse else f"_l{layer}"
        # h last, since it is made of all others
        named = [*zip(gates, of_gates), *reversed([*zip(cell.states, of_states)])]
        arrays |= {name + suffix: _laid_out(array, tape) for name, array in named}
    return Trace(y, final, arrays)


def _laid_out(array: Array, tape: _core.Tape) -> Array:
    """(T, B, ...) in the layout of the call's x."""
    if tape.ndim == 2:
        return array[:, 0]
    return array.swapaxes(0, 1) if tape.batch_first else array
