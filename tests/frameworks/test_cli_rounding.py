"""`fastrnn check` judges: right conversions pass whatever their weights do with rounding, and wrong ones fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import _peers, _rounding, cli
from support.cases import Case, make_weights
from support.cells import CELLS, PARAMS
from support.command_line import needs, printed

torch = pytest.importorskip("torch")
KINDS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
SOME = settings(max_examples=max(settings.default.max_examples // 8, 1))  # each runs the reference many times
ONNX_ORDER = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}  # LSTM i o f g, GRU z r n, in PyTorch's order


def layer(cell: str, seed: int, scale: float, **sizes: Any) -> dict[str, np.ndarray]:
    """Weights uniform in +-scale/sqrt(H)."""
    rng = np.random.default_rng(seed)
    inputs, hidden = sizes.pop("inputs"), sizes.pop("hidden")
    names = make_weights(rng, cell, (inputs, hidden), **sizes)
    return {name: (rng.uniform(-1, 1, a.shape) * scale / hidden**0.5).astype("f4") for name, a in names.items()}


def verdicts(params: Any, x: np.ndarray, *peers: _peers.Peer) -> list[_rounding.Verdict]:
    exact = _peers.results(_peers.exact(params, x))
    limits = _rounding.bounds(params, x, exact)
    return [_rounding.judge(_peers.results(peer), exact, limits) for peer in (_peers.ours(params, x, 1), *peers)]


@SOME
@given(
    cell=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-4, 0.3, 1, 3, 10]),
    layers=st.integers(1, 4),
    hidden=st.sampled_from([1, 2, 16, 40, 130]),
    inputs=st.sampled_from([1, 3, 40]),
    both=st.booleans(),
    proj=st.sampled_from([0, 0, 3]),
    steps=st.sampled_from([1, 2, 10, 100, 400]),
    rows=st.sampled_from([1, 2, 9]),
    bias=st.sampled_from([0, 0, -5, 20]),
    still=st.booleans(),
)
def test_right_conversions_to_torch(
    cell: str, seed: int, scale: float, layers: int, hidden: int, inputs: int, both: bool, proj: int, steps: int,
    rows: int, bias: int, still: bool,
) -> None:  # fmt: skip
    """Deep, saturated and long layers, and inputs that stay the same, so that each step rounds as the last one did."""
    directions = ("", "_reverse") if both else ("",)
    sizes = {"proj": proj} if cell == "lstm" and proj < hidden else {}
    weights = layer(cell, seed, scale, inputs=inputs, hidden=hidden, layers=layers, directions=directions, **sizes)
    weights = {name: a + np.float32(bias) if "bias_ih" in name else a for name, a in weights.items()}
    x = np.random.default_rng(seed).normal(size=(steps, rows, inputs)).astype("f4")
    x = np.tile(x[:1], (steps, 1, 1)) if still else x
    params = PARAMS[cell](weights)
    with _peers.running(1):
        assert all(verdict.right for verdict in verdicts(params, x, _peers.torch(params, x)))


@SOME
@given(
    cell=st.sampled_from(list(CELLS)),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.0, 0.3, 3]),
    dtype=st.sampled_from(["float32", "float64"]),
    activation=st.sampled_from(
        ["tanh", "relu", "linear", "softsign", ("linear", 2.0, 1.0), ("hard_sigmoid", 0.2, 0.5)]
    ),
    flag=st.booleans(),
    clip=st.sampled_from([None, 0.5]),
    steps=st.sampled_from([1, 30, 300]),
)
def test_any_option(
    cell: str, seed: int, scale: float, dtype: str, activation: Any, flag: bool, clip: float | None, steps: int
) -> None:
    """Numbers that grow until they overflow too: no bound is set where rounding may have led to infinity."""
    weights = {name: a.astype(dtype) for name, a in layer(cell, seed, scale, inputs=3, hidden=17, layers=2).items()}
    options = {"activation": activation, "clip": clip} | dict.fromkeys(CELLS[cell].flags, flag)
    x = np.random.default_rng(seed).normal(size=(steps, 2, 3)).astype(dtype)
    assert verdicts(PARAMS[cell](weights, **options), x)[0].right


def onnx_file(
    cell: str, weights: dict[str, np.ndarray], directions: tuple[str, ...], path: str, reset: int = 1
) -> None:
    import onnx
    from onnx import helper, numpy_helper

    gates = ONNX_ORDER[cell]

    def ordered(plain: str) -> np.ndarray:
        arrays = [weights[f"{plain}_l0{end}"] for end in directions]
        return np.stack([np.concatenate([np.split(a, len(gates))[k] for k in gates]) for a in arrays])

    arrays = {"W": ordered("weight_ih"), "R": ordered("weight_hh")}
    arrays["B"] = np.concatenate([ordered("bias_ih"), ordered("bias_hh")], axis=1)
    more = {"linear_before_reset": reset} if cell == "gru" else {}
    direction = {1: "forward", 2: "bidirectional"}[len(directions)]
    node = helper.make_node(
        cell.upper(), ["X", "W", "R", "B"], ["Y"], "n", hidden_size=arrays["R"].shape[2], direction=direction, **more
    )
    x, y = (
        helper.make_tensor_value_info("X", 1, ["T", "B", arrays["W"].shape[2]]),
        helper.make_tensor_value_info("Y", 1, None),
    )
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "g", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@needs("onnx", "onnxruntime")
@SOME
@given(
    cell=st.sampled_from(list(KINDS)),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.3, 1, 3, 10]),
    hidden=st.sampled_from([1, 2, 16, 40]),
    both=st.booleans(),
    steps=st.sampled_from([1, 10, 200]),
    reset=st.booleans(),
)
def test_right_conversions_of_onnx(
    tmp_path_factory: pytest.TempPathFactory, cell: str, seed: int, scale: float, hidden: int, both: bool, steps: int,
    reset: bool,
) -> None:  # fmt: skip
    directions = ("", "_reverse") if both else ("",)
    path = str(tmp_path_factory.getbasetemp() / "right.onnx")
    onnx_file(cell, layer(cell, seed, scale, inputs=3, hidden=hidden, directions=directions), directions, path, reset)
    params = fastrnn.from_onnx(path)
    x = np.random.default_rng(seed).normal(size=(steps, 2, 3)).astype("f4")
    assert all(verdict.right for verdict in verdicts(params, x, _peers.onnxruntime(path, None, x, 1)))


# Wrong conversions: what a loader would have made of the file, were it wrong.


def swap_gates(weights: dict[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([*reversed(np.split(a, gates)[:2]), *np.split(a, gates)[2:]])
        for name, a in weights.items()
    }


def without_bias(weights: dict[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
    return {name: a for name, a in weights.items() if "bias_hh" not in name}


def wrong_row(weights: dict[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
    changed = {name: a.copy() for name, a in weights.items()}
    changed["weight_hh_l0"][1] = changed["weight_hh_l0"][2]
    return changed


def reversed_direction(weights: dict[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
    if any("_reverse" in name for name in weights):
        return {
            f"{name}_reverse" if "_reverse" not in name else name[: -len("_reverse")]: a for name, a in weights.items()
        }
    return {f"{name}_reverse": a for name, a in weights.items()}


def other_layer(weights: dict[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    return {name: rng.permutation(a.ravel()).reshape(a.shape) for name, a in weights.items()}


def rounded(weights: dict[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
    return {name: a.astype(np.float16).astype(np.float32) for name, a in weights.items()}


WRONG: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "gates": swap_gates,
    "bias": without_bias,
    "row": wrong_row,
    "direction": reversed_direction,
    "layer": other_layer,
    "float16": rounded,
}


@needs("onnx", "onnxruntime")
@pytest.mark.parametrize("scale", [1, 6])
@pytest.mark.parametrize("cell", list(KINDS))
@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("kind", ["onnx", "pt", "both"])
def test_wrong_conversions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    kind: str, fault: str, cell: str, scale: float,
) -> None:  # fmt: skip
    if fault == "gates" and cell == "rnn":
        pytest.skip("one gate")
    directions = ("", "_reverse") if kind == "both" else ("",)
    weights = layer(cell, 1, scale, inputs=5, hidden=20, directions=directions)
    path, wrong = str(tmp_path / f"model.{kind}"), WRONG[fault](weights, len(CELLS[cell].gates))
    flags = []
    if kind == "pt":
        torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, path)
        flags = ["--activation", "tanh"] if cell == "rnn" else []
        if fault == "direction":
            pytest.skip("the names of the tensors say it")
    else:
        onnx_file(cell, weights, directions, path)
    assert "passed" in printed(capsys, "check", path, *flags)
    monkeypatch.setattr(cli, "_open_layer", lambda *args: PARAMS[cell](wrong))
    told = json.loads(printed(capsys, "check", path, *flags, "--json", status=1))
    assert told["fastrnn_share"] < 1 < told["peer_share"]
    assert "FAILED" in printed(capsys, "check", path, *flags, status=1)


@needs("onnx", "onnxruntime")
def test_a_wrong_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weights, path = layer("gru", 1, 1, inputs=5, hidden=20), str(tmp_path / "model.onnx")
    for reset in (0, 1):
        onnx_file("gru", weights, ("",), path, reset)
        monkeypatch.setattr(cli, "_open_layer", lambda *args, r=reset: PARAMS["gru"](weights, reset_after=not r))
        assert "FAILED" in printed(capsys, "check", path, status=1)


def test_roundings_that_repeat() -> None:
    """A counter adds the same number at each step, so that its roundings add up; the bound grows with them."""
    weights = {"weight_ih_l0": np.zeros((16, 1), "f4"), "weight_hh_l0": np.zeros((16, 4), "f4")}
    weights["bias_ih_l0"] = np.float32([20] * 8 + [0.2, 0.5, 0.7, 0.9] + [0] * 4)
    (verdict,) = verdicts(PARAMS["lstm"](weights), np.zeros((4000, 1, 1), "f4"))
    assert verdict.share < 0.1  # 0.05; 0.2 to 0.45, and more for more steps, were signs drawn anew at every step


def test_a_wrong_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fastrnn computes wrongly is beyond the bound, by little more than rounding."""
    case = Case("lstm", layer("lstm", 1, 1, inputs=5, hidden=20), np.random.default_rng(0).normal(size=(50, 2, 5)))
    params, x = case.params(), case.x.astype("f4")
    exact = _peers.results(_peers.exact(params, x))
    limits = _rounding.bounds(params, x, exact)
    for k in range(3):
        for off, right in ((1e-3, False), (1e-8, True)):
            results = [*_peers.results(_peers.ours(params, x, 1))]
            results[k] = results[k] + np.float64(off)
            assert _rounding.judge(tuple(results), exact, limits).right is right


def test_layers_whose_rounding_grows_are_judged_by_the_first_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A chaotic layer: fastrnn and PyTorch differ by all that there is in the end, and rightly so."""
    weights, path = layer("rnn", 3, 20, inputs=2, hidden=40), str(tmp_path / "model.pt")
    torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, path)
    command = ["check", path, "--activation", "tanh", "--steps", "300"]
    told = json.loads(printed(capsys, *command, "--json"))
    assert told["difference"] > 0.1
    assert 1 <= told["told_steps"] < 300
    assert "tell layers apart" in printed(capsys, *command)
    monkeypatch.setattr(cli, "_open_layer", lambda *args: PARAMS["rnn"](wrong_row(weights, 1)))
    assert "FAILED" in printed(capsys, *command, status=1)
