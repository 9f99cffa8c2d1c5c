"""The cases that are measured if the command line names none."""

from __future__ import annotations

from collections.abc import Iterator

from bench.cases import CELLS, MODELS, Case

QUICK = [
    "lstm-T1-B1-I20-H20",
    "gru-T1-B1-I128-H128",
    "lstm-T1-B1-I512-H512",
    "lstm-T100-B1-I20-H20",
    "gru-T100-B1-I20-H20",
    "rnn-T100-B1-I20-H20",
    "lstm-T100-B1-I128-H128",
    "gru-T100-B1-I128-H128",
    "gru_before-T100-B1-I128-H128",
    "rnn-T100-B1-I128-H128",
    "lstm-T100-B1-I512-H512",
    "lstm-T50-B8-I256-H256",
    "gru-T50-B8-I256-H256-L2-bi",
    "lstm-T50-B32-I512-H512",
    "gru-T50-B32-I512-H512",
    "rnn-T25-B128-I256-H256",
    "lstm-T50-B16-I128-H128-ragged",
    "gru-T50-B16-I128-H128-ragged",
    "lstm-T50-B1-I64-H256-P64",
    "lstm-T100-B1-I64-H64-f64",
    MODELS["silero-vad"].case,
    MODELS["guitar-amp"].case,
    MODELS["rnnoise"].case,
    MODELS["pyannote"].case,
]

HIDDEN = [16, 20, 32, 40, 64, 100, 128, 256, 384, 512, 1024]
BATCH = [1, 2, 3, 4, 8, 16, 32, 64, 128]
AFFORDABLE = 2e9  # floating-point operations of a call: some tens of milliseconds


def quick() -> list[Case]:
    return [Case.parse(text) for text in QUICK]


def full() -> list[Case]:
    """The grid, thinned to what half an hour can measure, and every kind of layer that is not in it.

    All cells, hidden sizes and batches meet with I = H, at 100 steps, or at 10 where 100 are not affordable. Other
    steps and inputs, stacks, directions, lengths and float64 are taken at some sizes only.
    """
    return list(dict.fromkeys(_full()))  # each once, in this order


def _full() -> Iterator[Case]:
    for cell, kind in CELLS.items():
        for H in HIDDEN:
            yield from (Case(cell, 1, B, H, H) for B in (1, 8, 64))
            yield Case(cell, 10, 1, H, H)
            for B in BATCH:
                yield Case(cell, 100 if 4 * len(kind.gates) * H * H * B * 100 < AFFORDABLE else 10, B, H, H)
            if H <= 128:
                yield Case(cell, 1000, 1, H, H)
        for H in (20, 64, 256, 1024):
            for B in (1, 8):
                yield from (Case(cell, 100 if H < 1024 else 10, B, inputs, H) for inputs in (1, 64))
        for B, H in ((1, 128), (8, 256)):
            yield from (Case(cell, 50, B, H, H, L, bi) for L, bi in ((2, False), (1, True), (2, True)))
        yield from (Case(cell, 50, B, H, H, ragged=True) for B in (8, 32) for H in (64, 256))
        yield from (Case(cell, 100, B, H, H, f64=True) for B, H in ((1, 20), (1, 128), (1, 512), (8, 128)))
    yield from (Case("lstm", 50, B, 64, H, P=H // 4) for B in (1, 8) for H in (256, 512))
    yield from (Case.parse(model.case) for model in MODELS.values())
