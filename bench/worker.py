"""The process of one peer: takes a line of JSON on standard input, does it, and answers a line on standard output.

Nothing but answers goes to standard output: what libraries print there goes to standard error. The first answer says
what the peer is, or why it is missing. `run.py` is the other end.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from bench.cases import Case, Data
from bench.peers import PEERS, WHOLE_PEERS, Peer, Unable

Answer = dict[str, Any]


class Session:
    """A method for each command."""

    def __init__(self, peer: Peer | None) -> None:
        self.peer = peer
        self.call: Any = None
        self.data: Any = None

    def prepare(self, case: str, path: str) -> Answer:
        """Write input, weights and the reference's outputs to a file."""
        Data.make(Case.parse(case)).save(Path(path))
        return {}

    def limits(self, threads: int) -> Answer:
        """Measure the machine."""
        from dataclasses import asdict

        from bench.limits import measure

        return asdict(measure(threads))

    def build(self, case: str, path: str) -> Answer:
        """Make the call of a case, and say how far its output is from the reference's and about how long it takes."""
        assert self.peer is not None
        parsed, data = Case.parse(case), Data.load(Path(path))
        self.call, self.data = self.peer.build(parsed, data), data  # kept, since some libraries only point to it
        y = self.peer.outputs(parsed, self.call())
        if y.shape != data.expected.shape:
            raise ValueError(f"its output has the shape {y.shape}, not {data.expected.shape}")
        difference = float(np.abs(y - data.expected).max())
        taken = seconds(self.call, 1)
        if taken < 0.05:
            taken = min(seconds(self.call, 3) for _ in range(3))
        return {"difference": difference, "seconds": taken}

    def time(self, warm: int, repeats: int) -> Answer:
        """Seconds of a call in a round of several, after some that are not timed; and of computing, on all threads."""
        for _ in repeat(None, warm):
            self.call()
        before = time.process_time()
        taken = seconds(self.call, repeats)
        return {"seconds": taken, "computing": (time.process_time() - before) / repeats}

    def drop(self) -> Answer:
        """Forget the case."""
        self.call = self.data = None
        gc.collect()
        return {}


def seconds(call: Any, repeats: int) -> float:
    start = time.perf_counter()
    for _ in repeat(None, repeats):
        call()
    return (time.perf_counter() - start) / repeats


def answer_lines(name: str, threads: int, lines: Iterable[str], answers: TextIO) -> None:
    """Answer a line for each line; `name` is of a peer, or "reference" for a process that holds none."""

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    try:
        known = PEERS | WHOLE_PEERS
        peer = known[name](threads) if name in known else None
    except ImportError as error:
        answer(missing=str(error))
        return
    answer(about=peer.about() if peer else {})
    session = Session(peer)
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
