"""A cut model, run: parts in their order, each taking tensors by name and leaving its own.

Tensors go from part to part without a copy: ONNX Runtime reads dense arrays where they are, and the arrays that it
gives are views of its own memory. `InferenceSession.run` was the fastest way in: 12 us for a model of one node, where
OrtValues took 14 and more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fastrnn import _check
from fastrnn.onnx import segments
from fastrnn.onnx.candidates import Candidate
from fastrnn.onnx.compute import compute
from fastrnn.onnx.cut import Order, Part, Segment, Viewed
from fastrnn.onnx.graph import Graph
from fastrnn.onnx.scope import named
from fastrnn.onnx.views import view_of

Array = NDArray[Any]
Tensors = dict[str, Any]
Runner = Callable[[Tensors, Any], None]  # takes and leaves tensors; the other argument is ONNX Runtime's run options


class Pipeline:
    """A model whose recurrent nodes run on fastrnn."""

    def __init__(self, model: Any, graph: Graph, candidates: list[Candidate], folder: str | None, threads: int) -> None:
        order = Order(graph, candidates)
        self._builder = segments.Builder(model, graph)
        self._threads = threads
        self._options = segments.options(threads, folder, of_part=True)
        self._constants = self._read_constants(sorted(order.constants))
        self._elems = {name: value.type.tensor_type.elem_type for name, value in graph.inputs.items()}
        self._types = {name: value.type for name, value in graph.inputs.items()}
        self._runners = [self._runner(part) for part in order.parts]
        self._inputs = graph.inputs.keys()
        self._required = graph.inputs.keys() - graph.defaults
        self._checked = self._checks(graph, order)
        self._copied = self._shared_outputs(graph, order)

    def run(self, names: list[str], feeds: Mapping[str, Any], run_options: Any) -> list[Any]:
        """Outputs by name."""
        self._check(feeds)
        tensors = {**self._constants, **feeds}
        for runner in self._runners:
            runner(tensors, run_options)
        return [self._result(name, tensors[name]) for name in names]

    def _result(self, name: str, value: Any) -> Any:
        if name in self._copied:
            return np.array(value, order="C")
        return np.ascontiguousarray(value) if isinstance(value, np.ndarray) and value.ndim else value

    # Before a run

    def _read_constants(self, names: list[str]) -> Tensors:
        if not names:
            return {}
        session = segments.runtime(self._builder.constants(names), self._options)
        return dict(zip(names, session.run(None, {}), strict=True))

    def _runner(self, part: Part) -> Runner:
        if isinstance(part, Segment):
            return self._segment_runner(part)
        if isinstance(part, Candidate):
            return self._layer_runner(part)
        return self._view_runner(part)

    def _segment_runner(self, segment: Segment) -> Runner:
        types = {}
        for name in segment.inputs:
            if name not in self._types:
                self._types[name] = self._builder.type_of(name, self._elems[name])
            types[name] = self._types[name]
        session = segments.runtime(self._builder.segment(segment, types), self._options)
        for output in session.get_outputs():
            elem = segments.elem_type(output.type)
            if elem is None:
                raise ValueError(f"{_check.shown(output.name)}: expected a tensor, got {output.type}")
            self._elems[output.name] = elem
        inputs, outputs, run = segment.inputs, segment.outputs, session.run

        def runner(tensors: Tensors, run_options: Any) -> None:
            feeds = {name: tensors[name] for name in inputs if name in tensors}
            tensors.update(zip(outputs, run(outputs, feeds, run_options)))

        return runner

    def _layer_runner(self, layer: Candidate) -> Runner:
        self._elems |= dict.fromkeys(filter(None, layer.outputs), segments.elem_of(layer.params.dtype))
        inputs, outputs, threads = tuple(layer.inputs.items()), layer.outputs, self._threads
        where = f"{layer.layer.op} node {_check.shown(layer.label)}"

        def runner(tensors: Tensors, _: Any) -> None:
            try:
                arrays = {which: tensors[name] for which, name in inputs}
                results = compute(layer.layer, layer.params, arrays, wants_sequence=outputs[0] != "", threads=threads)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}: {error}") from None
            tensors.update(zip(outputs, results))

        return runner

    def _view_runner(self, viewed: Viewed) -> Runner:
        (output,), source = viewed.step.writes, viewed.step.proto.input[0]
        self._elems[output] = self._elems[source]
        where = f"{viewed.step.op} node {_check.shown(viewed.step.proto.name or output)}"
        with named(where):
            view = view_of(viewed.step, self._constants)

        def runner(tensors: Tensors, _: Any) -> None:
            try:
                tensors[output] = view(tensors[source])
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None

        return runner

    # What ONNX Runtime would check and fastrnn would not

    def _checks(self, graph: Graph, order: Order) -> list[tuple[str, np.dtype[Any], list[int | None] | None]]:
        """Names, dtypes and shapes of inputs that a layer or a view takes."""
        taken = set()
        for part in order.parts:
            taken |= set(part.inputs.values() if isinstance(part, Candidate) else ())
            taken |= set(part.step.reads if isinstance(part, Viewed) else ())
        checks = []
        for name in sorted(taken & graph.inputs.keys()):
            tensor = graph.inputs[name].type.tensor_type
            shape = None
            if tensor.HasField("shape"):
                shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
            checks.append((name, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape))
        return checks

    def _check(self, feeds: Mapping[str, Any]) -> None:
        if not self._required <= feeds.keys():
            missing = sorted(self._required - feeds.keys())
            raise ValueError(f"input_feed: expected {sorted(self._required)}, got none for {missing}")
        if not feeds.keys() <= self._inputs:
            surplus = sorted(feeds.keys() - self._inputs)
            raise ValueError(f"input_feed: expected names among {sorted(self._inputs)}, got {_check.shown(surplus)}")
        for name, dtype, shape in self._checked:
            if name in feeds:
                _check_feed(name, feeds[name], dtype, shape)

    def _shared_outputs(self, graph: Graph, order: Order) -> set[str]:
        """Outputs that would share memory with an input, a constant or another output."""
        source = {part.step.writes[0]: part.step.proto.input[0] for part in order.parts if isinstance(part, Viewed)}
        seen: set[str] = {*graph.inputs, *self._constants}
        shared = set()
        for name in graph.outputs:
            root = name
            while root in source:
                root = source[root]
            if root in seen:
                shared.add(name)
            seen.add(root)
        return shared


def _check_feed(name: str, value: Any, dtype: np.dtype[Any], shape: list[int | None] | None) -> None:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name}: expected a numpy.ndarray, got {type(value).__name__}")
    if value.dtype != dtype:
        raise ValueError(f"{name}: expected {dtype}, got {value.dtype}")
    fits = shape is None or (
        value.ndim == len(shape) and all(size in (None, got) for size, got in zip(shape, value.shape))
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in shape or [])
        raise ValueError(f"{name}: expected shape ({expected}), got {value.shape}")
