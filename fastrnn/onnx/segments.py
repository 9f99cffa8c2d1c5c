"""Segments as models of their own, and the sessions of ONNX Runtime that run them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fastrnn import _check
from fastrnn.onnx.cut import Segment
from fastrnn.onnx.graph import Graph, Step

onnxruntime = _check.package("onnxruntime", "fastrnn.onnx.session", "onnx onnxruntime")
Array = NDArray[Any]
_SMALL = 1024  # bytes of a tensor whose numbers may say a shape


def options(threads: int, folder: str | None, *, of_part: bool) -> Any:
    """Options of a session of ONNX Runtime, for a whole model or for a part of a cut one.

    Threads of a part stop spinning when it ends: those of fastrnn run next, and took up to four times as long beside
    them (two threads on two processors).
    """
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = threads
    if of_part:
        made.log_severity_level = 3  # the whole model warns
        made.add_session_config_entry("session.force_spinning_stop", "1")
    if folder is not None:
        made.add_session_config_entry("session.model_external_initializers_file_folder_path", folder or ".")
    return made


def runtime(model: Any, made: Any) -> Any:
    """A session of ONNX Runtime, of a path or of a model's bytes."""
    return onnxruntime.InferenceSession(model, made, providers=["CPUExecutionProvider"])


class Builder:
    """Makes models of parts of a model."""

    def __init__(self, model: Any, graph: Graph) -> None:
        self._model = model
        self._graph = graph
        self._inferred: dict[str, Any] | None = None

    def segment(self, segment: Segment, types: Mapping[str, Any]) -> bytes:
        """The model of a segment; `types` are the TypeProtos of its inputs."""
        made = self._model_of(segment.steps)
        for name in segment.inputs:
            made.graph.input.append(onnx.ValueInfoProto(name=name, type=types[name]))
        made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in segment.outputs)
        return bytes(made.SerializeToString())

    def constants(self, names: Iterable[str]) -> bytes:
        """A model without inputs that gives these constants, in their order."""
        made = self._model_of([], names)
        for number, name in enumerate(names):
            made.graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name}/{number}"]))
            made.graph.output.append(onnx.ValueInfoProto(name=f"{name}/{number}"))
        return bytes(made.SerializeToString())

    def _model_of(self, steps: list[Step], names: Iterable[str] = ()) -> Any:
        """Steps, with the constants that they or these names need, without inputs and outputs."""
        read = {name for step in steps for name in step.reads}.union(names)
        behind = self._graph.behind(read)
        made = onnx.ModelProto(ir_version=self._model.ir_version)
        made.opset_import.extend(self._model.opset_import)
        made.functions.extend(self._model.functions)
        made.graph.name = self._model.graph.name
        made.graph.node.extend(step.proto for step in [*behind, *steps])
        read = read.union(*(step.reads for step in behind))
        for name in sorted(read & self._graph.initializers.keys()):
            tensor = self._graph.initializers[name]
            sparse = isinstance(tensor, onnx.SparseTensorProto)
            (made.graph.sparse_initializer if sparse else made.graph.initializer).append(tensor)
        return made

    def type_of(self, name: str, elem: int) -> Any:
        """The type of a tensor, with its shape where shape inference finds one."""
        if self._inferred is None:
            self._inferred = self._infer()
        found = self._inferred.get(name)
        if found is not None and found.tensor_type.elem_type == elem:
            return found
        return onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=elem))

    def _infer(self) -> dict[str, Any]:
        """Types by ONNX's shape inference, which is not given large weights, nor what the model claims of shapes."""
        bare = onnx.ModelProto(ir_version=self._model.ir_version)
        bare.opset_import.extend(self._model.opset_import)
        bare.functions.extend(self._model.functions)
        bare.graph.name = "graph"
        bare.graph.node.extend(step.proto for step in self._graph.steps)
        bare.graph.input.extend(self._graph.inputs.values())
        bare.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._graph.outputs)
        for name, tensor in self._graph.initializers.items():
            if isinstance(tensor, onnx.SparseTensorProto) or name in self._graph.defaults:
                continue
            if tensor.ByteSize() <= _SMALL:
                bare.graph.initializer.append(tensor)
            else:
                value = onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
                bare.graph.input.append(value)
        try:
            inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
        except Exception:  # of a model that it can't follow: shapes only help
            return {}
        values = [*inferred.graph.value_info, *inferred.graph.output, *self._graph.inputs.values()]
        return {value.name: value.type for value in values if value.type.HasField("tensor_type")}


def elem_type(text: str) -> int | None:
    """ONNX's number of a type in ONNX Runtime's words, "tensor(float)", or None for what is no tensor."""
    kind = text.removeprefix("tensor(").removesuffix(")").upper()
    types = onnx.TensorProto.DataType
    return int(types.Value(kind)) if text.startswith("tensor(") and kind in types.keys() else None  # noqa: SIM118


def elem_of(dtype: Any) -> int:
    """ONNX's number of a dtype of NumPy."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
