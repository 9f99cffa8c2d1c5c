"""Recurrent nodes of an ONNX model, and the constants behind their inputs.

A model is a graph of nodes; nodes may hold graphs (bodies of If, Loop, Scan), and a model may define functions. Nothing
is computed: an input is a constant where it leads, perhaps through Identity nodes, to an initializer or to a Constant.
The file is taken for hostile: an array is made only after its size was compared with the data that is there.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastrnn import _check
from fastrnn._untrusted import check_regular, short
from fastrnn.onnx.node import INPUTS, OPERATORS, Layer, read_attributes

onnx = _check.package("onnx", "fastrnn.onnx", "fastrnn[onnx]")
DecodeError = _check.package("google.protobuf.message", "fastrnn.onnx", "fastrnn[onnx]").DecodeError
Array = NDArray[Any]
DEFAULT_DOMAIN = ("", "ai.onnx")
_RECURRENT = re.compile(r"(RNN|LSTM|GRU)\Z")
_FIELDS = {onnx.TensorProto.FLOAT: ("float_data", 4), onnx.TensorProto.DOUBLE: ("double_data", 8)}


@dataclass(frozen=True)
class Scope:
    """The meaning of names within one graph or function."""

    where: str
    sources: Mapping[str, Any]  # an initializer, a node that has the name among its outputs, or None for an input
    outer: Scope | None
    opset: int | None
    folder: str | None  # of external data; None where the model did not come from a file

    def find(self, name: str) -> tuple[Scope, Any]:
        """Where a name leads through Identity nodes, and from which scope."""
        seen = set()
        scope, source = self._own_or_outer(name)
        while _is(source, "Identity") and len(source.input) == 1:
            if (id(scope), name) in seen:
                raise ValueError(f"expected a constant, got {_check.shown(name)}, an Identity of itself")
            seen.add((id(scope), name))
            name = source.input[0]
            scope, source = scope._own_or_outer(name)
        return scope, source

    def _own_or_outer(self, name: str) -> tuple[Scope, Any]:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.sources:
                return scope, scope.sources[name]
            scope = scope.outer
        raise ValueError(f"expected a constant, got {_check.shown(name)}, which nothing in the model defines")


def _is(source: Any, op: str) -> bool:
    return isinstance(source, onnx.NodeProto) and source.op_type == op and source.domain in DEFAULT_DOMAIN


@contextmanager
def named(what: str) -> Iterator[None]:
    """Put the name of what is at fault in front of an error's message."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


@dataclass(frozen=True)
class Node:
    """A recurrent node, or one of another domain that calls itself so."""

    proto: Any
    scope: Scope

    @property
    def name(self) -> str:
        """The node's own name, or else that of its first output."""
        return self.proto.name or self.output

    @property
    def output(self) -> str:
        """The name of its first output that has one."""
        return next((name for name in self.proto.output if name), "")

    @property
    def op(self) -> str:
        """The operator, with its domain unless that is ONNX's own."""
        domain, op = (_check.shown(text)[1:-1] for text in (self.proto.domain, self.proto.op_type))
        return op if self.proto.domain in DEFAULT_DOMAIN else f"{domain}.{op}"

    def described(self) -> str:
        """In an error: name, operator, sizes."""
        text = f"{_check.shown(self.name)} ({self.op}"
        try:
            shapes = [tuple(self.tensor(which).dims) for which in ("W", "R")]
            text += f", input size {shapes[0][2]}, hidden size {shapes[1][2]}"
        except (ValueError, IndexError):
            pass
        return text + ")"

    def attributes(self) -> dict[str, Any]:
        """The attributes as Python values."""
        values: dict[str, Any] = {}
        for attribute in self.proto.attribute:
            if attribute.name in values:
                raise ValueError(f"{_check.shown(attribute.name)}: expected one attribute of that name, got two")
            if attribute.ref_attr_name:
                raise ValueError(
                    f"{_check.shown(attribute.name)}: expected a value, got that of whoever calls {self.scope.where}"
                )
            with named(_check.shown(attribute.name)):
                values[attribute.name] = onnx.helper.get_attribute_value(attribute)
        return values

    def layer(self) -> Layer:
        """The attributes, checked, and the numbers of inputs and outputs."""
        if self.op not in OPERATORS:
            raise ValueError(f"expected RNN, LSTM or GRU of ONNX's own domain, got {self.op}, another operator")
        for what, count, most in (
            ("inputs", len(self.proto.input), len(OPERATORS[self.op].inputs)),
            ("outputs", len(self.proto.output), len(OPERATORS[self.op].outputs)),
        ):
            if count > most:
                raise ValueError(f"{what}: expected at most {most}, which is what {self.op} has, got {count}")
        if self.scope.opset is None:
            raise ValueError("opset_import: expected a version of ONNX's own domain, got none")
        return read_attributes(self.op, self.attributes(), self.scope.opset)

    def has(self, which: str) -> bool:
        place = INPUTS.index(which)
        return place < len(self.proto.input) and self.proto.input[place] != ""

    def is_constant(self, which: str) -> bool:
        """Whether an input that is there is a constant."""
        _, source = self.scope.find(self.proto.input[INPUTS.index(which)])
        return isinstance(source, (onnx.TensorProto, onnx.SparseTensorProto)) or _is(source, "Constant")

    def tensor(self, which: str) -> Any:
        """The constant behind an input, its dims not yet to be trusted."""
        if not self.has(which):
            raise ValueError("expected an input of the node, got none")
        name = self.proto.input[INPUTS.index(which)]
        scope, source = self.scope.find(name)
        if _is(source, "Constant"):
            source = _value(source)
        if isinstance(source, onnx.SparseTensorProto):
            raise ValueError(f"expected a dense constant, got {_check.shown(name)}, a sparse one")
        if source is None:
            raise ValueError(f"expected a constant, got {_check.shown(name)}, an input of {scope.where}")
        if not isinstance(source, onnx.TensorProto):
            got = f"{_check.shown(name)}, which a node {_check.shown(source.op_type)} computes"
            raise ValueError(f"expected a constant, got {got}; a model with its constants folded may do")
        return source

    def array(self, which: str) -> Array:
        """The constant behind an input, as an array."""
        return _to_array(self.tensor(which), self.scope.folder)


def _value(constant: Any) -> Any:
    """The tensor of a Constant node; its other attributes hold one axis at most, and are refused."""
    if len(constant.attribute) != 1:
        raise ValueError(f"expected a Constant with one attribute, got {len(constant.attribute)}")
    (attribute,) = constant.attribute
    if attribute.HasField("sparse_tensor"):
        return attribute.sparse_tensor
    if attribute.name != "value" or not attribute.HasField("t"):
        raise ValueError(f"expected a Constant that holds a tensor, got its attribute {_check.shown(attribute.name)}")
    return attribute.t


def _to_array(tensor: Any, folder: str | None) -> Array:
    dims = tuple(tensor.dims)
    if tensor.data_type not in _FIELDS:
        types = onnx.TensorProto.DataType
        kind = types.Name(tensor.data_type).lower() if tensor.data_type in types.values() else tensor.data_type
        raise ValueError(f"expected float32 or float64 (tensors of type float or double), got {kind}")
    if len(dims) > 3 or any(dim < 0 for dim in dims):
        raise ValueError(f"expected at most 3 axes, none of them negative, got {_check.shown(dims)}")
    field, itemsize = _FIELDS[tensor.data_type]
    nbytes = math.prod(dims) * itemsize
    if onnx.external_data_helper.uses_external_data(tensor):
        return _external(tensor, folder, nbytes)
    raw = tensor.HasField("raw_data")
    got = len(tensor.raw_data) if raw else len(getattr(tensor, field)) * itemsize
    if nbytes != got:
        raise ValueError(f"expected {nbytes} bytes, since its dims are {dims}, got {got}")
    array: Array = onnx.numpy_helper.to_array(tensor)
    return array


def _external(tensor: Any, folder: str | None, nbytes: int) -> Array:
    """Data in another file, which ONNX's own loader opens: it refuses paths out of the folder, and all but files."""
    if folder is None:
        cure = "from_onnx takes the model's path too, and onnx.load reads such data"
        raise ValueError(f"expected its data in the model, got a reference to a file; {cure}")
    entries = {_text(entry.key): _text(entry.value) for entry in tensor.external_data}
    for key in ("offset", "length"):
        if not entries.get(key, "0").isdecimal():
            raise ValueError(f"expected a number of bytes as the {key} of its data, got {_check.shown(entries[key])}")
    location, offset = entries.get("location", ""), int(entries.get("offset", 0))
    if int(entries.get("length", nbytes)) != nbytes:
        raise ValueError(f"expected {nbytes} bytes, since its dims are {tuple(tensor.dims)}, got {entries['length']}")
    path = os.path.join(folder, location)
    size = os.path.getsize(path) if os.path.isfile(path) else None
    if size is not None and size < offset + nbytes:  # before memory is taken for it
        raise ValueError(
            f"expected {nbytes} bytes from {offset} on in {_check.shown(location)}, got {size} bytes in all"
        )
    bounded = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(nbytes))):
        bounded.external_data.add(key=key, value=value)
    try:
        array: Array = onnx.numpy_helper.to_array(bounded, folder)
    except (onnx.checker.ValidationError, RuntimeError) as error:  # of a name that no file system takes, the latter
        raise ValueError(
            f"expected a file in the model's folder, got {_check.shown(location)}: {short(error)}"
        ) from None
    return array


def _text(value: Any) -> str:
    """A string of a model: protobuf gives bytes where it is not UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"expected an ONNX model, got one with a name that is not UTF-8, {_check.shown(value)}")
    return value


def _opset(imports: Any) -> int | None:
    return next((int(entry.version) for entry in imports if entry.domain in DEFAULT_DOMAIN), None)


def _sources(graph: Any) -> dict[str, Any]:
    """The definition of each name of a graph or function. An input with an initializer is a constant: its default."""
    inputs = graph.input if isinstance(graph, onnx.FunctionProto) else [value.name for value in graph.input]
    sources: dict[str, Any] = {}
    defined = [(tensor.name, tensor) for tensor in getattr(graph, "initializer", ())]
    defined += [(tensor.values.name, tensor) for tensor in getattr(graph, "sparse_initializer", ())]
    defined += [(name, node) for node in graph.node for name in node.output if name]
    for name, source in defined:
        if name in sources:
            raise ValueError(f"{_check.shown(name)}: expected one definition in a graph, got two")
        sources[name] = source
    return dict.fromkeys(inputs) | sources


def recurrent_nodes(model: Any, folder: str | None) -> list[Node]:
    """Recurrent nodes of the graph, of the bodies in it, and of the model's functions."""
    own = {(function.domain, function.name) for function in model.functions}
    top = _opset(model.opset_import)
    left: list[tuple[Any, str, Scope | None, int | None]] = [
        (function, f"function {_check.shown(function.name)}", None, _opset(function.opset_import))
        for function in reversed(model.functions)
    ]
    left.append((model.graph, "the graph", None, top))
    found = []
    while left:  # a loop, since bodies may lie deeper than Python calls may
        graph, where, outer, opset = left.pop()
        scope = Scope(where, _sources(graph), outer, opset, folder)
        for node in graph.node:
            for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
                _text(text)
            if _RECURRENT.search(node.op_type) and (node.domain, node.op_type) not in own:
                found.append(Node(node, scope))
            bodies = [body for a in node.attribute for body in ([a.g] if a.HasField("g") else a.graphs)]
            left += [(body, f"a body of {_check.shown(node.op_type)}", scope, opset) for body in bodies]
    return found


@contextmanager
def opened_model(path_or_model: object) -> Iterator[tuple[Any, str | None]]:
    """A model, and the folder of its external data; errors that are raised while they are used name the file."""
    if isinstance(path_or_model, onnx.ModelProto):
        yield path_or_model, None
        return
    if not isinstance(path_or_model, (str, os.PathLike)):
        cure = "; onnx.load_model_from_string makes a model of bytes" if isinstance(path_or_model, bytes) else ""
        got = type(path_or_model).__name__
        raise TypeError(f"path_or_model: expected a path or an onnx.ModelProto, got {got}{cure}")
    path = Path(path_or_model)
    check_regular(os.fspath(path))
    data = path.read_bytes()
    with named(str(path)):
        if not data:
            raise ValueError("expected an ONNX model, got an empty file")
        try:
            yield onnx.ModelProto.FromString(data), str(path.parent)
        except (DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"expected an ONNX model, got a file that is none, or a broken one: {error}") from None


@contextmanager
def opened(path_or_model: object) -> Iterator[list[Node]]:
    """The recurrent nodes of a model or of a file; errors that are raised while they are used name the file."""
    with opened_model(path_or_model) as (model, folder):
        yield recurrent_nodes(model, folder)
