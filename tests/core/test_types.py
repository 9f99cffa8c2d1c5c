"""Names that are types: the same as those that the extension knows, and as the table of cells has."""

from __future__ import annotations

import re
from typing import get_args

from fastrnn import _core, _types
from fastrnn._cells import CELLS
from support.environment import ROOT


def test_names_of_types_are_those_of_the_extension() -> None:
    text = (ROOT / "csrc/targets.def").read_text(encoding="utf-8")
    targets = re.findall(r"^FRNN_(?:TARGET|DOTS)\((\w+)", text, re.MULTILINE)
    assert set(get_args(_types.CellName)) == set(CELLS) == set(_core.CELLS)
    assert set(get_args(_types.TargetName)) == set(targets)
    assert set(get_args(_types.ActivationName)) == set(_core.FUNCTIONS)
    with_numbers = get_args(get_args(get_args(_types.Activation)[1])[0])
    assert set(with_numbers) == {"hard_sigmoid", "linear"}
