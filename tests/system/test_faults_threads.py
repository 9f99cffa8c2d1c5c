"""Signals, stopped threads and lesser processors in the middle of a call: the right bits all the same.

(a) Storms of signals.
(b) A thread that is stopped: nobody else waits for it.
(c) Processors that lack instruction sets.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from support.apart import SETUP, run_python, succeed
from support.cells import GATES
from support.environment import TESTS, glibc_alone

# (a)

STORM = """
    kind, restarts = sys.argv[1:]
    number, timer = {"alarm": (signal.SIGALRM, signal.ITIMER_REAL), "prof": (signal.SIGPROF, signal.ITIMER_PROF)}[kind]
    calls = [shared(kind, cell) for kind in SPLITS for cell in ("lstm", "gru")]
    expected = [call(1) for call in calls]

    def storm(seconds):
        signal.siginterrupt(number, restarts == "no")
        signal.setitimer(timer, 1e-4, 1e-4)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for call, right in zip(calls, expected):
                assert_same_bits(call(), right)
        signal.setitimer(timer, 0)
"""
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
storms = pytest.mark.parametrize(("kind", "restarts"), [("alarm", "yes"), ("alarm", "no"), ("prof", "yes")])


@needs_signals
@storms
def test_a_storm_of_signals_for_python(kind: str, restarts: str) -> None:
    succeed(
        f"""{STORM}
    seen = []
    signal.signal(number, lambda *_: seen.append(threading.get_ident()))
    storm(0.5)
    assert len(seen) > 4 and set(seen) == {{threading.get_ident()}}, len(seen)
    """,
        *(kind, restarts),
    )


@storms
def test_a_storm_of_signals_for_c(kind: str, restarts: str, preload: str) -> None:
    """Signals with a handler in C, whatever system call they interrupt, while other threads call too."""
    succeed(
        f"""{STORM}
    from support.preloaded import count_signal, signals

    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes = ctypes.c_int, ctypes.c_void_p
    set_handler.restype = ctypes.c_void_p
    set_handler(number, ctypes.cast(count_signal, ctypes.c_void_p))
    wrong = []

    def beside():
        for _ in range(20):
            try:
                assert_same_bits(calls[0](), expected[0])
            except BaseException as error:
                wrong.append(error)

    thread = threading.Thread(target=beside)
    thread.start()
    storm(0.5)
    thread.join()
    assert not wrong and signals.value > 4, (wrong, signals.value)
    """,
        *(kind, restarts),
        LD_PRELOAD=preload,
    )


@needs_signals
@pytest.mark.parametrize("kind", ["rows", "directions", "units", "layers"])
def test_a_handler_that_raises_ends_a_shared_call(kind: str) -> None:
    succeed(
        """
    class Enough(Exception):
        pass

    def handler(*_):
        seen.append(threading.get_ident())  # after which a handler of a signal that came meanwhile runs
        if len(seen) >= 5:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Enough

    seen, (params, x) = [], split(sys.argv[1])
    steps = 2**14 if params.bidirectional else 2**36  # a bidirectional stack keeps all outputs of a layer
    endless = np.broadcast_to(x[:1], (steps, *x.shape[1:]))
    expected = flat(fastrnn.lstm(x, params, threads=1))
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
    try:
        while True:
            fastrnn.lstm(endless, params, return_sequences=False, threads=2)
    except Enough:
        pass
    assert set(seen) == {threading.get_ident()}
    assert_same_bits(flat(fastrnn.lstm(x, params, threads=2)), expected)
    """,
        kind,
    )


# (b)

SEIZE, INTERRUPT, DETACH, ANY_THREAD = 0x4206, 0x4207, 17, 0x40000000  # of ptrace and waitpid


@contextmanager
def stopped(tid: int) -> Iterator[None]:
    """Stop one thread of a child process, and let it go on at the end of the block."""
    trace = ctypes.CDLL(None, use_errno=True).ptrace
    trace.argtypes, trace.restype = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p), ctypes.c_long
    if trace(SEIZE, tid, None, None):
        error = ctypes.get_errno()
        if error == errno.ESRCH:
            raise ProcessLookupError
        pytest.skip(f"ptrace: {os.strerror(error)}")
    assert trace(INTERRUPT, tid, None, None) == 0
    os.waitpid(tid, ANY_THREAD)
    try:
        yield
    finally:
        if trace(DETACH, tid, None, None):
            os.waitpid(tid, ANY_THREAD)  # the thread was killed, and the child ends only when its tracer has been told


STOPPED = """
    who = sys.argv[1]
    tasks = lambda: {int(name) for name in os.listdir("/proc/self/task")}
    before, brief = tasks(), shared("units", "gru")
    # Many calls, so that a worker is stopped at any moment, or a few long ones: a caller must not be stopped while it
    # has the interpreter lock.
    calls = [shared(kind, times=1 if who == "worker" else 40) for kind in SPLITS]
    expected, right = [call(1) for call in calls], brief(1)
    calls[0]()
    (worker,) = tasks() - before
    results, times = [], 15 if who == "worker" else 1

    def work():
        print(worker if who == "worker" else threading.get_native_id(), flush=True)
        for call in calls * times:
            results.append(call())

    thread = threading.Thread(target=work)
    thread.start()
    for line in sys.stdin:  # a line comes each time that the thread has been stopped
        assert_same_bits(brief(), right)
        print(len(results), flush=True)
    thread.join()
    for got, right in zip(results, expected * times, strict=True):
        assert_same_bits(got, right)
"""


@glibc_alone
@pytest.mark.parametrize("who", ["worker", "caller"])
def test_nobody_waits_for_a_thread_that_is_stopped(who: str) -> None:
    """While it is stopped, another caller's calls are done. Then it goes on, and its own call has the right bits."""
    command = [sys.executable, "-c", SETUP + STOPPED, who]
    with subprocess.Popen(
        command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        watch = threading.Timer(100, child.kill)
        watch.start()
        answers = []
        try:
            tid = int(child.stdout.readline())
            with suppress(ProcessLookupError):  # the thread ended before it could be stopped
                enough = time.monotonic() + 10
                while time.monotonic() < enough and len(answers) < 50:
                    with stopped(tid):
                        print("stopped", file=child.stdin, flush=True)
                        answers.append(bool(select.select([child.stdout], [], [], 3)[0]))
                    child.stdout.readline()
                    time.sleep(0.005)
            _, said = child.communicate()
        finally:
            watch.cancel()
            child.kill()
        assert child.returncode == 0, said
        # A caller may have been stopped while it had the interpreter lock, between two calls.
        assert sum(answers) == len(answers) > 0 if who == "worker" else sum(answers) > len(answers) / 2


# (c)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a processor of another kind")
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-x86_64 is not installed")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="what is preloaded does not run under emulation")
@pytest.mark.parametrize(("processor", "targets"), [("Haswell", ["avx2", "scalar"]), ("Nehalem", ["scalar"])])
def test_a_processor_without(processor: str, targets: list[str]) -> None:
    """On an emulated processor: the targets that it can run, no other instruction, and the same bits."""
    code = f"""if True:
        import hashlib
        import numpy as np, fastrnn
        print(*fastrnn.usable_targets())
        digest, rng = hashlib.sha256(), np.random.default_rng(6)
        for cell, gates in {GATES}.items():
            shapes = dict(weight_ih=(gates * 19, 5), weight_hh=(gates * 19, 19), bias_ih=(gates * 19,))
            weights = dict((name, rng.uniform(-0.3, 0.3, shape)) for name, shape in shapes.items())
            for dtype in ("float32", "float64"):
                params = getattr(fastrnn, cell.upper() + "Params")(weights, dtype=dtype)
                for rows in (1, 9):
                    x = rng.uniform(-1, 1, (7, rows, 5)).astype(dtype)
                    digest.update(getattr(fastrnn, cell)(x, params, threads=2)[0].tobytes())
        print(params.target, digest.hexdigest())"""
    native = run_python(code).stdout.splitlines()
    command = ["qemu-x86_64", "-cpu", processor, sys.executable, "-c", code]
    result = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [" ".join(targets), f"{targets[0]} {native[1].split()[1]}"]
