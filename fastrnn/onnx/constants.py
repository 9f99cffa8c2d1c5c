"""Values of a model that depend on constants alone: found, and computed.

A constant is an initializer, a Constant node, or what nodes of the operators below make of constants. ONNX's own shape
inference says how large the outputs of a node are before it is run, and refuses what its operator does not take in the
model's opset; ONNX's reference evaluator runs it, a node at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check
from fastrnn._untrusted import Entry, said_of
from fastrnn.onnx.scope import DEFAULT_DOMAIN, Scope, named
from fastrnn.onnx.tensors import kind_of, nbytes_of, onnx, to_array

Array = NDArray[Any]

# Operators that move numbers or do simple arithmetic: no bodies, no chance, no text, and no more work than their inputs
# and outputs are large.
COMPUTED = (
    *("Identity", "Slice", "Concat", "Split", "Unsqueeze", "Squeeze", "Transpose", "Reshape", "Flatten", "Gather"),
    *("Expand", "Tile", "Shape", "Size", "ConstantOfShape", "Cast", "CastLike", "Neg", "Add", "Sub", "Mul", "Div"),
    *("ReduceL2", "Equal", "Where", "DequantizeLinear"),
)
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike")  # beside those without inputs
_MOST_SIZES = 1000  # numbers of an input that sizes depend on


class NotConstantError(ValueError):
    """A value depends on an input of the graph, on chance, or on a node with bodies."""


class _Step(NamedTuple):
    """A tensor, or a node whose outputs are wanted, in the scope that its inputs are looked up in."""

    scope: Scope
    source: Any


def is_constant(scope: Scope, name: str) -> bool:
    """Whether a value depends on constants alone."""
    try:
        _steps(scope, name)
    except NotConstantError:
        return False
    return True


def constant(scope: Scope, name: str) -> Entry:
    """The constant of a name: computed; or, where it is in the model as it is, a tensor that is read when it is wanted.

    The shape of such a tensor is what the model says, not yet compared with the data.
    """
    steps = _steps(scope, name)
    scope, source = scope.find(name)
    while _is(source, "Identity") and len(source.input) == len(source.output) == 1:
        name = source.input[0]
        scope, source = scope.find(name)
    tensor = _tensor_of(source, name)
    if tensor is not None:
        return Entry(tuple(tensor.dims), kind_of(tensor.data_type).dtype, partial(_read, tensor, scope))
    array = _compute(steps)[id(source)][name]
    return Entry(array.shape, array.dtype.name, lambda: array)


# Which steps a value is computed by.


def _is(source: Any, *operators: str) -> bool:
    return isinstance(source, onnx.NodeProto) and source.op_type in operators and source.domain in DEFAULT_DOMAIN


def _steps(scope: Scope, name: str) -> list[_Step]:
    """What computes a value, each step after those that it needs. A loop, since chains may be long."""
    wanted, done, entered = name, dict[int, _Step](), set[int]()
    stack = [(name, *scope.find(name))]
    while stack:
        name, at, source = stack[-1]
        if id(source) in done:
            stack.pop()
            continue
        scope.budget.follow()
        inputs = _inputs(name, at, source, wanted)
        waiting = [(other, *found) for other, found in inputs.items() if id(found[1]) not in done]
        if waiting:
            if any(id(source) in entered for _, _, source in waiting):
                raise ValueError(f"expected a constant, got {_depending(wanted, name)}, which depends on itself")
            entered.add(id(source))
            stack += waiting
            continue
        if isinstance(source, onnx.NodeProto) and not _is(source, "Constant", *COMPUTED):
            got = f"{_depending(wanted, name)}, which a node {_check.shown(source.op_type)} computes"
            raise ValueError(f"expected a constant, got {got}; a model with its constants folded may do")
        done[id(source)] = _Step(at, source)
        stack.pop()
    return [*done.values()]


def _inputs(name: str, at: Scope, source: Any, wanted: str) -> dict[str, tuple[Scope, Any]]:
    """What a step takes, by names; an error where it is no constant, whatever it takes."""
    if source is None:
        raise NotConstantError(f"expected a constant, got {_depending(wanted, name)}, an input of {at.where}")
    if not isinstance(source, onnx.NodeProto) or _is(source, "Constant"):
        return {}
    has_bodies = any(attribute.HasField("g") or attribute.graphs for attribute in source.attribute)
    if has_bodies or _is(source, *_RANDOM) or not any(source.input):
        got = f"{_depending(wanted, name)}, which a node {_check.shown(source.op_type)} computes"
        raise NotConstantError(f"expected a constant, got {got}")
    return {other: at.find(other) for other in source.input if other}


def _depending(wanted: str, name: str) -> str:
    shown = _check.shown(name)
    return shown if name == wanted else f"{_check.shown(wanted)}, which depends on {shown}"


# Tensors.


def _tensor_of(source: Any, name: str) -> Any:
    """The tensor of an initializer or a Constant; None of another node."""
    if _is(source, "Constant"):
        source = _value(source)
    if isinstance(source, onnx.SparseTensorProto):
        raise ValueError(f"expected a dense constant, got {_check.shown(name)}, a sparse one")
    return source if isinstance(source, onnx.TensorProto) else None


def _value(node: Any) -> Any:
    """The tensor of a Constant, sparse or dense; numbers that it lists are made one."""
    if len(node.output) != 1:
        raise ValueError(f"expected a Constant with one output, got {len(node.output)}")
    if len(node.attribute) != 1 or node.attribute[0].ref_attr_name:
        raise ValueError(f"expected a Constant with one attribute that has a value, got {len(node.attribute)}")
    (attribute,) = node.attribute
    if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
        return attribute.sparse_tensor
    if attribute.name == "value" and attribute.HasField("t"):
        return attribute.t
    numbers = {
        "value_float": (attribute.f, np.float32),
        "value_floats": (attribute.floats, np.float32),
        "value_int": (attribute.i, np.int64),
        "value_ints": (attribute.ints, np.int64),
    }
    if attribute.name not in numbers:
        raise ValueError(f"expected a Constant of numbers, got its attribute {_check.shown(attribute.name)}")
    listed, dtype = numbers[attribute.name]
    return onnx.numpy_helper.from_array(np.array(listed, dtype))


def _read(tensor: Any, scope: Scope) -> Array:
    array = to_array(tensor, scope.folder)
    scope.budget.note(tensor, array.nbytes)
    return array


# Computation.


def _compute(steps: list[_Step]) -> dict[int, dict[str, Array]]:
    """The outputs of each step, by the identity of its source."""
    values: dict[int, dict[str, Array]] = {}
    for scope, source in steps:
        is_node = isinstance(source, onnx.NodeProto)
        name = next((output for output in source.output if output), "") if is_node else source.name
        tensor = _tensor_of(source, name)
        with named(_check.shown(name)):
            if tensor is not None:
                values[id(source)] = {name: _read(tensor, scope)}
                continue
            arrays = [values[id(scope.find(other)[1])][other] if other else None for other in source.input]
            values[id(source)] = _run(source, scope, arrays)
    return values


def _run(node: Any, scope: Scope, arrays: list[Array | None]) -> dict[str, Array]:
    """The outputs of one node."""
    from onnx.reference import ReferenceEvaluator  # here, since loading it takes longer than all else

    if scope.opset is None:
        raise ValueError("opset_import: expected a version of ONNX's own domain, got none")
    alone = _alone(node, arrays)
    feeds = {name: array for name, array in zip(alone.input, arrays, strict=True) if array is not None}
    what = f"inputs and attributes that the operator takes in opset {scope.opset}"
    with said_of(_check.shown(node.op_type), what):
        types = _infer(alone, feeds, scope.opset)
        sizes = {name: (one.elem_type, _dims(one)) for name, one in types.items()}
        nbytes = sum(nbytes_of(*size) for size in sizes.values())
    scope.budget.take(nbytes)
    with said_of(_check.shown(node.op_type), what), np.errstate(all="ignore"):
        results = ReferenceEvaluator(_model(alone, feeds, types, scope.opset)).run(None, feeds)
        for (kind, dims), array in zip(sizes.values(), results, strict=True):
            if array.shape != dims or array.dtype.name != kind_of(kind).dtype:
                expected = f"{kind_of(kind).dtype} {dims}, as its shape is inferred"
                raise ValueError(f"{array.dtype} {array.shape} where {expected}")
    return dict(zip((name for name in node.output if name), results, strict=True))


def _alone(node: Any, arrays: list[Array | None]) -> Any:
    """The node with names of our own, and with tensors in its attributes that are known to be whole."""
    names = ["" if array is None else f"i{place}" for place, array in enumerate(arrays)]
    outputs = [f"o{place}" if name else "" for place, name in enumerate(node.output)]
    alone = onnx.NodeProto(op_type=node.op_type, input=names, output=outputs)
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise ValueError(f"{_check.shown(attribute.name)}: expected a value, got that of whoever calls a function")
        if attribute.name == "num_outputs" and attribute.i != len(outputs):  # shape inference takes memory for each
            raise ValueError(f"num_outputs: expected {len(outputs)}, the outputs of the node, got {attribute.i}")
        copy = alone.attribute.add()
        copy.CopyFrom(attribute)
        if attribute.HasField("t"):
            copy.t.CopyFrom(onnx.numpy_helper.from_array(to_array(attribute.t, None)))
    return alone


def _infer(alone: Any, feeds: Mapping[str, Array], opset: int) -> dict[str, Any]:
    """Types of the outputs, in their order, with sizes as far as these follow from the inputs."""
    helper = onnx.helper
    schema = onnx.defs.get_schema(alone.op_type, opset)
    types = {
        name: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    }
    data = {
        name: onnx.numpy_helper.from_array(array)
        for name, array in feeds.items()
        if array.dtype.kind == "i" and array.size <= _MOST_SIZES
    }
    imports = [helper.make_opsetid("", opset)]
    inferred = onnx.shape_inference.infer_node_outputs(schema, alone, types, data, opset_imports=imports)
    return {name: inferred[name].tensor_type for name in alone.output if name}


def _dims(kind: Any) -> tuple[int, ...]:
    dims = kind.shape.dim
    if not kind.HasField("shape") or not all(dim.HasField("dim_value") for dim in dims):
        raise ValueError("an output of unknown size")
    return tuple(dim.dim_value for dim in dims)


def _model(alone: Any, feeds: Mapping[str, Array], types: Mapping[str, Any], opset: int) -> Any:
    helper = onnx.helper
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name, type=onnx.TypeProto(tensor_type=kind)) for name, kind in types.items()]
    graph = helper.make_graph([alone], "node", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
