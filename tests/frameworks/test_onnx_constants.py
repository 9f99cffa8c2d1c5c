"""Constants that nodes compute: weights and states behind Slice, Concat and the like.

(a) Every operator that is computed, in random chains that end in given weights, and what PyTorch writes.
(b) What is not a constant, and what is not computed.
(c) Hostile computations: an error before memory is taken, and bounded work.
"""

from __future__ import annotations

import importlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.environment import package
from support.errors import raises_as_said
from support.onnx_chains import SINCE, UNDONE, Chain
from support.onnx_models import (
    WEIGHTS,
    H,
    I,
    ReferenceEvaluator,
    constant,
    helper,
    layer,
    make,
    numbers,
    numpy_helper,
    onnx,
    onnx_load,
    tensor,
)

GRU = fastrnn.from_onnx(make())
COMPUTED = importlib.import_module("fastrnn.onnx.constants").COMPUTED
Budget = importlib.import_module("fastrnn.onnx.scope").Budget
OPSETS = [9, 11, 13, 18, 22]
node = helper.make_node


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def w_of(*nodes: Any, opset: int = 22, **constants: Any) -> Any:
    """A model whose W is computed by these nodes from constants."""
    return make(*nodes, layer(), W=None, opset=opset, **constants)


# (a) What is computed


def chained(draw: Any, first: str | None = None) -> tuple[Any, list[str]]:
    """A model of a GRU whose weights are behind chains, in a body or in the graph, and the operators in them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    opset = draw(st.sampled_from([opset for opset in OPSETS if opset >= SINCE.get(first or "", 0)]))
    chain, names, arrays = Chain(draw, rng, opset), {}, WEIGHTS["GRU"]
    for which, array in arrays.items():
        if first is not None and which == "W":
            name = UNDONE[first](chain, array, 1)
            assert name is not None
            chain.used.append(first)
            names[which] = name
        else:
            names[which] = chain.ending_in(array, draw(st.integers(0, 4)))
    nodes = [*chain.nodes, layer(inputs=f"X {' '.join(names.values())}")]
    if draw(st.booleans()):
        body = helper.make_graph([nodes.pop()], "body", [], [])
        nodes.append(node("If", ["which"], ["Z"], "branching", then_branch=body))
    return make(*nodes, weights=chain.tensors, inputs=["which"], opset=opset), chain.used


@given(st.data())
def test_chains_of_operators(data: st.DataObject) -> None:
    model, _ = chained(data.draw)
    assert fastrnn.from_onnx(model) == GRU


@pytest.mark.parametrize("op", UNDONE)
@given(st.data())
def test_each_operator(op: str, data: st.DataObject) -> None:
    model, used = chained(data.draw, op)
    assert op in used
    assert fastrnn.from_onnx(model) == GRU


def test_every_operator_is_tested() -> None:
    assert {*UNDONE, "DequantizeLinear", "ReduceL2"} == {*COMPUTED}


@pytest.mark.parametrize("opset", [19, 21])
def test_quantized_weights(opset: int) -> None:
    """int8 with a scale for each row."""
    rng = np.random.default_rng(0)
    quantized, scales = rng.integers(-128, 128, (1, 3 * H, I), np.int8), rng.uniform(0.01, 0.1, 3 * H).astype("f4")
    points = rng.integers(-5, 5, 3 * H, np.int8)
    model = w_of(node("DequantizeLinear", ["q", "s", "z"], ["W"], axis=1), opset=opset, q=quantized, s=scales, z=points)
    expected = (quantized.astype("f4") - points[:, None].astype("f4")) * scales[:, None]
    assert fastrnn.from_onnx(model) == fastrnn.from_onnx(make(W=expected))


@pytest.mark.parametrize("opset", [11, 18])
def test_normalised_weights(opset: int) -> None:
    """Weight normalisation: g * v / |v|."""
    v, g = numbers(1, 3 * H, I), numbers(1, 3 * H, 1)
    norm = node("ReduceL2", ["v"], ["n"], axes=[2]) if opset < 18 else node("ReduceL2", ["v", "axes"], ["n"])
    rest = [node("Div", ["v", "n"], ["u"]), node("Mul", ["u", "g"], ["W"])]
    params = fastrnn.from_onnx(w_of(norm, *rest, opset=opset, v=v, g=g, axes=ints(2)))
    expected = v / np.linalg.norm(v, axis=2, keepdims=True) * g
    got = np.concatenate([params.weights["weight_ih_l0"][H : 2 * H], params.weights["weight_ih_l0"][:H]])  # r z n
    np.testing.assert_allclose(got, expected[0, : 2 * H], rtol=1e-6)


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}, {"bias": False}], ids=str)
@pytest.mark.parametrize("opset", [9, 11, 17])
@pytest.mark.filterwarnings("ignore")
def test_pytorch_without_constant_folding(cell: str, options: dict[str, Any], opset: int, tmp_path: Any) -> None:
    torch = package("torch")
    torch.manual_seed(0)
    module, x, path = getattr(torch.nn, cell)(4, 5, **options).eval(), torch.randn(7, 3, 4), tmp_path / "model.onnx"
    torch.onnx.export(module, (x,), path, dynamo=False, do_constant_folding=False, opset_version=opset)
    y = x.numpy()
    loaders = onnx_load.loaders(path)
    assert len(loaders) == options.get("num_layers", 1)
    for load in loaders.values():
        y, _ = getattr(fastrnn, cell.lower())(y, load())
    np.testing.assert_allclose(y, module(x)[0].detach().numpy(), atol=2e-6)


def voice_detector(opset: int) -> Any:
    """LSTMs in branches of branches, as a shipped voice activity detector has them: one module, traced twice.

    Its weights are those of PyTorch, in the graph or in a branch; slices bring their gates into ONNX's order. The
    second branch starts from zeros as large as the input's batch.
    """
    rows = [(0, H), (3 * H, 4 * H), (H, 3 * H)]

    def gates(name: str, prefix: str) -> list[Any]:
        nodes = []
        for k, (start, end) in enumerate(rows):
            bounds = [f"{prefix}{name}{k}{what}" for what in ("start", "end", "axis")]
            nodes += [constant(bound, ints(n)) for bound, n in zip(bounds, (start, end, 0), strict=True)]
            nodes.append(node("Slice", [name, *bounds], [f"{prefix}{name}{k}"]))
        parts = [f"{prefix}{name}{k}" for k in range(3)]
        return [*nodes, node("Concat", parts, [f"{prefix}{name}"], axis=0)]

    def branch(prefix: str, state: list[Any]) -> Any:
        nodes = [one for name in ("w_ih", "w_hh", "b_ih", "b_hh") for one in gates(name, prefix)]
        nodes.append(node("Concat", [f"{prefix}b_ih", f"{prefix}b_hh"], [f"{prefix}b"], axis=0))
        for name, which in (("w_ih", "W"), ("w_hh", "R"), ("b", "B")):
            axes = {"axes": [0]} if opset < 13 else {}
            inputs = [f"{prefix}{name}"] if axes else [f"{prefix}{name}", "zero"]
            nodes.append(node("Unsqueeze", inputs, [f"{prefix}{which}"], **axes))
        taken = " ".join(["X", *(f"{prefix}{which}" for which in "WRB"), "-", f"{prefix}h", f"{prefix}c"])
        nodes += [*state, layer("LSTM", taken, f"{prefix}Y", f"/{prefix}rnn/LSTM", hidden_size=H)]
        return helper.make_graph(nodes, prefix, [], [helper.make_tensor_value_info(f"{prefix}Y", 1, None)])

    def zeros(prefix: str) -> list[Any]:
        return [
            node("Shape", ["X"], [f"{prefix}shape"]),
            node("Gather", [f"{prefix}shape", "one"], [f"{prefix}batch"]),
            node("Concat", ["one", f"{prefix}batch", "units"], [f"{prefix}sizes"], axis=0),
            *(node("ConstantOfShape", [f"{prefix}sizes"], [f"{prefix}{state}"]) for state in "hc"),
        ]

    given = [node("Identity", [state], [f"a{state}"]) for state in "hc"]
    inner = node(
        "If", ["has_state"], ["Y"], "If_1", then_branch=branch("a", given), else_branch=branch("b", zeros("b"))
    )
    outputs = [helper.make_tensor_value_info("Y", 1, None)]
    outer = node(
        "If",
        ["is_16k"],
        ["Z"],
        "If_0",
        then_branch=helper.make_graph([inner], "then", [], outputs, [tensor(numbers(4 * H, I), "w_ih")]),
        else_branch=helper.make_graph([node("Identity", ["X"], ["Y"])], "else", [], outputs),
    )
    arrays = {"w_ih": numbers(4 * H, I), "w_hh": numbers(4 * H, H), "b_ih": numbers(4 * H), "b_hh": numbers(4 * H)}
    sizes = {"zero": ints(0), "one": ints(1), "units": ints(H)}
    return make(outer, weights=arrays | sizes, inputs=["is_16k", "has_state", "h", "c"], opset=opset)


@pytest.mark.parametrize("opset", [11, 15, 22])
def test_layers_within_branches(opset: int) -> None:
    model = voice_detector(opset)
    inner = next(a.g for a in model.graph.node[0].attribute if a.name == "then_branch")
    graph = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    (own,) = (numpy_helper.to_array(one) for one in inner.initializer)
    names = {
        "weight_ih_l0": own,
        "weight_hh_l0": graph["w_hh"],
        "bias_ih_l0": graph["b_ih"],
        "bias_hh_l0": graph["b_hh"],
    }
    expected = fastrnn.LSTMParams(names)
    layers = onnx_load.loaders(model)
    assert list(layers) == ["/brnn/LSTM", "/arnn/LSTM"], "in the order of the attributes, which make_node sorts"
    assert all(load() == expected for load in layers.values())
    sizes = f"input size {I}, hidden size {H}"
    a, b = (
        f"'/{prefix}rnn/LSTM' (LSTM, {sizes}, in {branch} of If 'If_1' in then_branch of If 'If_0')"
        for prefix, branch in (("a", "then_branch"), ("b", "else_branch"))
    )
    with raises_as_said("ValueError", f"node: expected the name of one of {b}, {a}, got None"):
        fastrnn.from_onnx(model)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_narrow_weights(kind: str, dtype: str) -> None:
    """They are converted exactly where `dtype` asks for it, raw or listed, as they are or computed."""
    data_type = onnx.TensorProto.DataType.Value(kind.upper())
    narrow = helper.tensor_dtype_to_np_dtype(data_type)
    arrays = {name: array.astype(narrow) for name, array in WEIGHTS["GRU"].items()}
    exact = {name: array.astype("f8") for name, array in arrays.items()}
    expected = fastrnn.from_onnx(make(weights=exact), dtype=dtype)
    raw = make(weights={name: tensor(array, name) for name, array in arrays.items()})
    listed = [helper.make_tensor(name, data_type, array.shape, array.ravel()) for name, array in arrays.items()]
    assert not listed[0].HasField("raw_data")
    listed_model = make(weights={one.name: one for one in listed})
    halves = [tensor(part, f"half{k}") for k, part in enumerate(np.split(arrays["W"], 2, axis=1))]
    joined = node("Concat", ["half0", "half1"], ["W"], axis=1)
    computed = make(joined, layer(), weights={one.name: one for one in [*halves, *listed[1:]]})
    for model in (raw, listed_model, computed):
        params = fastrnn.from_onnx(model, dtype=dtype)
        assert params.dtype == dtype
        assert params == expected
        with raises_as_said(
            "ValueError", f"node 'layer': W: expected float32 or float64, got {kind}; dtype='float32' ..."
        ):
            fastrnn.from_onnx(model)
        alone = onnx_load.one_node_model(model, dtype=dtype)
        assert fastrnn.from_onnx(alone) == expected


def test_narrow_weights_are_kept_as_they_were_given() -> None:
    weights = {name: array.astype("f2") for name, array in WEIGHTS["GRU"].items()}
    assert fastrnn.from_onnx(make(weights=weights), dtype="float32").weights["weight_ih_l0"].dtype == np.float16


def test_dtype_and_target() -> None:
    params = fastrnn.from_onnx(make(), dtype="float64", target="scalar")
    assert (params.dtype, params.target) == (np.float64, "scalar")
    assert params == fastrnn.GRUParams(GRU.weights, dtype="float64", reset_after=False)


def expanded_zeros(*shape: int, value: float = 0) -> list[Any]:
    """A state as exporters write it: a number, expanded to sizes that are put together."""
    filled = node("ConstantOfShape", ["sizes"], ["small"], value=tensor(np.array([value], "f4")))
    return [
        constant("sizes", ints(1, 1, 1)),
        filled,
        constant("wanted", ints(*shape)),
        node("Expand", ["small", "wanted"], ["h"]),
    ]


def test_computed_states() -> None:
    for layout, shape in ((0, (1, 5, H)), (1, (5, 1, H))):
        node_ = layer(inputs="X W R B - h", layout=layout)
        params = fastrnn.from_onnx(make(*expanded_zeros(*shape), node_))
        assert params == fastrnn.GRUParams(GRU.weights, reset_after=False, batch_first=bool(layout))
        with raises_as_said(
            "ValueError", "node 'layer': initial_h: expected none, ... got a constant; params have no state..."
        ):
            fastrnn.from_onnx(make(*expanded_zeros(*shape, value=0.5), node_))
    with raises_as_said("ValueError", f"node 'layer': initial_h: expected (1, B, {H}), got (1, 2, {H + 1})"):
        fastrnn.from_onnx(make(*expanded_zeros(1, 2, H + 1), layer(inputs="X W R B - h")))
    lengths = node("Add", ["n", "n"], ["lengths"])
    with raises_as_said(
        "ValueError", "node 'layer': sequence_lens: expected none, ... got a constant; params have no lengths..."
    ):
        fastrnn.from_onnx(make(lengths, layer(inputs="X W R B lengths"), n=np.array([1, 2], "i4")))


# (b) What is no constant


def test_states_of_the_caller() -> None:
    """What depends on an input, on chance or on a branch is no constant, however it is computed."""
    empty = helper.make_graph([], "empty", [], [])
    for before in (
        [node("Shape", ["X"], ["s"]), node("ConstantOfShape", ["s"], ["h"], value=tensor(np.ones(1, "f4")))],
        [node("RandomNormal", [], ["h"], shape=[1, 2, H])],
        [node("RandomNormalLike", ["B"], ["h"])],
        [node("If", ["which"], ["h"], then_branch=empty, else_branch=empty)],
        [node("Gemm", ["X", "B"], ["g"]), node("Tanh", ["g"], ["h"])],
    ):
        assert fastrnn.from_onnx(make(*before, layer(inputs="X W R B - h"), inputs=["which"])) == GRU


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Mul", ["a", "X"], ["W"])], "expected a constant, got 'W', which depends on 'X', an input of the graph"),
        ([node("Mul", ["a", "b"], ["W"])], "expected a constant, got 'b', which nothing in the model defines"),
        (
            [node("MatMul", ["a", "a"], ["W"])],
            "expected a constant, got 'W', which a node 'MatMul' computes; a model with its constants folded may do",
        ),
        (
            [node("Mul", ["a", "a"], ["W"], domain="own")],
            "expected a constant, got 'W', which a node 'Mul' computes; a model with its constants folded may do",
        ),
        (
            [node("Tanh", ["a"], ["V"]), node("Neg", ["V"], ["W"])],
            "expected a constant, got 'W', which depends on 'V', which a node 'Tanh' computes; a model with ...",
        ),
        (
            [node("RandomNormal", [], ["W"], shape=[1, 12, 3])],
            "expected a constant, got 'W', which a node 'RandomNormal' computes",
        ),
        ([node("Neg", ["V"], ["W"]), node("Identity", ["W"], ["V"])], "expected a constant, got 'W', which ... itself"),
        ([node("Identity", ["W"], ["W"])], "expected a constant, got 'W', which depends on itself"),
        ([node("Add", ["a", "n"], ["W"])], "'W': 'Add': expected inputs and attributes that ... in opset 22, got ..."),
        ([node("Reshape", ["a", "n"], ["W"])], "'W': 'Reshape': expected inputs and attributes that the operator ..."),
        ([node("Slice", ["a"], ["W"], starts=[0], ends=[1])], "'W': 'Slice': expected inputs and attributes that ..."),
        ([node("Concat", ["a", "a"], ["W"], axis=7)], "'W': 'Concat': expected ... axis must be in ..."),
        ([node("Transpose", ["a"], ["W"], perm=[0, 0, 1])], "'W': 'Transpose': expected ..."),
        ([node("Cast", ["a"], ["W"], to=8)], "'W': 'Cast': ... got ... string"),
        ([node("Cast", ["a"], ["W"])], "'W': 'Cast': expected ..."),
        ([node("Neg", ["a", "a"], ["W"])], "'W': 'Neg': expected ..."),
        ([node("Neg", [], ["W"])], "expected a constant, got 'W', which a node 'Neg' computes"),
        ([node("Neg", ["a"], ["W"], strange=1)], "'W': 'Neg': expected ..."),
        ([node("Split", ["a", "sizes"], ["W", "V"], axis=1)], "'W': 'Split': expected ..."),
        ([node("Identity", ["sparse"], ["W"])], "expected a dense constant, got 'sparse', a sparse one"),
    ],
)
def test_refused(nodes: list[Any], message: str) -> None:
    values, indices = tensor(np.ones(1, "f4"), "sparse"), tensor(ints(0))
    sparse = helper.make_sparse_tensor(values, indices, [1, 12, 3])
    model = w_of(*nodes, a=numbers(1, 3 * H, I), n=ints(1, 2), sizes=ints(3 * H + 1, -1))
    model.graph.sparse_initializer.append(sparse)
    with raises_as_said("ValueError", f"node 'layer': W: {message}"):
        fastrnn.from_onnx(model)


def test_functions() -> None:
    """What a function computes of its own constants is one; what it computes of its inputs or attributes is none."""
    opset = [helper.make_opsetid("", 22)]
    weights = [constant(name, array) for name, array in WEIGHTS["GRU"].items() if name != "W"]
    halves = [constant(f"half{k}", part) for k, part in enumerate(np.split(WEIGHTS["GRU"]["W"], 2, axis=1))]
    joined = node("Concat", ["half0", "half1"], ["W"], axis=1)
    call = node("f", ["X"], ["Z"], domain="own")

    def model(*nodes: Any, inputs: Any = ("X",), attributes: Any = ()) -> Any:
        body = [*weights, *nodes, layer()]
        return make(
            call, weights={}, functions=[helper.make_function("own", "f", inputs, ["Y"], body, opset, attributes)]
        )

    assert fastrnn.from_onnx(model(*halves, joined)) == GRU
    with raises_as_said(
        "ValueError", "node 'layer': W: expected a constant, got 'W', which depends on 'half0', an input of ..."
    ):
        fastrnn.from_onnx(model(halves[1], joined, inputs=["X", "half0"]))
    joined.attribute[0].Clear()
    joined.attribute[0].CopyFrom(onnx.AttributeProto(name="axis", ref_attr_name="a", type=onnx.AttributeProto.INT))
    with raises_as_said(
        "ValueError", "node 'layer': W: 'W': 'axis': expected a value, got that of whoever calls a function"
    ):
        fastrnn.from_onnx(model(*halves, joined, attributes=["a"]))


# (c) Hostile computations


def loaded(model: Any) -> str | None:
    try:
        for load in onnx_load.loaders(model).values():
            load()
    except ValueError as error:
        return str(error)
    return None


def chain_of(op: str, length: int, *more: str, **attributes: Any) -> list[Any]:
    """Nodes that take each other's output, from v0 to W."""
    names = [f"v{k}" for k in range(length)] + ["W"]
    return [node(op, [names[k], *(more or ())], [names[k + 1]], **attributes) for k in range(length)]


ROW, COLUMN = np.zeros((1, 20_000), "f4"), np.zeros((20_000, 1), "f4")
HOSTILE = {
    "ConstantOfShape": ([node("ConstantOfShape", ["n"], ["W"])], {"n": ints(10**12)}),
    "more axes than arrays have": ([node("ConstantOfShape", ["n"], ["W"])], {"n": np.ones(100, "i8")}),
    "no elements, and huge": ([node("ConstantOfShape", ["n"], ["W"])], {"n": ints(0, 2**62, 2**62)}),
    "negative": ([node("ConstantOfShape", ["n"], ["W"])], {"n": ints(-1, -1, 5)}),
    "Expand": ([node("Expand", ["a", "n"], ["W"])], {"a": numbers(1), "n": ints(10**6, 10**6)}),
    "Tile": ([node("Tile", ["a", "n"], ["W"])], {"a": numbers(3), "n": ints(10**12)}),
    "Tile, of a product that wraps": ([node("Tile", ["a", "n"], ["W"])], {"a": numbers(4), "n": ints(2**62)}),
    "Gather": ([node("Gather", ["a", "n"], ["W"])], {"a": numbers(1, 10_000), "n": np.zeros(100_000, "i8")}),
    "an outer product": ([node("Mul", ["a", "b"], ["W"])], {"a": ROW, "b": COLUMN}),
    "an outer comparison": (
        [node("Equal", ["a", "b"], ["c"]), node("Where", ["c", "a", "b"], ["W"])],
        {"a": ROW, "b": COLUMN},
    ),
    "doubling": (
        [node("Concat", [f"v{k}", f"v{k}"], [f"v{k + 1}" if k < 60 else "W"], axis=0) for k in range(61)],
        {"v0": numbers(4)},
    ),
    "a Concat of many": ([node("Concat", ["v0"] * 20_000, ["W"], axis=0)], {"v0": numbers(5000)}),
    "many outputs": ([node("Split", ["v0"], ["W", "V"], axis=0, num_outputs=2**40)], {"v0": numbers(4)}),
    "copies of much": (chain_of("Neg", 200), {"v0": numbers(250_000)}),
    "sizes of unknown meaning": ([node("ConstantOfShape", ["n"], ["W"])], {"n": np.ones((2, 2), "i8")}),
    "sizes of many": ([node("Reshape", ["a", "n"], ["W"])], {"a": numbers(1), "n": np.ones(2000, "i8")}),
    "an attribute that lies": (
        [node("ConstantOfShape", ["n"], ["W"], value=onnx.TensorProto(dims=[2**40], data_type=1, raw_data=b"1234"))],
        {"n": ints(1)},
    ),
    "an attribute in a file": (
        [node("ConstantOfShape", ["n"], ["W"], value=onnx.TensorProto(dims=[1], data_type=1, data_location=1))],
        {"n": ints(1)},
    ),
    "a tensor that lies": (chain_of("Neg", 1), {"v0": onnx.TensorProto(name="v0", dims=[2**40], data_type=1)}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_computations(case: str) -> None:
    nodes, constants = HOSTILE[case]
    model = w_of(*nodes, **constants)
    loaded(make(*expanded_zeros(1, 1, H), layer(inputs="X W R B - h")))  # loads ONNX's evaluator
    tracemalloc.start()
    message = loaded(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message is not None
    assert message.startswith("node 'layer': W: ")
    assert len(message) < 600
    assert "\n" not in message
    assert peak < 2 * Budget.LEAST_BYTES + 2 * Budget.TIMES * sum(getattr(a, "nbytes", 0) for a in constants.values())


def test_states_as_large_as_they_like() -> None:
    for value in (0, 1):
        model = make(*expanded_zeros(1, 10**9, H, value=value), layer(inputs="X W R B - h"))
        message = loaded(model)
        assert message is not None
        assert f"initial_h: 'h': expected at most {Budget.LEAST_BYTES} bytes and ..."[:50] in message


def test_long_chains() -> None:
    """Deeper than Python calls may go; and chains that many nodes share, which are followed for each of them."""
    W = WEIGHTS["GRU"]["W"]
    assert fastrnn.from_onnx(w_of(*chain_of("Neg", 1000), v0=W)) == GRU
    assert fastrnn.from_onnx(w_of(*chain_of("Identity", 5000), v0=W)) == GRU
    too_long = loaded(w_of(*chain_of("Identity", Budget.MOST_NODES + 1), layer(output="Z"), v0=W))
    assert too_long is None, "a tensor as it is behind many Identity nodes is not computed"


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all nodes of a model together: one node more than may be computed, and one step more than may be followed."""
    nodes = [*chain_of("Neg", 40), *(layer(output=f"Y{k}", name=f"n{k}") for k in range(10))]
    model = make(*nodes, W=None, v0=WEIGHTS["GRU"]["W"])
    assert loaded(model) is None
    monkeypatch.setattr(Budget, "MOST_NODES", 399)
    message = loaded(model)
    assert message is not None
    assert message.startswith("node 'n9': W: 'W': expected at most 399 nodes that compute constants, got more")
    monkeypatch.setattr(Budget, "MOST_NODES", 400)
    monkeypatch.setattr(Budget, "MOST_STEPS", 700)
    message = loaded(model)
    assert message is not None
    assert message.startswith("node 'n8': W: expected at most 700 steps from inputs to constants, got more")


def test_what_the_evaluator_gives_is_as_inferred() -> None:
    """ONNX's evaluator, on its own, on one of these chains: the same weights."""
    nodes = [node("Neg", ["a"], ["b"]), node("Transpose", ["b"], ["W"], perm=[0, 2, 1])]
    a = numbers(1, I, 3 * H)
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("W", 1, None)], [tensor(a, "a")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])
    (W,) = ReferenceEvaluator(model).run(None, {})
    assert fastrnn.from_onnx(w_of(*nodes, a=a)) == fastrnn.from_onnx(make(W=np.ascontiguousarray(W)))


# Models without a recurrent node


def cell(*activations: str, products: int = 2) -> Any:
    nodes = [node("Gemm", ["X", "W"], [f"p{k}"]) for k in range(products)]
    nodes += [node(op, ["p0"], [f"a{k}"]) for k, op in enumerate(activations)]
    return helper.make_graph(nodes, "body", [], [])


def test_layers_written_out() -> None:
    """The error says what was seen, and where; a plain network is not taken for a layer."""
    plain = "path_or_model: expected a model with an RNN, LSTM or GRU node, got one without"
    cure = ", which may be a layer written out in single operators: fastrnn.from_torch takes ..."
    unrolled = make(weights={})
    unrolled.graph.CopyFrom(cell("Tanh", "Sigmoid", "Sigmoid"))
    loop = make(node("Loop", ["n", "c"], ["Y"], "over time", body=cell("Sigmoid", products=1)), weights={})
    for model, seen in (
        (unrolled, "the graph has 2 Gemm, 1 Tanh, 2 Sigmoid"),
        (loop, "body of Loop 'over time' has 1 Gemm, 1 Sigmoid"),
    ):
        with raises_as_said("ValueError", f"{plain}; {seen}{cure}"):
            fastrnn.from_onnx(model)
        assert onnx_load.remark_on(model).startswith(seen)
    for graph in (cell("Sigmoid"), cell("Tanh", products=1), cell("Relu", products=3)):
        unrolled.graph.CopyFrom(graph)
        with raises_as_said("ValueError", plain):
            fastrnn.from_onnx(unrolled)
