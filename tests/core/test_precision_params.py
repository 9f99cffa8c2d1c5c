"""Params with narrow weights: what they hold of what was given, conversions, equality, pickles, files, errors.

What is computed with such weights is in test_precision.py.

(a) Numbers that are held. (b) From one precision to another. (c) Other numbers for the same layers.
(d) Pickles and files. (e) Rows with outliers. (f) Wrong calls.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastrnn
from fastrnn._formats import FORMATS
from fastrnn._precision import outliers
from support.cases import Case, cases, make_weights
from support.cells import CELLS, PARAMS
from support.errors import bad_calls, raises_as_said
from support.layer_files import EVERY_SUFFIX

NARROW = ["float16", "int8", "int8_fast"]
EVERY_PRECISION = pytest.mark.parametrize("precision", NARROW)
MATRICES = ("weight_ih", "weight_hh", "weight_hr")


def is_matrix(name: str) -> bool:
    return name.startswith(MATRICES) and not name.endswith("_scale")


def weights_of(cell: str = "lstm", **more: Any) -> dict[str, np.ndarray]:
    return make_weights(np.random.default_rng(3), cell, (6, 5), **more)


def layer(precision: str | None, cell: str = "lstm", **options: Any) -> Any:
    return PARAMS[cell](weights_of(cell), precision=precision, **options)


def as_float32(case: Case) -> Case:
    return case.but(weights={name: array.astype("f4") for name, array in case.weights.items()})


def assert_same_arrays(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].tobytes() == array.tobytes(), name


# (a) Numbers that are held.


def quantized(row: list[float]) -> tuple[list[int], np.float32]:
    """The formula, a number at a time."""
    numbers = [np.float32(number) for number in row]
    scale = max((abs(number) for number in numbers), default=np.float32(0)) / np.float32(127)
    if scale < np.finfo(np.float32).tiny:
        return [0] * len(row), np.float32(1)
    return [int(max(-127, min(127, np.rint(number / scale)))) for number in numbers], np.float32(scale)


@pytest.mark.parametrize("precision", ["int8", "int8_fast"])
@given(case=cases())
def test_bytes_and_scales(precision: Any, case: Case) -> None:
    case = as_float32(case)
    params = case.params(precision=precision)
    held = params.weights
    assert params.precision == precision
    assert params.dtype == np.float32
    assert {name.removesuffix("_scale") for name in held} == {*case.weights}
    for name, array in case.weights.items():
        if not is_matrix(name):
            np.testing.assert_array_equal(held[name], array)
            continue
        scales = held[f"{name}_scale"]
        assert (held[name].dtype, scales.dtype, scales.shape) == (np.int8, np.float32, array.shape[:1])
        for row, whole, scale in zip(array[:9], held[name], scales, strict=False):
            assert quantized([*row]) == ([*whole], scale)


def test_rows_of_zeros_ties_and_extremes() -> None:
    tiny = float(np.finfo(np.float32).tiny)
    rows = [[0, 0, -0.0], [tiny, -tiny, 0], [126 * tiny, 0, 0], [127 * tiny, tiny, -127 * tiny]]
    rows += [[127, 0.5, 1.5], [-127, -0.5, 2.5], [3.4e38, -3.4e38, 1e37], [1e-30, -1e-30, 5e-31]]
    params = fastrnn.RNNParams({"weight_ih": np.float32(rows), "weight_hh": np.eye(8, dtype="f4")}, precision="int8")
    held = params.weights
    assert held["weight_ih"][:3].tolist() == [[0] * 3] * 3
    assert held["weight_ih"][3:6].tolist() == [[127, 1, -127], [127, 0, 2], [-127, 0, 2]]
    assert held["weight_ih"][6:].tolist() == [[127, -127, 4], [127, -127, 64]]
    assert held["weight_ih_scale"][:6].tolist() == [1, 1, 1, tiny, 1, 1]
    for name, array in params.dequantized().items():
        assert np.isfinite(array).all()
        assert (name, array.dtype) in (("weight_ih", np.float32), ("weight_hh", np.float32))


def test_halves_are_rounded_once() -> None:
    """From float64 too: by way of float32 the second number would become 1, by ties to even."""
    weights = {
        "weight_ih": np.array([[1 + 2**-11, 1 + 2**-11 + 2**-30, 1 + 3 * 2**-11]]),
        "weight_hh": np.zeros((1, 1)),
    }
    held = fastrnn.RNNParams(weights, dtype="float32", precision="float16").weights["weight_ih"]
    assert held.dtype == np.float16
    assert held.tolist() == [[1, 1 + 2**-10, 1 + 2**-9]]
    odd = np.float16([[np.nan, np.inf, 6e-8]])
    params = fastrnn.RNNParams({**weights, "weight_ih": odd}, dtype="float32", precision="float16")
    np.testing.assert_array_equal(params.weights["weight_ih"], odd)


@EVERY_PRECISION
@given(case=cases())
def test_held_arrays_make_the_same_params(precision: Any, case: Case) -> None:
    params = as_float32(case).params(precision=precision)
    named = None if precision == "int8" else precision
    again = PARAMS[case.cell](params.weights, precision=named, **case.options)
    assert again == params
    assert hash(again) == hash(params)
    assert again.precision == precision
    assert_same_arrays(again.weights, params.weights)


@EVERY_PRECISION
def test_held_arrays_can_not_be_written_to(precision: str) -> None:
    for array in layer(precision).weights.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@EVERY_PRECISION
def test_no_float_copy_is_kept(precision: str) -> None:
    params = layer(precision)
    arrays = [array for value in vars(params).values() if isinstance(value, dict) for array in value.values()]
    sizes = [array.dtype.itemsize for array in arrays if getattr(array, "ndim", 0) == 2]
    assert sizes == [{"float16": 2}.get(precision, 1)] * 2


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_precision_of_floats_is_the_dtype(precision: Any) -> None:
    for dtype in ("float16", "float32", "float64"):
        weights = {name: array.astype(dtype) for name, array in weights_of().items()}
        params = fastrnn.LSTMParams(weights, precision=precision)
        assert params == fastrnn.LSTMParams(weights, dtype=precision)
        assert (params.precision, params.dtype.name) == (precision, precision)


# (b) From one precision to another.


@pytest.mark.parametrize("cell", CELLS)
def test_from_any_precision_to_any(cell: str) -> None:
    floats = layer(None, cell)
    for first in ("float32", *NARROW):
        params = floats.to(first)
        assert params.to(first) is params
        for second in ("float64", "float32", *NARROW):
            other = params.to(second)
            assert type(other) is type(params)
            assert other.precision == second
            assert (other == params) == (first == second)
            if {first, second} == {"int8", "int8_fast"}:
                assert_same_arrays(other.weights, params.weights)
                assert other.to(first) == params
            elif second in ("float32", "float64"):
                wide = PARAMS[cell](params.dequantized(), dtype=second)
                assert other == wide
            else:
                assert other == PARAMS[cell](params.dequantized(), precision=second)


def test_options_and_targets_stay(target: str) -> None:
    params = fastrnn.GRUParams(weights_of("gru"), reset_after=False, clip=0.5, batch_first=True, target=target)
    for precision in NARROW:
        small = params.to(precision)  # type: ignore[arg-type]
        assert small._shown_options() == params._shown_options()
        assert (small.target, small.batch_first) == (target, True)
        assert small.to("float32").to(precision) == small  # type: ignore[arg-type]


@given(case=cases())
def test_what_bytes_stand_for_is_near(case: Case) -> None:
    """Within half a step, and a second time to the same bytes."""
    case = as_float32(case)
    small = case.params(precision="int8")
    for name, array in small.dequantized().items():
        if is_matrix(name):
            step = small.weights[f"{name}_scale"][:, None]
            assert (np.abs(array - case.weights[name]) <= 0.5001 * step).all()
        else:
            np.testing.assert_array_equal(array, case.weights[name])
    again = small.to("float32").to("int8")
    for name, array in small.weights.items():
        if name.endswith("_scale"):
            np.testing.assert_allclose(again.weights[name], array, rtol=1e-6)
        elif is_matrix(name):
            np.testing.assert_array_equal(again.weights[name], array)


def test_equality_knows_the_precision() -> None:
    made = {precision: layer(precision) for precision in ("float32", *NARROW)}
    assert len({hash(params) for params in made.values()}) == 4
    for one, params in made.items():
        assert [other for other, some in made.items() if params == some] == [one]
    other = weights_of()
    other["weight_ih_l0"] = other["weight_ih_l0"] * np.float32(2)  # the same bytes, other scales
    assert fastrnn.LSTMParams(other, precision="int8") != made["int8"]
    assert fastrnn.LSTMParams({**weights_of(), "bias_ih_l0": -other["bias_ih_l0"]}, precision="int8") != made["int8"]


def test_unused_rows_do_not_count() -> None:
    """Rows of f of coupled gates, and their scales."""
    weights, other = weights_of(), weights_of()
    other["weight_hh_l0"][5:10] *= 3
    one, two = (fastrnn.LSTMParams(some, precision="int8", input_forget=True) for some in (weights, other))
    assert one == two
    assert fastrnn.LSTMParams(weights, precision="int8") != fastrnn.LSTMParams(other, precision="int8")


@EVERY_PRECISION
def test_repr_and_nbytes(precision: str) -> None:
    weights = make_weights(np.random.default_rng(0), "gru", (64, 96))
    wide = fastrnn.GRUParams(weights)
    small = wide.to(precision)  # type: ignore[arg-type]
    assert f"dtype='float32', precision='{precision}', target=" in repr(small)
    assert "precision" not in repr(wide)
    assert small.nbytes * (1.7 if precision == "float16" else 3) < wide.nbytes


# (c) Other numbers for the same layers.


@EVERY_PRECISION
@given(case=cases())
def test_with_weights(precision: Any, case: Case) -> None:
    """Floats are made narrow anew, held arrays stay as they are, and both may come together."""
    case = as_float32(case)
    params = case.params(precision=precision)
    other = {name: np.float32(-0.5) * array[::-1] for name, array in case.weights.items()}
    changed = params.with_weights(other)
    assert changed == case.but(weights=other).params(precision=precision)
    assert repr(changed) == repr(params)
    assert params.with_weights(params.weights) == params
    assert_same_arrays(params.with_weights(params.weights).weights, params.weights)
    mixed = {name: array for name, array in params.weights.items() if not name.startswith("weight_ih")}
    mixed |= {name: array for name, array in other.items() if name.startswith("weight_ih")}
    kept = {name: array for name, array in case.weights.items() if not name.startswith("weight_ih")}
    expected = {**kept, **{name: array for name, array in other.items() if name.startswith("weight_ih")}}
    expected = {name: expected[name] for name in case.weights}
    assert params.with_weights(mixed) == case.but(weights=expected).params(precision=precision)


def test_with_weights_of_a_subclass() -> None:
    """As with floats, `__init__` of a subclass is not called, and its attributes are there."""

    class Named(fastrnn.LSTMParams):
        def __init__(self, weights: Any, name: str) -> None:
            super().__init__(weights, precision="int8")
            self.name = name

    params = Named(weights_of(), "a")
    for other in (params.with_weights(weights_of()), params.to("float16"), params.to("float32")):
        assert type(other) is Named
        assert other.name == "a"


# (d) Pickles and files.


@EVERY_PRECISION
@given(case=cases())
def test_pickles(precision: Any, case: Case) -> None:
    params = as_float32(case).params(precision=precision)
    buffers: list[Any] = []
    data = pickle.dumps(params, protocol=5, buffer_callback=buffers.append)
    again = pickle.loads(data, buffers=buffers)
    for other in (again, *(pickle.loads(pickle.dumps(params, protocol)) for protocol in range(2, 6))):
        assert other == params
        assert repr(other) == repr(params)
        assert_same_arrays(other.weights, params.weights)
    for array, buffer in zip(again.weights.values(), buffers, strict=True):
        assert not array.size or np.shares_memory(array, np.frombuffer(buffer, np.uint8))


@EVERY_SUFFIX
@EVERY_PRECISION
@given(case=cases())
def test_files(folder: Path, suffix: str, precision: Any, case: Case) -> None:
    params = as_float32(case).params(precision=precision)
    path = folder / f"narrow{suffix}"
    params.save(path)
    loaded = fastrnn.load(path)
    assert loaded == params
    assert_same_arrays(loaded.weights, params.weights)
    assert fastrnn.load(path, precision="float32") == params.to("float32")
    assert fastrnn.load(path, dtype="float64") == fastrnn.load(path, precision="float64") == params.to("float64")
    other = "int8" if precision != "int8" else "int8_fast"
    assert fastrnn.load(path, precision=other) == params.to(other)


@EVERY_SUFFIX
def test_what_files_say(tmp_path: Path, suffix: str) -> None:
    """The version rises where weights are narrow, and nowhere else."""
    for precision in ("float32", *NARROW):
        path = tmp_path / f"{precision}{suffix}"
        layer(precision, clip=0.5).save(path)
        with FORMATS[suffix].opened(str(path)) as (entries, text):
            said = json.loads(text or "")
            dtypes = {entry.read().dtype.name for name, entry in entries.items() if is_matrix(name)}
        assert dtypes == {precision.removesuffix("_fast")}
        assert said.pop("precision", None) == (None if precision == "float32" else precision)
        version = 1 if precision == "float32" else 2
        assert said == {"cell": "lstm", "dtype": "float32", "options": {"clip": 0.5}, "version": version}


@EVERY_SUFFIX
def test_files_shrink(tmp_path: Path, suffix: str) -> None:
    params = fastrnn.LSTMParams(make_weights(np.random.default_rng(0), "lstm", (256, 256)))
    sizes = []
    for precision in ("float32", *NARROW):
        params.to(precision).save(tmp_path / f"a{suffix}")  # type: ignore[arg-type]
        sizes.append((tmp_path / f"a{suffix}").stat().st_size)
    assert [round(sizes[0] / size, 1) for size in sizes] == [1, 2, 3.9, 3.9]


@EVERY_SUFFIX
def test_arrays_of_another_program(tmp_path: Path, suffix: str) -> None:
    """Bytes and scales under a prefix, without the text of fastrnn; halves, held exactly."""
    path = tmp_path / f"a{suffix}"
    params = layer("int8", "gru")
    write(path, {f"a.{name}": array for name, array in params.weights.items()})
    assert fastrnn.load(path, "gru", "a") == params
    assert fastrnn.load(path, "gru", "a", precision="int8_fast") == params.to("int8_fast")
    assert fastrnn.load(path, "gru", "a", precision="float32") == params.to("float32")
    halves = {name: array.astype("f2") for name, array in weights_of("gru").items()}
    write(path, halves)
    loaded = fastrnn.load(path, "gru", precision="float16")
    assert all(np.array_equal(loaded.weights[name], array) for name, array in halves.items())
    assert loaded.weights["weight_hh_l0"].dtype == np.float16
    assert fastrnn.load(path, "gru", precision="int8") == fastrnn.GRUParams(halves, precision="int8")


def write(path: Path, arrays: dict[str, np.ndarray], text: str | None = None) -> None:
    if text is not None:
        path.write_bytes(FORMATS[path.suffix].encode(arrays, text))
    elif path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)


SAID = '{"cell": "lstm", "dtype": "float32", "options": {}, "precision": "int8", "version": 2}'
METADATA = "expected metadata of fastrnn in JSON, got "
HOSTILE: dict[str, tuple[dict[str, Any], str, str]] = {
    "no scale": (
        {"weight_hh_l0_scale": None},
        SAID,
        "weights: missing 'weight_hh_l0_scale', since weight_hh_l0 is int8",
    ),
    "nan": (
        {"weight_ih_l0_scale": np.full(20, np.nan, "f4")},
        SAID,
        "weight_ih_l0_scale: expected positive finite numbers, got nan",
    ),
    "subnormal": (
        {"weight_ih_l0_scale": np.full(20, 1e-40, "f4")},
        SAID,
        "weight_ih_l0_scale: expected positive finite numbers, got 9.99995e-41, less than 1.175e-38",
    ),
    "shape": (
        {"weight_ih_l0_scale": np.ones((20, 1), "f4")},
        SAID,
        "weight_ih_l0_scale: expected float32 (20,), a scale for each row of weight_ih_l0, got float32 (20, 1)",
    ),
    "float64": (
        {"weight_ih_l0_scale": np.ones(20)},
        SAID,
        "weight_ih_l0_scale: expected float32 (20,), a scale for each row of weight_ih_l0, got float64 (20,)",
    ),
    "scale of floats": (
        {"weight_ih_l0": np.ones((20, 6), "f4")},
        SAID,
        "weight_ih_l0: expected int8, since precision is 'int8', got float32",
    ),
    "floats of float16": (
        weights_of() | {"weight_ih_l0_scale": None, "weight_hh_l0_scale": None},
        SAID.replace('"int8"', '"float16"'),
        "weight_...: expected float16, since precision is 'float16', got float32",
    ),
    "scale of a bias": ({"bias_ih_l0_scale": np.ones(20, "f4")}, SAID, "weights: unknown 'bias_ih_l0_scale' (nearest "),
    "bias of bytes": ({"bias_ih_l0": np.ones(20, "i1")}, SAID, "bias_ih_l0: expected float32 or float64, got int8"),
    "scale alone": ({"weight_hr_l0_scale": np.ones(20, "f4")}, SAID, "weights: unknown 'weight_hr_l0_scale' (nearest "),
    "wrong rows": (
        {"weight_hh_l0": np.ones((16, 5), "i1")},
        SAID,
        "weight_hh_l0: expected (20, 5), since weight_ih_l0 ",
    ),
    "float16 of bytes": (
        {},
        SAID.replace('"int8"', '"float16"'),
        "weight_...: expected float16, since precision is 'float16', got int8",
    ),
    "bytes in version 1": ({}, SAID.replace('"version": 2', '"version": 1'), METADATA),
    "no precision": ({}, SAID.replace('"precision": "int8", ', ""), METADATA),
    "precision of floats": ({}, SAID.replace('"int8"', '"float32"'), f"{METADATA}precision 'float32' and dtype "),
    "precision that is a list": ({}, SAID.replace('"int8"', "[8]"), f"{METADATA}precision [8] and dtype 'float32'"),
    "dtype": ({}, SAID.replace('"float32"', '"float64"'), f"{METADATA}precision 'int8' and dtype 'float64'"),
}


@EVERY_SUFFIX
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(tmp_path: Path, suffix: str, case: str) -> None:
    change, text, message = HOSTILE[case]
    arrays = {name: array for name, array in {**layer("int8").weights, **change}.items() if array is not None}
    write(tmp_path / f"a{suffix}", arrays, text)
    with raises_as_said("ValueError", f"{tmp_path / f'a{suffix}'}: {message}..."):
        fastrnn.load(tmp_path / f"a{suffix}")


def test_version_1_is_what_it_was(tmp_path: Path) -> None:
    text = '{"cell": "gru", "dtype": "float32", "options": {"reset_after": false}, "version": 1}'
    write(tmp_path / "a.npz", weights_of("gru"), text)
    assert fastrnn.load(tmp_path / "a.npz") == fastrnn.GRUParams(weights_of("gru"), reset_after=False)
    fastrnn.GRUParams(weights_of("gru"), reset_after=False).save(tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as arrays:
        assert arrays["fastrnn.json"].decode() == text


# (e) Rows with outliers.


@given(seed=st.integers(0, 2**32 - 1), columns=st.integers(1, 40), zeros=st.floats(0, 1))
def test_outliers_are_found(seed: int, columns: int, zeros: float) -> None:
    """By the definition, a row at a time: 64 times the median of what is not 0."""
    rng = np.random.default_rng(seed)
    W = (rng.normal(size=(12, columns)) * 10 ** rng.uniform(0, 3, (12, columns))).astype("f4")
    W[rng.random(W.shape) < zeros] = 0
    params = fastrnn.LSTMParams({"weight_ih": W, "weight_hh": np.ones((12, 3), "f4")})
    expected = {}
    for row, numbers in enumerate(np.abs(W)):
        there = np.sort(numbers[numbers > 0])
        median = there[(there.size - 1) // 2] if there.size else np.inf
        if numbers.max() > 64 * median:
            expected[row] = numbers.max() / median
    found = outliers(params.weights)
    assert {(outlier.name, outlier.row) for outlier in found} == {("weight_ih", row) for row in expected}
    assert [outlier.ratio for outlier in found] == pytest.approx(sorted(expected.values(), reverse=True), rel=1e-6)


def test_an_outlier_costs_its_row() -> None:
    """What the warning is about: half of the weights of such a row are off by an eighth of themselves, or more."""
    W = np.random.default_rng(0).normal(size=(4, 200)).astype("f4")
    W[2, 7] = 65 * np.median(np.abs(W[2]))
    params = fastrnn.LSTMParams({"weight_ih": W, "weight_hh": np.ones((4, 1), "f4")})
    assert [outlier.row for outlier in outliers(params.weights)] == [2]
    errors = np.median(np.abs(params.to("int8").dequantized()["weight_ih"] / W - 1), axis=1)
    assert errors[2] > 0.1
    assert errors[[0, 1, 3]].max() < 0.02


# (f) Wrong calls.

TABLE = r"""
>>> lstm(floats, precision="int4")
ValueError: precision: expected one of float32, float64, float16, int8, int8_fast, got 'int4'; did you mean 'int8'?
>>> lstm(floats, precision=8)
TypeError: precision: expected a name or None, got 8
>>> lstm(floats, precision="int8", dtype="float64")
ValueError: dtype: expected float32 with precision='int8', got float64; dtype='float32' converts the weights, and ...
>>> lstm(floats, precision="float64", dtype="float32")
ValueError: precision: expected 'float32', as dtype, or a narrow one, got 'float64'
>>> lstm(doubles, precision="int8")
TypeError: weight_ih_l0: expected float32 with precision='int8', got float64; dtype='float32' converts the weights
>>> lstm(doubles).to("int8")
ValueError: precision: expected 'float32', since the params are float64, got 'int8'; .to('float32').to('int8') ...
>>> lstm(floats).to(None)
TypeError: precision: expected a name, got None
>>> lstm(floats).to("half")
ValueError: precision: expected one of float32, float64, float16, int8, int8_fast, got 'half'
>>> lstm(floats | {"weight_hh_l0": np.full((20, 5), -7e4, "f4")}, precision="float16")
ValueError: weight_hh_l0: expected numbers up to 65504 for float16, got one of size 70000
>>> lstm(floats | {"weight_hh_l0": np.full((20, 5), -65520.0)}, precision="float16", dtype="float32")
ValueError: weight_hh_l0: expected numbers up to 65504 for float16, got one of size 65520
>>> lstm(floats | {"weight_hh_l0": np.full((20, 5), np.inf, "f4")}, precision="int8_fast")
ValueError: weight_hh_l0: expected finite numbers for int8, got NaN or infinity
>>> lstm(floats | {"weight_hh_l0": np.full((20, 5), 1e39)}, precision="int8", dtype="float32")
ValueError: weight_hh_l0: expected finite numbers for int8, got numbers beyond float32
>>> lstm(floats | {"weight_ih_l0": np.ones((20, 130001), "f4")}, precision="int8")
ValueError: weight_ih_l0: expected at most 130000 columns of int8, got 130001
>>> lstm(held, precision="float32")
TypeError: precision: expected 'int8' or 'int8_fast', since weights are int8, got 'float32'; params of these ...
>>> lstm(held | {"weight_ih_l0": np.ma.masked_array(held["weight_ih_l0"])})
TypeError: weight_ih_l0: expected an array without a mask, got a MaskedArray; filled() makes one
>>> lstm(held | {"weight_ih_l0_scale": None})
ValueError: weights: missing 'weight_ih_l0_scale', since weight_ih_l0 is int8
>>> lstm(held, quantize=True)
TypeError: LSTMParams() got an unexpected keyword argument 'quantize'; precision= takes it, such as 'int8'
>>> lstm(floats | {"weight_ih_l0": floats["weight_ih_l0"].astype("i2")}, precision="int8")
TypeError: weight_ih_l0: expected float32 or float64, got int16
>>> fastrnn.lstm(np.zeros((2, 1, 6), "f4"), lstm(floats), precision="int8")
TypeError: lstm() got an unexpected keyword argument 'precision'; precision= goes to the params
>>> fastrnn.lstm(np.zeros((2, 1, 6)), lstm(floats, precision="int8"))
TypeError: x: expected float32 (the dtype of params), got float64; ...
>>> fastrnn.vjp(np.zeros((2, 1, 6), "f4"), lstm(floats, precision="int8"))
TypeError: params: expected float32 or float64 weights for gradients, got 'int8'; train float32 params, then ...
>>> lstm(floats, precision="int8").with_weights({**floats, "weight_ih_l0": np.ones((20, 6))})
TypeError: weight_ih_l0: expected int8 or float32, as before, got float64; ...
>>> lstm(floats, precision="int8").with_weights({**floats, "weight_ih_l0": np.ones((20, 7), "f4")})
ValueError: weight_ih_l0: expected (20, 6), as before, got (20, 7)
>>> lstm(floats, precision="int8").with_weights({name: 0.5 * array for name, array in held.items()})
TypeError: ...: expected int8 or float32, as before, got float...
>>> lstm(floats, precision="int8").with_weights({"weight_ih_l0": held["weight_ih_l0"]})
ValueError: weights: expected the names 'weight_ih_l0', 'weight_hh_l0', ... got them without ...
>>> fastrnn.load("a.npz", precision="int4")
ValueError: precision: expected one of float32, ...
"""


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(TABLE, at_least=20))
def test_wrong_calls(call: str, error: str, message: str) -> None:
    floats = weights_of()

    def lstm(weights: dict[str, Any], **options: Any) -> Any:
        return fastrnn.LSTMParams({name: array for name, array in weights.items() if array is not None}, **options)

    doubles = {name: array.astype("f8") for name, array in floats.items()}
    names = {"floats": floats, "doubles": doubles, "held": lstm(floats, precision="int8").weights, "lstm": lstm}
    with raises_as_said(error, message):
        eval(call, {"np": np, "fastrnn": fastrnn, **names})


@EVERY_PRECISION
@given(case=cases())
def test_traces_streams_and_plans_take_them(precision: Any, case: Case) -> None:
    """What needs nothing but params; a trace has the bits of the call."""
    assume(case.x.ndim == 3 and case.x.shape[1 if not case.batch_first else 0])
    case = as_float32(case).but(x=case.x.astype("f4"), state=None)
    params = case.params(precision=precision)
    trace = fastrnn.trace(case.x, params, lengths=case.lengths, batch_first=case.batch_first)
    y, _ = fastrnn.run(case.x, params, lengths=case.lengths, batch_first=case.batch_first)
    np.testing.assert_array_equal(trace.y, y)
    assert params.explain(case.steps, 2)
