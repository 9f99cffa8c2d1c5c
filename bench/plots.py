"""The plots of the page, as SVG: the same results give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from bench.cases import CELLS, Case
from bench.grids import BATCH
from bench.results import Run

matplotlib.use("svg")
STYLE = {"svg.hashsalt": "fastrnn", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
RATIOS = [0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100]
Line = tuple[str, list[tuple[int, float]], dict[str, Any]]


def write_plots(run: Run, folder: Path, suffix: str) -> list[tuple[str, str]]:
    """Write the plots of a run, and return what each shows and its file's name."""
    ratios = {Case.parse(result.case): result.ratio for result in run.results if result.ratio is not None}
    fractions = {Case.parse(result.case): result.roofline for result in run.results}
    plots = [
        ("best peer / fastrnn", ratios, f"ratio-{suffix}.svg", "log"),
        ("fraction of the roofline", fractions, f"roofline-{suffix}.svg", "linear"),
    ]
    for label, values, file, scale in plots:
        draw(values, label, scale, folder / file)
    return [(f"{label}, by hidden size", file) for label, _, file, _ in plots]


def draw(values: dict[Case, float], label: str, scale: str, path: Path) -> None:
    """A panel for each cell, a line for each number of rows: a value by hidden size, for plain layers with I = H."""
    plain = {case: value for case, value in values.items() if is_plain(case)}
    with matplotlib.rc_context(STYLE):
        figure, panels = pyplot.subplots(2, 2, figsize=(10, 8), sharex=True, sharey=True, layout="constrained")
        handles = {}
        for cell, panel in zip(CELLS, panels.flat, strict=True):
            for name, points, style in lines_of(plain, cell):
                (handles[name],) = panel.plot(*zip(*points), label=name, linewidth=1, markersize=3, **style)
            panel.axhline(1, color="black", linewidth=1)
            panel.set(title=cell, xscale="log", yscale=scale)
            set_ticks(panel.xaxis, [*dict.fromkeys(sorted(case.H for case in plain))])
            panel.tick_params(axis="x", rotation=90)
            if scale == "log":
                low, high = panel.get_ylim()
                set_ticks(panel.yaxis, [tick for tick in RATIOS if low <= tick <= high])
            else:
                panel.set_ylim(bottom=0)
        figure.supxlabel("H")
        figure.supylabel(label)
        if handles:
            figure.legend(handles=list(handles.values()), loc="outside right center")
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def set_ticks(axis: Any, ticks: list[Any]) -> None:
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def is_plain(case: Case) -> bool:
    return case == Case(case.cell, case.T, case.B, case.H, case.H)


def lines_of(plain: dict[Case, float], cell: str) -> list[Line]:
    """Name, points and style: single steps dashed, sequences by number of rows, each at its longest up to 100 steps."""

    def points(belongs: Callable[[Case], bool]) -> list[tuple[int, float]]:
        cases = sorted((case for case in plain if case.cell == cell and belongs(case)), key=lambda case: case.T)
        return sorted({case.H: plain[case] for case in cases}.items())

    steps = points(lambda case: case.T == 1 and case.B == 1)
    lines: list[Line] = [("one step, B = 1", steps, {"color": "tab:red", "linestyle": "--", "marker": "s"})] * bool(
        steps
    )
    for B, color in zip(BATCH, pyplot.get_cmap("viridis").resampled(len(BATCH) + 1).colors):
        sequences = points(lambda case, B=B: case.B == B and 1 < case.T <= 100)  # type: ignore[misc]
        if sequences:
            lines.append((f"B = {B}", sequences, {"color": color, "marker": "o"}))
    return lines
