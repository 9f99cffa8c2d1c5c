"""The cases of narrow weights: those of bench/cases.py, and the grid and the kinds of this part of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.cases import Case

NARROW = ("float16", "int8", "int8_fast")  # ours, by their names among the peers


@dataclass(frozen=True)
class PrecisionCase(Case):
    """Layers and an input, which narrow weights answer with an error that is measured and stands in the table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.f64:
            raise ValueError(f"{self}: expected no -f64, since layers with narrow weights are computed in float32")

    @property
    def tolerance(self) -> float:
        """What answers beyond it is wrong, and not rounded: outputs are within 1, weights of 8 bits are 0.05 off."""
        return 0.2


def find(text: str) -> Case:
    """The case of a model's name, or of its own text."""
    from bench import cases

    return PrecisionCase.parse(str(cases.find(text)))


def precision() -> list[Case]:
    """The cases that `--precision` measures if the command line names none."""
    return [PrecisionCase.parse(text) for text in _precision()]


def _precision() -> Iterator[str]:
    for H in (16, 32, 64, 100, 128, 256, 512, 1024):
        yield f"lstm-T50-B1-I{H}-H{H}"
    yield "lstm-T16-B1-I2048-H2048"
    for cell in ("gru", "rnn"):
        yield from (f"{cell}-T50-B1-I{H}-H{H}" for H in (32, 128, 256, 512, 1024))
    for H in (64, 128, 256, 320, 512, 1024):
        yield f"lstm-T1-B1-I{H}-H{H}"
    yield from (f"{cell}-T1-B1-I{H}-H{H}" for cell in ("gru", "rnn") for H in (320, 640))
    yield from (f"lstm-T1-B1-I{H}-H{H}-cold" for H in (320, 1024))
    for B, H in ((8, 128), (8, 256), (8, 512), (32, 64), (32, 256), (32, 512), (64, 256)):
        yield f"lstm-T50-B{B}-I{H}-H{H}"
    yield from (f"{cell}-T50-B{B}-I256-H256" for cell in ("gru", "rnn") for B in (8, 32))
    yield "lstm-T50-B1-I80-H150-L2-bi"
    yield "lstm-T50-B16-I256-H256-ragged"


# The first kind that a case is of is the one it is counted under.
KINDS: list[tuple[str, Callable[[Case], bool]]] = [
    ("weights in no cache", lambda c: c.cold),
    ("a single step", lambda c: c.T == 1),
    ("one sequence, H up to 64", lambda c: c.B == 1 and c.H <= 64),
    ("one sequence, H from 65 to 255", lambda c: c.B == 1 and c.H < 256),
    ("one sequence, H of 256 and more", lambda c: c.B == 1),
    ("several rows", lambda c: True),
]
