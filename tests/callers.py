"""What tests of threads and processes call: layers of every split over threads, and bits that are known beforehand."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

import fastrnn
from cases import CELLS, PARAMS, assert_same_bits, flat, make_weights
from conftest import run_python
from test_plan import SPLITS

LIMIT = 110  # seconds, after which a process is taken to hang
OTHERS = {  # sizes as in SPLITS, of calls that take one thread
    "brief": ((5, 12), 1, 1, 1, 3),  # the interpreter lock is kept
    "small": ((5, 12), 1, 1, 1, 500),  # it is released, and all scratch is on the stack
}


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
    (inputs, hidden), layers, directions, rows, steps = (SPLITS | OTHERS)[split][:5]
    rng = np.random.default_rng(7)
    names = ("", "_reverse")[:directions]
    params = PARAMS[cell](make_weights(rng, cell, (inputs, hidden), layers=layers, directions=names))
    call = Call(cell, params, rng.uniform(-1, 1, (steps, rows, inputs)).astype("f4"), ())
    return call._replace(expected=call.run(threads=1))


def prepare_all() -> list[Call]:
    """Every split, and then the others, the cells in turns."""
    return [prepare(CELLS[i % len(CELLS)], split) for i, split in enumerate([*SPLITS, *OTHERS, *OTHERS])]


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


def os_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def run_apart(function: Callable[[], None], *arguments: str) -> None:
    """Run a function of a file of tests in a process of its own, which ends where it hangs, and says where."""
    watch = f"import faulthandler; faulthandler.dump_traceback_later({LIMIT}, exit=True)"
    result = run_python(f"{watch}\nimport {function.__module__} as tests\ntests.{function.__name__}()", *arguments)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
