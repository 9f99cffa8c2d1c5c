"""c/fault_preload.c from within a process that it was loaded into: counts of the extension's memory, and refusals."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fastrnn import _core

_library = ctypes.CDLL(os.environ["LD_PRELOAD"])
MANY = 2**62


def _number(name: str) -> ctypes.c_long:
    return ctypes.c_long.in_dll(_library, name)


allocations, locks = _number("allocations"), _number("locks")
mallocs, held, peak = _number("extension_mallocs"), _number("extension_bytes"), _number("extension_peak")
threads_left = _number("threads_left")
signals, count_signal = _number("signals"), _library.count_signal  # a handler in C
_refuse_from, _refuse_until = _number("refuse_from"), _number("refuse_until")


def _watch_extension() -> None:
    """Say where the code of the extension lies; nothing that it allocated may be left from before."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        lines = [line.split() for line in maps if line.rstrip().endswith(os.path.realpath(_core.__file__))]
    spans = [[int(end, 16) for end in line[0].split("-")] for line in lines if "x" in line[1]]
    begin, end = min(span[0] for span in spans), max(span[1] for span in spans)
    _number("extension_begin").value = end  # never less than the end: all callers would seem to lie within
    _number("extension_end").value = end
    _number("extension_begin").value = begin


def peak_anew() -> None:
    """Let `peak` count from what is held now."""
    peak.value = held.value


@contextmanager
def refused_mallocs(first: int, count: int = 1) -> Iterator[None]:
    """Of the extension's mallocs within, refuse so many: from the `first` one on, which is 1."""
    _refuse_from.value = mallocs.value + first
    _refuse_until.value = min(_refuse_from.value + count, MANY)
    try:
        yield
    finally:
        _refuse_from.value = _refuse_until.value = 0


_watch_extension()
