"""Code that runs in a process of its own, with layers of every size at which two threads share a call."""

from __future__ import annotations

from conftest import run_python

SETUP = """if True:
    import ctypes, itertools, os, pickle, signal, sys, threading, time
    import numpy as np, fastrnn
    from cases import PARAMS, assert_same_bits, flat, make_weights
    from test_plan import SPLITS

    rng = np.random.default_rng(6)

    def split(kind, cell="lstm"):
        "Params and input of a size at which two threads share a call in this way."
        sizes, layers, directions, B, T, _ = SPLITS[kind]
        weights = make_weights(rng, cell, sizes, layers=layers, directions=("", "_reverse")[:directions])
        return PARAMS[cell](weights), rng.uniform(-1, 1, (T, B, sizes[0])).astype("f4")

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
    """Lines that the code prints."""
    result = run_python(SETUP + code, *arguments, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()
