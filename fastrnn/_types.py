"""Names that arguments take, as types: a test compares them with what the extension knows."""

from __future__ import annotations

from typing import Literal

CellName = Literal["rnn", "lstm", "gru"]
TargetName = Literal["avx512_vnni", "avx512", "avx2_vnni", "avx2", "neon_dotprod", "neon", "scalar"]
Precision = Literal["float32", "float64", "float16", "int8", "int8_fast"]
ActivationName = Literal["tanh", "sigmoid", "relu", "hard_sigmoid", "softsign", "linear"]
Activation = ActivationName | tuple[Literal["hard_sigmoid", "linear"], float, float]
