"""README's times: the part between two marks, made from the files of docs/results."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import NamedTuple

from bench.page import Comparison, compare
from bench.results import TITLES, Run, as_table, microseconds


class Block(NamedTuple):
    """A part of README between two marks, which name the command that makes it."""

    name: str
    command: str

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}: made by {self.command} -->"

    @property
    def end(self) -> str:
        return f"<!-- end of {self.name} -->"

    def parts(self, text: str) -> tuple[str, str, str]:
        """What stands before the marks, between them and after them."""
        if text.count(self.begin) != 1 or text.count(self.end) != 1:
            raise SystemExit(f"--readme: expected the lines {self.begin!r} and {self.end!r}, each once")
        before, _, rest = text.partition(self.begin)
        between, _, after = rest.partition(self.end)
        return before, between.strip("\n"), after

    def write(self, between: str, path: Path) -> None:
        before, _, after = self.parts(path.read_text(encoding="utf-8"))
        path.write_text(f"{before}{self.begin}\n{between}\n{self.end}{after}", encoding="utf-8")


TIMES = Block("times", "python -m bench --from docs/results/results-*.json --readme README.md")
RATIO = "best peer / fastrnn"
PEERS = ["torch", "onnxruntime", "openvino", "numpy"]
# The case, and which of `COMPARED` it is about.
ROWS = [
    ("lstm-T1-B1-I24-H24", "stream"),
    ("lstm-T1-B1-I128-H128", "stream"),
    ("gru-T1-B1-I512-H512", "stream"),
    ("lstm-T100-B1-I24-H24", "fastrnn"),
    ("lstm-T100-B1-I128-H128", "fastrnn"),
    ("lstm-T100-B1-I512-H512", "fastrnn"),
    ("gru-T100-B1-I128-H128", "fastrnn"),
    ("rnn-T100-B1-I128-H128", "fastrnn"),
    ("lstm-T20-B8-I256-H256", "fastrnn"),
    ("gru-T20-B64-I256-H256", "fastrnn"),
    ("lstm-T50-B32-I512-H512", "fastrnn"),
    ("lstm-T12-B96-I640-H640", "fastrnn"),
]


def block(runs: list[Run]) -> str:
    """What stands between the marks: the machine, how often fastrnn was slower, and a table of some cases."""
    one, *more = runs
    timed = [name for name in PEERS if name in one.about["timed"]]
    versions = [f"{TITLES[name]} {re.split('[-+]', one.about['timed'][name]['version'])[0]}" for name in timed[:3]]
    lines = [
        f"Here: {one.about['processor']}, {', '.join(versions)}.",
        *(sentence for run in runs for sentence in sentences(run)),
        "",
        *as_table(
            ["case", "by", "us", *(f"{TITLES[name]}, us" for name in PEERS), RATIO, *map(on_threads, more)],
            [row(case, ours, runs) for case, ours in ROWS],
        ),
    ]
    return "\n".join(lines)


def sentences(run: Run) -> list[str]:
    threads = f"{run.limits.threads} thread{'s' if run.limits.threads > 1 else ''}"
    functions, streams = compare(run, "fastrnn"), compare(run, "stream")
    return [
        f"On {threads}, fastrnn was slower than the best peer in {lost(functions)} of {len(functions)} cases, and",
        f"`Stream.step` in {lost(streams)} of {len(streams)} single steps;",
        f"the geometric means are {mean(functions)} and {mean(streams)}.",
    ]


def lost(compared: list[Comparison]) -> int:
    return sum(one.ratio < 1 for one in compared)


def mean(compared: list[Comparison]) -> str:
    return f"{statistics.geometric_mean(one.ratio for one in compared):.2f}"


def on_threads(run: Run) -> str:
    return f"on {run.limits.threads} threads"


def row(case: str, ours: str, runs: list[Run]) -> list[str]:
    results = [next((result for result in run.results if result.case == case), None) for run in runs]
    first = results[0]
    if first is None:
        raise SystemExit(f"--readme: {case} was not measured")
    times = [microseconds(first.seconds[name]) if name in first.seconds else "-" for name in (ours, *PEERS)]
    ratios = [None if result is None else result.ratios[ours] for result in results]
    return [f"`{case}`", TITLES[ours], *times, *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)]


def write_readme(runs: list[Run], path: Path) -> None:
    TIMES.write(block(runs), path)
