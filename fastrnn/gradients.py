"""Gradients of layers: a call, its results, and the way back through it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, NoReturn, overload

import numpy as np
from numpy.typing import NDArray  # noqa: TC002  typing.get_type_hints needs it

from fastrnn import _check, _core, _keywords
from fastrnn._arrays import EMBEDDING, TRAINED, Array
from fastrnn.functional import F, Lengths, Resets, Tokens
from fastrnn.params import AnyParams, GRUParams, LSTMParams, Params, RNNParams

__all__ = ["Gradients", "Pullback", "vjp"]

_WANTED = ("x", "weights", "state")
_PAIR = ("dstate[0] (dh)", "dstate[1] (dc)")


class Gradients(NamedTuple):
    """What a pullback gives: each part in the names, the shapes and the layout of what the call was given.

    A part that `wrt` left out is None.

    Attributes
    ----------
    x : ndarray
        Of x; None where x was of tokens.
    weights : dict of str to ndarray
        Of each array of the weights, by its name: also of the embedding, which gets the sum of all that each of its
        rows was read for, and zeros where x was of numbers.
    state : ndarray or tuple of ndarrays
        Of the state before the first step, whether it was given or zeros: h, or (h, c) of an LSTM. Zeros where a row
        resets before its first step.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> params = fastrnn.RNNParams({"weight_ih": np.ones((1, 1)), "weight_hh": np.ones((1, 1))}, activation="linear")
    >>> (y, h_n), pullback = fastrnn.vjp(np.ones((3, 1, 1)), params)
    >>> gradients = pullback(dstate=np.ones((1, 1, 1)))
    >>> gradients.x.ravel(), gradients.weights["weight_ih"]
    (array([1., 1., 1.]), array([[3.]]))
    """

    # Any, since a type checker cannot know which of them `wrt` asked for, and others are None
    x: Any
    weights: Any
    state: Any


class Pullback:
    """The way back through one call, as often as it is wanted. `vjp` makes it.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> params = fastrnn.GRUParams({"weight_ih": np.ones((6, 3)), "weight_hh": np.zeros((6, 2))})
    >>> (y, h_n), pullback = fastrnn.vjp(np.ones((5, 1, 3)), params)
    >>> pullback(dy=2 * y, wrt=["x"]).x.shape
    (5, 1, 3)
    """

    def __init__(self, params: Params, tape: _core.Tape, shapes: dict[str, Any]) -> None:
        self._params, self._tape, self._shapes = params, tape, shapes

    @property
    def nbytes(self) -> int:
        """Bytes that the call has kept for the way back."""
        return self._tape.nbytes

    @_keywords.of_pullbacks
    def __call__(self, dy: Array | None = None, dstate: Any = None, *, wrt: Collection[str] = _WANTED) -> Gradients:
        """Gradients of a number that depends on y and on the final states.

        Parameters
        ----------
        dy : ndarray, optional
            Gradient of the number with respect to `y`, of its shape and dtype; zeros if not given.
        dstate : ndarray or tuple of ndarrays, optional
            Gradients with respect to the final states, as the call returned them; zeros if not given.
        wrt : collection of str
            What gradients are wanted of: "x", "state", "weights", or some of the weights by their names. The others are
            left out, and take no time.

        Returns
        -------
        Gradients
            New arrays.

        Raises
        ------
        TypeError, ValueError
            An argument of a wrong type, dtype, shape or value.
        MemoryError
            Results or scratch can't be had.
        """
        params = self._params
        wanted = _check.wanted(wrt, params._weights)
        given_y = None if dy is None else _check.gradient("dy", dy, self._shapes["y"], params.dtype.num)
        given_states = self._check_states(dstate)
        dx = np.empty(self._shapes["x"], params.dtype) if "x" in wanted and not self._tape.of_tokens else None
        initial = [np.empty(shape, params.dtype) for shape in self._shapes["state"]] if "state" in wanted else []
        some = [*params._weights] if "weights" in wanted else [name for name in params._weights if name in wanted]
        weights = _like(params, some)
        arrays = [tuple(map(part.get, TRAINED)) for part in weights] if any(weights) else None
        dE = np.empty(params._weights[EMBEDDING].shape, params.dtype) if EMBEDDING in some else None
        self._tape.pull_back(params._transposed(), given_y, given_states, dx, initial, arrays, dE)
        state = tuple(initial) if len(initial) > 1 else initial[0] if initial else None
        return Gradients(dx, _named(params, weights, dE) if some else None, state)

    def _check_states(self, dstate: Any) -> list[Array | None]:
        """The gradients of the final states as C reads them, None where one is zeros."""
        shapes = self._shapes["state"]
        if dstate is None:
            return [None] * len(shapes)
        single = len(shapes) == 1
        parts = {"dstate": dstate} if single else dict(zip(_PAIR, _check.pair(dstate, "d"), strict=True))
        return [
            None if part is None else _check.gradient(name, part, shape, self._params.dtype.num)
            for (name, part), shape in zip(parts.items(), shapes, strict=True)
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._params!r}, nbytes={self.nbytes})"

    def __copy__(self) -> Pullback:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Pullback:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a Pullback, which keeps memory of its process; its gradients can be pickled")


def _like(params: Params, wanted: list[str]) -> list[dict[str, Array]]:
    """Arrays for the gradients of some weights: of each layer and direction, by the names of a cell."""
    return [
        {plain: np.empty_like(getattr(part, plain)) for plain, name in names.items() if name in wanted}
        for part, names in zip(params._parts(), params._names.values(), strict=True)
    ]


def _named(params: Params, gradients: list[dict[str, Array]], embedding: Array | None) -> dict[str, Array]:
    """The same by the names of the weights, in their order."""
    parts = zip(params._names.values(), gradients, strict=True)
    named = {names[plain]: array for names, part in parts for plain, array in part.items()}
    if embedding is not None:
        named[EMBEDDING] = embedding
    return {name: named[name] for name in params._weights if name in named}


@overload
def vjp(
    x: NDArray[F],
    params: RNNParams | GRUParams,
    state: NDArray[F] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    checkpoint: int | None = None,
    threads: int | None = None,
) -> tuple[tuple[NDArray[F], NDArray[F]], Pullback]: ...


@overload
def vjp(
    x: NDArray[F],
    params: LSTMParams,
    state: tuple[NDArray[F], NDArray[F]] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    checkpoint: int | None = None,
    threads: int | None = None,
) -> tuple[tuple[NDArray[F], tuple[NDArray[F], NDArray[F]]], Pullback]: ...


@overload
def vjp(
    x: Tokens,
    params: RNNParams | GRUParams,
    state: NDArray[Any] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    checkpoint: int | None = None,
    threads: int | None = None,
) -> tuple[tuple[NDArray[Any], NDArray[Any]], Pullback]: ...


@overload
def vjp(
    x: Tokens,
    params: LSTMParams,
    state: tuple[NDArray[Any], NDArray[Any]] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    checkpoint: int | None = None,
    threads: int | None = None,
) -> tuple[tuple[NDArray[Any], tuple[NDArray[Any], NDArray[Any]]], Pullback]: ...


@_keywords.of_gradients
def vjp(
    x: Any,
    params: AnyParams,
    state: Any = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    checkpoint: int | None = None,
    threads: int | None = None,
) -> Any:
    """Run layers, and keep what the way back needs: backpropagation through time.

    Parameters
    ----------
    x, params, state, lengths, resets, batch_first, return_sequences, threads
        Those of `rnn`, `lstm` and `gru`; params of any of the three classes. No gradient flows over a reset.
    checkpoint : int, optional
        Steps, at least 1, from one state that is kept to the next. The pullback runs the steps between them again,
        which takes about the time of the call, and gives the same bits. Only x and these states are kept, and the
        outputs of layers of two directions that others read. Every step is kept if it is not given.

    Returns
    -------
    (y, state) : tuple
        What that function returns, to the same bits.
    pullback : Pullback
        A function of gradients of `y` and `state`, which gives those of `x`, of the weights and of the initial state.
        It keeps its own copy of what it needs, of `pullback.nbytes`.

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong type, dtype, shape or value.
    MemoryError
        Results, scratch or what is kept can't be had.

    Notes
    -----
    The name is that of JAX: the vector-Jacobian product. P. J. Werbos, "Backpropagation through time: what it does and
    how to do it", Proceedings of the IEEE 78, 1990.

    Examples
    --------
    One step of gradient descent on the mean square of the last output:

    >>> import numpy as np, fastrnn
    >>> rng = np.random.default_rng(0)
    >>> params = fastrnn.LSTMParams({"weight_ih": rng.normal(size=(24, 3)), "weight_hh": rng.normal(size=(24, 6))})
    >>> x = rng.normal(size=(10, 2, 3))
    >>> (y, state), pullback = fastrnn.vjp(x, params, return_sequences=False)
    >>> gradients = pullback(dy=2 * y / y.size)
    >>> moved = {name: w - 0.1 * gradients.weights[name] for name, w in params.weights.items()}
    >>> bool(np.mean(fastrnn.lstm(x, params.with_weights(moved), return_sequences=False)[0] ** 2) < np.mean(y**2))
    True
    """
    if not isinstance(params, Params):
        _check.fail_params(params)
    if params.precision != params.dtype.name:
        got, cure = repr(params.precision), "train float32 params, then params.to(...) makes narrow ones"
        raise TypeError(f"params: expected float32 or float64 weights for gradients, got {got}; {cure}")
    call = (params._cell.name, x, params, state, lengths, resets, batch_first, return_sequences, checkpoint, threads)
    results, tape = _core.run_taped(*call)
    y, final = results
    states = [part.shape for part in (final if isinstance(final, tuple) else (final,))]
    return results, Pullback(params, tape, {"x": np.shape(x), "y": y.shape, "state": states})
