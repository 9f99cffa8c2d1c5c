"""The meaning of one ONNX node of type RNN, LSTM or GRU: its attributes and arrays as params.

Attributes are Python values, arrays are NumPy's, so this serves models that are read and models that are run. Every
error is a ValueError, a wrong type included: whatever a file holds is a value.

Gates are named by the letters of `_cells.py`; ONNX calls an LSTM's g "c" and a GRU's n "h".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrnn import _check
from fastrnn._cells import GRU, LSTM, RNN, Cell
from fastrnn._precision import Quantized, carried
from fastrnn._types import Precision, TargetName
from fastrnn.params import CLASSES, GRUParams, LSTMParams, RNNParams

Array = NDArray[Any]
Activation = tuple[str, float, float] | str

VERSIONS = (7, 14, 22)  # of the three operators, by the opset that brought each
OLDEST_OPSET = VERSIONS[0]
INPUTS: tuple[str, ...] = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
QUANTIZED_INPUTS = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")  # of DynamicQuantizeLSTM, after those
WEIGHTS = ("W", "R", "B", "P")
FLOATS = ("float32", "float64")  # that layers are computed in


class Operator(NamedTuple):
    """An operator: which cell it is here, its gates in ONNX's order, and its activations and flags by our options."""

    cell: Cell
    gates: str
    activations: Mapping[str, str]  # with ONNX's defaults, in its order
    peepholes: str = ""
    flags: Mapping[str, str] = {}  # by ONNX's attributes

    @property
    def inputs(self) -> tuple[str, ...]:
        absent = [name for name, has in (("initial_c", "c" in self.cell.states), ("P", self.peepholes)) if not has]
        return tuple(name for name in INPUTS if name not in absent)

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("Y", *(f"Y_{state}" for state in self.cell.states))


OPERATORS = {
    "RNN": Operator(RNN, "h", {"activation": "Tanh"}),
    "LSTM": Operator(
        LSTM,
        "iofg",
        {"recurrent_activation": "Sigmoid", "activation": "Tanh", "output_activation": "Tanh"},
        peepholes="iof",
        flags={"input_forget": "input_forget"},
    ),
    "GRU": Operator(
        GRU,
        "zrn",
        {"recurrent_activation": "Sigmoid", "activation": "Tanh"},
        flags={"linear_before_reset": "reset_after"},
    ),
}

_SUFFIXES = {"forward": ("",), "reverse": ("_reverse",), "bidirectional": ("", "_reverse")}

# By lower-case names: whether each takes an alpha and a beta. Activations without a name of ours are refused.
_TAKES = {"affine": (True, True), "scaledtanh": (True, True), "hardsigmoid": (True, True)}
_TAKES |= dict.fromkeys(("leakyrelu", "thresholdedrelu", "elu"), (True, False))
_OURS = {"tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "softsign": "softsign"}
_OURS |= {"hardsigmoid": "hard_sigmoid", "affine": "linear"}
_CARRIED = "Tanh, Sigmoid, Relu, Softsign, HardSigmoid or Affine"


class Layer(NamedTuple):
    """The attributes of a node, read and checked."""

    op: str
    direction: str
    hidden_size: int | None
    layout: int
    options: tuple[tuple[str, Any], ...]  # of the params; a tuple, so that layers can be compared

    @property
    def directions(self) -> int:
        return len(_SUFFIXES[self.direction])


def _string(value: Any) -> str | None:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, (float, np.floating)) else None


def _list_of(read: Callable[[Any], Any]) -> Callable[[Any], list[Any] | None]:
    def read_list(value: Any) -> list[Any] | None:
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            return None
        items = [read(item) for item in value]
        return None if None in items else items

    return read_list


# A reader for each attribute, and its type in words.
_READ: dict[str, tuple[Callable[[Any], Any], str]] = {
    "activations": (_list_of(_string), "strings"),
    "activation_alpha": (_list_of(_float), "floats"),
    "activation_beta": (_list_of(_float), "floats"),
    "clip": (_float, "a float"),
    "direction": (_string, "a string"),
    "hidden_size": (_integer, "an integer"),
    "layout": (_integer, "an integer"),
    "input_forget": (_integer, "an integer"),
    "linear_before_reset": (_integer, "an integer"),
}


def _known(op: str, opset: int) -> list[str]:
    absent = {"layout"} if opset < 14 else set()
    absent |= {flag for operator in OPERATORS.values() for flag in operator.flags} - OPERATORS[op].flags.keys()
    return [name for name in _READ if name not in absent]


def _read_all(op: str, attributes: Mapping[str, Any], opset: int) -> dict[str, Any]:
    known, values = _known(op, opset), {}
    for name, value in attributes.items():
        if name not in known:
            expected = f"an attribute that {op} has in opset {opset} ({', '.join(known)})"
            raise ValueError(f"{_check.shown(name)}: expected {expected}, got one of another name")
        read, kind = _READ[name]
        values[name] = read(value)
        if values[name] is None:
            raise ValueError(f"{name}: expected {kind}, got {_check.shown(value)}")
    return values


def _choice(values: Mapping[str, Any], name: str, choices: Sequence[Any]) -> Any:
    value = values.get(name, choices[0])
    if value not in choices:
        expected = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name}: expected one of {expected}, got {_check.shown(value)}")
    return value


def read_attributes(op: str, attributes: Mapping[str, Any], opset: int) -> Layer:
    """The attributes that a node gives, as they are named in the specification."""
    if opset < OLDEST_OPSET:
        cure = "before that attributes and optional inputs were others; onnx.version_converter may convert the model"
        raise ValueError(f"opset: expected {OLDEST_OPSET} or newer, got {opset}; {cure}")
    values = _read_all(op, attributes, opset)
    direction = _choice(values, "direction", tuple(_SUFFIXES))
    layout = _choice(values, "layout", (0, 1))
    hidden_size = values.get("hidden_size")
    if hidden_size is not None and hidden_size < 1:
        raise ValueError(f"hidden_size: expected at least 1, got {_check.shown(hidden_size)}")
    options: dict[str, Any] = {"clip": values.get("clip")}
    options |= zip(OPERATORS[op].activations, _activations(op, values, len(_SUFFIXES[direction])), strict=True)
    if options.get("output_activation") == options["activation"]:
        options["output_activation"] = None
    for attribute, option in OPERATORS[op].flags.items():
        options[option] = bool(_choice(values, attribute, (0, 1)))
    return Layer(op, direction, hidden_size, layout, tuple(options.items()))


def _activations(op: str, values: Mapping[str, Any], directions: int) -> list[Activation]:
    """The activations of one direction; two must have the same. Each that takes an alpha or beta takes the next one."""
    defaults = list(OPERATORS[op].activations.values())
    functions = len(defaults)
    names = values.get("activations", defaults * directions)
    if len(names) != functions * directions:
        raise ValueError(
            f"activations: expected {functions * directions} names, {functions} for each direction, got {len(names)}"
        )
    lists = {which: values.get(f"activation_{which}", []) for which in ("alpha", "beta")}
    left = {which: iter(numbers) for which, numbers in lists.items()}
    used = [_activation(name, left["alpha"], left["beta"]) for name in names]
    for which, numbers in lists.items():
        surplus = len(list(left[which]))
        if surplus:
            takers = len(numbers) - surplus
            expected = f"one number for each activation that takes {which}, which are {takers}"
            raise ValueError(f"activation_{which}: expected {expected}, got {len(numbers)}")
    first, others = used[:functions], used[functions:]
    if others and others != first:
        got = f"{', '.join(map(str, first))} and {', '.join(map(str, others))}"
        raise ValueError(f"activations: expected the same in both directions, since params have one set, got {got}")
    return first


def _activation(name: str, alphas: Any, betas: Any) -> Activation:
    lower = name.lower()
    takes_alpha, takes_beta = _TAKES.get(lower, (False, False))
    alpha = next(alphas, None) if takes_alpha else None
    beta = next(betas, None) if takes_beta else None
    if lower not in _OURS:
        raise ValueError(f"activations: expected {_CARRIED}, got {_check.shown(name)}, which fastrnn does not have")
    if lower == "hardsigmoid":
        return ("hard_sigmoid", 0.2 if alpha is None else alpha, 0.5 if beta is None else beta)
    if lower == "affine":
        if alpha is None or beta is None:
            got = f"alpha {alpha} and beta {beta}"
            raise ValueError(f"activations: expected an alpha and a beta for Affine, which has no defaults, got {got}")
        return ("linear", alpha, beta)
    return _OURS[lower]


def check_dtypes(arrays: Mapping[str, Array], known: Sequence[str] = FLOATS) -> None:
    """Raise where arrays of floats are not all of one of these dtypes."""
    dtype = arrays["W"].dtype
    for name, array in arrays.items():
        if array.dtype.name not in known:
            raise ValueError(
                f"{name}: expected {_check.either(known)}, got {array.dtype}, which fastrnn does not compute in"
            )
        if array.dtype != dtype:
            raise ValueError(f"{name}: expected {dtype}, since W is, got {array.dtype}")


def check_shapes(layer: Layer, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The hidden size; raise where W, R, B or P is not of the shape that the attributes and the others ask for."""
    D, G, K = layer.directions, len(OPERATORS[layer.op].gates), len(OPERATORS[layer.op].peepholes)
    for name, axes in (("R", 3), ("W", 3)):
        if len(shapes[name]) != axes:
            raise ValueError(f"{name}: expected {axes} axes, got {_check.shown(shapes[name])}")
    H = shapes["R"][2] if layer.hidden_size is None else layer.hidden_size
    if H == 0:
        raise ValueError(f"R: expected at least one column, got {shapes['R']}")
    expected = {
        "W": (D, G * H, shapes["W"][2]),
        "R": (D, G * H, H),
        "B": (D, 2 * G * H),
        "P": (D, K * H),
    }
    for name, got in shapes.items():
        if got != expected[name]:
            raise ValueError(
                f"{name}: expected {expected[name]} ({layer.direction}, hidden size {H}), got {_check.shown(got)}"
            )
    return H


def make_params(
    layer: Layer,
    arrays: Mapping[str, Array],
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
) -> RNNParams | LSTMParams | GRUParams:
    """Params of a node with these W, R and perhaps B and P; `dtype` or `precision` converts arrays of float16 too."""
    check_dtypes(arrays, FLOATS if dtype is None and precision is None else (*FLOATS, "float16"))
    check_shapes(layer, {name: array.shape for name, array in arrays.items()})
    weights = _vectors(layer, arrays)
    for name, d, which, orders in _matrices(layer):
        weights[name] = _reorder(arrays[which][d], *orders)
    return _make(layer, weights, dtype, target, precision)


def make_quantized_params(
    layer: Layer,
    matrices: Mapping[str, Sequence[Quantized]],
    arrays: Mapping[str, Array],
    *,
    target: TargetName | None,
    precision: Precision,
    requantize: bool,
) -> RNNParams | LSTMParams | GRUParams:
    """Params of bytes, which are those of W and R of each direction, and perhaps of B and P."""
    weights = _vectors(layer, arrays)
    for name, d, which, orders in _matrices(layer):
        weights |= carried(name, _reorder_quantized(matrices[which][d], *orders), requantize)
    return _make(layer, weights, None, target, precision)


def _make(
    layer: Layer,
    weights: Mapping[str, Array],
    dtype: DTypeLike | None,
    target: TargetName | None,
    precision: Precision | None,
) -> RNNParams | LSTMParams | GRUParams:
    options = {"batch_first": layer.layout == 1, **dict(layer.options)}
    make = CLASSES[OPERATORS[layer.op].cell.name]
    return make(weights, dtype=dtype, target=target, precision=precision, **options)


def _matrices(layer: Layer) -> Iterator[tuple[str, int, str, tuple[str, str]]]:
    """Of each matrix: our name, the direction, ONNX's name, and ONNX's and our order of gates."""
    operator = OPERATORS[layer.op]
    for d, suffix in enumerate(_SUFFIXES[layer.direction]):
        for ours, theirs in (("weight_ih", "W"), ("weight_hh", "R")):
            yield f"{ours}_l0{suffix}", d, theirs, (operator.gates, operator.cell.gates)


def _vectors(layer: Layer, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Biases and peepholes, by our names."""
    weights: dict[str, Array] = {}
    for d, suffix in enumerate(_SUFFIXES[layer.direction]):
        end, operator = f"_l0{suffix}", OPERATORS[layer.op]
        orders = operator.gates, operator.cell.gates
        if "B" in arrays:
            of_w, of_r = np.split(arrays["B"][d], 2)
            weights[f"bias_ih{end}"], weights[f"bias_hh{end}"] = _reorder(of_w, *orders), _reorder(of_r, *orders)
        if "P" in arrays:
            weights[f"weight_peephole{end}"] = _reorder(arrays["P"][d], operator.peepholes, operator.cell.peepholes)
    return weights


def _reorder_quantized(matrix: Quantized, theirs: str, ours: str) -> Quantized:
    """The same of bytes: where each row has a scale and a zero point, these go with it."""
    rows = len(matrix.integers)
    sides = [_reorder(side, theirs, ours) if len(side) == rows else side for side in (matrix.zeros, matrix.scales)]
    return Quantized(_reorder(matrix.integers, theirs, ours), *sides)


def _reorder(rows: Array, theirs: str, ours: str) -> Array:
    """The rows of gates in our order."""
    parts = dict(zip(theirs, np.split(rows, len(theirs)), strict=True))
    return np.concatenate([parts[gate] for gate in ours])
