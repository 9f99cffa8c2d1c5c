"""The files that the command line reads: one row of one table a kind, recognised by its content.

The ending of its name decides only where the content tells nothing: of a file that was cut short, say, the reader that
the ending names says what is wrong.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO, NamedTuple

from fastrnn import _check, _npz, _safetensors, files
from fastrnn._cells import OPTIONS
from fastrnn._formats import Opener
from fastrnn._names import listed
from fastrnn._state_dict import prefixes, select
from fastrnn._untrusted import check_regular
from fastrnn.params import AnyParams
from fastrnn.torch import file as torch_file

Loaders = dict[str, Callable[[], AnyParams]]
_ARRAYS = ("prefix", "cell", *OPTIONS)
_MOST_FIELDS = 10_000  # of a protobuf message: a model has some tens, and one for each function


class Source(NamedTuple):
    """A kind of file."""

    title: str  # in messages: "a {title} file"
    endings: tuple[str, ...]
    holds: Callable[[BinaryIO, list[str]], bool]  # whether a file is one, given the names in it if it is a zip archive
    flags: tuple[str, ...]  # of the command line: they name a layer, and tell its cell and options
    find: Callable[[str], Loaders]  # a function that loads each layer, or raises, by a label
    load: Callable[[str, Mapping[str, Any], str | None], AnyParams]  # the layer that the flags name, in a dtype
    peers: tuple[str, ...]  # what its layers are compared with, best first
    remark: Callable[[str], str] = lambda path: ""  # on a file without a layer
    tensors: Callable[[str, str], Mapping[str, Any]] | None = None  # PyTorch's own, under a prefix
    has_foreign_bytes: bool = False  # which params may not hold: `load` has the flag "precision", for floats of them


# How each kind is recognised.


def _has_npy(file: BinaryIO, names: list[str]) -> bool:
    return any(name.endswith(".npy") or name == "fastrnn.json" for name in names)


_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that files begin with which are no zip archives


def _has_tensors(file: BinaryIO, names: list[str]) -> bool:
    in_zip = any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in names)
    return in_zip or file.read(len(_OLD_TORCH)) == _OLD_TORCH


def _has_json_header(file: BinaryIO, names: list[str]) -> bool:
    size = int.from_bytes(file.read(8), "little")
    return file.read(1) == b"{" and 8 + size <= file.seek(0, os.SEEK_END)


def _has_graph(file: BinaryIO, names: list[str]) -> bool:
    """Whether it is a protobuf message, to its last byte, with a field 7: a model's graph. Fields are passed over."""
    end, graph = file.seek(0, os.SEEK_END), False
    file.seek(0)
    for _ in range(_MOST_FIELDS):
        at = file.tell()
        if at == end:
            return graph
        field, kind = divmod(_varint(file), 8)
        if field < 1 or kind not in (0, 1, 2, 5):
            return False
        size = {1: 8, 5: 4}[kind] if kind in (1, 5) else _varint(file)
        if size < 0 or (kind and size > end - file.tell()):
            return False
        file.seek(size if kind else 0, os.SEEK_CUR)
        graph = graph or (field, kind) == (7, 2)
    return False


def _varint(file: BinaryIO) -> int:
    """A number of at most 70 bits, or -1 where the bytes are not one."""
    value = 0
    for place in range(10):
        byte = file.read(1)
        if not byte:
            return -1
        value |= (byte[0] & 127) << 7 * place
        if byte[0] < 128:
            return value
    return -1


# How each kind is read.


def _find_onnx(path: str) -> Loaders:
    from fastrnn.onnx import load  # which imports the package onnx

    return {**load.loaders(path)}


def _load_onnx(path: str, flags: Mapping[str, Any], dtype: str | None) -> AnyParams:
    from fastrnn.onnx import load

    requantize, precision = flags.get("requantize", False), flags.get("precision")
    return load.params_of(path, flags.get("node"), dtype=dtype, precision=precision, requantize=requantize)


def _remark_onnx(path: str) -> str:
    from fastrnn.onnx import load

    return load.remark_on(path)


def _find_torch(path: str) -> Loaders:
    state = torch_file.state_dict(path)
    return {prefix: partial(torch_file.load_by_shapes, path, state, prefix) for prefix in prefixes(state)}


def _load_torch(path: str, flags: Mapping[str, Any], dtype: str | None) -> AnyParams:
    state, prefix, activation = torch_file.state_dict(path), flags.get("prefix", ""), flags.get("activation")
    first = flags.get("batch_first", False)
    return torch_file.load_layer(path, state, prefix, activation, batch_first=first, dtype=dtype)


def _torch_tensors(path: str, prefix: str) -> Mapping[str, Any]:
    return select(torch_file.state_dict(path), prefix, path)


def _load_arrays(opened: Opener, path: str, flags: Mapping[str, Any], dtype: str | None) -> AnyParams:
    return files.load_with(opened, path, dtype=dtype, **flags)


SOURCES = (
    Source(
        ".onnx",
        (".onnx",),
        holds=_has_graph,
        flags=("node", "requantize"),
        find=_find_onnx,
        load=_load_onnx,
        peers=("onnxruntime", "torch", "reference"),
        remark=_remark_onnx,
        has_foreign_bytes=True,
    ),
    Source(
        "PyTorch",
        (".pt", ".pth"),
        holds=_has_tensors,
        flags=("prefix", "activation", "batch_first"),
        find=_find_torch,
        load=_load_torch,
        peers=("torch", "reference"),
        tensors=_torch_tensors,
    ),
    Source(
        ".safetensors",
        (".safetensors",),
        holds=_has_json_header,
        flags=_ARRAYS,
        find=partial(files.find, opened=_safetensors.opened),
        load=partial(_load_arrays, _safetensors.opened),
        peers=("reference", "torch"),
    ),
    Source(
        ".npz",
        (".npz",),
        holds=_has_npy,
        flags=_ARRAYS,
        find=partial(files.find, opened=_npz.opened),
        load=partial(_load_arrays, _npz.opened),
        peers=("reference", "torch"),
    ),
)
ENDINGS = tuple(ending for source in SOURCES for ending in source.endings)
FLAGS = tuple(dict.fromkeys(flag for source in SOURCES for flag in source.flags))


# The kind of a file.


def recognise(path: str) -> Source:
    """The kind of a file, by its content; by its ending where the content tells nothing."""
    ending = os.path.splitext(path)[1]
    named = next((source for source in SOURCES if ending in source.endings), None)
    kinds = _check.either(source.title for source in SOURCES)
    expected = f"an {ending} file" if named else f"a file of the kind {kinds}"
    check_regular(path)
    with open(path, "rb") as file:
        if not file.read(1):
            raise ValueError(f"{path}: expected {expected}, got an empty one")
        names = _names_in_zip(file)
        found = [source for source in SOURCES if _holds(source, file, names or [])]
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            got = f"one that is {' and '.join(source.title for source in found)} at once"
            raise ValueError(f"{path}: expected {expected}, got {got}")
        if named:
            return named
        file.seek(0)
        raise ValueError(f"{path}: expected {expected}, got {_described(file.read(16), names)}")


def _holds(source: Source, file: BinaryIO, names: list[str]) -> bool:
    file.seek(0)
    return source.holds(file, names)


def _names_in_zip(file: BinaryIO) -> list[str] | None:
    """Names of the entries of a zip archive; none of a broken one; None where a file is no archive."""
    file.seek(0)
    if file.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
        return None
    try:
        return zipfile.ZipFile(file).namelist()
    except MemoryError:
        raise
    except Exception:  # zipfile raises many classes
        return []


_BEGINNINGS = {
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a single array (.npy)",
    b"\x1f\x8b": "what gzip has compressed",
    **{bytes([0x80, protocol]): "a pickle, which could run anything when it is read" for protocol in range(2, 6)},
}


def _described(head: bytes, names: list[str] | None) -> str:
    """A description of a file that is of none of these kinds."""
    if names is not None:
        return f"a zip archive of {listed(names)}" if names else "a zip archive that is empty or broken"
    known = next((what for start, what in _BEGINNINGS.items() if head.startswith(start)), None)
    return known or f"one that begins with {head!r}"
