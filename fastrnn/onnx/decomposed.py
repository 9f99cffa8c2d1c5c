"""Models without a recurrent node: whether a layer may be in them, written out in single operators."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastrnn.onnx.model import graphs
from fastrnn.onnx.scope import DEFAULT_DOMAIN

_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger")
_ACTIVATIONS = ("Tanh", "Sigmoid")
_CURE = (
    "fastrnn.from_torch takes the module or its state_dict, fastrnn.from_keras the layer; "
    "torch.onnx.export(..., dynamo=False) writes nn.RNN, nn.LSTM and nn.GRU as such nodes"
)


def remark(model: Any) -> str:
    """What may be a layer in other operators, and what to do; "" where nothing is like one."""
    for scope, graph in graphs(model, None):
        found = Counter(node.op_type for node in graph.node if node.domain in DEFAULT_DOMAIN)
        if _may_be_a_layer(found, scope.repeated):
            counts = ", ".join(f"{found[op]} {op}" for op in (*_PRODUCTS, *_ACTIVATIONS) if found[op])
            return f"{scope.where} has {counts}, which may be a layer written out in single operators: {_CURE}"
    return ""


def _may_be_a_layer(found: Counter[str], repeated: bool) -> bool:
    """Products and activations in a body that is repeated; elsewhere as many as one step of the smallest cell has."""
    products = sum(found[op] for op in _PRODUCTS)
    if repeated:
        return products > 0 and any(found[op] for op in _ACTIVATIONS)
    return products > 1 and found["Tanh"] > 0
