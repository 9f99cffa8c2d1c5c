"""Type checkers: they accept every section of README and docs, and know the class of params that a loader makes.

Each section is a module of its own, as a user would paste it, checked with mypy and pyright as they come.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support.documents import PYTHON, Block, section_of
from support.environment import ROOT, package

package("mypy")
package("pyright")
for name in ("torch", "onnx"):  # whose types the documents use
    package(name)

KNOWN = """\
import numpy as np
import torch
import fastrnn

weights = {"weight_ih": np.ones((8, 3)), "weight_hh": np.ones((8, 2))}
reveal_type(fastrnn.from_torch(torch.nn.RNN(3, 2)))
reveal_type(fastrnn.from_torch(torch.nn.RNNCell(3, 2)))
reveal_type(fastrnn.from_torch(torch.nn.LSTM(3, 2), dtype="float64"))
reveal_type(fastrnn.from_torch(torch.nn.LSTMCell(3, 2)))
reveal_type(fastrnn.from_torch(torch.nn.GRU(3, 2)))
reveal_type(fastrnn.from_torch(torch.nn.GRUCell(3, 2), target="scalar"))
reveal_type(fastrnn.from_torch(torch.nn.Sequential()))
reveal_type(fastrnn.from_torch(weights))
reveal_type(fastrnn.load("a.npz"))
reveal_type(fastrnn.load("a.npz", "rnn"))
reveal_type(fastrnn.load("a.npz", cell="lstm"))
reveal_type(fastrnn.load("a.npz", "gru", "encoder", dtype="float32"))
reveal_type(fastrnn.from_onnx("a.onnx"))
reveal_type(fastrnn.LSTMParams(weights).with_weights(weights))
"""
ANY = "RNNParams | LSTMParams | GRUParams"
CLASSES = ["RNNParams"] * 2 + ["LSTMParams"] * 2 + ["GRUParams"] * 2 + [ANY] * 3
CLASSES += ["RNNParams", "LSTMParams", "GRUParams", ANY, "LSTMParams"]
WRONG = """\
import numpy as np
import fastrnn

weights = {"weight_ih": np.ones((8, 3)), "weight_hh": np.ones((8, 2))}
fastrnn.LSTMParams(weights, activation="Tanh")
fastrnn.LSTMParams(weights, target="AVX2")
fastrnn.LSTMParams(weights, hidden_size=2)
fastrnn.RNNParams(weights, activation=("tanh", 0.2, 0.5))
fastrnn.load("a.npz", "LSTM")
fastrnn.gru(np.ones((1, 1, 3)), fastrnn.LSTMParams(weights))
fastrnn.run(np.ones((1, 1, 3)), weights)
fastrnn.lstm(np.ones((1, 1, 3)), weights, hx=None)
"""


COMMANDS = {
    "mypy": ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", "--check-untyped-defs", "."],
    "pyright": ["--pythonpath", sys.executable, "."],
}


def as_module(section: list[Block]) -> str:
    """A section's blocks, each line where it is in the document."""
    lines = [""] * (section[-1].line + len(section[-1].text.splitlines()))
    for block in section:
        text = block.text.splitlines()
        lines[block.line - 1 : block.line - 1 + len(text)] = text
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module", params=COMMANDS)
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What a checker says of each file. They are checked in one run, since most of its time goes to PyTorch's types."""
    folder = tmp_path_factory.mktemp("typing")
    texts = {"known": KNOWN, "wrong": WRONG}
    for block in PYTHON:
        name = re.sub(r"\W", "_", block.path.relative_to(ROOT).as_posix())
        texts[f"{name}_{block.section}"] = as_module(section_of(block))
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", request.param, *COMMANDS[request.param]]
    lines = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300).stdout.splitlines()
    assert re.search(r"found|^\d+ errors", lines[-1], re.IGNORECASE), lines
    return {name: [line for line in lines if re.search(rf"\b{name}\.py:", line)] for name in texts}


def errors(lines: list[str]) -> list[str]:
    return [line for line in lines if re.search(r"\.py:\d+.*\berror\b", line)]


def test_classes_of_params_are_known(said: dict[str, list[str]]) -> None:
    assert not errors(said["known"])
    types = [re.search(r'(?:type is|is) "(.*)"', line) for line in said["known"]]
    assert [re.sub(r"[\w.]*\.(?=\w+Params)", "", found[1]) for found in types if found] == CLASSES


def test_wrong_arguments_are_found(said: dict[str, list[str]]) -> None:
    lines = {int(re.search(r"\.py:(\d+)", line)[1]) for line in errors(said["wrong"])}
    assert lines == {*range(5, 13)}


def test_sections_of_documents_are_accepted(said: dict[str, list[str]]) -> None:
    wrong = [line for name, lines in said.items() if name not in ("known", "wrong") for line in errors(lines)]
    assert not wrong, "\n".join(wrong)
