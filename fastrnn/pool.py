"""Streams that come and go, of which any take a step together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastrnn import _core
from fastrnn.params import AnyParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["StreamPool"]


class StreamPool(_core.StreamPool):
    """Streams of one stack of layers that come and go, of which any take a step together.

    Weights are read once for all streams of a step, so this is faster than a `Stream` for each of them. The bits of a
    stream are those that it has alone, whichever streams step beside it.

    Parameters
    ----------
    params : RNNParams, LSTMParams or GRUParams
        Weights of layers that run forward. Any number of pools and streams may share them.
    capacity : int
        Streams that there is memory for at once, from 1 to 2**24. It doubles where more are opened; states do not move.

    Raises
    ------
    TypeError
        An argument of a wrong type or dtype, here or in a method.
    ValueError
        An argument of a wrong shape, layout or value; layers that run in reverse; ids that are not those of distinct
        open streams of this pool: no stream has moved then.
    RuntimeError
        A call while another one runs, in another thread or in a signal handler; in a forked process, a pool that
        another thread was at work on, until `reset` of all streams.
    MemoryError
        The pool's memory, or results or scratch of a call, can't be had.

    Notes
    -----
    The id of a stream is an int of up to 63 bits, which a process gives only once: the id of a closed stream is that
    of no other stream, of this pool or of another one. Copies of a pool keep its ids, and so does a pool that was
    pickled in another process, whose ids may be those of other pools here. ``len(pool)`` is the number of open
    streams, ``id in pool`` says whether one is open, and ``list(pool)`` are all of them.

    One thread at a time uses a pool. A short call keeps the interpreter lock. A longer one, from 10 or 20 us on,
    releases it while it computes, so other threads go on, and one that calls this same pool meets a RuntimeError.

    A pool can be pickled and copied; the states go with it, and the streams keep their ids.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> pool = fastrnn.StreamPool(fastrnn.LSTMParams(weights))
    >>> a, b, c = pool.open(), pool.open(), pool.open()
    >>> y = pool.step([c, a], np.full((2, 3), 0.1))
    >>> print(y.round(4))
    [[0.0952 0.0952]
     [0.0952 0.0952]]
    >>> pool.run([b, a], np.full((2, 5, 3), 0.1), lengths=[5, 1]).shape
    (2, 5, 2)
    >>> d = pool.open(pool.state(a))
    >>> pool.close([a, c])
    >>> len(pool), a in pool, d in pool
    (2, False, True)
    """

    __slots__ = ()

    def __init__(self, params: AnyParams, capacity: int = 64) -> None:
        pass  # here for its signature: the base class is made whole by its __cinit__

    @property
    def params(self) -> AnyParams:
        """The weights."""
        params: AnyParams = self._params
        return params

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.params!r}, capacity={self.capacity})"

    def __reduce__(self) -> tuple[Any, ...]:
        ids = self._ids()
        return _rebuild, (type(self), self.params, self.capacity, ids, self._latest(), self.state(ids))


def _rebuild(
    kind: type[StreamPool], params: AnyParams, capacity: int, ids: NDArray[np.int64], latest: int, state: Any
) -> StreamPool:
    pool = kind(params, capacity)
    pool._restore(ids, latest, state)
    return pool
