"""Names that arguments take, as types: a test compares them with what the extension knows."""

from __future__ import annotations

from typing import Literal

CellName = Literal["rnn", "lstm", "gru"]
TargetName = Literal["avx512", "avx2", "neon", "scalar"]
ActivationName = Literal["tanh", "sigmoid", "relu", "hard_sigmoid", "softsign", "linear"]
Activation = ActivationName | tuple[Literal["hard_sigmoid", "linear"], float, float]
