"""Weights of a stack of recurrent layers: their names, shapes and options, checked once and packed for one target."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastrnn import _check, _core
from fastrnn.config import resolve_target

Array = NDArray[Any]
Activation = str | tuple[str, float, float]

_NAME = re.compile(
    r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr|weight_peephole)(?:_l(0|[1-9][0-9]{0,8})(_reverse)?)?", re.ASCII
)
# Alpha and beta of the bare names that have them.
_ALPHA_BETA = {"hard_sigmoid": (1 / 6, 0.5), "linear": (1.0, 0.0)}


class _Part(NamedTuple):
    """The arrays of one layer in one direction, in the order that `_core.Packed` takes them."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None
    weight_peephole: Array | None = None


def _full_name(plain: str, layer: int, reverse: bool) -> str:
    return f"{plain}_l{layer}{'_reverse' if reverse else ''}"


def _check_activation(argument: str, value: object) -> tuple[str, float, float]:
    """A name, or a name with alpha and beta, as (name, alpha, beta)."""
    parts = value if isinstance(value, tuple) else (value,)
    if not parts or not isinstance(parts[0], str):
        raise TypeError(f"{argument}: expected a name or (name, alpha, beta), got {value!r}")
    name = parts[0]
    if name not in _core.FUNCTIONS:
        raise ValueError(f"{argument}: expected one of {', '.join(_core.FUNCTIONS)}, got {name!r}")
    if len(parts) == 1:
        return (name, *_ALPHA_BETA.get(name, (0.0, 0.0)))
    if name not in _ALPHA_BETA:
        raise ValueError(f"{argument}: expected {name!r} alone, since it has no alpha and beta, got {value!r}")
    if len(parts) != 3:
        raise ValueError(f"{argument}: expected (name, alpha, beta), got {value!r}")
    return name, _check_number(f"{argument} alpha", parts[1]), _check_number(f"{argument} beta", parts[2])


def _check_number(argument: str, value: object) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{argument}: expected a number, got {value!r}")
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{argument}: expected a finite number, got {value!r}")
    return number


def _check_clip(value: object) -> float | None:
    if value is None:
        return None
    clip = _check_number("clip", value)
    if clip <= 0:
        raise ValueError(f"clip: expected a positive number or None, got {value!r}")
    return clip


def _check_dtype(value: object) -> np.dtype[Any] | None:
    if value is None:
        return None
    try:
        dtype: np.dtype[Any] = np.dtype(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        dtype = np.dtype(object)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype: expected float32, float64 or None, got {value!r}")
    return dtype


def _check_array(name: str, value: object, converted: bool) -> Array:
    """A dense copy of one array of weights that nobody can write to, of the dtype that it came in."""
    if isinstance(value, np.ma.MaskedArray) or not hasattr(value, "__array__"):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    array: Array = np.array(value, order="C", copy=True)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8 or not array.dtype.isnative:
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    if array.dtype.itemsize < 4 and not converted:
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}; dtype='float32' converts the weights")
    array.flags.writeable = False
    return array


def _check_names(weights: Mapping[str, object], plain_names: tuple[str, ...]) -> dict[tuple[int, bool], dict[str, str]]:
    """{(layer, reverse): {plain name: the name that came}} for names that make a whole stack."""
    parts: dict[tuple[int, bool], dict[str, str]] = {}
    unknown = []
    for name in weights:
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        if match is None or match[1] not in plain_names:
            unknown.append(name)
            continue
        part = parts.setdefault((int(match[2] or 0), bool(match[3])), {})
        if match[1] in part:
            raise ValueError(f"weights: expected {part[match[1]]!r} or {name!r}, which mean the same, got both")
        part[match[1]] = name
    if unknown:
        raise ValueError(f"weights: unknown {', '.join(_describe_unknown(name, plain_names) for name in unknown)}")
    directions = sorted({reverse for _, reverse in parts}) or [False]
    layers = range(len({layer for layer, _ in parts}) or 1)
    needed = [(layer, reverse) for layer in layers for reverse in directions]
    missing = [
        _full_name(plain, *key) for key in needed for plain in ("weight_ih", "weight_hh") if plain not in parts.get(key, {})
    ]
    if missing:
        raise ValueError(f"weights: missing {', '.join(map(repr, missing))}")
    return {key: parts[key] for key in needed}


def _describe_unknown(name: object, plain_names: tuple[str, ...]) -> str:
    known = [_full_name(plain, layer, reverse) for plain in plain_names for layer in range(4) for reverse in (False, True)]
    near = difflib.get_close_matches(name, known, n=1) if isinstance(name, str) else []
    return f"{name!r} (nearest known: {near[0]!r})" if near else f"{name!r} (known: such as {known[0]!r})"


class Params:
    """What RNNParams, LSTMParams and GRUParams have in common.

    Params are immutable, and any number of threads may use them. They can be pickled and copied. They are equal where
    they compute the same, on whatever target.
    """

    _cell: ClassVar[str]
    _gates: ClassVar[int]
    _plain_names: ClassVar[tuple[str, ...]] = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def __init__(
        self, weights: Mapping[str, ArrayLike], dtype: DTypeLike | None, target: str | None, options: dict[str, Any]
    ) -> None:
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights: expected a mapping of names to arrays, got {type(weights).__name__}")
        asked = _check_dtype(dtype)
        names = _check_names(weights, self._plain_names)
        self._requested_target = target
        self._target = resolve_target(target)
        self._options = options
        self._weights = {name: _check_array(name, weights[name], asked is not None) for name in weights}
        self._dtype = asked or self._common_dtype()
        self._directions = (any(not r for _, r in names), any(r for _, r in names))
        self._infer_sizes(names)
        self._check_shapes(names)
        self._names = names
        self._pack()

    def _common_dtype(self) -> np.dtype[Any]:
        dtypes = {array.dtype for array in self._weights.values()}
        if len(dtypes) > 1:
            got = ", ".join(f"{name} {array.dtype}" for name, array in self._weights.items())
            raise TypeError(f"weights: expected one dtype, got {got}; dtype= converts them")
        return dtypes.pop()

    def _infer_sizes(self, names: dict[tuple[int, bool], dict[str, str]]) -> None:
        """Sizes from the first layer, whose arrays must at least be matrices."""
        first = next(iter(names.values()))
        for plain in ("weight_ih", "weight_hh", "weight_hr"):
            if plain in first and self._weights[first[plain]].ndim != 2:
                raise ValueError(f"{first[plain]}: expected 2 axes, got {self._weights[first[plain]].shape}")
        rows, self._input_size = self._weights[first["weight_ih"]].shape
        if rows == 0 or rows % self._gates:
            raise ValueError(
                f"{first['weight_ih']}: expected ({self._gates} * hidden_size, input_size), got ({rows}, {self._input_size})"
            )
        self._hidden_size = rows // self._gates
        self._proj_size = self._weights[first["weight_hr"]].shape[0] if "weight_hr" in first else 0
        if "weight_hr" in first and not 0 < self._proj_size:
            raise ValueError(f"{first['weight_hr']}: expected at least one row, got {self._weights[first['weight_hr']].shape}")
        self._num_layers = len(names) // sum(self._directions)

    def _check_shapes(self, names: dict[tuple[int, bool], dict[str, str]]) -> None:
        out, rows = self._proj_size or self._hidden_size, self._gates * self._hidden_size
        for (layer, reverse), part in names.items():
            shapes = {
                "weight_ih": (rows, self._input_size if layer == 0 else out * sum(self._directions)),
                "weight_hh": (rows, out),
                "bias_ih": (rows,),
                "bias_hh": (rows,),
                "weight_hr": (self._proj_size, self._hidden_size),
                "weight_peephole": (3 * self._hidden_size,),
            }
            for plain, name in part.items():
                if self._weights[name].shape != shapes[plain]:
                    raise ValueError(f"{name}: expected {shapes[plain]}, got {self._weights[name].shape}")
            if self._proj_size and "weight_hr" not in part:
                raise ValueError(f"weights: missing {_full_name('weight_hr', layer, reverse)!r}; the others project")

    def _parts(self) -> list[_Part]:
        """Arrays of every layer and direction, in the params' dtype."""
        return [
            _Part(**{plain: np.ascontiguousarray(self._weights[name], self._dtype) for plain, name in part.items()})
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

    @property
    def weights(self) -> dict[str, Array]:
        """The arrays as they were given, by the names that they were given under; nobody can write to them."""
        return dict(self._weights)

    def _shown_options(self) -> dict[str, Any]:
        """Options that are not what they are by default, in the form that `__init__` takes them."""
        shown = {}
        for name, value in self._options.items():
            if isinstance(value, tuple):
                bare = _check_activation(name, value[0])
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
            p = np.zeros(3 * H, self._dtype) if part.weight_peephole is None else part.weight_peephole
            apart = self._cell == "gru" and self._options["reset_after"]
            biases = [b[: 2 * H] + d[: 2 * H], b[2 * H :], d[2 * H :]] if apart else [b + d]
            arrays = [part.weight_ih, part.weight_hh, *biases, V, p]
            if self._options.get("input_forget"):  # the rows of f are not used
                arrays = [np.delete(a, np.s_[H : 2 * H], axis=0) for a in arrays[:3]] + [V, np.delete(p, np.s_[H : 2 * H])]
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
        options = dict(self._options)
        if self._cell == "lstm":
            options["output_activation"] = options["output_activation"] or options["activation"]
        sizes = (self._input_size, self._hidden_size, self._proj_size, self._num_layers, self._directions)
        return (type(self).__name__, sizes, self._dtype.name, tuple(sorted(options.items())))


def _rebuild(kind: Any, weights: dict[str, Array], arguments: dict[str, Any]) -> Any:
    return kind(weights, **arguments)


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
        weights: Mapping[str, ArrayLike],
        *,
        dtype: DTypeLike | None = None,
        target: str | None = None,
        activation: Activation = "tanh",
        clip: float | None = None,
    ) -> None:
        options = {"activation": _check_activation("activation", activation), "clip": _check_clip(clip)}
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
    _defaults = {
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "output_activation": None,
        "input_forget": False,
        "clip": None,
    }

    def __init__(
        self,
        weights: Mapping[str, ArrayLike],
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
            "activation": _check_activation("activation", activation),
            "recurrent_activation": _check_activation("recurrent_activation", recurrent_activation),
            "output_activation": _check_activation("output_activation", output_activation) if given else None,
            "input_forget": _check.flag("input_forget", input_forget),
            "clip": _check_clip(clip),
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
    _defaults = {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True, "clip": None}

    def __init__(
        self,
        weights: Mapping[str, ArrayLike],
        *,
        dtype: DTypeLike | None = None,
        target: str | None = None,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        reset_after: bool = True,
        clip: float | None = None,
    ) -> None:
        options = {
            "activation": _check_activation("activation", activation),
            "recurrent_activation": _check_activation("recurrent_activation", recurrent_activation),
            "reset_after": _check.flag("reset_after", reset_after),
            "clip": _check_clip(clip),
        }
        super().__init__(weights, dtype, target, options)
