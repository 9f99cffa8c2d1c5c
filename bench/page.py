"""The page of results: Markdown and two plots for each file of results, losses first."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from bench.cases import CELLS, MODELS, NAMES, Case
from bench.machine import ROOT
from bench.peers import OURS
from bench.results import (
    ROOFLINE,
    TITLES,
    Run,
    as_table,
    describe_limits,
    describe_machine,
    microseconds,
    table_head,
    table_row,
    title_of,
)
from bench.run import Timing


class Comparison(NamedTuple):
    """A case, and one of `COMPARED` beside the best peer: the function, or for a single step the stream."""

    result: Timing
    ours: str
    ratio: float

    @property
    def case(self) -> Case:
        return self.result.parsed


# The first kind that a case is of is the one it is counted under.
KINDS: list[tuple[str, Callable[[Case], bool]]] = [
    ("weights in no cache", lambda c: c.cold),
    ("float64", lambda c: c.f64),
    ("rows of different lengths", lambda c: c.ragged),
    ("projections", lambda c: c.P > 0),
    ("stacks and two directions", lambda c: c.L > 1 or c.bi),
    ("one step, one row, H up to 128", lambda c: c.T == 1 and c.B == 1 and c.H <= 128),
    ("one step, one row, H above 128", lambda c: c.T == 1 and c.B == 1),
    ("one sequence, H up to 64", lambda c: c.B == 1 and c.H <= 64),
    ("one sequence, H from 65 to 256", lambda c: c.B == 1 and c.H <= 256),
    ("one sequence, H above 256", lambda c: c.B == 1),
    ("2 to 8 rows, H up to 128", lambda c: c.B <= 8 and c.H <= 128),
    ("2 to 8 rows, H above 128", lambda c: c.B <= 8),
    ("more than 8 rows, H up to 128", lambda c: c.H <= 128),
    ("more than 8 rows, H above 128", lambda c: True),
]


STREAM_KINDS: list[tuple[str, Callable[[Case], bool]]] = [
    ("weights in no cache", lambda c: c.cold),
    ("float64", lambda c: c.f64),
    ("projections", lambda c: c.P > 0),
    ("stacks", lambda c: c.L > 1),
    ("one row, H up to 128", lambda c: c.B == 1 and c.H <= 128),
    ("one row, H above 128", lambda c: c.B == 1),
    ("several rows", lambda c: True),
]


def compare(run: Run, ours: str) -> list[Comparison]:
    """The cases that one of `COMPARED` was timed in with a peer beside it."""
    ratios = ((result, result.ratios[ours]) for result in run.results)
    return [Comparison(result, ours, ratio) for result, ratio in ratios if ratio is not None]


PICTURE = "ratio_by_size.svg"


def file_of(kind: str, number: int) -> str:
    """The name of a file in the page's folder, for one of its runs, counted from 1."""
    return {"results": f"results-{number}.json", "ratio": f"ratio-{number}.svg", "roofline": f"roofline-{number}.svg"}[
        kind
    ]


def write_page(runs: list[Run], folder: Path) -> Path:
    """Write results.md, its plots and its files of results into a folder, and return the page's path."""
    from bench.plots import write_plots, write_ratio_by_size  # need matplotlib, which the text does not

    path = write_runs(runs, folder / "results.md", partial(file_of, "results"), page)
    rounded = read_runs(folder, len(runs))
    for number, run in enumerate(rounded, 1):
        results, ratios, fractions = (file_of(kind, number) for kind in ("results", "ratio", "roofline"))
        write_plots(run, results, folder / ratios, folder / fractions)
    write_ratio_by_size(rounded[0], file_of("results", 1), folder / PICTURE)
    return path


def write_runs(
    runs: Sequence[Run], path: Path, file_of: Callable[[int], str], page: Callable[[list[Run], str], str]
) -> Path:
    """Write the runs' files beside a page, and the page, of the numbers that the files have; return the page's path."""
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / file_of(number) for number in range(1, len(runs) + 1)]
    for run, file in zip(runs, files):
        run.save(file)
    rounded = [type(run).load(file) for run, file in zip(runs, files)]
    how = os.path.relpath(ROOT / "docs" / "benchmarks.md", folder)
    path.write_text(page(rounded, Path(how).as_posix()), "utf-8")
    return path


def read_runs(folder: Path, count: int) -> list[Run]:
    return [Run.load(folder / file_of("results", number)) for number in range(1, count + 1)]


def page(runs: list[Run], how: str) -> str:
    """The text of the page; `how` leads to the page that explains."""
    files = [file_of("results", number) for number in range(1, len(runs) + 1)]
    lines = [
        "# Results",
        "",
        f"Made by `python -m bench --from {' '.join(files)} --page .`; nothing here is written by hand.",
        f"Those files are here: {', '.join(f'[{file}]({file})' for file in files)}.",
        f"[How it is measured]({how}) explains the columns.",
        "Times are medians of rounds in microseconds a call, ± half the range between their quartiles. The ratio is",
        "the best peer's time to fastrnn's: below 1, fastrnn was slower. In a single step (T1) everybody carries the",
        "state from call to call. Such a step is timed twice, by the function and by `Stream.step`, each with a ratio.",
        "",
    ]
    for number, run in enumerate(runs, 1):
        lines += section(run, number)
    return "\n".join(lines).rstrip() + "\n"


def section(run: Run, number: int) -> list[str]:
    threads = run.limits.threads
    functions, streams = compare(run, "fastrnn"), compare(run, "stream")
    lines = [f"## {threads} thread{'s' if threads > 1 else ''}: {run.about['processor']}", ""]
    lines += summary(run, functions, streams)
    lines += losses([*functions, *streams])
    lines += ["### Against each peer", "", *against_peers(run), ""]
    if functions:
        lines += ["### By kind", "", *by_group(functions, KINDS), ""]
        lines += ["### By cell", "", *by_group(functions, CELL_KINDS), ""]
    if streams:
        lines += ["### Single steps of a stream", "", *by_group(streams, STREAM_KINDS), ""]
    lines += models(run)
    lines += [f"![best peer / fastrnn, by hidden size]({file_of('ratio', number)})", ""]
    lines += [f"![fraction of the roofline, by hidden size]({file_of('roofline', number)})", ""]
    lines += ["### The machine", "", *as_table(["what", "which"], describe_machine(run), "---"), ""]
    lines += ["### Its limits", "", *as_table(["what", "measured"], describe_limits(run.limits), "---"), ""]
    lines += [*forms(run), *left_out(run.results)]
    return lines + all_cases(run)


def summary(run: Run, functions: list[Comparison], streams: list[Comparison]) -> list[str]:
    if not functions:
        return ["No case was timed with a peer beside it.", ""]
    disturbed = sum(result.disturbed for result in run.results)
    return [
        f"{len(functions)} cases. {in_words('fastrnn', functions)}",
        *([f"{len(streams)} of them are single steps. {in_words('`Stream.step`', streams)}"] if streams else []),
        f"Other processes disturbed {disturbed} of the cases.",
        "",
    ]


def in_words(who: str, compared: list[Comparison]) -> str:
    ratios = [comparison.ratio for comparison in compared]
    slower = sum(ratio < 1 for ratio in ratios)
    return (
        f"{who} was slower than the best peer in {slower} of them, and not slower in {len(ratios) - slower}. "
        f"The ratio's geometric mean is {statistics.geometric_mean(ratios):.2f}, its median "
        f"{statistics.median(ratios):.2f}, its lowest {min(ratios):.2f}, its highest {max(ratios):.2f}."
    )


def losses(compared: list[Comparison], fraction: str = ROOFLINE[0]) -> list[str]:
    """Every case that a peer won, worst first."""
    lost = sorted((one for one in compared if one.ratio < 1), key=lambda one: one.ratio)
    lines = ["### Losses", ""]
    if not lost:
        return [*lines, "No peer was faster in any case.", ""]
    rows = (
        [
            title_of(result),
            TITLES[ours],
            f"{ratio:.3f}",
            TITLES[str(result.best)],
            *(f"{microseconds(result.seconds[name])} ±{result.spread[name]:.0%}" for name in (ours, str(result.best))),
            f"{result.roofline_seconds / result.seconds[ours]:.0%}",
        ]
        for result, ours, ratio in lost
    )
    head = ["case", "which", "ratio", "best peer", "its time, us", "best peer, us", fraction]
    return [*lines, *as_table(head, rows), ""]


def against_peers(run: Run) -> list[str]:
    """Ratios to one peer at a time."""
    rows = []
    for ours, name in ((ours, name) for ours in ("fastrnn", "stream") for name in run.columns if name not in OURS):
        timed = [r.seconds for r in run.results if {name, ours} <= r.seconds.keys()]
        if timed:
            ratios = [seconds[name] / seconds[ours] for seconds in timed]
            rows.append([f"{TITLES[name]} / {TITLES[ours]}", *spread_of(ratios)])
    return as_table(["peer", *SPREAD], rows)


CELL_KINDS: list[tuple[str, Callable[[Case], bool]]] = [
    (cell, lambda case, cell=cell: case.cell == cell)  # type: ignore[misc]
    for cell in CELLS
]
SPREAD = ["cases", "slower in", "lowest", "median", "geometric mean"]


def by_group(compared: list[Comparison], groups: list[tuple[str, Callable[[Case], bool]]]) -> list[str]:
    """A row a group; a case is of the first group that it belongs to."""
    ratios: dict[str, list[float]] = {name: [] for name, _ in groups}
    for one in compared:
        ratios[next(name for name, belongs in groups if belongs(one.case))].append(one.ratio)
    return as_table(["which", *SPREAD], ([name, *spread_of(some)] for name, some in ratios.items() if some))


def spread_of(ratios: list[float]) -> list[str]:
    figures = min(ratios), statistics.median(ratios), statistics.geometric_mean(ratios)
    return [str(len(ratios)), str(sum(ratio < 1 for ratio in ratios)), *(f"{figure:.2f}" for figure in figures)]


def forms(run: Run) -> list[str]:
    """How often each form of a peer's call was its fastest, where there are several."""
    counts = Counter((name, form) for result in run.results for name, form in result.form.items() if name not in OURS)
    several = {name for name, form in counts if sum(name == other for other, _ in counts) > 1}
    rows = [[TITLES[name], form, str(count)] for (name, form), count in sorted(counts.items()) if name in several]
    if not rows:
        return []
    return ["### Fastest forms of a call", "", *as_table(["peer", "form", "cases"], rows), ""]


def models(run: Run) -> list[str]:
    """The named models, with what they do."""
    named = [result for result in run.results if result.case in NAMES]
    if not named:
        return []
    rows = (
        [
            f"{NAMES[result.case]}: {MODELS[NAMES[result.case]].what}",
            *(microseconds(result.seconds[name]) if name in result.seconds else "-" for name in ("fastrnn", "stream")),
            "-" if result.best is None else f"{microseconds(result.seconds[result.best])} ({TITLES[result.best]})",
            *("-" if ratio is None else f"{ratio:.2f}" for ratio in result.ratios.values()),
        ]
        for result in named
    )
    head = ["model", "fastrnn, us", "Stream.step, us", "best peer, us", "ratio", "ratio of Stream.step"]
    return ["### Models", "", *as_table(head, rows), ""]


def left_out(results: Sequence[Timing]) -> list[str]:
    """Which peers were not timed, in how many cases, and why."""
    reasons = Counter(
        (TITLES[name], short_reason(words))
        for result in results
        for name, words in result.left_out.items()
        if name not in OURS
    )
    if not reasons:
        return []
    rows = ([peer, words, str(count)] for (peer, words), count in sorted(reasons.items()))
    return ["### Left out", "", *as_table(["peer", "why", "cases"], rows), ""]


def short_reason(words: str) -> str:
    """The reason without what differs from case to case, on one line."""
    if words.startswith("takes about"):
        return "so slow that it can't be the best"
    return words.splitlines()[-1].replace("|", "/")


def all_cases(run: Run) -> list[str]:
    """Every case, folded by cell."""
    head = table_head(run.columns, fractions=run.fractions)
    return folded(run.results, lambda results: [head, *(table_row(result, run.columns) for result in results)])


def folded(found: Sequence[Timing], table: Callable[[list[Timing]], list[str]]) -> list[str]:
    """A table of the cases of each cell, which a reader opens."""
    lines, cells = ["### All cases", ""], list(CELLS)
    ordered = sorted(found, key=lambda result: cells.index(result.parsed.cell))
    for cell, results in groupby(ordered, key=lambda result: result.parsed.cell):
        some = list(results)
        lines += [f"<details><summary>{cell}: {len(some)} cases</summary>", "", *table(some)]
        lines += ["", "</details>", ""]
    return lines
