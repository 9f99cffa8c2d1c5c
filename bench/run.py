"""Runs the cases: one process for each peer, outputs compared first, then rounds in turns."""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from bench.cases import Case
from bench.peers import OURS, PEERS, Library
from bench.roofline import Level, Limits, roofline

ROOT = Path(__file__).resolve().parent.parent
# The checkout comes last on the path: an installed fastrnn is found before its sources, which may not be built.
LAUNCH = "import sys; sys.path.append(sys.argv[1]); from bench.worker import main; main()"
THREAD_VARIABLES = ["OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "FASTRNN"]

ROUND_SECONDS = 2e-3  # calls are repeated until a round takes about this long
WARM_SECONDS = 10e-3  # a call longer than this is not warmed up in each round: it warms itself
FEWEST_ROUNDS = 3
HOPELESS = 5, 0.3  # a peer so many times slower than fastrnn, whose call takes so many seconds, is not timed
MOST_IDLE = 0.02
ANSWER_SECONDS = 180  # a process that is silent for so long is ended


class WorkerDied(Exception):  # noqa: N818
    """A worker's process ended, or did not answer; the words are the last that it wrote to standard error."""


class Worker:
    """The process of a peer. One that has several threads is stopped while others run, so that none of them spins."""

    def __init__(
        self,
        name: str,
        threads: int,
        folder: Path,
        cpus: set[int] | None = None,
        python: str = sys.executable,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.stops = threads > 1 and cpus is not None
        self.errors = tempfile.TemporaryFile(mode="w+", dir=folder)  # noqa: SIM115 -- `close` closes it
        environment = os.environ | {f"{variable}_NUM_THREADS": str(threads) for variable in THREAD_VARIABLES}
        environment |= variables or {}
        with running_on(cpus):
            self.process = subprocess.Popen(
                [python, "-c", LAUNCH, str(ROOT), name, str(threads)],
                cwd=folder,  # not the checkout, where Python would find the package's sources first
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
            )
        try:
            self.greeting = self._answer()
        except WorkerDied:
            self.close()
            raise
        self._signal("SIGSTOP")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Let the process do a command of bench/worker.py, and return its answer."""
        assert self.process.stdin is not None
        self._signal("SIGCONT")
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise WorkerDied(self.last_words()) from None
        answer = self._answer()
        self._signal("SIGSTOP")
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_SECONDS)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            raise WorkerDied(self.last_words() if ready else f"no answer within {ANSWER_SECONDS} s")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _signal(self, name: str) -> None:
        if self.stops and self.process.poll() is None:
            self.process.send_signal(getattr(signal, name))

    def last_words(self) -> str:
        self.process.kill()
        self.errors.seek(0)
        lines = [line for line in self.errors.read().splitlines() if line.strip()]
        return "\n".join(lines[-10:]) or f"its process ended with status {self.process.wait()}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            if file is not None:
                file.close()


@contextmanager
def running_on(cpus: set[int] | None) -> Iterator[None]:
    """Let processes that are started within `with` run on these processors only, where the system can do that."""
    if cpus is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def last_processors(count: int) -> set[int]:
    """The processors that all peers run on: the last ones, since the first have most of the system's own work."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    return set(sorted(os.sched_getaffinity(0))[-count:])


@dataclass
class Timing:
    """The result of a case, with the fields of the JSON file that calls and steps of training have in common."""

    case: str
    threads: int
    seconds: dict[str, float]  # median of rounds, a call
    spread: dict[str, float]  # half the range between the quartiles of the rounds, relative to the median
    difference: dict[str, float]  # largest, from the float64 reference
    rounds: int
    roofline_seconds: float
    roofline: float  # fraction: roofline_seconds / seconds of fastrnn
    best: str | None = None  # the fastest peer
    ratio: float | None = None  # more than 1: fastrnn was faster than the best peer
    form: dict[str, str] = field(default_factory=dict)  # of each peer's call, where it has several: the fastest
    left_out: dict[str, str] = field(default_factory=dict)  # peers that were not timed, and why
    idle: float = 0.0  # fraction of the rounds' time in which the one thread did not run, since others did

    @property
    def parsed(self) -> Case:
        """The case, from its text."""
        return Case.parse(self.case)

    @property
    def ratios(self) -> dict[str, float | None]:
        """The ratio of each of `COMPARED` that has one in this kind of result."""
        return {"fastrnn": self.ratio}

    @property
    def fractions(self) -> list[float | None]:
        """The columns of a table after the ratios: parts of the time of fastrnn."""
        return [self.roofline]

    @property
    def disturbed(self) -> bool:
        """Whether something else had so much of the processor that the result is to be doubted."""
        return self.idle > MOST_IDLE


@dataclass
class Result(Timing):
    """The result of a case of calls."""

    stream_ratio: float | None = None  # the ratio of `Stream.step`, in cases of a single step

    @property
    def ratios(self) -> dict[str, float | None]:
        return super().ratios | {"stream": self.stream_ratio}


class Bench:
    """Holds the processes of all peers, and measures cases with them."""

    peers: ClassVar[Mapping[str, type[Library]]] = PEERS
    kind: ClassVar[str] = ""  # what stands before the names of peers in bench/worker.py
    variables: ClassVar[Mapping[str, Mapping[str, str]]] = {}  # of the environment of a peer's process
    usual: ClassVar[float] = 1.5  # times the roofline: what a peer's call takes, roughly
    most_seconds: ClassVar[float] = 1.5  # of the rounds of a case of a grid; twice as many of one that is named
    build_seconds: ClassVar[float] = 0.5  # what it takes to build and compare the calls of a case, roughly

    def __init__(self, peers: Sequence[str], threads: int) -> None:
        self.threads = threads
        self.missing: dict[str, str] = {}
        self.about: dict[str, dict[str, str]] = {}
        self.cpus = last_processors(threads)
        self.workers: dict[str, Worker] = {}
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.helper = Worker(self.kind + "reference", os.cpu_count() or 1, self.folder)
            stack.callback(self.helper.close)
            stack.callback(self._close_workers)
            for name in (name for name in self.peers if name in (*OURS, *peers)):
                self._start(name)
            if "fastrnn" in self.missing:
                raise SystemExit(f"fastrnn can't be imported: {self.missing['fastrnn']}")
            self.stack = stack.pop_all()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stack.close()

    def _start(self, name: str) -> None:
        try:
            variables = self.variables.get(name)
            worker = Worker(self.kind + name, self.threads, self.folder, self.cpus, variables=variables)
        except WorkerDied as words:
            self.missing[name] = f"its process died: {words}"
            return
        if "missing" in worker.greeting:
            self.missing[name] = worker.greeting["missing"]
            worker.close()
        else:
            self.workers[name], self.about[name] = worker, worker.greeting["about"]

    def _close_workers(self) -> None:
        for worker in self.workers.values():
            worker.close()

    def limits(self) -> Limits:
        """Limits of this machine, measured now."""
        answer = self.helper.ask("limits", threads=self.threads)
        if "error" in answer:
            raise SystemExit(f"the machine's limits can't be measured: {answer['error']}")
        levels = tuple(Level(**level) for level in answer.pop("levels"))
        return Limits(levels=levels, **answer)

    def least(self, case: Case, limits: Limits) -> float:
        """Seconds of a call by the limits."""
        return roofline(case, limits)

    def summarise(self, case: Case, times: dict[str, list[float]], limits: Limits) -> Timing:
        """A result from the seconds of each round."""
        return summarise(case, times, self.least(case, limits), self.threads)

    def measure(self, case: Case, limits: Limits, rounds: int, most_seconds: float) -> Timing:
        """Compare, then time: so many rounds, or fewer where they would take longer than `most_seconds`."""
        path = self.folder / "case.npz"
        answer = self.helper.ask("prepare", case=str(case), path=str(path))
        if "error" in answer:
            raise SystemExit(f"{case}: {answer['error']}")
        left_out: dict[str, str] = {}
        differences: dict[str, float] = {}
        estimates: dict[str, float] = {}
        forms: dict[str, str] = {}
        for name in [name for name in self.peers if name in self.workers]:
            built = self._ask(name, "build", left_out, case=str(case), path=str(path))
            if built is not None:
                differences[name] = built["difference"]
                reason = why_not_timed(case, built, estimates.get("fastrnn"))
                if reason is None:
                    estimates[name], forms[name] = built["seconds"], built["form"]
                else:
                    left_out[name] = reason
            if "fastrnn" in left_out:
                raise SystemExit(f"{case}: fastrnn: {left_out['fastrnn']}")
        path.unlink()

        times, idle = self._time_in_turns(case, estimates, left_out, rounds, most_seconds)
        for name in list(self.workers):
            self._ask(name, "drop", {})
        result = self.summarise(case, times, limits)
        result.difference, result.left_out, result.idle = differences, left_out, idle
        result.form = {name: forms[name] for name in times}
        return result

    def _ask(self, name: str, do: str, left_out: dict[str, str], **arguments: Any) -> dict[str, Any] | None:
        """The answer of a peer; None, and a reason in `left_out`, if it has none. A dead process is started again."""
        try:
            answer = self.workers[name].ask(do, **arguments)
        except WorkerDied as words:
            left_out[name] = f"its process died: {words}"
            self.workers.pop(name).close()
            self._start(name)
            return None
        reason = answer.get("unable") or answer.get("error")
        if reason is not None:
            left_out[name] = reason
            return None
        return answer

    def _time_in_turns(
        self, case: Case, estimates: dict[str, float], left_out: dict[str, str], rounds: int, most_seconds: float
    ) -> tuple[dict[str, list[float]], float]:
        """Seconds of a call in each round, by peer, and `Result.idle`. Another peer begins each round."""
        round_seconds = 0.0 if case.cold else ROUND_SECONDS  # one call, since filling the caches takes far longer
        repeats = {name: max(1, round(round_seconds / seconds)) for name, seconds in estimates.items()}
        one_round = sum(repeats[name] * seconds for name, seconds in estimates.items())
        rounds = max(FEWEST_ROUNDS, min(rounds, int(most_seconds / one_round)))
        times: dict[str, list[float]] = {name: [] for name in estimates}
        idle: list[float] = []
        for first in range(rounds):
            order = list(times)
            for name in order[first % len(order) :] + order[: first % len(order)]:
                warm = int(estimates[name] < WARM_SECONDS and not case.cold)
                answer = self._ask(name, "time", left_out, warm=warm, repeats=repeats[name])
                if answer is None:
                    del times[name]
                    if name == "fastrnn":
                        raise SystemExit(f"fastrnn: {left_out[name]}")
                else:
                    times[name].append(answer["seconds"])
                    idle.append(answer["idle"])
        return times, max(0.0, statistics.mean(idle)) if self.threads == 1 else 0.0


def why_not_timed(case: Case, built: dict[str, Any], ours: float | None) -> str | None:
    """The reason to leave a peer out, from the answer to "build" and fastrnn's seconds; None if there is none."""
    if not built["difference"] <= case.tolerance:  # NaN too
        return f"what it answers is {built['difference']:.1e} away from the reference"
    factor, least = HOPELESS
    if ours is not None and built["seconds"] > max(least, factor * ours):
        return f"takes about {built['seconds']:.1f} s a call"
    return None


def summarise(case: Case, times: dict[str, list[float]], least: float, threads: int) -> Result:
    """Medians, and the ratios to the best peer."""
    result = Result(**common_fields(case, times, least, threads))
    if result.best is not None and "stream" in times:
        result.stream_ratio = ratio_of(times, result.best, "stream")
    return result


def common_fields(case: Case, times: dict[str, list[float]], least: float, threads: int) -> dict[str, Any]:
    """The fields of a `Timing` that follow from the seconds of each round.

    The ratio is the median of the ratios within the rounds, not the ratio of the medians: a machine that is slow for a
    while is slow for both sides of a round.
    """
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    peers = [name for name in times if name not in OURS]
    best = min(peers, key=medians.__getitem__) if peers else None
    return {
        "case": str(case),
        "threads": threads,
        "seconds": medians,
        "spread": {name: half_range(seconds) / medians[name] for name, seconds in times.items()},
        "difference": {},
        "rounds": len(times["fastrnn"]),
        "roofline_seconds": least,
        "roofline": least / medians["fastrnn"],
        "best": best,
        "ratio": None if best is None else ratio_of(times, best, "fastrnn"),
    }


def ratio_of(times: dict[str, list[float]], theirs: str, ours: str) -> float:
    return statistics.median(their / own for their, own in zip(times[theirs], times[ours]))


def half_range(values: list[float]) -> float:
    """Half the distance between the quartiles."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2
