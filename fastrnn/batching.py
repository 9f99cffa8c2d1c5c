"""Steps of many sessions run together, for threads; aio.py has the same for asyncio."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
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
    answer,
)
from fastrnn.params import AnyParams

__all__ = ["Batcher", "OverloadedError", "Session", "SessionClosedError", "SessionExpiredError"]

Array = NDArray[Any]
T = TypeVar("T")


class Batcher(BatcherBase[Future[Array]]):
    """Runs steps of sessions together that wait at the same time: ``y = batcher.step(session, x)``, in any thread.

    It does what `fastrnn.aio.Batcher` does, in a thread of its own.

    Parameters
    ----------
    params : RNNParams, LSTMParams or GRUParams
        Weights of layers that run forward.
    max_batch, window, max_waiting, max_waiting_per_session, expire, threads
        As in `fastrnn.aio.Batcher`. With a window of 0, what comes while a batch runs is the next batch.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As in `fastrnn.aio.Batcher`.
    RuntimeError
        A call after `shutdown`, or in a process that was forked from the one that made the batcher.

    Notes
    -----
    Its thread begins with the first session, and ends with `shutdown`, which the end of a ``with`` block calls too; the
    batcher stays as long as its thread.

    Examples
    --------
    >>> import numpy as np, fastrnn, fastrnn.batching
    >>> weights = {"weight_ih_l0": np.ones((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> with fastrnn.batching.Batcher(fastrnn.LSTMParams(weights)) as batcher:
    ...     a, b = batcher.open(), batcher.open()
    ...     futures = [batcher.submit(session, np.full(3, 0.1)) for session in (a, b, a)]
    ...     ys = [future.result() for future in futures]
    ...     y = batcher.step(a, np.full(3, 0.1))
    >>> print(y.round(4))
    [0.1771 0.1771]
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
        self._schedule: Schedule[Future[Array]] = Schedule(
            params,
            max_batch=max_batch,
            window=window,
            max_waiting=max_waiting,
            max_waiting_per_session=max_waiting_per_session,
            expire=expire,
            threads=threads,
        )
        self._params = params
        self._changed = threading.Condition()  # whose lock everything below and the schedule are used with
        self._between: deque[tuple[Callable[[], Any], Future[Any]]] = deque()  # what waits for the pool
        self._thread: threading.Thread | None = None
        self._wakes_at = -np.inf  # when the thread looks again by itself; -inf: it is awake
        self._is_shut = False
        self._process = os.getpid()

    def open(self, state: Any = None) -> Session:
        """Open a session: `state` is as `StreamPool.open` takes it, zeros if not given."""
        opened = list[Session]()
        try:
            self._when_idle(lambda: opened.append(self._schedule.open(time.monotonic(), state)))
            with self._changed:
                self._arrange()
        except BaseException:
            for session in opened:
                self.close(session)
            raise
        return opened[0]

    def close(self, session: Session) -> None:
        """Close a session: its steps that wait raise `SessionClosedError`. One that has ended stays as it is."""
        self._check_process()
        with self._changed:
            refused = self._schedule.close(session)
            self._arrange()
        self._refuse(session, refused)

    def state(self, session: Session) -> Any:
        """A copy of a session's state, as `open` takes it, after the steps that have run."""
        return self._when_idle(lambda: self._schedule.state(session))

    def set_state(self, session: Session, state: Any) -> None:
        """Set the state of a session, which steps that still wait start from; None: zeros."""
        self._when_idle(lambda: self._schedule.set_state(session, state))

    def submit(self, session: Session, x: Array | int, deadline: float | None = None) -> Future[Array]:
        """A step that runs as soon as its turn comes.

        Parameters
        ----------
        session, x, deadline
            As `fastrnn.aio.Batcher.step` takes them.

        Returns
        -------
        future : concurrent.futures.Future
            Of the output. Its `cancel` takes back a step that waits. Callbacks run in the batcher's own thread, which
            must not wait there.
        """
        self._check_process()
        future: Future[Array] = Future()
        with self._changed:
            step = self._schedule.add(time.monotonic(), session, x, deadline, future)
            try:
                self._arrange()
            except BaseException:  # no thread can be had
                self._schedule.drop(step, time.monotonic())
                raise

        def take_back(done: Future[Array]) -> None:
            if done.cancelled():
                with self._changed:
                    if self._schedule.drop(step, time.monotonic()):
                        self._arrange()

        future.add_done_callback(take_back)
        return future

    def step(self, session: Session, x: Array | int, deadline: float | None = None) -> Array:
        """Take one step of a session, and wait for its output: as `fastrnn.aio.Batcher.step`."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "step: expected another thread than the batcher's own, which runs callbacks of futures, got that one, "
                "which would wait for itself; submit() does not wait"
            )
        future = self.submit(session, x, deadline)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def shutdown(self) -> None:
        """Close all sessions, and end the thread after the batch that is at work. Once more does nothing."""
        if self._process != os.getpid():
            return
        with self._changed:
            self._is_shut = True
            refused = [(session, self._schedule.close(session)) for session in [*self._schedule.sessions.values()]]
            self._changed.notify()
        for session, futures in refused:
            self._refuse(session, futures)
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *unused: object) -> None:
        self.shutdown()

    def _check_process(self) -> None:
        """Before the lock is taken, which another thread may have had when this process was forked."""
        if self._process != os.getpid():
            raise RuntimeError("batcher: expected the process that made it, got one that was forked from it")

    def _check(self) -> None:
        if self._is_shut:
            raise RuntimeError("batcher: expected an open one, got one that is shut down")

    def _when_idle(self, use: Callable[[], T]) -> T:
        """What needs the pool: now, or as soon as the batch that is at work is back."""
        self._check_process()
        future: Future[T] = Future()
        with self._changed:
            self._check()
            if not self._schedule.is_at_work:
                return use()
            self._between.append((use, future))
        try:
            return future.result()
        except BaseException:
            future.cancel()
            with self._changed:  # so that, if it was begun, it has ended
                raise

    def _refuse(self, session: Session, futures: list[Future[Array]]) -> None:
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_exception(self._schedule.ended(session))

    def _arrange(self) -> None:
        """Wakes the thread where it would look too late."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="fastrnn batcher", daemon=True)
            thread.start()
            self._thread = thread
        elif self._looks_at() < self._wakes_at:
            self._changed.notify()

    def _looks_at(self) -> float:
        """When there is something to do."""
        due, expires = self._schedule.due(time.monotonic()), self._schedule.expires()
        return min(np.inf if at is None else at for at in (due, expires))

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            outcome = batch.outcome()
            with self._changed:
                self._schedule.finish(time.monotonic(), batch, isinstance(outcome, Exception))
                while self._between:
                    use, future = self._between.popleft()
                    if future.set_running_or_notify_cancel():
                        answer(self._check if self._is_shut else use, future)
            for i, step in enumerate(batch.steps):
                if isinstance(outcome, Exception):
                    step.caller.set_exception(outcome)
                else:
                    step.caller.set_result(outcome[i])

    def _next(self) -> Batch[Future[Array]] | None:
        """Waits for a batch that is due; None: there will be none."""
        with self._changed:
            while not self._is_shut:
                now = time.monotonic()
                self._schedule.expire_idle(now)
                due = self._schedule.due(now)
                if due is not None and due <= now:
                    batch = self._schedule.take(now, lambda future: future.set_running_or_notify_cancel())
                    if batch:
                        return batch
                    continue
                self._wakes_at = self._looks_at()
                self._changed.wait(None if self._wakes_at == np.inf else max(self._wakes_at - time.monotonic(), 0))
                self._wakes_at = -np.inf
        return None
