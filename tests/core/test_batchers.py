"""Batchers for asyncio and for threads: outputs of many callers at once, cancellation, closing, limits, errors.

What runs together, and when, is tested in test_schedule.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import aio, batching
from fastrnn._schedule import Batch
from support.apart import run_python
from support.cases import assert_same_bits, make_weights

SMALL = fastrnn.LSTMParams(make_weights(np.random.default_rng(1), "lstm", (5, 8)))
LARGE = fastrnn.GRUParams(make_weights(np.random.default_rng(1), "gru", (300, 400)))  # batches leave the loop's thread
WORDS = fastrnn.LSTMParams(make_weights(np.random.default_rng(1), "lstm", (5, 8)), embedding="one-hot")
SIZES = pytest.mark.parametrize("params", [SMALL, LARGE, WORDS], ids=["small", "large", "words"])


def sequences(params: Any, n: int, steps: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    if params is WORDS:
        return rng.integers(0, params.input_size, (n, steps))
    return rng.uniform(-1, 1, (n, steps, params.input_size)).astype(np.float32)


def assert_all_right(params: Any, x: np.ndarray, ys: list[list[np.ndarray]]) -> None:
    for sequence, y in zip(x, ys, strict=True):
        assert_same_bits((np.array(y),), (fastrnn.run(sequence, params)[0],))


def in_loop(work: Callable[[aio.Batcher], Awaitable[Any]], params: Any = SMALL, **options: Any) -> Any:
    async def main() -> Any:
        async with aio.Batcher(params, **options) as batcher:
            return await asyncio.wait_for(work(batcher), 60)

    return asyncio.run(main())


# asyncio


@SIZES
@pytest.mark.parametrize("options", [{}, {"window": 1e-3}, {"max_batch": 3}, {"threads": 2, "window": 1e-4}])
def test_many_sessions(params: Any, options: dict[str, Any]) -> None:
    x = sequences(params, 20, 12)

    async def talk(batcher: aio.Batcher, sequence: np.ndarray) -> list[np.ndarray]:
        session, ys = await batcher.open(), []
        for row in sequence:
            if random.random() < 0.3:
                await asyncio.sleep(random.random() * 1e-3)
            ys.append(await batcher.step(session, row))
        batcher.close(session)
        return ys

    async def work(batcher: aio.Batcher) -> None:
        assert_all_right(params, x, await asyncio.gather(*(talk(batcher, sequence) for sequence in x)))
        counters = batcher.counters
        assert (counters.opened, counters.closed, len(batcher), batcher.waiting) == (20, 20, 0, 0)
        assert counters.batch_sizes.total == counters.waiting_seconds.count == 20 * 12
        assert counters.batch_sizes.most <= options.get("max_batch", 20)

    in_loop(work, params, **options)


@pytest.mark.parametrize(
    ("token", "error", "said"),
    [
        (5, ValueError, "x: expected tokens from 0 to 4, the rows of the embedding, got 5"),
        (-1, ValueError, "x: expected tokens from 0 to 4, the rows of the embedding, got -1"),
        (2**70, ValueError, "x: expected tokens from 0 to 4"),
        (True, TypeError, "x: expected one token, an integer, since the params have an embedding, got True"),
        (np.zeros(5, "float32"), TypeError, r"x: expected one token, .*, got an array \(5,\) of float32"),
        (np.array([1]), TypeError, r"x: expected one token, .*, got an array \(1,\) of int64"),
    ],
)
def test_a_wrong_token_is_its_own_callers_error(token: Any, error: type[Exception], said: str) -> None:
    async def work(batcher: aio.Batcher) -> None:
        a, b = await batcher.open(), await batcher.open()
        wrong, right = batcher.step(a, token), batcher.step(b, np.int32(3))
        outcomes = await asyncio.gather(wrong, right, return_exceptions=True)
        with pytest.raises(error, match=said):
            raise outcomes[0]
        assert_same_bits((outcomes[1],), (fastrnn.lstm(np.array([3]), WORDS)[0][0],))

    in_loop(work, WORDS)


def test_what_the_loop_has_ready_runs_together() -> None:
    x = sequences(SMALL, 30, 1)[:, 0]

    async def work(batcher: aio.Batcher) -> None:
        sessions = [await batcher.open() for _ in x]
        idle = await batcher.open()
        for _ in range(3):
            await asyncio.gather(*map(batcher.step, sessions, x))
        assert batcher.counters.batch_sizes.count == 3
        assert idle.is_open

    in_loop(work)


@SIZES
def test_steps_of_a_session_keep_their_order(params: Any) -> None:
    x = sequences(params, 1, 10)[0]

    async def work(batcher: aio.Batcher) -> None:
        session = await batcher.open()
        ys = await asyncio.gather(*(batcher.step(session, row) for row in x))
        assert_all_right(params, x[None], [ys])

    in_loop(work, params)


@SIZES
def test_cancelled_steps(params: Any) -> None:
    """One that waits has not moved its session; one that has begun has, and the others of its batch are right."""
    x = sequences(params, 2, 3)

    async def work(batcher: aio.Batcher) -> None:
        sessions = [await batcher.open() for _ in range(3)]
        waiting = asyncio.ensure_future(batcher.step(sessions[0], x[0, 0]))
        other = asyncio.ensure_future(batcher.step(sessions[1], x[1, 0]))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        ys = [[], [await other]]
        assert batcher.counters.dropped == 1
        for t in range(3):
            ys[0].append(await batcher.step(sessions[0], x[0, t]))
        for t in range(1, 3):
            ys[1].append(await batcher.step(sessions[1], x[1, t]))
        assert_all_right(params, x, ys)

    in_loop(work, params, window=1e-2)


@SIZES
def test_submitted_steps(params: Any) -> None:
    """Futures of steps in their order, of which some are cancelled: those have not moved the session."""
    x = sequences(params, 1, 9)[0]

    async def work(batcher: aio.Batcher) -> None:
        session, other = await batcher.open(), await batcher.open()
        futures = [batcher.submit(session, row) for row in x]
        assert all(future.cancel() for future in futures[::3])
        ys = [await future for i, future in enumerate(futures) if i % 3]
        assert_all_right(params, x[None, [i for i in range(9) if i % 3]], [ys])
        assert (batcher.waiting, batcher.counters.dropped) == (0, 3)
        last = batcher.submit(other, x[0])
        batcher.close(other)
        with pytest.raises(aio.SessionClosedError):
            await last

    in_loop(work, params)


@SIZES
def test_a_caller_that_gives_up_leaves_the_others(params: Any) -> None:
    x = sequences(params, 20, 1)[:, 0]

    async def work(batcher: aio.Batcher) -> None:
        sessions = [await batcher.open() for _ in x]
        for _ in range(3):
            tasks = [asyncio.ensure_future(batcher.step(*each)) for each in zip(sessions, x)]
            for _ in range(random.randrange(4)):
                await asyncio.sleep(random.choice([0, 1e-4]))
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        expected = fastrnn.Stream(params, len(x))
        for _ in range(3):
            last = expected.step(x)
        got = np.array([tasks[i].result() for i in range(1, len(x), 2)])
        assert_same_bits((got,), (last[1::2],))
        assert batcher.waiting == 0

    in_loop(work, params)


def test_closed_sessions() -> None:
    x = sequences(SMALL, 2, 1)[:, 0]

    async def work(batcher: aio.Batcher) -> None:
        a, b, _ = [await batcher.open() for _ in range(3)]
        tasks = [asyncio.ensure_future(batcher.step(*each)) for each in ((a, x[0]), (b, x[1]), (a, x[0]))]
        await asyncio.sleep(0)
        batcher.close(a)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in results] == [aio.SessionClosedError, np.ndarray, aio.SessionClosedError]
        assert_same_bits((results[1],), (fastrnn.Stream(SMALL).step(x[1]),))
        with pytest.raises(aio.SessionClosedError):
            await batcher.step(a, x[0])

    in_loop(work, window=1e-2)


def test_idle_sessions_expire() -> None:
    async def work(batcher: aio.Batcher) -> None:
        a, b = await batcher.open(), await batcher.open()
        x = sequences(SMALL, 1, 1)[0, 0]
        for _ in range(12):
            await batcher.step(a, x)
            await asyncio.sleep(0.02)
        assert a.is_open
        assert not b.is_open
        with pytest.raises(aio.SessionExpiredError, match=r"idle for 0\.1 s"):
            await batcher.step(b, x)
        assert batcher.counters.expired == 1

    in_loop(work, expire=0.1)


def test_steps_beyond_a_limit_are_refused() -> None:
    x = sequences(SMALL, 1, 4)[0]

    async def work(batcher: aio.Batcher) -> None:
        a, b, _ = [await batcher.open() for _ in range(3)]
        steps = [(a, x[0]), (a, x[1]), (a, x[2]), (b, x[0]), (b, x[1])]
        results = await asyncio.gather(*(batcher.step(*each) for each in steps), return_exceptions=True)
        assert [type(each).__name__ for each in results] == ["ndarray"] * 2 + [
            "OverloadedError",
            "ndarray",
            "OverloadedError",
        ]
        assert batcher.counters.refused == 2
        assert_all_right(SMALL, x[None, :2], [results[:2]])

    in_loop(work, window=1e-3, max_waiting=3, max_waiting_per_session=2)


@SIZES
def test_states(params: Any) -> None:
    """Read and set while batches are at work, and moved to another batcher."""
    x = sequences(params, 8, 6)

    async def talk(batcher: aio.Batcher, other: aio.Batcher, sequence: np.ndarray) -> list[np.ndarray]:
        session = await batcher.open()
        ys = [await batcher.step(session, row) for row in sequence[:2]]
        moved = await other.open(await batcher.state(session))
        ys += [await other.step(moved, row) for row in sequence[2:4]]
        await batcher.set_state(session, await other.state(moved))
        return ys + [await batcher.step(session, row) for row in sequence[4:]]

    async def work(batcher: aio.Batcher) -> None:
        async with aio.Batcher(params) as other:
            assert_all_right(params, x, await asyncio.gather(*(talk(batcher, other, each) for each in x)))
            with pytest.raises(ValueError, match=r"^session: expected one of this batcher, got another one's"):
                await batcher.state(await other.open())
            with pytest.raises((TypeError, ValueError), match=r"^state"):
                await batcher.open(0)

    in_loop(work, params)


@SIZES
def test_an_error_of_a_batch(params: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is that of all its steps, and the next batch is right."""
    x = sequences(params, 2, 1)[:, 0]

    async def work(batcher: aio.Batcher) -> None:
        sessions = [await batcher.open() for _ in x]
        with monkeypatch.context() as patch:
            patch.setattr(type(batcher._schedule.pool), "step", refuse, raising=False)
            results = await asyncio.gather(*map(batcher.step, sessions, x), return_exceptions=True)
            assert [type(each) for each in results] == [MemoryError] * 2
        ys = await asyncio.gather(*map(batcher.step, sessions, x))
        assert_same_bits((np.array(ys),), (fastrnn.Stream(params, 2).step(x),))
        assert batcher.counters.failed == 2

    in_loop(work, params)


def refuse(*unused: Any, **unused_too: Any) -> Any:
    raise MemoryError("no memory")


def test_a_closed_batcher() -> None:
    async def main() -> None:
        batcher, x = aio.Batcher(SMALL, window=10), sequences(SMALL, 1, 1)[0, 0]
        a, _ = await batcher.open(), await batcher.open()
        step = asyncio.ensure_future(batcher.step(a, x))
        await asyncio.sleep(0)
        await batcher.aclose()
        with pytest.raises(aio.SessionClosedError):
            await step
        with pytest.raises(aio.SessionClosedError):
            await batcher.step(a, x)
        batcher.close(a)
        await batcher.aclose()
        for use in (batcher.open, batcher.__aenter__):
            with pytest.raises(RuntimeError, match=r"^batcher: expected an open one, got a closed one$"):
                await use()

    asyncio.run(main())


def test_outside_of_a_loop() -> None:
    batcher = aio.Batcher(SMALL)
    session = asyncio.run(batcher.open())
    with pytest.raises(
        RuntimeError, match=r"^batcher: expected a call in its event loop, got one outside of it; loop\."
    ):
        batcher.submit(session, sequences(SMALL, 1, 1)[0, 0])


def slow(batcher: aio.Batcher, monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[str]:
    """Has each batch take so long; the threads that batches run in."""
    threads, outcome = list[str](), Batch.outcome

    def slowly(batch: Batch[Any]) -> Any:
        threads.append(threading.current_thread().name)
        time.sleep(seconds)
        return outcome(batch)

    monkeypatch.setattr(Batch, "outcome", slowly)
    return threads


def test_batches_that_are_expected_to_be_long_leave_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sequences(SMALL, 1, 1)[0, 0]

    async def work(batcher: aio.Batcher) -> None:
        threads, session = slow(batcher, monkeypatch, 0), await batcher.open()
        for seconds, is_short in ((1e-6, True), (1.0, False), (1e-6, True)):
            batcher._schedule._seconds = {1: seconds}
            await batcher.step(session, x)
            assert (threads[-1] == "MainThread") == is_short

    in_loop(work)


def test_sessions_expire_while_batches_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer of expiry finds every session at work, and is set again."""
    x = sequences(SMALL, 1, 1)[0, 0]

    async def work(batcher: aio.Batcher) -> None:
        slow(batcher, monkeypatch, 5e-3)
        session = await batcher.open()
        until = asyncio.get_running_loop().time() + 0.15
        while asyncio.get_running_loop().time() < until:
            await batcher.step(session, x)
        while session.is_open:
            await asyncio.sleep(1e-2)  # for a minute at most
        assert batcher.counters.expired == 1

    in_loop(work, expire=0.05)


def test_a_cancelled_open_leaves_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sequences(SMALL, 1, 1)[0, 0]

    async def work(batcher: aio.Batcher) -> None:
        slow(batcher, monkeypatch, 5e-3)
        session = await batcher.open()
        for _ in range(3):
            step = batcher.submit(session, x)
            while not batcher._schedule.is_at_work and not step.done():
                await asyncio.sleep(0)
            opening = asyncio.ensure_future(batcher.open())
            step.add_done_callback(lambda _, opening=opening: opening.cancel())
            await asyncio.gather(step, opening, return_exceptions=True)
            assert len(batcher) == 1 + (not opening.cancelled())
            if not opening.cancelled():
                batcher.close(opening.result())

    in_loop(work)


def test_a_session_expires_whose_step_was_cancelled_as_its_batch_began() -> None:
    x = sequences(SMALL, 1, 1)[0, 0]

    async def work(batcher: aio.Batcher) -> None:
        session = await batcher.open()
        assert batcher._expiry
        batcher._expiry.cancel()
        batcher._expiry = None  # as if it had found the session with a step
        batcher.submit(session, x).cancel()
        while session.is_open:
            await asyncio.sleep(1e-3)

    in_loop(work, expire=0.01)


def test_a_cancelled_step_lets_the_next_be_in_time() -> None:
    x = sequences(SMALL, 1, 1)[0, 0]

    async def work(batcher: aio.Batcher) -> None:
        session, _ = await batcher.open(), await batcher.open()
        first, second = batcher.submit(session, x), batcher.submit(session, x, deadline=0.05)
        first.cancel()
        await second  # and not after the window, when `in_loop` has given up

    in_loop(work, window=1000)


def test_no_thread_for_a_long_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sequences(SMALL, 2, 1)[:, 0]

    async def work(batcher: aio.Batcher) -> None:
        a, b = await batcher.open(), await batcher.open()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "run_in_executor", no_thread)
            with pytest.raises(RuntimeError, match="no thread"):
                await asyncio.gather(batcher.step(a, x[0]), batcher.step(b, x[1]))
        y = await asyncio.gather(batcher.step(a, x[0]), batcher.step(b, x[1]))
        assert_same_bits((np.array(y),), (fastrnn.Stream(SMALL, 2).step(x),))

    in_loop(work)


def no_thread(*unused: Any) -> Any:
    raise RuntimeError("can't start new thread: no thread")


def test_another_loop() -> None:
    batcher = aio.Batcher(SMALL)
    asyncio.run(open_in(batcher))
    with pytest.raises(RuntimeError, match=r"^batcher: expected the event loop that used it first, got another one$"):
        asyncio.run(open_in(batcher))


async def open_in(batcher: aio.Batcher) -> None:
    await batcher.open()


# threads


def run_threads(work: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def guarded(each: Callable[[], None]) -> None:
        try:
            each()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(each,), daemon=True) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads)


@SIZES
@pytest.mark.parametrize("options", [{}, {"window": 1e-3}, {"max_batch": 3}])
def test_many_threads(params: Any, options: dict[str, Any]) -> None:
    x = sequences(params, 12, 12)
    ys: list[list[np.ndarray]] = [[] for _ in x]
    with batching.Batcher(params, **options) as batcher:

        def talk(i: int) -> None:
            session = batcher.open()
            for t, row in enumerate(x[i]):
                if t == 5:
                    batcher.set_state(session, batcher.state(session))
                ys[i].append(batcher.step(session, row))
            batcher.close(session)

        run_threads([lambda i=i: talk(i) for i in range(len(x))])  # type: ignore[misc]
        assert len(batcher) == batcher.waiting == 0
        assert batcher.counters.batch_sizes.total == 12 * 12
    assert_all_right(params, x, ys)


@SIZES
def test_futures(params: Any) -> None:
    x = sequences(params, 1, 10)[0]
    with batching.Batcher(params) as batcher:
        session = batcher.open()
        futures = [batcher.submit(session, row) for row in x]
        assert_all_right(params, x[None], [[future.result(60) for future in futures]])


@SIZES
def test_cancelled_futures(params: Any) -> None:
    """A cancelled one has not moved its session, whenever it was cancelled."""
    x = sequences(params, 1, 60)[0]
    with batching.Batcher(params, max_waiting_per_session=100) as batcher:
        session = batcher.open()
        batcher.open()
        futures = [batcher.submit(session, row) for row in x]
        cancelled = [future.cancel() for future in futures[::-3]][::-1]
        kept, ys = [], []
        for i, future in enumerate(futures):
            with suppress(CancelledError):
                ys.append(future.result(60))
                kept.append(i)
        assert len(x) - len(kept) == sum(cancelled)
        assert_all_right(params, x[None, kept], [ys])


def test_threads_close_and_expire_and_refuse() -> None:
    x = sequences(SMALL, 1, 1)[0, 0]
    with batching.Batcher(SMALL, window=0.05, expire=0.3, max_waiting_per_session=1) as batcher:
        a, b, c = (batcher.open() for _ in range(3))
        future = batcher.submit(a, x)
        with pytest.raises(batching.OverloadedError):
            batcher.submit(a, x)
        kept = batcher.submit(b, x)
        batcher.close(a)
        with pytest.raises(batching.SessionClosedError):
            future.result(60)
        assert_same_bits((kept.result(60),), (fastrnn.Stream(SMALL).step(x),))
        until = time.monotonic() + 20
        while c.is_open and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(batching.SessionExpiredError):
            batcher.step(c, x)


def test_an_error_of_a_batch_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sequences(SMALL, 1, 1)[0, 0]
    with batching.Batcher(SMALL) as batcher:
        a = batcher.open()
        with monkeypatch.context() as patch:
            patch.setattr(fastrnn.StreamPool, "step", refuse, raising=False)
            with pytest.raises(MemoryError, match=r"^no memory$"):
                batcher.step(a, x)
        assert_same_bits((batcher.step(a, x),), (fastrnn.Stream(SMALL).step(x),))


def test_shutdown() -> None:
    batcher, x = batching.Batcher(SMALL, window=10), sequences(SMALL, 1, 1)[0, 0]
    a, _ = batcher.open(), batcher.open()
    future = batcher.submit(a, x)
    batcher.shutdown()
    with pytest.raises(batching.SessionClosedError):
        future.result(60)
    with pytest.raises(batching.SessionClosedError):
        batcher.step(a, x)
    batcher.close(a)
    for use in (batcher.open, lambda: batcher.state(a)):
        with pytest.raises(RuntimeError, match=r"^batcher: expected an open one, got one that is shut down$"):
            use()
    batcher.shutdown()
    assert not any(thread.name == "fastrnn batcher" for thread in threading.enumerate())


def test_a_step_in_the_batchers_own_thread() -> None:
    x, raised = sequences(SMALL, 1, 1)[0, 0], list[Exception]()
    with batching.Batcher(SMALL) as batcher:
        session, done = batcher.open(), threading.Event()

        def step_again(_: Any) -> None:
            try:
                batcher.step(session, x)
            except RuntimeError as error:
                raised.append(error)
            done.set()

        while not raised:  # a future that is done already calls back in this thread
            batcher.submit(session, x).add_done_callback(step_again)
            assert done.wait(60)
        assert str(raised[0]).startswith("step: expected another thread than the batcher's own")


def test_no_thread_for_a_batcher(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sequences(SMALL, 1, 1)[0, 0]
    with batching.Batcher(SMALL) as batcher:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError, match="no thread"):
                batcher.open()
            assert len(batcher) == batcher.waiting == 0
        assert_same_bits((batcher.step(batcher.open(), x),), (fastrnn.lstm(x[None], SMALL)[0][0],))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_is_noticed() -> None:
    code = """if True:
        import os, warnings, numpy as np, fastrnn, fastrnn.batching
        warnings.simplefilter("ignore")
        params = fastrnn.RNNParams({"weight_ih": np.ones((2, 1)), "weight_hh": np.ones((2, 2))})
        batcher = fastrnn.batching.Batcher(params)
        a = batcher.open()
        batcher.step(a, np.ones(1))
        with batcher._changed:  # as another thread may have it
            child = os.fork()
        if not child:
            with batcher:
                for use in (batcher.open, lambda: batcher.step(a, np.ones(1)), lambda: batcher.close(a)):
                    try:
                        use()
                    except RuntimeError as error:
                        print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(batcher.step(a, np.ones(1)).shape)"""
    result = run_python(code)
    expected = "batcher: expected the process that made it, got one that was forked from it\n" * 3 + "(2,)\n"
    assert result.stdout == expected, result.stderr


def test_an_idle_batcher_does_not_keep_a_process() -> None:
    code = """if True:
        import numpy as np, fastrnn, fastrnn.batching
        params = fastrnn.RNNParams({"weight_ih": np.ones((2, 1)), "weight_hh": np.ones((2, 2))})
        batcher = fastrnn.batching.Batcher(params, expire=1000)
        print(batcher.step(batcher.open(), np.ones(1)).shape)"""
    assert run_python(code).stdout == "(2,)\n"
