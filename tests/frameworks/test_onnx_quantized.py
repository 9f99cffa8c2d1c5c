"""ONNX Runtime's DynamicQuantizeLSTM: bytes that are carried exactly, or refused; sessions with narrow weights."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import cli
from fastrnn._types import Precision
from support.environment import package
from support.errors import raises_as_said
from support.onnx_models import GATES, helper, numpy_helper, onnx

I, H = 7, 12  # noqa: E741
ORDER = GATES["lstm"]
INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
INPUTS += ["W_scale", "W_zero_point", "R_scale", "R_zero_point"]


def arrays_of(
    seed: int = 0, directions: int = 1, dtype: str = "int8", *, rows: bool = True, moved: bool = False
) -> dict[str, np.ndarray]:
    """The constants of a node; its bytes less their zero points are from -128 to 127."""
    rng = np.random.default_rng(seed)
    kind, middle = np.dtype(dtype), 128 if dtype == "uint8" else 0
    sides = (directions, 4 * H) if rows else (directions,)
    arrays = {
        "B": rng.uniform(-0.2, 0.2, (directions, 8 * H)).astype("f4"),
        "P": rng.uniform(-0.2, 0.2, (directions, 3 * H)).astype("f4"),
    }
    for which, K in (("W", I), ("R", H)):
        zeros = middle + (rng.integers(-20, 21, sides) if moved else np.zeros(sides, int))
        most = 107 if moved else 127
        over = zeros[:, None, :] if rows else zeros[:, None, None]
        arrays[which] = (over + rng.integers(-most - 1, most + 1, (directions, K, 4 * H))).astype(kind)
        arrays[f"{which}_scale"] = rng.uniform(1e-3, 3e-3, sides).astype("f4")
        arrays[f"{which}_zero_point"] = zeros.astype(kind)
    return arrays


def model_of(arrays: dict[str, np.ndarray], inputs: tuple[str, ...] = (), **attributes: Any) -> Any:
    """A model of one node; `inputs` are the caller's, beside X."""
    fed = ("X", *inputs)
    node = helper.make_node(
        "DynamicQuantizeLSTM",
        [name if name in arrays or name in fed else "" for name in INPUTS],
        ["Y", "Y_h", "Y_c"],
        "layer",
        domain="com.microsoft",
        **({"hidden_size": H} | attributes),
    )
    value, kinds = helper.make_tensor_value_info, {"sequence_lens": 6}
    graph = helper.make_graph(
        [node],
        "graph",
        [value(name, kinds.get(name, 1), ["T", "B", I] if name == "X" else None) for name in fed],
        [value(name, 1, None) for name in node.output],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def load(arrays: dict[str, np.ndarray], **options: Any) -> Any:
    attributes = {"direction": "bidirectional"} if len(arrays["W"]) == 2 else {}
    return fastrnn.from_onnx(model_of(arrays, **attributes), **options)


def in_our_order(rows: np.ndarray) -> np.ndarray:
    """Rows in ONNX's order of gates, i o f c."""
    parts = np.split(rows, 4)
    found: list[Any] = [None] * 4
    for theirs, ours in enumerate(ORDER):
        found[ours] = parts[theirs]
    return np.concatenate(found)


def x_of(T: int = 30, B: int = 3) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((T, B, I)).astype("f4")


@given(
    seed=st.integers(0, 1000),
    directions=st.sampled_from([1, 2]),
    dtype=st.sampled_from(["int8", "uint8"]),
    rows=st.booleans(),
    moved=st.booleans(),
)
def test_bytes_are_carried(seed: int, directions: int, dtype: str, rows: bool, moved: bool) -> None:
    arrays = arrays_of(seed, directions, dtype, rows=rows, moved=moved)
    params = load(arrays)
    assert params.precision == "int8"
    for d, suffix in enumerate(["", "_reverse"][:directions]):
        for which, name in (("W", "weight_ih"), ("R", "weight_hh")):
            zeros, scales = (
                np.broadcast_to(arrays[f"{which}_{side}"].reshape(directions, -1)[d], 4 * H)
                for side in ("zero_point", "scale")
            )
            integers = arrays[which][d].T.astype(int) - zeros[:, None]
            held = params.weights[f"{name}_l0{suffix}"]
            assert held.dtype == np.int8
            np.testing.assert_array_equal(held, in_our_order(integers))
            np.testing.assert_array_equal(params.weights[f"{name}_l0{suffix}_scale"], in_our_order(scales))
            floats = load(arrays, precision="float32").weights[f"{name}_l0{suffix}"]
            np.testing.assert_array_equal(floats, in_our_order(integers.astype("f4") * scales[:, None]))
    assert load(arrays, precision="int8_fast").weights["weight_ih_l0"].dtype == np.int8
    assert load(arrays, dtype="float64").precision == "float64"
    assert load(arrays, precision="float16").precision == "float16"


def test_requantized() -> None:
    """One byte of W does not fit: W is rounded anew, R is as it was."""
    arrays = arrays_of(directions=2)
    arrays["W"][1, 3, 5], arrays["W_zero_point"][1, 5] = -128, 1
    with raises_as_said("ValueError", "node 'layer': weight_ih_l0_reverse: expected integers from -128 to 127, ..."):
        load(arrays)
    assert load(arrays, precision="float32").precision == "float32"
    params, wide = load(arrays, requantize=True), load(arrays, precision="float32")
    np.testing.assert_array_equal(params.weights["weight_hh_l0"], load(arrays_of(directions=2)).weights["weight_hh_l0"])
    error = np.abs(params.dequantized()["weight_ih_l0_reverse"] - wide.weights["weight_ih_l0_reverse"])
    assert 0 < error.max() <= 0.51 * params.weights["weight_ih_l0_reverse_scale"].max()


def changed(name: str, change: Any) -> dict[str, np.ndarray]:
    arrays = arrays_of()
    arrays[name] = change(arrays[name])
    return arrays


def test_refused() -> None:
    nan = np.float32("nan")
    for name, change, said in (
        ("W", lambda a: a.astype("f4"), "W: expected int8 or uint8, got float32"),
        ("W", lambda a: a[0], "W: expected 3 axes, got (7, 48)"),
        ("R", lambda a: a[:, :, 1:], "R: expected (1, 48, 12) (forward, hidden size 12), got (1, 47, 12)"),
        ("W_scale", lambda a: a[0], "W_scale: expected (1,) or (1, 48), got (48,)"),
        ("W_scale", lambda a: a.astype("f8"), "W_scale: expected float32, got float64"),
        ("R_scale", lambda a: a * nan, "R_scale: expected finite numbers, got nan"),
        ("R_scale", lambda a: -a, "weight_hh_l0: expected scales of ..."),
        ("R_scale", lambda a: a * 0, "weight_hh_l0: expected scales of ..."),
        ("R_zero_point", lambda a: a.astype("u1"), "R_zero_point: expected int8, got uint8"),
        ("R_zero_point", lambda a: a[:, :1], "R_zero_point: expected (1,) or (1, 48), got (1, 1)"),
        ("B", lambda a: a.astype("f8"), "B: expected float32, got float64"),
    ):
        with raises_as_said("ValueError", f"node 'layer': {said}"):
            load(changed(name, change))
    absent = {name: array for name, array in arrays_of().items() if name != "W_scale"}
    with raises_as_said("ValueError", "node 'layer': W_scale: expected an input of the node, got none"):
        load(absent)
    with raises_as_said("ValueError", "node 'layer': 'layout': expected an attribute ..., got one of another name"):
        fastrnn.from_onnx(model_of(arrays_of(), layout=1))
    with raises_as_said("TypeError", "requantize: expected True or False, got int"):
        load(arrays_of(), requantize=1)


def test_sessions() -> None:
    """Cut, the node has the bits of our int8; that is nearer to exact sums than ONNX Runtime's are."""
    package("onnxruntime")
    import onnxruntime

    import fastrnn.onnx

    x = x_of()
    for rows in (False, True):
        for inputs in ((), ("sequence_lens", "initial_h", "initial_c")):
            arrays = arrays_of(directions=2, rows=rows)
            model = model_of(arrays, inputs, direction="bidirectional", clip=3.0)
            state = [np.full((2, 3, H), value, "f4") for value in (0.5, -0.25)]
            feed = {"X": x, **dict(zip(inputs, [np.array([30, 11, 2], "i4"), *state], strict=False))}
            session = fastrnn.onnx.session(model, cut="always")
            assert session.report.replaced == ("layer",)
            ours = session.run(None, feed)
            theirs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feed)
            call = {"lengths": [30, 11, 2], "state": tuple(state)} if inputs else {}
            params = fastrnn.from_onnx(model)
            y, states = fastrnn.lstm(x, params, **call)
            np.testing.assert_array_equal(ours[0], y.reshape(30, 3, 2, H).swapaxes(1, 2))
            wide = fastrnn.from_onnx(model, dtype="float64")
            call |= {"state": tuple(array.astype("f8") for array in state)} if inputs else {}
            exact = fastrnn.lstm(x.astype("f8"), wide, **call)[1]
            errors = [
                max(np.abs(result - part).max() for result, part in zip(results, exact, strict=True))
                for results in (states, theirs[1:])
            ]
            assert errors[0] < 3e-4
            assert errors[0] < 0.5 * errors[1]


def test_sessions_with_narrow_weights() -> None:
    """Those of an LSTM of floats, and of bytes that become floats; what can't be carried stays in ONNX Runtime."""
    package("onnxruntime")
    import fastrnn.onnx

    arrays, x = arrays_of(), x_of()
    for precision in ("float32", "float16", "int8", "int8_fast"):
        session = fastrnn.onnx.session(model_of(arrays), cut="always", precision=precision)
        expected = fastrnn.lstm(x, load(arrays, precision=precision))[0]
        np.testing.assert_array_equal(session.run(["Y"], {"X": x})[0][:, 0], expected)
    arrays["R"][0, 0, 0], arrays["R_zero_point"][0, 0] = -128, 1
    session = fastrnn.onnx.session(model_of(arrays), cut="always")
    assert "expected integers from -128 to 127" in session.report.kept["layer"]
    assert fastrnn.onnx.session(model_of(arrays), cut="always", requantize=True).report.replaced == ("layer",)
    with raises_as_said("ValueError", "precision: expected ..., got 'int4'; did you mean 'int8'?"):
        fastrnn.onnx.session(model_of(arrays), precision="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("held", ["float16", "float32", "float64", "int8"])
def test_a_precision_that_x_does_not_fit(held: str) -> None:
    """Such a node stays in ONNX Runtime, since the tensors of a graph keep their types."""
    package("onnxruntime")
    import fastrnn.onnx

    arrays = {name: arrays_of()[name].astype(held) for name in "WR"}
    if held == "int8":
        model = model_of(arrays_of())
    else:
        kind, value = helper.np_dtype_to_tensor_dtype(np.dtype(held)), helper.make_tensor_value_info
        node = helper.make_node("LSTM", ["X", "W", "R"], ["Y"], "layer", hidden_size=H)
        tensors = [numpy_helper.from_array(array.swapaxes(1, 2), name) for name, array in arrays.items()]
        x, y = value("X", kind, ["T", "B", I]), value("Y", kind, None)
        graph = helper.make_graph([node], "graph", [x], [y], tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for precision in get_args(Precision):
        session = fastrnn.onnx.session(model, cut="always", precision=precision)
        needed = "float64" if precision == "float64" else "float32"
        fits = ("float32" if held == "int8" else held) == needed
        assert session.report.replaced == (("layer",) if fits else ()), precision
        if not fits:
            assert f"X: expected {needed}, since precision is {precision!r}" in session.report.kept["layer"]


def test_models_that_onnx_runtime_quantizes(tmp_path: Path) -> None:
    package("onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import QuantType, quantize_dynamic
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    rng = np.random.default_rng(2)
    weights = {"W": (2, 4 * H, I), "R": (2, 4 * H, H), "B": (2, 8 * H)}
    tensors = [numpy_helper.from_array(rng.uniform(-0.3, 0.3, s).astype("f4"), n) for n, s in weights.items()]
    node = helper.make_node("LSTM", ["X", *weights], ["Y"], "layer", hidden_size=H, direction="bidirectional")
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("X", 1, ["T", "B", I])], [value("Y", 1, None)], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), plain)
    wide = fastrnn.from_onnx(plain)
    for rows in (False, True):
        for kind in (QuantType.QInt8, QuantType.QUInt8):
            for reduced in (False, True):
                quantize_dynamic(plain, small, per_channel=rows, weight_type=kind, reduce_range=reduced)
                params = fastrnn.from_onnx(small, requantize=True)
                assert params.precision == "int8"
                for name in ("weight_ih_l0", "weight_hh_l0_reverse"):
                    difference = np.abs(params.dequantized()[name] - wide.weights[name])
                    assert difference.max() <= (2.1 if reduced else 1.1) / 2 * 0.3 / 127 * 1.01


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = arrays_of()
    onnx.save(model_of(arrays), "good.onnx")
    arrays["R"][0, 0, 0], arrays["R_zero_point"][0, 0] = -128, 1
    onnx.save(model_of(arrays), "bad.onnx")
    assert cli.main(["inspect", "good.onnx"]) == 0
    assert "int8" in capsys.readouterr().out
    assert cli.main(["convert", "good.onnx", "good.npz"]) == 0
    assert fastrnn.load("good.npz") == fastrnn.from_onnx("good.onnx")
    assert cli.main(["convert", "good.onnx", "wide.npz", "--precision", "float32"]) == 0
    assert fastrnn.load("wide.npz").precision == "float32"
    assert cli.main(["check", "good.onnx"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["convert", "bad.onnx", "bad.npz"])
    assert "requantize" in capsys.readouterr().err
    for precision in ("float16", "float32", "float64"):  # whose floats hold any bytes
        assert cli.main(["convert", "bad.onnx", "wide.npz", "--precision", precision]) == 0
        assert fastrnn.load("wide.npz").precision == precision
    capsys.readouterr()
    assert cli.main(["bench", "bad.onnx", "--requantize", "--rounds", "1", "--steps", "2"]) == 0
    assert cli.main(["convert", "bad.onnx", "bad.npz", "--requantize"]) == 0
    assert fastrnn.load("bad.npz") == fastrnn.from_onnx("bad.onnx", requantize=True)


def test_hostile() -> None:
    """Scales that an input of the graph replaces, which are no constants; bytes that are not there."""
    model = model_of({name: array for name, array in arrays_of().items() if name != "W_scale"}, ("W_scale",))
    with raises_as_said("ValueError", "node 'layer': W_scale: expected a constant, got 'W_scale', an input of ..."):
        fastrnn.from_onnx(model)
    model = model_of(arrays_of())
    next(tensor for tensor in model.graph.initializer if tensor.name == "R").ClearField("raw_data")
    with pytest.raises(ValueError, match="node 'layer': R: "):
        fastrnn.from_onnx(onnx.load_model(io.BytesIO(model.SerializeToString())))
