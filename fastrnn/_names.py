"""Names of weights: PyTorch's, sorted into layers and directions, with errors for unknown and missing ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fastrnn import _check
from fastrnn._cells import WEIGHTS, Cell

WEIGHT_NAME = re.compile(rf"({'|'.join(WEIGHTS)})(?:_l(0|[1-9][0-9]{{0,8}})(_reverse)?)?", re.ASCII)
_SHOWN = 20  # names in a message
Names = dict[tuple[int, bool], dict[str, str]]


def _full_name(plain: str, layer: int, reverse: bool) -> str:
    return f"{plain}_l{layer}{'_reverse' if reverse else ''}"


def check_names(weights: Mapping[str, object], cell: Cell) -> Names:
    """{(layer, reverse): {plain name: the name that came}} for names that make a whole stack."""
    parts: Names = {}
    unknown = []
    for name in weights:
        match = WEIGHT_NAME.fullmatch(name) if isinstance(name, str) else None
        if match is None or match[1] not in cell.weights:
            unknown.append(name)
            continue
        part = parts.setdefault((int(match[2] or 0), bool(match[3])), {})
        if match[1] in part:
            raise ValueError(f"weights: expected {part[match[1]]!r} or {name!r}, which mean the same, got both")
        part[match[1]] = name
    if unknown:
        raise ValueError(f"weights: unknown {listed(unknown, lambda name: _describe_unknown(name, cell))}")
    directions = sorted({reverse for _, reverse in parts}) or [False]
    layers = range(len({layer for layer, _ in parts}) or 1)
    needed = [(layer, reverse) for layer in layers for reverse in directions]
    projection = ("weight_hr",) if any("weight_hr" in part for part in parts.values()) else ()
    missing = [
        _full_name(plain, *key)
        for key in needed
        for plain in (*cell.required, *projection)
        if plain not in parts.get(key, {})
    ]
    if missing:
        raise ValueError(f"weights: missing {listed(missing)}, got {listed([*weights]) or 'none'}")
    return {key: parts[key] for key in needed}


def listed(names: list[Any], show: Callable[[object], str] = _check.shown) -> str:
    """The first few of many names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(map(show, names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _describe_unknown(name: object, cell: Cell) -> str:
    import difflib  # for errors alone: importing fastrnn is faster without

    text = name if isinstance(name, str) and len(name) <= 100 else ""
    layers = sorted({0, *map(int, re.findall("[0-9]{1,9}", text))})
    suffixes = [f"_l{layer}{direction}" for layer in layers for direction in ("", "_reverse")]
    known = [plain + suffix for plain in cell.weights for suffix in suffixes]
    near = difflib.get_close_matches(text.lower(), known, n=1)
    return f"{_check.shown(name)} ({f'nearest known: {near[0]!r}' if near else f'known: such as {known[0]!r}'})"
