"""Operators RNN, LSTM and GRU for ONNX's reference evaluator, computed by fastrnn.

Packed weights are kept from call to call, and used again for the same weights only. Weights that can't change
(views of `bytes`, as initializers are) are the same where they are the same object. Others are compared, all of their
bits, with a copy that was taken when they were packed: an array that was written to, or one of the same address with
other contents, is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from fastrnn import _check
from fastrnn.onnx.compute import compute
from fastrnn.onnx.node import (
    OPERATORS,
    WEIGHTS,
    Layer,
    check_dtypes,
    make_params,
    read_attributes,
)
from fastrnn.onnx.scope import DEFAULT_DOMAIN, named

if TYPE_CHECKING:
    from fastrnn.params import Params

Array = NDArray[Any]


def _is_frozen(array: Array) -> bool:
    """Whether the memory is that of a `bytes`, which never changes. A read-only view of other memory may."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, bytes)


class _Kept:
    """One array of weights as it was when it was packed."""

    def __init__(self, array: Array) -> None:
        self.source = array if _is_frozen(array) else None
        self.array = array.copy() if self.source is None else array.view()  # a view, since shapes can be assigned to

    def is_still(self, array: Array) -> bool:
        if array.shape != self.array.shape or array.dtype != self.array.dtype:
            return False
        if array is self.source and array.strides == self.array.strides:
            return True
        bits = f"u{array.itemsize}"  # so that a NaN equals itself, and the zeros differ
        return np.array_equal(array.view(bits), self.array.view(bits))


class _PackedNode(NamedTuple):
    """Params, and what they were made of."""

    layer: Layer
    kept: dict[str, _Kept]
    params: Params

    def are_of(self, layer: Layer, weights: Mapping[str, Array]) -> bool:
        return (
            layer == self.layer
            and weights.keys() == self.kept.keys()
            and all(self.kept[name].is_still(array) for name, array in weights.items())
        )


class _Recurrent(OpRun):  # type: ignore[misc]
    """The base of the three operators, which have the names of their classes."""

    op_domain = ""

    def __init__(self, onnx_node: Any, run_params: dict[str, Any]) -> None:
        super().__init__(onnx_node, run_params)
        self._packed: _PackedNode | None = None
        self._layer: Layer | None = None
        given = {attribute.name for attribute in onnx_node.attribute}
        self._given = sorted(given)  # OpRun adds the defaults of the newest opset, which may not be the model's
        opsets = run_params["opsets"]
        self._opset = next(opsets[domain] for domain in DEFAULT_DOMAIN if domain in opsets)
        self._where = f"{type(self).__name__} node {_check.shown(onnx_node.name or next(iter(onnx_node.output), ''))}"

    def _run(self, *inputs: Array | None, **attributes: Any) -> tuple[Array | None, ...]:
        with named(self._where):
            layer = self._read(attributes)
            arrays = self._inputs(layer.op, inputs)
            weights = {name: arrays[name] for name in WEIGHTS if name in arrays}
            results = compute(layer, self._params_of(layer, weights), arrays)
            return tuple(result if name else None for name, result in zip(self.output, results))

    def _read(self, attributes: Mapping[str, Any]) -> Layer:
        """The attributes, read once; at each call where the caller of a function gives them."""
        if self._layer is not None:
            return self._layer
        given = {name: attributes[name] for name in self._given}
        layer = read_attributes(type(self).__name__, given, self._opset)
        if not self.has_linked_attribute:
            self._layer = layer
        return layer

    def _inputs(self, op: str, inputs: tuple[Array | None, ...]) -> dict[str, Array]:
        """The inputs that are given, by name. OpRun hides the message of a TypeError, so all errors are ValueErrors."""
        names, outputs = OPERATORS[op].inputs, OPERATORS[op].outputs
        if len(inputs) > len(names) or len(self.output) > len(outputs):
            most = f"{len(names)} inputs and {len(outputs)} outputs"
            raise ValueError(f"expected at most {most}, got {len(inputs)} and {len(self.output)}")
        arrays: dict[str, Array] = {name: array for name, array in zip(names, inputs) if array is not None}
        for name in ("X", "W", "R"):
            if name not in arrays:
                raise ValueError(f"{name}: expected an input of the node, got none")
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name}: expected a tensor, got {type(array).__name__}")
        if "sequence_lens" in arrays and arrays["sequence_lens"].dtype != np.int32:
            raise ValueError(f"sequence_lens: expected int32, got {arrays['sequence_lens'].dtype}")
        check_dtypes({name: array for name, array in arrays.items() if name != "sequence_lens"})
        return arrays

    def _params_of(self, layer: Layer, weights: Mapping[str, Array]) -> Params:
        packed = self._packed
        if packed is None or not packed.are_of(layer, weights):
            kept = {name: _Kept(array) for name, array in weights.items()}
            params = make_params(layer, {name: entry.array for name, entry in kept.items()})
            packed = self._packed = _PackedNode(layer, kept, params)
        return packed.params

    def _check_and_fix_outputs(self, results: tuple[Array | None, ...]) -> tuple[Array | None, ...]:
        """None for an absent output: its name is "", under which the evaluator looks up the absent inputs of nodes."""
        return results


class RNN(_Recurrent):
    """Elman layers."""


class LSTM(_Recurrent):
    """Long short-term memory."""


class GRU(_Recurrent):
    """Gated recurrent units."""
