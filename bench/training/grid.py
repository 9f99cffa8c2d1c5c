"""The cases that `--training` measures if the command line names none, and the kinds that its page counts."""

from __future__ import annotations

from collections.abc import Callable

from bench.cases import Case
from bench.training.cases import TrainingCase

CELLS = ("lstm", "gru", "rnn")
SIZES = [  # T, B, H
    (100, 1, 128), (100, 1, 512), (100, 8, 128), (50, 8, 64), (200, 16, 64), (20, 20, 650), (50, 32, 256),
    (50, 32, 512), (100, 64, 256), (25, 128, 512),
]  # fmt: skip
OTHERS = """
    lstm-T50-B32-I256-H256-ragged gru-T50-B32-I256-H256-ragged rnn-T50-B32-I256-H256-ragged lstm-T60-B16-I64-H128-ragged
    lstm-T50-B32-I256-H256-P128 lstm-T50-B8-I64-H256-P64
    lstm-T50-B32-I256-H256-f64 gru-T50-B32-I256-H256-f64 rnn-T50-B32-I256-H256-f64
    lstm-T50-B32-I256-H256-L2-cells lstm-T100-B8-I128-H128-L2-cells
    lstm-T50-B32-I256-H256-frozen gru-T50-B32-I256-H256-frozen rnn-T50-B32-I256-H256-frozen
    lstm-T100-B1-I512-H512-frozen
    lstm-T35-B20-I200-H200-state gru-T35-B20-I200-H200-state
    lstm-T50-B16-I128-H128-L2-bi gru-T50-B16-I128-H128-L2-bi lstm-T100-B8-I1-H40
""".split()  # noqa: SIM905

# The first kind that a case is of is the one it is counted under.
SPECIAL: list[tuple[str, Callable[[Case], bool]]] = [
    ("frozen weights", lambda c: isinstance(c, TrainingCase) and c.frozen),
    ("a loop over cells", lambda c: isinstance(c, TrainingCase) and c.cells),
    ("float64", lambda c: c.f64),
    ("rows of different lengths", lambda c: c.ragged),
    ("projections", lambda c: c.P > 0),
    ("stacks and two directions", lambda c: c.L > 1 or c.bi),
]
PLAIN = [  # by rows: the name, and the most
    ("one row, H up to 128", lambda c: c.B == 1 and c.H <= 128),
    ("one row, H above 128", lambda c: c.B == 1),
    ("2 to 31 rows", lambda c: c.B < 32),
    ("32 rows and more", lambda c: True),
]  # fmt: skip


def training() -> list[Case]:
    """Each cell at every size, and other kinds of layers at some."""
    plain = [TrainingCase(cell, T, B, H, H) for cell in CELLS for T, B, H in SIZES]
    return [*plain, *map(TrainingCase.parse, OTHERS)]


def kinds() -> list[tuple[str, Callable[[Case], bool]]]:
    """Kinds of layers first; then each cell by rows."""

    def of_cell(cell: str, belongs: Callable[[Case], bool]) -> Callable[[Case], bool]:
        return lambda case: case.cell == cell and belongs(case)

    by_cell = [(f"{cell}, {name}", of_cell(cell, belongs)) for cell in CELLS for name, belongs in PLAIN]
    return [*SPECIAL, *by_cell, ("other cells", lambda case: True)]
