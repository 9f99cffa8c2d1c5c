"""The ONNX model of a case, which ONNX Runtime and OpenVINO both run: a chain of RNN, GRU or LSTM nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bench.cases import CELLS, Array, Case

GATES = {"rnn": "h", "lstm": "iofg", "gru": "zrn"}  # in ONNX's order


def make_model(case: Case, weights: dict[str, Array]) -> bytes:
    """Input X (T, B, I) and, for ragged rows, lengths (B,); output Y (T, D, B, H) of the last layer, as ONNX has it."""
    number = onnx.TensorProto.FLOAT  # neither runs these nodes in float64
    inputs = [helper.make_tensor_value_info("X", number, [case.T, case.B, case.I])]
    if case.ragged:
        inputs.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, [case.B]))
    output = helper.make_tensor_value_info("Y", number, [case.T, case.directions, case.B, case.H])
    nodes, constants = layer_nodes(case, weights, "X")
    return serialized(nodes, inputs, [output], constants)


def make_whole_model(case: Case, weights: dict[str, Array]) -> bytes:
    """A model around the layers: convolution over time, ReLU, the layers, a dense layer on all steps.

    Input x (B, F, T), as many sequences of features come; output scores (T, B, classes). `weights` also has the
    "kernels" (I, F, 3) and "dense" (D * H, classes).
    """
    number, (width, classes) = onnx.TensorProto.FLOAT, weights["dense"].shape
    nodes, constants = layer_nodes(case, weights, "sequence")
    nodes = [
        helper.make_node("Conv", ["x", "kernels"], ["convolved"], pads=[1, 1]),
        helper.make_node("Relu", ["convolved"], ["features"]),
        helper.make_node("Transpose", ["features"], ["sequence"], perm=[2, 0, 1]),
        *nodes,
        helper.make_node("Transpose", ["Y"], ["swapped"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["swapped", "outputs"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "dense"], ["scores"]),
    ]
    constants |= {name: weights[name] for name in ("kernels", "dense")}
    constants["outputs"] = np.array([0, 0, width])
    x = helper.make_tensor_value_info("x", number, ["B", weights["kernels"].shape[1], "T"])
    return serialized(nodes, [x], [helper.make_tensor_value_info("scores", number, ["T", "B", classes])], constants)


def serialized(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Array]) -> bytes:
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "layers", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def layer_nodes(case: Case, weights: dict[str, Array], source: str) -> tuple[list[Any], dict[str, Array]]:
    """Nodes from `source` to Y, and their constants.

    Between layers, directions are put side by side: (T, D, B, H) becomes (T, B, D * H).
    """
    constants = {"joined": np.array([0, 0, case.directions * case.H], np.int64)} if case.L > 1 else {}
    nodes = []
    for layer in range(case.L):
        below = f"joined{layer - 1}" if layer else source
        above = "Y" if layer == case.L - 1 else f"Y{layer}"
        names = {name: f"{name}{layer}" for name in ("W", "R", "B")}
        constants |= {names[name]: array for name, array in layer_constants(case, weights, layer).items()}
        nodes.append(
            helper.make_node(
                case.function.upper(),
                [below, *names.values(), *(["lengths"] if case.ragged else [])],
                [above],
                hidden_size=case.H,
                direction="bidirectional" if case.bi else "forward",
                **({"linear_before_reset": int(case.cell == "gru")} if case.function == "gru" else {}),
            )
        )
        if above != "Y":
            nodes.append(helper.make_node("Transpose", [above], [f"swapped{layer}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"swapped{layer}", "joined"], [f"joined{layer}"]))
    return nodes, constants


def layer_constants(case: Case, weights: dict[str, Array], layer: int) -> dict[str, Array]:
    """W (D, G*H, I), R (D, G*H, H) and B (D, 2*G*H) of a layer."""
    ours = CELLS[case.cell].gates
    order = [ours.index(gate) for gate in GATES[case.function]]

    def directions(name: str) -> list[Array]:
        arrays = [weights[name + suffix] for suffix in [f"_l{layer}", f"_l{layer}_reverse"][: case.directions]]
        return [np.concatenate([np.split(array, len(order))[gate] for gate in order]) for array in arrays]

    biases = zip(directions("bias_ih"), directions("bias_hh"))
    return {
        "W": np.stack(directions("weight_ih")),
        "R": np.stack(directions("weight_hh")),
        "B": np.stack([np.concatenate(pair) for pair in biases]),
    }
