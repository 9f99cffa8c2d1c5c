"""Layers that run one step at a time."""

from __future__ import annotations

from typing import Any

from fastrnn import _core
from fastrnn._arrays import Array
from fastrnn.params import AnyParams

__all__ = ["Stream"]

State = Array | tuple[Array, Array]


class Stream(_core.Stream):
    """A stack of layers that keeps its state, and takes one step, or a chunk of steps, as input arrives.

    A stream has all the memory that a step needs: `step` allocates nothing, as long as no output before the last one
    is kept. Step by step, in chunks, and all at once give the same bits.

    Parameters
    ----------
    params : RNNParams, LSTMParams or GRUParams
        Weights of layers that run forward. Any number of streams may share them. Chunks are laid out as they say.
    batch_size : int
        Rows of the batch, B: sequences that take their steps together.

    Raises
    ------
    TypeError
        An argument of a wrong type or dtype, here or in a method.
    ValueError
        An argument of a wrong shape, layout or value; layers that run in reverse.
    RuntimeError
        A call while another one runs, in another thread or in a signal handler; in a forked process, a stream that
        another thread was at work on, until `reset`.
    MemoryError
        The stream's memory, or results or scratch of `run`, can't be had.

    Notes
    -----
    One thread at a time uses a stream. A short call keeps the interpreter lock. A longer one, from 10 or 20 us on,
    releases it while it computes, so other threads go on, and one that calls this same stream meets a RuntimeError.

    A stream can be pickled and copied; the state goes with it.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> stream = fastrnn.Stream(fastrnn.LSTMParams(weights))
    >>> x = np.full((5, 3), 0.1)
    >>> kept = [stream.step(x_t) for x_t in x[:3]]
    >>> print(kept[-1].round(4))
    [0.1771 0.1771]
    >>> stream.run(x[3:]).shape
    (2, 2)
    >>> h, c = stream.state
    >>> h.shape
    (1, 1, 2)
    >>> stream.reset()
    """

    __slots__ = ()

    def __init__(self, params: AnyParams, batch_size: int = 1) -> None:
        pass  # here for its signature: the base class is made whole by its __cinit__

    @property
    def params(self) -> AnyParams:
        """The weights."""
        params: AnyParams = self._params
        return params

    @property
    def batch_size(self) -> int:
        """Rows of the batch, B."""
        return self._batch_size

    @property
    def state(self) -> State:
        """The state, h or for an LSTM (h, c), as copies: (L, B, H), or (L, B, P) for h after a projection.

        The copies can't be written to, since that would not change the stream: set the state to a changed ``.copy()``.
        What is set is what the functions take as `state`, and is copied; None is zeros. Where the batch has one row,
        its axis may be left out.
        """
        state: State = self._get_state()
        return state

    @state.setter
    def state(self, state: State | None) -> None:
        self._set_state(state)

    def reset(self) -> None:
        """Set the state to zeros."""
        self._set_state(None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.params!r}, batch_size={self.batch_size})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.params, self.batch_size, self.state)


def _rebuild(kind: type[Stream], params: AnyParams, batch_size: int, state: State) -> Stream:
    stream = kind(params, batch_size)
    stream.state = state
    return stream
