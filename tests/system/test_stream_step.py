"""A step of a stream, or of streams of a pool, allocates nothing, locks nothing and makes no system call.

A process counts its allocations and locks; at a system call the kernel ends it.
"""

from __future__ import annotations

import platform

import pytest

from support.apart import run_python
from support.cells import CELLS
from support.environment import glibc_alone

SMALL = """if True:
    import ctypes, sys, time
    from itertools import repeat
    import numpy as np, fastrnn

    from support.cases import make_weights
    from support.cells import PARAMS

    cell, *words = sys.argv[1].split()
    proj = 3 if "projected" in words else 0
    weights = make_weights(np.random.default_rng(0), cell, (4, 4), layers=2, proj=proj)
    options = {"reset_after": False} if "resets-before" in words else {}
    precision = next((word for word in words if word in ("float16", "int8", "int8_fast")), None)
    params = PARAMS[cell](weights, target=sys.argv[2], precision=precision, **options)
    one, three = fastrnn.Stream(params), fastrnn.Stream(params, 3)
    pool = fastrnn.StreamPool(params, 2)
    ids = [pool.open() for _ in range(5)]
    some, all_ids, y = ids[3:0:-1], np.array(ids), np.empty((5, proj or 4), "float32")
    x = np.ones((5, 4), "float32")

    def steps(n, first=one.step, row=x[0], second=three.step, rows=x[:3], pooled=pool.step, one_id=ids[2]):
        for _ in repeat(None, n):
            first(row)
            second(rows)
            pooled(some, rows)
            pooled(all_ids, x, y)
    steps(2)
"""
KINDS = [*CELLS, "lstm projected", "gru resets-before"]
KINDS += ["rnn float16", "lstm projected int8", "gru resets-before int8_fast"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_allocates_and_locks_nothing(kind: str, target: str, preload: str) -> None:
    """Objects of Python are counted too: its allocator is told to use malloc."""
    code = f"""{SMALL}
    from support.preloaded import allocations, locks
    counters = allocations, locks

    def counted(f, n):
        before = [counter.value for counter in counters]
        f(n)
        return [counter.value - start for counter, start in zip(counters, before)]

    print(max(counted(steps, 10000)) < 100)  # reading the counters allocates a few objects
    function = getattr(fastrnn, cell)
    calls = counted(lambda n: [(function(x[:3], params), time.sleep(0)) for _ in range(n)], 1000)
    print(min(calls) >= 1000)  # calls do allocate, and the counters see it
    """
    result = run_python(code, kind, target, LD_PRELOAD=preload, PYTHONMALLOC="malloc")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "True\nTrue\n"


EXIT = {"x86_64": 60, "aarch64": 93}  # the system call that ends one thread


@glibc_alone
@pytest.mark.skipif(platform.machine() not in EXIT, reason="the number of a system call is not known")
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_makes_no_system_call(kind: str, target: str) -> None:
    """The kernel is asked to end the thread at any system call but read, write and exit."""
    code = f"""{SMALL}
    libc = ctypes.CDLL(None)
    prctl, write, syscall = libc.prctl, libc.write, libc.syscall
    SECCOMP, STRICT, EXIT = 22, 1, {EXIT[platform.machine()]}
    steps(1)
    if prctl(SECCOMP, STRICT, 0, 0, 0) == 0:
        steps(10000)
        write(1, b"done", 4)
        syscall(EXIT, 0)
    print("no seccomp")
    """
    result = run_python(code, kind, target, OPENBLAS_NUM_THREADS="1")
    if result.stdout.strip() == "no seccomp":
        pytest.skip("the kernel has no seccomp")
    assert (result.returncode, result.stdout) == (0, "done"), result
