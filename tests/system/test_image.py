"""Images of layers: what c/images.c reads of them has the bits of Python, and nothing that is in a file does harm.

The program is built with sanitizers and assertions, so that a read of memory that is not the image's ends it.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastrnn
from support.cases import Case, assert_same_bits, cases, make_weights
from support.cells import CELLS, PARAMS
from support.documents import PYTHON, Block, C, section_of
from support.environment import TESTS

if TYPE_CHECKING:
    from support.c_programs import Library

PRECISIONS = [None, "float16", "int8", "int8_fast"]
CHECKED_FROM = 16  # bytes of the header that the checksum is not of
HEADER = 160

NO_FILE = "the file can't be read: errno says why"
NO_IMAGE = "expected an image, as params.save_image(path) of fastrnn in Python writes it"
NEWER = "expected an image of version 1; a newer fastrnn reads it"
BROKEN = "expected a whole image, got one that was cut short, changed, or made wrong"


@pytest.fixture(scope="module")
def program(c_library: Library, folder: Path) -> Path:
    return c_library.program(TESTS / "c" / "images.c", folder / "images")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def run(program: Path, *arguments: object, given: bytes = b"") -> bytes:
    result = subprocess.run([program, *map(str, arguments)], input=given, capture_output=True, timeout=120)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def check(program: Path, paths: Sequence[object]) -> list[str]:
    return run(program, "check", *paths).decode().splitlines()


def arrays(data: bytes, like: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Arrays that lie one after another, of the shapes of others."""
    assert len(data) == sum(array.nbytes for array in like)
    offsets = np.cumsum([0, *(array.nbytes for array in like)])
    return tuple(
        np.frombuffer(data, array.dtype, array.size, start).reshape(array.shape)
        for array, start in zip(like, offsets[:-1])
    )


def expected_of(params: Any, x: np.ndarray) -> tuple[np.ndarray, ...]:
    y, state = fastrnn.run(x, params)
    return (y, *state) if isinstance(state, tuple) else (y, state)


@st.composite
def layers(draw: Any) -> tuple[Any, np.ndarray]:
    """Params of any kind, and x: numbers, or tokens where there is an embedding."""
    case: Case = draw(cases())
    x = np.ascontiguousarray(case.x.swapaxes(0, 1) if case.batch_first else case.x)
    precision, options = draw(st.sampled_from(PRECISIONS)), {}
    if precision:
        options = {"precision": precision, "dtype": "float32"}
        x = x.astype("float32")
    embedding = draw(st.sampled_from([None, "one-hot", "array"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if embedding and x.shape[2]:
        V = x.shape[2] if embedding == "one-hot" else draw(st.integers(1, 40))
        dtype = case.weights[next(iter(case.weights))].dtype
        options["embedding"] = embedding if embedding == "one-hot" else rng.normal(size=(V, x.shape[2])).astype(dtype)
        x = rng.integers(0, V, x.shape[:2]).astype(draw(st.sampled_from(["int32", "int64"])))
    return case.params(**options), x


@given(layer=layers())
def test_bits_are_those_of_python(layer: tuple[Any, np.ndarray], program: Path, folder: Path) -> None:
    params, x = layer
    params.save_image(folder / "layer.frnn")
    expected = expected_of(params, x)
    tokens = [8 * x.itemsize] if x.dtype.kind == "i" else []
    got = run(program, folder / "layer.frnn", *x.shape[:2], *tokens, given=x.tobytes())
    assert_same_bits(arrays(got, expected), expected)


def test_renewed_weights_are_written(folder: Path) -> None:
    weights = make_weights(np.random.default_rng(0), "gru", (3, 5))
    params = fastrnn.GRUParams({name: 2 * array for name, array in weights.items()})
    params.save_image(folder / "a.frnn")
    fastrnn.GRUParams(weights).with_weights(params.weights).save_image(folder / "b.frnn")
    assert (folder / "a.frnn").read_bytes() == (folder / "b.frnn").read_bytes()


def image_of(path: Path, cell: str = "lstm", sizes: tuple[int, int] = (3, 5), **options: Any) -> bytes:
    more = {name: options.pop(name) for name in ("layers", "proj", "peepholes") if name in options}
    PARAMS[cell](make_weights(np.random.default_rng(1), cell, sizes, **more), **options).save_image(path)
    return path.read_bytes()


def test_format_stays(folder: Path) -> None:
    """Numbers in images are those of enums in fastrnn.h and of rows in cells.def: none may get another one."""
    options = {"recurrent_activation": ("hard_sigmoid", 0.25, 0.5), "output_activation": "softsign", "clip": 3.0}
    image = image_of(folder / "lstm.frnn", layers=2, proj=2, peepholes=True, precision="int8", **options)
    magic, version, checksum, size, *numbers = struct.unpack("<8sII6Q4Id", image[:88])
    assert (magic, version, size) == (b"fastrnn\0", 1, len(image))
    assert checksum == zlib.crc32(image[CHECKED_FROM:])
    assert numbers == [3, 5, 2, 2, 0, 1, 0, 2, 1 | 4, 3.0]  # sizes; lstm, float32, int8; forward and reset_after; clip
    functions = [*struct.iter_unpack("<IIdd", image[88:HEADER])]
    assert functions == [(0, 0, 0.0, 0.0), (3, 0, 0.25, 0.5), (4, 0, 0.0, 0.0)]
    assert struct.unpack("<II", image[192:200]) == (0b0111111111, 0b0111111111)
    assert [*CELLS][:3] == ["rnn", "lstm", "gru"]


def corrected(image: bytes) -> bytes:
    """With the size and the checksum that belong to it, so that what is behind them is looked at."""
    image = image[:16] + struct.pack("<Q", len(image)) + image[24:]
    return image[:12] + struct.pack("<I", zlib.crc32(image[CHECKED_FROM:])) + image[CHECKED_FROM:]


def test_what_is_wrong_is_said(program: Path, folder: Path) -> None:
    image = image_of(folder / "right.frnn")
    wrong = {
        b"": NO_IMAGE,
        image[:HEADER]: BROKEN,
        image[: HEADER - 1]: NO_IMAGE,
        b"x" * 500: NO_IMAGE,
        image[:8] + struct.pack("<I", 2) + image[12:]: NEWER,
        image[:8] + struct.pack("<I", 0) + image[12:]: BROKEN,
        image[:-1]: BROKEN,
        image + bytes(64): BROKEN,
        corrected(image + bytes(64)): BROKEN,
        corrected(image[:-64]): BROKEN,
        image[:-100] + bytes([image[-100] ^ 1]) + image[-99:]: BROKEN,
        corrected(image): "done",
    }
    paths = [folder / f"wrong{i}" for i in range(len(wrong))]
    for path, data in zip(paths, wrong):
        path.write_bytes(data)
    assert check(program, paths) == [*wrong.values()]
    assert check(program, [folder / "absent", folder]) == [NO_FILE, NO_FILE]


NUMBERS = [0, 1, 2, 3, 4, 5, 6, 15, 64, 130001, 2**31, 2**32 - 1, 2**57, 2**61, 2**62 + 1, 2**63, 2**64 - 1]
FIELDS = [*((offset, "<Q") for offset in range(24, 64, 8)), *((offset, "<I") for offset in range(64, 80, 4))]
FIELDS += [(80, "<d"), *((88 + 24 * k, "<I") for k in range(3)), *((96 + 8 * k, "<d") for k in range(8))]
FIELDS += [(192, "<I"), (196, "<I")]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"precision": "int8"}, {"embedding": "one-hot"}], ids=str)
def test_fields_are_checked(cell: str, options: dict[str, Any], program: Path, folder: Path) -> None:
    """Every number of a header, one at a time, and whatever then fits: layers that are right, or an error."""
    image, paths = image_of(folder / "right.frnn", cell, layers=2, **options), []
    for offset, form in FIELDS:
        numbers = [float("nan"), float("inf"), -1.0, 1e-320, 1e300, 0.5] if form == "<d" else NUMBERS
        for number in numbers if form != "<I" else [n for n in numbers if n < 2**32]:
            packed = struct.pack(form, number)
            paths.append(folder / f"field{len(paths)}")
            paths[-1].write_bytes(corrected(image[:offset] + packed + image[offset + len(packed) :]))
    said = check(program, paths)
    assert {*said} <= {BROKEN, "done"}
    assert said.count(BROKEN) > len(said) // 3


@given(data=st.data())
def test_mutated_images_do_no_harm(data: st.DataObject, program: Path, folder: Path) -> None:
    """Cut, changed in some bytes, with bytes inserted or taken away; with a right checksum, or as it is."""
    params, _ = data.draw(layers())
    params.save_image(folder / "mutated.frnn")
    image = (folder / "mutated.frnn").read_bytes()
    assume(len(image) < 2**16)
    paths = []
    for i in range(20):
        made = bytearray(image)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, min(len(made), 512) if i % 2 else len(made)))
            made[at : at + data.draw(st.sampled_from([0, 1, 4, 8, 64]))] = data.draw(st.binary(max_size=8))
        paths.append(folder / f"mutated{i}")
        paths[-1].write_bytes(bytes(made) if i % 4 == 0 or len(made) < 24 else corrected(bytes(made)))
    assert {*check(program, paths)} <= {BROKEN, NO_IMAGE, NEWER, "done"}


def test_rows_without_numbers(program: Path, folder: Path) -> None:
    """An embedding of rows of 0 numbers takes no bytes, whatever number of rows an image claims."""
    image, paths = image_of(folder / "right.frnn", "gru", (0, 5), embedding=np.zeros((4, 0), "float32")), []
    for vocabulary in (1, 2**20, 2**50, 2**57, 2**63):
        paths.append(folder / f"rows{vocabulary}")
        paths[-1].write_bytes(corrected(image[:56] + struct.pack("<Q", vocabulary) + image[64:]))
    assert check(program, paths) == ["done"] * 3 + [BROKEN] * 2


def test_columns_of_bytes_have_a_limit(program: Path, folder: Path) -> None:
    """More would overflow the sums of their products. params refuse them too, so an image is made of one that fits."""
    image = image_of(folder / "wide.frnn", "rnn", (130_000, 1), precision="int8")
    room = 64 * -(-130_001 // 64) - 64 * -(-130_000 // 64)
    wider = image[:24] + struct.pack("<Q", 130_001) + image[32:256] + bytes(room) + image[256:]
    (folder / "wider.frnn").write_bytes(corrected(wider))
    assert check(program, [folder / "wide.frnn", folder / "wider.frnn"]) == ["done", BROKEN]


@pytest.mark.parametrize("proj", [130_000, 130_001])
def test_columns_of_a_projections_bytes_have_a_limit(program: Path, folder: Path, proj: int) -> None:
    """Of U, which as many columns are multiplied with as the projection has rows."""
    image = image_of(folder / "narrow.frnn", "lstm", (1, 2), proj=1, precision="int8")
    (mask,) = struct.unpack_from("<I", image, 192)
    sizes = [8, 8 * proj, 8 * 4, 8 * 4, proj * 2, 24, 8 * 4, 8 * 4, proj * 4, 0]  # bytes of W, U, b, d, V, p and so on
    body = bytes(sum(64 * -(-size // 64) for k, size in enumerate(sizes) if mask >> k & 1))
    wide = image[:40] + struct.pack("<Q", proj) + image[48:256] + body
    (folder / "projected.frnn").write_bytes(corrected(wide))
    assert check(program, [folder / "projected.frnn"]) == ["done" if proj == 130_000 else BROKEN]


@pytest.mark.parametrize("block", C, ids=lambda block: block.name)
def test_c_of_the_documents(block: Block, c_library: Library, folder: Path) -> None:
    """It prints what Python's stream computes of the layer that the Python above it has made."""
    namespace: dict[str, Any] = {}
    for above in section_of(block, PYTHON):
        exec(above.text, namespace)
    params = namespace["params"]
    params.save_image(folder / "layer.frnn")
    (folder / "document.c").write_text(block.text, encoding="utf-8")
    program = c_library.program(folder / "document.c", folder / "document")
    stream = fastrnn.Stream(params)
    expected = [f"{stream.step(np.array([t / 128], params.dtype))[0]:.9g}" for t in range(100)]
    assert run(program, folder / "layer.frnn").decode().split() == expected
    result = subprocess.run([program, folder / "absent"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, f"{folder / 'absent'}: {NO_FILE}\n")


def test_there_is_c_in_the_documents() -> None:
    assert C
