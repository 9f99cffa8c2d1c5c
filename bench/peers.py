"""The programs that are timed, or peers: each class makes a call of a case in the cheapest form that its Python has.

A peer lives in a process of its own (bench/worker.py) and imports its library when it is made, so that no other library
is in that process. `build` answers a function of no arguments. Its result stays in the library's own type until
`outputs` makes it (T, B, D * outputs), which is not timed. A peer refuses a case that it cannot run with `Unable`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from bench.cases import Array, Case, Data

Call = Callable[[], Any]


class Unable(Exception):  # noqa: N818 -- it is no error
    """A kind of layer that a peer does not have; the words say what it lacks."""


class Peer(Protocol):
    """The interface of every class below."""

    title: str

    def __init__(self, threads: int) -> None: ...

    def about(self) -> dict[str, str]:
        """The version, and what else a reader of results must know of it."""

    def build(self, case: Case, data: Data) -> Call: ...

    def outputs(self, case: Case, result: Any) -> Array: ...


class FastRNN:
    """A call of `fastrnn.lstm` and its like: a new array of outputs and the final state each time."""

    title = "fastrnn"

    def __init__(self, threads: int) -> None:
        import fastrnn

        self.fastrnn, self.threads = fastrnn, threads

    def about(self) -> dict[str, str]:
        from fastrnn import _core

        weights = {"weight_ih": np.zeros((4, 1), np.float32), "weight_hh": np.zeros((4, 1), np.float32)}
        target = self.fastrnn.LSTMParams(weights).target
        return {"version": self.fastrnn.__version__, "target": target, "compiler": _core.COMPILER}

    def params(self, case: Case, data: Data) -> Any:
        kind = getattr(self.fastrnn, case.function.upper() + "Params")
        return kind(data.weights, **case.options)

    def build(self, case: Case, data: Data) -> Call:
        function, params = getattr(self.fastrnn, case.function), self.params(case, data)
        x, threads = data.x, self.threads
        if case.ragged:
            return lambda: function(x, params, lengths=case.lengths, threads=threads)
        return lambda: function(x, params, threads=threads)

    def outputs(self, case: Case, result: Any) -> Array:
        y: Array = result[0]
        return y


class FastRNNStream(FastRNN):
    """`fastrnn.Stream`, for cases of a single step: what a program uses that gets one step at a time."""

    title = "fastrnn stream"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        if not hasattr(self.fastrnn, "Stream"):
            raise ImportError("this fastrnn has no Stream")

    def build(self, case: Case, data: Data) -> Call:
        if case.T > 1 or case.bi or case.ragged:
            raise Unable("takes one step at a time")
        stream, x = self.fastrnn.Stream(self.params(case, data), batch_size=case.B), data.x[0]
        return lambda: stream.step(x)

    def outputs(self, case: Case, result: Any) -> Array:
        return np.array(result, ndmin=3)


class Torch:
    """A `torch.nn` module under inference_mode, from tensor to tensor."""

    title = "PyTorch"

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.set_flush_denormal(True)
        self.torch, self.mode = torch, torch.inference_mode()
        self.mode.__enter__()  # for as long as the process lives

    def about(self) -> dict[str, str]:
        return {"version": str(self.torch.__version__)}

    def build(self, case: Case, data: Data) -> Call:
        if case.cell == "gru_before":
            raise Unable("has no GRU that resets before the product")
        kind = getattr(self.torch.nn, case.cell.upper())
        options: dict[str, Any] = {"num_layers": case.L, "bidirectional": case.bi}
        if case.P:
            options["proj_size"] = case.P
        module = kind(case.I, case.H, dtype=getattr(self.torch, np.dtype(case.dtype).name), **options)
        module.load_state_dict({name: self.torch.from_numpy(array) for name, array in data.weights.items()})
        x = self.torch.from_numpy(data.x)
        if not case.ragged:
            return lambda: module(x)[0]

        rnn, lengths, T = self.torch.nn.utils.rnn, self.torch.from_numpy(case.lengths), case.T

        def run_packed() -> Any:
            packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return rnn.pad_packed_sequence(module(packed)[0], total_length=T)[0]

        return run_packed

    def outputs(self, case: Case, result: Any) -> Array:
        y: Array = result.numpy()
        return y


class OnnxRuntime:
    """A session of ONNX Runtime, whose input and output are bound to arrays once."""

    title = "ONNX Runtime"

    def __init__(self, threads: int) -> None:
        import onnx
        import onnxruntime

        self.onnxruntime, self.threads = onnxruntime, threads
        self.versions = {"version": onnxruntime.__version__, "onnx": onnx.__version__}

    def about(self) -> dict[str, str]:
        return self.versions

    def build(self, case: Case, data: Data) -> Call:
        from bench.onnx_model import make_model

        if case.P:
            raise Unable("ONNX has no projection")
        if case.f64:
            raise Unable("computes these layers in float32 only")
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        model = make_model(case, data.weights)
        session = self.onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        y = np.empty((case.T, case.directions, case.B, case.H), case.dtype)
        binding = session.io_binding()
        binding.bind_cpu_input("X", data.x)
        if case.ragged:
            binding.bind_cpu_input("lengths", case.lengths.astype(np.int32))
        binding.bind_output("Y", "cpu", 0, case.dtype, y.shape, y.ctypes.data)

        def run_bound() -> Array:
            session.run_with_iobinding(binding)
            return y

        return run_bound

    def outputs(self, case: Case, result: Any) -> Array:
        return join_directions(result)


class WholeOnnxRuntime(OnnxRuntime):
    """A session of ONNX Runtime for a whole model (bench/whole_models.py), with the options that it has by itself."""

    def build(self, case: Case, data: Data) -> Call:
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


class OpenVINO:
    """A request of OpenVINO for the same ONNX model, whose input is bound once and whose output is shared."""

    title = "OpenVINO"

    def __init__(self, threads: int) -> None:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # else reading a model forks, and reports it
        import onnx  # noqa: F401 -- the model is made with it
        import openvino

        self.openvino, self.core = openvino, openvino.Core()
        self.options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "CPU_DENORMALS_OPTIMIZATION": True,
        }

    def about(self) -> dict[str, str]:
        return {"version": self.openvino.__version__}

    def build(self, case: Case, data: Data) -> Call:
        from bench.onnx_model import make_model

        if case.P:
            raise Unable("ONNX has no projection")
        if case.f64:
            raise Unable("computes these layers in float32 only")
        model = self.core.read_model(make_model(case, data.weights))
        request = self.core.compile_model(model, "CPU", self.options).create_infer_request()
        request.set_tensor("X", self.openvino.Tensor(data.x, shared_memory=True))
        if case.ragged:
            request.set_tensor("lengths", self.openvino.Tensor(case.lengths.astype(np.int32)))
        return lambda: request.infer(share_outputs=True)

    def outputs(self, case: Case, result: Any) -> Array:
        return join_directions(result[0])


class NumPyLoop:
    """A loop in NumPy as one would write it by hand: all input products at once, then the steps."""

    title = "NumPy loop"

    def __init__(self, threads: int) -> None:
        pass  # its matrix products use as many as the environment of the process says

    def about(self) -> dict[str, str]:
        return {"version": np.__version__}

    def build(self, case: Case, data: Data) -> Call:
        from bench.numpy_loop import run

        weights = {name: array.T.copy() if array.ndim == 2 else array for name, array in data.weights.items()}
        return lambda: run(case, data.x, weights)

    def outputs(self, case: Case, result: Any) -> Array:
        y: Array = result
        return y


def join_directions(y: Array) -> Array:
    """(T, D, B, H), as ONNX has it, to (T, B, D * H)."""
    T, D, B, H = y.shape
    return y.swapaxes(1, 2).reshape(T, B, D * H)


PEERS: dict[str, type[Peer]] = {
    "fastrnn": FastRNN,
    "stream": FastRNNStream,
    "torch": Torch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINO,
    "numpy": NumPyLoop,
}
WHOLE_PEERS: dict[str, type[Peer]] = {  # of whole models, which bench/whole_models.py times
    "whole": WholeOnnxRuntime,
    "session": WholeSession,
    "cut": WholeCut,
}
OURS = ("fastrnn", "stream")  # all others are peers
