"""Coverage-guided fuzzing of fastrnn.load: ``run.sh SECONDS files`` runs it.

The first byte says how a file is loaded, the others are the file. It is loaded, or refused with a ValueError of one
line; nothing else may happen, within bounded memory and time. What loads has the numbers that NumPy and safetensors
read from it, computes, and survives being saved and loaded. Half of the mutations know the formats: blind ones break a
checksum.
"""

from __future__ import annotations

import io
import json
import os
import random
import struct
import sys
import zipfile
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import atheris
import numpy as np
import safetensors.numpy
from loaded import attempt, bits, check_params, fastrnn, start, write

SUFFIXES = (".npz", ".safetensors")
CELLS = (None, None, "rnn", "lstm", "gru")
PREFIXES = ("", "encoder.")
DTYPES = (None, "float32", "float64")
PRECISIONS = (None, None, "float16", "int8")


def pick(selector: int, *choices: tuple[Any, ...]) -> list[Any]:
    """A number in mixed radix."""
    picked = []
    for choice in choices:
        selector, place = divmod(selector, len(choice))
        picked.append(choice[place])
    return picked


def test(data: bytes) -> None:
    if not data:
        return
    suffix, cell, prefix, dtype, precision = pick(data[0], SUFFIXES, CELLS, PREFIXES, DTYPES, PRECISIONS)
    path = write(f"file{suffix}", data[1:])
    params = attempt(lambda: fastrnn.load(path, cell, prefix, dtype=dtype, precision=precision), path)
    if params is not None:
        check_params(params)
        held = params if dtype is None else attempt(lambda: fastrnn.load(path, cell, prefix), path) or params
        if precision is None and held.precision == held.dtype.name:  # others may be what narrow weights stand for
            check_numbers(params, path, prefix)
    for load in (attempt(lambda: fastrnn.files.find(path), path) or {}).values():
        attempt(load, path)


def check_numbers(params: Any, path: str, prefix: str) -> None:
    """Other readers see the same arrays; what lies beside them may be anything."""
    if path.endswith(".npz"):
        # Not np.load, which takes a file for another one where something stands before the archive.
        with open(path, "rb") as file, np.lib.npyio.NpzFile(file) as archive:
            compare(params, archive, prefix)
    else:
        with open(path, "rb") as file:
            known = b'"BF16"' not in file.read()  # which NumPy does not have
        if known:
            compare(params, safetensors.numpy.load_file(path), prefix)


def compare(params: Any, arrays: Any, prefix: str) -> None:
    for name, expected in bits(params).items():
        # With params of fastrnn's own file, a prefix is refused.
        array = arrays[prefix + name if prefix + name in arrays else name]
        assert (array.dtype.str, array.shape, array.tobytes()) == expected


# Mutations that know the formats.

NAMES = [
    f"{prefix}{plain}{suffix}"
    for prefix in PREFIXES
    for plain in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole", "weight_x")
    for suffix in ("", "_l0", "_l1", "_l0_reverse", "_l0_scale", "_scale", "_l1_reverse", "_l00", "_l999999999")
]
SHAPES = [(), (0,), (4,), (4, 1), (1, 4), (12, 3), (8, 2), (16, 4), (-1, 4), (2**31, 2**31), (2**62, 4), (1,) * 40]
DESCRIPTIONS = [
    "<f4",
    "<f8",
    ">f4",
    ">f8",
    "<f2",
    "|i1",
    "<i4",
    "|O",
    "|b1",
    "<c8",
    "<f16",
    "|V4",
    "<U1",
    "<M8[s]",
    "f4,f4",
]
DTYPE_NAMES = ["F16", "F32", "F64", "BF16", "I8", "I32", "BOOL", "F8_E4M3", "C64", ""]
NUMBERS = [0, 1, 2, 4, 16, 127, 255, 1000, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, -1]
VALUES: list[Any] = [
    "tanh",
    "relu",
    "linear",
    "none",
    ["hard_sigmoid", 0.2, 0.5],
    ["linear", 1, 1e999],
    [["tanh"], 1, 2],
]
VALUES += [None, True, False, 0, 1, 0.5, -1, 1e300, 1e-300, float("nan"), float("inf"), 10**400, [], {}, "x" * 300]
OPTIONS = ["activation", "recurrent_activation", "output_activation", "clip", "reset_after", "input_forget", "target"]


def some_text(draw: random.Random) -> bytes:
    """What could stand in a file as its options."""
    said: dict[str, Any] = {"version": draw.choice([1, 1, 1, 1, 2, 0, True, "1"])}
    said["cell"] = draw.choice(["rnn", "lstm", "gru", "LSTM"])
    said["dtype"] = draw.choice(["float32", "float64", "float16", None])
    said["options"] = {draw.choice(OPTIONS): draw.choice(VALUES) for _ in range(draw.randrange(4))}
    if said["version"] == 2 or not draw.randrange(8):
        said["precision"] = draw.choice(["float16", "int8", "int8", "int8_fast", "float32", None])
    if not draw.randrange(8):
        said[draw.choice(["more", "options"])] = draw.choice(VALUES)
    text = json.dumps(said)
    return draw.choice([text, text, text, text * 2, "[" * 5000, text + " " * 10_000, "{", ""]).encode()


def with_header(draw: random.Random, data: bytes) -> bytes:
    """An array of .npy with another header."""
    end = 10 + int.from_bytes(data[8:10], "little")
    descr, shape, order = draw.choice(DESCRIPTIONS), draw.choice(SHAPES), draw.choice([True, False, 0, None])
    text = f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}".encode()
    body = data[end:]
    kind = draw.randrange(4)
    if kind == 0:
        text = data[10:end].replace(b"<f", draw.choice([b">f", b"<i", b"<c", b"|S"]))
    elif kind == 1:
        text = data[10:end].replace(b"False", b"True")
    elif kind == 2 and min(shape, default=0) >= 0 and (size := int(np.prod(shape, dtype=object))) < 1000:
        body = np.arange(size, dtype="f4").tobytes()
    version = draw.choice([b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\1\1"])
    length = struct.pack("<H" if version < b"\2" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + body


def mutate_npz(draw: random.Random, data: bytes) -> bytes:
    """Other entries in a sound archive; and now and then a directory that lies."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    place = draw.randrange(len(entries))
    name, content, method = entries[place]
    kind = draw.randrange(9)
    if kind < 2:
        content = atheris.Mutate(content, len(content) + 64)
    elif kind < 4:
        content = some_text(draw) if name == "fastrnn.json" else with_header(draw, content)
    elif kind == 4:
        name = draw.choice(NAMES) + draw.choice([".npy", ".npy", ".npy", "", ".npz"])
    elif kind == 5:
        method = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    elif kind == 6:
        entries.append((draw.choice([name, draw.choice(NAMES) + ".npy"]), content, method))
    elif kind == 7:
        entries.append(("fastrnn.json", some_text(draw), method))
    if kind == 8:
        del entries[place]
    else:
        entries[place] = (name, content, method)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content, method in entries:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    result = bytearray(stream.getvalue())
    if not draw.randrange(4):  # a field of a header: of an entry, or of the directory
        field, layout = draw.choice([(6, "<H"), (8, "<H"), (10, "<H"), (16, "<I"), (20, "<I"), (24, "<I"), (42, "<I")])
        start_of = [k for k in range(len(result) - 46) if result[k : k + 4] in (b"PK\1\2", b"PK\3\4")]
        limit = 2 ** (8 * struct.calcsize(layout))
        if start_of:
            struct.pack_into(layout, result, draw.choice(start_of) + field, draw.choice(NUMBERS) % limit)
    return bytes(result)


def mutate_safetensors(draw: random.Random, data: bytes) -> bytes:
    """Another header before the same numbers."""
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    body = data[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    name = draw.choice(names)
    entry, kind = dict(header[name]), draw.randrange(8)
    if kind == 0:
        entry["dtype"] = draw.choice(DTYPE_NAMES)
    elif kind == 1:
        entry["shape"] = list(draw.choice(SHAPES))
    elif kind == 2:
        entry["data_offsets"] = [draw.choice([*NUMBERS, *entry["data_offsets"]]) for _ in range(2)]
    elif kind == 3:
        header[draw.choice(NAMES)] = entry
    elif kind == 4:
        header["__metadata__"] = draw.choice([{"fastrnn": some_text(draw).decode()}, {"fastrnn": 3}, [], None])
    elif kind == 5:
        body = atheris.Mutate(body, len(body) + 64)
    header[name] = entry
    if kind == 6:
        header = {**{draw.choice(NAMES): header.pop(name)}, **header}
    text = json.dumps(header).encode()
    if kind == 7:
        text = atheris.Mutate(text, len(text) + 64)
    length = draw.choice(NUMBERS) % 2**64 if not draw.randrange(16) else len(text)
    return struct.pack("<Q", length) + text + body


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    draw = random.Random(seed)
    if data and draw.randrange(2):
        (suffix,) = pick(data[0], SUFFIXES)
        head = bytes([draw.choice([data[0], data[0], 2 * draw.randrange(128) + (suffix == ".safetensors")])])
        try:
            changed = (mutate_npz if suffix == ".npz" else mutate_safetensors)(draw, data[1:])
        except Exception:  # it was no such file before
            return atheris.Mutate(data, max_size)
        if len(changed) < max_size:
            return head + changed
    return atheris.Mutate(data, max_size)


if __name__ == "__main__":
    start(test, mutate)
