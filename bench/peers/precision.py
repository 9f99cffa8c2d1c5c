"""Layers with narrow weights: ours in each precision, and what PyTorch, ONNX Runtime and OpenVINO have of the kind."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.cases import Array, Case, Data
from bench.peers.onnx import OnnxRuntime, OpenVINO
from bench.peers.ours import FastRNN, FastRNNStream
from bench.peers.peer import Call, Unable
from bench.peers.torch import CELLS, MODULE, Torch

STEP = "Stream.step"


class FastRNNFloat32(FastRNN):
    """A call or, where it is faster, a step of a stream."""

    title = "fastrnn float32"
    precision: ClassVar[str | None] = None

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.stream = FastRNNStream(threads)
        self.stream.params = self.params  # type: ignore[method-assign]

    def params(self, case: Case, weights: dict[str, Array]) -> Any:
        params = super().params(case, weights)
        return params if self.precision is None else params.to(self.precision)

    def forms(self, case: Case) -> list[str]:
        return [*super().forms(case), *([STEP] if case.T == 1 and not case.bi else [])]

    def build(self, case: Case, data: Data, form: str) -> Call:
        return self.stream.build(case, data, form) if form == STEP else super().build(case, data, form)

    def outputs(self, case: Case, result: Any) -> Array:
        return np.array(result, ndmin=3)


class FastRNNFloat16(FastRNNFloat32):
    """Weights of 16 bits."""

    title = "fastrnn float16"
    precision = "float16"


class FastRNNInt8(FastRNNFloat32):
    """Weights of 8 bits, inputs of 15."""

    title = "fastrnn int8"
    precision = "int8"


class FastRNNInt8Fast(FastRNNFloat32):
    """Weights of 8 bits, inputs of 8."""

    title = "fastrnn int8_fast"
    precision = "int8_fast"


class TorchInt8(Torch):
    """What `quantize_dynamic` makes of a module, or of cells for a single step."""

    title = "PyTorch int8"

    def forms(self, case: Case) -> list[str]:
        modules = case.cell != "rnn" and not case.P and not case.ragged
        forms = [MODULE] if modules else []
        if case.carries_state and not (case.P or case.bi):
            forms.append(CELLS)
        if case.cell == "gru_before" or not forms:
            raise Unable("quantizes no RNN of several steps, no GRU that resets before the product, and no packed rows")
        return forms

    def module(self, case: Case, weights: dict[str, Any]) -> Any:
        return self.quantized(super().module(case, weights).eval())

    def cells(self, case: Case, weights: dict[str, Any]) -> list[Any]:
        return list(self.quantized(self.torch.nn.ModuleList(super().cells(case, weights)).eval()))

    def quantized(self, module: Any) -> Any:
        nn = self.torch.nn
        kinds = {nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell}
        holder = nn.Sequential(module)  # what is given itself is not exchanged, only what it holds
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.ao is to become a package of its own
            return self.torch.ao.quantization.quantize_dynamic(holder, kinds, dtype=self.torch.qint8)[0]


class OnnxRuntimeInt8(OnnxRuntime):
    """What `quantize_dynamic` makes of a model, with a scale for each row."""

    title = "ONNX Runtime int8"

    def forms(self, case: Case) -> list[str]:
        if case.function != "lstm":
            raise Unable("quantizes LSTM nodes only")
        return super().forms(case)

    def model(self, case: Case, data: Data, with_y: bool) -> bytes:
        from onnxruntime.quantization import quantize_dynamic

        with tempfile.TemporaryDirectory() as folder:
            plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
            plain.write_bytes(super().model(case, data, with_y))
            quantize_dynamic(plain, small, per_channel=True)
            return small.read_bytes()


class OpenVINOBFloat16(OpenVINO):
    """The library's own choice where bfloat16 is allowed; it makes bfloat16 of weights and inputs by itself."""

    title = "OpenVINO bfloat16"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.options["INFERENCE_PRECISION_HINT"] = "bf16"

    def build(self, case: Case, data: Data, form: str) -> Call:
        call = super().build(case, data, form)
        if self.precision != "bf16":
            raise Unable(f"computes in {self.precision} on this processor, whatever is allowed")
        return call
