"""Recurrent nodes of an ONNX model, and the constants behind their inputs.

A model is a graph of nodes; nodes may hold graphs (bodies of If, Loop, Scan), and a model may define functions. The
file is taken for hostile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastrnn import _check
from fastrnn._untrusted import Entry, check_regular
from fastrnn.onnx import constants, quantized
from fastrnn.onnx.node import INPUTS, OLDEST_OPSET, OPERATORS, QUANTIZED_INPUTS, Layer, read_attributes
from fastrnn.onnx.scope import DEFAULT_DOMAIN, Budget, Scope, named
from fastrnn.onnx.tensors import onnx, text_of

DecodeError = _check.package("google.protobuf.message", "fastrnn.onnx", "onnx").DecodeError
Array = NDArray[Any]
_ALL_INPUTS = (*INPUTS, *QUANTIZED_INPUTS)
_RECURRENT = re.compile(r"(RNN|LSTM|GRU)\Z")
GRAPH = "the graph"  # the place of nodes that are in no body and no function
_MOST_PLACES = 3  # bodies around a node that a message names, the innermost first


@dataclass(frozen=True)
class Node:
    """A recurrent node, or one of another domain that calls itself so."""

    proto: Any
    scope: Scope
    constants: dict[str, Entry] = field(default_factory=dict, compare=False, repr=False)  # by the inputs' names

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

    @property
    def is_quantized(self) -> bool:
        """Whether it is an LSTM whose W and R are bytes."""
        return self.op == quantized.OP

    def shape(self, which: str) -> tuple[int, ...]:
        """That of W, R, B or P, as an LSTM, GRU or RNN node has it."""
        entry = self.constant(which)
        return quantized.shape_of(entry) if self.is_quantized and which in "WR" else entry.shape

    def described(self) -> str:
        """In an error: name, operator, sizes."""
        text = f"{_check.shown(self.name)} ({self.op}"
        try:
            shapes = [self.shape(which) for which in ("W", "R")]
            text += f", input size {shapes[0][2]}, hidden size {shapes[1][2]}"
        except (ValueError, IndexError):
            pass
        return text + (")" if self.scope.where == GRAPH else f", in {self.scope.where})")

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
        op = quantized.AS if self.is_quantized else self.op
        if op not in OPERATORS:
            said = f"expected RNN, LSTM or GRU of ONNX's own domain, got {self.op}, another operator"
            cure = "; the model from before it was quantized may have one" if "Quant" in self.proto.op_type else ""
            raise ValueError(f"{said}{cure}")
        most_inputs = len(_ALL_INPUTS) if self.is_quantized else len(OPERATORS[op].inputs)
        for what, count, most in (
            ("inputs", len(self.proto.input), most_inputs),
            ("outputs", len(self.proto.output), len(OPERATORS[op].outputs)),
        ):
            if count > most:
                raise ValueError(f"{what}: expected at most {most}, which is what {self.op} has, got {count}")
        if self.scope.opset is None:
            raise ValueError("opset_import: expected a version of ONNX's own domain, got none")
        # DynamicQuantizeLSTM has the attributes of LSTM before `layout`, whatever the opset of ONNX's own domain is.
        return read_attributes(op, self.attributes(), OLDEST_OPSET if self.is_quantized else self.scope.opset)

    def has(self, which: str) -> bool:
        place = _ALL_INPUTS.index(which)
        return place < len(self.proto.input) and self.proto.input[place] != ""

    def is_constant(self, which: str) -> bool:
        """Whether an input that is there depends on constants alone."""
        return constants.is_constant(self.scope, self.proto.input[_ALL_INPUTS.index(which)])

    def constant(self, which: str) -> Entry:
        """The constant behind an input, computed where it is not in the model as it is, and then kept."""
        if not self.has(which):
            raise ValueError("expected an input of the node, got none")
        if which not in self.constants:
            self.constants[which] = constants.constant(self.scope, self.proto.input[_ALL_INPUTS.index(which)])
        return self.constants[which]

    def array(self, which: str) -> Array:
        """The constant behind an input, as an array."""
        return self.constant(which).read()


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


def graphs(model: Any, folder: str | None) -> Iterator[tuple[Scope, Any]]:
    """The graph, the bodies in it, and the model's functions, each with the meaning of its names.

    Each graph comes before its bodies, and these in their order. A loop, since bodies may lie deeper than Python calls
    may.
    """
    budget, opset = Budget(), _opset(model.opset_import)
    left: list[tuple[Any, tuple[str, ...], Scope]] = []
    for function in reversed(model.functions):
        place = f"function {_check.shown(function.name)}"
        left.append((function, (place,), Scope(place, {}, None, _opset(function.opset_import), folder, budget)))
    left.append((model.graph, (GRAPH,), Scope(GRAPH, {}, None, opset, folder, budget)))
    while left:
        graph, places, scope = left.pop()
        for node in graph.node:
            for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
                text_of(text)
        scope = replace(scope, sources=_sources(graph))
        yield scope, graph
        for node, attribute, body in reversed(_bodies(graph)):
            inner = (_place(node, attribute.name), *(() if places == (GRAPH,) else places))
            where = " in ".join(inner[:_MOST_PLACES]) + (" in ..." if inner[_MOST_PLACES:] else "")
            repeated = scope.repeated or node.op_type in ("Loop", "Scan")
            left.append((body, inner[: _MOST_PLACES + 1], replace(scope, where=where, outer=scope, repeated=repeated)))


def _bodies(graph: Any) -> list[tuple[Any, Any, Any]]:
    """The graphs in the nodes of a graph, each with its node and attribute."""
    return [
        (node, attribute, body)
        for node in graph.node
        for attribute in node.attribute
        for body in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
    ]


def _place(node: Any, attribute: str) -> str:
    """A body in words: "then_branch of If 'which'"."""
    name = node.name or next((output for output in node.output if output), "")
    op, body = (_check.shown(text)[1:-1] for text in (node.op_type, attribute))
    return f"{body} of {op} {_check.shown(name)}"


def recurrent_nodes(model: Any, folder: str | None) -> list[Node]:
    """Recurrent nodes of the graph, of the bodies in it, and of the model's functions."""
    own = {(function.domain, function.name) for function in model.functions}
    return [
        Node(node, scope)
        for scope, graph in graphs(model, folder)
        for node in graph.node
        if _RECURRENT.search(node.op_type) and (node.domain, node.op_type) not in own
    ]


@contextmanager
def opened_model(path_or_model: object) -> Iterator[tuple[Any, str | None]]:
    """A model, and the folder of its external data; errors that are raised while it is used name the file."""
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
    """The recurrent nodes of a model or of a file."""
    with opened_model(path_or_model) as (model, folder):
        yield recurrent_nodes(model, folder)
