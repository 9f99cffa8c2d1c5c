"""Arrays in a .safetensors file, beside a text; read as if it were hostile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from fastrnn import _check
from fastrnn._arrays import Array
from fastrnn._untrusted import Content, Entry, check_regular, said_of, short, strict_json

BFLOAT16 = "BF16"  # the upper half of a float32, which NumPy does not have
_KEY = "fastrnn"  # of the text among the metadata


def _library(module: str) -> Any:
    return _check.package(module, "a .safetensors file", "safetensors")


def encode(weights: Mapping[str, Array], text: str) -> bytes:
    data: bytes = _library("safetensors.numpy").save(dict(weights), {_KEY: text})
    return data


@contextmanager
def opened(name: str) -> Iterator[Content]:
    library = _library("safetensors")
    check_regular(name)
    with open(name, "rb") as file:
        with said_of(name, "a safetensors file"):
            handle = library.safe_open(name, "np")
            size = int.from_bytes(file.read(8), "little")
            header = strict_json(file.read(size))  # which the library has checked, but for names that come twice
            text = header.get("__metadata__", {}).get(_KEY)
        with handle:
            yield (
                {
                    key: _tensor_entry(name, handle, key, partial(_widened, file, 8 + size, header[key]))
                    for key in handle.keys()  # noqa: SIM118 -- no mapping
                },
                text,
            )


def _tensor_entry(name: str, handle: Any, key: str, read_bfloat16: Callable[[], Array]) -> Entry:
    part = handle.get_slice(key)
    dtype = part.get_dtype()

    def read() -> Array:
        if dtype not in ("F16", BFLOAT16, "F32", "F64", "I8"):
            cure = "; tensor.float() converts it in PyTorch" if dtype.startswith("F8") else ""
            raise ValueError(f"{name}: {short(key)}: expected F16, BF16, F32, F64 or I8, got {dtype}{cure}")
        with said_of(name, "a safetensors file"):
            array: Array = read_bfloat16() if dtype == BFLOAT16 else handle.get_tensor(key)
            return array

    return Entry(tuple(part.get_shape()), dtype, read)


def _widened(file: BinaryIO, start: int, entry: Any) -> Array:
    """A tensor of bfloat16 as float32, exactly; `start` is where tensors begin. The library has checked the offsets."""
    begin, end = entry["data_offsets"]
    file.seek(start + begin)
    halves = np.frombuffer(file.read(end - begin), "<u2").reshape(entry["shape"])
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
