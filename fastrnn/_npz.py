"""Arrays in an .npz file, beside a text; read as if it were hostile: no size is believed before it was compared."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from fastrnn import _check
from fastrnn._arrays import Array
from fastrnn._untrusted import MOST_TEXT, Content, Entry, check_regular, said_of, short

_ENTRY = "fastrnn.json"
_MOST_HEADER = 10_000  # bytes of the header of one array, as in NumPy
_MOST_RATIO = 1032  # of deflate: 258 bytes from 2 bits


def encode(weights: Mapping[str, Array], text: str) -> bytes:
    parts = {_ENTRY: text.encode()}
    for key, array in weights.items():
        stream = io.BytesIO()
        np.lib.format.write_array(stream, array, allow_pickle=False)
        parts[f"{key}.npy"] = stream.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for key, data in parts.items():
            info = zipfile.ZipInfo(key)  # its time is 1980, always
            info.external_attr = 0o644 << 16
            file.writestr(info, data)
    return archive.getvalue()


@contextmanager
def opened(name: str) -> Iterator[Content]:
    check_regular(name)
    with open(name, "rb") as file:
        with said_of(name, "an .npz file"):
            archive = zipfile.ZipFile(file)
            infos = {info.filename: info for info in archive.infolist()}
            _check_infos(archive.infolist(), os.fstat(file.fileno()).st_size)
            text = archive.read(infos.pop(_ENTRY)).decode() if _ENTRY in infos else None
            entries = {key.removesuffix(".npy"): _npy_entry(name, archive, info) for key, info in infos.items()}
        yield entries, text


def _check_infos(infos: list[zipfile.ZipInfo], size: int) -> None:
    """Sizes that the directory of an archive claims, before any is believed."""
    names = set()
    for info in infos:
        shown = _check.shown(info.filename)
        if info.filename in names:
            raise ValueError(f"two entries {shown}")
        names.add(info.filename)
        if info.filename != _ENTRY and not info.filename.endswith(".npy"):
            raise ValueError(f"an entry {shown}, which is no array")
        if info.flag_bits & 1:
            raise ValueError(f"an entry {shown} that is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"an entry {shown} that is neither stored nor deflated")
        ratio = 1 if info.compress_type == zipfile.ZIP_STORED else _MOST_RATIO
        most = min(MOST_TEXT, ratio * info.compress_size) if info.filename == _ENTRY else ratio * info.compress_size
        if info.file_size > most:
            raise ValueError(f"an entry {shown} that claims {info.file_size} bytes")
    if sum(info.compress_size for info in infos) > size:
        raise ValueError("entries that claim more bytes than the file has")


def _npy_entry(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    key = info.filename.removesuffix(".npy")
    with archive.open(info) as stream:
        head = io.BytesIO(stream.read(_MOST_HEADER + 12))
    version = np.lib.format.read_magic(head)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(head, _MOST_HEADER)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(head, _MOST_HEADER)
    else:
        raise ValueError(f"{_check.shown(key)} in version {version} of the .npy format")
    start = head.tell()
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or (not dtype.hasobject and claimed != info.file_size - start):
        raise ValueError(f"{_check.shown(key)} of {shape} {dtype}, and {info.file_size - start} bytes of it")

    def read() -> Array:
        if dtype.kind != "f" and dtype != np.int8:
            kinds = "float16, float32, float64 or int8"
            raise ValueError(f"{name}: {short(key)}: expected {kinds}, got {short(dtype)}")
        with said_of(name, "an .npz file"):
            data = archive.read(info)
            return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")

    return Entry(shape, dtype.name, read)
