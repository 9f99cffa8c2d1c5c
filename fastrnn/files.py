"""Params in files, .safetensors and .npz: the weights as arrays, and one JSON text that says of which layer.

A file without the text, which `_formats.py` describes, is another program's: `load` is then told the cell. Nothing in a
file is trusted: sizes are compared with bytes that are there before memory is taken for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, overload

import numpy as np

from fastrnn import _check
from fastrnn._arrays import EMBEDDING, NEEDS_CONVERSION
from fastrnn._cells import CELLS
from fastrnn._embedding import ONE_HOT, kind_of
from fastrnn._formats import VERSION, Opener, format_of, path_name
from fastrnn._names import listed
from fastrnn._options import check_dtype, check_option
from fastrnn._precision import NARROW, check_dtypes, check_precision
from fastrnn._safetensors import BFLOAT16
from fastrnn._state_dict import cell_of, embedding_in, prefixes, select
from fastrnn._types import CellName, Precision, TargetName
from fastrnn._untrusted import MOST_TEXT, Entry, said_of, short, strict_json
from fastrnn.config import resolve_target
from fastrnn.params import CLASSES, AnyParams, GRUParams, LSTMParams, Params, RNNParams

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Path = str | os.PathLike[str]

_TORCH = "fastrnn.from_torch(torch.load(path, map_location='cpu', weights_only=True)) reads it"
_KERAS = "fastrnn.from_keras takes a layer of keras.models.load_model(path)"
_OTHER_DOORS = {".onnx": "fastrnn.from_onnx(path) reads it", ".pt": _TORCH, ".pth": _TORCH}
_OTHER_DOORS |= {".keras": _KERAS, ".h5": _KERAS}
_NAMES = [repr(name) for name in CELLS]


class _Header(NamedTuple):
    """The content of the JSON text."""

    cell: str
    dtype: str | None
    options: dict[str, Any]
    precision: Precision | None = None  # a narrow one
    embedding: str | None = None  # "array" or "one-hot"


def save(params: Params, path: Path) -> None:
    """Write params to a file: `Params.save`.

    Parameters
    ----------
    params : RNNParams, LSTMParams or GRUParams
        Weights are written as they were given, in the dtype that they came in; matrices of narrow params as these hold
        them, which makes files about two times smaller with float16, and four times with int8.
    path : str or path
        Ends in ``.safetensors`` or ``.npz``. The file is replaced in one step, when all of it has been written.

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong type, another ending.
    ImportError
        The package safetensors is missing.
    OSError
        The file can't be written.

    Examples
    --------
    >>> import numpy as np, fastrnn, os, tempfile
    >>> params = fastrnn.GRUParams({"weight_ih": np.ones((6, 3)), "weight_hh": np.ones((6, 2))}, reset_after=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     params.save(os.path.join(folder, "gru.npz"))
    ...     fastrnn.load(os.path.join(folder, "gru.npz"))  # doctest: +ELLIPSIS
    GRUParams(input_size=3, hidden_size=2, num_layers=1, direction='forward', reset_after=False, dtype='float64', ...)
    """
    if not isinstance(params, Params):
        raise TypeError(f"params: expected {_check.params_names()}, got {type(params).__name__}")
    params.save(path)


@overload
def load(
    path: Path,
    cell: Literal["rnn"],
    prefix: str = "",
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    embedding: str | None = None,
    **options: Any,
) -> RNNParams: ...


@overload
def load(
    path: Path,
    cell: Literal["lstm"],
    prefix: str = "",
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    embedding: str | None = None,
    **options: Any,
) -> LSTMParams: ...


@overload
def load(
    path: Path,
    cell: Literal["gru"],
    prefix: str = "",
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    embedding: str | None = None,
    **options: Any,
) -> GRUParams: ...


@overload
def load(
    path: Path,
    cell: CellName | None = None,
    prefix: str = "",
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    embedding: str | None = None,
    **options: Any,
) -> AnyParams: ...


def load(
    path: Path,
    cell: CellName | None = None,
    prefix: str = "",
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    embedding: str | None = None,
    **options: Any,
) -> AnyParams:
    """Read params from a file that `Params.save` or another program wrote.

    Parameters
    ----------
    path : str or path
        Ends in ``.safetensors`` or ``.npz``.
    cell : "rnn", "lstm" or "gru", optional
        Needed where fastrnn did not write the file. Where it did, another cell is an error; type checkers know the
        class of the params by it.
    prefix : str
        What stands before the names of the layer's weights in a file of another program, such as ``"encoder."``.
    dtype : "float32", "float64" or None
        Converts the weights, narrow ones too; None: as the file says, or as its weights are.
    target : str or None
        As in `RNNParams`.
    precision : str or None
        Converts the weights as `Params.to` does; None: as the file says. Files of float16 and bfloat16 weights, which
        other programs wrote, are read with a `precision` or a `dtype`: "float16" holds float16 weights exactly.
    embedding : str or None
        For a file of another program: the whole name of the array (V, I) whose rows tokens name, such as
        ``"emb.weight"``, or "one-hot". fastrnn's own files say it themselves.
    **options
        Those of `RNNParams`, `LSTMParams` or `GRUParams`, for a file of another program.

    Returns
    -------
    RNNParams, LSTMParams or GRUParams
        Equal to those that were saved.

    Raises
    ------
    TypeError
        An argument of a wrong type.
    ValueError
        A file that is broken, of another kind or of a newer version; a cell or an option that it contradicts; weights
        that are not those of one layer stack.
    ImportError
        The package safetensors is missing.
    OSError
        The file can't be read.

    Examples
    --------
    Weights that another program wrote:

    >>> import numpy as np, fastrnn, os, tempfile
    >>> weights = {"encoder.weight_ih_l0": np.ones((8, 3)), "encoder.weight_hh_l0": np.ones((8, 2))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(os.path.join(folder, "model.npz"), **weights)
    ...     fastrnn.load(os.path.join(folder, "model.npz"), "lstm", "encoder.")  # doctest: +ELLIPSIS
    LSTMParams(input_size=3, hidden_size=2, num_layers=1, direction='forward', dtype='float64', ...)
    """
    name = path_name(path)
    cure = _OTHER_DOORS.get(os.path.splitext(name)[1])
    if cure is not None:
        raise ValueError(f"path: expected a file of weights in .safetensors or .npz, got {_check.shown(name)}; {cure}")
    if not (cell is None or isinstance(cell, str)):
        raise TypeError(f"cell: expected {_check.either([*_NAMES, 'None'])}, got {_check.shown(cell)}")
    if not (cell is None or cell in CELLS):
        raise ValueError(f"cell: expected {_check.either(_NAMES)}, got {_check.shown(cell)}")
    check_dtype(dtype)
    check_precision(precision)
    resolve_target(target)
    given: dict[str, Any] = {"dtype": dtype, "target": target, "precision": precision, "embedding": embedding}
    return load_with(format_of(name).opened, name, cell, prefix, **given, **options)


def load_with(
    opened: Opener,
    name: str,
    cell: str | None = None,
    prefix: str = "",
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    embedding: str | None = None,
    **options: Any,
) -> AnyParams:
    """`load` of a file of one format, whatever its name ends in."""
    with opened(name) as (entries, text):
        if text is None:
            kind = None if embedding is None else kind_of(embedding)
            header = _Header(cell or _fail_no_cell(name, entries), None, options, embedding=kind)
            entries = select(entries, prefix, name) | embedding_in(entries, embedding, name)
        else:
            header = _parse(name, text)
            _check_agrees(name, header, cell, prefix, options)
            _check_embedding(name, header, embedding, entries)
        _check_options(header.cell, options)
        dtype = dtype or header.dtype
        if dtype is None and precision is None:
            _refuse_bfloat16(name, entries)
        weights = {key: entry.read() for key, entry in entries.items()}
    try:
        return _converted(header, weights, precision, {"dtype": dtype, "target": target, **header.options})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None


def _converted(
    header: _Header, weights: dict[str, Any], precision: Precision | None, arguments: dict[str, Any]
) -> AnyParams:
    """Params as the file has them, brought to a precision; another program's floats are made narrow at once."""
    kind = CLASSES[header.cell]
    arguments["embedding"] = ONE_HOT if header.embedding == ONE_HOT else None
    bytes_there = any(array.dtype == np.int8 for array in weights.values())
    if header.dtype is None and not bytes_there:
        return kind(weights, precision=precision, **arguments)
    if header.precision and np.dtype(arguments["dtype"]) == np.float64 and precision in (None, "float64"):
        arguments["dtype"], precision = header.dtype, "float64"  # by the way of what the file holds
    if header.precision:
        check_dtypes(weights, header.precision)
    params = kind(weights, precision=header.precision, **arguments)
    return params if precision is None else params.to(precision)


def _refuse_bfloat16(name: str, entries: Mapping[str, Entry]) -> None:
    for key, entry in entries.items():
        if entry.dtype == BFLOAT16:
            expected = f"float32 or float64, got bfloat16; {NEEDS_CONVERSION}"
            raise ValueError(f"{name}: {short(key)}: expected {expected}")


def _half(entries: Mapping[str, Entry]) -> bool:
    return any(entry.dtype in ("F16", BFLOAT16, "float16") for entry in entries.values())


def find(path: Path, opened: Opener | None = None) -> dict[str, Callable[[], AnyParams]]:
    """A function that loads each layer, by prefix; shapes tell the cell in a file that fastrnn did not write."""
    name = path_name(path)
    opened = opened or format_of(name).opened

    def load_by_shapes(prefix: str) -> AnyParams:
        with opened(name) as (entries, _):
            own = select(entries, prefix, name)
            cell, dtype = cell_of(own), "float32" if _half(own) else None
        return load_with(opened, name, cell, prefix, dtype=dtype)

    with opened(name) as (entries, text):
        if text is not None:
            return {"": partial(load_with, opened, name)}
        return {prefix: partial(load_by_shapes, prefix) for prefix in prefixes(entries)}


# The JSON text.


def _parse(name: str, text: str) -> _Header:
    with said_of(name, "metadata of fastrnn in JSON"):
        if len(text) > MOST_TEXT:
            raise ValueError(f"{len(text)} characters")
        said = strict_json(text)
        version = said.get("version") if isinstance(said, dict) else None
        if type(version) is not int or version < 1:
            raise ValueError(f"version {_check.shown(version)}")
    if version > VERSION:
        raise ValueError(f"{name}: expected version {VERSION} of the format, got {version}; a newer fastrnn reads it")
    with said_of(name, "metadata of fastrnn in JSON"):
        known, narrow = {"version", "cell", "dtype", "options"}, version == 2 or (version > 2 and "precision" in said)
        known |= {"precision"} if narrow else set()
        known |= {"embedding"} if version > 2 else set()
        if said.keys() != known or not isinstance(said["options"], dict):
            raise ValueError(_check.shown(text))
        precision, embedding = said.get("precision"), said.get("embedding")
        if version > 2 and embedding not in ("array", ONE_HOT):
            raise ValueError(f"embedding {_check.shown(embedding)}")
        if narrow and (precision not in NARROW or said["dtype"] != "float32"):
            raise ValueError(f"precision {_check.shown(precision)} and dtype {_check.shown(said['dtype'])}")
        if not isinstance(said["cell"], str) or said["cell"] not in CELLS:
            raise ValueError(f"cell {_check.shown(said['cell'])}")
        if said["dtype"] not in ("float32", "float64"):
            raise ValueError(f"dtype {_check.shown(said['dtype'])}")
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in said["options"].items()}
        _check_options(said["cell"], options)
    return _Header(said["cell"], said["dtype"], options, precision, embedding)


def _check_options(cell: str, options: dict[str, Any]) -> None:
    known = CELLS[cell].defaults
    for option, value in options.items():
        if option not in known:
            raise TypeError(f"{option}: expected an option of {CELLS[cell].params}: {', '.join(known)}")
        check_option(CELLS[cell], option, value)


def _check_agrees(name: str, header: _Header, cell: str | None, prefix: object, options: dict[str, Any]) -> None:
    """Raise where the caller contradicts the file."""
    if cell not in (None, header.cell):
        raise ValueError(f"cell: expected {header.cell!r}, as {name} says, got {cell!r}")
    if prefix != "":
        raise ValueError(f"prefix: expected '', since {name} holds one layer stack, got {_check.shown(prefix)}")
    _check_options(header.cell, options)
    row = CELLS[header.cell]
    known = row.defaults | header.options
    for option, value in options.items():
        if check_option(row, option, value) != check_option(row, option, known[option]):
            raise ValueError(f"{option}: expected {known[option]!r}, as {name} says, got {_check.shown(value)}")


def _check_embedding(name: str, header: _Header, given: str | None, entries: Mapping[str, Entry]) -> None:
    """Raise where the caller or the arrays contradict what the file says of an embedding."""
    if given not in (None, header.embedding if header.embedding == ONE_HOT else None):
        raise ValueError(f"embedding: expected None, since {name} says itself what it has, got {_check.shown(given)}")
    if (EMBEDDING in entries) != (header.embedding == "array"):
        expected, got = ("an", "none") if header.embedding == "array" else ("no", "one")
        raise ValueError(f"{name}: expected {expected} array {EMBEDDING!r}, as its metadata say, got {got}")


def _fail_no_cell(name: str, entries: Mapping[str, Entry]) -> NoReturn:
    found = prefixes(entries)
    if not found:
        select(entries, "", name)  # which says so

    def described(prefix: str) -> str:
        try:
            return f"{cell_of(select(entries, prefix, name))!r} under the prefix {prefix!r}"
        except ValueError:
            return f"none under the prefix {prefix!r}"

    got = f"None; shapes fit {listed(found, lambda prefix: described(str(prefix)))}"
    raise ValueError(f"cell: expected {_check.either(_NAMES)}, which {name} does not say, got {got}")
