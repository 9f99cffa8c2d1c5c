"""Models as `from_onnx` finds them: where nodes and weights may lie, and files that are broken.

(a) Weights behind constants of every kind, in files beside the model, in bodies and functions.
(b) Broken and hostile files: an error that says so, and no memory that only a header asks for.
"""

from __future__ import annotations

import importlib
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from support.apart import run_python
from support.errors import raises_as_said
from support.onnx_models import (
    ROWS,
    WEIGHTS,
    H,
    I,
    constant,
    external,
    helper,
    layer,
    make,
    numbers,
    onnx,
    onnx_load,
    tensor,
)

PLAIN = {op: fastrnn.from_onnx(make(layer(op), weights=WEIGHTS[op])) for op in ROWS}
GRU = PLAIN["GRU"]


# (a) Where weights and nodes may lie


def test_weights_behind_constants_and_identities() -> None:
    W = WEIGHTS["GRU"]["W"]
    chain = [helper.make_node("Identity", [f"W{k + 1}"], [f"W{k}" if k else "W"]) for k in range(50)]
    assert fastrnn.from_onnx(make(*chain, layer(), W=None, W50=W)) == GRU
    assert fastrnn.from_onnx(make(constant("W", W), layer(), W=None)) == GRU
    assert fastrnn.from_onnx(make(constant("W50", W), *chain, layer(), W=None)) == GRU
    assert fastrnn.from_onnx(make(layer(), inputs=["W", "R"])) == GRU, "initializers as defaults of inputs"
    listed = helper.make_tensor("W", onnx.TensorProto.FLOAT, W.shape, W.ravel().tolist())
    assert not listed.HasField("raw_data")
    assert fastrnn.from_onnx(make(W=listed)) == GRU


@pytest.mark.parametrize("op", ROWS)
def test_default_domain_has_two_names(op: str) -> None:
    node = layer(op)
    node.domain = "ai.onnx"
    assert fastrnn.from_onnx(make(node, weights=WEIGHTS[op])) == PLAIN[op]


def test_float64() -> None:
    weights = {name: array.astype("f8") for name, array in WEIGHTS["LSTM"].items()}
    params = fastrnn.from_onnx(make(layer("LSTM"), weights=weights))
    assert params.dtype == np.float64
    assert params == fastrnn.LSTMParams(PLAIN["LSTM"].weights, dtype="float64")


def test_states_and_lengths_of_the_caller() -> None:
    """Inputs of the graph, states that are computed, and states of zeros, as exporters write them."""
    inputs = ["lengths", "h", "c"]
    assert fastrnn.from_onnx(make(layer(inputs="X W R B lengths h"), inputs=inputs)) == GRU
    expanded = helper.make_node("Expand", ["zero", "shape"], ["h"])
    assert fastrnn.from_onnx(make(expanded, layer(inputs="X W R B - h"), zero=numbers(1), inputs=["shape"])) == GRU
    zeros = np.zeros((1, 2, H), "f4")
    assert fastrnn.from_onnx(make(layer(inputs="X W R B - h"), h=zeros)) == GRU
    lstm = make(layer("LSTM", "X W R B - h c"), constant("c", zeros), weights=WEIGHTS["LSTM"], h=-zeros)
    assert fastrnn.from_onnx(lstm) == PLAIN["LSTM"]


@pytest.mark.parametrize("op", ["If", "Loop", "Scan"])
def test_nodes_in_bodies(op: str) -> None:
    """A body takes weights of the graph around it, and its own where both have the name."""
    inner = helper.make_graph([layer()], "body", [], [], [tensor(WEIGHTS["GRU"]["W"], "W")])
    names = ["then_branch", "else_branch"] if op == "If" else ["body"]
    other = helper.make_graph([], "empty", [], [])
    node = helper.make_node(op, ["which"], ["Z"], **dict(zip(names, [inner, other])))
    model = make(node, W=numbers(1, 3 * H, I))
    assert fastrnn.from_onnx(model) == GRU
    deeper = helper.make_node("If", ["which"], ["Z"], then_branch=model.graph, else_branch=other)
    assert fastrnn.from_onnx(make(deeper, weights={})) == GRU


def test_nodes_in_functions() -> None:
    opset = [helper.make_opsetid("", 22)]
    weights = [constant(name, array) for name, array in WEIGHTS["GRU"].items()]
    inside = helper.make_function("own", "GRU", ["X"], ["Y"], [*weights, layer()], opset)
    call = helper.make_node("GRU", ["X"], ["Z"], domain="own")
    assert fastrnn.from_onnx(make(call, weights={}, functions=[inside])) == GRU
    outside = helper.make_function("own", "f", ["X", "W", "R", "B"], ["Y"], [layer()], opset)
    call = helper.make_node("f", ["X", "W", "R", "B"], ["Z"], domain="own")
    model = make(call, functions=[outside])
    model.opset_import.append(helper.make_opsetid("own", 1))
    with raises_as_said("ValueError", "node 'layer': W: expected a constant, got 'W', an input of function 'f'"):
        fastrnn.from_onnx(model)
    inliner = importlib.import_module("onnx.inliner")
    assert fastrnn.from_onnx(inliner.inline_local_functions(model)) == GRU


def test_node_by_name() -> None:
    """A node is found by its name or by that of an output; PyTorch exports a stack as a node a layer."""
    second = {"W2": numbers(1, 16, H), "R2": numbers(1, 16, H)}
    model = make(layer(), layer("LSTM", "Y W2 R2", "Z", name=""), **second)
    assert fastrnn.from_onnx(model, "layer") == fastrnn.from_onnx(model, "Y") == GRU
    upper = fastrnn.from_onnx(model, "Z")
    assert (type(upper).__name__, upper.input_size) == ("LSTMParams", H)
    layers = onnx_load.loaders(model)
    assert list(layers) == ["layer", "Z"]
    assert layers["layer"]() == GRU
    assert layers["Z"]() == upper
    assert fastrnn.from_onnx(onnx_load.one_node_model(model, "Z")) == upper


def test_layers_that_cannot_be_loaded_are_there() -> None:
    model = make(
        layer(name="a"),
        layer(output="b", name="b", activations=["Elu", "Elu"]),
        layer(output="c", name="c"),
        layer(output="d", name="c"),
    )
    layers = onnx_load.loaders(model)
    assert list(layers) == ["a", "b", "#3", "d"]
    assert layers["a"]() == GRU
    with raises_as_said("ValueError", "node 'b': activations: ..."):
        layers["b"]()
    with raises_as_said("ValueError", "node: expected a name that one node has, got 'c', the name of 2 of them: ..."):
        fastrnn.from_onnx(model, "c")


def test_every_layer_has_a_label_of_its_own() -> None:
    """Names and outputs that several nodes have, that are empty, and that look like a place. Each loads its node."""
    given = [("a", "x"), ("a", "y"), ("a", "y"), ("", "z"), ("", "a"), ("", ""), ("#7", "v"), ("u", "##9"), ("", "##7")]
    nodes, weights = [], {}
    for k, (name, output) in enumerate(given):
        # In bodies of their own, since one graph has an output once.
        node = layer(inputs=f"X W{k} R", output=output, name=name)
        weights[f"W{k}"] = numbers(1, 3 * H, I)
        body = helper.make_graph([node], "body", [], [])
        nodes.append(helper.make_node("If", ["which"], [f"Z{k}"], then_branch=body))
    nodes[5].attribute[0].g.node[0].ClearField("output")
    model = make(*nodes, **weights)
    layers = onnx_load.loaders(model)
    places = {"x": 0, "#2": 1, "#3": 2, "z": 3, "#5": 4, "#6": 5, "#7": 6, "u": 7, "##7": 8}
    assert {*layers} == {*places}
    for label, k in places.items():
        expected = fastrnn.from_onnx(make(layer(inputs="X W R"), W=weights[f"W{k}"]))
        assert layers[label]() == fastrnn.from_onnx(model, label) == expected


@pytest.mark.parametrize(("opset", "version"), [(7, 7), (13, 7), (14, 14), (21, 14), (22, 22), (23, 22), (999, 22)])
def test_a_node_alone_is_of_the_opset_of_its_operator(opset: int, version: int) -> None:
    model = make(opset=opset)
    alone = onnx_load.one_node_model(model)
    assert [entry.version for entry in alone.opset_import] == [version]
    assert onnx.defs.get_schema("GRU", opset if opset < 99 else version).since_version == version
    assert fastrnn.from_onnx(alone) == GRU


def test_an_empty_file_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    for load in (fastrnn.from_onnx, onnx_load.loaders):
        with raises_as_said("ValueError", f"{path}: expected an ONNX model, got an empty file"):
            load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.onnx").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link.onnx", Path("/dev/zero")):
        for load in (fastrnn.from_onnx, onnx_load.loaders):
            with raises_as_said("ValueError", f"{path}: expected a regular file, got a pipe, a socket or a device"):
                load(path)


@pytest.mark.parametrize("as_path", [str, Path])
def test_file(tmp_path: Path, as_path: Callable[[Path], Any]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(make().SerializeToString())
    assert fastrnn.from_onnx(as_path(path)) == GRU
    assert onnx_load.loaders(as_path(path))["layer"]() == GRU


def saved(folder: Path, model: Any) -> Path:
    (folder / "model").mkdir()
    for name in ("model/weights", "outside"):
        (folder / name).write_bytes(bytes(8) + WEIGHTS["GRU"]["W"].tobytes())
    path = folder / "model/model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    path = saved(tmp_path, make(W=external("weights", offset=8)))
    assert fastrnn.from_onnx(path) == GRU
    assert fastrnn.from_onnx(onnx.load(path)) == GRU
    onnx.save_model(make(), tmp_path / "other.onnx", save_as_external_data=True, location="w", size_threshold=0)
    assert fastrnn.from_onnx(tmp_path / "other.onnx") == GRU


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (external("../outside", offset=8), "expected a file in the model's folder, got '../outside': ..."),
        (external("/etc/passwd"), "expected a file in the model's folder, got '/etc/passwd': ..."),
        (external("link", offset=8), "expected a file in the model's folder, got 'link': ..."),
        (external("missing"), "expected a file in the model's folder, got 'missing': ..."),
        (external("."), "expected a file in the model's folder, got '.': ..."),
        (external(""), "expected a file in the model's folder, got '': ..."),
        (external("n" * 300), "expected a file in the model's folder, got 'nnn..."),
        (external("weights", offset=9), "expected 144 bytes from 9 on in 'weights', got 152 bytes in all"),
        (external("weights", offset=-8), "expected a number of bytes as the offset of its data, got '-8'"),
        (
            external("weights", length=2**60),
            "expected 144 bytes, since its dims are (1, 12, 3), got 1152921504606846976",
        ),
    ],
)
def test_external_data_that_is_not_there(tmp_path: Path, weights: Any, message: str) -> None:
    path = saved(tmp_path, make(W=weights))
    (path.parent / "link").symlink_to("../outside")
    with raises_as_said("ValueError", f"{path}: node 'layer': W: {message}"):
        fastrnn.from_onnx(path)


# (b) Broken and hostile files


def attempt(path: Path) -> str | None:
    """The message of the error that a file gives, which may be a ValueError or an OSError alone."""
    try:
        fastrnn.from_onnx(path)
        for load in onnx_load.loaders(path).values():
            load()
    except (ValueError, OSError) as error:
        return str(error)
    return None


def whole_file() -> bytes:
    """A model with a bit of everything."""
    body = helper.make_graph([layer(name="inner", activations=["Sigmoid", "Relu"], clip=2.0)], "body", [], [])
    branch = helper.make_node("If", ["which"], ["Z"], then_branch=body, else_branch=helper.make_graph([], "no", [], []))
    nodes = [constant("V", WEIGHTS["GRU"]["W"]), helper.make_node("Identity", ["V"], ["W"]), branch]
    data: bytes = make(*nodes, W=None, inputs=["which"]).SerializeToString()
    return data


def test_every_truncation(tmp_path: Path) -> None:
    data, path = whole_file(), tmp_path / "model.onnx"
    path.write_bytes(data)
    assert attempt(path) is None
    for end in range(len(data)):
        path.write_bytes(data[:end])
        message = attempt(path)
        assert message is not None
        assert message.startswith(str(path))


def test_flipped_bytes(tmp_path: Path) -> None:
    """Each changed file is still a model or is an error, and none takes much memory."""
    data, path, draw = whole_file(), tmp_path / "model.onnx", random.Random(0)
    results = []
    tracemalloc.start()
    for _ in range(1500):
        broken = bytearray(data)
        for _ in range(draw.choice([1, 1, 2, 8])):
            broken[draw.randrange(len(data))] = draw.choice([0, 0xFF, 0x7F, draw.randrange(256)])
        path.write_bytes(broken)
        results.append(attempt(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert results.count(None) > 100
    assert len(results) - results.count(None) > 300
    assert peak < 20e6


@pytest.mark.parametrize(
    "dims",
    [
        (1, 12, 2**62),
        (2**62, 2**62, 2**62),
        (1, -12, 3),
        (-1, -12, 3),
        (1, 12, 2),
        (1, 12, 5),
        (36,),
        (1,) * 100_000,
        (),
    ],
)
@pytest.mark.parametrize("which", ["W", "R", "B"])
def test_dims_that_are_not_those_of_the_data(dims: tuple[int, ...], which: str) -> None:
    model = make()
    (broken,) = (one for one in model.graph.initializer if one.name == which)
    broken.dims[:] = dims
    with pytest.raises(ValueError, match="expected") as caught:
        fastrnn.from_onnx(model)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("data", [b"", b"hello world, this is text\n", b"\x08", b"\xff" * 100, bytes(100), b"PK\3\4"])
def test_files_that_are_no_models(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    message = attempt(path)
    assert message is not None
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_folders_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fastrnn.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(IsADirectoryError):
        fastrnn.from_onnx(tmp_path)


def test_without_the_package() -> None:
    """The error names the command; all else works, help and a star import included."""
    code = """
import pydoc, sys
sys.modules["onnx"] = None
from fastrnn import *
import fastrnn.onnx
assert "Examples" in from_onnx.__doc__
assert "from_onnx" in pydoc.render_doc(fastrnn)
for use in (lambda: from_onnx("model.onnx"), fastrnn.onnx.ops):
    try:
        use()
    except ImportError as error:
        print(error)
"""
    done = run_python(code)
    said = "fastrnn.onnx: expected the package onnx, which is not installed; pip install onnx"
    assert done.stdout.splitlines() == [said] * 2, done.stderr


def test_bodies_within_bodies() -> None:
    """Graphs nested deeper than Python calls may go."""
    graph = helper.make_graph([layer()], "graph", [], [])
    model = make(weights={})
    model.graph.CopyFrom(graph)
    inner = model.graph
    for _ in range(2000):
        body = inner.node.add(op_type="If").attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        inner = body.g
    inner.node.append(layer("LSTM", name="deep"))
    assert list(onnx_load.loaders(model)) == ["layer", "deep"]
