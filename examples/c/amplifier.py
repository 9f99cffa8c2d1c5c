"""What amplifier.c reads, and what it should answer.

python amplifier.py write FOLDER      a random LSTM as amplifier.frnn, its head, and ten seconds of sound
build/amplifier FOLDER
python amplifier.py check FOLDER      that the program's output has the bits of the same layers in Python
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import fastrnn

RATE, SECONDS, UNITS = 48000, 10, 40


def make() -> tuple[fastrnn.LSTMParams, np.ndarray, np.ndarray]:
    """Params, the head (a weight a unit, and the bias), and a decaying note over and over."""
    rng, bound = np.random.default_rng(0), UNITS**-0.5
    shapes = {"weight_ih_l0": (4 * UNITS, 1), "weight_hh_l0": (4 * UNITS, UNITS), "bias_ih_l0": (4 * UNITS,)}
    params = fastrnn.LSTMParams({name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}, dtype="f4")
    time = np.arange(SECONDS * RATE) / RATE
    sound = np.exp(-3 * (time % 1)) * sum(np.sin(2 * np.pi * 110 * n * time) / n for n in range(1, 6))
    return params, rng.uniform(-bound, bound, UNITS + 1).astype("f4"), (sound / 2).astype("f4")


def answer(params: fastrnn.LSTMParams, head: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """The output, whose sums are made in the order of the program's."""
    h, _ = fastrnn.lstm(sound[:, None], params)
    out = np.full(len(sound), head[-1])
    for unit, weight in enumerate(head[:-1]):
        out += weight * h[:, unit]
    return out


def main(action: str, folder: Path) -> None:
    params, head, sound = make()
    if action == "write":
        folder.mkdir(parents=True, exist_ok=True)
        params.save_image(folder / "amplifier.frnn")
        head.tofile(folder / "head.f32")
        sound.tofile(folder / "input.f32")
    else:
        got = np.fromfile(folder / "output.f32", "f4")
        if not np.array_equal(got, answer(params, head, sound)):
            sys.exit("output.f32 does not have the bits of Python")
        print(f"{len(got)} samples have the bits of Python")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "check"):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]))
