"""Many Python threads at once: right bits, no hang, nothing left behind; interrupts, and errors in between."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastrnn
from support.apart import run_apart, run_python
from support.callers import Call, Crowd, check_some, prepare, prepare_all
from support.cases import assert_same_bits, flat
from support.cells import CELLS
from support.errors import raises_as_said
from support.gradients import arrays
from support.splits import SPLITS
from support.usage import open_files, os_threads

CALLERS, CALLS = 32, 12
MOST = 8  # threads that check_some asks for
signals = pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("cell", CELLS)
def test_two_threads_share_the_work(cell: str, split: str) -> None:
    """The calls that the tests here take to be shared are shared."""
    call = prepare(cell, split)
    steps, rows = call.x.shape[:2]
    assert "2 threads: " in call.params.explain(steps, rows, threads=2)
    call.check(threads=2)


def step_on_two_threads() -> None:
    params = prepare("lstm", "units").params
    assert "2 threads: " in params.explain(1, 24, threads=2)
    stream, before = fastrnn.Stream(params, 24), os_threads()
    x = np.ones((24, params.input_size), "f4")
    stream.step(x)
    assert os_threads() == before
    stream.step(x, threads=2)
    assert os_threads() == before + 1


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_step_takes_threads_where_it_may() -> None:
    run_apart(step_on_two_threads)


def test_workers_sleep_between_calls() -> None:
    """They wait awake for a tenth of a millisecond after a call, and not for good."""
    call = prepare("gru", "rows")
    x = call.x[:3]
    assert "2 threads: " in call.params.explain(*x.shape[:2], threads=2)
    call.check(threads=MOST)
    used = waited = 0.0
    for _ in range(100):
        fastrnn.gru(x, call.params, threads=2)
        began, begun = time.monotonic(), time.process_time()
        time.sleep(5e-3)
        waited += time.monotonic() - began
        used += time.process_time() - begun
    assert used < 0.25 * waited  # workers that never slept would use all processors


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("cell", CELLS)
def test_two_threads_share_the_way_back(cell: str, split: str) -> None:
    """Their gradients have the bits of one thread's. ThreadSanitizer sees every way in which the way back is shared."""
    params, x = SPLITS[split].make(np.random.default_rng(5), cell)
    (y, _), one = fastrnn.vjp(x, params, threads=1)
    _, two = fastrnn.vjp(x, params, threads=2)
    dy = np.random.default_rng(6).normal(size=y.shape).astype("f4")
    expected = arrays(one(dy))
    for _ in range(3):
        assert_same_bits(arrays(two(dy)), expected)


@pytest.mark.parametrize("cell", CELLS)
def test_many_callers_at_once(cell: str) -> None:
    """Any number of Python threads may use the same params, each call with threads of its own."""
    params = prepare(cell, "layers").params
    rng = np.random.default_rng(3)
    inputs = [rng.normal(size=(60, rows, 64)).astype("f4") for rows in (1, 4, 9, 33)] * 4
    function = getattr(fastrnn, cell)
    expected = [flat(function(x, params, threads=1)) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: flat(function(x, params, threads=2)), inputs))
    for got, wanted in zip(results, expected, strict=True):
        assert_same_bits(got, wanted)


def test_an_error_in_one_future_is_its_own() -> None:
    call = prepare("gru", "rows")
    inputs = [call.x, call.x[..., 1:], call.x, call.x.astype("f8")]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(fastrnn.gru, x, call.params, threads=2) for x in inputs]
    for future in futures[::2]:
        assert_same_bits(flat(future.result()), call.expected)
    assert isinstance(futures[1].exception(), ValueError)
    assert isinstance(futures[3].exception(), TypeError)


def check_streams(call: Call, seed: int, until: threading.Event) -> None:
    """Streams that are dropped after some steps, while outputs of a few live on."""
    choose, outputs = random.Random(seed), []
    y, steps = call.expected[0], len(call.x)
    while not until.is_set():
        stream, t = fastrnn.Stream(call.params, call.x.shape[1]), choose.randrange(min(steps, 9))
        assert_same_bits((stream.run(call.x[:t], threads=choose.choice([1, 2])),), (y[:t],))
        outputs = [*outputs[-5:], (stream.step(call.x[t]), y[t])]
    for got, expected in outputs:
        assert_same_bits((got,), (expected,))


def check_errors(call: Call, until: threading.Event) -> None:
    stream = fastrnn.Stream(call.params, call.x.shape[1])
    while not until.is_set():
        with raises_as_said("ValueError", "x: expected (T, B, 64), got (..."):
            fastrnn.lstm(call.x[..., 1:], call.params, threads=2)
        with raises_as_said("ValueError", "threads: expected from 1 to 256, got 0"):
            fastrnn.lstm(call.x, call.params, threads=0)
        with raises_as_said("TypeError", "x: expected float32 (the dtype of params), got float64..."):
            stream.step(call.x[0].astype("f8"))
        call.check(threads=2)


def change_threads(until: threading.Event) -> None:
    for n in itertools.cycle([1, 2, 5, MOST]):
        if until.is_set():
            return
        fastrnn.set_num_threads(n)
        time.sleep(1e-4)


def storm() -> None:
    """Everything at once; afterwards the process is as before, but for the pool's threads, which wait for work."""
    calls, over = prepare_all(), threading.Event()
    streamed = prepare("lstm", "units")
    before = (os_threads(), open_files()) if sys.platform == "linux" else (0, 0)
    sys.setswitchinterval(1e-5)

    def collect() -> None:
        while not over.is_set():
            gc.collect()
            time.sleep(2e-3)

    others = [lambda: change_threads(over), collect, lambda: check_errors(streamed, over)]
    others += [lambda seed=seed: check_streams(streamed, seed, over) for seed in range(2)]
    with Crowd(others):
        try:
            with Crowd((lambda seed=seed: check_some(calls, CALLS, seed)) for seed in range(CALLERS)):
                pass
        finally:
            over.set()
    if sys.platform == "linux":
        settle(lambda: os_threads() <= before[0] + MOST - 1)
        assert open_files() == before[1]


def settle(condition: Callable[[], bool]) -> None:
    """Wait for it: a thread that has ended is listed in /proc for a moment."""
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


def test_storm() -> None:
    run_apart(storm)


def a_thread_for_each_call() -> None:
    """Threads that come and go leave nothing."""
    calls = [prepare("lstm", "units"), prepare("gru", "layers"), prepare("rnn", "brief")]
    for call in calls:
        call.check(threads=2)
    before = os_threads(), open_files()
    for i in range(60):
        with Crowd([lambda call=call: call.check(threads=2) for call in calls + calls[i % 3 :]]):
            pass
    settle(lambda: (os_threads(), open_files()) == before)


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_a_thread_for_each_call() -> None:
    run_apart(a_thread_for_each_call)


def interrupted_among_others() -> None:
    """Ctrl-C ends the call of the main thread, whatever it waits for, and no other."""
    calls, over, seen = prepare_all(), threading.Event(), 0
    endless = np.broadcast_to(calls[0].x[0], (10**12, *calls[0].x.shape[1:]))
    function = getattr(fastrnn, calls[0].cell)

    def work(call: Call) -> None:
        while not over.is_set():
            call.check(threads=2)

    with Crowd([lambda call=call: work(call) for call in calls[:6]]):
        for threads in (1, 2, 2):
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            try:
                function(endless, calls[0].params, threads=threads, return_sequences=False)
            except KeyboardInterrupt:
                seen += 1
            timer.join()
            calls[0].check(threads=threads)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            seen += 1
        over.set()
    assert seen == 4


@signals
def test_interrupt_among_others() -> None:
    run_apart(interrupted_among_others)


def longest_silence(work: Callable[[], object], after: float = 0) -> float:
    """The longest time in which no signal handler ran, and which ended after a part of all, as a part of all.

    Signals come all the while. Time is the processor's, which other processes do not lengthen.
    """
    times = [time.process_time()]
    signal.signal(signal.SIGPROF, lambda *_: times.append(time.process_time()))
    signal.setitimer(signal.ITIMER_PROF, 0.005, 0.005)
    work()
    signal.setitimer(signal.ITIMER_PROF, 0)
    times.append(time.process_time())
    parts = (np.array(times) - times[0]) / (times[-1] - times[0])
    return float(np.diff(parts)[parts[1:] > after].max())


def interrupt(work: Callable[[], object]) -> None:
    """Ctrl-C ends work soon after its beginning."""
    signal.signal(signal.SIGPROF, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_PROF, 0.02)
    with pytest.raises(KeyboardInterrupt):
        work()


def interrupted_pullbacks() -> None:
    """Ctrl-C ends a pullback long before its end, and leaves it as good as before."""
    rng = np.random.default_rng(0)
    weights = {"weight_ih": rng.normal(size=(1024, 256)) / 16, "weight_hh": rng.normal(size=(1024, 256)) / 16}
    params = fastrnn.LSTMParams(weights)
    step = rng.normal(size=(1, 16, 256))

    def taped(steps: int, threads: int, checkpoint: int | None = None) -> Callable[[], np.ndarray]:
        x = np.broadcast_to(step, (steps, 16, 256))
        (y, _), pullback = fastrnn.vjp(x, params, threads=threads, checkpoint=checkpoint)
        return lambda: pullback(y).weights["weight_hh"]

    begin = time.monotonic()
    taped(20, 1)()
    steps = int(0.6 * 20 / (time.monotonic() - begin)) + 20  # whose way back takes some 0.4 s, under a sanitizer too
    for threads, checkpoint in ((1, None), (2, None), (1, steps // 2)):
        back = taped(steps, threads, checkpoint)
        expected = back()
        assert longest_silence(back) < 0.5
        interrupt(back)
        assert np.array_equal(back(), expected)


@signals
def test_interrupted_pullbacks() -> None:
    run_apart(interrupted_pullbacks)


def interrupted_trace() -> None:
    """Ctrl-C ends a trace while it reads what the call has kept: the last two fifths of its time, in a dozen pieces."""
    params = fastrnn.GRUParams({"weight_ih": np.zeros((48, 1), "f4"), "weight_hh": np.zeros((48, 16), "f4")})
    x = np.zeros((3200, 256, 1), "f4")
    assert longest_silence(lambda: fastrnn.trace(x, params), after=0.75) < 0.2
    interrupt(lambda: fastrnn.trace(x, params))


@signals
def test_interrupted_trace() -> None:
    run_apart(interrupted_trace)


@signals
def test_handlers_run_in_their_own_float_mode() -> None:
    """Subnormals are flushed inside a call, but not in a signal handler that Python runs meanwhile."""
    code = """
import os, signal, threading, numpy as np, fastrnn
class Done(Exception): pass
def handler(*_):
    print(1e-308 / 4 > 0)
    raise Done
signal.signal(signal.SIGUSR1, handler)
w = {"weight_ih": np.full((64, 8), 0.1, "f4"), "weight_hh": np.full((64, 16), 0.1, "f4")}
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
try:
    fastrnn.lstm(np.broadcast_to(np.ones(8, "f4"), (10**12, 2, 8)), w, return_sequences=False)
except Done:
    pass
"""
    assert run_python(code).stdout == "True\n"
