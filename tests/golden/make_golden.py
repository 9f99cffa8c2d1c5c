"""Make the golden arrays: what PyTorch and ONNX compute, for the tests of `fastrnn.reference` and of fastrnn itself.

    python tests/golden/make_golden.py [--out DIR]

needs torch, onnx and onnxruntime, and writes one file an oracle:

torch.npz        PyTorch's modules in float64.
onnx.npz         ONNX's own `ReferenceEvaluator` in float64.
onnxruntime.npz  ONNX Runtime in float32 (it has no float64), for what the evaluator lacks: without a word that one
                 ignores `clip`, `input_forget`, `sequence_lens`, and the LSTM's and GRU's `activations`; of the
                 RNN's it knows Tanh and Affine and refuses the others.

The arrays of a case are named ``case/array``; nothing is pickled.

case/options    JSON: "function" (rnn, lstm, gru, or rnn_cell ... for one step) and "options", its keyword arguments
case/x          the input, as the function takes it
case/h_0, c_0   the initial state, where one is given
case/lengths    (B,) integers, where given
case/weights/*  PyTorch's names and gate order, whichever the oracle's were
case/y, h_n, c_n  expected. A cell has no y. y is laid out as fastrnn's, (T, B, D*Hout)

Inputs and weights are multiples of 1/128 in (-1, 1), exact in float32 as well, so that every oracle and every precision
sees the same numbers. Running the script twice makes identical files.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator

Arrays = dict[str, np.ndarray]

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
# PyTorch's order (LSTM i f g o, GRU r z n, peepholes i f o) by places in ONNX's (i o f c, z r h, i o f).
GATE_FROM_ONNX = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}
PEEPHOLE_FROM_ONNX = [0, 2, 1]


def rng_of(name: str) -> np.random.Generator:
    """A generator of the case's own, so that adding a case changes no other."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Multiples of 1/128 in (-1, 1)."""
    return rng.integers(-127, 128, shape) / 128


def case(name: str, function: str, options: dict[str, Any], weights: Arrays, **arrays: np.ndarray | None) -> Arrays:
    """The arrays of a case as they are stored; None is left out."""
    text = json.dumps({"function": function, "options": options}, sort_keys=True)
    stored = {"options": np.array(text)} | {key: a for key, a in arrays.items() if a is not None}
    stored |= {f"weights/{key}": a for key, a in weights.items()}
    return {f"{name}/{key}": a for key, a in stored.items()}


# PyTorch


def torch_module(module: torch.nn.Module, rng: np.random.Generator) -> tuple[torch.nn.Module, Arrays]:
    """The module with drawn weights, and these as arrays."""
    weights = {name: draw(rng, *weight.shape) for name, weight in module.named_parameters()}
    module.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
    return module.requires_grad_(False), weights


def torch_case(
    name: str,
    kind: str,
    shape: tuple[int, int, int, int] = (5, 3, 3, 4),
    *,
    lengths: list[int] | None = None,
    state: bool = True,
    unbatched: bool = False,
    **module_options: Any,
) -> Arrays:
    """A sequence, or a packed batch of several, through nn.RNN, nn.LSTM or nn.GRU. `shape` is T, B, I, H."""
    rng = rng_of(name)
    T, B, input_size, H = shape
    module, weights = torch_module(getattr(torch.nn, kind)(input_size, H, dtype=torch.float64, **module_options), rng)
    batch_first = module.batch_first
    L_D = module.num_layers * (1 + module.bidirectional)
    batch = () if unbatched else (B,)
    x = draw(rng, *((B, T) if batch_first and not unbatched else (T, *batch)), input_size)
    h_0 = draw(rng, L_D, *batch, module.proj_size or H) if state else None
    c_0 = draw(rng, L_D, *batch, H) if state and kind == "LSTM" else None

    hx = [torch.from_numpy(s) for s in (h_0, c_0) if s is not None]
    hx = None if not hx else hx[0] if len(hx) == 1 else tuple(hx)
    if lengths is None:
        y, final = module(torch.from_numpy(x), hx)
    else:
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(torch.from_numpy(x), torch.tensor(lengths), batch_first, enforce_sorted=False)
        packed_y, final = module(packed, hx)
        y, _ = rnn.pad_packed_sequence(packed_y, batch_first, total_length=T)
    h_n, c_n = final if kind == "LSTM" else (final, None)

    return case(
        name,
        kind.lower(),
        ({"batch_first": True} if batch_first else {}) | ({"activation": module.nonlinearity} if kind == "RNN" else {}),
        weights,
        x=x,
        h_0=h_0,
        c_0=c_0,
        lengths=None if lengths is None else np.array(lengths),
        y=y.numpy(),
        h_n=h_n.numpy(),
        c_n=None if c_n is None else c_n.numpy(),
    )


def torch_cell_case(name: str, kind: str, shape: tuple[int, int, int] = (3, 3, 4), **module_options: Any) -> Arrays:
    """One step of nn.RNNCell, nn.LSTMCell or nn.GRUCell. `shape` is B, I, H."""
    rng = rng_of(name)
    B, input_size, H = shape
    module = getattr(torch.nn, kind + "Cell")(input_size, H, dtype=torch.float64, **module_options)
    module, weights = torch_module(module, rng)
    x, h_0 = draw(rng, B, input_size), draw(rng, B, H)
    options = {"activation": module.nonlinearity} if kind == "RNN" else {}
    function = f"{kind.lower()}_cell"
    if kind == "LSTM":
        c_0 = draw(rng, B, H)
        h_n, c_n = module(torch.from_numpy(x), (torch.from_numpy(h_0), torch.from_numpy(c_0)))
        return case(name, function, options, weights, x=x, h_0=h_0, c_0=c_0, h_n=h_n.numpy(), c_n=c_n.numpy())
    h_n = module(torch.from_numpy(x), torch.from_numpy(h_0))
    return case(name, function, options, weights, x=x, h_0=h_0, h_n=h_n.numpy())


def torch_cases() -> list[Arrays]:
    packed = {"shape": (5, 4, 3, 3), "lengths": [2, 5, 3, 1]}
    return [
        torch_case("rnn_tanh", "RNN"),
        torch_case("rnn_relu", "RNN", nonlinearity="relu"),
        torch_case("rnn_zero_state", "RNN", (5, 2, 2, 5), state=False),
        torch_case("rnn_no_bias", "RNN", (5, 3, 4, 3), bias=False),
        torch_case("rnn_2_layers_bidirectional", "RNN", num_layers=2, bidirectional=True),
        torch_case("rnn_relu_3_layers", "RNN", num_layers=3, nonlinearity="relu"),
        torch_case("rnn_packed_bidirectional", "RNN", bidirectional=True, **packed),
        torch_case("rnn_batch_first", "RNN", batch_first=True),
        torch_case("rnn_unbatched", "RNN", unbatched=True, bidirectional=True),
        torch_case("lstm", "LSTM"),
        torch_case("lstm_wide", "LSTM", (3, 2, 5, 17)),
        torch_case("lstm_1_1", "LSTM", (9, 1, 1, 1)),
        torch_case("lstm_zero_state", "LSTM", (5, 2, 2, 5), state=False),
        torch_case("lstm_no_bias", "LSTM", (5, 3, 4, 3), bias=False),
        torch_case("lstm_bidirectional", "LSTM", bidirectional=True),
        torch_case("lstm_3_layers", "LSTM", num_layers=3),
        torch_case("lstm_2_layers_bidirectional", "LSTM", num_layers=2, bidirectional=True),
        torch_case("lstm_packed", "LSTM", **packed),
        torch_case(
            "lstm_packed_2_layers_bidirectional", "LSTM", num_layers=2, bidirectional=True, batch_first=True, **packed
        ),
        torch_case("lstm_batch_first", "LSTM", batch_first=True),
        torch_case("lstm_unbatched", "LSTM", unbatched=True, bidirectional=True, num_layers=2),
        torch_case("lstm_unbatched_batch_first", "LSTM", unbatched=True, batch_first=True),
        torch_case("lstm_proj", "LSTM", (5, 3, 3, 5), proj_size=2),
        torch_case("lstm_proj_no_bias_zero_state", "LSTM", proj_size=3, bias=False, state=False),
        torch_case("lstm_proj_2_layers_bidirectional", "LSTM", proj_size=2, num_layers=2, bidirectional=True),
        torch_case("lstm_proj_packed", "LSTM", proj_size=2, bidirectional=True, **packed),
        torch_case("gru", "GRU"),
        torch_case("gru_wide", "GRU", (3, 2, 5, 17)),
        torch_case("gru_zero_state", "GRU", (5, 2, 2, 5), state=False),
        torch_case("gru_no_bias", "GRU", (5, 3, 4, 3), bias=False),
        torch_case("gru_bidirectional", "GRU", bidirectional=True),
        torch_case("gru_3_layers", "GRU", num_layers=3),
        torch_case("gru_packed_2_layers_bidirectional", "GRU", num_layers=2, bidirectional=True, **packed),
        torch_case("gru_batch_first", "GRU", batch_first=True),
        torch_case("gru_unbatched", "GRU", unbatched=True),
        torch_cell_case("rnn_cell_tanh", "RNN"),
        torch_cell_case("rnn_cell_relu_no_bias", "RNN", nonlinearity="relu", bias=False),
        torch_cell_case("lstm_cell", "LSTM"),
        torch_cell_case("lstm_cell_no_bias", "LSTM", (2, 2, 5), bias=False),
        torch_cell_case("gru_cell", "GRU"),
        torch_cell_case("gru_cell_no_bias", "GRU", (2, 2, 5), bias=False),
    ]


# ONNX


def onnx_model(kind: str, inputs: Arrays, attributes: dict[str, Any]) -> onnx.ModelProto:
    """A model of one operator; an input that is not among `inputs` is left out."""
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h"] + (["initial_c", "P"] if kind == "LSTM" else [])
    outputs = ["Y", "Y_h"] + (["Y_c"] if kind == "LSTM" else [])
    node = onnx.helper.make_node(kind, [n if n in inputs else "" for n in names], outputs, **attributes)
    element = onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        [node],
        kind,
        [onnx.helper.make_tensor_value_info(n, element(a.dtype), a.shape) for n, a in inputs.items()],
        [onnx.helper.make_tensor_value_info(n, element(inputs["X"].dtype), None) for n in outputs],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)


def run_evaluator(kind: str, inputs: Arrays, attributes: dict[str, Any]) -> list[np.ndarray]:
    return ReferenceEvaluator(onnx_model(kind, inputs, attributes)).run(None, inputs)


def run_onnxruntime(kind: str, inputs: Arrays, attributes: dict[str, Any]) -> list[np.ndarray]:
    inputs = {n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in inputs.items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx_model(kind, inputs, attributes).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, inputs)


def reorder(a: np.ndarray, order: list[int]) -> np.ndarray:
    """Put the equal parts of the first axis in another order."""
    parts = np.split(a, len(order))
    return np.concatenate([parts[k] for k in order])


def weights_from_onnx(kind: str, inputs: Arrays, direction: str) -> Arrays:
    """PyTorch's names and gate order for the operator's W, R, B and P."""
    suffixes = {"forward": ["_l0"], "reverse": ["_l0_reverse"], "bidirectional": ["_l0", "_l0_reverse"]}[direction]
    order = GATE_FROM_ONNX[kind]
    weights = {}
    for d, suffix in enumerate(suffixes):
        weights["weight_ih" + suffix] = reorder(inputs["W"][d], order)
        weights["weight_hh" + suffix] = reorder(inputs["R"][d], order)
        if "B" in inputs:
            bias_w, bias_r = np.split(inputs["B"][d], 2)
            weights["bias_ih" + suffix] = reorder(bias_w, order)
            weights["bias_hh" + suffix] = reorder(bias_r, order)
        if "P" in inputs:
            weights["weight_peephole" + suffix] = reorder(inputs["P"][d], PEEPHOLE_FROM_ONNX)
    return weights


def onnx_case(
    run: Callable[[str, Arrays, dict[str, Any]], list[np.ndarray]],
    name: str,
    kind: str,
    shape: tuple[int, int, int, int] = (5, 3, 3, 4),
    *,
    direction: str = "forward",
    bias: bool = True,
    state: bool = True,
    peepholes: bool = False,
    lengths: list[int] | None = None,
    options: dict[str, Any] | None = None,
    **attributes: Any,
) -> Arrays:
    """A sequence through the operator. `attributes` are ONNX's; `options` say the same in fastrnn's words."""
    rng = rng_of(name)
    T, B, input_size, H = shape
    G, D = GATES[kind], 2 if direction == "bidirectional" else 1
    inputs = {"X": draw(rng, T, B, input_size), "W": draw(rng, D, G * H, input_size), "R": draw(rng, D, G * H, H)}
    if bias:
        inputs["B"] = draw(rng, D, 2 * G * H)
    if lengths is not None:
        inputs["sequence_lens"] = np.array(lengths, np.int32)
    if state:
        inputs["initial_h"] = draw(rng, D, B, H)
    if state and kind == "LSTM":
        inputs["initial_c"] = draw(rng, D, B, H)
    if peepholes:
        inputs["P"] = draw(rng, D, 3 * H)

    attributes |= {"hidden_size": H, "direction": direction}
    results = run(kind, inputs, attributes)
    if run is run_evaluator:  # a second opinion
        for result, second in zip(results, run_onnxruntime(kind, inputs, attributes), strict=True):
            np.testing.assert_allclose(result, second, rtol=0, atol=1e-5, err_msg=name)
    y, h_n, *c_n = results
    return case(
        name,
        kind.lower(),
        options or {},
        weights_from_onnx(kind, inputs, direction),
        x=inputs["X"],
        h_0=inputs.get("initial_h"),
        c_0=inputs.get("initial_c"),
        lengths=inputs.get("sequence_lens"),
        y=y.transpose(0, 2, 1, 3).reshape(T, B, D * H),
        h_n=h_n,
        c_n=c_n[0] if c_n else None,
    )


AFTER: dict[str, Any] = {"linear_before_reset": 1, "options": {"reset_after": True}}
BEFORE: dict[str, Any] = {"linear_before_reset": 0, "options": {"reset_after": False}}


def onnx_cases() -> list[Arrays]:
    """What the reference evaluator can: all directions, both forms of the GRU, peepholes."""
    new = partial(onnx_case, run_evaluator)
    affine = {"activations": ["Affine"], "activation_alpha": [0.25], "activation_beta": [0.125]}
    return [
        new("rnn_forward", "RNN"),
        new("rnn_reverse", "RNN", direction="reverse"),
        new("rnn_bidirectional", "RNN", direction="bidirectional", activations=["Tanh", "Tanh"]),
        new("rnn_affine", "RNN", options={"activation": ["linear", 0.25, 0.125]}, **affine),
        new("lstm_forward", "LSTM"),
        new("lstm_reverse", "LSTM", direction="reverse"),
        new("lstm_bidirectional", "LSTM", direction="bidirectional"),
        new("lstm_no_bias", "LSTM", bias=False),
        new("lstm_zero_state", "LSTM", state=False, direction="reverse"),
        new("lstm_peepholes", "LSTM", peepholes=True),
        new("lstm_peepholes_no_bias", "LSTM", (5, 3, 3, 5), peepholes=True, bias=False),
        new("lstm_peepholes_reverse", "LSTM", peepholes=True, direction="reverse"),
        new("lstm_peepholes_bidirectional", "LSTM", peepholes=True, direction="bidirectional"),
        new("gru_after_forward", "GRU", **AFTER),
        new("gru_after_reverse", "GRU", direction="reverse", **AFTER),
        new("gru_before_forward", "GRU", **BEFORE),
        new("gru_before_wide", "GRU", (3, 2, 5, 17), **BEFORE),
        new("gru_before_no_bias", "GRU", bias=False, **BEFORE),
        new("gru_before_zero_state", "GRU", state=False, **BEFORE),
        new("gru_before_reverse", "GRU", direction="reverse", **BEFORE),
        new("gru_before_bidirectional", "GRU", direction="bidirectional", **BEFORE),
    ]


def onnxruntime_cases() -> list[Arrays]:
    """What the evaluator lacks. No row has length 0: there ONNX Runtime gives a zero state, fastrnn the initial one."""
    new = partial(onnx_case, run_onnxruntime)
    packed: dict[str, Any] = {"shape": (5, 4, 3, 3), "lengths": [2, 5, 3, 1]}
    hard = {"activation_alpha": [0.25], "activation_beta": [0.375]}
    hard_option = {"recurrent_activation": ["hard_sigmoid", 0.25, 0.375]}
    bare_hard_option = {"recurrent_activation": ["hard_sigmoid", 0.2, 0.5]}  # ONNX's own constants
    return [
        new("rnn_clip", "RNN", options={"clip": 0.5}, clip=0.5),
        new("rnn_relu", "RNN", options={"activation": "relu"}, activations=["Relu"]),
        new("rnn_softsign", "RNN", options={"activation": "softsign"}, activations=["Softsign"]),
        new("rnn_sigmoid", "RNN", options={"activation": "sigmoid"}, activations=["Sigmoid"]),
        new("rnn_packed", "RNN", **packed),
        new("rnn_packed_reverse", "RNN", direction="reverse", **packed),
        new("lstm_clip", "LSTM", options={"clip": 0.5}, clip=0.5),
        new("lstm_clip_peepholes", "LSTM", peepholes=True, options={"clip": 0.5}, clip=0.5),
        new("lstm_clip_no_bias", "LSTM", bias=False, options={"clip": 0.5}, clip=0.5),
        new("lstm_input_forget", "LSTM", options={"input_forget": True}, input_forget=1),
        new(
            "lstm_input_forget_clip_peepholes",
            "LSTM",
            peepholes=True,
            options={"input_forget": True, "clip": 0.5},
            input_forget=1,
            clip=0.5,
        ),
        new("lstm_packed", "LSTM", **packed),
        new("lstm_packed_reverse", "LSTM", direction="reverse", **packed),
        new("lstm_packed_bidirectional_peepholes", "LSTM", direction="bidirectional", peepholes=True, **packed),
        new("lstm_hard_sigmoid", "LSTM", options=bare_hard_option, activations=["HardSigmoid", "Tanh", "Tanh"]),
        new(
            "lstm_hard_sigmoid_relu_softsign",
            "LSTM",
            options=hard_option | {"activation": "relu", "output_activation": "softsign"},
            activations=["HardSigmoid", "Relu", "Softsign"],
            **hard,
        ),
        new(
            "lstm_sigmoid_affine_sigmoid",
            "LSTM",
            options={"activation": ["linear", 0.5, 0.25], "output_activation": "sigmoid"},
            activations=["Sigmoid", "Affine", "Sigmoid"],
            activation_alpha=[0.5],
            activation_beta=[0.25],
        ),
        new("gru_after_clip", "GRU", options={"reset_after": True, "clip": 0.5}, linear_before_reset=1, clip=0.5),
        new("gru_before_clip", "GRU", options={"reset_after": False, "clip": 0.5}, clip=0.5),
        new("gru_after_packed_bidirectional", "GRU", direction="bidirectional", **AFTER, **packed),
        new("gru_before_packed", "GRU", **BEFORE, **packed),
        new("gru_before_packed_reverse", "GRU", direction="reverse", **BEFORE, **packed),
        new(
            "gru_after_hard_sigmoid_softsign",
            "GRU",
            options=hard_option | {"activation": "softsign", "reset_after": True},
            activations=["HardSigmoid", "Softsign"],
            linear_before_reset=1,
            **hard,
        ),
        new(
            "gru_before_hard_sigmoid_relu",
            "GRU",
            options=bare_hard_option | {"activation": "relu", "reset_after": False},
            activations=["HardSigmoid", "Relu"],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the golden arrays.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    for oracle, cases in (("torch", torch_cases()), ("onnx", onnx_cases()), ("onnxruntime", onnxruntime_cases())):
        arrays = {key: a for case_arrays in cases for key, a in case_arrays.items()}
        path = out / f"{oracle}.npz"
        np.savez_compressed(path, **arrays)
        print(f"{path.name}: {len(cases)} cases, {len(arrays)} arrays, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
