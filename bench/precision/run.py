"""Runs the cases of narrow weights: the rounds of bench/run.py, with a ratio of each peer to each precision of ours."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.cases import Case
from bench.peers import PRECISION_PEERS
from bench.precision.cases import NARROW, PrecisionCase
from bench.results import Run
from bench.roofline import Limits
from bench.run import Bench, Timing, common_fields, ratio_of


@dataclass
class PrecisionResult(Timing):
    """The result of a case: `best` is the fastest peer in any precision."""

    times_float32: dict[str, float] = field(default_factory=dict)  # our float32's time to that of each narrow one
    best_ratios: dict[str, float] = field(default_factory=dict)  # the best peer's time to that of each narrow one

    @property
    def parsed(self) -> Case:
        return PrecisionCase.parse(self.case)

    @property
    def ratios(self) -> dict[str, float | None]:
        return super().ratios | {name: self.best_ratios.get(name) for name in NARROW}

    @property
    def fractions(self) -> list[float | None]:
        return []


class PrecisionRun(Run):
    """One run of ``python -m bench --precision``."""

    peers = PRECISION_PEERS
    result_type = PrecisionResult
    kind = "precision"
    fractions = ()


class PrecisionBench(Bench):
    """Holds the processes of the peers, ours among them, each with one precision."""

    peers = PRECISION_PEERS
    kind = "precision/"
    most_seconds = 3.0
    build_seconds = 3.0

    def summarise(self, case: Case, times: dict[str, list[float]], limits: Limits) -> PrecisionResult:
        fields = common_fields(case, times, self.least(case, limits), self.threads)
        ours, best = [name for name in NARROW if name in times], fields["best"]
        return PrecisionResult(
            **fields,
            times_float32={name: ratio_of(times, "fastrnn", name) for name in ours},
            best_ratios={} if best is None else {name: ratio_of(times, best, name) for name in ours},
        )
