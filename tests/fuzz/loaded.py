"""What both Python harnesses share: limits of a process, what an error may be, and what must hold of params that load.

To see a finding again: ``python fuzz_files.py FILE`` or ``python fuzz_onnx.py FILE``, FILE being what was written.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["fastrnn"]):
    import fastrnn
    import fastrnn._npz
    import fastrnn.files
    import fastrnn.onnx.load
    from fastrnn.params import Params

ROOM = 400_000_000  # bytes that may be taken beside what the process has at its start
MOST_SAID = 8000  # characters of a message, which names at most 20 things, beside the path

FOLDER = tempfile.mkdtemp(prefix="fastrnn_fuzz_")


def start(test: Callable[[bytes], None], mutate: Callable[[bytes, int, int], bytes]) -> None:
    """Fuzz, or run the inputs that the command line names."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))  # what claims more is a MemoryError: a finding
    atheris.Setup(sys.argv, test, custom_mutator=mutate)
    atheris.Fuzz()


def write(name: str, data: bytes) -> str:
    path = os.path.join(FOLDER, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def attempt(load: Callable[[], Any], path: str) -> Any:
    """What a loader answers, or None if it refuses with the one error that it may raise for a file."""
    try:
        return load()
    except ValueError as error:
        said = str(error)
    assert said, "an error without words"
    assert "\n" not in said, repr(said)
    assert len(said) < MOST_SAID + 2 * len(path), said
    assert path in said or said.startswith(("cell: ", "prefix: ", "node: ", "weights: ", "weight_")), said
    return None


def bits(params: Params) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in params.weights.items()}


def check_params(params: Params) -> None:
    """They compute, and are the same after they were saved and loaded."""
    x = np.ones((2, 1, params.input_size), params.dtype)
    with np.errstate(all="ignore"):
        y, _ = getattr(fastrnn, params._cell.name)(x, params)
    directions = 2 if params.bidirectional else 1
    assert y.shape == (2, 1, directions * (params.proj_size or params.hidden_size))
    assert y.dtype == params.dtype
    assert repr(params).startswith(type(params).__name__)
    for suffix in (".npz", ".safetensors"):
        path = os.path.join(FOLDER, f"saved{suffix}")
        params.save(path)
        again = fastrnn.load(path)
        assert again == params
        assert hash(again) == hash(params)
        assert bits(again) == bits(params)
        assert again._shown_options() == params._shown_options()
