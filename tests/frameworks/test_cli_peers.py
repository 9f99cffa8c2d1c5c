"""The command line with files of PyTorch and ONNX, and with what it compares layers with."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _peers
from fastrnn.cli import main
from fastrnn.torch import file as torch_file
from support.command_line import needs, printed, run, said, write_files


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_files()
    return tmp_path


@needs("torch")
def test_bench_as_a_process(files: Path) -> None:
    result = run("bench", str(files / "lstm.npz"), "--rounds", "1", "--steps", "3", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["ratio"] > 0


@needs("torch")
def test_torch(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    module = torch.nn.ModuleDict(
        {"a": torch.nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2), "b": torch.nn.RNN(3, 5)}
    )
    module["c"] = torch.nn.GRU(3, 5, bias=False)
    torch.save({"epoch": 3, "model": module.state_dict()}, "model.pt")
    out = printed(capsys, "inspect", "model.pt").splitlines()
    assert [line.partition(":")[0] for line in out] == ["'model.a.'", "'model.b.'", "'model.c.'"]
    assert out[1].startswith("'model.b.': rnn I=3 H=5, 1 layer, forward, float32, 50 parameters, 200 bytes (")
    assert said(capsys, "check", "model.pt", "--prefix", "model.b") == (
        "--activation: expected tanh or relu, which the state_dict of an RNN does not tell, got none"
    )
    assert said(capsys, "check", "model.pt", "--prefix", "model.c", "--activation", "relu") == (
        "--activation: expected none, since the layer is of kind 'gru', got 'relu'"
    )
    for prefix, *more in (["model.a"], ["model.b", "--activation", "relu"], ["model.c."]):
        assert "PyTorch" in printed(capsys, "check", "model.pt", "--prefix", prefix, *more)
        printed(capsys, "convert", "model.pt", "new.npz", "--prefix", prefix, *more)
        assert "PyTorch" in printed(capsys, "check", "new.npz", "--against", "torch")
    printed(capsys, "convert", "model.pt", "new.npz", "--prefix", "model.a", "--dtype", "float64")
    assert "PyTorch" in printed(capsys, "check", "new.npz", "--against", "torch")
    assert "times as long" in printed(capsys, "bench", "model.pt", "--prefix", "model.c", "--rounds", "1")
    assert said(capsys, "check", "before.npz", "--against", "torch") == (
        "--against: PyTorch has no reset_after=False and no clip=0.5; --against reference has no such limits"
    )
    assert said(capsys, "bench", "reverse.npz", "--against", "torch") == (
        "--against: PyTorch has no layer that runs in reverse alone"
    )


@needs("torch")
def test_nested_dicts(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    state = torch.nn.GRU(3, 5).state_dict()
    cyclic: dict[str, Any] = {"weight_ih": torch.zeros(1)}
    cyclic["again"] = cyclic
    torch.save(cyclic, "cyclic.pt")
    assert printed(capsys, "inspect", "cyclic.pt", status=1).count("\n") == 1
    torch.save({"m": state, "ema": state, "n": {"m": state}}, "twice.pt")
    told = json.loads(printed(capsys, "inspect", "twice.pt", "--json"))["layers"]
    assert [(layer["name"], layer["cell"]) for layer in told] == [("ema.", "gru"), ("m.", "gru"), ("n.m.", "gru")]
    weight = state["weight_ih_l0"]
    torch.save({"a": {"weight_ih_l0": weight}, "a.weight_ih_l0": weight}, "dots.pt")
    assert said(capsys, "inspect", "dots.pt") == (
        "dots.pt: expected one tensor of the name 'a.weight_ih_l0', got ['a']['weight_ih_l0'] and ['a.weight_ih_l0']"
    )
    torch.save({1: weight, "1": weight}, "keys.pt")
    assert said(capsys, "inspect", "keys.pt") == "keys.pt: expected one tensor of the name '1', got [1] and ['1']"
    many: dict[str, Any] = {}
    for _ in range(30):
        many = {"a": many, "b": many}
    torch.save(many, "many.pt")
    monkeypatch.setattr(torch_file, "_MOST_ENTRIES", 1000)
    assert said(capsys, "inspect", "many.pt") == "many.pt: expected at most 1000 entries, got more"


@needs("torch")
def test_tensors_that_are_no_weights(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    state = torch.nn.GRU(3, 5).state_dict()
    torch.save(state | {"weight_hh_l0": state["weight_hh_l0"].to_sparse()}, "sparse.pt")
    torch.save(state | {"bias_ih_l0": state["bias_ih_l0"] * 1j}, "complex.pt")
    assert said(capsys, "check", "sparse.pt").startswith("weight_hh_l0: expected a dense tensor, got ")
    assert said(capsys, "check", "complex.pt").startswith("bias_ih_l0: expected float32 or float64, got ")
    assert printed(capsys, "inspect", "sparse.pt", status=1).startswith(
        "'': weight_hh_l0: expected a dense tensor, got "
    )


@needs("torch")
def test_warnings_of_torch_are_not_shown(files: Path) -> None:
    """PyTorch's warning about projections, in a process where warnings are errors."""
    import torch

    torch.save(torch.nn.LSTM(3, 5, proj_size=2).state_dict(), "projected.pt")
    for command in (["check"], ["bench", "--rounds", "1", "--steps", "2"]):
        result = run(command[0], str(files / "projected.pt"), *command[1:])
        assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("[ONNXRuntimeError] : 6 : FAIL : no double\n yet", "no double yet"),
        (
            "before /src/core/gru.cc:57 Gru::Gru(const Info&) [with T = float] hidden was false.",
            "before hidden was false.",
        ),
        ("x" * 300, "x" * 200 + "..."),
        ("", "RuntimeError"),
    ],
)
def test_words_of_other_programs_are_cut(words: str, shown: str) -> None:
    assert str(_peers._refused("It", RuntimeError(words))) == f"--against: It refuses this layer: {shown}"


@needs("torch")
def test_what_torch_raises_in_the_call(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fail(*args: Any) -> None:
        raise RuntimeError("not here")

    monkeypatch.setattr(torch.nn.LSTM, "forward", fail)
    expected = "--against: PyTorch refuses this layer: not here"
    assert said(capsys, "bench", "lstm.npz") == expected
    assert (
        said(capsys, "check", "lstm.npz", "--against", "torch") == f"{expected}; --against reference has no such limits"
    )


@needs("torch")
def test_files_of_torch_that_hold_more_than_tensors(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message is ours: PyTorch's advises to load the file unsafely, with an escape sequence for a terminal."""
    import torch

    torch.save(torch.nn.LSTM(3, 5), "whole.pt")
    Path("runs.pt").write_bytes(b"cos\nmkdir\n(S'executed'\ntR.")
    Path("broken.pt").write_bytes(b"PK\3\4")
    with zipfile.ZipFile("script.pt", "w") as archive:  # the entry by which PyTorch knows a TorchScript archive
        archive.writestr("script/constants.pkl", b"\x80\x02).")
        archive.writestr("script/version", b"3\n")
    for name, got in {
        "whole.pt": "a file that holds other objects, such as torch.nn.modules.rnn.LSTM",
        "runs.pt": "a file that holds other objects, such as os.mkdir",
        "broken.pt": "a file that is none of PyTorch, or a broken one",
        "script.pt": "a TorchScript archive",
    }.items():
        expected = f"{name}: expected tensors alone (torch.save(model.state_dict(), ...)), got {got}"
        assert said(capsys, "inspect", name).replace("posix.", "os.") == expected
    assert not Path("executed").exists()


@needs("torch")
def test_threads_of_torch_are_restored(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before, seen = torch.get_num_threads(), []
    torch_peer, medians = _peers.torch, _peers.medians

    def seeing(*args: Any) -> _peers.Peer:
        peer = torch_peer(*args)
        return peer._replace(call=lambda: seen.append(torch.get_num_threads()) or peer.call())

    monkeypatch.setattr(_peers, "torch", seeing)
    monkeypatch.setattr(_peers, "medians", lambda peers, *_: (peers[1].call(), medians(peers, 1))[1])
    main(["check", "lstm.npz", "--against", "torch", "--threads", str(before + 1)])
    main(["bench", "lstm.npz", "--rounds", "1", "--steps", "2", "--threads", str(before + 2)])
    assert {*seen} == {before + 1, before + 2}
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), _peers.running(before + 1):
        raise KeyError
    assert torch.get_num_threads() == before


@needs("onnx", "onnxruntime")
def test_onnx(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.uniform(-0.3, 0.3, shape).astype("f4"), name)

    nodes = [
        helper.make_node("GRU", ["X", "W", "R"], ["Y"], "both", hidden_size=5, direction="bidirectional"),
        helper.make_node("RNN", ["X", "V", "S"], ["Z"], hidden_size=5, activations=["Elu"]),
    ]
    tensors = [tensor("W", 2, 15, 3), tensor("R", 2, 15, 5), tensor("V", 1, 5, 3), tensor("S", 1, 5, 5)]
    x = helper.make_tensor_value_info("X", 1, ["T", "B", 3])
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("Y", 1, None)], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
    good, bad = json.loads(printed(capsys, "inspect", "model.onnx", "--json"))["layers"]
    assert (good["name"], good["cell"], good["options"]) == ("both", "gru", {"reset_after": False})
    assert "Elu" in bad["error"]
    assert "ONNX Runtime" in printed(capsys, "check", "model.onnx", "--node", "both", "--batch", "3")
    assert "times as long" in printed(capsys, "bench", "model.onnx", "--node", "both", "--rounds", "1")
    printed(capsys, "convert", "model.onnx", "new.npz", "--node", "both")
    assert fastrnn.load("new.npz") == fastrnn.from_onnx("model.onnx", "both")
    assert "expected the name of one of 'both'" in said(capsys, "check", "model.onnx")
    assert said(capsys, "check", "model.onnx", "--cell", "gru") == (
        "--cell: expected none for a .onnx file, which says it itself or has no such thing"
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert said(capsys, "bench", "model.onnx", "--node", "both") == (
        "--against: expected the package onnxruntime, which is not installed; pip install onnxruntime"
    )


@needs("onnx", "onnxruntime")
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_what_onnxruntime_finds_out_in_the_call(files: Path, cell: str, capfd: pytest.CaptureFixture[str]) -> None:
    import onnx
    from onnx import helper, numpy_helper

    rows = {"gru": 15, "lstm": 20}[cell]
    tensors = [numpy_helper.from_array(np.zeros((1, rows, size)), name) for name, size in (("W", 3), ("R", 5))]
    node = helper.make_node(cell.upper(), ["X", "W", "R"], ["Y"], "n", hidden_size=5)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in ("X", "Y")]
    graph = helper.make_graph([node], "g", values[:1], values[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "double.onnx")
    refused = "--against: ONNX Runtime refuses this layer: "
    for command, end in (("check", "; --against reference has no such limits"), ("bench", "double yet")):
        message = said(capfd, command, "double.onnx")
        assert message.startswith(refused)
        assert "does not support double" in message
        assert message.endswith(end)
    assert "passed" in printed(capfd, "check", "double.onnx", "--against", "reference")


@needs("onnx")
def test_onnx_without_a_layer(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx
    from onnx import helper

    nodes = [helper.make_node(op, ["X"], [f"{op}{k}"]) for k in range(2) for op in ("MatMul", "Tanh")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [])), "cells.onnx")
    out = printed(capsys, "inspect", "cells.onnx", status=1)
    assert out.startswith("cells.onnx: no recurrent layers; the graph has 2 MatMul, 2 Tanh, which may be a layer ")
    assert json.loads(printed(capsys, "inspect", "cells.onnx", "--json", status=1))["layers"] == []


@needs("onnx", "onnxruntime")
def test_float16_onnx_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"W": (1, 15, 3), "R": (1, 15, 5)}
    tensors = [numpy_helper.from_array(rng.uniform(-0.3, 0.3, s).astype("f2"), name) for name, s in shapes.items()]
    node = helper.make_node("GRU", ["X", "W", "R"], ["Y"], "n", hidden_size=5)
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [], tensors)), "half.onnx")
    assert ", float32, " in printed(capsys, "inspect", "half.onnx")
    assert "got float16; dtype='float32' converts the weights" in said(capsys, "check", "half.onnx")
    assert "passed" in printed(capsys, "check", "half.onnx", "--dtype", "float32")
    printed(capsys, "convert", "half.onnx", "new.npz", "--dtype", "float32")
    assert fastrnn.load("new.npz") == fastrnn.from_onnx("half.onnx", dtype="float32")
    printed(capsys, "convert", "half.onnx", "new.npz", "--precision", "float16")
    assert fastrnn.load("new.npz") == fastrnn.from_onnx("half.onnx", precision="float16")
    assert "int8 is off by" in printed(capsys, "check", "half.onnx", "--precision", "int8")
    assert ", int8, " in printed(capsys, "bench", "half.onnx", "--precision", "int8", "--rounds", "1")


@needs("onnx")
def test_empty_onnx_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.onnx").touch()
    assert said(capsys, "inspect", "empty.onnx") == "empty.onnx: expected an .onnx file, got an empty one"
