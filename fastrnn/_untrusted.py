"""What every reader of files needs that may be made to harm: what is read at all, limits, and words that stay short."""

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
    """Whatever a library says of a file's content, as a ValueError that names the file; errors of the system pass."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise ValueError(f"{name}: expected {expected}, got {short(error) or type(error).__name__}") from None


def short(said: object) -> str:
    """What a message takes over from a library or a file: one line, and not the whole of a long one."""
    text = " ".join(str(said).split())
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}..."


def check_regular(name: str) -> None:
    """Refuse what reading might never end on; what is wrong with a folder, the system says."""
    mode = os.stat(name).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{name}: expected a regular file, got a pipe, a socket or a device")


def strict_json(text: str | bytes) -> Any:
    """JSON in which no name comes twice, which Python lets pass; NaN and Infinity no option lets pass."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"{_check.shown(next(key for key in keys if keys.count(key) > 1))} twice")
        return found

    return json.loads(text, object_pairs_hook=unique)
