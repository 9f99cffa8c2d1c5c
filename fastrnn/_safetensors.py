"""Arrays in a .safetensors file, beside a text; read as if it were hostile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastrnn import _check
from fastrnn._arrays import Array
from fastrnn._untrusted import Content, Entry, check_regular, said_of, short, strict_json

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
            yield {key: _tensor_entry(name, handle, key) for key in handle.keys()}, text  # noqa: SIM118 -- no mapping


def _tensor_entry(name: str, handle: Any, key: str) -> Entry:
    part = handle.get_slice(key)
    dtype = part.get_dtype()

    def read() -> Array:
        if dtype not in ("F16", "F32", "F64"):
            cure = "; tensor.float() converts it in PyTorch" if dtype.startswith(("BF", "F8")) else ""
            raise ValueError(f"{name}: {short(key)}: expected F16, F32 or F64, got {dtype}{cure}")
        with said_of(name, "a safetensors file"):
            array: Array = handle.get_tensor(key)
            return array

    return Entry(tuple(part.get_shape()), dtype, read)
