"""Whole models (bench/whole_models.py): ONNX Runtime, and `fastrnn.onnx.session` that chooses or cuts."""

from __future__ import annotations

from typing import Any

from bench.cases import Array, Case, Data
from bench.peers.onnx import OnnxRuntime
from bench.peers.peer import Call


class WholeOnnxRuntime(OnnxRuntime):
    """A session of ONNX Runtime, with the options that it has by itself but for the number of threads."""

    def forms(self, case: Case) -> list[str]:
        return ["run"]

    def build(self, case: Case, data: Data, form: str) -> Call:
        session = self.session(data.weights["model"].tobytes())
        return lambda: session.run(None, {"x": data.x})[0]

    def session(self, model: bytes) -> Any:
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        return self.onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def outputs(self, case: Case, result: Any) -> Array:
        y: Array = result
        return y


class WholeSession(WholeOnnxRuntime):
    """The same model in `fastrnn.onnx.session`, which chooses."""

    title = "fastrnn.onnx.session"

    def session(self, model: bytes) -> Any:
        import fastrnn.onnx

        return fastrnn.onnx.session(model, self.threads)


class WholeCut(WholeOnnxRuntime):
    """The same model, cut."""

    title = "fastrnn.onnx.session, cut"

    def session(self, model: bytes) -> Any:
        import fastrnn.onnx

        return fastrnn.onnx.session(model, self.threads, cut="always")
