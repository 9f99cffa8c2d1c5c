"""The cells: one step of each, and the gradients of one step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .activations import Activation, Array, activate, derivative

Weights: TypeAlias = Mapping[str, ArrayLike]


def _float64(a: ArrayLike) -> Array:
    return np.asarray(a, np.float64)


def _affine(x: Array, weights: Weights, name: str) -> Array:
    """W x + b for every row x of a batch, of weight_{name} and, if there is one, bias_{name}."""
    y: Array = x @ _float64(weights["weight_" + name]).T
    bias = weights.get("bias_" + name)
    return y if bias is None else y + _float64(bias)


def _affine_backward(dy: Array, x: Array, weights: Weights, name: str) -> tuple[Array, dict[str, Array]]:
    """The gradients of x and of the weights, given that of y = W x + b. Those of the weights are summed over rows."""
    gradients = {"weight_" + name: dy.T @ x}
    if "bias_" + name in weights:
        gradients["bias_" + name] = dy.sum(axis=0)
    return dy @ _float64(weights["weight_" + name]), gradients


def _split(x: Array, n: int) -> list[Array]:
    """The n equal parts of the last axis."""
    size = x.shape[-1] // n
    return [x[..., k * size : (k + 1) * size] for k in range(n)]


def _join(*parts: Array) -> Array:
    """Parts of the last axis, side by side."""
    return np.concatenate(parts, axis=-1)


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
    return activate(activation, a, clip)


def rnn_cell_backward(
    x: ArrayLike,
    h: ArrayLike,
    weights: Weights,
    dh_new: ArrayLike,
    *,
    activation: Activation = "tanh",
    clip: float | None = None,
) -> tuple[Array, Array, dict[str, Array]]:
    """Gradients of one step of Elman's network, given that of its new state [8]_.

    With a = W x + b + U h + d, all that goes into tanh::

        da = dh' * tanh'(a)         tanh'(a) = 1 - tanh(a)^2
        dx = W^T da                 dW = da x^T      db = da
        dh = U^T da                 dU = da h^T      dd = da

    Parameters
    ----------
    x, h, weights, activation, clip : what `rnn_cell` was given
    dh_new : (B, H) gradient of the new state

    Returns
    -------
    dx, dh : (B, I) and (B, H) float64, gradients of input and state
    dweights : gradients of the weights, summed over the rows, by name

    Examples
    --------
    >>> weights = {"weight_ih": [[10.0]], "weight_hh": [[-4.0]], "bias_ih": [0.5]}
    >>> dx, dh, dweights = rnn_cell_backward([[2.0]], [[3.0]], weights, [[1.0]], activation="relu")
    >>> dx, dh, dweights["weight_ih"], dweights["weight_hh"], dweights["bias_ih"]
    (array([[10.]]), array([[-4.]]), array([[2.]]), array([[3.]]), array([1.]))
    """
    x, h = _float64(x), _float64(h)
    a = _affine(x, weights, "ih") + _affine(h, weights, "hh")
    da = _float64(dh_new) * derivative(activation, a, clip)
    dx, dweights = _affine_backward(da, x, weights, "ih")
    dh, recurrent = _affine_backward(da, h, weights, "hh")
    return dx, dh, dweights | recurrent


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
    c_old = _float64(c)
    a = _affine(_float64(x), weights, "ih") + _affine(_float64(h), weights, "hh")
    _, (_, _, _, o), c_new = _lstm_gates(a, c_old, weights, activation, recurrent_activation, input_forget, clip)
    h_new = o * activate(activation if output_activation is None else output_activation, c_new)
    return (_affine(h_new, weights, "hr") if "weight_hr" in weights else h_new), c_new


def _lstm_gates(
    a: Array,
    c_old: Array,
    weights: Weights,
    activation: Activation,
    recurrent_activation: Activation,
    input_forget: bool,
    clip: float | None,
) -> tuple[list[Array], list[Array], Array]:
    """What goes into the gates and the candidate (i f g o), what comes out of each, and c'.

    `a` is W x + b + U h + d; what the gates are given has the peepholes too.
    """
    gate = partial(activate, recurrent_activation, clip=clip)
    a_i, a_f, a_g, a_o = _split(a, 4)
    peephole = weights.get("weight_peephole")
    if peephole is not None:
        p_i, p_f, p_o = _split(_float64(peephole), 3)
        a_i, a_f = a_i + p_i * c_old, a_f + p_f * c_old

    i = gate(a_i)
    f = 1.0 - i if input_forget else gate(a_f)
    g = activate(activation, a_g, clip)
    c_new = f * c_old + i * g
    if peephole is not None:
        a_o = a_o + p_o * c_new
    return [a_i, a_f, a_g, a_o], [i, f, g, gate(a_o)], c_new


def lstm_cell_backward(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weights: Weights,
    dh_new: ArrayLike,
    dc_new: ArrayLike,
    *,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    output_activation: Activation | None = None,
    input_forget: bool = False,
    clip: float | None = None,
) -> tuple[Array, Array, Array, dict[str, Array]]:
    """Gradients of one step of an LSTM, given those of its new state: the whole gradient, as in [9]_.

    a_i, a_f, a_g and a_o are all that goes into the gates and the candidate, peepholes included. From the output back::

        dm   = dh'                      m = o * tanh(c'); with a projection dm = V^T dh' and dV = dh' m^T
        da_o = dm * tanh(c') * sigmoid'(a_o)
        dc'  = dc' + dm * o * tanh'(c') [+ p_o * da_o]
        da_i = dc' * g * sigmoid'(a_i)                  with f = 1 - i: dc' * (g - c) * sigmoid'(a_i)
        da_f = dc' * c * sigmoid'(a_f)                  with f = 1 - i: 0
        da_g = dc' * i * tanh'(a_g)
        dc   = dc' * f [+ p_i * da_i + p_f * da_f]
        dx   = W^T da       dW = da x^T      db = da    da has da_i, da_f, da_g and da_o below each other
        dh   = U^T da       dU = da h^T      dd = da    dp_i = da_i * c, dp_f = da_f * c, dp_o = da_o * c'

    Parameters
    ----------
    x, h, c, weights, activation, recurrent_activation, output_activation, input_forget, clip
        what `lstm_cell` was given
    dh_new, dc_new : (B, Hout) and (B, H) gradients of the new state

    Returns
    -------
    dx, dh, dc : (B, I), (B, Hout) and (B, H) float64, gradients of input and state
    dweights : gradients of the weights, summed over the rows, by name

    Examples
    --------
    Where all weights are zero, half of the memory stays, and half of it is shown:

    >>> zeros = {"weight_ih": np.zeros((4, 1)), "weight_hh": np.zeros((4, 1))}
    >>> step = ([[7.0]], [[0.0]], [[4.0]], zeros)
    >>> dx, dh, dc, dweights = lstm_cell_backward(*step, [[1.0]], [[0.0]], output_activation="linear")
    >>> dc, dweights["weight_ih"].T
    (array([[0.25]]), array([[0.  , 3.5 , 1.75, 3.5 ]]))
    """
    x, h, c = _float64(x), _float64(h), _float64(c)
    dm, dc = _float64(dh_new), _float64(dc_new)
    output = activation if output_activation is None else output_activation
    slope = partial(derivative, recurrent_activation, clip=clip)
    a = _affine(x, weights, "ih") + _affine(h, weights, "hh")
    (a_i, a_f, a_g, a_o), (i, f, g, o), c_new = _lstm_gates(
        a, c, weights, activation, recurrent_activation, input_forget, clip
    )
    p_i, p_f, p_o = _split(_float64(weights.get("weight_peephole", np.zeros(3 * c.shape[-1]))), 3)

    dweights: dict[str, Array] = {}
    if "weight_hr" in weights:
        dm, dweights = _affine_backward(dm, o * activate(output, c_new), weights, "hr")
    da_o = dm * activate(output, c_new) * slope(a_o)
    dc = dc + dm * o * derivative(output, c_new) + p_o * da_o
    da_i = dc * (g - c if input_forget else g) * slope(a_i)
    da_f = np.zeros_like(dc) if input_forget else dc * c * slope(a_f)
    da_g = dc * i * derivative(activation, a_g, clip)
    dc = dc * f + p_i * da_i + p_f * da_f

    da = _join(da_i, da_f, da_g, da_o)
    dx, inputs = _affine_backward(da, x, weights, "ih")
    dh, recurrent = _affine_backward(da, h, weights, "hh")
    if "weight_peephole" in weights:
        dweights["weight_peephole"] = _join(da_i * c, da_f * c, da_o * c_new).sum(axis=0)
    return dx, dh, dc, dweights | inputs | recurrent


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
    h_old = _float64(h)
    _, (_, z, n), _ = _gru_gates(_float64(x), h_old, weights, activation, recurrent_activation, reset_after, clip)
    return (1.0 - z) * n + z * h_old


def _gru_gates(
    x: Array,
    h: Array,
    weights: Weights,
    activation: Activation,
    recurrent_activation: Activation,
    reset_after: bool,
    clip: float | None,
) -> tuple[list[Array], list[Array], Array]:
    """What goes into the gates and the candidate (r z n), what comes out of each, and U_n h + d_n."""
    gate = partial(activate, recurrent_activation, clip=clip)
    x_r, x_z, x_n = _split(_affine(x, weights, "ih"), 3)
    u_r, u_z, u_n = _split(_affine(h, weights, "hh"), 3)

    a_r, a_z = x_r + u_r, x_z + u_z
    r = gate(a_r)
    a_n = x_n + (r * u_n if reset_after else _split(_affine(r * h, weights, "hh"), 3)[2])
    return [a_r, a_z, a_n], [r, gate(a_z), activate(activation, a_n, clip)], u_n


def gru_cell_backward(
    x: ArrayLike,
    h: ArrayLike,
    weights: Weights,
    dh_new: ArrayLike,
    *,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    reset_after: bool = True,
    clip: float | None = None,
) -> tuple[Array, Array, dict[str, Array]]:
    """Gradients of one step of a gated recurrent unit, given that of its new state: the chain rule on [6]_.

    a_r, a_z and a_n are all that goes into the gates and the candidate; U_n and d_n are the rows of n::

        da_z = dh' * (h - n) * sigmoid'(a_z)
        da_n = dh' * (1 - z) * tanh'(a_n)
        dh   = dh' * z                                                  and more from the products below

        reset after, u = U_n h + d_n:                   reset before, s = r * h:
        da_r = da_n * u * sigmoid'(a_r)                 da_r = ds * h * sigmoid'(a_r)
        du   = da_n * r                                 ds   = U_n^T da_n
        dh   = dh + U^T (da_r, da_z, du)                dh   = dh + U^T (da_r, da_z, 0) + ds * r
        dU   = (da_r, da_z, du) h^T                     dU   = (da_r, da_z, 0) h^T + (0, 0, da_n) s^T
        dd   = (da_r, da_z, du)                         dd   = (da_r, da_z, da_n)

        dx   = W^T (da_r, da_z, da_n)    dW = (da_r, da_z, da_n) x^T    db = (da_r, da_z, da_n)

    Parameters
    ----------
    x, h, weights, activation, recurrent_activation, reset_after, clip : what `gru_cell` was given
    dh_new : (B, H) gradient of the new state

    Returns
    -------
    dx, dh : (B, I) and (B, H) float64, gradients of input and state
    dweights : gradients of the weights, summed over the rows, by name

    Examples
    --------
    Where all weights are zero, half of the state stays:

    >>> zeros = {"weight_ih": np.zeros((3, 1)), "weight_hh": np.zeros((3, 1))}
    >>> dx, dh, dweights = gru_cell_backward([[7.0]], [[4.0]], zeros, [[1.0]])
    >>> dh, dweights["weight_ih"].T
    (array([[0.5]]), array([[0. , 7. , 3.5]]))
    """
    x, h, dh = _float64(x), _float64(h), _float64(dh_new)
    slope = partial(derivative, recurrent_activation, clip=clip)
    (a_r, a_z, a_n), (r, z, n), u_n = _gru_gates(x, h, weights, activation, recurrent_activation, reset_after, clip)

    da_z = dh * (h - n) * slope(a_z)
    da_n = dh * (1.0 - z) * derivative(activation, a_n, clip)
    dh = dh * z
    none = np.zeros_like(da_n)
    if reset_after:
        da_r, du = da_n * u_n * slope(a_r), da_n * r
        through_h, recurrent = _affine_backward(_join(da_r, da_z, du), h, weights, "hh")
    else:
        ds, candidate = _affine_backward(_join(none, none, da_n), r * h, weights, "hh")
        da_r = ds * h * slope(a_r)
        through_h, recurrent = _affine_backward(_join(da_r, da_z, none), h, weights, "hh")
        dh = dh + ds * r
        recurrent = {name: gradient + candidate[name] for name, gradient in recurrent.items()}
    dx, dweights = _affine_backward(_join(da_r, da_z, da_n), x, weights, "ih")
    return dx, dh + through_h, dweights | recurrent
