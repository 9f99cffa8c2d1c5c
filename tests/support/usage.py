"""What a process of Linux holds: memory, threads, open files."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Of the process: bytes of resident memory, blocks of memory of Python's objects, threads, open files."""

    rss: int
    blocks: int
    threads: int
    files: int

    @staticmethod
    def now() -> Usage:
        gc.collect()
        with suppress(AttributeError):  # glibc alone has it
            ctypes.CDLL(None).malloc_trim(0)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return Usage(resident, sys.getallocatedblocks(), os_threads(), open_files())

    def exceeds(self, early: Usage, limits: Usage) -> bool:
        return any(now - before > limit for now, before, limit in zip(self, early, limits, strict=True))

    def __str__(self) -> str:
        return f"{self.rss / 1e6:.1f} MB resident, {self.blocks} blocks, {self.threads} threads, {self.files} files"


def os_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
