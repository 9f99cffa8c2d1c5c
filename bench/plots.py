"""The plots of the page and of README, as SVG: the same results give the same bytes.

Each file says which results it was drawn from, with their digest, so that a test sees a plot that is out of date.
"""

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
COLORS = {"lstm": "#0072b2", "gru": "#d55e00", "rnn": "#009e73"}
STYLES_OF_OURS = {
    "fastrnn": {"linestyle": "-", "marker": "o", "linewidth": 1.2},
    "stream": {"linestyle": "--", "marker": "s", "linewidth": 1.2},
}
PICTURE_RATIOS = [0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100]
PICTURE_SIZES = [16, 32, 64, 128, 256, 512, 1024]
Line = tuple[str, list[tuple[int, float]], dict[str, Any]]


def write_plots(run: Run, results: str, ratios: Path, fractions: Path) -> None:
    """Draw the ratios and the fractions of the roofline of a run, which is in the file `results`."""
    source = source_of(run, results)
    draw(plain_ratios(run, "fastrnn"), plain_ratios(run, "stream"), "best peer / fastrnn", "log", ratios, source)
    roofline = {Case.parse(result.case): result.roofline for result in run.results}
    draw(only_plain(roofline), {}, "fraction of the roofline", "linear", fractions, source)


def source_of(run: Run, results: str) -> str:
    return f"{results}, SHA-256 {run.digest()}"


def only_plain(values: dict[Case, float]) -> dict[Case, float]:
    """The cases of one layer, in one direction, with I = H and no option."""
    return {case: value for case, value in values.items() if case == Case(case.cell, case.T, case.B, case.H, case.H)}


def plain_ratios(run: Run, ours: str) -> dict[Case, float]:
    ratios = {Case.parse(result.case): result.ratios[ours] for result in run.results}
    return only_plain({case: ratio for case, ratio in ratios.items() if ratio is not None})


def write_ratio_by_size(run: Run, results: str, path: Path) -> None:
    """Draw README's picture: the ratio by hidden size for one row, of sequences and of single steps."""
    with matplotlib.rc_context(STYLE):
        figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
        for panel, T, title in zip(panels, (100, 1), ("sequences of 100 steps", "single steps that carry the state")):
            for ours, style in STYLES_OF_OURS.items():
                ratios = plain_ratios(run, ours)
                for cell, color in COLORS.items():
                    cases = sorted((c for c in ratios if (c.cell, c.T, c.B) == (cell, T, 1)), key=lambda c: c.H)
                    label = {"fastrnn": cell.upper(), "stream": f"{cell.upper()}, Stream.step"}[ours]
                    sizes = [case.H for case in cases]
                    if cases:
                        panel.plot(sizes, [ratios[c] for c in cases], label=label, color=color, markersize=3, **style)
            panel.axhline(1, color="black", linewidth=1)
            panel.set(title=title, xscale="log", yscale="log", xlabel="hidden units")
            set_ticks(panel.xaxis, PICTURE_SIZES)
            if panel.lines[1:]:
                panel.legend()
        low, high = panels[0].get_ylim()
        set_ticks(panels[0].yaxis, [tick for tick in PICTURE_RATIOS if low <= tick <= high])
        panels[0].set_ylabel("time of the fastest peer / time of fastrnn")
        threads = f"{run.limits.threads} thread{'s' if run.limits.threads > 1 else ''}"
        figure.suptitle(f"One row, {threads}, {run.about['processor']}; above 1, fastrnn is faster", fontsize=9)
        save(figure, path, source_of(run, results))


def draw(plain: dict[Case, float], streams: dict[Case, float], label: str, scale: str, path: Path, source: str) -> None:
    """A panel for each cell, a line for each number of rows: a value by hidden size; `streams` have their own."""
    with matplotlib.rc_context(STYLE):
        figure, panels = pyplot.subplots(2, 2, figsize=(10, 8), sharex=True, sharey=True, layout="constrained")
        handles = {}
        for cell, panel in zip(CELLS, panels.flat, strict=True):
            for name, points, style in [*stream_lines(streams, cell), *lines_of(plain, cell)]:
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
        save(figure, path, source)


def save(figure: Any, path: Path, source: str) -> None:
    figure.savefig(path, metadata={"Date": None, "Creator": None, "Source": source})
    pyplot.close(figure)


def set_ticks(axis: Any, ticks: list[Any]) -> None:
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def stream_lines(streams: dict[Case, float], cell: str) -> list[Line]:
    points = sorted((case.H, ratio) for case, ratio in streams.items() if case.cell == cell and case.B == 1)
    return [("Stream.step, B = 1", points, {"color": "tab:orange", "linestyle": ":", "marker": "s"})] if points else []


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
