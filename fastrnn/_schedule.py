"""What a batcher decides: which of the steps that wait run together, and when. It has no clock, thread or loop.

(a) A step waits in a row of `_inputs`, so a caller may use its x again. Of a session's steps the first one is ready,
    and the others wait behind it, since a stream takes one step after the other.
(b) Ready steps run oldest first, at most `max_batch` at once: when so many are ready, when the oldest has waited for
    `window`, when a deadline would be missed otherwise, or when every open session has a step that is ready, since
    nobody else can come. A deadline is that of all steps of its session in front of it.
(c) While a batch is at work the pool belongs to it. Opening a session, and its state, wait until it is back; a
    session that ends leaves its stream to be closed then.
(d) A step that has begun moves its stream, whatever becomes of its caller. One that has not leaves it as it was.

`aio.py` and `batching.py` bring time and callers. Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check, _check_streams
from fastrnn._counters import Counters
from fastrnn.params import AnyParams
from fastrnn.pool import StreamPool

Array = NDArray[Any]
Caller = TypeVar("Caller")

_MOST = 2**31  # of any number of steps
_RECENT = 0.2  # part of a new measurement in what a batch is expected to take
_LAG = 1e-3  # seconds by which timers are late, before any was seen


class SessionClosedError(RuntimeError):
    """A step of a session that is closed."""


class SessionExpiredError(SessionClosedError):
    """A step of a session that was closed because it was idle for too long."""


class OverloadedError(RuntimeError):
    """A step that is refused, since as many wait as may."""


class Session:
    """A stream of a batcher, from `open` to `close`."""

    __slots__ = ("_at_work", "_end", "_steps", "_stream", "_used")

    def __init__(self, stream: int, now: float) -> None:
        self._stream = stream
        self._used = now  # when its last step came or ended
        self._steps: deque[Step[Any]] = deque()  # those that wait, the first of them being ready
        self._at_work = False
        self._end: type[SessionClosedError] | None = None

    @property
    def is_open(self) -> bool:
        """Whether steps are accepted."""
        return self._end is None

    def __repr__(self) -> str:
        return f"<Session {self._stream}, {'open' if self.is_open else 'closed'}>"


class Step(Generic[Caller]):
    """A step that waits or is at work."""

    __slots__ = ("arrived", "caller", "deadline", "number", "row", "session")

    def __init__(self, session: Session, caller: Caller, arrived: float, deadline: float) -> None:
        self.session, self.caller, self.arrived, self.deadline = session, caller, arrived, deadline
        self.number = self.row = -1


class Batch(Generic[Caller]):
    """Steps that run together. `run` touches the pool alone, so it may run in any thread."""

    def __init__(
        self, steps: list[Step[Caller]], pool: StreamPool, x: Array | MemoryError, threads: int | None, begun: float
    ) -> None:
        self.steps, self.begun = steps, begun
        self._pool, self._x, self._threads = pool, x, threads

    def run(self) -> Array:
        """Outputs, a row for each step."""
        if isinstance(self._x, MemoryError):
            raise self._x
        ids = [step.session._stream for step in self.steps]
        return self._pool.step(ids, self._x, threads=self._threads)

    def outcome(self) -> Array | Exception:
        """What `run` returns or raises: no stream has moved then."""
        try:
            return self.run()
        except Exception as error:
            return error


class Schedule(Generic[Caller]):
    """Sessions of a pool, and their steps."""

    def __init__(
        self,
        params: AnyParams,
        *,
        max_batch: int,
        window: float,
        max_waiting: int,
        max_waiting_per_session: int,
        expire: float | None,
        threads: int | None,
    ) -> None:
        self.pool = StreamPool(params)
        self.max_batch = _check.whole("max_batch", max_batch, 1, _MOST)
        self.max_waiting = _check.whole("max_waiting", max_waiting, 1, _MOST)
        self.max_waiting_per_session = _check.whole("max_waiting_per_session", max_waiting_per_session, 1, _MOST)
        self.window = _check_streams.seconds("window", window)
        self.expire = None if expire is None else _check_streams.seconds("expire", expire)
        self.threads = None if threads is None else _check.threads(threads)
        self.counters = Counters()
        self.is_at_work = False
        self._leaving: list[int] = []  # streams of sessions that have ended
        self.sessions: dict[int, Session] = {}  # those that are open, by their streams
        self._idle: OrderedDict[Session, None] = OrderedDict()  # those without a step; the one used last is last
        self._ready: list[tuple[int, Step[Caller]]] = []  # a heap, the oldest first; steps without a row were dropped
        self._deadlines: list[tuple[float, int, float, Step[Caller]]] = []  # a heap: when batches with these are to end
        self._kept = 0  # deadlines so far, which orders those that are equal
        self._ready_count = self._waiting = self._arrivals = 0
        self._seconds: dict[int, float] = {}  # that batches take, by the bit length of their number of steps
        self._lag, self._free_since = _LAG, -np.inf
        self._vocabulary = params._vocabulary  # 0: steps are vectors, else tokens
        self._inputs: Array = np.empty((0, params.input_size), params.dtype)
        if self._vocabulary:
            self._inputs = np.empty(0, np.int64)
        self._free: list[int] = []  # rows of it

    # Sessions. What opens one, or reads or sets its state, needs the pool: not while a batch is at work.

    def open(self, now: float, state: Any = None) -> Session:
        self._close_streams()
        session = Session(self.pool.open(state), now)
        self.sessions[session._stream] = session
        self._idle[session] = None
        self.counters.opened += 1
        return session

    def close(self, session: Session, end: type[SessionClosedError] = SessionClosedError) -> list[Caller]:
        """Ends a session. Answers those whose steps waited: they get an error. One that has ended stays as it is."""
        if not self.is_open(session):
            return []
        session._end = end
        dropped = [step.caller for step in [*session._steps] if self.drop(step, session._used)]
        self._idle.pop(session, None)
        del self.sessions[session._stream]
        self._leaving.append(session._stream)
        self._close_streams()
        self.counters.closed += 1
        return dropped

    def _close_streams(self) -> None:
        if self._leaving and not self.is_at_work:
            self.pool.close(self._leaving)
            self._leaving = []

    def state(self, session: Session) -> Any:
        self.check_open(session)
        return self.pool.state(session._stream)

    def set_state(self, session: Session, state: Any) -> None:
        self.check_open(session)
        self.pool.set_state(session._stream, state)

    def is_open(self, session: Session) -> bool:
        if not isinstance(session, Session):
            raise TypeError(f"session: expected a Session, which open() gives, got {_check.type_name(session)}")
        if session.is_open and self.sessions.get(session._stream) is not session:
            raise ValueError("session: expected one of this batcher, got another one's")
        return session.is_open

    def check_open(self, session: Session) -> None:
        if not self.is_open(session):
            raise self.ended(session)

    def ended(self, session: Session) -> SessionClosedError:
        """The error of a step of a session that has ended."""
        if session._end is SessionExpiredError:
            return SessionExpiredError(f"session: expected an open one, got one that was idle for {self.expire} s")
        return SessionClosedError("session: expected an open one, got a closed one")

    def expires(self) -> float | None:
        """When the next session expires, if nothing comes of it till then; None: none does."""
        if self.expire is None or not self._idle:
            return None
        return next(iter(self._idle))._used + self.expire

    def expire_idle(self, now: float) -> None:
        while (at := self.expires()) is not None and at <= now:
            self.close(next(iter(self._idle)), SessionExpiredError)
            self.counters.expired += 1

    def _rest(self, session: Session, now: float) -> None:
        """The session is idle from now on, if it has no step and is open."""
        if not session._steps and not session._at_work and session.is_open:
            session._used = now
            self._idle[session] = None

    # Steps.

    def add(self, now: float, session: Session, x: Array | int, deadline: float | None, caller: Caller) -> Step[Caller]:
        """A step that waits from now on. x is checked and copied. `deadline`: seconds from now."""
        if self.expire is not None:
            self.expire_idle(now)
        self.check_open(session)
        x = self._read(x)
        until = now + _check_streams.seconds("deadline", deadline) if deadline is not None else np.inf
        if self._waiting >= self.max_waiting or len(session._steps) >= self.max_waiting_per_session:
            self.counters.refused += 1
            of_session = self._waiting < self.max_waiting
            what = "max_waiting_per_session" if of_session else "max_waiting"
            raise OverloadedError(f"step: expected at most {getattr(self, what)} that wait ({what}), got one more")
        step = Step(session, caller, now, until)
        step.row = self._take_row()
        self._inputs[step.row] = x
        step.number = self._arrivals
        self._arrivals += 1
        self._waiting += 1
        session._steps.append(step)
        self._idle.pop(session, None)
        if len(session._steps) == 1 and not session._at_work:
            self._make_ready(step)
        elif until < np.inf and not session._at_work:
            self._keep_deadline(session)
        return step

    def _read(self, x: Any) -> Array | int:
        if self._vocabulary:
            return _check_streams.token_of_session(x, self._vocabulary)
        return _check_streams.step_of_session(x, self._inputs.shape[1], self._inputs.dtype.num)

    def drop(self, step: Step[Caller], now: float) -> bool:
        """Takes back a step that waits; false where it has begun."""
        if step.row < 0:
            return False
        steps = step.session._steps
        was_ready = steps[0] is step and not step.session._at_work
        steps.remove(step)
        self._release(step)
        if was_ready:
            self._ready_count -= 1
            if steps:
                self._make_ready(steps[0])
        self._rest(step.session, now)
        self.counters.dropped += 1
        return True

    def _make_ready(self, step: Step[Caller]) -> None:
        self._ready_count += 1
        heapq.heappush(self._ready, (step.number, step))
        self._keep_deadline(step.session)

    def _keep_deadline(self, session: Session) -> None:
        """Sees to it that a batch with the session's first step begins in time for all of its steps."""
        steps = session._steps
        if len(steps) == 1 and steps[0].deadline == np.inf:
            return
        each = self.expected_seconds()
        end, i = min((step.deadline - i * each, i) for i, step in enumerate(steps))
        if end < np.inf:
            self._kept += 1
            heapq.heappush(self._deadlines, (end, self._kept, steps[i].arrived, steps[0]))

    def _take_row(self) -> int:
        if not self._free:
            n = len(self._inputs)
            more = np.empty((max(n, 64), *self._inputs.shape[1:]), self._inputs.dtype)
            self._inputs = np.concatenate([self._inputs, more])
            self._free = [*range(n, len(self._inputs))][::-1]
        return self._free.pop()

    def _release(self, step: Step[Caller]) -> None:
        self._free.append(step.row)
        step.row = -1
        self._waiting -= 1

    # Batches.

    def expected_seconds(self, unknown: float = 0.0) -> float:
        """How long the batch would take that could begin now: as those of as many steps did, or the next more."""
        size, known = min(self._ready_count, self.max_batch).bit_length(), self._seconds
        if size in known or not known:
            return known.get(size, unknown)
        nearest = min((other for other in known if other > size), default=max(known))
        return known[nearest] * max(1.0, 2.0 ** (size - nearest))

    def due(self, now: float) -> float | None:
        """When a batch is to begin, if nothing else comes till then; None: there is none, or one is at work."""
        if self.is_at_work or not self._ready_count:
            return None
        if self._ready_count >= min(self.max_batch, len(self.sessions)):
            return now
        while self._ready[0][1].row < 0:
            heapq.heappop(self._ready)
        while self._deadlines and self._deadlines[0][3].row < 0:
            heapq.heappop(self._deadlines)
        return min(self._ready[0][1].arrived + self.window, self._latest())

    def _latest(self) -> float:
        """When a batch has to begin, so that none of its steps is late."""
        return self._deadlines[0][0] - self.expected_seconds() - self._lag if self._deadlines else np.inf

    def take(self, now: float, begins: Callable[[Caller], bool]) -> Batch[Caller] | None:
        """The oldest steps that are ready, as a batch that is at work from now on. None: no caller wants one any more.

        `begins` is told of each caller, and answers whether the step is still wanted.
        """
        steps: list[Step[Caller]] = []
        rows: list[int] = []
        if (latest := self._latest()) <= now:  # the batch begins for a deadline: by so much late
            lag = now - max(latest, self._deadlines[0][2], self._free_since)
            self._lag = max(lag, (1 - _RECENT) * self._lag)
        while self._ready and len(steps) < self.max_batch:
            _, step = heapq.heappop(self._ready)
            if step.row < 0:
                continue
            if not begins(step.caller):
                self.drop(step, now)
                continue
            steps.append(step)
            rows.append(step.row)
            step.session._steps.popleft()
            step.session._at_work = True
            self._release(step)
        self._ready_count -= len(steps)
        if not steps:
            return None
        self.is_at_work = True
        self.counters.began(now - step.arrived for step in steps)
        try:
            x: Array | MemoryError = self._inputs[rows]
        except MemoryError as error:
            x = error
        return Batch(steps, self.pool, x, self.threads, now)

    def finish(self, now: float, batch: Batch[Caller], failed: bool = False) -> None:
        """The batch is back, with or without outputs."""
        self.is_at_work, self._free_since = False, now
        self._close_streams()
        seconds, n = now - batch.begun, len(batch.steps)
        self.counters.ended(n, seconds, sum(step.deadline < now for step in batch.steps))
        if failed:
            self.counters.failed += n
        else:
            old = self._seconds.get(n.bit_length(), seconds)
            self._seconds[n.bit_length()] = old + _RECENT * (seconds - old)
        for step in batch.steps:
            step.session._at_work = False
            self._rest(step.session, now)
            if step.session._steps:
                self._make_ready(step.session._steps[0])
        if len(self._deadlines) > 2 * self._ready_count + 64:  # of steps that have run
            self._deadlines = [entry for entry in self._deadlines if entry[3].row >= 0]
            heapq.heapify(self._deadlines)

    @property
    def waiting(self) -> int:
        """Steps that wait."""
        return self._waiting


class BatcherBase(Generic[Caller]):
    """What batchers say of themselves, whoever their callers are."""

    _params: AnyParams
    _schedule: Schedule[Caller]

    @property
    def params(self) -> AnyParams:
        """The weights."""
        return self._params

    @property
    def counters(self) -> Counters:
        """What has been counted so far: the object itself, which goes on counting."""
        return self._schedule.counters

    @property
    def waiting(self) -> int:
        """Steps that wait now."""
        return self._schedule.waiting

    def __len__(self) -> int:
        """Sessions that are open."""
        return len(self._schedule.sessions)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Batcher of {self._params!r}, {len(self)} sessions>"


def answer(use: Callable[[], Any], future: Any) -> None:
    """Gives a future what a function returns or raises."""
    if future.done():
        return
    try:
        future.set_result(use())
    except Exception as error:
        future.set_exception(error)
