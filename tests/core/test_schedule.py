"""What a batcher decides, under a clock that the tests turn: which steps run together, and when.

(a) Anything at random: bits of each session alone, order, bounds, and times at which batches begin.
(b) One rule after the other.
(c) Counters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn._counters import Counters, Histogram
from fastrnn._schedule import OverloadedError, Schedule, Session, SessionClosedError, SessionExpiredError, Step
from support.cases import Drawn, assert_same_bits, make_weights

PARAMS = fastrnn.LSTMParams(make_weights(np.random.default_rng(1), "lstm", (3, 4)))


DEFAULTS: dict[str, Any] = {
    "max_batch": 256,
    "window": 0.0,
    "max_waiting": 4096,
    "max_waiting_per_session": 16,
    "expire": None,
    "threads": 1,
}


def wanted(caller: Any) -> bool:
    return True


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).uniform(-1, 1, (*shape, 3)).astype(np.float32)


def schedule_of(**options: Any) -> Schedule[Any]:
    return Schedule(PARAMS, **(DEFAULTS | options))


# (a)


class World:
    """A schedule, its clock and the steps of its callers."""

    def __init__(self, source: Drawn) -> None:
        self.source, self.rng, self.now = source, np.random.default_rng(source.integer(0, 2**32 - 1)), 100.0
        self.window, self.expire = source.choose([0.0, 0.5, 2.0]), source.choose([None, 3.0])
        self.most = source.choose([1, 2, 5])
        self.most_waiting, self.most_of_session = source.choose([4, 50]), source.choose([1, 3])
        self.schedule: Schedule[int] = Schedule(
            PARAMS,
            window=self.window,
            max_batch=self.most,
            expire=self.expire,
            max_waiting=self.most_waiting,
            max_waiting_per_session=self.most_of_session,
            threads=1,
        )
        self.alone: dict[Session, fastrnn.Stream] = {}
        self.used: dict[Session, float] = {}
        self.steps: dict[int, tuple[Step[int], np.ndarray]] = {}  # those that wait
        self.inputs: dict[int, np.ndarray] = {}  # of those at work
        self.gone: set[int] = set()  # callers that want nothing any more, without having said so
        self.batch: Any = None
        self.callers = 0

    def sessions(self) -> list[Session]:
        return [session for session in self.alone if session.is_open]

    def open(self) -> None:
        if self.batch is None:
            session = self.schedule.open(self.now)
            self.alone[session], self.used[session] = fastrnn.Stream(PARAMS), self.now

    def close(self) -> None:
        if self.sessions():
            session = self.source.choose(self.sessions())
            dropped = self.schedule.close(session)
            assert self.schedule.close(session) == []
            assert sorted(dropped) == [i for i, (step, _) in self.steps.items() if step.session is session]
            for i in dropped:
                del self.steps[i]

    def add(self) -> None:
        if not self.alone:
            return
        session, x = self.source.choose([*self.alone]), self.rng.uniform(-1, 1, 3).astype(np.float32)
        deadline = self.source.choose([None, None, 0.1, 1.0])
        of_session = sum(step.session is session for step, _ in self.steps.values())
        is_busy = of_session or (self.batch and any(step.session is session for step in self.batch.steps))
        is_late = self.expire is not None and not is_busy and self.now - self.used[session] >= self.expire
        self.callers += 1
        if is_late or not session.is_open:
            with pytest.raises(SessionClosedError):
                self.schedule.add(self.now, session, x, deadline, self.callers)
            assert not session.is_open
        elif of_session >= self.most_of_session or len(self.steps) >= self.most_waiting:
            with pytest.raises(OverloadedError):
                self.schedule.add(self.now, session, x, deadline, self.callers)
        else:
            step = self.schedule.add(self.now, session, x, deadline, self.callers)
            self.steps[self.callers] = step, x.copy()
            self.used[session] = self.now
            x.fill(np.nan)

    def drop(self) -> None:
        if self.steps:
            step, _ = self.steps.pop(self.source.choose([*self.steps]))
            assert self.schedule.drop(step, self.now)
            self.used[step.session] = self.now

    def go(self) -> None:
        """A caller is gone, which is noticed when its step is to begin."""
        if self.steps:
            self.gone.add(self.source.choose([*self.steps]))

    def wait(self) -> None:
        self.now += self.source.choose([0.0, 0.1, 1.0])

    def begin(self) -> None:
        """What a batcher does as soon as it can: nothing is late that could have begun."""
        due = self.schedule.due(self.now)
        assert (due is None) == (self.batch is not None or not self.steps)
        if due is None:
            return
        firsts = self.firsts()
        assert due <= max(self.now, firsts[0][1].arrived + self.window)
        everybody = len(firsts) == len(self.sessions())
        if len(firsts) >= self.most or everybody:
            assert due <= self.now
        elif all(step.deadline == np.inf for step, _ in self.steps.values()):
            assert due == firsts[0][1].arrived + self.window
        else:
            ready = [step for step, _ in self.steps.values() if step.session in [first.session for _, first in firsts]]
            assert due <= max(min(step.deadline for step in ready), self.now)
        if due > self.now:
            return
        batch = self.schedule.take(self.now, lambda caller: caller not in self.gone)
        expected: list[int] = []
        while len(expected) < self.most and (firsts := [(i, s) for i, s in self.firsts() if i not in expected]):
            caller = firsts[0][0]
            if caller in self.gone:
                self.used[self.steps.pop(caller)[0].session] = self.now
            else:
                expected.append(caller)
        assert ([step.caller for step in batch.steps] if batch else []) == expected
        if batch:
            self.batch = batch
            self.inputs = {caller: self.steps.pop(caller)[1] for caller in expected}

    def firsts(self) -> list[tuple[int, Step[int]]]:
        """The first step of each session that has one, oldest first."""
        at_work = [step.session for step in self.batch.steps] if self.batch else []
        firsts: dict[Session, tuple[int, Step[int]]] = {}
        for caller, (step, _) in self.steps.items():
            if step.session not in at_work:
                firsts.setdefault(step.session, (caller, step))
        return [*firsts.values()]

    def end(self) -> None:
        if self.batch is None:
            return
        outcome = self.batch.outcome()
        self.schedule.finish(self.now, self.batch)
        for step, y in zip(self.batch.steps, outcome, strict=True):
            assert_same_bits((y,), (self.alone[step.session].step(self.inputs[step.caller]),))
            self.used[step.session] = self.now
        self.batch = None

    def check(self) -> None:
        assert self.schedule.waiting == len(self.steps)
        assert set(self.schedule.sessions.values()) == set(self.sessions())


WHAT = ["open", "close", "add", "add", "add", "add", "drop", "go", "wait", "begin", "begin", "end", "end"]


@given(data=st.data())
def test_anything(data: st.DataObject) -> None:
    source = Drawn(data.draw)
    world = World(source)
    for _ in range(source.integer(1, 60)):
        getattr(world, source.choose(WHAT))()
        world.check()
    while world.steps or world.batch:
        world.end()
        world.now += world.window + 1
        world.begin()
    assert world.schedule.due(world.now) is None
    for session in world.sessions():
        assert_same_bits(world.schedule.pool.state([session._stream]), world.alone[session].state)
    assert len(world.schedule.pool) == len(world.sessions())


# (b)


def open_some(schedule: Schedule[Any], n: int) -> list[Session]:
    return [schedule.open(0.0) for _ in range(n)]


def test_a_batch_begins_after_the_window() -> None:
    schedule, x = schedule_of(window=0.5), numbers()
    a, b, _ = open_some(schedule, 3)
    assert schedule.due(1.0) is None
    schedule.add(1.0, a, x, None, "a")
    schedule.add(1.2, b, x, None, "b")
    assert schedule.due(1.2) == 1.5


def test_a_batch_begins_when_nobody_else_can_come() -> None:
    schedule, x = schedule_of(window=0.5), numbers()
    a, b = open_some(schedule, 2)
    schedule.add(1.0, a, x, None, "a")
    schedule.add(1.0, a, x, None, "a again")
    assert schedule.due(1.0) == 1.5
    schedule.close(b)
    assert schedule.due(1.0) == 1.0


def test_a_batch_begins_when_it_is_full() -> None:
    schedule, x = schedule_of(window=0.5, max_batch=2), numbers()
    for session in open_some(schedule, 5)[:3]:
        schedule.add(1.0, session, x, None, session)
    assert schedule.due(1.0) == 1.0
    batch = schedule.take(1.0, wanted)
    assert batch
    assert len(batch.steps) == 2
    assert schedule.due(1.0) is None
    schedule.finish(1.1, batch)
    assert schedule.due(1.1) == 1.5


def test_a_batch_begins_early_for_a_deadline() -> None:
    """By so much as the batch is expected to take, which is learnt from those before it."""
    schedule, x = schedule_of(window=10), numbers()
    a, b, _ = open_some(schedule, 3)
    for now in (0.0, 20.0):
        for session in (a, b):
            schedule.add(now, session, x, None, None)
        batch = schedule.take(now, wanted)
        assert batch
        schedule.finish(now + 0.2, batch)
    schedule.add(30.0, a, x, 2.0, None)
    assert schedule.due(30.0) == pytest.approx(32 - 0.2, abs=2e-3)
    late = schedule.add(30.0, b, x, 1.0, None)
    assert schedule.due(30.0) == pytest.approx(31 - 0.2, abs=2e-3)
    schedule.drop(late, 30.0)
    assert schedule.due(30.0) == pytest.approx(32 - 0.2, abs=2e-3)
    batch = schedule.take(33.0, wanted)
    assert batch
    schedule.finish(33.05, batch)
    assert schedule.counters.missed == 1
    schedule.add(40.0, a, x, 2.0, None)  # a step alone takes 0.05, and the last batch began 1.2 late
    assert schedule.due(40.0) == pytest.approx(42 - 0.05 - 1.2, abs=2e-3)


def test_deadlines_of_steps_that_wait_behind_another() -> None:
    schedule, x = schedule_of(window=10), numbers()
    a, _ = open_some(schedule, 2)
    schedule.add(1.0, a, x, None, "first")
    assert schedule.due(1.0) == 11.0
    schedule.add(1.0, a, x, 2.0, "second")
    assert schedule.due(1.0) == pytest.approx(3, abs=2e-3)
    third = schedule.add(1.0, a, x, 1.0, "third")
    assert schedule.due(1.0) == pytest.approx(2, abs=2e-3)
    batch = schedule.take(2.0, wanted)
    assert batch
    schedule.add(2.0, a, x, 0.5, "fourth")
    assert schedule.drop(third, 2.0)
    schedule.finish(2.1, batch)
    assert schedule.due(2.1) == pytest.approx(2.5 - 0.1 - 0.1, abs=2e-3)  # its own batch, and that of the second step


def test_batches_are_expected_to_take_what_those_of_their_size_took() -> None:
    schedule, x = schedule_of(), numbers()
    sessions = open_some(schedule, 9)

    def add(n: int) -> None:
        for session in sessions[:n]:
            schedule.add(0.0, session, x, None, None)

    def run(seconds: float) -> None:
        batch = schedule.take(0.0, wanted)
        assert batch
        schedule.finish(seconds, batch)

    add(2)
    assert (schedule.expected_seconds(), schedule.expected_seconds(unknown=np.inf)) == (0, np.inf)
    run(0.5)
    add(9)
    assert schedule.expected_seconds() == 2.0
    run(0.8)
    add(8)
    assert schedule.expected_seconds() == 0.8
    run(0.8)
    add(1)
    assert schedule.expected_seconds() == 0.5


def test_many_busy_sessions_take_no_longer() -> None:
    """What expires first is found without a look at sessions that have steps."""
    schedule, x = schedule_of(expire=5.0, max_batch=1), numbers()
    sessions = open_some(schedule, 50)
    for session in sessions[:40]:
        schedule.add(1.0, session, x, None, None)
    assert [*schedule._idle] == sessions[40:]
    schedule.expire_idle(6.0)
    assert [session.is_open for session in sessions] == [True] * 40 + [False] * 10
    assert schedule.expires() is None


def test_no_memory_for_the_inputs_of_a_batch() -> None:
    class Full(np.ndarray):
        def __getitem__(self, index: Any) -> Any:
            raise MemoryError("full")

    schedule, x = schedule_of(), numbers()
    (a,) = open_some(schedule, 1)
    schedule.add(0.0, a, x, None, None)
    schedule._inputs = schedule._inputs.view(Full)
    batch = schedule.take(0.0, wanted)
    assert batch
    assert isinstance(batch.outcome(), MemoryError)
    schedule.finish(0.0, batch, failed=True)
    assert (schedule.counters.failed, schedule.waiting, schedule.is_at_work) == (1, 0, False)


def test_idle_sessions_expire() -> None:
    schedule, x = schedule_of(expire=2.0), numbers()
    a, b = open_some(schedule, 2)
    schedule.add(1.0, a, x, None, None)
    assert schedule.expires() == 2.0
    schedule.expire_idle(1.9)
    assert b.is_open
    schedule.expire_idle(50.0)
    assert not b.is_open
    assert a.is_open
    with pytest.raises(SessionExpiredError, match=r"^session: expected an open one, got one that was idle for 2\.0 s$"):
        schedule.add(50.0, b, x, None, None)
    batch = schedule.take(50.0, wanted)
    assert batch
    schedule.finish(51.0, batch)
    assert schedule.expires() == 53.0
    assert (schedule.counters.expired, len(schedule.pool)) == (1, 1)


def test_a_session_that_is_closed_at_work() -> None:
    """Its stream is closed when the batch is back; the others of the batch notice nothing."""
    schedule, x = schedule_of(), numbers(2)
    a, b = open_some(schedule, 2)
    for session, row in zip((a, b), x):
        schedule.add(0.0, session, row, None, session)
    batch = schedule.take(0.0, wanted)
    assert batch
    schedule.add(0.0, a, x[0], None, "waits")
    assert schedule.close(a) == ["waits"]
    assert len(schedule.pool) == 2
    assert_same_bits((batch.run(),), (fastrnn.Stream(PARAMS, 2).step(x),))
    schedule.finish(0.0, batch)
    assert len(schedule.pool) == 1
    with pytest.raises(SessionClosedError, match=r"^session: expected an open one, got a closed one$"):
        schedule.add(0.0, a, x[0], None, None)
    assert schedule.close(a) == []
    for use in (schedule.state, lambda session: schedule.set_state(session, None)):
        with pytest.raises(SessionClosedError):
            use(a)


def test_a_failed_batch_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule, x = schedule_of(), numbers()
    (a,) = open_some(schedule, 1)
    schedule.add(0.0, a, x, None, None)
    batch = schedule.take(0.0, wanted)
    assert batch
    monkeypatch.setattr(batch, "_x", None)
    assert isinstance(batch.outcome(), TypeError)
    schedule.finish(0.0, batch, failed=True)
    assert not any(part.any() for part in schedule.state(a))
    assert schedule.counters.failed == 1
    assert schedule.expected_seconds(unknown=7.0) == 7.0  # it says nothing of what others take


BAD = {
    "window: expected seconds from 0 to 1e9, got -1": lambda: schedule_of(window=-1),
    "window: expected seconds from 0 to 1e9, got nan": lambda: schedule_of(window=float("nan")),
    "window: expected a number of seconds, got str": lambda: schedule_of(window="1"),
    "expire: expected a number of seconds, got bool": lambda: schedule_of(expire=True),
    "max_batch: expected from 1 to 2147483648, got 0": lambda: schedule_of(max_batch=0),
    "max_waiting: expected an integer, got float": lambda: schedule_of(max_waiting=1.0),
    "max_waiting_per_session: expected from 1 ": lambda: schedule_of(max_waiting_per_session=0),
    "threads: expected from 1 to 256, got 0": lambda: schedule_of(threads=0),
    r"x: expected \(3,\) for one stream, got \(2,\)": lambda: add_to_new(numbers()[:2]),
    r"x: expected \(3,\) for one stream, got \(4, 3\)": lambda: add_to_new(numbers(4)),
    "x: expected float32 .*, got float64; x.astype": lambda: add_to_new(numbers().astype("f8")),
    "x: expected a numpy.ndarray, got list; ": lambda: add_to_new([0.0, 0.0, 0.0]),
    "deadline: expected seconds from 0 to 1e9, got 1": lambda: add_to_new(numbers(), 10**400),
    "deadline: expected a number of seconds, got ndarray": lambda: add_to_new(numbers(), np.zeros(2)),
    "deadline: expected seconds from 0 to 1e9, got -0.1": lambda: add_to_new(numbers(), -0.1),
    r"session: expected a Session, which open\(\) gives, got int": lambda: schedule_of().close(3),
    "session: expected one of this batcher, got another one's": lambda: schedule_of().close(schedule_of().open(0.0)),
}


def add_to_new(x: Any, deadline: float | None = None) -> None:
    schedule = schedule_of()
    session = schedule.open(0.0)
    try:
        schedule.add(0.0, session, x, deadline, None)
    finally:
        assert schedule.waiting == 0


@pytest.mark.parametrize("message", BAD)
def test_bad_call(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        BAD[message]()


# (c)


def test_counters() -> None:
    schedule, x = schedule_of(max_batch=2, max_waiting_per_session=1), numbers()
    a, b, c = open_some(schedule, 3)
    steps = [schedule.add(1.0, session, x, 0.5, None) for session in (a, b, c)]
    with pytest.raises(OverloadedError, match=r"^step: expected at most 1 that wait \(max_waiting_per_session\), "):
        schedule.add(1.0, a, x, None, None)
    batch = schedule.take(1.25, wanted)
    assert batch
    schedule.finish(1.75, batch)
    assert schedule.drop(steps[2], 1.8)
    assert not schedule.drop(steps[2], 1.8)
    assert not schedule.drop(steps[0], 1.8)
    schedule.close(a)
    counters = schedule.counters
    assert (counters.opened, counters.closed, counters.expired) == (3, 1, 0)
    assert (counters.refused, counters.dropped, counters.missed, counters.failed) == (1, 1, 2, 0)
    assert (counters.batch_sizes.count, counters.batch_sizes.total) == (1, 2)
    assert (counters.waiting_seconds.count, counters.waiting_seconds.total) == (2, 0.5)
    assert counters.run_seconds.most == 0.5
    text = counters.prometheus("lstm")
    assert "lstm_sessions_opened_total 3\n" in text
    assert 'lstm_waiting_seconds_bucket{le="0.125"} 0\nlstm_waiting_seconds_bucket{le="0.25"} 2\n' in text
    assert 'lstm_batch_sizes_bucket{le="+Inf"} 1\nlstm_batch_sizes_sum 2.0\nlstm_batch_sizes_count 1\n' in text


@given(st.lists(st.floats(0, 2)))
def test_histogram(values: list[float]) -> None:
    histogram = Histogram([0.5, 1.0])
    for value in values:
        histogram.add(value)
    below = [sum(value <= bound for value in values) for bound in (0.5, 1.0, np.inf)]
    assert [*np.cumsum(histogram.counts)] == below
    assert histogram.count == len(values)
    assert histogram.most == max(values, default=0)
    assert Counters().batch_sizes.count == 0
