"""Narrow weights: which there are, how floats become them and come back, and the checks of those that are given narrow.

The matrices of a layer are float16, or bytes (int8) with a float32 scale a row, which is under the
matrix's name and `_scale`. Biases and peepholes are float32. docs/precision.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn._arrays import MATRICES, SCALE, Array, check_alike, check_array
from fastrnn._names import WEIGHT_NAME, Names

FULL = ("float32", "float64")
OF_BYTES = ("int8", "int8_fast")
NARROW = ("float16", *OF_BYTES)
_FLOAT32 = np.dtype(np.float32)
_TINY = np.finfo(np.float32).tiny
_BYTES = np.iinfo(np.int8)
_LARGEST = np.float32(_BYTES.max)
_MOST_COLUMNS = 130_000  # of bytes: the sums of their products fit 32 bits
# A row is badly served by its one scale where half of its weights that are not 0 have less than two steps of the 127.
# They are then off by an eighth of themselves on average, or more, and a sum of such weights by about 10 %, where one
# of normal weights is off by 0.8 %. The ratio of rows of a thousand uniform, normal or Laplacian numbers is 2, 5 and
# 11: one above 64 is an outlier's, and not a matter of luck.
_MOST_RATIO = 64


def check_precision(value: object, names: tuple[str, ...] = (*FULL, *NARROW)) -> str | None:
    """A precision by its name, or None."""
    if not (value is None or isinstance(value, str)):
        raise TypeError(f"precision: expected a name or None, got {_check.shown(value)}")
    if not (value is None or value in names):
        expected, meant = ", ".join(names), _check.meant(value, names)
        raise ValueError(f"precision: expected one of {expected}, got {_check.shown(value)}{meant}")
    return None if value is None else str(value)


def split_scales(weights: Mapping[Any, Any]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Weights without scales, and the scales by the names of their matrices; a scale of no matrix stays a weight."""
    scales = {}
    for name, value in weights.items():
        whole = name.removesuffix(SCALE) if isinstance(name, str) else name
        match = WEIGHT_NAME.fullmatch(whole) if whole != name else None
        if match and match[1] in MATRICES and whole in weights:
            scales[whole] = value
    names = {whole + SCALE for whole in scales}
    return {name: value for name, value in weights.items() if name not in names}, scales


# From what is given to what params hold.


class Given(NamedTuple):
    """Weights that params are made of: floats and bytes by their names, scales by the names of their matrices."""

    arrays: dict[str, Array]
    scales: dict[str, Any]
    precision: str | None  # a narrow one, or None
    dtype: np.dtype[Any] | None  # of the arithmetic; None: that of the arrays


def check_given(
    names: Names, weights: Mapping[str, Any], scales: dict[str, Any], asked: str | None, dtype: np.dtype[Any] | None
) -> Given:
    """Arrays of weights, each by itself, and the precision that they ask for."""
    held = {name for name in _matrices(names) if _is_bytes(weights[name])}
    precision = _settle(asked, sorted(held), dtype)
    if asked in FULL:
        dtype = np.dtype(asked)
    converted = dtype is not None or precision is not None
    arrays = {
        name: _check_bytes(name, value) if name in held else check_array(name, value, converted)
        for name, value in weights.items()
    }
    for name in scales:
        if name not in held:
            raise TypeError(f"{name}: expected int8, since there is {name + SCALE!r}, got {arrays[name].dtype}")
    if precision is not None and dtype is None:
        for name, array in arrays.items():
            if array.dtype == np.float64:
                cure = "dtype='float32' converts the weights"
                raise TypeError(f"{name}: expected float32 with precision={precision!r}, got float64; {cure}")
        dtype = _FLOAT32
    return Given(arrays, scales, precision, dtype)


def hold(names: Names, given: Given) -> dict[str, Array]:
    """What narrow params hold, of arrays whose shapes were checked."""
    matrices, weights = _matrices(names), dict[str, Array]()
    for name, array in given.arrays.items():
        if name not in matrices:
            weights[name] = array.astype(np.float32, copy=False)
        elif array.dtype == np.int8:
            weights |= {name: array, name + SCALE: _check_scale(name, array, given.scales.get(name))}
        else:
            weights |= _halved(name, array) if given.precision == "float16" else _quantized(name, array)
    return weights


class Quantized(NamedTuple):
    """A matrix as another program has quantized it: (integers - zeros) * scales are its floats."""

    integers: Array  # (rows, K)
    zeros: Array  # of integers, and scales of floats: (), or (rows, 1), or whatever else lies over the matrix
    scales: Array

    def moved(self) -> Array:
        """The integers of which 0 stands for 0."""
        return self.integers.astype(np.int64) - self.zeros.astype(np.int64)

    def floats(self) -> Array:
        """The matrix in float32: each product is rounded once."""
        with np.errstate(over="ignore"):
            return self.moved().astype(np.float32) * self.scales.astype(np.float32)


def carried(name: str, matrix: Quantized, requantize: bool) -> dict[str, Array]:
    """The bytes and scales of params that are the very numbers of a quantized matrix.

    Where bytes and one scale a row do not hold it, its floats become bytes anew with `requantize`, and are an error
    without.
    """
    moved, scales = matrix.moved(), matrix.scales.astype(np.float32)
    why = _why_not_carried(moved, scales)
    if not why:
        scales = np.broadcast_to(scales, (len(moved), 1))[:, 0]
        return {name: moved.astype(np.int8), name + SCALE: scales.copy()}
    if requantize:
        return _quantized(name, matrix.floats())
    raise ValueError(f"{name}: expected {why}; requantize=True of its loader rounds its floats to other bytes")


def _why_not_carried(moved: Array, scales: Array) -> str:
    if scales.ndim and scales.shape[-1] != 1:
        return f"one scale a row, got {scales.shape} of them"
    least, most = _BYTES.min, _BYTES.max
    if moved.size and (moved.min() < least or moved.max() > most):
        return f"integers from {least} to {most}, less their zero point, got some from {moved.min()} to {moved.max()}"
    wrong = scales[~(np.isfinite(scales) & (scales >= _TINY))]
    return f"scales of {_TINY:.4g} and more, got {wrong[0]:g}" if wrong.size else ""


def _matrices(names: Names) -> set[str]:
    return {name for part in names.values() for plain, name in part.items() if plain in MATRICES}


def _is_bytes(value: object) -> bool:
    return str(getattr(value, "dtype", "")) in ("int8", "torch.int8")


def _settle(asked: str | None, held: list[str], dtype: np.dtype[Any] | None) -> str | None:
    """The narrow precision of params, or None: as asked for, or as the given weights are held."""
    precision = asked or ("int8" if held else None)
    if held and precision not in OF_BYTES:
        why = "since weights are int8"
        cure = f"params of these weights with precision='int8' have .to({precision!r})"
        raise TypeError(f"precision: expected 'int8' or 'int8_fast', {why}, got {precision!r}; {cure}")
    if precision in FULL:
        if dtype is not None and dtype.name != precision:
            raise ValueError(f"precision: expected {dtype.name!r}, as dtype, or a narrow one, got {precision!r}")
        return None
    if precision is not None and dtype == np.float64:
        cure = "dtype='float32' converts the weights, and precision='float64' keeps them"
        raise ValueError(f"dtype: expected float32 with precision={precision!r}, got float64; {cure}")
    return precision


def _halved(name: str, array: Array) -> dict[str, Array]:
    """A matrix rounded to float16, ties to even; never twice, as by way of float32."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        halves = array.astype(np.float16, copy=False)  # not of a pickle, whose arrays are kept
    lost = np.isinf(halves) & np.isfinite(array)
    if lost.any():
        most, got = np.finfo(np.float16).max, np.abs(array[lost]).max()
        raise ValueError(f"{name}: expected numbers up to {most:g} for float16, got one of size {got:g}")
    return {name: halves}


def _quantized(name: str, array: Array) -> dict[str, Array]:
    """A matrix as bytes and a scale a row, which takes the row's largest number to 127."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        floats = array.astype(np.float32)
        if not np.isfinite(floats).all():
            got = "numbers beyond float32" if np.isfinite(array).all() else "NaN or infinity"
            raise ValueError(f"{name}: expected finite numbers for int8, got {got}")
        _check_columns(name, floats)
        scales = np.abs(floats).max(axis=1, initial=0) / _LARGEST
        scales[scales < _TINY] = 1
        floats /= scales[:, None]
    whole = np.rint(floats, out=floats).clip(-_LARGEST, _LARGEST).astype(np.int8)
    return {name: whole, name + SCALE: scales}


def _check_columns(name: str, array: Array) -> None:
    if array.ndim == 2 and array.shape[1] > _MOST_COLUMNS:
        raise ValueError(f"{name}: expected at most {_MOST_COLUMNS} columns of int8, got {array.shape[1]}")


def _check_bytes(name: str, value: object) -> Array:
    array = _check.converted(name, value)
    _check_columns(name, array)
    return array


def _check_scale(name: str, array: Array, scale: object) -> Array:
    whole = name + SCALE
    if scale is None:
        raise ValueError(f"weights: missing {whole!r}, since {name} is int8")
    scales = _check.converted(whole, scale)
    if scales.dtype != _FLOAT32 or scales.shape != array.shape[:1]:
        expected = f"float32 {array.shape[:1]}, a scale for each row of {name}"
        raise ValueError(f"{whole}: expected {expected}, got {scales.dtype} {scales.shape}")
    wrong = scales[~(np.isfinite(scales) & (scales >= _TINY))]
    if wrong.size:
        least = f", less than {_TINY:.4g}" if 0 < wrong[0] < 1 else ""
        raise ValueError(f"{whole}: expected positive finite numbers, got {wrong[0]:g}{least}")
    return scales


# From what params hold to other numbers.


def widened(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Held weights as float32, without scales."""
    plain, scales = split_scales(weights)
    floats = {name: array.astype(np.float32) for name, array in plain.items()}
    with np.errstate(over="ignore"):
        for name, scale in scales.items():
            floats[name] *= scale[:, None]
    return floats


def check_held(weights: Mapping[str, Any], held: Mapping[str, Array]) -> None:
    """Raise where weights that are to take the place of held narrow ones are not of their names, shapes and dtypes."""
    given = {
        name: _check.converted(name, value) if _is_bytes(value) else check_array(name, value, True)
        for name, value in split_scales(weights)[0].items()
    }
    check_alike(given, split_scales(held)[0], _FLOAT32)


def check_dtypes(weights: Mapping[str, Array], precision: str) -> None:
    """Raise where matrices of a file are not held as its precision says."""
    dtype = np.dtype(np.float16 if precision == "float16" else np.int8)
    for name, array in weights.items():
        match = WEIGHT_NAME.fullmatch(name)
        if match and match[1] in MATRICES and array.dtype != dtype:
            raise ValueError(f"{name}: expected {dtype}, since precision is {precision!r}, got {array.dtype}")


class Outlier(NamedTuple):
    """A row of a matrix that one scale serves badly."""

    name: str
    row: int
    ratio: float  # of its largest weight to the median of those that are not 0, by absolute value

    def __str__(self) -> str:
        return f"row {self.row} of {self.name} has a weight {self.ratio:.3g} times its median"


def outliers(weights: Mapping[str, Array]) -> list[Outlier]:
    """Rows of matrices that int8 would serve badly, or serves badly, worst first."""
    found = []
    for name, array in widened(weights).items():
        match = WEIGHT_NAME.fullmatch(name)
        if match and match[1] in MATRICES and array.size:
            sizes = np.abs(array)
            with np.errstate(invalid="ignore"):  # infinity by infinity
                ratios = sizes.max(axis=1) / _median_of_nonzero(sizes)
            found += [Outlier(name, int(row), float(ratios[row])) for row in np.flatnonzero(ratios > _MOST_RATIO)]
    return sorted(found, key=lambda outlier: -outlier.ratio)


def _median_of_nonzero(sizes: Array) -> Array:
    """Of each row; infinite where all are 0, and the lower one of two."""
    ordered = np.sort(sizes, axis=1)
    count = np.count_nonzero(sizes, axis=1)
    middle = np.minimum(sizes.shape[1] - count + np.maximum(count - 1, 0) // 2, sizes.shape[1] - 1)
    medians: Array = np.take_along_axis(ordered, middle[:, None], axis=1)[:, 0]
    return np.where(count > 0, medians, np.inf)
