"""Files that are cut short, changed or made to harm: errors that name the file; nothing is run, nothing is believed."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn._formats import FORMATS
from fastrnn._untrusted import said_of
from support.apart import run_python
from support.errors import raises_as_said
from support.layer_files import EVERY_SUFFIX, example


def refuses(path: Path, data: bytes, cell: str | None = None) -> str:
    """The message of the error that load raises on these bytes."""
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r".") as caught:
        fastrnn.load(path, cell)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@EVERY_SUFFIX
def test_truncated(tmp_path: Path, suffix: str) -> None:
    example().save(tmp_path / f"whole{suffix}")
    data = (tmp_path / f"whole{suffix}").read_bytes()
    for end in sorted({len(data) * k // 100 for k in range(100)} | {*range(12)} | {len(data) - 1}):
        refuses(tmp_path / f"a{suffix}", data[:end])


@EVERY_SUFFIX
@settings(max_examples=5 * settings.default.max_examples)
@given(data=st.data())
def test_changed_bytes(folder: Path, suffix: str, data: st.DataObject) -> None:
    """Loaded, or refused with the file's name: nothing else may happen."""
    params = example("gru", reset_after=False)
    path = folder / f"changed{suffix}"
    params.save(path)
    content = bytearray(path.read_bytes())
    place = st.one_of(
        st.integers(0, len(content) - 1), st.integers(0, 300), st.integers(len(content) - 300, len(content) - 1)
    )
    for where, value in data.draw(st.dictionaries(place, st.integers(0, 255), min_size=1, max_size=4)).items():
        content[where] = value
    path.write_bytes(content)
    loaded = None
    try:
        loaded = fastrnn.load(path)
    except ValueError as error:
        said = str(error)
    if loaded is None:
        assert str(path) in said
    elif suffix == ".npz":
        for name, array in loaded.weights.items():  # the checksums of an .npz show any change of an array
            np.testing.assert_array_equal(array, params.weights[name])


@EVERY_SUFFIX
@given(data=st.binary(max_size=200))
def test_any_bytes(folder: Path, suffix: str, data: bytes) -> None:
    refuses(folder / f"any{suffix}", data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"version": 0}',
        '{"version": true}',
        '{"version": 1.0}',
        '{"version": true, "cell": "lstm", "dtype": "float32", "options": {}}',
        '{"version": 0, "cell": "lstm", "dtype": "float32", "options": {}}',
        '{"version": "1"}',
        '{"version": 1, "version": 1}',
        '{"version": 1, "cell": "lstm", "dtype": "float32"}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": []}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {}, "more": 1}',
        '{"version": 1, "cell": "LSTM", "dtype": "float32", "options": {}}',
        '{"version": 1, "cell": ["lstm"], "dtype": "float32", "options": {}}',
        '{"version": 1, "cell": "lstm", "dtype": "float16", "options": {}}',
        '{"version": 1, "cell": "lstm", "dtype": {}, "options": {}}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {"target": "scalar"}}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {"clip": NaN}}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {"clip": 1e999}}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {"clip": -1}}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {"clip": ' + "1" * 9000 + "}}",
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {"input_forget": 1}}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {"activation": ["hard_sigmoid"]}}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {"activation": [["tanh"], 1, 2]}}',
        "[" * 9000,
        '{"a":' * 1800,
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {}}' + " " * 20_000,
        '{"version": 1, "cell": "gru", "cell": "lstm", "dtype": "float32", "options": {}}',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {}} x',
        '{"version": 1, "cell": "lstm", "dtype": "float32", "options": {}, "embedding": "one-hot"}',
        '{"version": 3, "cell": "lstm", "dtype": "float32", "options": {}}',
        '{"version": 3, "cell": "lstm", "dtype": "float32", "options": {}, "embedding": null}',
        '{"version": 3, "cell": "lstm", "dtype": "float32", "options": {}, "embedding": "two-hot"}',
        '{"version": 3, "cell": "lstm", "dtype": "float32", "options": {}, "embedding": ["array"]}',
        '{"version": 3, "cell": "lstm", "dtype": "float32", "options": {}, "embedding": "one-hot", "precision": null}',
    ],
)
@EVERY_SUFFIX
def test_hostile_metadata(tmp_path: Path, suffix: str, text: str) -> None:
    said = refuses(tmp_path / f"a{suffix}", FORMATS[suffix].encode(example().weights, text))
    assert "expected metadata of fastrnn in JSON" in said or "'fastrnn.json' that claims" in said


@EVERY_SUFFIX
@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("gru", "{}", "weight_ih_l0: expected (3 * hidden_size, input_size), got "),
        ("lstm", '{"clip": 1e300}', "clip: expected from "),
    ],
)
def test_metadata_that_do_not_fit(tmp_path: Path, suffix: str, cell: str, options: str, message: str) -> None:
    path, text = (
        tmp_path / f"a{suffix}",
        f'{{"version": 1, "cell": "{cell}", "dtype": "float32", "options": {options}}}',
    )
    said = refuses(path, FORMATS[suffix].encode(example().weights, text))
    assert said.startswith(f"{path}: {message}")


@EVERY_SUFFIX
@pytest.mark.parametrize(
    ("version", "said_of", "has"),
    [('3, "embedding": "array"', "an", False), ('3, "embedding": "one-hot"', "no", True), ("1", "no", True)],
)
def test_embeddings_that_metadata_do_not_tell(
    tmp_path: Path, suffix: str, version: str, said_of: str, has: bool
) -> None:
    weights = {**example().weights, **({"embedding": np.zeros((4, 3), "float32")} if has else {})}
    text = f'{{"version": {version}, "cell": "lstm", "dtype": "float32", "options": {{}}}}'
    said = refuses(tmp_path / f"a{suffix}", FORMATS[suffix].encode(weights, text))
    assert f"expected {said_of} array 'embedding', as its metadata say, got {'one' if has else 'none'}" in said


@EVERY_SUFFIX
def test_newer_version(tmp_path: Path, suffix: str) -> None:
    path, text = tmp_path / f"a{suffix}", '{"version": 4, "anything": "else"}'
    said = refuses(path, FORMATS[suffix].encode(example().weights, text))
    assert said == f"{path}: expected version 3 of the format, got 4; a newer fastrnn reads it"


def npz(entries: list[tuple[str, bytes]], **info: Any) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, **info)
    return stream.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header.encode() + data


def header(descr: object, shape: str, fortran: object = False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


GOOD = npy(header("<f4", "(4, 1)"), bytes(16))


def hostile_arrays() -> Iterator[tuple[str, bytes]]:
    yield "a claim of 2**60 bytes", npy(header("<f4", f"({2**58},)"), bytes(16))
    yield "a product that wraps to 16 bytes", npy(header("<f4", f"({2**62 + 1}, 4)"), bytes(16))
    yield "negative sizes", npy(header("<f4", "(-4, -1)"), bytes(16))
    yield "a size that is no integer", npy(header("<f4", "(4.0, 1)"), bytes(16))
    yield "a size that is a bool", npy(header("<f4", "(True, 5)"), bytes(16))
    yield "zero and a vast size", npy(header("<f4", f"(0, {2**80})"))
    yield "a hundred axes", npy(header("<f4", f"({'1, ' * 100})"), bytes(4))
    yield "bytes left over", npy(header("<f4", "(4, 1)"), bytes(20))
    yield "bytes missing", npy(header("<f4", "(4, 1)"), bytes(12))
    yield "objects", npy(header("|O", "(4, 1)"), pickle.dumps([Bomb()] * 4))
    yield "fields", npy(header([("a", "<f4")], "(4, 1)"), bytes(16))
    yield "a structure of objects", npy(header([("a", "|O")], "(4, 1)"), pickle.dumps([Bomb()] * 4))
    yield "subarrays", npy(header(("<f4", (4,)), "(1, 1)"), bytes(16))
    yield "text", npy(header("<U1", "(4, 1)"), bytes(16))
    yield "nothing at all", npy(header("|V0", "(4, 1)"))
    yield "complex numbers", npy(header("<c8", "(2, 1)"), bytes(16))
    yield "long doubles", npy(header("<f16", "(1, 1)"), bytes(16))
    yield "integers", npy(header("<i4", "(4, 1)"), bytes(16))
    yield "the other byte order", npy(header(">f4", "(4, 1)"), bytes(16))
    yield "a dtype that is none", npy(header("<q9", "(4, 1)"), bytes(16))
    yield "a call", npy("__import__('os').mkdir('executed')\n", bytes(16))
    yield "a dict with a call", npy(header("<f4", "__import__('os').mkdir('executed')"), bytes(16))
    yield "a nest", npy("[" * 9000, bytes(16))
    yield "a nest in the shape", npy(header("<f4", "(" * 3000 + ")" * 3000), bytes(16))
    yield "a key too many", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1), 'x': 1}\n", bytes(16))
    yield "a long header", npy(header("<f4", "(4, 1)") + " " * 20_000, bytes(16), b"\2\0")
    yield "a header of 4 GB", b"\x93NUMPY\2\0" + b"\xff" * 4 + b"{}"
    yield "version 3", npy(header("<f4", "(4, 1)"), bytes(16), b"\3\0")
    yield "version 9", npy(header("<f4", "(4, 1)"), bytes(16), b"\x09\0")
    yield "a pickle", pickle.dumps(Bomb())
    yield "no bytes", b""
    yield "magic alone", b"\x93NUMPY"
    yield "an order that is no bool", npy(header("<f4", "(4, 1)", 3), bytes(16))


@pytest.mark.parametrize(("data"), [pytest.param(data, id=name) for name, data in hostile_arrays()])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_hostile_array(tmp_path: Path, data: bytes, compression: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archive = npz([("weight_hh_l0.npy", GOOD), ("weight_ih_l0.npy", data)], compress_type=compression)
    refuses(tmp_path / "a.npz", archive, "lstm")
    assert os.listdir(tmp_path) == ["a.npz"]


def test_good_array_made_by_hand(tmp_path: Path) -> None:
    """The sound file that hostile ones are variants of."""
    (tmp_path / "a.npz").write_bytes(npz([("weight_hh_l0.npy", GOOD), ("weight_ih_l0.npy", GOOD)]))
    assert fastrnn.load(tmp_path / "a.npz", "lstm").input_size == 1


def test_what_is_said_of_sizes_and_dtypes(tmp_path: Path) -> None:
    said = {
        npy(header("<f4", "(4, 1)"), bytes(20)): "got 'weight_ih_l0' of (4, 1) float32, and 20 bytes of it",
        npy(header("<f4", "(-4, -1)"), bytes(16)): "got 'weight_ih_l0' of (-4, -1) float32, and 16 bytes of it",
        npy(header("|O", "(4, 1)"), b"abc"): "weight_ih_l0: expected float16, float32, float64 or int8, got object",
        npy(header("<i4", "(4, 1)"), bytes(16)): "weight_ih_l0: expected float16, float32, float64 or int8, got int32",
    }
    for data, message in said.items():
        assert message in refuses(
            tmp_path / "a.npz", npz([("weight_hh_l0.npy", GOOD), ("weight_ih_l0.npy", data)]), "lstm"
        )


def patched(data: bytes, offset: int, layout: str, value: int) -> bytes:
    """The archive with a field of its first entry in the directory changed."""
    start = data.index(b"PK\1\2") + offset
    return data[:start] + struct.pack(layout, value) + data[start + struct.calcsize(layout) :]


def test_hostile_archives(tmp_path: Path) -> None:
    pair = [("weight_hh_l0.npy", GOOD), ("weight_ih_l0.npy", GOOD)]
    good = npz(pair)
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = npz([*pair, pair[0]])
    deflated, size = npz(pair, compress_type=zipfile.ZIP_DEFLATED), len(GOOD)
    packed = zipfile.ZipFile(io.BytesIO(deflated)).infolist()[0].compress_size
    hostile = {
        "two entries 'weight_hh_l0.npy'": twice,
        "an entry 'readme.txt', which is no array": npz([*pair, ("readme.txt", b"")]),
        "an entry 'folder/', which is no array": npz([*pair, ("folder/", b"")]),
        "an entry 'weight_hh_l0.npy' that is encrypted": patched(good, 8, "<H", 1),
        "neither stored nor deflated": npz(pair, compress_type=zipfile.ZIP_LZMA),
        "that claims 4294967294 bytes": patched(good, 24, "<I", 2**32 - 2),
        f"that claims {size + 1} bytes": patched(good, 24, "<I", size + 1),
        f"that claims {1032 * packed + 1} bytes": patched(deflated, 24, "<I", 1032 * packed + 1),
        "'fastrnn.json' that claims 10001 bytes": npz([("fastrnn.json", b" " * 10_001), *pair]),
        "entries that claim more bytes than the file has": patched(patched(good, 20, "<I", 2**20), 24, "<I", 2**20),
        "CRC": patched(good, 16, "<I", 1),
    }
    for said, data in hostile.items():
        assert said in refuses(tmp_path / "a.npz", data, "lstm")
    for offset, layout in [(42, "<I"), (28, "<H"), (30, "<H"), (32, "<H"), (10, "<H")]:
        for value in (1, 99, 2**15, 2 ** (8 * struct.calcsize(layout)) - 1):
            refuses(tmp_path / "a.npz", patched(good, offset, layout, value), "lstm")


def test_well_compressed_is_not_hostile(tmp_path: Path) -> None:
    """Zeros, in as few bytes as deflate can."""
    zeros = npy(header("<f4", "(4, 250000)"), bytes(4_000_000))
    data = npz([("weight_hh_l0.npy", GOOD), ("weight_ih_l0.npy", zeros)], compress_type=zipfile.ZIP_DEFLATED)
    assert len(data) < len(zeros) / 900
    (tmp_path / "a.npz").write_bytes(data)
    assert fastrnn.load(tmp_path / "a.npz", "lstm").input_size == 250_000


def test_errors_of_the_system_pass() -> None:
    for error in (MemoryError(), FileNotFoundError(2, "none", "a file")):
        with pytest.raises(type(error)), said_of("a.npz", "an .npz file"):
            raise error
    for error, words in ((OSError("seek\n to -1"), "seek to -1"), (EOFError(), "EOFError")):
        message = rf"\Aa.npz: expected an .npz file, got {words}\Z"
        with pytest.raises(ValueError, match=message), said_of("a.npz", "an .npz file"):
            raise error


def test_messages_are_short(tmp_path: Path) -> None:
    """Names and dtypes that a library quotes in its error are cut where they are long."""
    name, path = "n" * 60_000, tmp_path / "a.npz"
    good = npz([(f"{name}.npy", npy(header("<i4", "(4, 1)"), bytes(16)))])
    place = good.index(b"PK\3\4") + 30
    other = good[:place] + b"m" + good[place + 1 :]  # another name than in the directory: zipfile quotes both
    text = b'{"version": 1, "cell": "lstm", "dtype": "float32", "options": {}}'
    fields = npy(header([(f"{k:0500}", "<f4") for k in range(10)], "(1,)"), bytes(40))
    with_text = npz([("fastrnn.json", text), (f"{name}.npy", npy(header("<i4", "(4, 1)"), bytes(16)))])
    for data in (other, with_text, npz([("weight_ih.npy", fields), ("weight_hh.npy", GOOD)])):
        assert len(refuses(path, data, "lstm")) < 600 + len(str(path))
    with (
        pytest.raises(ValueError, match=r"\Aa.npz: expected an .npz file, got n{200}\.\.\.\Z"),
        said_of("a.npz", "an .npz file"),
    ):
        raise ValueError(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@EVERY_SUFFIX
def test_pipes_and_devices_are_not_read(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    for path in (tmp_path / f"pipe{suffix}", tmp_path / f"device{suffix}"):
        for read in (fastrnn.load, fastrnn.files.find):
            with raises_as_said("ValueError", f"{path}: expected a regular file, got a pipe, a socket or a device"):
                read(path)
    example().save(tmp_path / f"a{suffix}")
    (tmp_path / f"link{suffix}").symlink_to(f"a{suffix}")
    assert fastrnn.load(tmp_path / f"link{suffix}") == example()


def test_names_in_an_archive_are_names(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz([("../../weight_hh_l0.npy", GOOD), ("/etc/weight_ih_l0.npy", GOOD)]))
    with pytest.raises(ValueError, match="expected names of recurrent weights"):
        fastrnn.load(tmp_path / "a.npz", "lstm")
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.address_space
def test_claims_take_no_memory(tmp_path: Path) -> None:
    """With room for 200 MB more, claims of 400 MB and more in every place are refused without being believed."""
    size = 400_000_000
    claim = npy(header("<f4", f"({size // 4}, 1)"), bytes(16))
    small = npz([("weight_hh_l0.npy", claim), ("weight_ih_l0.npy", GOOD)], compress_type=zipfile.ZIP_DEFLATED)
    entry = json.dumps({"weight_hh": {"dtype": "F32", "shape": [size // 4, 1], "data_offsets": [0, size]}}).encode()
    files = {
        "a.npz": small,
        "b.npz": patched(small, 24, "<I", size),
        "c.npz": patched(patched(small, 24, "<I", size), 20, "<I", size),
        "d.npz": patched(small, 20, "<I", size),
        "e.safetensors": struct.pack("<Q", len(entry)) + entry + bytes(16),
        "f.safetensors": struct.pack("<Q", size) + entry,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "g.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as bomb:
        for _ in range(size // 10**7):
            bomb.write(bytes(10**7))  # so that the entry really unpacks to what it claims
    code = (
        "import resource, sys, os, fastrnn, fastrnn.files, safetensors.numpy, zipfile\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)\n"
        "for name in sys.argv[1:]:\n"
        "    try: fastrnn.load(name, 'lstm')\n"
        "    except ValueError as error: assert name in str(error)\n"
        "    else: raise AssertionError(name)\n"
        "print('done')"
    )
    result = run_python(code, *(str(path) for path in tmp_path.iterdir()))
    assert result.stdout == "done\n", result.stderr


@pytest.mark.parametrize(
    "entries",
    [
        '"a": {e}, "a": {e}',
        '"__metadata__": {{"fastrnn": "x", "fastrnn": "x"}}, "a": {e}',
        '"__metadata__": {{"fastrnn": 3}}, "a": {e}',
        '"__metadata__": [], "a": {e}',
        '"a": {{"dtype": "F32", "shape": [4, 4611686018427387905], "data_offsets": [0, 16]}}',
        '"a": {{"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}',
        '"a": {{"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}',
        '"a": {{"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}',
        '"a": {e}, "b": {e}',
        '"a": {{"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}',
    ],
)
def test_hostile_safetensors(tmp_path: Path, entries: str) -> None:
    entry = '{"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}'
    text = ("{" + entries.format(e=entry) + "}").encode()
    refuses(tmp_path / "a.safetensors", struct.pack("<Q", len(text)) + text + bytes(16), "lstm")


def test_a_tensor_twice(tmp_path: Path) -> None:
    """The library safetensors takes the last one."""
    parts = [
        f'"{name}": {{"dtype": "F32", "shape": [4, 1], "data_offsets": [{k}, {k + 16}]}}'
        for name, k in [("weight_ih", 0), ("weight_hh", 16), ("weight_hh", 16)]
    ]
    for count, message in ((2, None), (3, "'weight_hh' twice")):
        text = ("{" + ", ".join(parts[:count]) + "}").encode()
        data = struct.pack("<Q", len(text)) + text + bytes(32)
        if message:
            assert message in refuses(tmp_path / "a.safetensors", data, "lstm")
        else:
            (tmp_path / "a.safetensors").write_bytes(data)
            assert fastrnn.load(tmp_path / "a.safetensors", "lstm").hidden_size == 1
