"""How a model is run: as a whole by ONNX Runtime, or cut, or whichever of the two is faster."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fastrnn import _check
from fastrnn._names import listed
from fastrnn._types import Precision
from fastrnn._untrusted import short
from fastrnn.onnx import segments
from fastrnn.onnx.candidates import Candidate, find_candidates
from fastrnn.onnx.choice import Choice, Way
from fastrnn.onnx.graph import Graph
from fastrnn.onnx.inference import NodeArg, Report
from fastrnn.onnx.model import opened_model
from fastrnn.onnx.pipeline import Pipeline
from fastrnn.onnx.tensors import onnx


class Plan:
    """A model, read and made ready."""

    def __init__(
        self,
        path_or_model: Any,
        threads: int,
        cut: str | tuple[str, ...],
        precision: Precision | None,
        requantize: bool,
    ) -> None:
        if isinstance(path_or_model, bytes):  # as InferenceSession takes them
            path_or_model = onnx.load_model_from_string(path_or_model)
        self._replaced: tuple[str, ...] = ()
        self._kept: dict[str, str] = {}
        self._choice: Choice | None = None
        self._narrow = precision, requantize
        with opened_model(path_or_model) as (model, folder):
            pipeline = self._pipeline(model, folder, threads, cut)
            whole = None
            if pipeline is None or cut == "auto":
                whole = self._whole(path_or_model, threads, needed=pipeline is None)
            self.inputs, self.outputs = _described(model, whole)
        self._names = [output.name for output in self.outputs]
        self._run = self._way(pipeline, whole)

    def run(self, output_names: Collection[str] | None, input_feed: Mapping[str, Any], run_options: Any) -> list[Any]:
        """What `Session.run` documents."""
        if not output_names:
            return self._run(self._names, input_feed, run_options)
        for name in output_names:
            if name not in self._names:
                raise ValueError(f"output_names: expected names among {self._names}, got {_check.shown(name)}")
        return self._run(list(output_names), input_feed, run_options)

    def report(self) -> Report:
        """What `Session.report` documents."""
        return Report(self._replaced, dict(self._kept), dict(self._choice.ratios) if self._choice else {})

    def _pipeline(self, model: Any, folder: str | None, threads: int, cut: str | tuple[str, ...]) -> Pipeline | None:
        """The model cut, where it can be and should be."""
        try:
            graph = Graph(model)
            candidates, self._kept = find_candidates(model, folder, graph, *self._narrow)
        except ValueError as error:  # ONNX Runtime may know what to do with it
            self._kept = {"(the model)": short(error)}
            return None
        candidates = self._chosen(candidates, cut)
        if not candidates:
            return None
        try:
            pipeline = Pipeline(model, graph, candidates, folder, threads)
        except Exception as error:  # ONNX Runtime's have no common class; it may take the model as a whole
            if isinstance(error, MemoryError):
                raise
            self._kept |= {candidate.label: f"the rest does not run alone: {short(error)}" for candidate in candidates}
            return None
        self._replaced = tuple(candidate.label for candidate in candidates)
        return pipeline

    def _chosen(self, candidates: list[Candidate], cut: str | tuple[str, ...]) -> list[Candidate]:
        if cut in ("auto", "always"):
            return candidates
        wanted = () if isinstance(cut, str) else cut
        for name in wanted:
            if name in self._kept:
                raise ValueError(f"cut: expected nodes that can be cut, got {_check.shown(name)}: {self._kept[name]}")
            labels = [candidate.label for candidate in candidates]
            if name not in labels:
                raise ValueError(f"cut: expected names among {listed(labels, repr)}, got {_check.shown(name)}")
        self._kept |= {one.label: "it was not asked for" for one in candidates if one.label not in wanted}
        return [candidate for candidate in candidates if candidate.label in wanted]

    def _whole(self, path_or_model: Any, threads: int, *, needed: bool) -> Any:
        """The model in ONNX Runtime; None where it does not take it, and is not needed."""
        source = path_or_model.SerializeToString() if isinstance(path_or_model, onnx.ModelProto) else path_or_model
        try:
            return segments.runtime(source, segments.options(threads, None, of_part=False))
        except Exception:  # such as for layout 1, which it lacks
            if needed:
                raise
            return None

    def _way(self, pipeline: Pipeline | None, whole: Any) -> Way:
        if pipeline is None:
            run: Way = whole.run
            return run
        if whole is None:
            return pipeline.run
        fixed = all(isinstance(size, int) for value in self.inputs for size in value.shape)
        self._choice = Choice(pipeline.run, whole.run, fixed=fixed)
        return self._choice.run


def _described(model: Any, whole: Any) -> tuple[list[NodeArg], list[NodeArg]]:
    """Inputs and outputs, by ONNX Runtime where it has the model."""
    if whole is not None:
        of_inputs, of_outputs = (
            [NodeArg(value.name, value.type, value.shape) for value in values]
            for values in (whole.get_inputs(), whole.get_outputs())
        )
        return of_inputs, of_outputs
    graph = Graph(model)
    inputs = [_node_arg(value) for name, value in graph.inputs.items() if name not in graph.defaults]
    return inputs, [_node_arg(value) for value in model.graph.output]


def _node_arg(value: Any) -> NodeArg:
    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    sizes = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param if dim.HasField("dim_param") else None
        for dim in tensor.shape.dim
    ]
    return NodeArg(value.name, f"tensor({kind})", sizes)
