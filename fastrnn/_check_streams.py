"""Checks of what streams, pools and batchers are given: what does not fit raises an error that says what would."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check

Array = NDArray[Any]


def _fail_step(
    x: Any, rows: list[tuple[int, ...]], of: str, input_size: int, type_num: int, vocabulary: int
) -> NoReturn:
    """Raise for x of a step, for its shape if that does not fit: one of `rows`, of tokens or of vectors."""
    are_tokens = bool(vocabulary) and not (isinstance(x, np.ndarray) and x.dtype.kind not in "iu")
    shapes = rows if are_tokens else [(*shape, input_size) for shape in rows]
    kind = "tokens " if are_tokens else ""
    expected = " or ".join(f"{kind}{shape}" if shape else "one integer" for shape in shapes) + of
    if not are_tokens:
        _check.refuse_integers(x, type_num)
    if not isinstance(x, np.ndarray):
        raise ValueError(f"x: expected {expected}, got {_check.shown(x)}")
    if x.shape in shapes and are_tokens:
        _check.token_problem(x)
    elif x.shape in shapes:
        _check.array_problem("x", x, _check.DTYPES[type_num])
    cure = "; run() takes a chunk of steps" if any(x.ndim == len(shape) + 1 for shape in shapes) else ""
    raise ValueError(f"x: expected {expected}, got {x.shape}{cure}")


def fail_step(x: Any, rows: int, input_size: int, type_num: int, vocabulary: int) -> NoReturn:
    _fail_step(x, [(rows,), ()] if rows == 1 else [(rows,)], "", input_size, type_num, vocabulary)


def fail_pool_step(x: Any, rows: int | None, input_size: int, type_num: int, vocabulary: int) -> NoReturn:
    """`rows` is None where one integer came in the place of ids."""
    of = " for one stream" if rows is None else f" for {rows} streams"
    _fail_step(x, [()] if rows is None else [(rows,)], of, input_size, type_num, vocabulary)


def _numbers_or_tokens(x: Array, steps: str, input_size: int) -> str:
    """The shape of a chunk: of numbers, or of the tokens that x is."""
    if x.dtype.kind == "i":
        return f"tokens ({steps})" if "," in steps else f"tokens ({steps},)"
    return f"({steps}, {input_size})"


def fail_chunk(x: Array, rows: int, input_size: int, batch_first: bool) -> NoReturn:
    layout = f"{rows}, T" if batch_first else f"T, {rows}"
    expected = _numbers_or_tokens(x, layout, input_size)
    if rows == 1:
        expected += f" or {_numbers_or_tokens(x, 'T', input_size)}"
    other = _check.other_layout(batch_first) if x.ndim == 3 and x.shape[1 if batch_first else 0] == rows else ""
    raise ValueError(f"x: expected {expected}, the stream's batch_size being {rows}, got {x.shape}{other}")


def fail_busy(what: str) -> NoReturn:
    raise RuntimeError(
        f"{what}: expected one call at a time, got a call while another one runs, in another thread or a signal handler"
    )


def fail_orphaned(what: str) -> NoReturn:
    whole_again = "reset() makes it whole" if what == "pool" else "reset() or a state that is set makes it whole"
    raise RuntimeError(
        f"{what}: expected a whole state, got one that a thread was at work on when this process was forked; "
        f"{whole_again}"
    )


def ids(value: object) -> int | NDArray[np.int64]:
    """Ids of streams that the compiled check did not accept, as one integer or as an array."""
    if _check.is_integer(value):
        return _as_ids([value])[0]
    if not isinstance(value, (list, tuple, range, np.ndarray)):
        cure = "; list(ids) makes a list" if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else ""
        raise TypeError(
            f"ids: expected an integer, or a list or an array of integers, got {_check.type_name(value)}{cure}"
        )
    array = _check.converted("ids", value)
    if array.ndim == 1:
        return np.array(_as_ids(array.tolist() if isinstance(value, np.ndarray) else value), np.int64)
    raise ValueError(f"ids: expected one axis, got {array.ndim}: {array.shape}")


def _as_ids(values: Sequence[object]) -> list[int]:
    numbers = []
    for i, value in enumerate(values):
        if not _check.is_integer(value):
            raise TypeError(f"ids: expected integers, got {_check.type_name(value)}{_at(i, values)}")
        numbers.append(operator.index(value))  # type: ignore[arg-type]
        if not -(2**63) <= numbers[-1] < 2**63:
            _fail_closed(numbers[-1], i, values)
    return numbers


def _at(position: int, ids: Sequence[object]) -> str:
    return f" at position {position}" if len(ids) > 1 else ""


def _fail_closed(stream: int, position: int, ids: Sequence[object]) -> NoReturn:
    why = "is negative" if stream < 0 else "is closed, or not of this pool"
    raise ValueError(
        f"ids: expected open streams of this pool, got {_check.shown(stream)}{_at(position, ids)}, which {why}"
    )


def fail_ids(value: int | Sequence[int] | NDArray[np.int64], wrong: int) -> NoReturn:
    """Raise for the id at a position, which came before, or is not that of an open stream."""
    ids = [value] if isinstance(value, int) else [int(each) for each in value[: wrong + 1]]
    before = ids.index(ids[wrong])
    if before < wrong:
        raise ValueError(f"ids: expected distinct streams, got {ids[wrong]} at positions {before} and {wrong}")
    _fail_closed(ids[wrong], wrong, ids if isinstance(value, int) else [*value])


def step_of_session(x: object, input_size: int, type_num: int) -> Array:
    """The input of one step of one stream."""
    array = x if type(x) is np.ndarray else _check.as_array("x", x, type_num)
    if array.shape != (input_size,) or array.dtype.num != type_num or not array.dtype.isnative:
        fail_pool_step(array, None, input_size, type_num, 0)
    return array


def token_of_session(x: object, vocabulary: int) -> int:
    """The token of one step of one stream."""
    if not _check.is_integer(x):
        got = f"an array {x.shape} of {x.dtype}" if isinstance(x, np.ndarray) else _check.shown(x)
        raise TypeError(f"x: expected one token, an integer, since the params have an embedding, got {got}")
    token = operator.index(x)  # type: ignore[arg-type]
    if not 0 <= token < vocabulary:
        _check.fail_token(x, vocabulary, None, False)
    return token


def seconds(name: str, value: object) -> float:
    """A length of time."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected a number of seconds, got {_check.type_name(value)}") from None
    except OverflowError:
        number = np.inf
    if not 0 <= number <= 1e9:
        raise ValueError(f"{name}: expected seconds from 0 to 1e9, got {_check.shown(value)}")
    return number


def fail_pool_chunk(x: Array, rows: int | None, input_size: int) -> NoReturn:
    steps, streams = ("T", "one stream") if rows is None else (f"{rows}, T", f"{rows} streams")
    expected = f"{_numbers_or_tokens(x, steps, input_size)} for {streams}"
    cure = "; [id] is a list of one" if rows is None and x.ndim == 3 and x.shape[0] == 1 else ""
    raise ValueError(f"x: expected {expected}, got {x.shape}{cure}")


def fail_stream_direction(direction: str) -> NoReturn:
    raise ValueError(
        f"params: expected direction 'forward', since a stream cannot see what is to come, got {direction!r}"
    )


def batch_size(value: object) -> int:
    return _check.whole("batch_size", value, 1, sys.maxsize)
