"""The ONNX model of a case, which ONNX Runtime and OpenVINO both run: a chain of RNN, GRU or LSTM nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bench.cases import CELLS, Array, Case

GATES = {"rnn": "h", "lstm": "iofg", "gru": "zrn"}  # in ONNX's order


def make_model(case: Case, weights: dict[str, Array], with_y: bool = True) -> bytes:
    """Input X (T, B, I) and, for ragged rows, lengths (B,); output Y (T, D, B, H) of the last layer, as ONNX has it.

    Where the state is carried, it has an input for each of `case.state_names`, (D, B, H), and an output of that name
    with _n behind it. Then Y may be left out: with one step, the last layer's h is the same.
    """
    inputs = [value("X", case.T, case.B, case.I)]
    if case.ragged:
        inputs.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, [case.B]))
    states = case.state_names
    inputs += [value(name, case.directions, case.B, case.H) for name in states]
    outputs = [value(f"{name}_n", case.directions, case.B, case.H) for name in states]
    if with_y:
        outputs.insert(0, value("Y", case.T, case.directions, case.B, case.H))

    nodes, constants = layer_nodes(case, weights, "X", states, with_y)
    return serialized(nodes, inputs, outputs, constants)


def make_whole_model(case: Case, weights: dict[str, Array]) -> bytes:
    """A model around the layers: convolution over time, ReLU, the layers, a dense layer on all steps.

    Input x (B, F, T), as many sequences of features come; output scores (T, B, classes). `weights` also has the
    "kernels" (I, F, 3) and "dense" (D * H, classes).
    """
    number, (width, classes) = onnx.TensorProto.FLOAT, weights["dense"].shape
    nodes, constants = layer_nodes(case, weights, "sequence", [], True)
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


def layer_nodes(
    case: Case, weights: dict[str, Array], below: str, states: list[str], with_y: bool
) -> tuple[list[Any], dict[str, Array]]:
    """Nodes from the input `below` to Y, which take these states, and their constants."""
    constants: dict[str, Array] = {}
    nodes = []
    for layer in range(case.L):
        last = layer == case.L - 1
        chained = states and not case.bi and not last  # h (1, B, H) is what the next layer takes as (T, B, H)
        y = "" if chained or (last and not with_y) else "Y" if last else f"Y{layer}"
        nodes.append(recurrent_node(case, layer, below, y, [name for name in states if int(name[1:]) == layer]))
        constants |= layer_constants(case, weights, layer)
        if chained:
            below = f"h{layer}_n"
        elif not last:
            below = f"joined{layer}"
            join, more = join_nodes(case, y, below)
            nodes += join
            constants |= more
    return nodes, constants


def value(name: str, *shape: int) -> onnx.ValueInfoProto:
    """A float32 input or output: no peer runs these nodes in float64."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def recurrent_node(case: Case, layer: int, below: str, y: str, states: list[str]) -> onnx.NodeProto:
    inputs = [below, *(f"{name}{layer}" for name in ("W", "R", "B")), "lengths" if case.ragged else "", *states]
    return helper.make_node(
        case.function.upper(),
        inputs,
        [y, *(f"{name}_n" for name in states)],
        hidden_size=case.H,
        direction="bidirectional" if case.bi else "forward",
        **({"linear_before_reset": int(case.cell == "gru")} if case.function == "gru" else {}),
    )


def join_nodes(case: Case, y: str, joined: str) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Nodes, and their constants, that make (T, B, D * H) of the (T, D, B, H) between two layers, as exporters do."""
    if not case.bi:
        return [helper.make_node("Squeeze", [y, "axis"], [joined])], {"axis": np.array([1], np.int64)}
    swapped = f"swapped_{joined}"
    nodes = [
        helper.make_node("Transpose", [y], [swapped], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [swapped, "size"], [joined]),
    ]
    return nodes, {"size": np.array([case.T, case.B, case.directions * case.H], np.int64)}


def layer_constants(case: Case, weights: dict[str, Array], layer: int) -> dict[str, Array]:
    """W (D, G*H, I), R (D, G*H, H) and B (D, 2*G*H) of a layer, by their names in the model."""
    ours = CELLS[case.cell].gates
    order = [ours.index(gate) for gate in GATES[case.function]]

    def directions(name: str) -> list[Array]:
        arrays = [weights[name + suffix] for suffix in [f"_l{layer}", f"_l{layer}_reverse"][: case.directions]]
        return [np.concatenate([np.split(array, len(order))[gate] for gate in order]) for array in arrays]

    biases = zip(directions("bias_ih"), directions("bias_hh"))
    return {
        f"W{layer}": np.stack(directions("weight_ih")),
        f"R{layer}": np.stack(directions("weight_hh")),
        f"B{layer}": np.stack([np.concatenate(pair) for pair in biases]),
    }
