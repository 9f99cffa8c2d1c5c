"""Shared by all readers of files that may be hostile: which files are read, limits, and messages that stay short."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from fastrnn import _check
from fastrnn._arrays import Array

MOST_TEXT = 10_000  # characters of the JSON text: what params need is below 1000
_MOST_SAID = 200  # characters of an error of a library, which may quote what a file holds


class Entry(NamedTuple):
    """An array of a file, read when it is asked for."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]


Content = tuple[dict[str, Entry], str | None]


@contextmanager
def said_of(name: str, expected: str) -> Iterator[None]:
    """Make a library's error about a file's content a ValueError that names the file; errors of the system pass."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise ValueError(f"{name}: expected {expected}, got {short(error) or type(error).__name__}") from None


def short(said: object) -> str:
    """Text of a library or a file as a message shows it: one line, cut where it is long."""
    text = " ".join(str(said).split())
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}..."


def check_regular(name: str) -> None:
    """Refuse pipes, sockets and devices, which may have no end. For a folder the system has its own error."""
    mode = os.stat(name).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{name}: expected a regular file, got a pipe, a socket or a device")


def strict_json(text: str | bytes) -> Any:
    """JSON in which no name comes twice, which Python accepts; NaN and Infinity are refused with the options."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"{_check.shown(next(key for key in keys if keys.count(key) > 1))} twice")
        return found

    return json.loads(text, object_pairs_hook=unique)
