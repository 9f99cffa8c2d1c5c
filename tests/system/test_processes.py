"""Processes: forks after and during use, spawn, forkserver and executors; right bits in each, and no hang.

What forks runs in a process of its own: from Python 3.12 on a fork beside threads gives a warning, here an error.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastrnn
from support.apart import LIMIT, run_apart
from support.callers import Call, Crowd, check_some, prepare, prepare_all
from support.cases import assert_same_bits, flat
from support.usage import open_files, os_threads

forks = pytest.mark.skipif(
    not hasattr(os, "fork") or "LD_PRELOAD" in os.environ,
    reason="no fork on this system, or a sanitizer whose locks a child of a process with threads inherits",
)
LINUX = sys.platform == "linux"  # has /proc to count in
METHODS = multiprocessing.get_all_start_methods()


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is tested here
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LIMIT)  # ends a child that hangs: faulthandler watches the parent alone
    return child


def end_after(work: Callable[[], None]) -> None:
    """End a child, with status 0 if its work succeeds."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def in_child(work: Callable[[], None]) -> int:
    child = fork()
    if child == 0:
        end_after(work)
    return child


def ended_well(child: int) -> bool:
    return os.waitpid(child, 0)[1] == 0


def check_all(calls: list[Call]) -> None:
    for call in calls:
        for threads in (2, 1):
            call.check(threads)


def fork_after_use() -> None:
    """A child makes a pool of its own, and so does its child, while the parent goes on."""
    calls = prepare_all()
    check_all(calls)

    def work() -> None:
        assert not LINUX or os_threads() == 1
        grandchild = in_child(lambda: check_all(calls))
        check_all(calls)
        assert not LINUX or os_threads() == 2
        assert ended_well(grandchild)

    child = in_child(work)
    check_all(calls)
    assert ended_well(child)


@forks
def test_fork_after_use() -> None:
    run_apart(fork_after_use)


def callers_until(over: threading.Event, calls: list[Call]) -> list[Callable[[], None]]:
    def work(seed: int) -> None:
        while not over.is_set():
            check_some(calls, 1, seed)
            seed += 100

    return [lambda seed=seed: work(seed) for seed in range(6)]


def fork_during_use() -> None:
    """Forks from the main thread and from another one, at any moment of calls in more threads."""
    calls, over = prepare_all(), threading.Event()
    files = open_files() if LINUX else 0

    def fork_some() -> None:
        for i in range(8):
            time.sleep(3e-3 * i)
            assert ended_well(in_child(partial(check_all, calls[i % 4 :: 4])))

    with Crowd(callers_until(over, calls)):
        try:
            with Crowd([fork_some]):
                fork_some()
        finally:
            over.set()
    check_all(calls)
    assert not files or open_files() == files


@forks
def test_fork_during_use() -> None:
    run_apart(fork_during_use)


def multiprocessing_during_use() -> None:
    """The same through `multiprocessing`."""
    calls, over = prepare_all(), threading.Event()
    warnings.simplefilter("ignore", DeprecationWarning)
    context = multiprocessing.get_context("fork")
    with Crowd(callers_until(over, calls)):
        children = [context.Process(target=check_all, args=(calls[i::3],)) for i in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(LIMIT)
        over.set()
    assert [child.exitcode for child in children] == [0] * 3


@forks
def test_multiprocessing_during_use() -> None:
    run_apart(multiprocessing_during_use)


def fork_in_a_signal_handler() -> None:
    """A fork in the middle of a call: the child lacks the call's other threads; the parent's call goes on."""
    calls, children = prepare_all(), []

    def handler(*_: object) -> None:
        if len(children) < 3:
            children.append(in_child(lambda: check_all(calls)))

    signal.signal(signal.SIGALRM, handler)
    for call in calls[:4]:
        children.clear()
        x = np.broadcast_to(call.x[0], (300 * len(call.x), *call.x.shape[1:]))
        function = partial(getattr(fastrnn, call.cell), x, call.params, return_sequences=False)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.05)
        results = function(threads=2)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert children
        assert all(map(ended_well, children))
        assert_same_bits(flat(results), flat(function(threads=1)))


@forks
def test_fork_in_a_signal_handler() -> None:
    run_apart(fork_in_a_signal_handler)


def call_that_is_forked(call: Call, threads: int) -> tuple[int, Any, Any]:
    """The child's id, or 0 in the child; the call's results, or the message of its error; the right results."""
    x, children = np.broadcast_to(call.x[0], (150 * len(call.x), *call.x.shape[1:])), []
    function = partial(getattr(fastrnn, call.cell), x, call.params, return_sequences=False)
    expected, result = flat(function(threads=1)), None
    signal.signal(signal.SIGALRM, lambda *_: children.append(fork()))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        result = flat(function(threads=threads))
    except RuntimeError as error:
        result = str(error)
    return children[0], result, expected


def check_child(call: Call, threads: int, result: Any, expected: Any) -> None:
    if threads > 1 and isinstance(result, str):
        assert result.startswith("no result: this process was forked")
    else:
        assert_same_bits(result, expected)
    check_all([call])


def child_returns_from_the_handler() -> None:
    """In the child, a call of one thread goes on, and one of several is an error. The child can make other calls."""
    calls = prepare_all()
    for call, threads in [(call, threads) for call in calls[:4] for threads in (1, 2)]:
        child, result, expected = call_that_is_forked(call, threads)
        if child == 0:
            end_after(partial(check_child, call, threads, result, expected))
        assert_same_bits(result, expected)
        assert ended_well(child)


@forks
def test_child_returns_from_the_handler() -> None:
    run_apart(child_returns_from_the_handler)


def forked_while_another_has_the_pool() -> None:
    """A call of two layers: it has no threads while another call holds the pool, and has some in the child."""
    holder, call, over = prepare("lstm", "layers"), prepare("gru", "directions"), threading.Event()
    long = np.broadcast_to(holder.x[0], (100_000, *holder.x.shape[1:]))

    def hold() -> None:
        while not over.is_set():
            fastrnn.lstm(long, holder.params, threads=2, return_sequences=False)

    whole = 0
    with Crowd([hold]):
        for threads in (2, 4):
            time.sleep(0.02)
            child, result, expected = call_that_is_forked(call, threads)
            if child == 0:
                if isinstance(result, str):  # this call had the pool, between two calls of `hold`
                    os._exit(2)
                end_after(partial(assert_same_bits, result, expected))
            assert_same_bits(result, expected)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status in (0, 2)
            whole += status == 0
        over.set()
    assert whole


@forks
def test_forked_while_another_has_the_pool() -> None:
    run_apart(forked_while_another_has_the_pool)


def stream_of_another_thread() -> None:
    """A stream that was in a call at the fork is whole in the child after a reset; in the parent it goes on."""
    call = prepare("lstm", "units")
    x = np.broadcast_to(call.x[0], (6000, *call.x.shape[1:]))
    stream, results = fastrnn.Stream(call.params), []

    def child() -> None:
        for use in (lambda: stream.step(x[0]), lambda: stream.run(x[:2]), lambda: stream.state):
            with pytest.raises(RuntimeError, match="expected a whole state"):
                use()
        stream.reset()
        assert_same_bits((stream.run(call.x, threads=2),), call.expected[:1])

    with Crowd([lambda: results.append(stream.run(x, threads=2))]):
        time.sleep(0.05)
        with pytest.raises(RuntimeError, match="one call at a time"):
            stream.reset()
        assert ended_well(in_child(child))
    y, state = fastrnn.lstm(x, call.params)
    assert_same_bits((results[0], *stream.state), (y, *state))


@forks
def test_stream_of_another_thread() -> None:
    run_apart(stream_of_another_thread)


def pool_of_another_thread() -> None:
    """A pool that was in a call at the fork is refused in the child until all of it is reset."""
    call = prepare("lstm", "units")
    x = np.broadcast_to(call.x[0], (6000, *call.x.shape[1:])).swapaxes(0, 1)
    pool, results = fastrnn.StreamPool(call.params), []
    ids = [pool.open() for _ in range(x.shape[0])]
    unused = pool.open()

    def child() -> None:
        reset = partial(pool.reset, ids)
        for use in (lambda: pool.step(unused, x[0, 0]), pool.open, lambda: pool.state(unused), reset):
            with pytest.raises(RuntimeError, match=r"expected a whole state.*; reset\(\) makes it whole"):
                use()
        pool.reset()
        assert_same_bits((pool.run(ids, call.x.swapaxes(0, 1), threads=2).swapaxes(0, 1),), call.expected[:1])

    with Crowd([lambda: results.append(pool.run(ids, x, threads=2))]):
        time.sleep(0.05)
        with pytest.raises(RuntimeError, match="one call at a time"):
            pool.reset()
        assert ended_well(in_child(child))
    y, state = fastrnn.lstm(x, call.params, batch_first=True)
    assert_same_bits((results[0], *pool.state(ids)), (y, *state))


@forks
def test_pool_of_another_thread() -> None:
    run_apart(pool_of_another_thread)


kept: Any = None  # what the initializer of a worker process leaves for its jobs


def keep(*values: Any) -> None:
    global kept
    kept = values


def run_with_kept(x: np.ndarray) -> tuple[np.ndarray, ...]:
    call, stream = kept
    results = flat(fastrnn.lstm(x, call.params, threads=2))
    stream.reset()
    assert_same_bits((stream.run(x, threads=2),), results[:1])
    return results


def run_with(params: Any, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return flat(fastrnn.lstm(x, params, threads=2))


def pools() -> None:
    """Params and a stream as arguments of jobs and of initializers; after a call, so that forks find pool threads."""
    call = prepare("lstm", "units")
    call.check(threads=2)
    stream = fastrnn.Stream(call.params)
    inputs = [call.x, call.x[:7], call.x[::-1].copy()]
    expected = [flat(fastrnn.lstm(x, call.params, threads=1)) for x in inputs]
    method = sys.argv[1]
    if method == "fork":
        warnings.simplefilter("ignore", DeprecationWarning)
    context = multiprocessing.get_context(method)
    with context.Pool(2, initializer=keep, initargs=(call, stream)) as pool:
        results = pool.map_async(run_with_kept, inputs).get(LIMIT)
        results += pool.starmap_async(run_with, [(call.params, x) for x in inputs]).get(LIMIT)
        pool.close()
        pool.join()
    with ProcessPoolExecutor(1, mp_context=context, initializer=keep, initargs=(call, stream)) as executor:
        results += executor.map(run_with_kept, inputs, timeout=LIMIT)
        results += executor.map(run_with, [call.params] * 3, inputs, timeout=LIMIT)
    for got, wanted in zip(results, expected * 4, strict=True):
        assert_same_bits(got, wanted)


@pytest.mark.parametrize("method", METHODS)
def test_pools(method: str) -> None:
    run_apart(pools, method)
