"""Nodes that change no number, as NumPy's views: what exporters write between recurrent nodes.

Only nodes whose axes and shapes are constants, and transpositions that leave the last axis the last one: fastrnn takes
any distance between rows, but numbers of a row lie beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fastrnn.onnx.graph import Graph, Step

Array = NDArray[Any]
View = Callable[[Array], Array]
Constants = Mapping[str, Array]


def _attributes(step: Step) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in step.proto.attribute}


def _transpose(step: Step, _: Constants) -> View:
    perm = tuple(_attributes(step)["perm"])
    return lambda array: array.transpose(perm)


def _axes(step: Step, constants: Constants) -> tuple[int, ...] | None:
    """Axes, which newer opsets have as an input."""
    if len(step.proto.input) > 1 and step.proto.input[1]:
        return tuple(int(axis) for axis in constants[step.proto.input[1]])
    axes = _attributes(step).get("axes")
    return None if axes is None else tuple(axes)


def _squeeze(step: Step, constants: Constants) -> View:
    axes = _axes(step, constants)
    return lambda array: array.squeeze(axes)


def _unsqueeze(step: Step, constants: Constants) -> View:
    axes = _axes(step, constants)
    if axes is None:
        raise ValueError("axes: expected an input or an attribute, got none")
    return lambda array: np.expand_dims(array, axes)


def _reshape(step: Step, constants: Constants) -> View:
    shape = [int(size) for size in constants[step.proto.input[1]]]
    kept = [] if _attributes(step).get("allowzero") else [axis for axis, size in enumerate(shape) if size == 0]

    def view(array: Array) -> Array:
        sizes = list(shape)
        for axis in kept:
            sizes[axis] = array.shape[axis]
        return array.reshape(sizes)

    return view


def _identity(_: Step, __: Constants) -> View:
    return lambda array: array


_VIEWS = {
    "Identity": _identity,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def can_be_view(step: Step, graph: Graph) -> bool:
    """Whether a node is one of these, but for where its first input comes from."""
    if step.op not in _VIEWS or len(step.writes) != 1 or not step.proto.input:
        return False
    if step.op == "Transpose":
        perm: Any = _attributes(step).get("perm")
        return bool(perm) and perm[-1] == len(perm) - 1
    first, *others = step.proto.input
    if step.op == "Reshape" and not (others and others[0]):
        return False
    return first not in others and graph.constants.issuperset(name for name in others if name)


def view_of(step: Step, constants: Constants) -> View:
    """The view that a node means."""
    return _VIEWS[step.op](step, constants)
