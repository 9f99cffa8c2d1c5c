"""The page of results of training: Markdown, losses first; the parts that calls have too are those of bench/page.py."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.page import (
    SPREAD,
    Comparison,
    against_peers,
    all_cases,
    compare,
    forms,
    in_words,
    left_out,
    losses,
    spread_of,
    write_runs,
)
from bench.results import Run, as_table, describe_limits, describe_machine, microseconds
from bench.training.grid import kinds
from bench.training.run import TrainingResult


def file_of(number: int) -> str:
    """The name of a file of results in the page's folder, for one of its runs, counted from 1."""
    return f"training-{number}.json"


def write_page(runs: Sequence[Run], folder: Path) -> Path:
    """Write training.md and its files of results into a folder, and return the page's path."""
    return write_runs(runs, folder / "training.md", file_of, page)


def page(runs: Sequence[Run], how: str) -> str:
    """The text of the page; `how` leads to the page that explains."""
    files = [file_of(number) for number in range(1, len(runs) + 1)]
    lines = [
        "# Results of training",
        "",
        f"Made by `python -m bench --training --from {' '.join(files)} --page .`; nothing here is written by hand.",
        f"Those files are here: {', '.join(f'[{file}]({file})' for file in files)}.",
        f"[How training is measured]({how}#training) explains the columns.",
        "A step is forward and backward with all gradients, and in fastrnn the packing of new weights before it. Times",
        "are medians of rounds in microseconds a step, ± half the range between their quartiles. The ratio is the best",
        "peer's time to fastrnn's: below 1, fastrnn was slower.",
        "",
    ]
    for run in runs:
        lines += section(run)
    return "\n".join(lines).rstrip() + "\n"


def section(run: Run) -> list[str]:
    threads = run.limits.threads
    steps, held = compare(run, "fastrnn"), compare(run, "held")
    lines = [f"## {threads} thread{'s' if threads > 1 else ''}: {run.about['processor']}", ""]
    lines += [*summary(run, steps, held), *losses(steps, "of the limit")]
    if steps:
        lines += ["### By kind", "", *by_kind(steps), ""]
        lines += ["### Against each peer", "", *against_peers(run), ""]
        lines += ["### Against each library, by kind", "", *libraries_by_kind(steps), ""]
    lines += frozen_weights(run)
    lines += ["### The machine", "", *as_table(["what", "which"], describe_machine(run), "---"), ""]
    lines += ["### Its limits", "", *as_table(["what", "measured"], describe_limits(run.limits), "---"), ""]
    return [*lines, *forms(run), *left_out(run.results), *all_cases(run)]


def summary(run: Run, steps: list[Comparison], held: list[Comparison]) -> list[str]:
    if not steps:
        return ["No case was timed with a peer beside it.", ""]
    lines = [f"{len(steps)} cases. {in_words('fastrnn', steps)}"]
    if held:
        lines.append(f"{len(held)} of them were also timed with weights that stay. {in_words('fastrnn then', held)}")
    disturbed = sum(result.disturbed for result in run.results)
    return [*lines, f"Other processes disturbed {disturbed} of the cases.", ""]


def grouped(compared: list[Comparison]) -> dict[str, list[Comparison]]:
    """The cases of each kind that has some; a case is of the first kind that it belongs to."""
    groups: dict[str, list[Comparison]] = {name: [] for name, _ in kinds()}
    for one in compared:
        groups[next(name for name, belongs in kinds() if belongs(one.case))].append(one)
    return {name: some for name, some in groups.items() if some}


def by_kind(compared: list[Comparison]) -> list[str]:
    """Ratios, and the lowest fraction of the limit."""
    rows = (
        [name, *spread_of([one.ratio for one in some]), f"{min(one.result.roofline for one in some):.0%}"]
        for name, some in grouped(compared).items()
    )
    return as_table(["which", *SPREAD, "lowest of the limit"], rows)


LIBRARIES = {"PyTorch, whichever is faster": ("torch", "torch_pages"), "Keras on JAX": ("jax",)}


def libraries_by_kind(compared: list[Comparison]) -> list[str]:
    """The lowest ratio to each library and the geometric mean; of a library's peers the faster one counts."""

    def cell(peers: tuple[str, ...], some: list[Comparison]) -> str:
        times = [one.result.seconds for one in some]
        ratios = [
            min(one[name] for name in peers if name in one) / one["fastrnn"] for one in times if {*peers} & {*one}
        ]
        return f"{min(ratios):.2f}, {statistics.geometric_mean(ratios):.2f}" if ratios else "-"

    groups = grouped(compared) | {"all": compared}
    rows = ([kind, *(cell(peers, some) for peers in LIBRARIES.values())] for kind, some in groups.items())
    return as_table(["lowest, geometric mean", *LIBRARIES], rows)


def frozen_weights(run: Run) -> list[str]:
    """What it saves to ask for the gradient of x alone."""
    rows = [
        [f"`{one.case}`", microseconds(one.seconds["fastrnn"]), microseconds(one.seconds["held"]), f"{saved:.2f}"]
        for one in run.results
        if isinstance(one, TrainingResult) and (saved := one.all_gradients) is not None
    ]
    if not rows:
        return []
    head = ["case", "x alone, us", "all gradients, us", "all gradients / x alone"]
    return ["### Frozen weights", "", *as_table(head, rows), ""]
