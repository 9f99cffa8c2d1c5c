"""Keras: recurrent layers and cells taken over from Keras 3.

A layer is walked down to its cells, which hold the weights: `Bidirectional` has two layers, a layer has a cell, and
`StackedRNNCells` has several. Each of them must compute as Keras's own class does, in one dtype.

Importing this module does not import Keras: a layer that is given has brought it along.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn._arrays import Array
from fastrnn._cells import GRU, LSTM, RNN, Cell
from fastrnn._types import Precision
from fastrnn.params import CLASSES, GRUParams, LSTMParams, RNNParams

__all__ = ["from_keras"]


class _Kind(NamedTuple):
    """A cell of Keras: what it is here, its gates in Keras's order, and its options that we have under their names."""

    cell: Cell
    gates: str
    options: tuple[str, ...]

    def reorder(self, array: Array) -> Array:
        """Columns of gates in our order."""
        columns = np.split(array, len(self.gates), axis=-1)
        return np.concatenate([columns[self.gates.index(gate)] for gate in self.cell.gates], axis=-1)


_CELLS = {
    "SimpleRNNCell": _Kind(RNN, "h", ("activation",)),
    "LSTMCell": _Kind(LSTM, "ifgo", ("activation", "recurrent_activation")),
    "GRUCell": _Kind(GRU, "zrn", ("activation", "recurrent_activation", "reset_after")),
}
_LAYERS = ("SimpleRNN", "LSTM", "GRU", "RNN")  # RNN last: it is a base of the others
_ACTIVATIONS = ("tanh", "sigmoid", "relu", "softsign", "hard_sigmoid", "linear")
# Names that a subclass may override: no call of a layer uses them.
_INERT = ("get_config", "from_config", "_api_export_path", "_api_export_symbol_id")


class _Part(NamedTuple):
    """A layer or a cell on the way: where it is, its class in `keras.layers`, and the end of its weights' names."""

    path: str
    value: Any
    name: str
    end: str = ""


def from_keras(
    layer: Any, *, precision: Precision | None = None, embedding: Any = None
) -> RNNParams | LSTMParams | GRUParams:
    """Take the weights and options of a recurrent layer of Keras 3, whatever its backend.

    Parameters
    ----------
    layer : keras.layers.Layer
        A ``SimpleRNN``, ``LSTM`` or ``GRU``; an ``RNN`` of such a cell or of a list of them; a ``Bidirectional`` with
        ``merge_mode="concat"``; or a cell. It is built, and float32 or float64. The weights are copied: later changes
        do not reach the params.
    precision : str or None
        As in `RNNParams`. Narrow ones are for layers of float32; of others, ``from_keras(layer).to("float32")`` first.
    embedding : keras.layers.Embedding, "one-hot" or None
        The layer whose rows tokens name, built and of the same dtype; or as in `RNNParams`. The mask of ``mask_zero``
        goes to the call as `lengths`, as any mask.

    Returns
    -------
    RNNParams, LSTMParams or GRUParams
        With ``go_backwards`` their direction is "reverse". Cells of a list are the layers of a stack. Params
        of a layer are ``batch_first``, as Keras is; those of a cell are not. What is about results and state goes to
        the call: ``return_sequences``, ``lengths`` for a mask, ``state`` for an initial state or what a ``stateful``
        layer holds.

    Raises
    ------
    TypeError
        Not such a layer, one with methods of its own, in a subclass or set on it, another version of Keras, or another
        dtype.
    ValueError
        A layer that is not built, or has an attribute that these params can't express: the message names it.

    Notes
    -----
    The functions return `y` in the order of `x`; a layer of Keras with ``go_backwards`` returns ``y[:, ::-1]``.

    Examples
    --------
    >>> import keras, fastrnn  # doctest: +SKIP
    >>> layer = keras.layers.Bidirectional(keras.layers.GRU(20, return_sequences=True))  # doctest: +SKIP
    >>> layer.build((None, None, 8))  # doctest: +SKIP
    >>> params = fastrnn.from_keras(layer)  # doctest: +SKIP
    >>> y, h_n = fastrnn.gru(x, params)  # doctest: +SKIP
    """
    parts = list(_walk("layer", layer, ("Bidirectional", *_LAYERS, "StackedRNNCells", *_CELLS)))
    _check_dtypes(parts)
    cells = [part for part in parts if part.name in _CELLS]
    if parts[0].name == "Bidirectional":
        _check_bidirectional(layer, cells)
        cure = "load layer.forward_layer and layer.backward_layer by themselves"
    else:
        cure = "load each cell by itself"
    options = _common_options(cells, cure)
    weights = {name + cell.end: array for cell in cells for name, array in _weights(cell)}
    kind = CLASSES[_CELLS[cells[0].name].cell.name]
    dtype = layer.dtype_policy.name
    batch_first = parts[0].name in ("Bidirectional", *_LAYERS)  # a cell takes one step, and has no layout
    rows: Any = embedding if embedding is None or isinstance(embedding, str) else _rows(embedding, dtype)
    return kind(weights, dtype=dtype, precision=precision, embedding=rows, batch_first=batch_first, **options)


def _rows(layer: Any, dtype: str) -> Array:
    """The rows that an embedding looks up."""
    part = _Part("embedding", layer, _class_name("embedding", layer, ("Embedding",)))
    if layer.dtype_policy.name != dtype:
        expected = f"{dtype!r}, that of layer"
        raise TypeError(f"embedding.dtype_policy: expected {expected}, got {layer.dtype_policy.name!r}")
    if not layer.built:
        raise ValueError(f"{part.path}: expected weights, got a layer that is not built; its build makes them")
    rows: Array = sys.modules["keras"].ops.convert_to_numpy(layer.embeddings)
    return rows


def _walk(path: str, value: Any, expected: tuple[str, ...], depth: int = 0, reverse: bool = False) -> Iterator[_Part]:
    """A layer and its parts, cells from the first to the last, forward before backward."""
    name = _class_name(path, value, expected)
    yield _Part(path, value, name, f"_l{depth}{'_reverse' if reverse else ''}")
    if name == "Bidirectional":
        yield from _walk(f"{path}.forward_layer", value.forward_layer, _LAYERS)
        yield from _walk(f"{path}.backward_layer", value.backward_layer, _LAYERS)
    elif name in _LAYERS:
        yield from _walk(f"{path}.cell", value.cell, ("StackedRNNCells", *_CELLS), 0, value.go_backwards)
    elif name == "StackedRNNCells":
        if not value.cells:
            raise ValueError(f"{path}.cells: expected at least one cell, got none")
        for k, cell in enumerate(value.cells):
            yield from _walk(f"{path}.cells[{k}]", cell, tuple(_CELLS), k, reverse)


def _class_name(path: str, value: Any, expected: tuple[str, ...]) -> str:
    """The class of `keras.layers` that a value is one of, where it has no method of its own."""
    keras = sys.modules.get("keras")
    version = str(getattr(keras, "__version__", ""))
    classes = {name: getattr(keras.layers, name) for name in expected} if keras and version.startswith("3.") else {}
    name = next((name for name, known in classes.items() if isinstance(value, known)), None)
    got = _full_name(type(value)) + (f" of Keras {version}" if version and not classes else "")
    if name is None:
        cure = "; give one of its layers" if hasattr(value, "layers") else ""
        if isinstance(value, list):
            cure = "; give the layer itself, which knows its class, options and names beside get_weights()"
        raise TypeError(f"{path}: expected {', '.join(expected)} of Keras 3, got {got}{cure}")
    own = _own_methods(value, classes[name])
    if own:
        cure = f"a plain {name} that computes the same may take its weights, by set_weights"
        raise TypeError(f"{path}: expected {name} itself, got {got}, which has {', '.join(own)} of its own; {cure}")
    return name


def _own_methods(value: Any, known: type) -> list[str]:
    """Methods and properties of Keras's class that a layer or its subclass overrides, but for Python's own names."""
    kind = type(value)
    between = kind.__mro__[: kind.__mro__.index(known)]
    names = {name for cls in between for name in vars(cls) if hasattr(known, name)}
    names |= {name for name, own in vars(value).items() if callable(getattr(known, name, None))} - _wrapped(value)
    return [name for name in sorted(names) if name == "__call__" or not (name.startswith("__") or name in _INERT)]


def _wrapped(value: Any) -> set[str]:
    """Attributes that Keras itself sets on every layer: functions around the methods `build` and `quantize`."""
    return {
        name
        for name, own in vars(value).items()
        if isinstance(own, types.FunctionType)
        and own.__globals__.get("__name__", "").startswith("keras.")
        and getattr(getattr(own, "__wrapped__", None), "__func__", None) is getattr(type(value), name, own)
    }


def _full_name(thing: Any) -> str:
    """A class or function with its module, and anything else as it shows itself."""
    if not hasattr(thing, "__qualname__"):
        return _check.shown(thing)
    return f"{thing.__module__}.{thing.__qualname__}".removeprefix("builtins.")


def _check_dtypes(parts: list[_Part]) -> None:
    """One dtype for weights, arithmetic and results: inputs and outputs are cast between parts of different ones."""
    whole = parts[0].value.dtype_policy.name
    for path, value, *_ in parts:
        name = value.dtype_policy.name
        if name not in ("float32", "float64"):
            cure = "a layer of dtype 'float32' may take its weights, by set_weights"
            raise TypeError(f"{path}.dtype_policy: expected 'float32' or 'float64', got {name!r}; {cure}")
        if name != whole:
            cure = "Keras would cast from one to the other; make all of one dtype"
            raise TypeError(f"{path}.dtype_policy: expected {whole!r}, that of {parts[0].path}, got {name!r}; {cure}")


def _check_bidirectional(layer: Any, cells: list[_Part]) -> None:
    """Raise where outputs are not those of two layers side by side, each at the time of its input."""
    each = "load layer.forward_layer and layer.backward_layer by themselves"
    if layer.merge_mode != "concat":
        raise ValueError(f"layer.merge_mode: expected 'concat', got {layer.merge_mode!r}; {each} and merge their y")
    for name, expected in (("forward_layer", False), ("backward_layer", True)):
        if bool(got := getattr(layer, name).go_backwards) != expected:
            why = "with which Keras joins outputs of different times"
            raise ValueError(f"layer.{name}.go_backwards: expected {expected}, got {got}, {why}; {each}")
    if len(cells) > 2:
        why = "since a direction would read its own outputs alone, while a bidirectional stack reads both"
        raise ValueError(f"layer.forward_layer.cell: expected one cell, {why}, got {len(cells) // 2}; {each}")


def _common_options(cells: list[_Part], cure: str) -> dict[str, Any]:
    """Options of the params, which all cells must share."""
    first = cells[0]
    options = _options(first)
    for other in cells[1:]:
        if other.name != first.name:
            raise TypeError(f"{other.path}: expected {first.name}, as {first.path} is, got {other.name}; {cure}")
        for name, value in _options(other).items():
            if value != options[name]:
                expected = f"{options[name]!r}, that of {first.path}"
                raise ValueError(f"{other.path}.{name}: expected {expected}, got {value!r}; {cure}")
    del options["units"]
    return options


def _options(cell: _Part) -> dict[str, Any]:
    options: dict[str, Any] = {"units": cell.value.units}
    for name in _CELLS[cell.name].options:
        value = getattr(cell.value, name)
        options[name] = value if name in _CELLS[cell.name].cell.flags else _activation(f"{cell.path}.{name}", value)
    return options


def _activation(path: str, function: Any) -> str:
    """The name of one of Keras's functions; by identity, since any function may be called tanh."""
    activations = sys.modules["keras"].activations
    for name in _ACTIVATIONS:
        if function is getattr(activations, name):
            return name
    raise ValueError(f"{path}: expected {', '.join(_ACTIVATIONS)} of keras.activations, got {_full_name(function)}")


def _weights(cell: _Part) -> Iterator[tuple[str, Array]]:
    """A cell's weights in PyTorch's names, gate order and layout."""
    if not cell.value.built:
        cure = "call the layer on an input, or its build on the shape of one"
        raise ValueError(f"{cell.path}: expected weights, got a cell that is not built; {cure}")
    numpy = sys.modules["keras"].ops.convert_to_numpy
    reset_after = cell.name == "GRUCell" and cell.value.reset_after

    kind, units = _CELLS[cell.name], cell.value.units
    width = len(kind.gates) * units

    def gates(name: str, *rows: int | str) -> Array:
        variable = getattr(cell.value, name)
        got = tuple(getattr(variable, "shape", ()))
        if len(got) != len(rows) + 1 or any(n != m for n, m in zip(got, (*rows, width)) if m != "I"):
            expected = f"({''.join(f'{n}, ' for n in rows)}{width}{'' if rows else ','})"
            raise ValueError(f"{cell.path}.{name}: expected {expected}, got {got if got else _check.shown(variable)}")
        return kind.reorder(numpy(variable))

    yield "weight_ih", gates("kernel", "I").T
    yield "weight_hh", gates("recurrent_kernel", units).T
    # As a call of Keras decides: `use_bias` may have been set after the build.
    if cell.value.bias is not None if cell.name == "SimpleRNNCell" else cell.value.use_bias:
        bias = gates("bias", *[2] * reset_after)
        yield "bias_ih", bias[0] if reset_after else bias
        if reset_after:
            yield "bias_hh", bias[1]
