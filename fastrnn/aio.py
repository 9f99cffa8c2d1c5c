"""Steps of many sessions run together, for asyncio; batching.py has the same for threads."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrnn._schedule import (
    Batch,
    BatcherBase,
    OverloadedError,
    Schedule,
    Session,
    SessionClosedError,
    SessionExpiredError,
    Step,
    answer,
)
from fastrnn.params import AnyParams

__all__ = ["Batcher", "OverloadedError", "Session", "SessionClosedError", "SessionExpiredError"]

Array = NDArray[Any]
Future = asyncio.Future[Any]
T = TypeVar("T")


class Batcher(BatcherBase[Future]):
    """Runs steps of sessions together that wait at the same time: ``y = await batcher.step(session, x)``.

    A session is a stream of its own, with the bits that it has alone. Steps that wait run as a batch when `max_batch`
    of them wait, when the oldest has waited for `window`, when one would miss its deadline otherwise, or when every
    open session has one. The oldest run first.

    Parameters
    ----------
    params : RNNParams, LSTMParams or GRUParams
        Weights of layers that run forward.
    max_batch : int
        Steps at most that run together.
    window : float
        Seconds that a step waits for company. With 0, what the loop has ready at the same time runs together, and what
        comes while a batch runs.
    max_waiting, max_waiting_per_session : int
        Steps at most that wait, of all sessions and of one. A further one is refused with `OverloadedError`.
    expire : float, optional
        Seconds after which a session without steps is closed; never if not given. Its next step raises
        `SessionExpiredError`.
    threads : int or None
        Threads at most that share a batch; None: those of `get_num_threads`.

    Raises
    ------
    TypeError
        An argument of a wrong type or dtype, here or in a method.
    ValueError
        An argument of a wrong shape, layout or value; a session of another batcher.
    MemoryError
        Memory for a session or a batch can't be had.

    Notes
    -----
    One event loop uses a batcher. A batch that is expected to take at most `sys.getswitchinterval()`, 5 ms, runs in the
    loop's thread: a busy loop would let another thread wait for the interpreter for as long. A longer one runs in a
    thread of its own, while the loop goes on.

    Cancelling a step that waits takes it back: its session has not moved. One that has begun moves its session, and its
    output is lost. An error of a batch is that of each of its steps, and no session has moved.

    Examples
    --------
    >>> import asyncio, numpy as np, fastrnn, fastrnn.aio
    >>> weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> async def talk(batcher):
    ...     session = await batcher.open()
    ...     for _ in range(3):
    ...         y = await batcher.step(session, np.full(3, 0.1))
    ...     batcher.close(session)
    ...     return y
    >>> async def main():
    ...     async with fastrnn.aio.Batcher(fastrnn.LSTMParams(weights)) as batcher:
    ...         ys = await asyncio.gather(*(talk(batcher) for _ in range(4)))
    ...         return ys, batcher.counters
    >>> ys, counters = asyncio.run(main())
    >>> print(ys[3].round(4))
    [0.1771 0.1771]
    >>> counters.opened, counters.batch_sizes.total
    (4, 12.0)
    """

    def __init__(
        self,
        params: AnyParams,
        *,
        max_batch: int = 256,
        window: float = 0.0,
        max_waiting: int = 4096,
        max_waiting_per_session: int = 16,
        expire: float | None = None,
        threads: int | None = 1,
    ) -> None:
        self._schedule: Schedule[Future] = Schedule(
            params,
            max_batch=max_batch,
            window=window,
            max_waiting=max_waiting,
            max_waiting_per_session=max_waiting_per_session,
            expire=expire,
            threads=threads,
        )
        self._params = params
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None  # that begins a batch
        self._timer_at = np.inf
        self._expiry: asyncio.TimerHandle | None = None
        self._between: deque[tuple[Callable[[], Any], Future]] = deque()  # what waits for the pool
        self._executor: ThreadPoolExecutor | None = None
        self._is_closed = False

    async def open(self, state: Any = None) -> Session:
        """Open a session.

        Parameters
        ----------
        state : ndarray, or for an LSTM a tuple of two, optional
            Its state, as `StreamPool.open` takes it; zeros if not given.
        """
        loop, opened = self._get_loop(), list[Session]()
        try:
            await self._when_idle(lambda: opened.append(self._schedule.open(loop.time(), state)))
        except asyncio.CancelledError:
            for session in opened:
                self.close(session)
            raise
        self._arrange_expiry()
        return opened[0]

    def close(self, session: Session) -> None:
        """Close a session: its steps that wait raise `SessionClosedError`. One that has ended stays as it is."""
        if self._schedule.is_open(session):
            loop = self._get_loop()
            self._refuse(session, self._schedule.close(session))
            self._arrange(loop.time())

    async def state(self, session: Session) -> Any:
        """A copy of a session's state, as `open` takes it, after the steps that have run."""
        return await self._when_idle(lambda: self._schedule.state(session))

    async def set_state(self, session: Session, state: Any) -> None:
        """Set the state of a session, which steps that still wait start from; None: zeros."""
        await self._when_idle(lambda: self._schedule.set_state(session, state))

    async def step(self, session: Session, x: Array | int, deadline: float | None = None) -> Array:
        """Take one step of a session.

        Parameters
        ----------
        session : Session
            An open one. Its steps run in the order in which they are called.
        x : (I,) ndarray, or int
            Input, of the params' dtype. It is copied. Where the params have an embedding: one token, an integer.
        deadline : float, optional
            Seconds from now in which the step is to end. A batch begins early for it. A step that is late runs all
            the same, since its session would be wrong without it, and is counted in ``counters.missed``.

        Returns
        -------
        y : (H,) ndarray
            Output of the last layer, (P,) with a projection: a row of the array of its batch.

        Raises
        ------
        SessionClosedError, SessionExpiredError
            The session is closed, or was idle for too long.
        OverloadedError
            As many steps wait as may. Nothing has moved.
        """
        step = self._add(session, x, deadline)
        try:
            y: Array = await step.caller
            return y
        finally:
            self._take_back(step)

    def submit(self, session: Session, x: Array | int, deadline: float | None = None) -> Future:
        """A step that runs as soon as its turn comes, for programs of callbacks: it takes no task.

        Parameters
        ----------
        session, x, deadline
            As `step` takes them.

        Returns
        -------
        future : asyncio.Future
            Of the output. Its `cancel` takes back a step that waits.
        """
        step = self._add(session, x, deadline)
        step.caller.add_done_callback(lambda _: self._take_back(step))
        return step.caller

    async def aclose(self) -> None:
        """Close all sessions, after the batch that is at work. Once more does nothing."""
        if self._is_closed:
            return
        await self._when_idle(lambda: None)
        for session in [*self._schedule.sessions.values()]:
            self._refuse(session, self._schedule.close(session))
        self._is_closed = True
        for handle in (self._timer, self._expiry):
            if handle:
                handle.cancel()
        if self._executor:
            self._executor.shutdown(wait=False)

    async def __aenter__(self) -> Batcher:
        await self._when_idle(lambda: None)
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.aclose()

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            cure = "loop.call_soon_threadsafe() takes a function there, and fastrnn.batching.Batcher is for threads"
            raise RuntimeError(f"batcher: expected a call in its event loop, got one outside of it; {cure}") from None
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError("batcher: expected the event loop that used it first, got another one")
        return loop

    def _add(self, session: Session, x: Array | int, deadline: float | None) -> Step[Future]:
        loop = self._get_loop()
        now = loop.time()
        step = self._schedule.add(now, session, x, deadline, loop.create_future())
        self._arrange(now)
        return step

    def _take_back(self, step: Step[Future]) -> None:
        """If it was cancelled and has not begun."""
        if step.caller.cancelled() and self._loop and self._schedule.drop(step, self._loop.time()):
            self._arrange(self._loop.time())
            self._arrange_expiry()

    async def _when_idle(self, use: Callable[[], T]) -> T:
        """What needs the pool: now, or as soon as the batch that is at work is back."""
        loop = self._get_loop()
        if self._is_closed:
            raise RuntimeError("batcher: expected an open one, got a closed one")
        if not self._schedule.is_at_work:
            return use()
        future = loop.create_future()
        self._between.append((use, future))
        result: T = await future
        return result

    def _refuse(self, session: Session, futures: list[Future]) -> None:
        for future in futures:
            if not future.done():
                future.set_exception(self._schedule.ended(session))

    def _arrange(self, now: float) -> None:
        """Sees to it that the next batch begins when it is due."""
        due = self._schedule.due(now)
        if due is None or self._timer_at <= due or self._loop is None:
            return  # a timer that is early arranges anew
        if self._timer:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_soon(self._begin) if due <= now else self._loop.call_at(due, self._begin)

    def _begin(self) -> None:
        """Runs a batch if one is due."""
        assert self._loop is not None
        self._timer, self._timer_at, now = None, np.inf, self._loop.time()
        due = self._schedule.due(now)
        if due is None or due > now:
            self._arrange(now)
            return
        # A thread that is done waits for the interpreter for so long, where the loop is busy.
        is_long = self._schedule.expected_seconds(unknown=np.inf) > sys.getswitchinterval()
        batch = self._schedule.take(now, lambda future: not future.done())
        if batch is None:
            self._arrange_expiry()
            return
        if not is_long:
            self._end(batch, batch.outcome())
            return
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "fastrnn")
        try:
            running = self._loop.run_in_executor(self._executor, batch.outcome)
        except RuntimeError as error:  # no thread can be had
            self._end(batch, error)
        else:
            running.add_done_callback(lambda done: self._end(batch, done.result()))

    def _end(self, batch: Batch[Future], outcome: Array | Exception) -> None:
        assert self._loop is not None
        now, failed = self._loop.time(), isinstance(outcome, Exception)
        self._schedule.finish(now, batch, failed)
        for i, step in enumerate(batch.steps):
            if step.caller.done():
                continue
            if isinstance(outcome, Exception):
                step.caller.set_exception(outcome)
            else:
                step.caller.set_result(outcome[i])
        while self._between:
            answer(*self._between.popleft())
        self._arrange(now)
        self._arrange_expiry()

    def _arrange_expiry(self) -> None:
        if self._expiry is None and self._loop is not None and (at := self._schedule.expires()) is not None:
            self._expiry = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        assert self._loop is not None
        self._expiry = None
        self._schedule.expire_idle(self._loop.time())
        self._arrange(self._loop.time())
        self._arrange_expiry()
