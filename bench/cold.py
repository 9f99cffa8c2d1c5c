"""Fills the caches of the processors that a process may run on, so that what it computes with must come from memory."""

from __future__ import annotations

import os

import numpy as np

from bench.limits import MOST_MEMORY, cache_sizes


class Caches:
    """Holds a buffer twice as large as the last cache, but not above 512 MiB, and reads it."""

    def __init__(self) -> None:
        size = min(2 * cache_sizes(1)[-1][1], MOST_MEMORY)
        self.buffer = np.ones(size // 8, np.int64)  # written, else all its pages would be one page of zeros

    def fill(self) -> None:
        """Read the buffer on each processor in turn, since each has caches of its own."""
        if not hasattr(os, "sched_setaffinity"):
            self.buffer.max()
            return
        processors = os.sched_getaffinity(0)
        for processor in processors:
            if len(processors) > 1:
                os.sched_setaffinity(0, {processor})  # of this thread alone
            self.buffer.max()
        if len(processors) > 1:
            os.sched_setaffinity(0, processors)
