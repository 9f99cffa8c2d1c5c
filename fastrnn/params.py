"""Weights of a stack of recurrent layers: the classes that users make. What they have in common is in `_base.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastrnn import _check
from fastrnn._arrays import Array, Embedding, SupportsArray, Unpickled
from fastrnn._base import Params
from fastrnn._cells import GRU, LSTM, RNN
from fastrnn._types import Activation, Precision, TargetName

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["GRUParams", "LSTMParams", "Params", "RNNParams"]


def _rebuild(kind: Any, weights: dict[str, Array], arguments: dict[str, Any]) -> Any:
    """The function that pickles call: its module and its name are part of their format."""
    return kind(Unpickled(weights), **arguments)


class RNNParams(Params):
    """Weights of Elman layers, for `rnn`.

    Parameters
    ----------
    weights : mapping of str to ndarray
        For each layer k, ``weight_ih_l{k}`` (H, I) and ``weight_hh_l{k}`` (H, H), with or without ``bias_ih_l{k}`` (H,)
        and ``bias_hh_l{k}`` (H,); the same with ``_reverse`` at the end for the reverse direction, beside the forward
        one or alone. Layers above the first read D*H inputs. ``weight_ih`` and so on mean layer 0. Sizes are inferred.
    dtype : "float32", "float64" or None
        Of the arithmetic; None: that of the weights. If given, weights of another dtype are converted.
    target : str or None
        One of `usable_targets`; None: FASTRNN_TARGET, or the best one.
    precision : "float32", "float64", "float16", "int8", "int8_fast" or None
        How the matrices (``weight_ih``, ``weight_hh``, ``weight_hr``) are held and multiplied; None: as dtype says, or
        as the matrices are held: int8 ones have float32 scales (rows,) beside them, ``weight_ih_l{k}_scale``. Narrow
        ones go with float32 arithmetic, and are made of floats by rounding: to float16, or to bytes of a scale a row.
    embedding : (V, I) ndarray, "one-hot" or None
        Lets calls take tokens as x: integers, each of which stands for a row of this array, to the bits that x made of
        these rows has. The array becomes one of the `Params.weights`, as ``embedding``, and may be given there instead.
        Rows of "one-hot" are those of the identity matrix, V = I, which is not stored.
    activation : str or (str, float, float)
        ``"tanh"``, ``"relu"``, ``"sigmoid"``, ``"softsign"``, ``"hard_sigmoid"`` or ``"linear"``. The last two also
        with alpha and beta: ``("hard_sigmoid", 0.2, 0.5)`` is ``max(0, min(1, 0.2 x + 0.5))`` (alone: ``x / 6 + 0.5``),
        ``("linear", 2.0, 1.0)`` is ``2 x + 1`` (alone: ``x``).
    clip : float or None
        Bounds the activation's input to [-clip, clip].
    batch_first : bool
        Layout of `x` and `y` in calls that do not say another one: (B, T, ...) if True, else (T, B, ...).

    Raises
    ------
    TypeError
        An argument of a wrong type or dtype.
    ValueError
        Names that are unknown or missing, shapes that do not fit, an unknown activation or target.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((64, 100)), "weight_hh_l0": np.zeros((64, 64))}
    >>> params = fastrnn.RNNParams(weights, activation="relu")
    >>> params.input_size, params.hidden_size, params.num_layers, params.bidirectional
    (100, 64, 1, False)
    """

    _cell = RNN

    def __init__(
        self,
        weights: Mapping[str, SupportsArray],
        *,
        dtype: DTypeLike | None = None,
        target: TargetName | None = None,
        precision: Precision | None = None,
        embedding: Embedding | None = None,
        activation: Activation = "tanh",
        clip: float | None = None,
        batch_first: bool = False,
    ) -> None:
        options = {"activation": activation, "clip": clip, "batch_first": batch_first}
        super().__init__(weights, dtype, target, precision, options, embedding)


class LSTMParams(Params):
    """Weights of long short-term memory layers, for `lstm`.

    Parameters are those of `RNNParams`, and these.

    Parameters
    ----------
    weights : mapping of str to ndarray
        For each layer k, ``weight_ih_l{k}`` (4*H, I) and ``weight_hh_l{k}`` (4*H, H), biases (4*H,): gates in the order
        i f g o. With a projection ``weight_hr_l{k}`` (P, H), ``weight_hh_l{k}`` is (4*H, P). Peepholes are
        ``weight_peephole_l{k}`` (3*H,), in the order i f o.
    activation : str or (str, float, float)
        Of the candidate g, and of c' on its way out.
    recurrent_activation : str or (str, float, float)
        Of the gates i, f and o.
    output_activation : str, (str, float, float) or None
        Of c' on its way out, where it is not `activation`.
    input_forget : bool
        Couple the gates, f = 1 - i. The rows of f stay in the arrays and are not used.
    clip : float or None
        Bounds the inputs of i, f, g and o to [-clip, clip], peepholes and biases included.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((80, 8), "float32"), "weight_hh_l0": np.ones((80, 20), "float32")}
    >>> fastrnn.LSTMParams(weights, target="scalar")  # doctest: +ELLIPSIS
    LSTMParams(input_size=8, hidden_size=20, num_layers=1, direction='forward', dtype='float32', target='scalar', ...)
    """

    _cell = LSTM

    def __init__(
        self,
        weights: Mapping[str, SupportsArray],
        *,
        dtype: DTypeLike | None = None,
        target: TargetName | None = None,
        precision: Precision | None = None,
        embedding: Embedding | None = None,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        output_activation: Activation | None = None,
        input_forget: bool = False,
        clip: float | None = None,
        batch_first: bool = False,
    ) -> None:
        options = {
            "activation": activation,
            "recurrent_activation": recurrent_activation,
            "output_activation": output_activation,
            "input_forget": input_forget,
            "clip": clip,
            "batch_first": batch_first,
        }
        super().__init__(weights, dtype, target, precision, options, embedding)

    def _unused_gates(self) -> str:
        return "f" if self._options["input_forget"] else ""


class GRUParams(Params):
    """Weights of gated recurrent units, for `gru`.

    Parameters are those of `RNNParams`, and these.

    Parameters
    ----------
    weights : mapping of str to ndarray
        For each layer k, ``weight_ih_l{k}`` (3*H, I) and ``weight_hh_l{k}`` (3*H, H), biases (3*H,): gates in the order
        r z n.
    activation : str or (str, float, float)
        Of the candidate n.
    recurrent_activation : str or (str, float, float)
        Of the gates r and z.
    reset_after : bool
        True: the reset gate acts on the recurrent product, ``r * (U_n h + d_n)`` (PyTorch, cuDNN, Keras by default).
        False: on its input, ``U_n (r * h) + d_n`` (the original; ONNX by default).
    clip : float or None
        Bounds the inputs of r, z and n to [-clip, clip].

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> weights = {"weight_ih_l0": np.ones((60, 8)), "weight_hh_l0": np.ones((60, 20))}
    >>> fastrnn.GRUParams(weights, reset_after=False) == fastrnn.GRUParams(weights)
    False
    """

    _cell = GRU

    def __init__(
        self,
        weights: Mapping[str, SupportsArray],
        *,
        dtype: DTypeLike | None = None,
        target: TargetName | None = None,
        precision: Precision | None = None,
        embedding: Embedding | None = None,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        reset_after: bool = True,
        clip: float | None = None,
        batch_first: bool = False,
    ) -> None:
        options = {
            "activation": activation,
            "recurrent_activation": recurrent_activation,
            "reset_after": reset_after,
            "clip": clip,
            "batch_first": batch_first,
        }
        super().__init__(weights, dtype, target, precision, options, embedding)

    def _separate_biases(self) -> str:
        return "n" if self._options["reset_after"] else ""


AnyParams = RNNParams | LSTMParams | GRUParams
CLASSES: dict[str, type[AnyParams]] = {kind._cell.name: kind for kind in (RNNParams, LSTMParams, GRUParams)}


def to_params(cell: str, params: object) -> Params:
    """Params of the mapping of weights that a call was given in their place; anything else raises."""
    kind = CLASSES[cell]
    if isinstance(params, Mapping):
        return kind(params)
    got = f"{type(params).__name__}{_check.params_cure(params)}"
    raise TypeError(f"params: expected {kind.__name__} or a mapping of weights, got {got}")
