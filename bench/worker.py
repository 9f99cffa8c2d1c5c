"""The process of one peer: takes a line of JSON on standard input, does it, and answers a line on standard output.

Nothing but answers goes to standard output: what libraries print there goes to standard error. The first answer says
what the peer is, or why it is missing. `run.py` is the other end.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TextIO

import numpy as np

from bench.cases import Array, Case, Data
from bench.cold import Caches
from bench.peers import PEERS, PRECISION_PEERS, TRAINING_PEERS, WHOLE_PEERS, Call, Unable
from bench.precision.cases import PrecisionCase
from bench.training.cases import TrainingCase, TrainingData

Answer = dict[str, Any]


class Form(NamedTuple):
    """A form of a peer's call: its name, how far it is from the reference, and seconds of a call, roughly."""

    form: str
    difference: float
    seconds: float


class Session:
    """A method for each command."""

    peers: ClassVar[Any] = PEERS | WHOLE_PEERS
    case_type: ClassVar[Any] = Case
    data_type: ClassVar[Any] = Data

    def __init__(self, peer: Any) -> None:
        self.peer = peer  # one of `peers`; or None
        self.call: Any = None
        self.data: Any = None
        self.caches: Caches | None = None  # of a cold case

    def prepare(self, case: str, path: str) -> Answer:
        """Write what all peers are given, and what the reference makes of it, to a file."""
        self.data_type.make(self.case_type.parse(case)).save(Path(path))
        return {}

    def limits(self, threads: int) -> Answer:
        """Measure the machine."""
        from dataclasses import asdict

        from bench.limits import measure

        return asdict(measure(threads))

    def build(self, case: str, path: str) -> Answer:
        """Compare each form of the peer's call with the reference, and make the call in the fastest form."""
        # The data are kept, since some libraries only point to them.
        parsed, self.data = self.case_type.parse(case), self.data_type.load(Path(path))
        self.caches = Caches() if parsed.cold else None
        forms = [self.try_form(parsed, name) for name in self.peer.forms(parsed)]
        right = [form for form in forms if form.difference <= parsed.tolerance]
        best = min(right or forms, key=lambda form: form.seconds)
        if best is not forms[-1]:
            self.call = None
            self.call = self.peer.build(parsed, self.data, best.form)
        return best._asdict() | {"differences": {form.form: form.difference for form in forms}}

    def try_form(self, case: Case, name: str) -> Form:
        self.call = None  # the form before this one: its memory is free now
        self.call = self.peer.build(case, self.data, name)
        difference = self.difference(case)
        taken = self.seconds(1)
        if taken < 0.05:
            repeats = 3 if case.cold else max(3, int(1e-3 / taken))
            taken = min(self.seconds(repeats) for _ in range(3))
        return Form(name, math.inf if math.isnan(difference) else difference, taken)

    def difference(self, case: Case) -> float:
        """How far the first calls are from the reference."""
        outputs = [
            self.peer.outputs(case, self.call()).copy() for _ in self.data.expected
        ]  # a view may be written again
        return largest_difference("output", np.array(outputs), self.data.expected)

    def seconds(self, repeats: int) -> float:
        return seconds(self.call, repeats) if self.caches is None else seconds_cold(self.call, repeats, self.caches)

    def time(self, warm: int, repeats: int) -> Answer:
        """Seconds of a call in a round of several, after some that are not timed; and the idle part of the round."""
        for _ in repeat(None, warm):
            self.call()
        computing, start = time.process_time(), time.perf_counter()
        taken = self.seconds(repeats)
        computing, elapsed = time.process_time() - computing, time.perf_counter() - start
        return {"seconds": taken, "idle": 1 - computing / elapsed}  # below 0, if several threads compute

    def drop(self) -> Answer:
        """Forget the case."""
        self.call = self.data = self.caches = None
        gc.collect()
        return {}


class PrecisionSession(Session):
    """The same for peers with narrow weights, whose tolerance is another."""

    peers = PRECISION_PEERS
    case_type = PrecisionCase


class TrainingSession(Session):
    """The same for a peer of training, whose call answers gradients."""

    peers = TRAINING_PEERS
    case_type = TrainingCase
    data_type = TrainingData

    def difference(self, case: Case) -> float:
        """The largest difference of a gradient, as a part of the largest number in that gradient."""
        assert isinstance(case, TrainingCase)
        found, expected = self.peer.gradients(case, self.call()), self.data.expected
        missing = set(case.wanted(self.data.weights)) - set(found)
        if missing:
            raise ValueError(f"it has no gradient of {', '.join(sorted(missing))}")
        parts = [
            largest_difference(f"gradient of {name}", array, expected[name]) / np.abs(expected[name]).max()
            for name, array in found.items()
        ]
        return float(np.max(parts))  # NaN, if one is


def largest_difference(what: str, found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"its {what} has the shape {found.shape}, not {expected.shape}")
    return float(np.abs(found - expected).max())


def seconds(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in repeat(None, repeats):
        call()
    return (time.perf_counter() - start) / repeats


def seconds_cold(call: Call, repeats: int, caches: Caches) -> float:
    """Seconds of a call before which the caches were filled with other data, which is not counted."""
    taken = 0.0
    for _ in repeat(None, repeats):
        caches.fill()
        taken += seconds(call, 1)
    return taken / repeats


SESSIONS = {"": Session, "precision": PrecisionSession, "training": TrainingSession}


def answer_lines(name: str, threads: int, lines: Iterable[str], answers: TextIO) -> None:
    """Answer a line for each line.

    `name` is of a peer, or "reference" for a process that holds none; "training/" stands before it for training.
    """

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    try:
        kind, _, bare = name.rpartition("/")
        session_type = SESSIONS[kind]
        peer = session_type.peers[bare](threads) if bare in session_type.peers else None
    except ImportError as error:
        answer(missing=str(error))
        return
    answer(about=peer.about() if peer else {})
    session = session_type(peer)
    for line in lines:
        command = json.loads(line)
        try:
            answer(**getattr(session, command.pop("do"))(**command))
        except Unable as reason:
            answer(unable=str(reason))
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")


def main() -> None:
    """Serve until standard input ends: the arguments are the peer's name and the number of threads."""
    gc.disable()  # no peer's round should pay for collecting
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    answer_lines(sys.argv[-2], int(sys.argv[-1]), sys.stdin, answers)
