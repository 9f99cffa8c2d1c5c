"""Whole ONNX models: cut at their recurrent nodes, they compute what ONNX Runtime computes.

(a) Random graphs. (b) Which nodes are cut, and in how many parts. (c) Which way is taken. (d) What is refused.
"""

from __future__ import annotations

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.apart import run_python
from support.environment import ROOT, package
from support.onnx_models import helper, numpy_helper, onnx

onnxruntime = package("onnxruntime")
from fastrnn.onnx import choice, cut, graph, plan, segments  # noqa: E402 -- after packages that may be missing

FLOAT = onnx.TensorProto.FLOAT
WIDTH = 6  # of every tensor (T, B, WIDTH) of a random graph
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
rng = np.random.default_rng(5)


def numbers(*shape: int, dtype: str = "f4") -> np.ndarray:
    """Rows sum to 1/2 at most, so that nothing grows."""
    return (rng.uniform(-0.5, 0.5, shape) / shape[-1]).astype(dtype)


def value(name: str, *shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape) or None)


class Builder:
    """A graph that grows: each method adds nodes, and gives the name of what they compute."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: dict[str, np.ndarray] = {}

    def name(self) -> str:
        return f"t{len(self.nodes)}"

    def constant(self, array: Any) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors[name] = np.asarray(array)
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = self.name()
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def layer(self, op: str, x: str, *, both: bool, state: str = "", lengths: str = "", last: bool = False) -> str:
        """A layer whose directions, or last states, are brought back to (T, B, WIDTH)."""
        D = 1 + both
        H, rows = WIDTH // D, GATES[op] * (WIDTH // D)
        weights = [numbers(D, rows, WIDTH), numbers(D, rows, H), numbers(D, 2 * rows)]
        inputs = [x, *map(self.constant, weights), lengths, state]
        y, h = self.name(), f"h{len(self.nodes)}"
        direction = "bidirectional" if both else "reverse" if last else "forward"
        outputs = ["", h] if last else [y, h]
        self.nodes.append(
            helper.make_node(op, inputs, outputs, f"layer{len(self.nodes)}", hidden_size=H, direction=direction)
        )
        if last:  # (D, B, H) to (1, B, D * H), which is added to each step
            joined = self.node("Transpose", h, perm=[1, 0, 2])
            return self.node("Add", x, self.node("Reshape", joined, self.constant([1, -1, WIDTH])))
        if both:
            swapped = self.node("Transpose", y, perm=[0, 2, 1, 3])
            return self.node("Reshape", swapped, self.constant([0, 0, -1]))
        return self.node("Squeeze", y, self.constant([1]))

    def model(self, outputs: list[str], inputs: Any = None, **changes: Any) -> Any:
        made = helper.make_graph(
            self.nodes,
            "graph",
            inputs or [value("X", "T", "B", WIDTH)],
            [value(name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.tensors.items()],
        )
        return helper.make_model(made, **({"opset_imports": [helper.make_opsetid("", 17)], "ir_version": 8} | changes))


def whole(model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def assert_like_runtime(model: Any, feeds: dict[str, np.ndarray], **arguments: Any) -> fastrnn.onnx.Report:
    """A bound on rounding: chains of a dozen operations on numbers below 10, at most 40 u each."""
    session = fastrnn.onnx.session(model, 1, **({"cut": "always"} | arguments))
    expected = whole(model).run(None, feeds)
    for _ in range(2):
        got = session.run(None, feeds)
        assert len(got) == len(expected)
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.shape == theirs.shape
            assert ours.dtype == theirs.dtype
            assert ours.flags.c_contiguous
            assert np.abs(ours - theirs).max(initial=0) <= 12 * 40 * 2.0**-24 * 10
    return session.report


# (a) Random graphs


@st.composite
def random_models(draw: Any) -> tuple[Any, int]:
    """One to three layers, and other nodes before, between, after and beside them."""
    made, available, layers = Builder(), ["X"], 0
    draws = draw(
        st.lists(
            st.sampled_from(["layer", "layer", "dense", "conv", "residual", "views", "tanh"]), min_size=1, max_size=8
        )
    )
    for what in [*draws, "layer"]:
        x = draw(st.sampled_from(available[-3:]))
        if what == "layer" and layers < 3:
            layers += 1
            state = ""
            D = 1 + draw(st.booleans())
            if draw(st.booleans()):  # a state that other nodes compute: the first step, reduced to D * WIDTH / D
                first = made.node("Slice", x, made.constant([0]), made.constant([1]), made.constant([0]))
                state = made.node("Reshape", first, made.constant([-1, D, WIDTH // D]))
                state = made.node("Transpose", state, perm=[1, 0, 2])
            op, last = draw(st.sampled_from(list(GATES))), draw(st.booleans())
            available.append(made.layer(op, x, both=D == 2, state=state, last=last))
        elif what == "dense":
            available.append(made.node("MatMul", x, made.constant(numbers(WIDTH, WIDTH))))
        elif what == "conv":
            inner = made.node("Transpose", x, perm=[1, 2, 0])
            inner = made.node("Conv", inner, made.constant(numbers(WIDTH, WIDTH, 3)), pads=[1, 1])
            available.append(made.node("Transpose", inner, perm=[2, 0, 1]))
        elif what == "residual":
            available.append(made.node("Add", x, draw(st.sampled_from(available))))
        elif what == "views":
            available.append(made.node("Identity", made.node("Reshape", x, made.constant([0, 0, WIDTH]))))
        elif what == "tanh":
            available.append(made.node("Tanh", x))
    outputs = draw(st.lists(st.sampled_from(available[1:]), min_size=1, max_size=3, unique=True))
    return made.model(outputs), layers


@given(drawn=random_models(), T=st.integers(1, 5), B=st.integers(1, 4))
def test_random_graphs(drawn: tuple[Any, int], T: int, B: int) -> None:
    model, layers = drawn
    x = np.random.default_rng(T).uniform(-1, 1, (T, B, WIDTH)).astype("f4")
    report = assert_like_runtime(model, {"X": x})
    assert (len(report.replaced), report.kept) == (layers, {})
    assert_like_runtime(model, {"X": x}, cut="auto")


# (b) What is cut


def parts_of(model: Any) -> list[str]:
    made = graph.Graph(model)
    found, _ = plan.find_candidates(model, None, made, None, False)
    return [type(part).__name__ for part in cut.Order(made, found).parts]


def x_of(T: int = 4, B: int = 2) -> dict[str, np.ndarray]:
    return {"X": np.random.default_rng(1).uniform(-1, 1, (T, B, WIDTH)).astype("f4")}


def test_a_stack_needs_no_segment() -> None:
    made = Builder()
    y = made.layer("GRU", made.node("Transpose", "X", perm=[1, 0, 2]), both=True)
    model = made.model([made.layer("LSTM", y, both=False)])
    assert "Segment" not in parts_of(model)
    assert_like_runtime(model, x_of())


def test_a_branch_beside_a_layer_waits_for_the_segment_after_it() -> None:
    made = Builder()
    branch = made.node("Tanh", "X")
    model = made.model([made.node("Add", branch, made.layer("GRU", "X", both=False))])
    assert parts_of(model) == ["Candidate", "Viewed", "Segment"]
    assert_like_runtime(model, x_of())


def test_zeros_of_a_computed_shape_are_no_state() -> None:
    """As PyTorch's exporter writes the state of a layer that is given none."""
    made = Builder()
    B = made.node("Slice", made.node("Shape", "X"), made.constant([1]), made.constant([2]))
    shape = made.node("Concat", made.constant([1]), B, made.constant([WIDTH]), axis=0)
    model = made.model([made.layer("GRU", "X", both=False, state=made.node("ConstantOfShape", shape))])
    assert "Segment" not in parts_of(model)
    assert_like_runtime(model, x_of())
    (fill,) = (node for node in model.graph.node if node.op_type == "ConstantOfShape")
    fill.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.array([0.5], "f4"))))
    assert "Segment" in parts_of(model)
    assert_like_runtime(model, x_of())


def test_constant_states_and_lengths() -> None:
    made = Builder()
    state, lengths = made.constant(numbers(1, 2, WIDTH)), made.constant(np.array([2, 4], "i4"))
    assert_like_runtime(made.model([made.layer("GRU", "X", both=False, state=state, lengths=lengths)]), x_of())


def test_bodies_take_what_a_cut_node_gives() -> None:
    made = Builder()
    y = made.layer("GRU", "X", both=False)
    bodies = [helper.make_graph([helper.make_node(op, [y], [op])], op, [], [value(op)]) for op in ("Tanh", "Neg")]
    condition = made.constant(np.array(True))
    made.nodes.append(helper.make_node("If", [condition], ["Z"], then_branch=bodies[0], else_branch=bodies[1]))
    report = assert_like_runtime(made.model(["Z", y]), x_of())
    assert len(report.replaced) == 1


def test_nodes_in_bodies_are_kept() -> None:
    inner = Builder()
    y = inner.layer("GRU", "X", both=False)
    tensors = [numpy_helper.from_array(array, name) for name, array in inner.tensors.items()]
    body = helper.make_graph(inner.nodes, "body", [], [value(y)], tensors)
    made = Builder()
    condition = made.constant(np.array(True))
    made.nodes.append(helper.make_node("If", [condition], ["Z"], then_branch=body, else_branch=body))
    report = assert_like_runtime(made.model(["Z"]), x_of())
    assert report.replaced == ()
    why = "it lies in {}_branch of If 'Z', which ONNX Runtime runs as a whole"
    assert set(report.kept.values()) == {why.format("then"), why.format("else")}
    assert str(report).startswith("#1: kept, since it lies in")  # both have one name


def test_weights_that_a_caller_may_give_are_kept() -> None:
    made = Builder()
    model = made.model([made.layer("GRU", "X", both=False)])
    name = model.graph.node[0].input[1]
    model.graph.input.append(value(name, *made.tensors[name].shape))
    report = assert_like_runtime(model, x_of() | {name: numbers(*made.tensors[name].shape)})
    assert report.kept == {"layer0": "W: expected a constant, got an input of the graph with a default"}
    old = made.model([model.graph.output[0].name], list(model.graph.input), ir_version=3)  # no default may be replaced
    assert assert_like_runtime(old, x_of()).replaced == ("layer0",)


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_what_onnx_runtime_lacks_runs_cut(kind: str) -> None:
    """Layout 1, the batch first."""
    weights = [numbers(1, 4 * WIDTH, WIDTH, dtype=kind) for _ in range(2)]
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    made = Builder()
    inputs, outputs = ["X", *map(made.constant, weights)], ["Y", "Y_h"]
    made.nodes.append(helper.make_node("LSTM", inputs, outputs, hidden_size=WIDTH, layout=1))
    last = made.node("Neg", "Y_h")
    model = made.model(["Y", last], [value("X", "B", "T", WIDTH, kind=number)])
    for output in model.graph.output:
        output.type.tensor_type.elem_type = number
    feeds = {"X": x_of()["X"].astype(kind)}
    with pytest.raises(Exception, match="layout"):
        whole(model).run(None, feeds)
    got = fastrnn.onnx.session(model).run(None, feeds)
    expected = onnx.reference.ReferenceEvaluator(model, new_ops=fastrnn.onnx.ops()).run(None, feeds)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_inputs_constants_and_defaults_as_outputs() -> None:
    made = Builder()
    state, fixed = made.constant(numbers(1, 2, WIDTH)), made.constant(numbers(3))
    y = made.layer("GRU", "X", both=False, state=state)
    model = made.model([y, "X", fixed], [value("X", "T", "B", WIDTH), value(state, 1, 2, WIDTH)])
    assert assert_like_runtime(model, x_of()).replaced == ("layer0",)
    assert_like_runtime(model, x_of() | {state: numbers(1, 2, WIDTH)})
    feeds = x_of()
    (same,) = fastrnn.onnx.session(model, cut="always").run(["X"], feeds)
    assert not np.shares_memory(same, feeds["X"])


def test_outputs_have_memory_of_their_own() -> None:
    made = Builder()
    y = made.layer("GRU", "X", both=False)
    again = made.node("Reshape", y, made.constant([0, -1]))
    session = fastrnn.onnx.session(made.model([y, again]), cut="always")
    feeds = x_of()
    first, second = session.run(None, feeds)
    assert not np.shares_memory(first, second)
    before = second.copy()
    session.run(None, x_of(4, 2) | {"X": feeds["X"] + 1})
    first[:] = 7
    np.testing.assert_array_equal(second, before)


def test_external_data(tmp_path: Path) -> None:
    made = Builder()
    made.tensors["dense"] = numbers(WIDTH, WIDTH)
    model = made.model([made.node("MatMul", made.layer("GRU", "X", both=False), "dense")])
    (expected,) = whole(model).run(None, x_of())
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    session = fastrnn.onnx.session(path, cut="always")
    assert session.report.replaced == ("layer0",)
    np.testing.assert_allclose(session.run(None, x_of())[0], expected, atol=1e-6)


# (c) Which way is taken


def simple() -> Any:
    made = Builder()
    return made.model([made.node("Tanh", made.layer("GRU", "X", both=False))])


def test_the_calls_of_onnx_runtime() -> None:
    model = simple()
    theirs = whole(model)
    for how in ("auto", "always", "never"):
        session = fastrnn.onnx.session(model.SerializeToString(), cut=how)
        (x,), (y,) = session.get_inputs(), session.get_outputs()
        (their_x,) = theirs.get_inputs()
        assert (x.name, x.type, x.shape) == (their_x.name, their_x.type, their_x.shape)
        assert y.name == theirs.get_outputs()[0].name
        assert len(session.run([y.name, y.name], x_of())) == 2
        assert len(session.run([], x_of())) == 1
    assert session.report.kept == {"layer0": "it was not asked for"}


@pytest.mark.parametrize("wins", [0, 1])
def test_the_faster_way_is_taken_for_a_class_of_shapes(monkeypatch: pytest.MonkeyPatch, wins: int) -> None:
    taken: list[int] = []
    ways = [lambda *_, way=way: taken.append(way) or [way] for way in (0, 1)]
    monkeypatch.setattr(choice, "_measure", lambda *_: (2.0, 0.5)[wins])
    chosen = choice.Choice(ways[0], ways[1], fixed=False)
    for T in (4, 7, 8):  # 8 is of another class
        assert chosen.run([], {"X": np.zeros((T, 1))}, None) == [wins]
    assert list(chosen.ratios) == ["X (4, 1)", "X (8, 1)"]
    assert set(taken) == {wins}


def test_the_order_of_feeds_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[float] = []
    monkeypatch.setattr(choice, "_measure", lambda *_: measured.append(2.0) or measured[-1])
    chosen = choice.Choice(lambda *_: [0], lambda *_: [1], fixed=False)
    feeds = {"X": np.zeros((4, 1)), "h": np.zeros((9, 2))}
    for some in (feeds, dict(reversed(feeds.items())), {"X": feeds["h"], "h": feeds["X"]}):
        chosen.run([], some, None)
    assert list(chosen.ratios) == ["X (4, 1), h (9, 2)", "X (9, 2), h (4, 1)"]


def test_equal_inputs_have_equal_bits() -> None:
    session = fastrnn.onnx.session(simple(), 1)
    outputs = [session.run(None, x_of())[0] for _ in range(5)]
    assert all(np.array_equal(outputs[0], other) for other in outputs)
    (speedup,) = session.report.speedups.values()
    assert ("not cut" in str(session.report)) == (speedup <= 1)


def test_many_threads_run_one_session() -> None:
    for how in ("auto", "always"):
        session = fastrnn.onnx.session(simple(), 2, cut=how)
        with ThreadPoolExecutor(8) as pool:
            outputs = list(pool.map(lambda T, run=session.run: run(None, x_of(T % 3 + 1))[0], range(60)))
        for T, output in enumerate(outputs):
            np.testing.assert_array_equal(output, session.run(None, x_of(T % 3 + 1))[0])


# (d) What is refused


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({}, "input_feed: expected ['X'], got none for ['X']"),
        (x_of() | {"Y": np.zeros(1)}, "input_feed: expected names among ['X'], got ['Y']"),
        ({"X": np.zeros((4, 2, WIDTH))}, "X: expected float32, got float64"),
        ({"X": np.zeros((4, 2, 5), "f4")}, "X: expected shape (any, any, 6), got (4, 2, 5)"),
        ({"X": [1.0]}, "X: expected a numpy.ndarray, got list"),
    ],
)
def test_bad_feeds(feeds: Any, said: str) -> None:
    session = fastrnn.onnx.session(simple(), cut="always")
    with pytest.raises(ValueError, match="expected") as caught:
        session.run(None, feeds)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"cut": "some"}, ValueError, "cut: expected 'auto', 'always' or 'never', or a list of nodes, got 'some'"),
        ({"cut": 3}, TypeError, "cut: expected a str or a list of str, got 3"),
        ({"cut": ["rnn"]}, ValueError, "cut: expected names among"),
        ({"threads": 0}, ValueError, "threads: expected from 1 to 256, got 0"),
    ],
)
def test_bad_arguments(arguments: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as caught:
        fastrnn.onnx.session(simple(), **arguments)
    assert str(caught.value).startswith(said)


def test_bad_models_and_names(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"path_or_model: expected a path or an onnx\.ModelProto, got int"):
        fastrnn.onnx.session(3)  # type: ignore[arg-type]
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="expected an ONNX model"):
        fastrnn.onnx.session(path)
    session = fastrnn.onnx.session(simple())
    with pytest.raises(ValueError, match="output_names: expected names among"):
        session.run(["absent"], x_of())
    for use in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="session: expected not to be pickled or copied"):
            use(session)


def test_what_onnx_runtime_refuses_is_its_own_error() -> None:
    model = simple()
    model.graph.node[-1].op_type = "NoSuchOperator"
    with pytest.raises(Exception, match="NoSuchOperator"):
        fastrnn.onnx.session(model)


def test_types_in_words() -> None:
    assert segments.elem_type("tensor(float)") == FLOAT
    assert segments.elem_type("tensor(int64)") == onnx.TensorProto.INT64
    assert segments.elem_type("seq(tensor(float))") is None


def test_a_missing_package_is_named() -> None:
    code = "import sys; sys.modules['onnxruntime'] = None\nimport fastrnn.onnx\nfastrnn.onnx.session('model.onnx')"
    done = run_python(code)
    assert "fastrnn.onnx.session: expected the package onnxruntime, which is not installed" in done.stderr


# The benchmark


def test_whole_models_are_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """bench/whole_models.py: outputs are compared with the reference, and a slow session is a failure."""
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import whole_models

    arguments = ["--case", "lstm-T3-B2-I4-H4-L2-bi", "--threads", "1", "--rounds", "1", "--least"]
    monkeypatch.setattr(sys, "argv", ["whole_models", *arguments, "0"])
    whole_models.main()
    assert "| lstm-T3-B2-I4-H4-L2-bi | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["whole_models", *arguments, "1000"])
    with pytest.raises(SystemExit, match="slower: lstm-T3"):
        whole_models.main()
