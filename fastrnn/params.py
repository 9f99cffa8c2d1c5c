"""Weights of a stack of recurrent layers, checked once and packed for one target: the classes that users make.

Their names are checked in `_names.py`, options in `_options.py`, arrays in `_arrays.py` and shapes in `_shapes.py`;
`_packing.py` hands them to C, and `_equality.py` compares them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from fastrnn import _check, _core
from fastrnn._arrays import (
    Array,
    Part,
    SupportsArray,
    Unpickled,
    check_alike,
    check_array,
    common_dtype,
    frozen,
    parts_of,
)
from fastrnn._cells import GRU, LSTM, RNN, Cell
from fastrnn._equality import numbers_of, rounded_options
from fastrnn._keywords import fail_params
from fastrnn._names import check_names
from fastrnn._options import check_activation, check_dtype, check_options, check_range
from fastrnn._packing import pack
from fastrnn._shapes import check_shapes, infer_sizes
from fastrnn._types import Activation, TargetName
from fastrnn.config import resolve_target

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["GRUParams", "LSTMParams", "Params", "RNNParams"]

P = TypeVar("P", bound="Params")


class Params(_core.Params):
    """The base class of RNNParams, LSTMParams and GRUParams. No params are made of it alone.

    Params are immutable, and any number of threads may use them. They can be pickled and copied. They are equal where
    they compute the same, on whatever target.

    Notes
    -----
    Arrays that are given are copied twice: as `weights`, and packed for the target. Where params are loaded from a
    pickle they are packed anew, but `weights` are the arrays of the pickle: with buffers of its own (protocol 5) or
    mapped from a file (joblib), they are views of these. If the owner of such a buffer changes it, results stay what
    they were, since they come from the packed copy; `weights`, `==`, `save` and later pickles have the changed numbers.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> params = fastrnn.from_torch({"weight_ih_l0": np.ones((80, 8)), "weight_hh_l0": np.ones((80, 20))})
    >>> isinstance(params, fastrnn.Params), params.hidden_size, params.dtype.name, params.weights["weight_hh_l0"].shape
    (True, 20, 'float64', (80, 20))
    """

    _cell: ClassVar[Cell]

    def __new__(cls: type[P], *arguments: Any, **options: Any) -> P:
        """Look at the arguments before `__init__` does, for the sake of the errors: Python calls both."""
        if not hasattr(cls, "_cell"):
            raise TypeError(f"{cls.__name__}: expected {_check.params_names()}, which are made of weights")
        if "_cell" in vars(cls):  # a subclass may take other arguments
            _check_arguments(cls, arguments, options)
        return super().__new__(cls)

    def __init__(
        self,
        weights: Mapping[str, SupportsArray],
        dtype: DTypeLike | None,
        target: TargetName | None,
        options: dict[str, Any],
    ) -> None:
        self._options = check_options(self._cell, options)
        if not isinstance(weights, Mapping):
            cure = _check.params_cure(weights) or '; {"weight_ih_l0": W, "weight_hh_l0": U} is one'
            raise TypeError(f"weights: expected a mapping of names to arrays, got {type(weights).__name__}{cure}")
        asked, keep = check_dtype(dtype), isinstance(weights, Unpickled)
        weights = dict(weights)
        self._names = check_names(weights, self._cell)
        self._requested_target = target
        self._target = resolve_target(target)
        arrays = {name: check_array(name, value, asked is not None) for name, value in weights.items()}
        self._dtype = asked or common_dtype(arrays)
        check_range(self._options, self._dtype)
        self._sizes = infer_sizes(self._cell, self._names, arrays)
        check_shapes(self._cell, self._names, arrays, self._sizes)
        self._weights = {name: frozen(array, keep) for name, array in arrays.items()}  # memory is taken for what fits
        self._packed = pack(self._cell, self._sizes, self._parts(), self._options, self._target)

    def _parts(self) -> list[Part]:
        return parts_of(self._names, self._weights, self._dtype)

    @property
    def input_size(self) -> int:
        """Numbers in one step of `x`, I."""
        return self._sizes.input_size

    @property
    def hidden_size(self) -> int:
        """Units of a layer, H."""
        return self._sizes.hidden_size

    @property
    def num_layers(self) -> int:
        """Layers of the stack, L."""
        return self._sizes.num_layers

    @property
    def bidirectional(self) -> bool:
        """Whether every layer runs in both directions."""
        return all(self._sizes.directions)

    @property
    def direction(self) -> str:
        """One of "forward", "reverse" and "bidirectional"."""
        return "bidirectional" if self.bidirectional else "forward" if self._sizes.directions[0] else "reverse"

    @property
    def proj_size(self) -> int:
        """Outputs of a layer after its projection, P; 0 without one."""
        return self._sizes.proj_size

    @property
    def batch_first(self) -> bool:
        """Whether calls that do not say it take `x` as (B, T, I), and not as (T, B, I)."""
        return bool(self._options["batch_first"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: of the arithmetic, and of `x`, states and `y`."""
        return self._dtype

    @property
    def target(self) -> TargetName:
        """The instruction set that the weights are packed for."""
        return self._target

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return self._packed.nbytes

    def explain(self, T: int, B: int = 1, threads: int | None = None) -> str:
        """Say in words how a call would run, and why: chunks of steps, caches, threads, scratch.

        Parameters
        ----------
        T, B : int
            Steps and rows of the call, at least 0.
        threads : int, optional
            Threads at most; `get_num_threads` if not given.

        Returns
        -------
        str
            Some lines. Times in it are expected from constants that were measured on one machine: they are to be
            compared with each other. Scratch is what a call takes beside its results.

        Raises
        ------
        TypeError, ValueError
            An argument that is not an integer, or out of bounds.

        Examples
        --------
        >>> import numpy as np, fastrnn
        >>> weights = {"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.zeros((2, 2))}
        >>> print(fastrnn.RNNParams(weights).explain(T=100, threads=1))  # doctest: +ELLIPSIS
        T=100 steps, B=1 row, at most 1 thread: 1 strand of 1 row.
        ...
        """
        steps, rows = _check.whole("T", T, 0, sys.maxsize), _check.whole("B", B, 0, sys.maxsize)
        wanted = _core.get_default_threads() if threads is None else _check.threads(threads)
        return self._packed.explain(steps, rows, wanted)

    @property
    def weights(self) -> dict[str, Array]:
        """The arrays as they were given, by the names that they were given under; they can't be written to.

        The dict is new: to put another array into it changes no params. `with_weights` makes params of other arrays.
        """
        # A view of an array could be made writeable again where the buffer of a pickle can be written to.
        return {name: np.asarray(array.data.toreadonly()) for name, array in self._weights.items()}

    def with_weights(self: P, weights: Mapping[str, SupportsArray]) -> P:
        """Make params of the same layers with other numbers, as an optimiser's step does.

        It packs, and nothing else: the options, the sizes and the target are those of these params.

        Parameters
        ----------
        weights : mapping of str to ndarray
            The same names and shapes as `weights`, each array of the dtype that it had there, or of `dtype`.

        Returns
        -------
        Params
            Of the same class.

        Raises
        ------
        TypeError
            An array of another dtype.
        ValueError
            Other names or shapes.

        Examples
        --------
        >>> import numpy as np, fastrnn
        >>> params = fastrnn.RNNParams({"weight_ih": np.ones((2, 3)), "weight_hh": np.zeros((2, 2))}, activation="relu")
        >>> halved = params.with_weights({name: 0.5 * array for name, array in params.weights.items()})
        >>> fastrnn.rnn(np.ones((1, 1, 3)), halved)[0]
        array([[[1.5, 1.5]]])
        """
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights: expected a mapping of names to arrays, got {type(weights).__name__}")
        arrays = {name: check_array(name, value, True) for name, value in weights.items()}
        check_alike(arrays, self._weights, self._dtype)
        other: P = type(self).__new__(type(self))
        vars(other).update(vars(self).copy())  # at once: a pullback of another thread may add `_backward` meanwhile
        vars(other).pop("_backward", None)
        other._weights = {name: frozen(arrays[name], False) for name in self._weights}
        other._packed = pack(self._cell, self._sizes, other._parts(), self._options, self._target, self._packed)
        return other

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights and options to a file that `fastrnn.load` reads.

        Parameters
        ----------
        path : str or path
            Ends in ``.safetensors`` (which needs that package) or ``.npz``. A file that is there is replaced.

        Raises
        ------
        ValueError
            Another ending.
        ImportError
            safetensors is not installed.
        OSError
            The file can't be written; what was there stays.

        Examples
        --------
        >>> import numpy as np, fastrnn, os, tempfile
        >>> params = fastrnn.RNNParams({"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.zeros((2, 2))})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     params.save(os.path.join(folder, "layer.npz"))
        ...     fastrnn.load(os.path.join(folder, "layer.npz")) == params
        True
        """
        from fastrnn._formats import write  # not before it is needed: importing fastrnn stays fast

        write(path, self.weights, self._cell, self._dtype.name, self._shown_options())

    def _transposed(self) -> _core.Transposed:
        """The weights as the way back multiplies them: made when they are first wanted."""
        if "_backward" not in vars(self):
            self._backward = _core.Transposed(self._packed, [tuple(part) for part in self._parts()])
        return self._backward

    def _shown_options(self) -> dict[str, Any]:
        """Options that are not what they are by default, in the form that `__init__` takes them."""
        shown = {}
        for name, value in self._options.items():
            if isinstance(value, tuple):
                bare = check_activation(name, value[0])
                value = value[0] if value == bare else value
            if value != self._cell.defaults[name]:
                shown[name] = value
        return shown

    def _cell_options(self) -> dict[str, Any]:
        """Of these, the options of the equations: all but the layout of the data."""
        return {name: value for name, value in self._shown_options().items() if name != "batch_first"}

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        shown |= {"num_layers": self.num_layers, "direction": self.direction}
        if self.proj_size:
            shown["proj_size"] = self.proj_size
        shown |= self._shown_options()
        shown |= {"dtype": self.dtype.name, "target": self.target, "nbytes": self.nbytes}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Without a target that was not asked for: it is chosen anew where the pickle is loaded.
        arguments = {"dtype": self._dtype.name, "target": self._requested_target, **self._shown_options()}
        return _rebuild, (type(self), self._weights, arguments)

    def __copy__(self: Any) -> Any:
        return self

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        return self

    def _separate_biases(self) -> str:
        """Gates whose two biases are not simply added, by their letters."""
        return ""

    def _unused_gates(self) -> str:
        """Gates whose rows no result depends on, by their letters."""
        return ""

    def _key(self) -> tuple[Any, ...]:
        options = rounded_options(self._options, self._dtype)
        return (type(self).__name__, self._sizes, self._dtype.name, tuple(sorted(options.items())))

    def _numbers(self) -> list[Array]:
        separate, unused = self._separate_biases(), self._unused_gates()
        return [array for part in self._parts() for array in numbers_of(self._cell, part, separate, unused)]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Params):
            return NotImplemented
        return self._key() == other._key() and all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(self._numbers(), other._numbers(), strict=True)
        )

    def __hash__(self) -> int:
        return hash(self._key())


def _check_arguments(kind: type[Params], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raise where arguments are those of another library's layer."""
    if len(arguments) > 1:
        got = ", ".join(map(_check.shown, arguments))
        cure = f"{kind.__name__}(weights) reads the sizes from the weights"
        raise TypeError(f"{kind.__name__}: expected one argument without a keyword, weights, got {got}; {cure}")
    known = ("weights", "dtype", "target", *kind._cell.defaults)
    unexpected = [name for name in options if name not in known]
    if unexpected:
        fail_params(kind.__name__, unexpected, known)


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
        activation: Activation = "tanh",
        clip: float | None = None,
        batch_first: bool = False,
    ) -> None:
        options = {"activation": activation, "clip": clip, "batch_first": batch_first}
        super().__init__(weights, dtype, target, options)


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
        super().__init__(weights, dtype, target, options)

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
        super().__init__(weights, dtype, target, options)

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
