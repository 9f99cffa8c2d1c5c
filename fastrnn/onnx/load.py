"""Recurrent nodes of a model as params: which node is meant, what it holds, and a model of it alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from fastrnn import _check
from fastrnn._names import listed
from fastrnn.onnx.model import Node, named, opened
from fastrnn.onnx.node import OPERATORS, VERSIONS, WEIGHTS, Layer, check_shapes, make_params

if TYPE_CHECKING:
    from onnx import ModelProto

    from fastrnn.params import GRUParams, LSTMParams, RNNParams

_DESCRIBED = methodcaller("described")
_STATE = "params have no state: take the input off the node and pass state= to the call"
_NOT_OF_PARAMS = {
    "sequence_lens": "params have no lengths: take the input off the node and pass lengths= to the call",
    "initial_h": _STATE,
    "initial_c": _STATE,
}


def params_of(path_or_model: Any, node: str | None = None) -> RNNParams | LSTMParams | GRUParams:
    """What `fastrnn.from_onnx` documents."""
    if node is not None and not isinstance(node, str):
        raise TypeError(f"node: expected a str or None, got {type(node).__name__}")
    with opened(path_or_model) as nodes:
        return _params(_pick(nodes, node))


def loaders(path_or_model: Any) -> dict[str, Callable[[], RNNParams | LSTMParams | GRUParams]]:
    """A function that loads each recurrent node, or raises, by a label of the node's own."""
    with opened(path_or_model) as nodes:
        return {label: partial(_params, node) for label, node in zip(labels(nodes), nodes, strict=True)}


def labels(nodes: list[Node]) -> list[str]:
    """A node's name, or its first output, where that picks it alone; or its place among the recurrent nodes: "#3"."""
    names, outputs = Counter(node.proto.name for node in nodes), Counter(node.output for node in nodes)
    labels = []
    for place, node in enumerate(nodes, 1):
        label = f"#{place}"
        while label in names or label in outputs:
            label = f"#{label}"
        if node.proto.name and names[node.proto.name] == 1:
            label = node.proto.name
        elif node.output and outputs[node.output] == 1 and node.output not in names:
            label = node.output
        labels.append(label)
    return labels


def one_node_model(path_or_model: Any, node: str | None = None) -> ModelProto:
    """A model of one node alone, for other runtimes: X (T, B, I), then Y, Y_h and, of an LSTM, Y_c.

    Only of a node that can be loaded. `layout` is left out, since ONNX Runtime does not know it.
    """
    import onnx

    helper = onnx.helper
    with opened(path_or_model) as nodes:
        picked = _pick(nodes, node)
        params = _params(picked)
        tensors = [onnx.numpy_helper.from_array(picked.array(which), which) for which in WEIGHTS if picked.has(which)]
    operator = OPERATORS[picked.op]
    names = [which if which == "X" or (which in WEIGHTS and picked.has(which)) else "" for which in operator.inputs]
    outputs = operator.outputs
    attributes = {name: value for name, value in picked.attributes().items() if name != "layout"}
    attributes["hidden_size"] = params.hidden_size  # which ONNX Runtime wants
    alone = helper.make_node(picked.op, names, outputs, "node", **attributes)
    kind, value = helper.np_dtype_to_tensor_dtype(params.dtype), helper.make_tensor_value_info
    x = value("X", kind, ["T", "B", params.input_size])
    graph = helper.make_graph([alone], "node", [x], [value(name, kind, None) for name in outputs], tensors)
    # The oldest opset in which the operator is this one, since ONNX Runtime may not know the model's.
    opset = max(version for version in VERSIONS if version <= (picked.scope.opset or 0))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _pick(nodes: list[Node], wanted: str | None) -> Node:
    if not nodes:
        raise ValueError("path_or_model: expected a model with an RNN, LSTM or GRU node, got one without")
    if wanted is None:
        if len(nodes) > 1:
            raise ValueError(f"node: expected the name of one of {listed(nodes, _DESCRIBED)}, got None")
        return nodes[0]
    found = [node for node in nodes if wanted and node.proto.name == wanted]
    found = found or [node for node in nodes if wanted and wanted in node.proto.output]
    if not found:
        raise ValueError(f"node: expected one of {listed(nodes, _DESCRIBED)}, got {_check.shown(wanted)}")
    if len(found) > 1:
        got = f"{_check.shown(wanted)}, the name of {len(found)} of them: {listed(found, _DESCRIBED)}"
        raise ValueError(f"node: expected a name that one node has, got {got}; an output's name may tell them apart")
    return found[0]


def _params(node: Node) -> RNNParams | LSTMParams | GRUParams:
    with named(f"node {_check.shown(node.name)}"):
        layer = node.layer()
        for which, why in _NOT_OF_PARAMS.items():
            with named(which):
                _refuse_constant(node, which, why)
        return weights_of(node, layer)


def weights_of(node: Node, layer: Layer) -> RNNParams | LSTMParams | GRUParams:
    """The params of a node whose attributes were read, whatever its states and lengths are."""
    present = [which for which in WEIGHTS if which in "WR" or node.has(which)]
    tensors, arrays = {}, {}
    for which in present:
        with named(which):
            tensors[which] = node.tensor(which)
    check_shapes(layer, {which: tuple(tensor.dims) for which, tensor in tensors.items()})  # before data are read
    for which in present:
        with named(which):
            arrays[which] = node.array(which)
    return make_params(layer, arrays)


def _refuse_constant(node: Node, which: str, why: str) -> None:
    """Raise for constant lengths or states, but for zeros, which a call starts from; other inputs are the caller's."""
    if not node.has(which) or not node.is_constant(which):
        return
    if which == "sequence_lens" or node.array(which).any():
        raise ValueError(f"expected none, or an input of the graph, got a constant; {why}")
