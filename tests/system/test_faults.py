"""What the system refuses: the right bits, or an error that leaves all as it was.

(a) Through the C interface, c/faults.c: each malloc refused in turn, threads, processors and sizes of caches refused.
(b) From Python: mallocs of the extension refused, threads refused, Python's own objects refused.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.apart import succeed
from support.environment import TESTS, glibc_alone

if TYPE_CHECKING:
    from support.c_programs import Library

# (a)

WRAPPED = [
    *("malloc", "free", "sysconf", "sched_getaffinity", "sched_getcpu", "pthread_create", "pthread_atfork"),
    *("pthread_attr_init", "pthread_attr_setstacksize", "pthread_setaffinity_np"),
]


@pytest.fixture(scope="module")
def faults(c_library: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("faults") / "faults"
    return c_library.program(TESTS / "c" / "faults.c", program, *(f"-Wl,--wrap={name}" for name in WRAPPED))


@pytest.mark.parametrize(
    ("refused", "allowed", "at_least"),
    [
        ("malloc", 0, 200),
        ("pthread_create", 0, 10),
        ("pthread_create", 1, 10),
        ("pthread_atfork", 0, 1),
        ("pthread_attr_init", 0, 10),
        ("pthread_attr_setstacksize", 0, 1),
        ("pthread_setaffinity_np", 0, 1),
        ("sched_getaffinity", 0, 1),
        ("sched_getcpu", 0, 1),
        ("sysconf", 0, 1),
    ],
)
def test_the_system_refuses(refused: str, allowed: int, at_least: int, faults: Path) -> None:
    if refused in ("pthread_setaffinity_np", "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("workers are placed only where there are two processors")
    result = subprocess.run([faults, refused, str(allowed)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= at_least


# (b)


def test_mallocs_of_the_extension_refused(preload: str) -> None:
    lines = succeed(
        """
    from support.preloaded import held, mallocs, refused_mallocs

    deep, long = split("directions")
    flat_params, wide = split("rows", "gru")
    wide = np.concatenate([wide] * 8, 1)  # so many rows that their scratch is not on the stack
    stream = fastrnn.Stream(flat_params, wide.shape[1])

    def stream_run():
        stream.reset()
        stream.step(wide[0])
        before = stream.state
        try:
            return flat((stream.run(wide), stream.state))
        except MemoryError:
            assert_same_bits((stream.state,), (before,))
            raise

    pool = fastrnn.StreamPool(flat_params)
    ids, rows = [pool.open() for _ in range(wide.shape[1])], wide.swapaxes(0, 1)

    def pool_run():
        pool.reset()
        pool.step(ids, wide[0])
        before = pool.state(ids)
        try:
            return flat((pool.run(ids, rows), pool.state(ids)))
        except MemoryError:
            assert_same_bits((pool.state(ids),), (before,))
            raise

    def grown():
        pool = fastrnn.StreamPool(params, 1)
        ids = [pool.open()]
        try:
            ids.append(pool.open())
        except MemoryError:
            assert [*pool] == ids and pool.capacity == 1
            pool.step(ids, x[0, :1])
            raise
        return (pool.step(ids, x[0, :2]),)

    def pickled():
        return flat(fastrnn.lstm(x, pickle.loads(pickle.dumps(params))))

    calls = {kind: shared(kind) for kind in SPLITS} | {
        "alone": lambda: flat(fastrnn.lstm(long, deep, lengths=[17], threads=1)),
        "params": lambda: flat(fastrnn.lstm(x, fastrnn.LSTMParams(F))),
        "pickle": lambda: flat(fastrnn.lstm(x, pickle.loads(pickle.dumps(params)))),
        "stream": lambda: (fastrnn.Stream(params, 3).step(x[0]).copy(),),
        "stream.run": stream_run,
        "pool": grown,
        "pool.run": pool_run,
    }
    for name, call in calls.items():
        expected, kept, n, refused = call(), held.value, 0, True
        while refused:
            n, before, got = n + 1, mallocs.value, None
            with refused_mallocs(n):
                try:
                    got = call()
                except MemoryError as error:
                    assert str(error).startswith(("no memory for", "weights: no memory for")) or not str(error)
            refused = mallocs.value - before >= n
            assert got or refused
            assert_same_bits(got or expected, expected)
            assert_same_bits(call(), expected)
            assert held.value == kept, name
        print(name, n - 1)
    """,
        LD_PRELOAD=preload,
    )
    refused = {name: int(count) for name, count in map(str.split, lines)}
    assert len(refused) == 11
    assert min(refused.values()) >= 1, refused
    assert refused["params"] == 3


@pytest.mark.parametrize("allowed", [0, 1])
def test_threads_refused(allowed: int, preload: str) -> None:
    succeed(
        f"""
    from support.preloaded import threads_left

    calls = [shared(kind) for kind in SPLITS]
    expected = [call(1) for call in calls]
    threads_left.value = {allowed}
    for _ in range(2):
        for call, right in zip(calls, expected):
            for threads in (2, 3, 256):
                assert_same_bits(call(threads), right)
    before = len(os.listdir("/proc/self/task"))
    threads_left.value = 9
    assert_same_bits(calls[0](3), expected[0])  # threads are started as soon as the system gives them
    assert len(os.listdir("/proc/self/task")) > before
    """,
        LD_PRELOAD=preload,
    )


OBJECTS = """
    try:
        from _testcapi import remove_mem_hooks, set_nomemory
    except ImportError:
        print("no _testcapi")
        sys.exit()

    def text(words):
        return (np.frombuffer(words.encode(), np.uint8),)

    def bad_call():
        try:
            fastrnn.lstm(x[..., :2], params)
        except ValueError as error:
            return text(str(error))

    def set_and_get():
        stream.state = state
        return stream.state

    def step():
        stream.state = state
        return (stream.step(x[0]).copy(), *stream.state)

    stream = fastrnn.Stream(params, 3)
    calls = {
        "call": lambda: flat(fastrnn.lstm(x, both, threads=2)),
        "state": lambda: flat(fastrnn.lstm(x, params, state, return_sequences=False)),
        "stream": lambda: (fastrnn.Stream(params, 3).step(x[0]).copy(),),
        "stream.run": lambda: (fastrnn.Stream(params, 3).run(x),),
        "stream.state": set_and_get,
        "stream.step": step,
    }
    if sys.version_info < (3, 12):  # CPython 3.12 and later crash where no memory is left for a generator, in any code
        calls |= {
            "out": lambda: flat(fastrnn.lstm(x, params, out=np.empty((4, 3, 6), "f4"))),
            "explain": lambda: text(params.explain(10, 2, 2)),
            "lengths": lambda: flat(fastrnn.lstm(x, both, lengths=[1, 4, 0])),
            "params": lambda: flat(fastrnn.lstm(x, fastrnn.LSTMParams(F))),
            "mapping": lambda: flat(fastrnn.lstm(x, F)),
            "pickle": lambda: flat(fastrnn.lstm(x, pickle.loads(pickle.dumps(params)))),
            "bad call": bad_call,
        }
    # Calls with much code of Python and NumPy: these forget to set the error at times, which is a SystemError then.
    others = {name: Exception for name in ("lengths", "params", "mapping", "pickle", "bad call")}
    sys.unraisablehook = lambda *_: None  # silences errors of CPython closing generators without memory
    for name, call in calls.items():
        expected, failed = call(), 0
        for count in (1, 3):
            n, succeeded = 0, 0
            while succeeded < 3 and n < 2000:  # a call may succeed early, from what is cached
                got = None
                set_nomemory(n, n + count)
                try:
                    got = call()
                except others.get(name, MemoryError):
                    pass
                finally:
                    remove_mem_hooks()
                n, succeeded, failed = n + 1, succeeded + (got is not None), failed + (got is None)
                assert_same_bits(got or expected, expected)
                assert_same_bits(call(), expected)
        assert failed > 3, name
"""


@glibc_alone
def test_objects_refused() -> None:
    """Each call gives MemoryError or the right bits, and the call after it the right bits."""
    if succeed(OBJECTS):
        pytest.skip("this Python comes without its module _testcapi")
