"""The cases. Each is a short text, such as ``lstm-T100-B1-I128-H128``, and everything follows from it.

The text is the one name of a case: on the command line, in results, in tables and in plots. Letters are those of the
rest of the project: T steps, B batch rows, I inputs, H hidden units, L layers, P projected units.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Cell(NamedTuple):
    """A cell that is timed. The table is the benchmark's own, since it also times older versions of fastrnn."""

    function: str  # of fastrnn, and of its reference, that runs it
    gates: str  # in the order of their rows in the weights
    activations: int  # sigmoids and hyperbolic tangents of one hidden unit in one step
    options: Mapping[str, bool] = {}  # of that function of the reference, and of params


CELLS = {
    "rnn": Cell("rnn", "h", 1),
    "lstm": Cell("lstm", "ifgo", 5),
    "gru": Cell("gru", "rzn", 3),
    "gru_before": Cell("gru", "rzn", 3, {"reset_after": False}),
}
EXAMPLE = "lstm-T100-B1-I128-H128"
GRAMMAR = "CELL-T1-B1-I1-H1[-L2][-bi][-P1][-ragged][-f64][-cold] with CELL one of " + ", ".join(CELLS)
PATTERN = re.compile(
    rf"(?P<cell>{'|'.join(CELLS)})"
    r"-T(?P<T>[1-9]\d*)-B(?P<B>[1-9]\d*)-I(?P<I>[1-9]\d*)-H(?P<H>[1-9]\d*)"
    r"(?:-L(?P<L>[1-9]\d*))?(?P<bi>-bi)?(?:-P(?P<P>[1-9]\d*))?(?P<ragged>-ragged)?(?P<f64>-f64)?(?P<cold>-cold)?"
)


@dataclass(frozen=True)
class Case:
    """One layer or stack, and the input that it is given.

    `cell` is ``rnn``, ``lstm``, ``gru`` (resets after the recurrent product, as PyTorch's) or ``gru_before``; `P` is 0
    without a projection; `ragged` rows have lengths of their own; `f64` is float64 throughout, not float32; before each
    call of a `cold` case the caches are filled with other data.
    """

    cell: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    L: int = 1
    bi: bool = False
    P: int = 0
    ragged: bool = False
    f64: bool = False
    cold: bool = False

    def __post_init__(self) -> None:
        if self.P and self.cell != "lstm":
            raise ValueError(f"{self}: only an lstm may have a projection")
        if self.P and self.P >= self.H:
            raise ValueError(f"{self}: expected a projection smaller than H")
        if self.ragged and self.T == 1:
            raise ValueError(f"{self}: expected more than one step, where rows have lengths of their own")

    @classmethod
    def parse(cls, text: str) -> Case:
        match = PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"expected a case such as {EXAMPLE} ({GRAMMAR}), got {text!r}")
        found = match.groupdict()
        T, B, I, H, L, P = (int(found[size] or default) for size, default in zip("TBIHLP", [0, 0, 0, 0, 1, 0]))  # noqa: E741
        flags = {name: bool(found[name]) for name in ("bi", "ragged", "f64", "cold")}
        return cls(found["cell"], T, B, I, H, L, P=P, **flags)

    def __str__(self) -> str:
        sizes = f"{self.cell}-T{self.T}-B{self.B}-I{self.I}-H{self.H}"
        return sizes + "".join([
            f"-L{self.L}" if self.L > 1 else "",
            "-bi" if self.bi else "",
            f"-P{self.P}" if self.P else "",
            "-ragged" if self.ragged else "",
            "-f64" if self.f64 else "",
            "-cold" if self.cold else "",
        ])  # fmt: skip

    @property
    def function(self) -> str:
        """The function of fastrnn, and of its reference, that runs this cell."""
        return CELLS[self.cell].function

    @property
    def options(self) -> Mapping[str, bool]:
        """Options of that function of the reference, and of params."""
        return CELLS[self.cell].options

    @property
    def carries_state(self) -> bool:
        """Whether a call begins with the state that the call before it returned, as every step of a stream does."""
        return self.T == 1

    @property
    def state_names(self) -> list[str]:
        """A name for each array of the state, as ONNX has them: h0, c0, h1 and so on. None, if it is not carried."""
        letters = "hc" if self.function == "lstm" else "h"
        return [f"{letter}{layer}" for layer in range(self.L) for letter in letters if self.carries_state]

    @property
    def dtype(self) -> type[np.float32] | type[np.float64]:
        return np.float64 if self.f64 else np.float32

    @property
    def tolerance(self) -> float:
        """The largest difference from the reference with which a peer is still timed."""
        return 1e-10 if self.f64 else 1e-4

    @property
    def directions(self) -> int:
        """Directions of each layer: D."""
        return 2 if self.bi else 1

    @property
    def output(self) -> int:
        """Outputs of one direction: the state that is fed back, P or H."""
        return self.P or self.H

    @property
    def inputs(self) -> list[int]:
        """Inputs of each layer."""
        return [self.I] + [self.directions * self.output] * (self.L - 1)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each row, whether ragged or not."""
        if not self.ragged:
            return np.full(self.B, self.T, np.int64)
        return np.random.default_rng(1).integers(1, self.T, self.B, endpoint=True)

    def arrays(self) -> tuple[Array, dict[str, Array]]:
        """Input and weights, the same ones every time, in PyTorch's names and its initial distribution."""
        rng = np.random.default_rng(0)

        def uniform(*shape: int) -> Array:
            array: Array = (rng.uniform(-1, 1, shape) / self.H**0.5).astype(self.dtype)
            return array

        rows = len(CELLS[self.cell].gates) * self.H
        weights = {}
        for layer, inputs in enumerate(self.inputs):
            for suffix in [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]:
                weights["weight_ih" + suffix] = uniform(rows, inputs)
                weights["weight_hh" + suffix] = uniform(rows, self.output)
                weights["bias_ih" + suffix] = uniform(rows)
                weights["bias_hh" + suffix] = uniform(rows)
                if self.P:
                    weights["weight_hr" + suffix] = uniform(self.P, self.H)
        return rng.normal(size=(self.T, self.B, self.I)).astype(self.dtype), weights


@dataclass(frozen=True)
class Data:
    """The input of all peers of a case and the outputs that are expected; a file carries it to them."""

    x: Array
    weights: dict[str, Array]
    expected: Array  # of the first calls, one after the other: (calls, T, B, outputs)

    @classmethod
    def make(cls, case: Case) -> Data:
        from fastrnn import reference  # not at the top: the program itself can do without the package

        x, weights = case.arrays()
        lengths, state, outputs = case.lengths if case.ragged else None, None, []
        for _ in range(3 if case.carries_state else 1):  # the later ones show whether the state was carried
            y, state = getattr(reference, case.function)(x, weights, state, lengths=lengths, **case.options)
            outputs.append(y)
        return cls(x, weights, np.array(outputs))

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = {"x": self.x, "expected": self.expected, **self.weights}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Data:
        with np.load(path) as file:
            arrays = dict(file)
        return cls(arrays.pop("x"), arrays, expected=arrays.pop("expected"))


@dataclass(frozen=True)
class Model:
    """The recurrent part of a model that people run: its case, and what it does."""

    case: str
    what: str


MODELS = {
    "silero-vad": Model("lstm-T1-B1-I128-H128", "voice activity, a chunk at a time"),
    "guitar-amp": Model("lstm-T64-B1-I1-H40", "a guitar amplifier, 64 samples at a time"),
    "rnnoise": Model("gru-T1-B1-I384-H384-L3", "noise suppression, a frame at a time"),
    "resemblyzer": Model("lstm-T160-B1-I40-H256-L3", "a speaker's voice as a vector"),
    "pyannote": Model("lstm-T590-B1-I60-H128-L4-bi", "who speaks when, ten seconds at a time"),
    "open-unmix": Model("lstm-T255-B1-I512-H256-L3-bi", "music into its sources"),
    "crnn": Model("lstm-T26-B16-I512-H256-L2-bi", "text in images, 16 words at a time"),
    "deepspeech": Model("lstm-T16-B1-I2048-H2048", "speech to text, 16 frames at a time"),
    "rnnt-prediction": Model("lstm-T1-B1-I320-H320-L2", "the prediction network of a transducer, a token at a time"),
    "wavernn": Model("gru-T1-B1-I512-H512", "speech from features, a sample at a time"),
    "elmo": Model("lstm-T20-B1-I512-H4096-P512", "vectors of words, one sentence, one direction"),
    "char-rnn": Model("lstm-T50-B50-I65-H512-L3", "text, a character at a time, 50 streams of 50"),
}
NAMES = {model.case: name for name, model in MODELS.items()}


def find(text: str) -> Case:
    """The case of a model's name, or of its own text."""
    if text in MODELS:
        return Case.parse(MODELS[text].case)
    if "-T" not in text:
        raise ValueError(f"expected a case such as {EXAMPLE}, or one of {', '.join(MODELS)}, got {text!r}")
    return Case.parse(text)
