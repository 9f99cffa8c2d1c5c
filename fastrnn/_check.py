"""Errors of a call's arguments, in words: which argument, what was expected, and what came.

`_core` checks with compiled comparisons. It calls these functions only when a comparison failed, or for rare arguments
that need more than a comparison. A function that is named `fail_` always raises.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastrnn._cells import CELLS

Array = NDArray[Any]
MOST_THREADS = 256  # FRNN_MOST_THREADS of csrc/fastrnn.h, which a test compares
DTYPES: dict[int, np.dtype[Any]] = {dtype.num: dtype for dtype in (np.dtype(np.float32), np.dtype(np.float64))}


def type_name(value: object) -> str:
    return type(value).__name__


def shown(value: object) -> str:
    """How a message shows a value of any type: short, on one line, and whatever its repr does."""
    try:
        text = repr(value)
    except Exception:
        return f"an object of type {type_name(value)}"
    if "\n" in text:
        text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:100]}..."


def meant(value: object, known: Iterable[str]) -> str:
    """The cure where a value is nearly one of these words."""
    import difflib  # for errors alone: importing fastrnn is faster without

    near = difflib.get_close_matches(value.lower(), known, n=1) if isinstance(value, str) and len(value) < 100 else []
    return f"; did you mean {near[0]!r}?" if near else ""


def either(words: Iterable[str]) -> str:
    """Join words: ``a, b or c``."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def params_names() -> str:
    """Name the classes of params: ``RNNParams, LSTMParams or GRUParams``."""
    return either(cell.params for cell in CELLS.values())


def package(name: str, needed_by: str, install: str) -> Any:
    """A module of a package that is optional."""
    top = name.partition(".")[0]
    try:
        return import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != top:  # the package is there, and lacks another one
            raise
        said = f"{needed_by}: expected the package {top}, which is not installed; pip install {install}"
        raise ImportError(said, name=top) from None


def _expression(name: str) -> str:
    """The argument as Python: "state[0]" of "state[0] (h)"."""
    return name.partition(" ")[0]


def refuse_mask(name: str, value: object) -> None:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array without a mask, got a MaskedArray; filled() makes one")


def converted(name: str, value: object) -> Array:
    """An array of any object that has `__array__` or is a sequence."""
    refuse_mask(name, value)
    if isinstance(value, np.ndarray):  # outside of `try`: what a signal handler raises passes unchanged
        return np.asarray(value)
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(f"{name}: expected an array, got {type_name(value)}: {error}") from error


def _dense(expression: str, dtype: np.dtype[Any]) -> str:
    return f"numpy.ascontiguousarray({expression}, dtype={dtype.name!r})"


def _array_of(expression: str, value: Any, dtype: np.dtype[Any]) -> str:
    """What makes a dense array of a dtype, of a list, a tensor or another object that NumPy knows."""
    if not (hasattr(value, "detach") and hasattr(value, "device")):
        return _dense(expression, dtype)
    detached = ".detach()" if getattr(value, "requires_grad", False) else ""
    moved = "" if value.device.type == "cpu" else ".cpu()"
    method = {1: ".bool()", 4: ".float()", 8: ".double()"}[dtype.itemsize]
    converted = "" if str(value.dtype) == f"torch.{dtype.name}" else method
    dense = "" if value.is_contiguous() else ".contiguous()"
    return f"{expression}{detached}{moved}{converted}{dense}.numpy()"


def _kind_of(params: Any) -> str:
    """The word of a cell whose params these are, or ""."""
    return next((cell.name for cell in CELLS.values() if cell.params == type_name(params)), "")


def params_cure(value: Any) -> str:
    """What to write where another cell's params, or the layer of a framework, came in the place of params."""
    if _kind_of(value):
        return f"; fastrnn.{_kind_of(value)} runs them, and fastrnn.run(x, params) those of any class"
    if isinstance(value, np.ndarray):
        return "; x comes first, then params"
    if type(value).__module__.partition(".")[0] == "keras":  # some of its layers are modules of PyTorch too
        return "; fastrnn.from_keras(layer) makes them"
    if hasattr(value, "state_dict") and hasattr(value, "named_modules"):
        return "; fastrnn.from_torch(module) makes them"
    if isinstance(value, (str, os.PathLike)):
        return "; fastrnn.load(path), from_onnx(path) and from_torch(torch.load(path)) make them"
    return "; fastrnn.LSTMParams(weights) makes them" if isinstance(value, Mapping) else ""


def _is_sequences(value: object) -> bool:
    """Whether this is a list of sequences of different lengths, which no array can hold."""
    if not isinstance(value, (list, tuple)) or not all(hasattr(part, "__len__") for part in value):
        return False
    return len({len(part) for part in value}) > 1


def _array_cure(name: str, value: object, dtype: np.dtype[Any]) -> str:
    """What to write where an argument is no array of NumPy."""
    if _kind_of(value) and name == "x":
        return "; x comes first, then params"
    if name == "x" and _is_sequences(value):
        return "; x, lengths = fastrnn.pad(x) makes a batch of sequences, and lengths=lengths goes to the call"
    if type_name(value) == "PackedSequence":
        return (
            "; torch.nn.utils.rnn.pad_packed_sequence(x) gives a tensor, whose .numpy() is x, and lengths, "
            "which go to the call"
        )
    if name == "out" or not (isinstance(value, (list, tuple)) or hasattr(value, "__array__")):
        return ""
    made = f"; {_array_of(_expression(name), value, dtype)} makes one"
    if getattr(value, "_keras_mask", None) is None:
        return made
    return (
        f"{made}; its mask is not seen: where it is True for the first steps of each row and False after them, pass "
        f"lengths=numpy.asarray({name}._keras_mask).sum(axis=1)"
    )


def _are_integers(value: object) -> bool:
    try:
        return np.asarray(value).dtype.kind in "iu"
    except Exception:
        return False


def as_array(name: str, value: object, type_num: int, vocabulary: int = 0) -> Array:
    """An array of NumPy, or of a subclass that adds no meaning to the numbers; it may be of tokens of a vocabulary."""
    refuse_mask(name, value)
    if not issubclass(type(value), np.ndarray):
        dtype = np.dtype(np.int64) if vocabulary and _are_integers(value) else DTYPES[type_num]
        raise TypeError(f"{name}: expected a numpy.ndarray, got {type_name(value)}{_array_cure(name, value, dtype)}")
    return np.asarray(value)


def array_problem(name: str, array: Array, dtype: np.dtype[Any]) -> None:
    """Raise where C could not use the array: dtype, byte order, alignment, dense last axis."""
    expression, is_input = _expression(name), name != "out"  # a copy of `out` would be of no use
    dense = not (array.size and array.shape[-1] > 1 and array.strides[-1] != array.itemsize)
    if array.dtype.num != dtype.num:
        copy = f"{expression}.astype({dtype.name!r})" if dense else _dense(expression, dtype)
        cure = f"; {copy} converts it" if array.dtype.kind in "fiu" and is_input else ""
        if array.dtype.kind in "iu" and name == "x":
            cure += "; params with embedding=E take tokens"
        if array.dtype.num in DTYPES and is_input:
            cure += f", or params with dtype={array.dtype.name!r}"
        raise TypeError(f"{name}: expected {dtype.name} (the dtype of params), got {array.dtype}{cure}")
    if not array.dtype.isnative:
        cure = f"; {_dense(expression, dtype)} converts it" if is_input else ""
        raise TypeError(f"{name}: expected {dtype.name} in native byte order, got {array.dtype.str!r}{cure}")
    if not array.flags.aligned:
        cure = f"; {expression}.copy() is aligned" if is_input else ""
        raise ValueError(f"{name}: expected aligned memory, got an array that is not{cure}")
    if not dense:
        cure = f"; numpy.ascontiguousarray({expression}) makes a dense copy" if is_input else ""
        raise ValueError(
            f"{name}: expected a dense last axis (stride {dtype.itemsize} bytes), got stride {array.strides[-1]}{cure}"
        )


def refuse_integers(x: Array, type_num: int) -> None:
    """Raise where x is of integers, whatever its shape is: they are tokens, and the params have no embedding."""
    if x.dtype.kind in "iu":
        array_problem("x", x, DTYPES[type_num])


def token_problem(x: Array) -> None:
    """Raise where C could not read an array as tokens."""
    if x.dtype.kind != "i" or x.dtype.itemsize not in (4, 8):
        raise TypeError(f"x: expected tokens of int32 or int64, got {x.dtype}; x.astype('int64') converts them")
    if not x.dtype.isnative:
        cure = "x.astype('int64') converts them"
        raise TypeError(f"x: expected tokens in native byte order, got {x.dtype.str!r}; {cure}")
    if not x.flags.aligned:
        raise ValueError("x: expected aligned memory, got an array that is not; x.copy() is aligned")


def fail_tokens(x: Array, batch_first: bool) -> NoReturn:
    token_problem(x)
    raise ValueError(f"x: expected tokens {'(B, T)' if batch_first else '(T, B)'} or (T,), got {x.shape}")


def fail_token(x: Any, vocabulary: int, lengths: list[int] | None, batch_first: bool) -> NoReturn:
    """Raise for the first token, in the order of x, that is no row of the embedding."""
    expected = f"x: expected tokens from 0 to {vocabulary - 1}, the rows of the embedding, got"
    wrong = np.asarray((np.asarray(x) < 0) | (np.asarray(x) >= vocabulary))
    if lengths is not None:
        steps = np.arange(wrong.shape[batch_first])[:, None] < np.array(lengths)
        wrong = wrong & (steps.T if batch_first else steps)
    places = np.argwhere(wrong)
    if not len(places):
        raise ValueError(f"{expected} one that was changed while the call read it")
    place = tuple(map(int, places[0]))
    raise ValueError(f"{expected} {np.asarray(x)[place]}{f' at x{[*place]}' if place else ''}")


def fail_x(x: Array, input_size: int, type_num: int, batch_first: bool, vocabulary: int = 0) -> NoReturn:
    refuse_integers(x, type_num)
    if vocabulary and x.ndim in (1, 2) and x.shape[-1] != input_size and x.dtype.kind == "f":
        expected = f"tokens, which are integers, or vectors of {input_size}"
        raise ValueError(
            f"x: expected {expected}, got {x.dtype} {x.shape}; x.astype('int64') makes tokens of whole numbers"
        )
    layout = f"({'B, T' if batch_first else 'T, B'}, {input_size})"
    if x.ndim not in (2, 3):
        raise ValueError(f"x: expected {layout} or (T, {input_size}), got {x.ndim} axes: {x.shape}")
    array_problem("x", x, DTYPES[type_num])
    expected = layout if x.ndim == 3 else f"(T, {input_size})"
    raise ValueError(f"x: expected {expected}, got {x.shape}")


def other_layout(batch_first: bool) -> str:
    """The cure where an argument would fit if time and batch of x changed places."""
    return f"; with batch_first={not batch_first} it fits, and x is {'(T, B, I)' if batch_first else '(B, T, I)'}"


def is_integer(value: object) -> bool:
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return not isinstance(value, (bool, np.bool_))


def fail_params(params: object) -> NoReturn:
    raise TypeError(f"params: expected {params_names()}, got {type_name(params)}{params_cure(params)}")


def fail_size(steps: int, rows: int, width: int) -> NoReturn:
    raise ValueError(
        f"x: expected T * B * outputs that an array can hold, got T={steps}, B={rows} and {width} outputs a step"
    )


def flag(name: str, value: object, or_none: bool = False) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        expected = "True, False or None" if or_none else "True or False"
        raise TypeError(f"{name}: expected {expected}, got {type_name(value)}")
    return bool(value)


def pair(state: object, prefix: str = "") -> tuple[object, object]:
    """The two parts of a state, or with the prefix "d" of its gradient."""
    expected = f"{prefix}state: expected a tuple ({prefix}h, {prefix}c) for an LSTM, got"
    if not isinstance(state, (tuple, list)):
        raise TypeError(f"{expected} {type_name(state)}")
    if len(state) != 2:
        raise ValueError(f"{expected} {len(state)} entries")
    return state[0], state[1]


def _refuse_tuple(name: str, value: object) -> None:
    if isinstance(value, (tuple, list)):
        raise TypeError(f"{name}: expected one array, got a {type_name(value)} of {len(value)}")


def state_array(
    name: str, value: object, shape: tuple[int, ...], type_num: int, steps: int, batch_first: bool
) -> Array:
    """A state that the compiled check did not accept: an array of a subclass passes, anything else raises.

    Its shape has no batch axis where x has none; `steps` is what B would be in the other layout of x.
    """
    _refuse_tuple(name, value)
    array = as_array(name, value, type_num)
    if array.shape != shape:
        axes = f"(layers * directions, {'B, ' if len(shape) == 3 else ''}size)"
        other = other_layout(batch_first) if len(shape) == 3 and array.shape == (shape[0], steps, shape[2]) else ""
        raise ValueError(f"{name}: expected {shape}, which is {axes}, got {array.shape}{other}")
    array_problem(name, array, DTYPES[type_num])
    return array


def gradient(name: str, value: object, shape: tuple[int, ...], type_num: int) -> Array:
    """A gradient that a pullback was given, of the shape of the result that it is the gradient of."""
    if name != "dy":
        _refuse_tuple(name, value)
    array = as_array(name, value, type_num)
    if array.shape != shape:
        swapped = name == "dy" and len(shape) == 3 and array.shape == (shape[1], shape[0], shape[2])
        cure = f"; {name}.swapaxes(0, 1) has it" if swapped else ""
        if name == "dy" and array.ndim == 2 < len(shape) and array.shape in (shape[1:], shape[::2]):
            cure = "; it is of the last step alone where vjp was called with return_sequences=False"
        raise ValueError(f"{name}: expected {shape}, the shape of {_expression(name)[1:]}, got {array.shape}{cure}")
    array_problem(name, array, DTYPES[type_num])
    return array


def wanted(wrt: object, weights: Iterable[str]) -> set[str]:
    """What gradients are wanted of: "x", "weights", "state" or some of these names of weights."""
    if isinstance(wrt, str) or not isinstance(wrt, Iterable):
        cure = f"; [{shown(wrt)}] is one" if isinstance(wrt, str) else ""
        raise TypeError(f"wrt: expected a list or tuple of names, got {shown(wrt)}{cure}")
    known, names = ["x", "weights", "state", *weights], list(wrt)
    for name in names:
        expected = f"wrt: expected 'x', 'weights', 'state' or names of weights, got {shown(name)}"
        if not isinstance(name, str):
            raise TypeError(expected)
        if name not in known:
            first = f"{name}_l0"  # no layer is nearer than another to a name without one
            raise ValueError(f"{expected}{meant(first if first in known else name, known)}")
    return set(names)


def lengths(value: object, steps: int, rows: int, batched: bool, batch_first: bool) -> NDArray[np.uintp]:
    """Lengths as C reads them, in memory of their own."""
    if not batched:
        raise ValueError("lengths: expected None, since x has no batch axis, got lengths; x[:length] is one sequence")
    expected = f"lengths: expected ({rows},), one for each row of the batch, got"
    if isinstance(value, (list, tuple, range)) and len(value) != rows:
        other = other_layout(batch_first) if len(value) == steps else ""
        raise ValueError(f"{expected} a {type_name(value)} of {len(value)}{other}")
    array = converted("lengths", value)
    if array.size == 0 and isinstance(value, (list, tuple)):
        array = array.astype(np.intp)
    limits = f"lengths: expected values from 0 to T={steps}, got"
    if isinstance(value, (list, tuple)):
        kinds = {type(n) for n in value}
        if kinds == {int} and array.dtype.kind not in "iu":  # NumPy has no integers so large
            raise ValueError(f"{limits} {shown(max(value, key=abs))}")
        if kinds & {bool, np.bool_}:
            raise TypeError("lengths: expected integers, got bool")
    if array.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected integers, got {array.dtype}")
    if array.shape != (rows,):
        raise ValueError(f"{expected} {array.shape}{other_layout(batch_first) if array.shape == (steps,) else ''}")
    array = np.array(array)  # copied before the check, so that the checked numbers can't change
    wrong = (array < 0) | (array > steps)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{limits} {array[row]} at row {row}")
    return array.astype(np.uintp, copy=False)


def resets(value: object, steps: int, rows: int, batched: bool, batch_first: bool) -> NDArray[np.bool_]:
    """Resets as C reads them: bytes, an axis for the steps and one for the rows."""
    dtype = np.dtype(np.bool_)
    refuse_mask("resets", value)
    if not isinstance(value, np.ndarray):
        known = isinstance(value, (list, tuple)) or hasattr(value, "__array__")
        cure = f"; {_array_of('resets', value, dtype)} makes one" if known else ""
        raise TypeError(f"resets: expected a numpy.ndarray of bool, got {type_name(value)}{cure}")
    array: Array = np.asarray(value)
    if array.dtype != dtype:
        cure = "; resets.astype(bool) converts it" if array.dtype.kind in "iuf" else ""
        raise TypeError(f"resets: expected bool, got {array.dtype}{cure}")
    axes = ("B, T" if batch_first else "T, B") if batched else "T,"
    shape = ((rows, steps) if batch_first else (steps, rows)) if batched else (steps,)
    if array.shape != shape:
        cures = {shape[::-1]: "; resets.T has it", (*shape, 1): "; resets[..., 0] has it"}
        raise ValueError(
            f"resets: expected {shape}, which is ({axes}), a bool for each step of x, got {array.shape}"
            f"{cures.get(array.shape, '')}"
        )
    return array


def whole(name: str, value: object, least: int, most: int, or_none: bool = False) -> int:
    """An integer within bounds."""
    expected = f"{name}: expected an integer{' or None' if or_none else ''}, got {type_name(value)}"
    try:
        n = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(expected) from None
    if isinstance(value, bool):
        raise TypeError(expected)
    if not least <= n <= most:
        raise ValueError(f"{name}: expected from {least} to {most}, got {shown(n)}")
    return n


def threads(value: object, name: str = "threads") -> int:
    return whole(name, value, 1, MOST_THREADS, or_none=name == "threads")


def checkpoint(value: object) -> int:
    """Steps from one state that is kept to the next; 0: all are kept."""
    return 0 if value is None else whole("checkpoint", value, 1, sys.maxsize, or_none=True)


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements may share memory: strides that do not nest."""
    reach = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape) if size > 1):
        if stride < reach:
            return True
        reach += stride * (size - 1)
    return False


def _overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share an element, or might where the strides make it a long puzzle."""
    try:
        return np.shares_memory(a, b, max_work=1_000_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def writable(value: object, shape: tuple[int, ...], type_num: int) -> Array:
    """An array of this shape that results may be written to."""
    array = as_array("out", value, type_num)
    if array.shape != shape:
        raise ValueError(f"out: expected {shape}, got {array.shape}")
    array_problem("out", array, DTYPES[type_num])
    if not array.flags.writeable:
        raise ValueError("out: expected an array that can be written to, got a read-only one")
    if array.size and _overlaps_itself(array):
        raise ValueError(f"out: expected elements of their own, got strides {array.strides}, which make them overlap")
    return array


def out(
    value: object,
    shape: tuple[int, ...],
    type_num: int,
    x: Array,
    h: Array | None,
    c: Array | None,
    resets: Array | None,
) -> Array:
    """An array that the results of a call may be written to."""
    array = writable(value, shape, type_num)
    first = "state[0] (h)" if c is not None else "state"
    for name, other in (("x", x), (first, h), ("state[1] (c)", c), ("resets", resets)):
        if other is not None and _overlap(array, other):
            raise ValueError(f"out: expected memory of its own, got memory that overlaps {name}")
    return array
