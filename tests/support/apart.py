"""Code and functions of tests in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from support.environment import TESTS

LIMIT = 110  # seconds, after which a process is taken to hang


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, warnings being errors. It can import `support`.

    Not in the folder of the checkout: Python looks there first, and would find the package without its extension.
    """
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=TESTS, env=os.environ | environment, capture_output=True, text=True, timeout=120)


def import_tests(name: str) -> str:
    """Code that imports a file of tests, which its own process has imported already, as `tests`."""
    folder = os.path.dirname(str(sys.modules[name].__file__))
    return f"import sys; sys.path.insert(0, {folder!r}); import {name} as tests\n"


def run_apart(function: Callable[[], None], *arguments: str) -> None:
    """Run a function of a file of tests in a process of its own, which ends where it hangs, and says where."""
    watch = f"import faulthandler; faulthandler.dump_traceback_later({LIMIT}, exit=True)\n"
    code = watch + import_tests(function.__module__) + f"tests.{function.__name__}()"
    result = run_python(code, *arguments)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


SETUP = """if True:
    import ctypes, itertools, os, pickle, signal, sys, threading, time
    import numpy as np, fastrnn
    from support.cases import assert_same_bits, flat, make_weights
    from support.splits import SPLITS

    rng = np.random.default_rng(6)

    def split(kind, cell="lstm"):
        "Params and input of a size at which two threads share a call in this way."
        return SPLITS[kind].make(rng, cell)

    def shared(kind, cell="lstm", times=1):
        "A call that two threads share."
        params, x = split(kind, cell)
        x = np.concatenate([x] * times)
        return lambda threads=2: flat(getattr(fastrnn, cell)(x, params, threads=threads))

    F = make_weights(rng, "lstm", (5, 6), layers=2)
    both = fastrnn.LSTMParams(make_weights(rng, "lstm", (5, 6), directions=("", "_reverse")))
    params = fastrnn.LSTMParams(F)
    x = rng.uniform(-1, 1, (4, 3, 5)).astype("f4")
    state = fastrnn.lstm(x, params)[1]
"""


def succeed(code: str, *arguments: str, **environment: str) -> list[str]:
    """Lines that the code prints, which begins with `SETUP`."""
    result = run_python(SETUP + code, *arguments, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()
