"""Models for the tests of ONNX: random nodes made from layers of ours (`drawn_nodes`), and models by hand (`make`)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import fastrnn
from support.cases import Case, make_weights
from support.environment import package

onnx = package("onnx")
onnx_load = importlib.import_module("fastrnn.onnx.load")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
ReferenceEvaluator = importlib.import_module("onnx.reference").ReferenceEvaluator

# Our gates (LSTM i f g o, GRU r z n, peepholes i f o) by places in ONNX's orders (i o f c, z r h, i o f).
GATES = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}
PEEPHOLES = [0, 2, 1]
ONNX_NAMES = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softsign": "Softsign"}
ONNX_NAMES |= {"hard_sigmoid": "HardSigmoid", "linear": "Affine"}
SUFFIXES = {"forward": ("",), "reverse": ("_reverse",), "bidirectional": ("", "_reverse")}
ACTIVATIONS: list[Any] = ["tanh", "sigmoid", "relu", "softsign", ("hard_sigmoid", 0.2, 0.5)]
ACTIVATIONS += [("hard_sigmoid", 0.25, 0.375), ("linear", 0.5, -0.25), ("linear", 1.0, 0.0)]
INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]


@dataclass(frozen=True)
class Drawn:
    """A layer of one node: our call, and the node that is to mean the same."""

    case: Case
    attributes: dict[str, Any]
    arrays: dict[str, np.ndarray]  # by the names of the node's inputs
    opset: int
    at_run_time: frozenset[str] = frozenset("X")
    outputs: tuple[bool, ...] = (True, True, True)

    @property
    def op(self) -> str:
        return self.case.cell.upper()

    def model(self) -> Any:
        inputs = [name if name in self.arrays else "" for name in INPUTS[: 8 if self.op == "LSTM" else 6]]
        names = ["Y", "Y_h", "Y_c"][: 3 if self.op == "LSTM" else 2]
        wanted = [name if is_there else "" for name, is_there in zip(names, self.outputs)]
        node = helper.make_node(self.op, inputs, wanted, "layer", **self.attributes)
        types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in self.arrays.items()}
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [node],
            "graph",
            [value(name, types[name], array.shape) for name, array in self.arrays.items() if name in self.at_run_time],
            [value(name, types["X"], None) for name in wanted if name],
            [numpy_helper.from_array(a, name) for name, a in self.arrays.items() if name not in self.at_run_time],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    @property
    def fed(self) -> dict[str, np.ndarray]:
        return {name: array for name, array in self.arrays.items() if name in self.at_run_time}

    def expected(self) -> tuple[np.ndarray, ...]:
        """What our call gives, in ONNX's shapes: Y (T, D, B, H), or with layout 1 all of them batch first."""
        y, *states = self.case.run()
        D, _, H = states[0].shape
        Y = y.reshape(*y.shape[:2], D, H)
        if self.case.batch_first:
            return (Y, *(state.swapaxes(0, 1) for state in states))
        return (Y.swapaxes(1, 2), *states)


def onnx_arrays(case: Case, direction: str) -> dict[str, np.ndarray]:
    """Weights in ONNX's names, order and shapes."""

    def stacked(name: str, order: list[int]) -> np.ndarray:
        arrays = [case.weights[f"{name}_l0{suffix}"] for suffix in SUFFIXES[direction]]
        return np.stack([np.concatenate([np.split(a, len(order))[gate] for gate in order]) for a in arrays])

    order = GATES[case.cell]
    arrays = {"W": stacked("weight_ih", order), "R": stacked("weight_hh", order)}
    if any(name.startswith("bias") for name in case.weights):
        arrays["B"] = np.concatenate([stacked("bias_ih", order), stacked("bias_hh", order)], axis=1)
    if any(name.startswith("weight_peephole") for name in case.weights):
        arrays["P"] = stacked("weight_peephole", PEEPHOLES)
    return arrays


def activation_attributes(draw: Any, options: dict[str, Any], cell: str, directions: int) -> dict[str, Any]:
    """The lists of names, alphas and betas; nothing where all are the defaults, at random."""
    inner = options.get("activation", "tanh")
    gate = options.get("recurrent_activation", "sigmoid")
    output = options.get("output_activation") or inner
    used = {"rnn": [inner], "lstm": [gate, inner, output], "gru": [gate, inner]}[cell] * directions
    if (gate, inner, output) == ("sigmoid", "tanh", "tanh") and draw(st.booleans()):
        return {}
    pairs = [activation for activation in used if isinstance(activation, tuple)]
    names = [ONNX_NAMES[activation if isinstance(activation, str) else activation[0]] for activation in used]
    if cell != "rnn" and draw(st.booleans()):  # ONNX Runtime knows lower-case names, but not in an RNN
        names = [name.lower() for name in names]
    attributes: dict[str, Any] = {"activations": names}
    if pairs and not (set(pairs) == {("hard_sigmoid", 0.2, 0.5)} and draw(st.booleans())):
        attributes |= {"activation_alpha": [p[1] for p in pairs], "activation_beta": [p[2] for p in pairs]}
    return attributes


def in_float32(option: Any) -> Any:
    return (option[0], *(float(np.float32(n)) for n in option[1:])) if isinstance(option, tuple) else option


@st.composite
def drawn_nodes(draw: Any, *, for_runtime: bool = False) -> Drawn:
    """Nodes with every option at random; for ONNX Runtime float32, time first, and no sequence without steps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cell, direction = draw(st.sampled_from(list(GATES))), draw(st.sampled_from(list(SUFFIXES)))
    dtype = "float32" if for_runtime else draw(st.sampled_from(["float32", "float64"]))
    opset = draw(st.sampled_from([7, 14] if for_runtime else [7, 13, 14, 21, 22]))
    T, B, I, H = (draw(st.integers(least, most)) for least, most in ((int(for_runtime), 6), (1, 4), (1, 9), (1, 9)))  # noqa: E741
    D, batch_first = len(SUFFIXES[direction]), not for_runtime and opset >= 14 and draw(st.booleans())
    weights = make_weights(
        rng,
        cell,
        (I, H),
        directions=SUFFIXES[direction],
        biases=draw(st.sampled_from([(), ("bias_ih", "bias_hh")])),
        peepholes=cell == "lstm" and draw(st.booleans()),
        dtype=dtype,
    )
    options = draw_options(draw, cell)

    def numbers(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(dtype)

    x = numbers(B, T, I) if batch_first else numbers(T, B, I)
    lengths = rng.integers(int(for_runtime), T + 1, B) if draw(st.booleans()) else None
    given_states = {
        name: numbers(D, B, H) for name in ("initial_h", "initial_c")[: 1 + (cell == "lstm")] if draw(st.booleans())
    }
    both = [given_states.get(name, np.zeros((D, B, H), dtype)) for name in ("initial_h", "initial_c")]
    state = None if not given_states else tuple(both) if cell == "lstm" else both[0]
    attributes = activation_attributes(draw, options, cell, D)
    if "activation_alpha" in attributes:  # ONNX keeps it in float32
        options = {name: in_float32(value) for name, value in options.items()}
    case = Case(cell, weights, x, state, lengths, options, batch_first)

    arrays = {"X": x} | onnx_arrays(case, direction)
    if lengths is not None:
        arrays["sequence_lens"] = lengths.astype(np.int32)
    for name, array in given_states.items():
        arrays[name] = np.ascontiguousarray(array.swapaxes(0, 1)) if batch_first else array
    optional = {"hidden_size": H, "direction": direction, "layout": int(batch_first)}
    needed = {"direction": direction != "forward", "hidden_size": for_runtime, "layout": batch_first}
    for name, value in optional.items():
        if needed[name] or (draw(st.booleans()) and (name != "layout" or opset >= 14)):
            attributes[name] = value
    attributes |= {"clip": options["clip"]} if "clip" in options else {}
    attributes |= {"input_forget": 1} if options.get("input_forget") else {}
    attributes |= {"linear_before_reset": 1} if options.get("reset_after") else {}
    run_time = {"X"} | {name for name in arrays if name in INPUTS[4:7]}
    return Drawn(
        case,
        attributes,
        arrays,
        opset,
        frozenset(run_time),
        tuple(draw(st.lists(st.booleans(), min_size=3, max_size=3))),
    )


def draw_options(draw: Any, cell: str) -> dict[str, Any]:
    options: dict[str, Any] = {"reset_after": draw(st.booleans())} if cell == "gru" else {}
    names = {"rnn": [], "gru": ["recurrent_activation"], "lstm": ["recurrent_activation", "output_activation"]}[cell]
    if draw(st.booleans()):
        options |= {name: draw(st.sampled_from(ACTIVATIONS)) for name in ["activation", *names]}
    if draw(st.booleans()):
        options["clip"] = draw(st.sampled_from([0.125, 0.5]))
    if cell == "lstm":
        options["input_forget"] = draw(st.booleans())
    return options


def evaluator(model: Any) -> Any:
    return ReferenceEvaluator(model, new_ops=fastrnn.onnx.ops())


# Models by hand

rng = np.random.default_rng(3)
H, I = 4, 3  # noqa: E741
ROWS = {"RNN": H, "LSTM": 4 * H, "GRU": 3 * H}


def numbers(*shape: int, dtype: str = "f4") -> np.ndarray:
    return rng.uniform(-0.5, 0.5, shape).astype(dtype)


WEIGHTS = {
    op: {"W": numbers(1, rows, I), "R": numbers(1, rows, H), "B": numbers(1, 2 * rows)} for op, rows in ROWS.items()
}


def tensor(array: Any, name: str = "") -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def constant(name: str, value: Any = None, **attributes: Any) -> Any:
    attributes = attributes or {"value": tensor(value)}
    return helper.make_node("Constant", [], [name], **attributes)


def layer(op: str = "GRU", inputs: str = "X W R B", output: str = "Y", name: str = "layer", **attributes: Any) -> Any:
    """A node; "-" stands for an input that is absent."""
    given = ["" if one == "-" else one for one in inputs.split()]
    return helper.make_node(op, given, [output], name, **attributes)


def make(
    *nodes: Any, weights: Any = None, inputs: Any = (), opset: int = 22, functions: Any = (), **changes: Any
) -> Any:
    """A model of these nodes with initializers `weights`, of which `changes` replace, add, or (None) leave out some."""
    arrays = {**(WEIGHTS["GRU"] if weights is None else weights), **changes}
    tensors = [tensor(a, name) if isinstance(a, np.ndarray) else a for name, a in arrays.items() if a is not None]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("X", *inputs)]
    graph = helper.make_graph(list(nodes or [layer()]), "graph", values, [], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], functions=functions)


def external(location: str, **entries: int) -> Any:
    """W of a GRU, in another file."""
    array = WEIGHTS["GRU"]["W"]
    proto = onnx.TensorProto(name="W", data_type=1, dims=array.shape, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        proto.external_data.add(key=key, value=str(value))
    return proto
