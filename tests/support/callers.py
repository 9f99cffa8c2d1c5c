"""What tests of threads and processes call: layers of every split over threads, and bits that are known beforehand."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

import fastrnn
from support.apart import LIMIT
from support.cases import assert_same_bits, flat
from support.cells import CELLS
from support.splits import ONE_THREAD, SPLITS


class Call(NamedTuple):
    """A call that is ready to be made."""

    cell: str
    params: Any
    x: np.ndarray
    expected: tuple[np.ndarray, ...]

    def run(self, threads: int | None = None) -> tuple[np.ndarray, ...]:
        return flat(getattr(fastrnn, self.cell)(self.x, self.params, threads=threads))

    def check(self, threads: int | None = None) -> None:
        assert_same_bits(self.run(threads), self.expected)


def prepare(cell: str, split: str) -> Call:
    """A call whose bits are those of one thread."""
    call = Call(cell, *(SPLITS | ONE_THREAD)[split].make(np.random.default_rng(7), cell), ())
    return call._replace(expected=call.run(threads=1))


def prepare_all() -> list[Call]:
    """Every split, and then calls of one thread, each of them with the next cell."""
    names = zip(itertools.cycle(CELLS), [*SPLITS, *ONE_THREAD, *ONE_THREAD])
    return [prepare(cell, split) for cell, split in names]


def check_some(calls: list[Call], n: int, seed: int) -> None:
    """Some of them at random, with any number of threads."""
    choose = random.Random(seed)
    for _ in range(n):
        choose.choice(calls).check(choose.choice([None, 1, 2, 3, 8]))


class Crowd:
    """Threads that begin together. At the end of a block all have ended; what one raised is raised there."""

    def __init__(self, work: Iterable[Callable[[], None]]) -> None:
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(each,), daemon=True) for each in work]
        self._together = threading.Barrier(len(self.threads) + 1)

    def _run(self, work: Callable[[], None]) -> None:
        self._together.wait()
        try:
            work()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Crowd:
        for thread in self.threads:
            thread.start()
        self._together.wait()
        return self

    def __exit__(self, *unused: object) -> None:
        until = time.monotonic() + LIMIT
        for thread in self.threads:
            thread.join(max(until - time.monotonic(), 0))
        assert not any(thread.is_alive() for thread in self.threads), "threads hang"
        if self.errors:
            raise self.errors[0]
