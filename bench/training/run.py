"""Runs the cases of training: the rounds of bench/run.py, with other peers and other figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.cases import Case
from bench.peers import TRAINING_PEERS
from bench.roofline import Limits
from bench.run import Bench, Timing, common_fields, ratio_of
from bench.training.cases import TrainingCase
from bench.training.limit import limit

# glibc gives freed memory back to the system, and its pages have to be had anew, unless these are large.
KEEP_PAGES = {"MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}


@dataclass
class TrainingResult(Timing):
    """The result of a case of training: `ratio` counts the packing of new weights, `held_ratio` does without."""

    held_ratio: float | None = None  # the best peer's time to that of a step whose weights stay; None if frozen
    packing: float | None = None  # fraction of fastrnn's time that packing new weights takes; None if frozen
    all_gradients: float | None = None  # of frozen weights: fastrnn's time with all gradients, to that with x's alone

    @property
    def parsed(self) -> TrainingCase:
        return TrainingCase.parse(self.case)

    @property
    def ratios(self) -> dict[str, float | None]:
        return super().ratios | {"held": self.held_ratio}

    @property
    def fractions(self) -> list[float | None]:
        return [self.packing, *super().fractions]


class TrainingBench(Bench):
    """Holds the processes of the peers of training."""

    peers = TRAINING_PEERS
    kind = "training/"
    variables = {"torch_pages": KEEP_PAGES}  # noqa: RUF012 -- a ClassVar in the class above
    usual = 5.0
    most_seconds = 5.0
    build_seconds = 5.0

    def least(self, case: Case, limits: Limits) -> float:
        assert isinstance(case, TrainingCase)
        return limit(case, limits)

    def summarise(self, case: Case, times: dict[str, list[float]], limits: Limits) -> TrainingResult:
        assert isinstance(case, TrainingCase)
        fields = common_fields(case, times, self.least(case, limits), self.threads)
        return TrainingResult(**fields, **figures_of_ours(case, times, fields["best"]))


def figures_of_ours(case: TrainingCase, times: dict[str, list[float]], best: str | None) -> dict[str, Any]:
    """The fields that `TrainingResult` adds, medians of rounds."""
    figures = {}
    if "held" in times and case.frozen:
        figures["all_gradients"] = ratio_of(times, "held", "fastrnn")
    elif "held" in times and best is not None:
        figures["held_ratio"] = ratio_of(times, best, "held")
    if "packing" in times:
        figures["packing"] = ratio_of(times, "packing", "fastrnn")
    return figures
