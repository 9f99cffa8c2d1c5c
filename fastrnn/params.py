"""Weights of a stack of recurrent layers: their names, shapes and options, checked once and packed for one target."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrnn import _check, _core
from fastrnn._names import Names, check_names
from fastrnn._options import check_activation, check_clip, check_dtype, check_range
from fastrnn.config import resolve_target

Array = NDArray[Any]
Activation = str | tuple[str, float, float]

_TRANSPOSED = "transposed (Keras keeps kernels so); its .T fits"


class SupportsArray(Protocol):
    """What NumPy makes an array of without reading it as a sequence: an ndarray, or a tensor of a framework."""

    def __array__(self) -> Array: ...


class _Part(NamedTuple):
    """The arrays of one layer in one direction, in the order that `_core.Packed` takes them."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None
    weight_peephole: Array | None = None


def _check_array(name: str, value: object, converted: bool) -> Array:
    """One array of weights, of the dtype that it came in."""
    _check.refuse_mask(name, value)
    if not hasattr(value, "__array__"):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    array = _check.converted(name, value)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8 or not array.dtype.isnative:
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    if array.dtype.itemsize < 4 and not converted:
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}; dtype='float32' converts the weights")
    return array


def _rounded(option: Any, dtype: np.dtype[Any]) -> Any:
    """An option with its numbers as they are computed with."""
    if isinstance(option, tuple):
        return tuple(_rounded(part, dtype) for part in option)
    return dtype.type(option) if isinstance(option, float) else option


class _Unpickled(dict[str, Any]):
    """Weights that come from a pickle, and whose arrays nobody else was given: they are kept, not copied."""


def _frozen(array: Array, keep: bool) -> Array:
    """A dense copy, or the array itself if it is to be kept and is dense, that can't be written to."""
    dense: Array = np.asarray(array, order="C") if keep else np.array(array, order="C")
    dense.flags.writeable = False
    return dense


class Params(_core.Params):
    """What RNNParams, LSTMParams and GRUParams have in common: none is made of this class alone.

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

    _cell: ClassVar[str]
    _gates: ClassVar[int]
    _plain_names: ClassVar[tuple[str, ...]] = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def __init__(
        self, weights: Mapping[str, SupportsArray], dtype: DTypeLike | None, target: str | None, options: dict[str, Any]
    ) -> None:
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights: expected a mapping of names to arrays, got {type(weights).__name__}")
        asked, keep = check_dtype(dtype), isinstance(weights, _Unpickled)
        weights = dict(weights)
        names = check_names(weights, self._plain_names)
        self._requested_target = target
        self._target = str(resolve_target(target))
        self._options = options
        self._weights = {name: _check_array(name, value, asked is not None) for name, value in weights.items()}
        self._dtype = asked or self._common_dtype()
        check_range(options, self._dtype)
        self._directions = (any(not r for _, r in names), any(r for _, r in names))
        self._infer_sizes(names)
        self._check_shapes(names)
        # Not before their sizes fit.
        self._weights = {name: _frozen(array, keep) for name, array in self._weights.items()}
        self._names = names
        self._pack()

    def _common_dtype(self) -> np.dtype[Any]:
        dtypes = {array.dtype for array in self._weights.values()}
        if len(dtypes) > 1:
            got = ", ".join(f"{name} {array.dtype}" for name, array in self._weights.items())
            raise TypeError(f"weights: expected one dtype, got {got}; dtype= converts them")
        return dtypes.pop()

    def _infer_sizes(self, names: Names) -> None:
        """Sizes from the first layer, whose arrays must at least be matrices."""
        first = next(iter(names.values()))
        for plain in ("weight_ih", "weight_hh", "weight_hr"):
            if plain in first and self._weights[first[plain]].ndim != 2:
                raise ValueError(f"{first[plain]}: expected 2 axes, got {self._weights[first[plain]].shape}")
        shapes: dict[str, tuple[int, ...]] = {plain: self._weights[name].shape for plain, name in first.items()}
        rows, self._input_size = shapes["weight_ih"]
        turned = self._gates > 1 and shapes["weight_hh"][1] == self._gates * shapes["weight_hh"][0] > 0
        if turned and "weight_hr" not in first:
            expected, got = f"({self._gates} * hidden_size, hidden_size)", shapes["weight_hh"]
            raise ValueError(f"{first['weight_hh']}: expected {expected}, got {got}, which looks {_TRANSPOSED}")
        if rows == 0 or rows % self._gates:
            expected, got = f"({self._gates} * hidden_size, input_size)", shapes["weight_ih"]
            hint = f", which looks {_TRANSPOSED}" if got[1] == shapes["weight_hh"][0] > 0 else ""
            raise ValueError(f"{first['weight_ih']}: expected {expected}, got {got}{hint}")
        self._hidden_size = rows // self._gates
        self._proj_size = shapes["weight_hr"][0] if "weight_hr" in first else 0
        if "weight_hr" in first and self._proj_size == 0:
            raise ValueError(f"{first['weight_hr']}: expected at least one row, got {shapes['weight_hr']}")
        self._num_layers = len(names) // sum(self._directions)

    def _check_shapes(self, names: Names) -> None:
        out, rows = self._proj_size or self._hidden_size, self._gates * self._hidden_size
        first = next(iter(names.values()))["weight_ih"]
        reason = f"since {first} is {self._weights[first].shape}"
        for (layer, _), part in names.items():
            shapes = {
                "weight_ih": (rows, self._input_size if layer == 0 else out * sum(self._directions)),
                "weight_hh": (rows, out),
                "bias_ih": (rows,),
                "bias_hh": (rows,),
                "weight_hr": (self._proj_size, self._hidden_size),
                "weight_peephole": (3 * self._hidden_size,),
            }
            for plain, name in part.items():
                expected, got = shapes[plain], self._weights[name].shape
                if got != expected:
                    hint = f", which looks {_TRANSPOSED}" if got[::-1] == expected else ""
                    raise ValueError(f"{name}: expected {expected}, {reason}, got {got}{hint}")

    def _parts(self) -> list[_Part]:
        """Arrays of every layer and direction, in the params' dtype."""
        return [
            _Part(**{plain: np.require(self._weights[name], self._dtype, ["C", "A"]) for plain, name in part.items()})
            for part in self._names.values()
        ]

    def _pack(self) -> None:
        options = self._options
        activation = options["activation"]
        self._packed = _core.Packed(
            self._cell,
            self._dtype,
            (self._input_size, self._hidden_size, self._proj_size, self._num_layers),
            self._directions,
            (
                activation,
                options.get("recurrent_activation", ("sigmoid", 0.0, 0.0)),
                options.get("output_activation") or (activation if self._cell == "lstm" else ("tanh", 0.0, 0.0)),
            ),
            clip=options["clip"] or float("inf"),
            reset_after=options.get("reset_after", True),
            input_forget=options.get("input_forget", False),
            weights=[tuple(part) for part in self._parts()],
            target=self._target,
        )

    @property
    def input_size(self) -> int:
        """Numbers in one step of `x`, I."""
        return self._input_size

    @property
    def hidden_size(self) -> int:
        """Units of a layer, H."""
        return self._hidden_size

    @property
    def num_layers(self) -> int:
        """Layers of the stack, L."""
        return self._num_layers

    @property
    def bidirectional(self) -> bool:
        """Whether every layer runs in both directions."""
        return all(self._directions)

    @property
    def direction(self) -> str:
        """One of "forward", "reverse" and "bidirectional"."""
        return "bidirectional" if self.bidirectional else "forward" if self._directions[0] else "reverse"

    @property
    def proj_size(self) -> int:
        """Outputs of a layer after its projection, P; 0 without one."""
        return self._proj_size

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: of the arithmetic, and of `x`, states and `y`."""
        return self._dtype

    @property
    def target(self) -> str:
        """The instruction set that the weights are packed for."""
        return self._target

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return self._packed.nbytes

    def explain(self, T: int, B: int = 1, threads: int | None = None) -> str:
        """Say in words how a call would run, and why: blocks of steps, caches, threads, scratch.

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
        """The arrays as they were given, by the names that they were given under; they can't be written to."""
        # A view of an array could be made writeable again where the buffer of a pickle can be written to.
        return {name: np.asarray(array.data.toreadonly()) for name, array in self._weights.items()}

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
        from fastrnn.files import save  # not before it is needed: importing fastrnn stays fast

        save(self, path)

    def _shown_options(self) -> dict[str, Any]:
        """Options that are not what they are by default, in the form that `__init__` takes them."""
        shown = {}
        for name, value in self._options.items():
            if isinstance(value, tuple):
                bare = check_activation(name, value[0])
                value = value[0] if value == bare else value
            if value != self._defaults[name]:
                shown[name] = value
        return shown

    _defaults: ClassVar[dict[str, Any]] = {"activation": "tanh", "clip": None}

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

    def _computed(self) -> list[Array]:
        """The numbers that results depend on: biases that are added are one."""
        H, sums = self._hidden_size, []
        for part in self._parts():
            zeros = np.zeros(self._gates * H, self._dtype)
            b = zeros if part.bias_ih is None else part.bias_ih
            d = zeros if part.bias_hh is None else part.bias_hh
            V = np.zeros(0) if part.weight_hr is None else part.weight_hr
            p = np.zeros(0) if part.weight_peephole is None else part.weight_peephole  # 0 times infinity is not 0
            apart = self._cell == "gru" and self._options["reset_after"]
            biases = [b[: 2 * H] + d[: 2 * H], b[2 * H :], d[2 * H :]] if apart else [b + d]
            arrays = [part.weight_ih, part.weight_hh, *biases, V, p]
            if self._options.get("input_forget"):  # the rows of f are not used
                f = np.s_[H : 2 * H]
                arrays = [np.delete(a, f, axis=0) for a in arrays[:3]] + [V, np.delete(p, f) if p.size else p]
            sums += arrays
        return sums

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Params):
            return NotImplemented
        return self._key() == other._key() and all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(self._computed(), other._computed(), strict=True)
        )

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        options = {name: _rounded(option, self._dtype) for name, option in self._options.items()}
        if self._cell == "lstm":
            options["output_activation"] = options["output_activation"] or options["activation"]
        sizes = (self._input_size, self._hidden_size, self._proj_size, self._num_layers, self._directions)
        return (type(self).__name__, sizes, self._dtype.name, tuple(sorted(options.items())))


def _rebuild(kind: Any, weights: dict[str, Array], arguments: dict[str, Any]) -> Any:
    return kind(_Unpickled(weights), **arguments)


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

    _cell = "rnn"
    _gates = 1

    def __init__(
        self,
        weights: Mapping[str, SupportsArray],
        *,
        dtype: DTypeLike | None = None,
        target: str | None = None,
        activation: Activation = "tanh",
        clip: float | None = None,
    ) -> None:
        options = {"activation": check_activation("activation", activation), "clip": check_clip(clip)}
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

    _cell = "lstm"
    _gates = 4
    _plain_names = (*Params._plain_names, "weight_hr", "weight_peephole")
    _defaults: ClassVar[dict[str, Any]] = {
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "output_activation": None,
        "input_forget": False,
        "clip": None,
    }

    def __init__(
        self,
        weights: Mapping[str, SupportsArray],
        *,
        dtype: DTypeLike | None = None,
        target: str | None = None,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        output_activation: Activation | None = None,
        input_forget: bool = False,
        clip: float | None = None,
    ) -> None:
        given = output_activation is not None
        options = {
            "activation": check_activation("activation", activation),
            "recurrent_activation": check_activation("recurrent_activation", recurrent_activation),
            "output_activation": check_activation("output_activation", output_activation) if given else None,
            "input_forget": _check.flag("input_forget", input_forget),
            "clip": check_clip(clip),
        }
        super().__init__(weights, dtype, target, options)


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

    _cell = "gru"
    _gates = 3
    _defaults: ClassVar[dict[str, Any]] = {
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "reset_after": True,
        "clip": None,
    }

    def __init__(
        self,
        weights: Mapping[str, SupportsArray],
        *,
        dtype: DTypeLike | None = None,
        target: str | None = None,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        reset_after: bool = True,
        clip: float | None = None,
    ) -> None:
        options = {
            "activation": check_activation("activation", activation),
            "recurrent_activation": check_activation("recurrent_activation", recurrent_activation),
            "reset_after": _check.flag("reset_after", reset_after),
            "clip": check_clip(clip),
        }
        super().__init__(weights, dtype, target, options)


CLASSES: dict[str, type[RNNParams] | type[LSTMParams] | type[GRUParams]] = {
    kind._cell: kind for kind in (RNNParams, LSTMParams, GRUParams)
}


def to_params(cell: str, params: object) -> Params:
    """What stands in the place of a cell's params in a call: those params, or a mapping of weights."""
    kind = CLASSES[cell]
    if isinstance(params, Mapping):
        return kind(params)
    raise TypeError(f"params: expected {kind.__name__} or a mapping of weights, got {type(params).__name__}")
