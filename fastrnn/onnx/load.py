"""Recurrent nodes of a model as params: which node is meant, what it holds, and a model of it alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _check
from fastrnn._arrays import NEEDS_CONVERSION
from fastrnn._names import listed
from fastrnn._options import check_dtype
from fastrnn._precision import OF_BYTES, Quantized, check_precision
from fastrnn._types import Precision, TargetName
from fastrnn.config import resolve_target
from fastrnn.onnx import quantized
from fastrnn.onnx.decomposed import remark
from fastrnn.onnx.model import Node, opened, opened_model, recurrent_nodes
from fastrnn.onnx.node import (
    FLOATS,
    OPERATORS,
    VERSIONS,
    WEIGHTS,
    Layer,
    check_shapes,
    make_params,
    make_quantized_params,
)
from fastrnn.onnx.scope import named

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from onnx import ModelProto

    from fastrnn._untrusted import Entry
    from fastrnn.params import GRUParams, LSTMParams, RNNParams

_DESCRIBED = methodcaller("described")
_NARROW = ("float16", "bfloat16")  # weights that params convert
_STATE = "params have no state: take the input off the node and pass state= to the call"
_NOT_OF_PARAMS = {
    "sequence_lens": "params have no lengths: take the input off the node and pass lengths= to the call",
    "initial_h": _STATE,
    "initial_c": _STATE,
}


def params_of(
    path_or_model: Any,
    node: str | None = None,
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
) -> RNNParams | LSTMParams | GRUParams:
    """What `fastrnn.from_onnx` documents."""
    if node is not None and not isinstance(node, str):
        raise TypeError(f"node: expected a str or None, got {type(node).__name__}")
    check_dtype(dtype)
    check_precision(precision)
    resolve_target(target)
    requantize = bool(_check.flag("requantize", requantize))
    with opened_model(path_or_model) as (model, folder):
        return _params(_pick(model, folder, node), dtype, target, precision, requantize=requantize)


def remark_on(path_or_model: Any) -> str:
    """What may be a layer where a model has no recurrent node, and what to do; "" where nothing is like one."""
    with opened_model(path_or_model) as (model, _):
        return remark(model)


def loaders(path_or_model: Any) -> dict[str, Callable[[], RNNParams | LSTMParams | GRUParams]]:
    """A function that loads each recurrent node, or raises, by a label of the node's own."""
    with opened(path_or_model) as nodes:
        return {label: partial(_params, node, widen=True) for label, node in zip(labels(nodes), nodes, strict=True)}


def labels(nodes: list[Node]) -> list[str]:
    """A node's name, or its first output, where that picks it alone; or its place among the recurrent nodes: "#3"."""
    names, outputs = Counter(node.proto.name for node in nodes), Counter(node.output for node in nodes)
    found = []
    for place, node in enumerate(nodes, 1):
        label = f"#{place}"
        while label in names or label in outputs:
            label = f"#{label}"
        if node.proto.name and names[node.proto.name] == 1:
            label = node.proto.name
        elif node.output and outputs[node.output] == 1 and node.output not in names:
            label = node.output
        found.append(label)
    return found


def one_node_model(path_or_model: Any, node: str | None = None, dtype: DTypeLike | None = None) -> ModelProto:
    """A model of one node alone, for other runtimes: X (T, B, I), then Y, Y_h and, of an LSTM, Y_c.

    Only of a node that can be loaded; in the dtype of its params. `layout` is left out, since ONNX Runtime does not
    know it.
    """
    import onnx

    helper = onnx.helper
    with opened_model(path_or_model) as (model, folder):
        picked = _pick(model, folder, node)
        wide: Precision | None = "float32" if picked.is_quantized and check_dtype(dtype) != np.float64 else None
        params = _params(picked, dtype, precision=wide)  # floats hold any bytes
        entries = {which: picked.constant(which) for which in WEIGHTS if picked.has(which)}
        arrays = {which: array.astype(params.dtype) for which, array in _floats(picked, entries).items()}
    op = quantized.AS if picked.is_quantized else picked.op
    operator = OPERATORS[op]
    names = [which if which == "X" or which in arrays else "" for which in operator.inputs]
    outputs = operator.outputs
    attributes = {name: value for name, value in picked.attributes().items() if name != "layout"}
    attributes["hidden_size"] = params.hidden_size  # which ONNX Runtime wants
    alone = helper.make_node(op, names, outputs, "node", **attributes)
    kind, value = helper.np_dtype_to_tensor_dtype(params.dtype), helper.make_tensor_value_info
    x = value("X", kind, ["T", "B", params.input_size])
    tensors = [onnx.numpy_helper.from_array(array, which) for which, array in arrays.items()]
    graph = helper.make_graph([alone], "node", [x], [value(name, kind, None) for name in outputs], tensors)
    # The oldest opset in which the operator is this one, since ONNX Runtime may not know the model's.
    opset = max((version for version in VERSIONS if version <= (picked.scope.opset or 0)), default=VERSIONS[0])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _pick(model: ModelProto, folder: str | None, wanted: str | None) -> Node:
    nodes = recurrent_nodes(model, folder)
    if not nodes:
        instead = remark(model)
        said = "path_or_model: expected a model with an RNN, LSTM or GRU node, got one without"
        raise ValueError(f"{said}; {instead}" if instead else said)
    if wanted is None:
        if len(nodes) > 1:
            raise ValueError(f"node: expected the name of one of {listed(nodes, _DESCRIBED)}, got None")
        return nodes[0]
    found = [node for node in nodes if wanted and node.proto.name == wanted]
    found = found or [node for node in nodes if wanted and wanted in node.proto.output]
    found = found or [node for label, node in zip(labels(nodes), nodes, strict=True) if label == wanted]
    if not found:
        raise ValueError(f"node: expected one of {listed(nodes, _DESCRIBED)}, got {_check.shown(wanted)}")
    if len(found) > 1:
        picks = [label for label, node in zip(labels(nodes), nodes, strict=True) if any(node is one for one in found)]
        got = f"{_check.shown(wanted)}, the name of {len(found)} of them: {listed(found, _DESCRIBED)}"
        raise ValueError(f"node: expected a name that one node has, got {got}; take {listed(picks)}")
    return found[0]


def _params(
    node: Node,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    *,
    widen: bool = False,
    requantize: bool = False,
) -> RNNParams | LSTMParams | GRUParams:
    """The params of a node; `widen` makes float32 of weights of 16 bits where neither dtype nor precision is given."""
    with named(f"node {_check.shown(node.name)}"):
        layer = node.layer()
        entries, hidden_size = _entries(node, layer, widen or dtype is not None or precision is not None)
        if widen and dtype is None and any(entry.dtype in _NARROW for entry in entries.values()):
            dtype = "float32"
        for which in _NOT_OF_PARAMS:
            with named(which):
                _refuse_constant(node, which, layer, hidden_size)
        return _made(node, layer, entries, dtype, target, precision, requantize)


def weights_of(
    node: Node, layer: Layer, precision: Precision | None, requantize: bool
) -> RNNParams | LSTMParams | GRUParams:
    """The params of a node whose attributes were read, whatever its states and lengths are; they take X as it is."""
    with named("W"):
        held = "float32" if node.is_quantized else node.constant("W").dtype
    needed = "float64" if precision == "float64" else "float32"
    if precision is not None and held != needed:
        raise ValueError(f"X: expected {needed}, since precision is {precision!r}, got {held}")
    entries, _ = _entries(node, layer, False)
    return _made(node, layer, entries, None, None, precision, requantize)


def _made(
    node: Node,
    layer: Layer,
    entries: dict[str, Entry],
    dtype: DTypeLike | None,
    target: TargetName | None,
    precision: Precision | None,
    requantize: bool,
) -> RNNParams | LSTMParams | GRUParams:
    if not node.is_quantized:
        return make_params(layer, _read(entries), dtype, target, precision)
    if precision is None and check_dtype(dtype) != np.float64:
        precision = "int8"
    if precision not in OF_BYTES:
        return make_params(layer, _floats(node, entries), dtype, target, precision)
    vectors = {which: entry for which, entry in entries.items() if which not in "WR"}
    return make_quantized_params(
        layer, _bytes(node), _read(vectors), target=target, precision=precision, requantize=requantize
    )


def _bytes(node: Node) -> dict[str, list[Quantized]]:
    """W and R of a node that is quantized."""
    return {which: quantized.read(which, *(node.constant(name) for name in _names(which))) for which in "WR"}


def _names(which: str) -> tuple[str, str, str]:
    return which, f"{which}_scale", f"{which}_zero_point"


def _floats(node: Node, entries: dict[str, Entry]) -> dict[str, Any]:
    """W, R, and perhaps B and P, as floats."""
    if not node.is_quantized:
        return _read(entries)
    vectors = {which: entry for which, entry in entries.items() if which not in "WR"}
    return {which: quantized.floats_of(matrices) for which, matrices in _bytes(node).items()} | _read(vectors)


def _entries(node: Node, layer: Layer, converted: bool) -> tuple[dict[str, Entry], int]:
    """The weights, unread, with shapes that fit; and the hidden size."""
    entries, shapes = {}, {}
    for which in WEIGHTS:
        if which in "WR" or node.has(which):
            with named(which):
                entries[which], shapes[which] = node.constant(which), node.shape(which)
                if not node.is_quantized:
                    _check_type(entries[which], converted)
                elif which not in "WR" and entries[which].dtype != "float32":
                    raise ValueError(f"expected float32, got {entries[which].dtype}")
    hidden_size = check_shapes(layer, shapes)
    for which in "WR" if node.is_quantized else "":
        sides = []
        for name in _names(which):
            with named(name):
                sides.append(node.constant(name))
        quantized.check_sides(which, *sides)
    return entries, hidden_size


def _read(entries: dict[str, Entry]) -> dict[str, Any]:
    arrays = {}
    for which, entry in entries.items():
        with named(which):
            array = entry.read()
        arrays[which] = array if array.dtype.kind == "f" else array.astype(np.float32)  # bfloat16, exactly
    return arrays


def _check_type(entry: Entry, converted: bool) -> None:
    if entry.dtype in FLOATS or (entry.dtype in _NARROW and converted):
        return
    cure = f"; {NEEDS_CONVERSION}" if entry.dtype in _NARROW else ""
    raise ValueError(f"expected float32 or float64, got {entry.dtype}{cure}")


def _refuse_constant(node: Node, which: str, layer: Layer, hidden_size: int) -> None:
    """Raise for constant lengths or states, but for zeros, which a call starts from; other inputs are the caller's."""
    if not node.has(which) or not node.is_constant(which):
        return
    if which != "sequence_lens":
        state = node.constant(which)
        batch = state.shape[0 if layer.layout else 1] if len(state.shape) == 3 else "B"
        expected = _state_shape(layer, batch, hidden_size)
        if state.shape != expected:
            any_batch = ", ".join(map(str, _state_shape(layer, "B", hidden_size)))
            raise ValueError(f"expected ({any_batch}), got {_check.shown(state.shape)}")
        if not state.read().any():
            return
    raise ValueError(f"expected none, or an input of the graph, got a constant; {_NOT_OF_PARAMS[which]}")


def _state_shape(layer: Layer, batch: int | str, hidden_size: int) -> tuple[int | str, ...]:
    return (batch, layer.directions, hidden_size) if layer.layout else (layer.directions, batch, hidden_size)
