"""What the command line takes a file for: its content, and its name's ending only where the content tells nothing."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn._sources import ENDINGS, SOURCES, recognise
from support.cases import make_weights
from support.command_line import needs, printed, said

KINDS = ".onnx, PyTorch, .safetensors or .npz"


def weights() -> dict[str, np.ndarray]:
    return make_weights(np.random.default_rng(0), "gru", (3, 5))


def params() -> Any:
    return fastrnn.GRUParams(weights())


def write_npz(path: Path) -> None:
    with open(path, "wb") as file:  # np.savez would add an ending
        np.savez(file, **weights())  # type: ignore[arg-type]


def write_ours(path: Path) -> None:
    params().save(path.with_name("ours.npz"))
    path.with_name("ours.npz").replace(path)


def write_safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(weights(), path)


def write_torch(path: Path, **how: Any) -> None:
    import torch

    torch.save({name: torch.from_numpy(array) for name, array in weights().items()}, path, **how)


def write_old_torch(path: Path) -> None:
    write_torch(path, _use_new_zipfile_serialization=False)


def write_onnx(path: Path) -> None:
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    arrays = {"W": rng.normal(size=(1, 15, 3)).astype("f4"), "R": rng.normal(size=(1, 15, 5)).astype("f4")}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    node = helper.make_node("GRU", ["X", "W", "R"], ["Y"], "n", hidden_size=5, linear_before_reset=1)
    model = helper.make_model(helper.make_graph([node], "g", [], [], tensors))
    path.write_bytes(model.SerializeToString())


WRITERS: dict[str, tuple[str, Callable[[Path], None], Any]] = {
    "npz": (".npz", write_npz, ()),
    "ours": (".npz", write_ours, ()),
    "safetensors": (".safetensors", write_safetensors, needs("safetensors")),
    "torch": ("PyTorch", write_torch, needs("torch")),
    "old torch": ("PyTorch", write_old_torch, needs("torch")),
    "onnx": (".onnx", write_onnx, needs("onnx")),
}
EACH = [pytest.param(kind, marks=mark) for kind, (_, _, mark) in WRITERS.items()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("ending", [*ENDINGS, "", ".txt", ".ONNX"])
def test_any_ending(folder: Path, kind: str, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is found to be what it is, and every command reads it."""
    title, write, _ = WRITERS[kind]
    path = folder / f"model{ending}"
    write(path)
    assert recognise(str(path)).title == title
    assert ": gru I=3 H=5" in printed(capsys, "inspect", path.name)
    flags = ["--cell", "gru"] if kind in ("npz", "safetensors") else []
    assert "passed" in printed(capsys, "check", path.name, "--against", "reference", "--steps", "2", *flags)
    printed(capsys, "convert", path.name, "new.npz", *flags)
    assert fastrnn.load("new.npz").hidden_size == 5


@pytest.mark.parametrize("kind", EACH)
def test_files_that_are_cut_short(folder: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is an error in one line that names the file or the flag, or a package that its ending asks for."""
    _, write, _ = WRITERS[kind]
    missing = tuple(f"fastrnn.{name}: expected the package {name}" for name in ("torch", "onnx") if not find_spec(name))
    write(folder / "whole")
    data = (folder / "whole").read_bytes()
    for count in (1, 3, 7, 9, len(data) // 2, len(data) - 1):
        for name in ("cut", *(f"cut{ending}" for ending in ENDINGS)):
            Path(name).write_bytes(data[:count])
            assert said(capsys, "check", name).startswith((name, "path_or_model", "--activation", "prefix", *missing))


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return file.getvalue()


UNKNOWN = {
    "pickle": (pickle.dumps({"a": 1}), "a pickle, which could run anything when it is read"),
    "text": (b"weights: 1, 2, 3\n", "one that begins with b'weights: 1, 2, 3'"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(8), "an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08\0", "what gzip has compressed"),
    "array": (b"\x93NUMPY\x01\x00", "a single array (.npy)"),
    "zip": (zipped("config.json", "model.weights.h5"), "a zip archive of 'config.json', 'model.weights.h5'"),
    "empty zip": (zipped(), "a zip archive that is empty or broken"),
    "broken zip": (b"PK\x03\x04", "a zip archive that is empty or broken"),
    "zeros": (bytes(100), f"one that begins with {bytes(16)!r}"),
    "empty": (b"", "an empty one"),
    "both": (zipped("a.npy", "archive/data.pkl"), "one that is PyTorch and .npz at once"),
    "graphless": (b"\x08\x08", r"one that begins with b'\x08\x08'"),
    "endless": (b"\x3a" + b"\xff" * 9 + b"\x7f", r"one that begins with b':\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f'"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_read(folder: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, got = UNKNOWN[what]
    for name in ("file", "file.txt"):
        Path(name).write_bytes(data)
        for command in ("inspect", "check"):
            assert said(capsys, command, name) == f"{name}: expected a file of the kind {KINDS}, got {got}"


def test_a_pickle_is_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return os.mkdir, ("executed",)

    for ending in ("", *ENDINGS):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            Path(f"file{ending}").write_bytes(pickle.dumps(Runs(), protocol))
            said(capsys, "inspect", f"file{ending}")
    assert not Path("executed").exists()


def test_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model", "model.npz"):
        Path(name).mkdir()
        assert said(capsys, "inspect", name).startswith(f"{name}: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pipe", *(f"pipe{ending}" for ending in ENDINGS)):
        os.mkfifo(name)
        got = "expected a regular file, got a pipe, a socket or a device"
        assert said(capsys, "inspect", name) == f"{name}: {got}"


def test_flags_are_those_of_the_content(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ours(folder / "model.onnx")
    assert said(capsys, "check", "model.onnx", "--node", "a").startswith("--node: expected none for a .npz file, ")
    shutil.copy("model.onnx", "model.pt")
    assert "reference" in printed(capsys, "check", "model.pt")


def test_every_row_is_whole() -> None:
    assert len({source.title for source in SOURCES}) == len(SOURCES)
    assert len(set(ENDINGS)) == len(ENDINGS)
    for source in SOURCES:
        assert {"torch", "reference"} <= set(source.peers)
