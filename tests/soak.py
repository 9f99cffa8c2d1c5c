"""Random calls of everything, for as long as is asked: `python tests/soak.py --minutes 60`.

Each round does one of the methods `do_...` of `Soak` with numbers of its own, drawn from the seed and the round:
`--seed 3 --only 712` does one round again. Bits are compared with those of one thread and the scalar target, values
with `fastrnn.reference`. It ends with 1 where anything differed, or memory, threads or open files grew.
"""

from __future__ import annotations

import argparse
import copy
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastrnn
from support.cases import Case, Seeded, assert_same_bits, flat, random_case
from support.oracle import assert_close, stays_small, tolerance
from support.splits import shared_case
from support.usage import Usage

Rng = np.random.Generator
KEPT = 40  # layers that are kept from round to round, least used dropped first
MOST_THREADS, MOST_STEPS = 6, 19
ALARM = 1e-3  # seconds until a signal
SCALAR_MULTIPLIES = 3e6  # the most in a call that the scalar target repeats, at some 5 ns each
# How much the process may grow after the first tenth, with all kept layers dropped and free memory given back to the
# system: arenas of glibc and of Python that something small still lies in, and caches of both. A leak of one object in
# each round exceeds both limits within minutes.
GROWTH = Usage(rss=16 << 20, blocks=1000, threads=0, files=0)
WARM_ROUNDS = 200  # after which everything was done some times, and free pieces of memory are as many as they will be


def pick(rng: Rng, choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


class Layer(NamedTuple):
    case: Case
    params: Any
    expected: tuple[np.ndarray, ...]


class EnoughError(Exception):
    pass


class Soak:
    def __init__(self, seed: int, folder: str) -> None:
        self.seed, self.folder, self.done = seed, Path(folder), Counter[str]()
        self.layer = lru_cache(KEPT)(self.make_layer)
        self.actions = [name for name in dir(self) if name.startswith("do_")]

    def make_layer(self, number: int) -> Layer:
        rng = np.random.default_rng([self.seed, number])
        case = (
            shared_case(Seeded(rng))
            if number % 8 == 0
            else random_case(Seeded(rng), most_steps=MOST_STEPS, may_reset=True)
        )
        work = sum(array.size for array in case.weights.values()) * max(1, case.x.shape[0] * case.x.shape[1])
        targets = fastrnn.usable_targets()  # the last is scalar
        slow = work > SCALAR_MULTIPLIES and len(targets) > 1
        params = case.params(pick(rng, targets[:-1] if slow else targets))
        return Layer(case, params, case.run(targets[0] if slow else "scalar", threads=1))

    def some_layer(self, rng: Rng, number: int) -> Layer:
        """A layer that is new, or one that was used before."""
        return self.layer(number + int(rng.integers(2 * KEPT)))

    def run(self, layer: Layer, **options: Any) -> tuple[np.ndarray, ...]:
        self.done["calls"] += 1
        case = layer.case
        return flat(getattr(fastrnn, case.cell)(case.x, layer.params, case.state, **case.call, **options))

    def compare(self, got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
        self.done["comparisons"] += 1
        assert_same_bits(got, expected)

    def check(self, layer: Layer, **options: Any) -> None:
        self.compare(self.run(layer, **options), layer.expected)

    def round(self, number: int) -> None:
        rng = np.random.default_rng([self.seed, number, 1])
        fastrnn.set_num_threads(int(rng.integers(1, MOST_THREADS + 1)))
        name = self.actions[number % len(self.actions)]
        self.done[name] += 1
        getattr(self, name)(rng, self.some_layer(rng, number))

    def do_calls(self, rng: Rng, layer: Layer) -> None:
        for _ in range(5):
            self.check(layer, threads=pick(rng, [None, 1, 2, 3]))

    def do_out(self, rng: Rng, layer: Layer) -> None:
        out = np.full((*layer.expected[0].shape[:-1], layer.expected[0].shape[-1] + 3), np.nan, layer.expected[0].dtype)
        self.check(layer, out=out[..., 1:-2])
        assert np.isnan(out[..., [0, -1]]).all()

    def do_reference(self, rng: Rng, layer: Layer) -> None:
        case = random_case(Seeded(rng), largest=33, most_steps=MOST_STEPS, may_reset=True)
        expected = case.reference()
        if stays_small(expected):
            self.done["comparisons"] += 1
            assert_close(case.run(), expected, tolerance(case, expected))

    def do_params(self, rng: Rng, layer: Layer) -> None:
        """Params that are copied, pickled, saved and loaded, and dropped again."""
        params = layer.params
        copies = [copy.deepcopy(params), pickle.loads(pickle.dumps(params))]
        for suffix in (".npz", ".safetensors"):
            path = self.folder / f"layer{suffix}"
            try:
                params.save(path)
            except ImportError:
                continue
            copies.append(fastrnn.load(path))
        for other in [*copies, layer.case.params()]:
            assert other == params
            self.check(layer._replace(params=other))
        assert str(params.hidden_size) in repr(params)
        assert "Scratch" in params.explain(int(rng.integers(100)), int(rng.integers(100)))

    def do_stream(self, rng: Rng, layer: Layer) -> None:
        case, params = layer.case, layer.params
        x = case.x.swapaxes(0, 1) if case.batch_first else case.x
        if params.direction != "forward" or not x.size:
            return
        expected = flat(getattr(fastrnn, case.cell)(x, params, case.state))
        stream, ys, t = fastrnn.Stream(params, x.shape[1]), [], 0
        stream.state = case.state
        while t < len(x):
            steps = int(rng.integers(1, len(x) - t + 1)) if rng.random() < 0.3 else 1
            ys.append(stream.step(x[t])[None].copy() if steps == 1 else stream.run(x[t : t + steps], threads=2))
            t += steps
            if rng.random() < 0.1:
                stream = pickle.loads(pickle.dumps(stream))
        self.done["calls"] += len(ys)
        self.compare(flat((np.concatenate(ys), stream.state)), expected)

    def do_errors(self, rng: Rng, layer: Layer) -> None:
        def endless(x: np.ndarray) -> np.ndarray:
            return np.broadcast_to(x.dtype.type(0), (1 << 55, 1, x.shape[-1]))

        params, x, function = layer.params, layer.case.x, getattr(fastrnn, layer.case.cell)
        make: Any = type(params)
        wrong: list[Callable[[], Any]] = [
            lambda: function(x[..., None], params),
            lambda: function(x, params, threads=0),
            lambda: function(x, params, lengths=[-1] * 3),
            lambda: function(endless(x), params),
            lambda: fastrnn.Stream(params, 1 << 55),
            lambda: make({**layer.case.weights, "weight_xx": x}),
        ]
        for call in wrong:
            self.done["errors"] += 1
            try:
                call()
            except (ValueError, TypeError, MemoryError):
                continue
            raise AssertionError("a wrong call passed")
        self.check(layer)

    def do_signals(self, rng: Rng, layer: Layer) -> None:
        """A handler that makes calls, then one that raises.

        No timer repeats by itself, and a handler is waited for before the next alarm is set: an alarm that came while
        the error of another was on its way would raise wherever that was, in a `finally` too.
        """
        other, again, rung, raised = self.layer(0), True, False, False

        def calling(*_: object) -> None:
            self.check(other, threads=2)
            if again:  # the timer is set anew after the calls, so that no handler runs within another without end
                signal.setitimer(signal.ITIMER_REAL, ALARM * 20)

        def raising(*_: object) -> None:
            nonlocal rung
            rung = True
            raise EnoughError

        before = signal.signal(signal.SIGALRM, calling)
        try:
            signal.setitimer(signal.ITIMER_REAL, ALARM)
            for _ in range(5):
                self.check(layer)
            again = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, raising)  # an alarm that has come by now is first answered by `calling`
            while not raised:
                rung = False
                try:
                    signal.setitimer(signal.ITIMER_REAL, ALARM)
                    while not rung:
                        self.check(layer)
                    # Python had nobody to give the error to, as in a finalizer: once more.
                except EnoughError:
                    raised = True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        self.check(layer)

    def do_fork(self, rng: Rng, layer: Layer) -> None:
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                self.check(layer, threads=3)
                os._exit(0)
            finally:
                os._exit(1)
        self.check(layer, threads=3)
        assert os.waitpid(child, 0)[1] == 0

    def do_threads(self, rng: Rng, layer: Layer) -> None:
        layers = [layer, self.layer(0), self.some_layer(rng, int(rng.integers(100)))]
        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(self.check, layers[i % 3], threads=1 + i % 4) for i in range(16)]:
                future.result()


def soak(seconds: float, seed: int, only: int | None) -> bool:
    """Whether all was well."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is wanted here
    start, said, number, failures = time.monotonic(), 0.0, 0, 0
    early: Usage | None = None
    with tempfile.TemporaryDirectory() as folder:
        all_rounds = Soak(seed, folder)
        while (elapsed := time.monotonic() - start) < seconds or number == 0:
            try:
                all_rounds.round(number if only is None else only)
            except Exception:
                failures += 1
                print(f"--seed {seed} --only {number if only is None else only}:", file=sys.stderr)
                traceback.print_exc()
            number += 1
            if early is None and elapsed > seconds / 10 and number > WARM_ROUNDS:
                all_rounds.layer.cache_clear()
                early = Usage.now()
            if elapsed > said + 60:
                said = elapsed
                print(f"{elapsed / 60:.0f} min: {number} rounds, {failures} failures, {Usage.now()}", flush=True)
            if only is not None:
                break
        all_rounds.layer.cache_clear()
        late = Usage.now()
    early = early or late
    print(", ".join(f"{count} {name.removeprefix('do_')}" for name, count in all_rounds.done.items()))
    print(f"at a tenth: {early}\nat the end: {late}")
    grew = late.exceeds(early, GROWTH)
    print(f"{number} rounds, {failures} failures{', and it grew' if grew else ''}")
    return not failures and not grew


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="ROUND", help="do this round alone")
    arguments = parser.parse_args()
    # Start as many threads of the pool as any round asks for: their number is then the same at a tenth and at the end.
    case = shared_case(Seeded(np.random.default_rng(0)))
    case.run(threads=MOST_THREADS)
    threading.stack_size(1 << 20)
    return 0 if soak(60 * arguments.minutes, arguments.seed, arguments.only) else 1


if __name__ == "__main__":
    sys.exit(main())
