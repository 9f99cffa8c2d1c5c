"""A model of a convolution, an LSTM and a dense layer, run by ONNX's evaluator with fastrnn's operators.

    pip install onnx onnxruntime
    python examples/onnx_model.py

The model takes X (batch, features, steps), as sound or sensors come, and gives scores (batch, classes) after the last
step. ONNX Runtime computes the same. Then the LSTM alone: its node as params, and a call on what the node was given.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import fastrnn
import fastrnn.onnx

BATCH, FEATURES, STEPS, CHANNELS, HIDDEN, CLASSES = 4, 12, 100, 32, 64, 5


def make_model(rng: np.random.Generator) -> onnx.ModelProto:
    """Convolution over time, LSTM, dense layer on the LSTM's last state."""

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        bound = 1 / np.sqrt(shape[-1])
        return numpy_helper.from_array(rng.uniform(-bound, bound, shape).astype("float32"), name)

    nodes = [
        helper.make_node("Conv", ["X", "kernels"], ["convolved"], pads=[1, 1]),
        helper.make_node("Relu", ["convolved"], ["features"]),
        helper.make_node("Transpose", ["features"], ["sequence"], perm=[2, 0, 1]),  # to (steps, batch, channels)
        helper.make_node("LSTM", ["sequence", "W", "R", "B"], ["", "h_n"], "lstm", hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["h_n", "directions"], ["last"]),
        helper.make_node("Gemm", ["last", "dense"], ["scores"], transB=1),
    ]
    weights = [
        tensor("kernels", CHANNELS, FEATURES, 3),
        tensor("W", 1, 4 * HIDDEN, CHANNELS),
        tensor("R", 1, 4 * HIDDEN, HIDDEN),
        tensor("B", 1, 8 * HIDDEN),
        tensor("dense", CLASSES, HIDDEN),
        numpy_helper.from_array(np.array([0]), "directions"),
    ]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", FEATURES, "steps"])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])]
    graph = helper.make_graph(nodes, "example", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    rng = np.random.default_rng(0)
    model = make_model(rng)
    x = rng.normal(size=(BATCH, FEATURES, STEPS)).astype("float32")

    evaluator = ReferenceEvaluator(model, new_ops=fastrnn.onnx.ops())
    values = evaluator.run(None, {"X": x}, intermediate=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"X": x})
    print(f"model of {model.ByteSize()} bytes: X {x.shape} -> scores {expected.shape}")
    print(f"largest difference from ONNX Runtime: {np.abs(values['scores'] - expected).max():.2g}")

    params = fastrnn.from_onnx(model)
    _, (h_n, _) = fastrnn.lstm(np.ascontiguousarray(values["sequence"]), params)
    print(params)
    print(f"largest difference of the LSTM alone from the model's: {np.abs(h_n - values['h_n']).max():.2g}")


if __name__ == "__main__":
    main()
