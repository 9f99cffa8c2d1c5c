"""What a batcher counts, to read and to export."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

_ROWS = [2**i for i in range(13)]
_SECONDS = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3, 0.125, 0.25, 0.5, 1.0]


@dataclass
class Histogram:
    """Numbers, counted by bounds: ``counts[i]`` are those up to ``bounds[i]`` and above the bound before it."""

    bounds: list[float]
    counts: list[int] = field(init=False)  # one more than bounds: the last are those above all of them
    total: float = 0.0  # of the numbers
    most: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, number: float) -> None:
        self.counts[bisect_left(self.bounds, number)] += 1
        self.total += number
        self.most = max(self.most, number)

    @property
    def count(self) -> int:
        """How many numbers there were."""
        return sum(self.counts)

    def lines(self, name: str) -> list[str]:
        """As Prometheus reads it, where each count has those of the bounds below in it."""
        lines, so_far = [f"# TYPE {name} histogram"], 0
        for bound, count in zip([*map(repr, self.bounds), "+Inf"], self.counts):
            so_far += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {so_far}')
        return [*lines, f"{name}_sum {self.total}", f"{name}_count {so_far}"]


@dataclass
class Counters:
    """What became of sessions and steps so far."""

    opened: int = 0
    closed: int = 0  # sessions, the expired ones included
    expired: int = 0
    refused: int = 0  # steps, because too many waited
    dropped: int = 0  # steps that waited when their caller or their session went away
    missed: int = 0  # steps that ended after their deadline
    failed: int = 0  # steps of batches that raised
    batch_sizes: Histogram = field(default_factory=lambda: Histogram([*map(float, _ROWS)]))
    waiting_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))  # a step's, until its batch began
    run_seconds: Histogram = field(default_factory=lambda: Histogram(_SECONDS))  # a batch's

    def began(self, waited: Iterable[float]) -> None:
        for seconds in waited:
            self.waiting_seconds.add(seconds)

    def ended(self, steps: int, seconds: float, missed: int) -> None:
        self.batch_sizes.add(steps)
        self.run_seconds.add(seconds)
        self.missed += missed

    def prometheus(self, prefix: str = "fastrnn_batcher") -> str:
        """All counters in the text format that Prometheus reads."""
        lines = []
        for name in ("opened", "closed", "expired", "refused", "dropped", "missed", "failed"):
            what = "sessions" if name in ("opened", "closed", "expired") else "steps"
            lines += [f"# TYPE {prefix}_{what}_{name}_total counter"]
            lines += [f"{prefix}_{what}_{name}_total {getattr(self, name)}"]
        for name in ("batch_sizes", "waiting_seconds", "run_seconds"):
            lines += getattr(self, name).lines(f"{prefix}_{name}")
        return "\n".join(lines) + "\n"
