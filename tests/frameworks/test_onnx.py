"""Recurrent nodes of ONNX models: as params, and as operators of ONNX's own evaluator.

(a) Random nodes, made from layers of ours, give these layers back, and compute the same bits as they do.
(b) What they mean is what ONNX's own node tests expect, and what ONNX Runtime computes.
(c) Operators: absent outputs, weights at run time, what was packed before.
(d) Narrow weights.

Where weights may lie in a model, and what is refused, are in test_onnx_files.py and test_onnx_refused.py.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.cases import Case, assert_same_bits
from support.environment import ROOT, package
from support.errors import bad_calls, raises_as_said
from support.onnx_models import INPUTS, Drawn, drawn_nodes, evaluator, helper, numpy_helper, onnx, onnx_load
from support.oracle import assert_close, tolerance

EXAMPLE = ROOT / "examples/onnx_model.py"


# (a) Layers of ours, and back


@given(drawn=drawn_nodes())
def test_from_onnx_gives_the_layer(drawn: Drawn) -> None:
    params = fastrnn.from_onnx(drawn.model())
    assert params == drawn.case.params(batch_first=drawn.case.batch_first)
    assert params.direction == drawn.attributes.get("direction", "forward")


@given(drawn=drawn_nodes(), weights_at_run_time=st.booleans())
def test_ops_compute_the_layer(drawn: Drawn, weights_at_run_time: bool) -> None:
    """All outputs, to the bit, at the first call and at one with the packed weights of the first."""
    if weights_at_run_time:
        drawn = replace(drawn, at_run_time=frozenset(drawn.arrays))
    expected = tuple(array for array, wanted in zip(drawn.expected(), drawn.outputs) if wanted)
    run = evaluator(drawn.model())
    for _ in range(2):
        assert_same_bits(tuple(run.run(None, drawn.fed)), expected)


@given(drawn=drawn_nodes())
def test_ops_follow_the_reference(drawn: Drawn) -> None:
    drawn = replace(drawn, outputs=(True, True, True))
    Y, *states = evaluator(drawn.model()).run(None, drawn.fed)
    if drawn.case.batch_first:
        states = [state.swapaxes(0, 1) for state in states]
    else:
        Y = Y.swapaxes(1, 2)
    expected = drawn.case.reference()
    assert_close((Y.reshape(expected[0].shape), *states), expected, tolerance(drawn.case, expected))


# (b) What others compute


@cache
def node_tests() -> list[Any]:
    """ONNX's own tests of the three operators."""
    collect = importlib.import_module("onnx.backend.test.case.node").collect_testcases
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tests of other operators
        found = [test for test in collect(None) if test.model.graph.node[0].op_type in ("RNN", "LSTM", "GRU")]
    assert len(found) >= 12
    assert {test.model.graph.node[0].op_type for test in found} == {"RNN", "LSTM", "GRU"}
    return found


def test_onnx_node_tests() -> None:
    for test in node_tests():
        ((inputs, outputs),) = test.data_sets
        names = [info.name for info in test.model.graph.input]
        got = evaluator(test.model).run(None, dict(zip(names, inputs, strict=True)))
        assert_close(tuple(got), tuple(outputs), 1e-6)


def test_onnx_node_tests_as_params() -> None:
    """Their inputs W, R, B and P as constants, the others as arguments of our call, and Y_h."""
    for test in node_tests():
        ((inputs, outputs),) = test.data_sets
        model, (node,) = onnx.ModelProto.FromString(test.model.SerializeToString()), test.model.graph.node
        fed = dict(zip((name for name in node.input if name), inputs, strict=True))
        given = dict(zip(INPUTS, (fed.get(name) for name in node.input)))
        weights = [name for place, name in enumerate(node.input) if name and INPUTS[place] in ("W", "R", "B", "P")]
        model.graph.initializer.extend(numpy_helper.from_array(fed[name], name) for name in weights)
        params = fastrnn.from_onnx(model)
        batch_first = any(attribute.name == "layout" and attribute.i for attribute in node.attribute)
        h, c = (given.get(name) for name in ("initial_h", "initial_c"))
        y, final = getattr(fastrnn, node.op_type.lower())(
            given["X"], params, h if c is None else (h, c), batch_first=batch_first, lengths=given.get("sequence_lens")
        )
        h_n = final[0] if node.op_type == "LSTM" else final
        Y = y.reshape(*y.shape[:2], len(h_n), -1)
        ours = [Y, h_n.swapaxes(0, 1)] if batch_first else [Y.swapaxes(1, 2), h_n]
        wanted = [array for array, name in zip(ours, node.output) if name]
        assert_close(tuple(wanted), tuple(outputs[: len(wanted)]), 1e-6)


@given(drawn=drawn_nodes(for_runtime=True))
def test_onnx_runtime(drawn: Drawn) -> None:
    """A bound much tighter than the derived one: so few steps were never seen to differ by more than 2e-7."""
    onnxruntime = package("onnxruntime")
    model = replace(drawn, outputs=(True, True, True)).model()
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = tuple(session.run(None, drawn.fed))
    limit = 1e-6 * max(1.0, *(float(np.abs(part).max()) for part in expected))
    assert_close(tuple(evaluator(model).run(None, drawn.fed)), expected, limit)

    # What the command line compares with: the node alone, from no state.
    alone = onnx_load.one_node_model(model)
    session = onnxruntime.InferenceSession(alone.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y, *_), Y = drawn.case.but(state=None, lengths=None).run(), session.run(None, {"X": drawn.arrays["X"]})[0]
    assert_close((y,), (Y.swapaxes(1, 2).reshape(y.shape),), 1e-6 * max(1.0, float(np.abs(Y).max())))


def test_a_node_of_a_newer_opset_runs_alone() -> None:
    onnxruntime = package("onnxruntime")
    model, fed = one_node("GRU", "X", hidden_size=4)
    model.opset_import[0].version = 999
    alone = onnx_load.one_node_model(model).SerializeToString()
    y = onnxruntime.InferenceSession(alone, providers=["CPUExecutionProvider"]).run(None, fed)[0]
    ours, _ = fastrnn.gru(fed["X"], fastrnn.from_onnx(model))
    assert_close((ours,), (y[:, 0],), 1e-6)


# (c) Operators in use


def one_node(op: str, at_run_time: str = "X W R", outputs: str = "Y", **attributes: Any) -> tuple[Any, dict[str, Any]]:
    """A model of a node with 3 inputs and 4 units, and what to feed it."""
    rng = np.random.default_rng(1)
    rows = {"RNN": 4, "LSTM": 16, "GRU": 12}[op]
    shapes = {"X": (5, 2, 3), "W": (1, rows, 3), "R": (1, rows, 4), "B": (1, 2 * rows)}
    arrays = {name: rng.uniform(-0.5, 0.5, shape).astype("f4") for name, shape in shapes.items()}
    case = Case(op.lower(), {}, arrays["X"])
    wanted = tuple(name in outputs.split() for name in ("Y", "Y_h", "Y_c"))
    drawn = Drawn(case, attributes, arrays, 22, frozenset(at_run_time.split()), wanted)
    return drawn.model(), drawn.fed


@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("written", ["W", "R", "B"])
def test_weights_that_were_written_to_are_packed_anew(op: str, written: str) -> None:
    model, fed = one_node(op, "X W R B")
    run = evaluator(model)
    (before,) = run.run(None, fed)
    fed[written][0, 1] += 0.25
    (after,) = run.run(None, fed)
    assert not np.array_equal(after, before)
    assert_same_bits((after,), tuple(evaluator(model).run(None, fed)))
    fed[written] = fed[written].copy()
    fed[written][0, 1] -= 0.25
    assert_close(tuple(run.run(None, fed)), (before,), 1e-6)


def test_read_only_views_of_other_memory_are_compared() -> None:
    model, fed = one_node("GRU")
    run, whole = evaluator(model), fed["W"]
    fed["W"] = whole.view()
    fed["W"].flags.writeable = False
    (before,) = run.run(None, fed)
    whole[...] = 0.5
    assert not np.array_equal(run.run(None, fed)[0], before)


@pytest.mark.parametrize("at_run_time", ["X", "X W R B"])
def test_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch, at_run_time: str) -> None:
    module, packed = importlib.import_module("fastrnn.onnx.operators"), []
    make_params = module.make_params
    monkeypatch.setattr(module, "make_params", lambda *given: packed.append(1) or make_params(*given))
    model, fed = one_node("LSTM", at_run_time)
    run = evaluator(model)
    for _ in range(3):
        run.run(None, fed)
    assert len(packed) == 1
    compared = [kept.source is None for kept in run.rt_nodes_[0]._packed.kept.values()]
    assert any(compared) == ("W" in at_run_time)


def test_absent_output_leaves_absent_inputs_absent() -> None:
    """A first node without Y, then one without B: the evaluator has one name, "", for both."""
    model, fed = one_node("GRU", "X", "Y_h")
    node = helper.make_node("GRU", ["X", "W", "R", ""], ["", "second"], "second", hidden_size=4)
    model.graph.node.append(node)
    model.graph.output.append(helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, None))
    model.graph.node[0].input[3] = ""
    first, second = evaluator(model).run(None, fed)
    assert_same_bits((first,), (second,))


def test_attributes_of_a_function_that_is_run() -> None:
    """One operator with another direction at each call: weights packed for one direction do not serve the other."""
    model, fed = one_node("GRU", "X W R")
    (node,) = model.graph.node
    node.input[:] = ["X", "W", "R"]
    node.attribute.add(name="direction", ref_attr_name="way", type=onnx.AttributeProto.STRING)
    opset = [helper.make_opsetid("", 22)]
    run = evaluator(helper.make_function("own", "f", ["X", "W", "R"], ["Y"], [node], opset, ["way"]))
    forward, reverse, again = (run.run(None, fed, {"way": way})[0] for way in ("forward", "reverse", "forward"))
    assert_same_bits((forward,), (again,))
    turned = fed | {"X": fed["X"][::-1]}
    assert_same_bits((reverse,), (run.run(None, turned, {"way": "forward"})[0][::-1],))


def test_operators_in_a_body() -> None:
    """The evaluator hands new operators on to bodies of If."""
    model, fed = one_node("RNN", "X", clip=0.25)
    (expected,) = evaluator(model).run(None, fed)
    body = helper.make_graph(list(model.graph.node), "body", [], list(model.graph.output))
    model.graph.node[0].CopyFrom(helper.make_node("If", ["which"], ["Y"], then_branch=body, else_branch=body))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "which"))
    assert_same_bits(tuple(evaluator(model).run(None, fed)), (expected,))


OPS_TABLE = r"""
>>> run("LSTM", X=half(5, 2, 3))
ValueError: LSTM node 'layer': X: expected float32 or float64, got float16, which fastrnn does not compute in
>>> run("LSTM", X=zeros(5, 2, 3, dtype="f8"))
ValueError: LSTM node 'layer': X: expected float32, since W is, got float64
>>> run("GRU", X=zeros(5, 2, 4))
ValueError: GRU node 'layer': X: expected (T, B, 3), got (5, 2, 4)
>>> run("GRU", X=zeros(5, 2))
ValueError: GRU node 'layer': X: expected (T, B, 3), got (5, 2)
>>> run("GRU", X=zeros(5, 2, 4), layout=1)
ValueError: GRU node 'layer': X: expected (B, T, 3), got (5, 2, 4)
>>> run("RNN", R=zeros(1, 4, 5))
ValueError: RNN node 'layer': W: expected (1, 5, 3) (forward, hidden size 5), got (1, 4, 3)
>>> run("RNN", initial_h=zeros(2, 1, 4))
ValueError: RNN node 'layer': initial_h: expected (1, 2, 4), got (2, 1, 4)
>>> run("RNN", sequence_lens=np.array([1, 6], "i4"))
ValueError: RNN node 'layer': lengths: expected values from 0 to T=5, got 6 at row 1
>>> run("RNN", sequence_lens=np.array([1, 5]))
ValueError: RNN node 'layer': sequence_lens: expected int32, got int64
>>> run("RNN", activations=["Elu"])
ValueError: RNN node 'layer': activations: expected Tanh, ... or Affine, got 'Elu', which fastrnn does not have
"""


def zeros(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.zeros(shape, dtype)


def half(*shape: int) -> np.ndarray:
    return zeros(*shape, dtype="f2")


def run_node(op: str, **given: Any) -> Any:
    arrays = {name: value for name, value in given.items() if name in INPUTS}
    model, fed = one_node(op, **{name: value for name, value in given.items() if name not in INPUTS})
    del model.graph.initializer[:]
    present = fed | arrays
    model.graph.node[0].input[:] = [name if name in present else "" for name in INPUTS[: 8 if op == "LSTM" else 6]]
    return evaluator(model).run(None, present)


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(OPS_TABLE, at_least=9))
def test_bad_runs(call: str, error: str, message: str) -> None:
    with raises_as_said(error, message):
        eval(call, {"run": run_node, "zeros": zeros, "half": half, "np": np})


# (d) The example


def test_example() -> None:
    package("onnxruntime")
    done = subprocess.run([sys.executable, EXAMPLE], cwd=EXAMPLE.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    numbers = [float(number) for number in re.findall(r"difference.*?([0-9.e-]+)$", done.stdout, re.MULTILINE)]
    assert len(numbers) == 2
    assert 0 <= max(numbers) < 1e-5


# (d) Precisions.


@given(drawn=drawn_nodes(), precision=st.sampled_from(["float16", "int8", "int8_fast"]))
def test_from_onnx_in_a_precision(drawn: Drawn, precision: Any) -> None:
    model, params = drawn.model(), fastrnn.from_onnx(drawn.model())
    assert fastrnn.from_onnx(model, dtype="float32", precision=precision) == params.to("float32").to(precision)
