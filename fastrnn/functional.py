"""The three layers as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from typing import Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check, _core
from fastrnn._arrays import SupportsArray
from fastrnn.params import AnyParams, GRUParams, LSTMParams, Params, RNNParams

__all__ = ["gru", "lstm", "rnn", "run"]

Weights = Mapping[str, SupportsArray]
F = TypeVar("F", np.float32, np.float64)
Tokens = NDArray[np.signedinteger[Any]]  # for params with an embedding
Lengths = NDArray[np.integer[Any]] | Sequence[int]
Resets = NDArray[np.bool_]
Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(described: Function) -> Function:
    """The compiled function of the same name, with the documentation and the types that are written here."""
    return cast("Function", update_wrapper(getattr(_core, described.__name__), described))


@overload
def rnn(
    x: NDArray[F],
    params: RNNParams | Weights,
    state: NDArray[F] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[F] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[F], NDArray[F]]: ...


@overload
def rnn(
    x: Tokens,
    params: RNNParams | Weights,
    state: NDArray[Any] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]: ...


@_compiled
def rnn(
    x: Any,
    params: RNNParams | Weights,
    state: Any = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Run a stack of Elman layers over a batch of sequences.

    ``h' = act(W x + b + U h + d)``, with ``act`` one of the activations of `RNNParams`.

    Parameters
    ----------
    x : (T, B, I) ndarray, (B, T, I) with `batch_first`, or (T, I) without a batch
        Inputs, of the params' dtype. Any strides whose last axis is dense are read in place, without a copy. Where the
        params have an embedding, also tokens: (T, B), (B, T) or (T,) of int32 or int64, with any strides.
    params : RNNParams or mapping
        Weights. A plain mapping of arrays in PyTorch's names is packed for this one call, which costs about as much as
        reading and writing all weights, so keep an `RNNParams` for weights that are used again.
    state : (L*D, B, H) ndarray, or (L*D, H) without a batch, optional
        Initial hidden states, layer by layer, forward before reverse; zeros if not given.
    lengths : (B,) integers, optional
        Steps of each row, from 0 to T, in any order. The reverse direction starts at each row's own end.
    resets : bools, laid out as the steps of `x`: (T, B), (B, T) or (T,), optional
        Where it is true, the row's state, of all layers, is zero before that step. The reverse direction forgets at the
        same steps, each before it takes the step. Past a row's length it is not read.
    batch_first : bool, optional
        Whether `x` and `y` are (B, T, ...); as `params.batch_first` says if not given. States are not affected.
    return_sequences : bool
        If False, `y` is the last step that each direction took of each row, (B, D*H), and no memory grows with T (but
        in a bidirectional stack, where each layer needs all of the one below).
    out : ndarray, optional
        Where `y` is written: of its shape and dtype, last axis dense, sharing no memory with the inputs.
    threads : int, optional
        Threads at most; `get_num_threads` if not given. The results do not depend on it.

    Returns
    -------
    y : (T, B, D*H) ndarray, laid out as `x` is
        Outputs of the last layer, forward beside reverse; 0 past a row's length.
    h_n : (L*D, B, H) ndarray
        Final hidden states; of a row of length 0, its initial ones.

    Raises
    ------
    TypeError
        An argument of a wrong type or dtype.
    ValueError
        An argument of a wrong shape, layout or value.
    MemoryError
        Results or scratch can't be had.

    Notes
    -----
    J. L. Elman, "Finding structure in time", Cognitive Science 14, 1990.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.zeros((2, 2))}
    >>> y, h_n = fastrnn.rnn(np.full((4, 1, 3), 0.1), fastrnn.RNNParams(weights))
    >>> y.shape, h_n.shape
    ((4, 1, 2), (1, 1, 2))
    >>> print(h_n.round(4))
    [[[0.2913 0.2913]]]
    """
    raise NotImplementedError  # _core.pyx does it


@overload
def gru(
    x: NDArray[F],
    params: GRUParams | Weights,
    state: NDArray[F] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[F] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[F], NDArray[F]]: ...


@overload
def gru(
    x: Tokens,
    params: GRUParams | Weights,
    state: NDArray[Any] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]: ...


@_compiled
def gru(
    x: Any,
    params: GRUParams | Weights,
    state: Any = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Run a stack of gated recurrent units over a batch of sequences.

    ``r = s(W_r x + b_r + U_r h + d_r)``, ``z`` alike, ``h' = (1 - z) * n + z * h``, with
    ``n = act(W_n x + b_n + r * (U_n h + d_n))`` (reset after, PyTorch's) or
    ``n = act(W_n x + b_n + U_n (r * h) + d_n)`` (reset before, the original).

    Parameters
    ----------
    x : (T, B, I) ndarray, (B, T, I) with `batch_first`, or (T, I) without a batch
        Inputs, of the params' dtype. Any strides whose last axis is dense are read in place, without a copy. Where the
        params have an embedding, also tokens: (T, B), (B, T) or (T,) of int32 or int64, with any strides.
    params : GRUParams or mapping
        Weights. A plain mapping of arrays in PyTorch's names is packed for this one call, which costs about as much as
        reading and writing all weights, so keep a `GRUParams` for weights that are used again.
    state : (L*D, B, H) ndarray, or (L*D, H) without a batch, optional
        Initial hidden states, layer by layer, forward before reverse; zeros if not given.
    lengths : (B,) integers, optional
        Steps of each row, from 0 to T, in any order. The reverse direction starts at each row's own end.
    resets : bools, laid out as the steps of `x`: (T, B), (B, T) or (T,), optional
        Where it is true, the row's state, of all layers, is zero before that step. The reverse direction forgets at the
        same steps, each before it takes the step. Past a row's length it is not read.
    batch_first : bool, optional
        Whether `x` and `y` are (B, T, ...); as `params.batch_first` says if not given. States are not affected.
    return_sequences : bool
        If False, `y` is the last step that each direction took of each row, (B, D*H), and no memory grows with T (but
        in a bidirectional stack, where each layer needs all of the one below).
    out : ndarray, optional
        Where `y` is written: of its shape and dtype, last axis dense, sharing no memory with the inputs.
    threads : int, optional
        Threads at most; `get_num_threads` if not given. The results do not depend on it.

    Returns
    -------
    y : (T, B, D*H) ndarray, laid out as `x` is
        Outputs of the last layer, forward beside reverse; 0 past a row's length.
    h_n : (L*D, B, H) ndarray
        Final hidden states; of a row of length 0, its initial ones.

    Raises
    ------
    TypeError
        An argument of a wrong type or dtype.
    ValueError
        An argument of a wrong shape, layout or value.
    MemoryError
        Results or scratch can't be had.

    Notes
    -----
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    2014 (reset before).

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((6, 3)), "weight_hh_l0": np.zeros((6, 2))}
    >>> y, h_n = fastrnn.gru(np.full((4, 1, 3), 0.1), fastrnn.GRUParams(weights))
    >>> print(h_n.round(4))
    [[[0.2596 0.2596]]]
    """
    raise NotImplementedError  # _core.pyx does it


@overload
def lstm(
    x: NDArray[F],
    params: LSTMParams | Weights,
    state: tuple[NDArray[F], NDArray[F]] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[F] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[F], tuple[NDArray[F], NDArray[F]]]: ...


@overload
def lstm(
    x: Tokens,
    params: LSTMParams | Weights,
    state: tuple[NDArray[Any], NDArray[Any]] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[Any], tuple[NDArray[Any], NDArray[Any]]]: ...


@_compiled
def lstm(
    x: Any,
    params: LSTMParams | Weights,
    state: Any = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """Run a stack of long short-term memory layers over a batch of sequences.

    ``i = s(W_i x + b_i + U_i h + d_i)``, ``f`` and ``o`` alike, ``g = act(W_g x + b_g + U_g h + d_g)``,
    ``c' = f * c + i * g``, ``h' = o * act(c')``; with a projection ``h' = V (o * act(c'))``.

    Parameters
    ----------
    x : (T, B, I) ndarray, (B, T, I) with `batch_first`, or (T, I) without a batch
        Inputs, of the params' dtype. Any strides whose last axis is dense are read in place, without a copy. Where the
        params have an embedding, also tokens: (T, B), (B, T) or (T,) of int32 or int64, with any strides.
    params : LSTMParams or mapping
        Weights. A plain mapping of arrays in PyTorch's names is packed for this one call, which costs about as much as
        reading and writing all weights, so keep an `LSTMParams` for weights that are used again.
    state : tuple of (L*D, B, P or H) and (L*D, B, H) ndarrays, (L*D, ...) without a batch, optional
        Initial hidden and cell states, (h, c), layer by layer, forward before reverse; zeros if not given.
    lengths : (B,) integers, optional
        Steps of each row, from 0 to T, in any order. The reverse direction starts at each row's own end.
    resets : bools, laid out as the steps of `x`: (T, B), (B, T) or (T,), optional
        Where it is true, the row's state, of all layers, is zero before that step. The reverse direction forgets at the
        same steps, each before it takes the step. Past a row's length it is not read.
    batch_first : bool, optional
        Whether `x` and `y` are (B, T, ...); as `params.batch_first` says if not given. States are not affected.
    return_sequences : bool
        If False, `y` is the last step that each direction took of each row, (B, D*H) or (B, D*P), and no memory grows
        with T (but in a bidirectional stack, where each layer needs all of the one below).
    out : ndarray, optional
        Where `y` is written: of its shape and dtype, last axis dense, sharing no memory with the inputs.
    threads : int, optional
        Threads at most; `get_num_threads` if not given. The results do not depend on it.

    Returns
    -------
    y : (T, B, D*H) ndarray, or (T, B, D*P) with a projection, laid out as `x` is
        Outputs of the last layer, forward beside reverse; 0 past a row's length.
    (h_n, c_n) : tuple of (L*D, B, P or H) and (L*D, B, H) ndarrays
        Final hidden and cell states; of a row of length 0, its initial ones.

    Raises
    ------
    TypeError
        An argument of a wrong type or dtype.
    ValueError
        An argument of a wrong shape, layout or value.
    MemoryError
        Results or scratch can't be had.

    Notes
    -----
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; F. Gers, J. Schmidhuber and F. Cummins, "Learning
    to forget", 2000 (forget gate); H. Sak, A. Senior and F. Beaufays, "Long short-term memory recurrent neural network
    architectures for large scale acoustic modeling", 2014 (projection, peepholes).

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> params = fastrnn.LSTMParams(weights)
    >>> x = np.full((4, 1, 3), 0.1)
    >>> y, (h_n, c_n) = fastrnn.lstm(x, params)
    >>> print(h_n.round(4), c_n.round(4))
    [[[0.1934 0.1934]]] [[[0.3504 0.3504]]]

    The same in two calls, the state carried over, to the same bits:

    >>> head, state = fastrnn.lstm(x[:3], params)
    >>> tail, state = fastrnn.lstm(x[3:], params, state)
    >>> np.array_equal(np.concatenate([head, tail]), y)
    True

    Two sequences one after the other in the same row, the second one from a state of zeros:

    >>> y, state = fastrnn.lstm(np.concatenate([x, x]), params, resets=np.arange(8)[:, None] == 4)
    >>> np.array_equal(y[:4], y[4:])
    True
    """
    raise NotImplementedError  # _core.pyx does it


@overload
def run(
    x: NDArray[F],
    params: RNNParams | GRUParams,
    state: NDArray[F] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[F] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[F], NDArray[F]]: ...


@overload
def run(
    x: NDArray[F],
    params: LSTMParams,
    state: tuple[NDArray[F], NDArray[F]] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[F] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[F], tuple[NDArray[F], NDArray[F]]]: ...


@overload
def run(
    x: Tokens,
    params: RNNParams | GRUParams,
    state: NDArray[Any] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]: ...


@overload
def run(
    x: Tokens,
    params: LSTMParams,
    state: tuple[NDArray[Any], NDArray[Any]] | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    batch_first: bool | None = None,
    return_sequences: bool = True,
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> tuple[NDArray[Any], tuple[NDArray[Any], NDArray[Any]]]: ...


def run(x: Any, params: AnyParams, state: Any = None, **options: Any) -> Any:
    """Run the layers of any params: `rnn`, `gru` or `lstm`, by the class of the params.

    Parameters
    ----------
    x : (T, B, I) ndarray, (B, T, I) with `batch_first`, or (T, I) without a batch
        Inputs, or tokens without the axis I.
    params : RNNParams, LSTMParams or GRUParams
        Weights; no mapping of arrays, which would not tell the cell.
    state : ndarray, or for LSTMParams a tuple of two, optional
        Initial states, as that function takes them.
    **options
        lengths, resets, batch_first, return_sequences, out, threads: those of `rnn`.

    Returns
    -------
    y : ndarray
        Outputs of the last layer.
    h_n, or for LSTMParams (h_n, c_n) : ndarray or tuple of ndarrays
        Final states.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As in `rnn`.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> y, (h_n, c_n) = fastrnn.run(np.full((4, 1, 3), 0.1), fastrnn.LSTMParams(weights))
    >>> y.shape
    (4, 1, 2)
    """
    if not isinstance(params, Params):
        cure = "; lstm, gru and rnn take a mapping of weights" if isinstance(params, Mapping) else ""
        raise TypeError(f"params: expected {_check.params_names()}, got {type(params).__name__}{cure}")
    return getattr(_core, params._cell.name)(x, params, state, **options)
