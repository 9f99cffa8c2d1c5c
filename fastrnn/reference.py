"""What fastrnn computes, in plain float64 NumPy: one short function a cell.

Three cells (`rnn_cell`, `lstm_cell`, `gru_cell`) are the equations; `rnn`, `lstm` and `gru` loop them over layers,
directions and steps. They take a mapping of weights and check nothing: a page to read, and the oracle of the tests.
Gate order and names are PyTorch's. ``@`` is the matrix product, ``*`` is element by element. Letters: T steps, B batch
rows, I inputs, H hidden units, P projected units, L layers, D directions (1 or 2), G gates (RNN 1, LSTM 4, GRU 3);
Hout is P with a projection, else H. The weights of layer k; those of the direction that runs backwards end in
``_reverse``, and a single cell's names (``weight_ih``, without ``_l0``) mean layer 0:

=========================  ===========  ====================================================
``weight_ih_l{k}``         (G*H, I)     input weights W; I is D*Hout from the second layer on
``weight_hh_l{k}``         (G*H, Hout)  recurrent weights U
``bias_ih_l{k}``           (G*H,)       bias b, optional
``bias_hh_l{k}``           (G*H,)       bias d, optional
``weight_hr_l{k}``         (P, H)       LSTM: projection V, optional
``weight_peephole_l{k}``   (3*H,)       LSTM: peepholes p of i, f and o, optional
=========================  ===========  ====================================================

An activation is a name in `ACTIVATIONS`, or (name, alpha, beta) for ``hard_sigmoid`` and ``linear``. `clip` bounds what
goes into the activation of every gate and candidate, bias and peephole included, to [-clip, clip].

References
----------
.. [1] J. L. Elman, "Finding structure in time", Cognitive Science 14, 1990.
.. [2] S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9, 1997.
.. [3] F. A. Gers, J. Schmidhuber and F. Cummins, "Learning to forget: continual prediction with LSTM",
   Neural Computation 12, 2000.
.. [4] F. A. Gers, N. N. Schraudolph and J. Schmidhuber, "Learning precise timing with LSTM recurrent networks",
   Journal of Machine Learning Research 3, 2002.
.. [5] H. Sak, A. Senior and F. Beaufays, "Long short-term memory recurrent neural network architectures for large
   scale acoustic modeling", Interspeech 2014.
.. [6] K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
   EMNLP 2014.
.. [7] The operators RNN, GRU and LSTM of the ONNX specification (`clip`, `input_forget`, the activations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ACTIVATIONS", "gru", "gru_cell", "lstm", "lstm_cell", "rnn", "rnn_cell"]

Array: TypeAlias = NDArray[np.float64]
Activation: TypeAlias = "str | tuple[str, float, float]"
Weights: TypeAlias = Mapping[str, ArrayLike]


def _float64(a: ArrayLike) -> Array:
    return np.asarray(a, np.float64)


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that exp cannot overflow and small results keep all their digits."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0.0, e, 1.0) / (1.0 + e)


def _hard_sigmoid(x: Array, alpha: float = 1 / 6, beta: float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _linear(x: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
    return alpha * x + beta


#: What each activation's name means.
ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "linear": _linear,
}


def _activate(activation: Activation, x: Array, clip: float | None = None) -> Array:
    """The activation of x, or of x bounded to [-clip, clip]."""
    name, *constants = (activation,) if isinstance(activation, str) else activation
    return ACTIVATIONS[name](x if clip is None else np.clip(x, -clip, clip), *constants)


def _affine(x: Array, weights: Weights, name: str) -> Array:
    """W x + b for every row x of a batch, of weight_{name} and, if there is one, bias_{name}."""
    y: Array = x @ _float64(weights["weight_" + name]).T
    bias = weights.get("bias_" + name)
    return y if bias is None else y + _float64(bias)


def _split(x: Array, n: int) -> list[Array]:
    """The n equal parts of the last axis."""
    size = x.shape[-1] // n
    return [x[..., k * size : (k + 1) * size] for k in range(n)]


def rnn_cell(
    x: ArrayLike, h: ArrayLike, weights: Weights, *, activation: Activation = "tanh", clip: float | None = None
) -> Array:
    """One step of Elman's network [1]_: h' = tanh(W x + b + U h + d).

    Parameters
    ----------
    x, h : (B, I) input and (B, H) state
    weights : W (H, I), U (H, H), b (H,), d (H,) under a single cell's names
    activation, clip : see the top of the module

    Returns
    -------
    h : (B, H) float64, the new state

    Examples
    --------
    >>> rnn_cell([[2.0]], [[3.0]], {"weight_ih": [[10.0]], "weight_hh": [[-4.0]], "bias_ih": [0.5]}, activation="relu")
    array([[8.5]])
    """
    a = _affine(_float64(x), weights, "ih") + _affine(_float64(h), weights, "hh")
    return _activate(activation, a, clip)


def lstm_cell(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weights: Weights,
    *,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    output_activation: Activation | None = None,
    input_forget: bool = False,
    clip: float | None = None,
) -> tuple[Array, Array]:
    """One step of long short-term memory [2]_ with a forget gate [3]_, optional peepholes [4]_ and projection [5]_.

    The cell state c is the memory. Input gate i decides what enters it, forget gate f what stays, output gate o what is
    shown of it as h::

        i, f, o = sigmoid(W x + b + U h + d)      each with its own rows; a peephole adds p * c (o's: p * c')
        g       = tanh   (W x + b + U h + d)      the candidate, with its own rows too
        c'      = f * c + i * g
        h'      = o * tanh(c')                    with a projection: h' = V (o * tanh(c'))

    Parameters
    ----------
    x, h, c : (B, I) input, (B, Hout) and (B, H) state
    weights : W (4*H, I), U (4*H, Hout), b (4*H,), d (4*H,), all in the order i f g o; V (P, H); p (3*H,) of i f o
    activation : of g, and of c' where no `output_activation` is given
    recurrent_activation : of i, f and o
    input_forget : the coupled gate f = 1 - i; f's own rows and peephole do nothing
    clip : see the top of the module; c' is not clipped

    Returns
    -------
    h, c : (B, Hout) and (B, H) float64, the new state

    Examples
    --------
    Where all weights are zero, every gate is one half and the candidate is zero:

    >>> zeros = {"weight_ih": np.zeros((4, 1)), "weight_hh": np.zeros((4, 1))}
    >>> lstm_cell([[7.0]], [[0.0]], [[4.0]], zeros, output_activation="linear")
    (array([[1.]]), array([[2.]]))
    """
    gate = partial(_activate, recurrent_activation, clip=clip)
    c_old = _float64(c)
    a = _affine(_float64(x), weights, "ih") + _affine(_float64(h), weights, "hh")
    a_i, a_f, a_g, a_o = _split(a, 4)
    peephole = weights.get("weight_peephole")
    if peephole is not None:
        p_i, p_f, p_o = _split(_float64(peephole), 3)
        a_i, a_f = a_i + p_i * c_old, a_f + p_f * c_old

    i = gate(a_i)
    f = 1.0 - i if input_forget else gate(a_f)
    g = _activate(activation, a_g, clip)
    c_new = f * c_old + i * g
    o = gate(a_o if peephole is None else a_o + p_o * c_new)
    h_new = o * _activate(activation if output_activation is None else output_activation, c_new)
    return (_affine(h_new, weights, "hr") if "weight_hr" in weights else h_new), c_new


def gru_cell(
    x: ArrayLike,
    h: ArrayLike,
    weights: Weights,
    *,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    reset_after: bool = True,
    clip: float | None = None,
) -> Array:
    """One step of the gated recurrent unit [6]_.

    Reset gate r decides what the candidate n sees of the past, update gate z how much of the past stays::

        r, z = sigmoid(W x + b + U h + d)         each with its own rows
        n    = tanh(W x + b + r * (U h + d))      reset after the product: PyTorch, cuDNN
        n    = tanh(W x + b + U (r * h) + d)      reset before it: the paper, ONNX's default
        h'   = (1 - z) * n + z * h

    Parameters
    ----------
    x, h : (B, I) input and (B, H) state
    weights : W (3*H, I), U (3*H, H), b (3*H,), d (3*H,), all in the order r z n
    activation, recurrent_activation : of n; of r and z
    reset_after : which of the two forms of n
    clip : see the top of the module

    Returns
    -------
    h : (B, H) float64, the new state

    Examples
    --------
    Where all weights are zero, the update gate is one half and the candidate is zero:

    >>> gru_cell([[7.0]], [[4.0]], {"weight_ih": np.zeros((3, 1)), "weight_hh": np.zeros((3, 1))})
    array([[2.]])
    """
    gate = partial(_activate, recurrent_activation, clip=clip)
    h_old = _float64(h)
    x_r, x_z, x_n = _split(_affine(_float64(x), weights, "ih"), 3)
    u_r, u_z, u_n = _split(_affine(h_old, weights, "hh"), 3)

    r = gate(x_r + u_r)
    z = gate(x_z + u_z)
    u_n = r * u_n if reset_after else _split(_affine(r * h_old, weights, "hh"), 3)[2]
    n = _activate(activation, x_n + u_n, clip)
    return (1.0 - z) * n + z * h_old


def _layers(weights: Weights) -> Iterator[list[tuple[bool, dict[str, Array]]]]:
    """The directions of each layer: whether one runs backwards, and its arrays under a single cell's names."""
    arrays = {name if "_l" in name else name + "_l0": _float64(a) for name, a in weights.items()}
    for k in count():
        layer = [
            (backwards, {name.removesuffix(suffix): a for name, a in arrays.items() if name.endswith(suffix)})
            for backwards, suffix in ((False, f"_l{k}"), (True, f"_l{k}_reverse"))
            if "weight_ih" + suffix in arrays
        ]
        if not layer:
            return
        yield layer


def _run(
    cell: Callable[..., Array | tuple[Array, ...]],
    gates: int,
    x: ArrayLike,
    weights: Weights,
    states: list[ArrayLike | None],
    lengths: ArrayLike | None,
    batch_first: bool,
    return_sequences: bool,
) -> tuple[Array, tuple[Array, ...]]:
    """Loop ``cell(x_t, *state, weights) -> state`` over layers, directions and steps.

    `states` are the initial h (L*D, B, Hout) and, for an LSTM, c (L*D, B, H); None is zero.
    """
    y = _float64(x)
    initial = [None if s is None else _float64(s) for s in states]
    unbatched = y.ndim == 2
    if unbatched:
        y, initial = y[:, np.newaxis], [None if s is None else s[:, np.newaxis] for s in initial]
    elif batch_first:
        y = y.swapaxes(0, 1)
    T, B = y.shape[:2]
    ends = None if lengths is None else np.broadcast_to(np.asarray(lengths), B)

    finals: list[list[Array]] = []  # of every layer and direction
    for layer in _layers(weights):
        outputs = []
        for backwards, arrays in layer:
            H = len(arrays["weight_ih"]) // gates
            H_out = len(arrays["weight_hr"]) if "weight_hr" in arrays else H
            sizes = (H_out, H)  # of h, and of an LSTM's c
            state = [
                np.zeros((B, size)) if s is None else s[len(finals)].copy()
                for s, size in zip(initial, sizes, strict=False)
            ]
            out = np.zeros((T, B, H_out))
            for t in reversed(range(T)) if backwards else range(T):
                rows = slice(None) if ends is None else ends > t  # that have a step t; the others keep their state
                result = cell(y[t, rows], *(s[rows] for s in state), arrays)
                for s, new in zip(state, result if isinstance(result, tuple) else (result,), strict=True):
                    s[rows] = new
                out[t, rows] = state[0][rows]
            outputs.append(out)
            finals.append(state)
        y = np.concatenate(outputs, axis=-1)

    if not return_sequences:
        y = np.concatenate([state[0] for state in finals[-len(layer) :]], axis=-1)
    elif batch_first and not unbatched:
        y = y.swapaxes(0, 1)
    final = tuple(np.stack(s) for s in zip(*finals, strict=True))
    return (y.squeeze(-2), tuple(s.squeeze(1) for s in final)) if unbatched else (y, final)


def rnn(
    x: ArrayLike,
    weights: Weights,
    state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_sequences: bool = True,
    activation: Activation = "tanh",
    clip: float | None = None,
) -> tuple[Array, Array]:
    """Run an Elman network over whole sequences. See `lstm` for the parameters, `rnn_cell` for the options.

    Returns
    -------
    y, h_n : as `lstm`'s

    Examples
    --------
    A network that adds up its input:

    >>> y, h_n = rnn([[1.0], [2.0], [3.0]], {"weight_ih": [[1.0]], "weight_hh": [[1.0]]}, activation="linear")
    >>> y.ravel(), h_n
    (array([1., 3., 6.]), array([[6.]]))
    """
    cell = partial(rnn_cell, activation=activation, clip=clip)
    y, (h_n,) = _run(cell, 1, x, weights, [state], lengths, batch_first, return_sequences)
    return y, h_n


def lstm(
    x: ArrayLike,
    weights: Weights,
    state: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_sequences: bool = True,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    output_activation: Activation | None = None,
    input_forget: bool = False,
    clip: float | None = None,
) -> tuple[Array, tuple[Array, Array]]:
    """Run an LSTM over whole sequences.

    Parameters
    ----------
    x : (T, B, I), or (B, T, I) with `batch_first`, or (T, I) unbatched
    weights : mapping from names to arrays, see the top of the module
    state : h (L*D, B, Hout) and c (L*D, B, H), in the order layer 0, layer 0 reverse, layer 1 ...; zero by default
    lengths : (B,) steps of each row, from 0 to T; a reverse direction starts at each row's own end
    return_sequences : if False, y is only the last layer's final h, its directions side by side
    activation, recurrent_activation, output_activation, input_forget, clip : see `lstm_cell`

    Returns
    -------
    y : (T, B, D*Hout), laid out as x and in its order, 0 past a row's length; or (B, D*Hout)
    h_n, c_n : the final state, shaped as `state`; for unbatched x all results lack the axis B

    Examples
    --------
    >>> weights = {"weight_ih_l0": np.zeros((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> y, (h_n, c_n) = lstm(np.ones((5, 3)), weights, (np.zeros((1, 2)), [[32.0, 64.0]]), output_activation="linear")
    >>> y[:, 0], c_n
    (array([8. , 4. , 2. , 1. , 0.5]), array([[1., 2.]]))
    """
    cell = partial(
        lstm_cell,
        activation=activation,
        recurrent_activation=recurrent_activation,
        output_activation=output_activation,
        input_forget=input_forget,
        clip=clip,
    )
    states: list[ArrayLike | None] = [None, None] if state is None else [*state]
    y, (h_n, c_n) = _run(cell, 4, x, weights, states, lengths, batch_first, return_sequences)
    return y, (h_n, c_n)


def gru(
    x: ArrayLike,
    weights: Weights,
    state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    batch_first: bool = False,
    return_sequences: bool = True,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    reset_after: bool = True,
    clip: float | None = None,
) -> tuple[Array, Array]:
    """Run a GRU over whole sequences. See `lstm` for the parameters, `gru_cell` for the options.

    Returns
    -------
    y, h_n : as `lstm`'s

    Examples
    --------
    >>> y, h_n = gru(np.ones((4, 3)), {"weight_ih": np.zeros((6, 3)), "weight_hh": np.zeros((6, 2))}, [[16.0, 32.0]])
    >>> y[:, 0], h_n
    (array([8., 4., 2., 1.]), array([[1., 2.]]))
    """
    cell = partial(
        gru_cell,
        activation=activation,
        recurrent_activation=recurrent_activation,
        reset_after=reset_after,
        clip=clip,
    )
    y, (h_n,) = _run(cell, 3, x, weights, [state], lengths, batch_first, return_sequences)
    return y, h_n
