"""Files: what is saved is loaded to the bit, and other programs' weights are read.

(a) Round trips and bytes. (b) Writing: atomic. (c) Files of other programs. (d) Wrong calls.
Broken and hostile files are in test_hostile_files.py.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.apart import run_python
from support.cases import Case, assert_same_bits, cases, make_weights
from support.cells import CELLS, PARAMS
from support.errors import bad_calls, raises_as_said
from support.layer_files import EVERY_SUFFIX, SUFFIXES, example

# (a)


@EVERY_SUFFIX
@given(case=cases(), half=st.booleans(), dtype=st.sampled_from([None, "float32", "float64"]))
def test_round_trip(folder: Path, suffix: str, case: Case, half: bool, dtype: str | None) -> None:
    """The class, the options, the arrays as they were given, and the bits of what is computed."""
    weights = {name: array.astype("float16") for name, array in case.weights.items()} if half else case.weights
    dtype = dtype or ("float32" if half else None)
    params = PARAMS[case.cell](weights, dtype=dtype, **case.options)
    path = folder / f"layer{suffix}"
    params.save(path)
    loaded = fastrnn.load(path)
    assert type(loaded) is type(params)
    assert loaded == params
    assert loaded._shown_options() == params._shown_options()
    assert loaded.weights.keys() == params.weights.keys()
    assert all(loaded.weights[name].tobytes() == array.tobytes() for name, array in params.weights.items())
    assert all(loaded.weights[name].dtype == array.dtype for name, array in params.weights.items())
    x = case.x.astype(params.dtype)
    run = getattr(fastrnn, case.cell)
    (y, state), (y2, state2) = (run(x, some, batch_first=case.batch_first) for some in (params, loaded))
    flat = lambda state: state if isinstance(state, tuple) else (state,)  # noqa: E731
    assert_same_bits((y, *flat(state)), (y2, *flat(state2)))


@EVERY_SUFFIX
def test_every_bit_pattern_comes_back(tmp_path: Path, suffix: str) -> None:
    bits = np.array([0, 1 << 31, 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x7F800001], np.uint32)
    params = fastrnn.RNNParams(
        {"weight_ih_l0": np.tile(bits, (2, 1)).view("float32"), "weight_hh_l0": np.eye(2, dtype="f4")}
    )
    params.save(tmp_path / f"a{suffix}")
    loaded = fastrnn.load(tmp_path / f"a{suffix}").weights["weight_ih_l0"]
    np.testing.assert_array_equal(loaded.view(np.uint32)[0], bits)


@EVERY_SUFFIX
def test_the_same_bytes_each_time(tmp_path: Path, suffix: str) -> None:
    """In another process too, where hashes of text are others."""
    path = tmp_path / f"a{suffix}"
    example(clip=0.5, input_forget=True).save(path)
    code = f"import fastrnn; fastrnn.load({str(path)!r}).save({str(path) + suffix!r})"
    for seed in ("1", "2"):
        assert run_python(code, PYTHONHASHSEED=seed).stderr == ""
        assert Path(str(path) + suffix).read_bytes() == path.read_bytes()
    example(clip=0.5, input_forget=True).save(tmp_path / f"b{suffix}")
    assert (tmp_path / f"b{suffix}").read_bytes() == path.read_bytes()


@EVERY_SUFFIX
@given(data=st.data())
def test_the_same_bytes_whatever_the_order(folder: Path, suffix: str, data: st.DataObject) -> None:
    names = data.draw(st.permutations([*example().weights]))
    params = PARAMS["lstm"]({name: example().weights[name] for name in names})
    for name, some in (("a", example()), ("b", params)):
        some.save(folder / f"{name}{suffix}")
    assert (folder / f"a{suffix}").read_bytes() == (folder / f"b{suffix}").read_bytes()
    assert fastrnn.load(folder / f"b{suffix}") == params


def test_what_is_written(tmp_path: Path) -> None:
    """The files as the libraries of their formats read them, without fastrnn."""
    from safetensors import safe_open

    params = example("gru", reset_after=False, activation=("linear", 0.5, 0.0), dtype="float64")
    text = (
        '{"cell": "gru", "dtype": "float64", '
        '"options": {"activation": ["linear", 0.5, 0.0], "reset_after": false}, "version": 1}'
    )
    params.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert {*arrays} == {*params.weights, "fastrnn.json"}
        assert arrays["fastrnn.json"].decode() == text
        for name, array in params.weights.items():
            np.testing.assert_array_equal(arrays[name], array)
    params.save(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata() == {"fastrnn": text}
        assert {*file.keys()} == {*params.weights}
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:  # permissions of the files that an archiver unpacks
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}


@EVERY_SUFFIX
def test_dtype_and_target_of_load(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    example().save(path)
    assert fastrnn.load(path, dtype="float64") == example(dtype="float64")
    assert fastrnn.load(path, target="scalar").target == "scalar"
    assert fastrnn.load(path, "lstm", activation="tanh", clip=None) == example()


# (b)


@pytest.mark.parametrize("call", ["os.replace", "os.fsync", "os.chmod"])
@EVERY_SUFFIX
def test_a_failure_leaves_what_was_there(
    tmp_path: Path, suffix: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    example().save(path)
    before = path.read_bytes()

    def no_space(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(call, no_space)
    with pytest.raises(OSError, match="No space left on device") as caught:
        example(clip=1.0).save(path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in the folder of the file, since files can't be renamed across file systems."""

    def interrupted(temporary: str, final: str) -> None:
        assert os.path.dirname(temporary) == os.path.dirname(final) == str(tmp_path)
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        example().save(tmp_path / "a.npz")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A write that fails in the middle of the file, since the system limits its size."""
    code = (
        "import resource, signal, numpy as np, fastrnn; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "p = fastrnn.RNNParams({'weight_ih': np.ones((99, 99)), 'weight_hh': np.ones((99, 99))})\n"
        f"try: p.save({str(tmp_path / 'a.npz')!r})\n"
        "except OSError as error: print(error.filename)"
    )
    result = run_python(code)
    assert result.stdout.strip() == str(tmp_path / "a.npz"), result.stderr
    assert os.listdir(tmp_path) == []


def test_mode_and_links(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    before = os.umask(0o027)
    try:
        example().save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    (tmp_path / "link.npz").symlink_to(path)
    example(clip=1.0).save(tmp_path / "link.npz")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "link.npz").is_symlink()
    assert fastrnn.load(path) == example(clip=1.0)


# (c)


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A file as another program writes it, with NumPy or safetensors."""
    from safetensors.numpy import save_file

    if path.suffix == ".npz":
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    else:
        save_file(arrays, path)
    return path


@EVERY_SUFFIX
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("prefix", ["", "encoder.", "a.b.0."])
def test_weights_of_another_program(tmp_path: Path, suffix: str, cell: str, prefix: str) -> None:
    weights = make_weights(np.random.default_rng(0), cell, (3, 5), layers=2, directions=("", "_reverse"))
    others = {"head.weight": np.zeros((2, 2), "f4"), "head.steps": np.zeros(3, np.int64)}
    path = write(tmp_path / f"a{suffix}", others | {prefix + name: array for name, array in weights.items()})
    expected = PARAMS[cell](weights, activation="relu", dtype="float64")
    assert fastrnn.load(path, cell, prefix, activation="relu", dtype="float64") == expected
    assert fastrnn.load(str(path), cell, prefix.removesuffix(".")) == PARAMS[cell](weights)


def test_fortran_order(tmp_path: Path) -> None:
    weights = {
        name: np.asfortranarray(array) for name, array in make_weights(np.random.default_rng(0), "gru", (3, 5)).items()
    }
    path = write(tmp_path / "a.npz", weights)
    assert fastrnn.load(path, "gru") == fastrnn.GRUParams(weights)


def write_tensors(path: Path, dtype: str, bits: dict[str, np.ndarray]) -> None:
    """A safetensors file of a dtype that NumPy need not have."""
    header, data = dict[str, Any](), b""
    for name, array in bits.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name], data = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}, data + array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("precision", [None, "float16", "int8"])
def test_bfloat16(tmp_path: Path, precision: Any) -> None:
    """The upper half of a float32: widened exactly, and then rounded only where that is asked for."""
    weights = make_weights(np.random.default_rng(0), "lstm", (3, 5))
    bits = {name: (array.view(np.uint32) >> 16).astype("<u2") for name, array in weights.items()}
    weights = {name: (array.astype(np.uint32) << 16).view(np.float32) for name, array in bits.items()}
    path = tmp_path / "a.safetensors"
    write_tensors(path, "BF16", bits)
    dtype = None if precision else "float32"
    assert fastrnn.load(path, "lstm", dtype=dtype, precision=precision) == PARAMS["lstm"](weights, precision=precision)
    cure = "dtype='float32' converts the weights, precision='float16' keeps them narrow"
    with raises_as_said("ValueError", f"{path}: ...: expected float32 or float64, got bfloat16; {cure}"):
        fastrnn.load(path, "lstm")


def test_float8(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, "F8_E4M3", {name: np.zeros((4, 1), np.uint8) for name in ("weight_ih", "weight_hh")})
    said = "expected F16, BF16, F32, F64 or I8, got F8_E4M3; tensor.float() converts it in PyTorch"
    with raises_as_said("ValueError", f"{path}: weight_...: {said}"):
        fastrnn.load(path, "lstm", precision="float16")


# (d)

TABLE = r"""
>>> load("ours.txt")
ValueError: path: expected a name that ends in .safetensors or .npz, got 'ours.txt'
>>> save("ours")
ValueError: path: expected a name that ends in .safetensors or .npz, got 'ours'
>>> load(b"ours.npz")
TypeError: path: expected a str or os.PathLike, got bytes
>>> load(list(os.scandir(b"."))[0])
TypeError: path: expected a str or os.PathLike, got DirEntry
>>> save(None)
TypeError: path: expected a str or os.PathLike, got NoneType
>>> fastrnn.files.save({}, "a.npz")
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got dict
>>> load("missing.npz")
FileNotFoundError: [Errno 2] No such file or directory: 'missing.npz'
>>> load("missing.safetensors")
FileNotFoundError: [Errno 2] No such file or directory: 'missing.safetensors'
>>> save("missing/a.npz")
FileNotFoundError: [Errno 2] No such file or directory: 'missing/a.npz'
>>> load("folder.npz")
IsADirectoryError: [Errno 21] Is a directory: 'folder.npz'
>>> load("folder.safetensors")
IsADirectoryError: [Errno 21] Is a directory: 'folder.safetensors'
>>> save("folder.npz")
IsADirectoryError: [Errno 21] Is a directory: 'folder.npz'
>>> save("pipe.npz")
ValueError: path: expected a file or a name that is free, got a device, pipe or socket: 'pipe.npz'
>>> params.save_image("pipe.npz")
ValueError: path: expected another ending than those of files that load() reads, got 'pipe.npz'
>>> params.save_image("pipe")
ValueError: path: expected a file or a name that is free, got a device, pipe or socket: 'pipe'
>>> params.save_image("folder.npz/")
ValueError: path: expected the name of a file, got 'folder.npz/'
>>> params.save_image("")
ValueError: path: expected the name of a file, got ''
>>> params.save_image("a\0b")
ValueError: path: expected the name of a file, got 'a\x00b'
>>> load("ours.npz", cell="gru")
ValueError: cell: expected 'lstm', as ours.npz says, got 'gru'
>>> load("ours.npz", cell="LSTM")
ValueError: cell: expected 'rnn', 'lstm' or 'gru', got 'LSTM'
>>> load("ours.npz", cell=1)
TypeError: cell: expected 'rnn', 'lstm', 'gru' or None, got 1
>>> load("ours.npz", prefix="a.")
ValueError: prefix: expected '', since ours.npz holds one layer stack, got 'a.'
>>> load("ours.safetensors", clip=0.25)
ValueError: clip: expected 0.5, as ours.safetensors says, got 0.25
>>> load("ours.npz", activation="relu")
ValueError: activation: expected 'tanh', as ours.npz says, got 'relu'
>>> load("ours.npz", activation="swish")
ValueError: activation: expected one of tanh,...
>>> load("ours.npz", clip="1")
TypeError: clip: expected a number, got '1'
>>> load("ours.npz", reset_after=True)
TypeError: reset_after: expected an option of LSTMParams: activation, recurrent_activation, output_activation, ...
>>> load("ours.npz", dtype="float16")
TypeError: dtype: expected float32, float64 or None, got 'float16'
>>> load("ours.npz", target="sse")
ValueError: target: expected one of ...
>>> load("theirs.npz")
ValueError: cell: expected ... theirs.npz does not say, got None; shapes fit 'gru' under the prefix 'encoder.'
>>> load("theirs.safetensors", prefix="encoder.")
ValueError: cell: expected 'rnn', 'lstm' or 'gru', which theirs.safetensors does not say, got None; ...
>>> load("theirs.npz", "gru")
ValueError: prefix: expected one of 'encoder.', got ''
>>> load("theirs.npz", "gru", 3)
TypeError: prefix: expected text, got 3
>>> load("theirs.npz", "lstm", "encoder")
ValueError: theirs.npz: weight_ih_l0: ..., got (15, 3); the rows of weight_hh, (15, 5), are those of GRUParams
>>> load("theirs.npz", "gru", "encoder", recurrent_activation="swish")
ValueError: recurrent_activation: expected one of tanh,...
>>> load("theirs.npz", "gru", "encoder", peephole=True)
TypeError: peephole: expected an option of GRUParams: activation, recurrent_activation, reset_after, clip, batch_first
>>> load("empty.npz")
ValueError: empty.npz: expected names of recurrent weights such as 'weight_ih_l0', got 'a'
>>> load("half.npz", "gru")
ValueError: half.npz: weight_ih_l0: expected float32 or float64, got float16; dtype='float32' converts the weights, ...
"""


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(TABLE, 25))
def test_wrong_calls(tmp_path: Path, call: str, error: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = make_weights(np.random.default_rng(0), "gru", (3, 5))
    for suffix in SUFFIXES:
        example(clip=0.5).save(f"ours{suffix}")
        write(Path(f"theirs{suffix}"), {f"encoder.{name}": array for name, array in weights.items()})
        Path(f"folder{suffix}").mkdir()
    for name in ("pipe", "pipe.npz"):
        os.mkfifo(name)
    write(Path("empty.npz"), {"a": np.zeros(3)})
    write(Path("half.npz"), {name: array.astype("float16") for name, array in weights.items()})
    here = sorted(os.listdir())
    with raises_as_said(error, message):
        eval(call, {"os": os, "fastrnn": fastrnn, "load": fastrnn.load, "save": example().save, "params": example()})
    assert sorted(os.listdir()) == here


def test_without_safetensors(tmp_path: Path) -> None:
    """The error names the package safetensors, and .npz works."""
    code = (
        "import sys; sys.modules['safetensors'] = None\n"
        "import numpy as np, fastrnn\n"
        "p = fastrnn.RNNParams({'weight_ih': np.ones((2, 2)), 'weight_hh': np.ones((2, 2))})\n"
        f"p.save({str(tmp_path / 'a.npz')!r}); assert fastrnn.load({str(tmp_path / 'a.npz')!r}) == p\n"
        f"p.save({str(tmp_path / 'a.safetensors')!r})"
    )
    said = run_python(code).stderr.splitlines()[-1]
    assert said == (
        "ImportError: a .safetensors file: expected the package safetensors, which is not installed; "
        "pip install safetensors"
    )
    assert os.listdir(tmp_path) == ["a.npz"]
