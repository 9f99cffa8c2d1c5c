"""The cases that are measured if the command line names none."""

from __future__ import annotations

from collections.abc import Iterator

from bench.cases import CELLS, MODELS, Case

QUICK = [
    "lstm-T1-B1-I20-H20",
    "gru-T1-B1-I128-H128",
    "lstm-T1-B1-I512-H512",
    "lstm-T1-B1-I512-H512-cold",
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


PUBLISHED_HIDDEN = [16, 24, 40, 64, 96, 128, 200, 256, 320, 512, 640, 1024]
ODD = """
    rnn-T5-B33-I96-H96 gru-T1-B1-I256-H256-bi gru-T40-B5-I150-H150 lstm-T40-B5-I150-H150 rnn-T40-B8-I100-H100
    lstm-T30-B12-I320-H320 gru-T30-B12-I320-H320 lstm-T20-B48-I400-H400 gru-T60-B7-I50-H90 lstm-T12-B96-I640-H640
    lstm-T50-B32-I512-H512 gru-T50-B32-I512-H512 rnn-T50-B32-I512-H512 gru-T50-B1-I200-H200-L3
""".split()  # noqa: SIM905


def quick() -> list[Case]:
    return [Case.parse(text) for text in QUICK]


def published() -> list[Case]:
    """The cases of docs/results: every kind of layer at fewer sizes than `full`, and some sizes that no grid has."""
    return list(dict.fromkeys(_published()))


def _published() -> Iterator[Case]:
    for cell in ("rnn", "lstm", "gru"):
        for H in PUBLISHED_HIDDEN:
            yield Case(cell, 1, 1, H, H)
            yield Case(cell, 100, 1, H, H)
        for H in (24, 128, 512):
            yield from (Case(cell, 1, B, H, H) for B in (8, 64))
        for H in (128, 512, 1024):
            yield Case(cell, 1, 1, H, H, cold=True)
        for H in (24, 96, 256, 640):
            yield from (Case(cell, 100 if H <= 96 else 20, B, H, H) for B in (2, 4, 8, 16, 64))
        yield from _kinds(cell)
    for H in (24, 128, 512):
        yield from (Case("gru_before", T, B, H, H) for T, B in ((1, 1), (100, 1), (20, 16)))
    yield from (Case("lstm", T, B, 64, H, P=H // 4) for T, B in ((1, 1), (50, 1), (50, 8)) for H in (256, 512))
    yield from map(Case.parse, ODD)
    yield from (Case.parse(model.case) for model in MODELS.values())


def _kinds(cell: str) -> Iterator[Case]:
    """Other inputs than H, long sequences, stacks, two directions, lengths and float64, at two sizes each."""
    yield from (Case(cell, 100, B, 1, H) for B in (1, 8) for H in (64, 256))
    yield Case(cell, 1000, 1, 40, 40)
    for B, H in ((1, 128), (8, 256)):
        yield from (Case(cell, 50, B, H, H, L, bi) for L, bi in ((2, False), (1, True), (2, True)))
        yield Case(cell, 50, 4 * B, H, H, ragged=True)
    yield from (Case(cell, T, 1, 128, 128, f64=True) for T in (1, 100))


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
