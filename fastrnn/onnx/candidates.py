"""Recurrent nodes of a graph that can run on fastrnn outside of ONNX Runtime, and why the others can't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from fastrnn._types import Precision
from fastrnn.onnx.graph import Graph, Step
from fastrnn.onnx.load import labels, weights_of
from fastrnn.onnx.model import Node, recurrent_nodes
from fastrnn.onnx.node import INPUTS, OPERATORS, QUANTIZED_INPUTS, WEIGHTS, Layer
from fastrnn.onnx.scope import named
from fastrnn.params import GRUParams, LSTMParams, RNNParams

# What leaves zeros zeros. With Expand the first input decides, and with ConstantOfShape an attribute.
_KEEP_ZEROS = {"Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}


@dataclass(eq=False)
class Candidate:
    """A node that can be cut out, its weights packed."""

    label: str
    step: Step
    layer: Layer
    params: RNNParams | LSTMParams | GRUParams
    inputs: dict[str, str]  # X, sequence_lens, initial_h, initial_c where there are any: names of tensors

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of Y, Y_h and Y_c, "" for an absent one."""
        names = tuple(self.step.proto.output)
        return names + ("",) * (len(OPERATORS[self.layer.op].outputs) - len(names))


def find_candidates(
    model: Any, folder: str | None, graph: Graph, precision: Precision | None, requantize: bool
) -> tuple[list[Candidate], dict[str, str]]:
    """What can be cut, and labels of what can't, with reasons."""
    steps = {step.writes[0]: step for step in graph.steps if step.writes}
    nodes = recurrent_nodes(model, folder)
    found, kept = [], {}
    for label, node in zip(labels(nodes), nodes, strict=True):
        try:
            layer = _layer(node)
            params = weights_of(node, layer, precision, requantize)
            for which in (*WEIGHTS, *QUANTIZED_INPUTS):
                if node.has(which) and _name(node, which) not in graph.constants:
                    raise ValueError(f"{which}: expected a constant, got an input of the graph with a default")
        except ValueError as error:
            kept[label] = str(error)
            continue
        inputs = {which: _name(node, which) for which in INPUTS if which not in WEIGHTS and node.has(which)}
        for which in ("initial_h", "initial_c"):
            if which in inputs and _is_zeros(inputs[which], graph):
                del inputs[which]
        found.append(Candidate(label, steps[node.output], layer, params, inputs))
    return found, kept


def _layer(node: Node) -> Layer:
    if node.scope.outer is not None or node.scope.where != "the graph":
        raise ValueError(f"it lies in {node.scope.where}, which ONNX Runtime runs as a whole")
    if not node.output:
        raise ValueError("it has no output")
    layer = node.layer()
    with named("X"):
        if not node.has("X"):
            raise ValueError("expected an input of the node, got none")
    return layer


def _name(node: Node, which: str) -> str:
    return str(node.proto.input[(*INPUTS, *QUANTIZED_INPUTS).index(which)])


def _is_zeros(name: str, graph: Graph) -> bool:
    """Whether a state is zeros of a computed shape, as exporters write it: a call without a state starts from these."""
    for _ in graph.steps:
        step = graph.writer.get(name)
        if step is None or step.op not in _KEEP_ZEROS or not step.proto.input:
            break
        name = step.proto.input[0]
        if step.op == "Expand" and _is_zero_tensor(_tensor(name, graph)):
            return True
    step = graph.writer.get(name)
    if step is None or step.op != "ConstantOfShape":
        return False
    return all(_is_zero_tensor(attribute.t) for attribute in step.proto.attribute)


def _tensor(name: str, graph: Graph) -> Any:
    """A small constant that is written down, or None."""
    step = graph.writer.get(name)
    if step is not None and step.op == "Constant":
        return next((attribute.t for attribute in step.proto.attribute if attribute.name == "value"), None)
    return graph.initializers.get(name) if name in graph.constants else None


def _is_zero_tensor(tensor: Any) -> bool:
    if not isinstance(tensor, onnx.TensorProto) or onnx.external_data_helper.uses_external_data(tensor):
        return False
    if tensor.HasField("raw_data"):
        return not any(tensor.raw_data)
    return not any(tensor.float_data) and not any(tensor.double_data)
