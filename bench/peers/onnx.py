"""The two libraries that run ONNX: ONNX Runtime and OpenVINO, with the same model (bench/onnx_model.py)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from bench.cases import Array, Case, Data
from bench.peers.peer import Call, Unable

BOUND, STATEFUL = "arrays bound once", "stateful model"


def forms_of_onnx(case: Case) -> list[str]:
    if case.P:
        raise Unable("ONNX has no projection")
    if case.f64:
        raise Unable("computes these layers in float32 only")
    return [BOUND]


def two_states(case: Case, names: Sequence[str]) -> list[dict[str, Array]]:
    """Two sets of arrays for the state: a step reads one set and writes the other, and the next step the reverse."""
    shape = (case.directions, case.B, case.H)
    return [{name: np.zeros(shape, case.dtype) for name in names} for _ in range(2)]


def outputs_of_onnx(case: Case, y: Array) -> Array:
    """(T, D, B, H), as ONNX has it, or (D, B, H), which is the last layer's h, to (T, B, D * H)."""
    T, D, B, H = case.T, case.directions, case.B, case.H
    return y.reshape(T, D, B, H).swapaxes(1, 2).reshape(T, B, D * H)


class OnnxRuntime:
    """A session of ONNX Runtime, whose inputs and outputs are bound to arrays once: `run` is slower throughout."""

    title = "ONNX Runtime"

    def __init__(self, threads: int) -> None:
        import onnx
        import onnxruntime

        self.onnxruntime, self.threads = onnxruntime, threads
        self.versions = {"version": onnxruntime.__version__, "onnx": onnx.__version__}

    def about(self) -> dict[str, str]:
        return self.versions

    def forms(self, case: Case) -> list[str]:
        return forms_of_onnx(case)

    def build(self, case: Case, data: Data, form: str) -> Call:
        return self.bound(self.make_session(case, data), case, data)

    def make_session(self, case: Case, data: Data) -> Any:
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        model = self.model(case, data, not case.carries_state)
        return self.onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def bound(self, session: Any, case: Case, data: Data) -> Call:
        """Calls of a session from arrays of their own: several streams may share a session."""
        inputs = {"X": data.x}
        if case.ragged:
            inputs["lengths"] = case.lengths.astype(np.int32)
        if not case.carries_state:
            y = np.empty((case.T, case.directions, case.B, case.H), case.dtype)
            return bound_calls(session, [(inputs, {"Y": y})], [y])
        names = case.state_names
        states = two_states(case, names)
        steps = [
            (inputs | old, {f"{name}_n": array for name, array in new.items()})
            for old, new in (states, reversed(states))
        ]
        return bound_calls(session, steps, [outputs[f"h{case.L - 1}_n"] for _, outputs in steps])

    def model(self, case: Case, data: Data, with_y: bool) -> bytes:
        from bench.onnx_model import make_model

        return make_model(case, data.weights, with_y)

    def outputs(self, case: Case, result: Any) -> Array:
        return outputs_of_onnx(case, result)


def bound_calls(session: Any, arrays: Sequence[tuple[dict[str, Array], dict[str, Array]]], ys: list[Array]) -> Call:
    """Calls with these inputs and outputs in turns; a call answers its array of outputs."""
    bindings = []
    for inputs, outputs in arrays:
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, array)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        bindings.append(binding)
    run, turns = session.run_with_iobinding, cycle(zip(bindings, ys, arrays, strict=True))

    def call() -> Array:
        binding, y, _ = next(turns)  # the arrays are there to be kept: a binding only points to them
        run(binding)
        return y

    return call


class OpenVINO:
    """A request of OpenVINO whose inputs are bound once and whose outputs are shared.

    A state is bound crosswise to two requests, or kept by the library itself in a stateful model.
    """

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

    def forms(self, case: Case) -> list[str]:
        return [*forms_of_onnx(case), *([STATEFUL] if case.carries_state else [])]

    def build(self, case: Case, data: Data, form: str) -> Call:
        from bench.onnx_model import make_model

        names, bound = case.state_names, form == BOUND
        model = self.core.read_model(make_model(case, data.weights, with_y=not (case.carries_state and bound)))
        if names and not bound:
            from openvino._offline_transformations import apply_make_stateful_transformation

            apply_make_stateful_transformation(model, {name: f"{name}_n" for name in names})
        compiled = self.core.compile_model(model, "CPU", self.options)
        self.precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if not (names and bound):
            request = self.request(case, data, compiled)
            return lambda: request.infer(share_outputs=True)
        return self.crosswise(case, data, compiled, names)

    def crosswise(self, case: Case, data: Data, compiled: Any, names: list[str]) -> Call:
        """Calls of two requests in turns, each of which writes its state where the other one reads it."""
        states = two_states(case, names)
        requests = []
        for old, new in (states, reversed(states)):
            request = self.request(case, data, compiled)
            for name in names:
                request.set_tensor(name, self.shared(old[name]))
                request.set_tensor(f"{name}_n", self.shared(new[name]))
            requests.append((request, old, new))  # the arrays too: a request only points to them
        turns = cycle(requests)
        return lambda: next(turns)[0].infer(share_outputs=True)

    def request(self, case: Case, data: Data, compiled: Any) -> Any:
        request = compiled.create_infer_request()
        request.set_tensor("X", self.shared(data.x))
        if case.ragged:
            request.set_tensor("lengths", self.openvino.Tensor(case.lengths.astype(np.int32)))
        return request

    def shared(self, array: Array) -> Any:
        return self.openvino.Tensor(array, shared_memory=True)

    def outputs(self, case: Case, result: Any) -> Array:
        last_h = case.state_names.index(f"h{case.L - 1}") if len(result) > 1 else 0
        return outputs_of_onnx(case, result[last_h])
