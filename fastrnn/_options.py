"""Options of params: activations, clip and dtype, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn import _check, _core
from fastrnn._cells import Cell

# Alpha and beta of the bare names that have them.
_ALPHA_BETA = {"hard_sigmoid": (1 / 6, 0.5), "linear": (1.0, 0.0)}


def check_option(cell: Cell, name: str, value: object) -> Any:
    """An option of a cell's params, in the form that they keep."""
    if name == "clip":
        return check_clip(value)
    if name in cell.flags or name == "batch_first":
        return _check.flag(name, value)
    return None if value is None and cell.activations[name] is None else check_activation(name, value)


def check_options(cell: Cell, options: Mapping[str, object]) -> dict[str, Any]:
    return {name: check_option(cell, name, value) for name, value in options.items()}


def check_activation(argument: str, value: object) -> tuple[str, float, float]:
    """A name, or a name with alpha and beta, as (name, alpha, beta)."""
    parts = value if isinstance(value, tuple) else (value,)
    if not parts or not isinstance(parts[0], str):
        raise TypeError(f"{argument}: expected a name or (name, alpha, beta), got {_check.shown(value)}")
    name = str(parts[0])
    if name not in _core.FUNCTIONS:
        meant = _check.meant(name, _core.FUNCTIONS)
        raise ValueError(f"{argument}: expected one of {', '.join(_core.FUNCTIONS)}, got {_check.shown(name)}{meant}")
    if not isinstance(value, tuple):
        return (name, *_ALPHA_BETA.get(name, (0.0, 0.0)))
    if name not in _ALPHA_BETA:
        raise ValueError(f"{argument}: expected {name!r} alone, which has no alpha and beta, got {_check.shown(value)}")
    if len(parts) != 3:
        raise ValueError(f"{argument}: expected a name or (name, alpha, beta), got {_check.shown(value)}")
    return name, _check_number(f"{argument} alpha", parts[1]), _check_number(f"{argument} beta", parts[2])


def _check_number(argument: str, value: object) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{argument}: expected a number, got {_check.shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not np.isfinite(number):
        raise ValueError(f"{argument}: expected a finite number, got {_check.shown(value)}")
    return number


def check_clip(value: object) -> float | None:
    if value is None:
        return None
    clip = _check_number("clip", value)
    if clip <= 0:
        raise ValueError(f"clip: expected a positive number or None, got {_check.shown(value)}")
    return clip


def check_dtype(value: object) -> np.dtype[Any] | None:
    if value is None:
        return None
    try:
        dtype: np.dtype[Any] = np.dtype(value)  # type: ignore[call-overload]
    except Exception:  # whatever a strange object does
        dtype = np.dtype(object)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"dtype: expected float32, float64 or None, got {_check.shown(value)}")
    return dtype


def check_range(options: dict[str, Any], dtype: np.dtype[Any]) -> None:
    """Raise where a number of the options is not one in the params' dtype."""
    least, most = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    for name, option in options.items():
        for number in option[1:] if isinstance(option, tuple) else ():
            if abs(number) > most:
                raise ValueError(f"{name}: expected numbers up to {most:g} ({dtype.name}), got {number:g}")
    clip = options["clip"]
    if clip is not None and not least <= clip <= most:
        raise ValueError(f"clip: expected from {least:g} to {most:g} ({dtype.name}), got {clip:g}")
