"""The page of results of narrow weights, and README's table of them: times with errors, what was lost first."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.cases import Case
from bench.page import SPREAD, folded, forms, left_out, spread_of, write_runs
from bench.peers import PRECISION_PEERS
from bench.precision.cases import KINDS, NARROW
from bench.precision.run import PrecisionResult
from bench.readme import Block
from bench.results import Run, as_table, describe_limits, describe_machine, microseconds, title_of
from bench.run import Timing

TITLES = {name: peer.title for name, peer in PRECISION_PEERS.items()}
FLOAT32, BYTES = "fastrnn", "int8"
README = Block("precision", "python -m bench --precision --from docs/results/precision-1.json --readme README.md")
README_CASES = [
    "lstm-T1-B1-I512-H512",
    "lstm-T50-B1-I64-H64",
    "lstm-T50-B1-I128-H128",
    "lstm-T50-B1-I512-H512",
    "lstm-T16-B1-I2048-H2048",
    "gru-T50-B1-I512-H512",
    "lstm-T50-B32-I512-H512",
]


class Ratio(NamedTuple):
    """How many times as long as one of our precisions something else took in a case."""

    result: PrecisionResult
    ours: str
    value: float

    @property
    def case(self) -> Case:
        return self.result.parsed


def file_of(number: int) -> str:
    """The name of a file of results in the page's folder, for one of its runs, counted from 1."""
    return f"precision-{number}.json"


def write_page(runs: Sequence[Run], folder: Path) -> Path:
    """Write precision.md and its files of results into a folder, and return the page's path."""
    return write_runs(runs, folder / "precision.md", file_of, page)


def page(runs: Sequence[Run], how: str) -> str:
    """The text of the page; `how` leads to the page that explains."""
    files = [file_of(number) for number in range(1, len(runs) + 1)]
    lines = [
        "# Results of narrow weights",
        "",
        f"Made by `python -m bench --precision --from {' '.join(files)} --page .`; nothing here is written by hand.",
        f"Those files are here: {', '.join(f'[{file}]({file})' for file in files)}.",
        f"[How narrow weights are measured]({how}#narrow-weights) explains the columns.",
        "Times are medians of rounds in microseconds a call. The error beside a time is the largest difference of an",
        "output from that in float64, whose outputs lie within 1. The best peer is the fastest in any precision,",
        "whatever its error. A ratio below 1 is a loss.",
        "",
    ]
    for run in runs:
        lines += section(run)
    return "\n".join(lines).rstrip() + "\n"


def section(run: Run) -> list[str]:
    threads, results = run.limits.threads, results_of(run)
    lines = [f"## {threads} thread{'s' if threads > 1 else ''}: {run.about['processor']}", ""]
    lines += [f"{len(results)} cases; other processes disturbed {sum(one.disturbed for one in results)} of them.", ""]
    for title, ratios in (
        ("Times our float32", over_float32(results)),
        ("Times the best peer", over_best(results)),
        *((f"Times {TITLES[name]}", over_peer(results, name)) for name in NARROW_PEERS),
    ):
        lines += [f"### {title}", "", *lost(ratios), *by_kind(ratios), ""]
    lines += ["### Errors", "", *errors(run), ""]
    lines += ["### The machine", "", *as_table(["what", "which"], describe_machine(run), "---"), ""]
    lines += ["### Its limits", "", *as_table(["what", "measured"], describe_limits(run.limits), "---"), ""]
    lines += [*forms(run), *left_out(run.results)]
    return [*lines, *folded(run.results, lambda some: as_table(head_of(run), (row_of(one, run) for one in some)))]


NARROW_PEERS = ("onnxruntime_int8", "torch_int8", "openvino_bfloat16")


def results_of(run: Run) -> list[PrecisionResult]:
    return [result for result in run.results if isinstance(result, PrecisionResult)]


def over_float32(results: Sequence[PrecisionResult]) -> list[Ratio]:
    return [Ratio(one, name, value) for one in results for name, value in one.times_float32.items()]


def over_best(results: Sequence[PrecisionResult]) -> list[Ratio]:
    return [Ratio(one, name, value) for one in results for name, value in one.best_ratios.items()]


def over_peer(results: Sequence[PrecisionResult], peer: str) -> list[Ratio]:
    """By the medians of both."""
    return [
        Ratio(one, name, one.seconds[peer] / one.seconds[name])
        for one in results
        for name in NARROW
        if {peer, name} <= one.seconds.keys()
    ]


def lost(ratios: Sequence[Ratio]) -> list[str]:
    """In which cases each precision was slower, worst first."""
    lines = []
    for name in NARROW:
        slower = sorted((one.value, title_of(one.result)) for one in ratios if one.ours == name and one.value < 1)
        if slower:
            words = ", ".join(f"{case} {value:.2f}" for value, case in slower)
            lines += [f"{name} was slower in {len(slower)}: {words}.", ""]
    return lines


def by_kind(ratios: Sequence[Ratio]) -> list[str]:
    """A row for each kind of case and precision of ours."""
    groups: dict[tuple[str, str], list[float]] = {(kind, name): [] for kind, _ in KINDS for name in NARROW}
    for one in ratios:
        groups[next(kind for kind, belongs in KINDS if belongs(one.case)), one.ours].append(one.value)
    rows = ([f"{kind}, {name}", *spread_of(some)] for (kind, name), some in groups.items() if some)
    return as_table(["which", *SPREAD], rows)


def errors(run: Run) -> list[str]:
    """Of each peer over all cases that it was timed in."""
    rows = []
    for name in run.columns:
        found = [result.difference[name] for result in run.results if name in result.seconds]
        if found:
            rows.append([TITLES[name], str(len(found)), f"{statistics.median(found):.1e}", f"{max(found):.1e}"])
    return as_table(["whose", "cases", "median of errors", "largest error"], rows)


def head_of(run: Run) -> list[str]:
    ratios = [f"float32 / {name}" for name in NARROW if name in run.columns]
    return ["case", *(f"{TITLES[name]}, us" for name in run.columns), *ratios]


def row_of(result: Timing, run: Run) -> list[str]:
    gains = result.times_float32 if isinstance(result, PrecisionResult) else {}
    ratios = [number(gains.get(name)) for name in NARROW if name in run.columns]
    return [f"`{result.case}`", *(time_and_error(result, name) for name in run.columns), *ratios]


def time_and_error(result: Timing, name: str) -> str:
    """As in "152 (4e-3)"; a peer that was not timed has neither."""
    if name not in result.seconds:
        return "-"
    return f"{microseconds(result.seconds[name])} ({result.difference[name]:.0e})".replace("e-0", "e-")


def number(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def write_readme(runs: Sequence[Run], path: Path) -> None:
    README.write(readme_block(runs[0]), path)


def readme_block(run: Run) -> str:
    """A table of some cases; the best peer is the fastest in any precision."""
    found = {one.case: one for one in results_of(run)}
    missing = [case for case in README_CASES if case not in found]
    if missing:
        raise SystemExit(f"--readme: {missing[0]} was not measured")
    head = ["case", *(TITLES[name] for name in (FLOAT32, *NARROW)), "best peer of any", "best / int8"]
    rows = (readme_row(found[case]) for case in README_CASES)
    return "\n".join([f"Here: {run.about['processor']}; us a call (largest error).", "", *as_table(head, rows)])


def readme_row(one: PrecisionResult) -> list[str]:
    times = [time_and_error(one, name) for name in (FLOAT32, *NARROW)]
    if one.best is None:
        return [f"`{one.case}`", *times, "-", "-"]
    best = f"{TITLES[one.best]} {time_and_error(one, one.best)}"
    return [f"`{one.case}`", *times, best, number(one.best_ratios.get(BYTES))]
