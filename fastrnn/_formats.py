"""The formats that params are written in, and how a file of params is written.

Beside the weights a file has one JSON text, `{"cell": .., "dtype": .., "options": {..}, "version": 1}`: under the key
"fastrnn" of the metadata of a safetensors file, in an entry "fastrnn.json" of an .npz file. Where weights are narrow
the version is 2, which older readers refuse, and `"precision": ..` is there too. Where there is an embedding it is 3,
and `"embedding": ..` is there, "array" or "one-hot", with or without `"precision"`. `files.py` reads the text.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

from fastrnn import _check, _npz, _safetensors
from fastrnn._arrays import EMBEDDING, Array
from fastrnn._cells import Cell
from fastrnn._untrusted import Content

Opener = Callable[[str], AbstractContextManager[Content]]  # the content of a file

VERSION = 3  # of files that hold an embedding; 2 of others with narrow weights, and 1 of all others


class Format(NamedTuple):
    encode: Callable[[Mapping[str, Array], str], bytes]
    opened: Opener


FORMATS = {
    ".safetensors": Format(_safetensors.encode, _safetensors.opened),
    ".npz": Format(_npz.encode, _npz.opened),
}


def format_of(name: str) -> Format:
    suffix = os.path.splitext(name)[1]
    if suffix not in FORMATS:
        raise ValueError(f"path: expected a name that ends in {' or '.join(FORMATS)}, got {_check.shown(name)}")
    return FORMATS[suffix]


def path_name(path: object) -> str:
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(name, str):
        raise TypeError(f"path: expected a str or os.PathLike, got {type(path).__name__}")
    if "\0" in name or not os.path.basename(name):
        raise ValueError(f"path: expected the name of a file, got {name!r}")
    return name


def write(
    path: object,
    weights: Mapping[str, Array],
    cell: Cell,
    dtype: str,
    options: dict[str, Any],
    precision: str | None,
    one_hot: bool,
) -> None:
    """Write params to a file whose name ends as one of the formats says."""
    name = path_name(path)
    encode = format_of(name).encode
    said = {"version": 1, "cell": cell.name, "dtype": dtype, "options": options}
    if precision is not None:
        said |= {"version": 2, "precision": precision}
    if one_hot or EMBEDDING in weights:
        said |= {"version": 3, "embedding": "one-hot" if one_hot else "array"}
    replace(name, encode(dict(sorted(weights.items())), json.dumps(said, sort_keys=True, allow_nan=False)))


def replace(name: str, data: bytes) -> None:
    """Write a file under another name in the same folder, then rename it: no reader ever finds half a file."""
    final = os.path.realpath(name)  # through a link, as open() would
    if os.path.exists(final) and not (os.path.isfile(final) or os.path.isdir(final)):  # which a rename would end
        raise ValueError(f"path: expected a file or a name that is free, got a device, pipe or socket: {name!r}")
    temporary = os.path.join(os.path.dirname(final), f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(os.stat(final).st_mode))
            os.replace(temporary, final)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error  # names the caller's file, not the temporary one
