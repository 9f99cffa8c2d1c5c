"""The end of a process while daemon threads are in calls: its own exit status, no word on stderr, at once.

The interpreter gives daemon threads its lock no more once it is about to end, and ends those that ask for it. So a call
must not ask for it in its middle: workers would go on in memory of a thread that is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from support.apart import run_python

SCRIPT = """if True:
    import atexit, os, signal, sys, threading, time
    import numpy as np, fastrnn

    def layer(cell, inputs, hidden, layers=1, directions=("",)):
        gates = {"LSTM": 4, "GRU": 3}[cell]
        weights = {}
        for end in (f"_l{k}{d}" for k in range(layers) for d in directions):
            size = hidden * len(directions) if end[2] != "0" else inputs
            weights[f"weight_ih{end}"] = np.full((gates * hidden, size), 0.01, "f4")
            weights[f"weight_hh{end}"] = np.full((gates * hidden, hidden), 0.01, "f4")
        return getattr(fastrnn, f"{cell}Params")(weights)

    def steps(T, B, I):
        return np.broadcast_to(np.ones(I, "f4"), (T, B, I))

    LONG = 10**9
    units, layers, rows = layer("LSTM", 64, 400), layer("LSTM", 64, 112, 3), layer("LSTM", 40, 100)
    directions, small = layer("GRU", 40, 160, 2, ("", "_reverse")), layer("GRU", 8, 16)

    def lstm(params, x, threads):
        fastrnn.lstm(x, params, threads=threads, return_sequences=False)

    def step():
        stream = fastrnn.Stream(units)
        for x in steps(1000, 1, 64):
            stream.step(x)

    CALLS = {
        "units": lambda: lstm(units, steps(LONG, 1, 64), 2),
        "units, short": lambda: lstm(units, steps(60, 1, 64), 2),
        "layers": lambda: lstm(layers, steps(LONG, 1, 64), 2),
        "layers, short": lambda: lstm(layers, steps(100, 1, 64), 2),
        "rows": lambda: lstm(rows, steps(LONG, 64, 40), 2),
        "one thread": lambda: lstm(rows, steps(LONG, 64, 40), 1),
        "directions": lambda: fastrnn.gru(steps(10**5, 1, 40), directions, threads=2),
        "brief": lambda: fastrnn.gru(steps(2, 1, 8), small),
        "run": lambda: fastrnn.Stream(units).run(steps(10**5, 1, 64), threads=2),
        "step": step,
        "error": lambda: fastrnn.gru(steps(2, 1, 9), small),
    }

    class Slow:
        def __del__(self, sleep=time.sleep):
            sleep(0.1)  # while the interpreter ends: time for its threads to go wrong in

    slow = Slow()

    def work(call, begun):
        begun.set()
        while True:
            try:
                call()
            except ValueError:
                pass

    def start(name):
        begun = threading.Event()
        threading.Thread(target=work, args=(CALLS[name], begun), daemon=True).start()
        begun.wait()

    for name in sys.argv[1].split("; "):
        start(name)
    time.sleep(0.1)
"""
KINDS = ["units", "units, short", "layers", "layers, short", "rows", "one thread", "directions", "brief", "run", "step"]
ALL = "; ".join([*KINDS, "error"])
SOON = 30  # seconds: far more than an end takes, and far less than the calls


def run(ending: str, kinds: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a process that prints when it is about to end, and ends soon after."""
    result = run_python(f"{SCRIPT}\n    print(time.time(), flush=True)\n{ending}", kinds)
    began, _, printed = result.stdout.partition("\n")
    assert result.stderr == "" or began, result.stderr
    assert time.time() - float(began) < SOON
    return result.returncode, printed, result.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_end_of_main(kind: str) -> None:
    """Two threads in calls of the same kind: one of them has the pool."""
    assert run("", f"{kind}; {kind}") == (0, "", "")


def test_end_of_main_with_all_kinds() -> None:
    assert run("", ALL) == (0, "", "")


ENDINGS = {
    "sys.exit": ("sys.exit(3)", 3),
    "os._exit": ("os._exit(4)", 4),
    "atexit": ("atexit.register(lambda: print(fastrnn.lstm(steps(60, 1, 64), units, threads=2)[0].shape))", 0),
    "del": ("slow.other = type('Other', (), {'__del__': lambda self, c=CALLS['layers, short']: c()})()", 0),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_endings(ending: str) -> None:
    code, status = ENDINGS[ending]
    printed = "(60, 1, 400)\n" if ending == "atexit" else ""
    assert run(f"    {code}", ALL) == (status, printed, "")


def test_uncaught_exception() -> None:
    status, printed, errors = run("    raise LookupError('the end')", ALL)
    assert (status, printed, errors.splitlines()[-1]) == (1, "", "LookupError: the end")
    assert errors.count("\n") < 6


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_signals() -> None:
    assert run("    os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", ALL) == (-signal.SIGTERM, "", "")
    status, _, errors = run("    os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", ALL)
    assert status == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_child_that_ends_as_programs_do() -> None:
    """A forked child, which has none of the threads, makes a call and ends through the interpreter."""
    ending = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    child = os.fork()
    CALLS["layers, short"]()
    if child:
        print(os.waitpid(child, 0)[1])"""
    assert run(ending, ALL) == (0, "0\n", "")
