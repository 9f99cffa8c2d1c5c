"""The page of results: Markdown and two plots for each file of results, losses first."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

from bench.cases import CELLS, MODELS, NAMES, Case
from bench.machine import ROOT
from bench.peers import OURS
from bench.results import (
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
from bench.run import Result

# The first kind that a case is of is the one it is counted under.
KINDS: list[tuple[str, Callable[[Case], bool]]] = [
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


def kind_of(case: Case) -> str:
    return next(name for name, belongs in KINDS if belongs(case))


def write_page(runs: list[Run], folder: Path, command: str) -> Path:
    """Write results.md and its plots into a folder, and return the page's path."""
    from bench.plots import write_plots  # needs matplotlib, which the text does not

    folder.mkdir(parents=True, exist_ok=True)
    plots = [write_plots(run, folder, str(number)) for number, run in enumerate(runs, 1)]
    how = Path(os.path.relpath(ROOT / "docs" / "benchmarks.md", folder)).as_posix()
    path = folder / "results.md"
    path.write_text(page(runs, plots, command, how), encoding="utf-8")
    return path


def page(runs: list[Run], plots: list[list[tuple[str, str]]], command: str, how: str) -> str:
    """The text of the page; `plots` are titles and files for each run, `how` leads to the page that explains."""
    lines = [
        "# Results",
        "",
        f"Made by `{command}`; nothing here is written by hand. [How it is measured]({how}) explains the columns.",
        "Times are medians of rounds in microseconds a call, ± half the range between their quartiles. The ratio is",
        "the best peer's time to fastrnn's: below 1, fastrnn was slower.",
        "",
    ]
    for run, files in zip(runs, plots, strict=True):
        lines += section(run, files)
    return "\n".join(lines).rstrip() + "\n"


def section(run: Run, plots: list[tuple[str, str]]) -> list[str]:
    threads = run.limits.threads
    heading = f"{threads} thread{'s' if threads > 1 else ''}: {run.about['processor']}"
    compared = [result for result in run.results if result.ratio is not None]
    lines = [f"## {heading}", "", *summary(compared), *losses(run, compared)]
    lines += ["### Against each peer", "", *against_peers(run), ""]
    if compared:
        lines += ["### By kind", "", *by_group(compared, kind_of, [name for name, _ in KINDS]), ""]
        lines += ["### By cell", "", *by_group(compared, lambda case: case.cell, list(CELLS)), ""]
    lines += models(run)
    lines += [line for what, file in plots for line in (f"![{what}]({file})", "")]
    lines += ["### The machine", "", *as_table(["what", "which"], describe_machine(run), "---"), ""]
    lines += ["### Its limits", "", *as_table(["what", "measured"], describe_limits(run.limits), "---"), ""]
    lines += left_out(run.results)
    return lines + all_cases(run)


def summary(compared: list[Result]) -> list[str]:
    ratios = ratios_of(compared)
    if not ratios:
        return ["No case was timed with a peer beside it.", ""]
    slower, disturbed = sum(ratio < 1 for ratio in ratios), sum(result.disturbed for result in compared)
    return [
        f"{len(ratios)} cases. fastrnn was slower than the best peer in {slower} of them, and not slower in "
        f"{len(ratios) - slower}.",
        f"The ratio's geometric mean is {statistics.geometric_mean(ratios):.2f}, its median "
        f"{statistics.median(ratios):.2f}, its lowest {min(ratios):.2f}, its highest {max(ratios):.2f}.",
        f"Other processes disturbed {disturbed} of the cases.",
        "",
    ]


def losses(run: Run, compared: list[Result]) -> list[str]:
    """Every case that a peer won, worst first."""
    lost = sorted((result for result in compared if below_one(result)), key=lambda result: result.ratio or 0)
    lines = ["### Losses", ""]
    if not lost:
        return [*lines, "No peer was faster in any case.", ""]
    rows = (
        [
            title_of(result),
            f"{result.ratio:.3f}",
            TITLES[str(result.best)],
            *(
                f"{microseconds(result.seconds[name])} ±{result.spread[name]:.0%}"
                for name in ("fastrnn", str(result.best))
            ),
            f"{result.roofline:.0%}",
        ]
        for result in lost
    )
    head = ["case", "ratio", "best peer", "fastrnn, us", "best peer, us", "of the roofline"]
    return [*lines, *as_table(head, rows), ""]


def below_one(result: Result) -> bool:
    return result.ratio is not None and result.ratio < 1


def ratios_of(results: Iterable[Result]) -> list[float]:
    return [result.ratio for result in results if result.ratio is not None]


def against_peers(run: Run) -> list[str]:
    """Ratios to one peer at a time."""
    rows = []
    for name in (name for name in run.columns if name not in OURS):
        ratios = [r.seconds[name] / r.seconds["fastrnn"] for r in run.results if name in r.seconds]
        if ratios:
            rows.append([TITLES[name], *spread_of(ratios)])
    return as_table(["peer", "cases", "slower in", "lowest", "median", "geometric mean"], rows)


def by_group(compared: list[Result], group: Callable[[Case], str], names: list[str]) -> list[str]:
    groups = {name: ratios_of(r for r in compared if group(Case.parse(r.case)) == name) for name in names}
    rows = ([name, *spread_of(ratios)] for name, ratios in groups.items() if ratios)
    return as_table(["cases", "how many", "slower in", "lowest", "median", "geometric mean"], rows)


def spread_of(ratios: list[float]) -> list[str]:
    figures = min(ratios), statistics.median(ratios), statistics.geometric_mean(ratios)
    return [str(len(ratios)), str(sum(ratio < 1 for ratio in ratios)), *(f"{figure:.2f}" for figure in figures)]


def models(run: Run) -> list[str]:
    """The named models, with what they do."""
    named = [result for result in run.results if result.case in NAMES]
    if not named:
        return []
    rows = (
        [
            f"{NAMES[result.case]}: {MODELS[NAMES[result.case]].what}",
            microseconds(result.seconds["fastrnn"]),
            "-" if result.best is None else f"{microseconds(result.seconds[result.best])} ({TITLES[result.best]})",
            "-" if result.ratio is None else f"{result.ratio:.2f}",
        ]
        for result in named
    )
    return ["### Models", "", *as_table(["model", "fastrnn, us", "best peer, us", "ratio"], rows), ""]


def left_out(results: list[Result]) -> list[str]:
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
    lines = ["### All cases", ""]
    cells = list(CELLS)
    ordered = sorted(run.results, key=lambda result: cells.index(Case.parse(result.case).cell))
    for cell, results in groupby(ordered, key=lambda result: Case.parse(result.case).cell):
        rows = [table_row(result, run.columns) for result in results]
        lines += [f"<details><summary>{cell}: {len(rows)} cases</summary>", "", table_head(run.columns), *rows]
        lines += ["", "</details>", ""]
    return lines
