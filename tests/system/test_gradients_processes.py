"""Gradients in processes and beside threads, and the memory that they take.

(a) A fork between a call and its way back, and one beside threads that are on theirs.
(b) Memory that stays flat, and tapes that are given back.
(c) Memory that the system refuses.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from support.apart import run_apart, succeed
from support.callers import Crowd
from support.cases import Case, assert_same_bits
from support.cells import CELLS
from support.gradients import There, arrays, random_like
from support.splits import ONE_THREAD, SPLITS

forks = pytest.mark.skipif(
    not hasattr(os, "fork") or "LD_PRELOAD" in os.environ,
    reason="no fork on this system, or a sanitizer whose locks a child of a process with threads inherits",
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# (a)


def prepare_all() -> list[Callable[[], None]]:
    """Ways back over tapes that are made here, each of which checks its bits."""
    checks = []
    for cell in CELLS:
        for split in (*SPLITS, *ONE_THREAD):
            params, x = (SPLITS | ONE_THREAD)[split].make(np.random.default_rng(7), cell)
            calls = [There(Case(cell, params.weights, x[:9]), params, threads=2, checkpoint=n) for n in (None, 4)]
            gradients = random_like(calls[0].results)
            expected = arrays(calls[0].back(gradients))
            for call in calls:
                checks.append(lambda call=call, g=gradients, e=expected: assert_same_bits(arrays(call.back(g)), e))
    return checks


def check_all(checks: list[Callable[[], None]]) -> None:
    for check in checks:
        check()


def in_child(work: Callable[[], None]) -> None:
    """Do this in a child of this process, and see that it succeeds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is tested here
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def fork_before_the_way_back() -> None:
    checks = prepare_all()
    in_child(lambda: check_all(checks))
    in_child(lambda: check_all(prepare_all()))
    check_all(checks)


def fork_during_ways_back() -> None:
    checks, over = prepare_all(), threading.Event()

    def work() -> None:
        while not over.is_set():
            check_all(checks)

    with Crowd([work] * 3):
        try:
            for _ in range(4):
                in_child(lambda: check_all(checks))
        finally:
            over.set()
    check_all(checks)


@forks
@pytest.mark.parametrize("function", [fork_before_the_way_back, fork_during_ways_back])
def test_fork(function: Callable[[], None]) -> None:
    run_apart(function)


# (b)


def test_memory_is_flat_over_training_steps(preload: str) -> None:
    """300 steps of each cell, with new params at each; some calls have no way back, some have several, some fail.

    Without what is kept for the next calls, the extension holds what it held before, to the byte; resident memory moves
    in pages that are partly free.
    """
    (line,) = succeed(
        """
    from fastrnn import _core
    from support.cells import CELLS, PARAMS
    from support.preloaded import held
    from support.usage import Usage

    x = rng.uniform(-1, 1, (40, 8, 20)).astype("f4")

    def train(steps):
        layers = {cell: PARAMS[cell](make_weights(rng, cell, (20, 48), layers=2)) for cell in CELLS}
        for step in range(steps):
            for cell, params in layers.items():
                (y, _), pullback = fastrnn.vjp(
                    x, params, lengths=np.arange(8) * 5, threads=1 + step % 2, checkpoint=None if step % 4 else 7
                )
                for times in range(step % 3):
                    gradients = pullback(dy=y)
                    moved = {name: w - np.float32(1e-4) * gradients.weights[name] for name, w in params.weights.items()}
                    layers[cell] = params.with_weights(moved)
                try:
                    pullback(dy=y[:1])
                except ValueError:
                    pass

    train(30)
    _core.release_pages()
    before, usage = held.value, Usage.now()
    train(300)
    _core.release_pages()
    print(held.value - before, Usage.now().rss - usage.rss, Usage.now().blocks - usage.blocks)
    """,
        LD_PRELOAD=preload,
    )
    held, resident, blocks = map(int, line.split())
    assert held == 0
    assert resident < 2 << 20  # of three tapes of 0.5 to 1 MB a step, 900 were made
    assert blocks < 300


@linux
def test_a_tape_is_given_back_with_its_pullback() -> None:
    """Resident memory grows by `nbytes` a tape. Pages that are given back are kept, and the next tapes take them."""
    (line,) = succeed(
        """
    from support.usage import Usage

    params = fastrnn.GRUParams(make_weights(rng, "gru", (64, 128)))
    x = rng.uniform(-1, 1, (500, 32, 64)).astype("f4")
    fastrnn.vjp(x[:2], params)[1]()
    before = Usage.now().rss
    pullbacks = [fastrnn.vjp(x, params, return_sequences=False)[1] for _ in range(3)]
    held = Usage.now().rss
    pullbacks[0](wrt=["state"])
    after = Usage.now().rss
    nbytes = pullbacks[0].nbytes
    pullbacks.clear()
    kept = Usage.now().rss
    pullbacks = [fastrnn.vjp(x, params, return_sequences=False)[1] for _ in range(3)]
    print(nbytes, held - before, after - held, kept - before, Usage.now().rss - kept)
    """
    )
    nbytes, held, added, kept, again = map(int, line.split())
    assert 2.5 * nbytes < held < 3.5 * nbytes
    assert added < nbytes / 2
    assert kept < held + added + nbytes / 2
    assert again < nbytes / 2


@linux
def test_kept_memory_makes_room() -> None:
    """However many small tapes were kept, steps of training find the pages of large ones again."""
    (line,) = succeed(
        """
    import resource

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize()

    params = fastrnn.GRUParams(make_weights(rng, "gru", (64, 128)))
    small = [fastrnn.vjp(np.zeros((1, 1, 64), "f4"), params)[1] for _ in range(40)]
    small.clear()
    x = rng.uniform(-1, 1, (300, 32, 64)).astype("f4")
    for step in range(8):
        before = faults()
        pullback = fastrnn.vjp(x, params, return_sequences=False)[1]
        pullback(wrt=["state"])
        nbytes = pullback.nbytes
        del pullback
    print(nbytes, faults() - before)
    """
    )
    nbytes, touched = map(int, line.split())
    assert touched < nbytes / 4


# (c)


def test_memory_that_is_refused(preload: str) -> None:
    """Each allocation of the extension in a call, its way back and a trace, in turn: MemoryError, and no leak."""
    lines = succeed(
        """
    from support.cells import CELLS, PARAMS
    from support.gradients import There, arrays, random_like
    from support.cases import Case
    from support.preloaded import held, mallocs, refused_mallocs

    x = rng.uniform(-1, 1, (40, 8, 20)).astype("f4")
    for cell in CELLS:
        case = Case(cell, make_weights(rng, cell, (20, 48), layers=2, directions=("", "_reverse")), x)
        gradients = random_like(case.run())
        for threads, checkpoint in ((1, None), (2, None), (1, 9)):
            def there_and_back():
                call = There(case, threads=threads, checkpoint=checkpoint)
                trace = fastrnn.trace(x, case.params()) if checkpoint is None else {}
                return (*call.results, *arrays(call.back(gradients)), *trace.values())

            expected, count = there_and_back(), mallocs.value
            there_and_back()
            count, before = mallocs.value - count, held.value
            errors = 0
            for first in range(1, count + 1):
                with refused_mallocs(first):
                    try:
                        assert_same_bits(there_and_back(), expected)
                    except MemoryError:
                        errors += 1
                assert held.value == before, (cell, threads, checkpoint, first, held.value - before)
            assert_same_bits(there_and_back(), expected)
            print(count, errors)
    """,
        LD_PRELOAD=preload,
    )
    for line in lines:
        count, errors = map(int, line.split())
        assert count >= errors >= 4  # a thread that can't be had is no error
