"""The training of examples/char_lm, on some small files: with accelerated layers and with PyTorch's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastrnn
from support.environment import ROOT, package

package("torch")
package("tqdm")

EXAMPLE = ROOT / "examples" / "char_lm"
sys.path.insert(0, str(EXAMPLE))
import model as char_lm  # noqa: E402

# Names that the split by hash holds two of out.
SOURCES = {f"module_{i}.py": f'"""Module {i}."""\n\n\ndef number() -> int:\n    return {i}\n' for i in range(60)}
SIZES = {"steps": 80, "rows": 4, "chunk": 16, "hidden": 12, "save-every": 50, "threads": 1, "lr": 0.1}


def train(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What train.py says, and its results.json; all its files are in `folder`."""
    sources = folder / "sources"
    sources.mkdir(parents=True)
    for name, text in SOURCES.items():
        (sources / name).write_text(text, encoding="utf-8")
    command = [sys.executable, str(EXAMPLE / "train.py"), "--sources", str(sources), "--output", str(folder)]
    sizes = [f"--{name}={size}" for name, size in SIZES.items()]
    done = subprocess.run([*command, *sizes, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, dict[str, Any], Path]]:
    folders = {option: tmp_path_factory.mktemp("train") for option in ("--accelerate", "--no-accelerate")}
    return {option: (*train(folder, option), folder) for option, folder in folders.items()}


@pytest.mark.parametrize(("option", "layers"), [("--accelerate", "fastrnn"), ("--no-accelerate", "PyTorch")])
def test_it_says_time_and_bits(runs: dict[str, Any], option: str, layers: str) -> None:
    said, results, _ = runs[option]
    assert ("lstm: replaced" in said) == (layers == "fastrnn")
    assert f"\n{layers}: " in said
    assert f"held out: {results['heldout_bits_per_character']:.4f} bits per character" in said
    assert results["fastrnn"] == (fastrnn.__version__ if layers == "fastrnn" else None)


def test_it_learns(runs: dict[str, Any]) -> None:
    """97 characters at random are 6.6 bits each."""
    assert all(results["heldout_bits_per_character"] < 3 for _, results, _ in runs.values())


def test_both_learn_the_same(runs: dict[str, Any]) -> None:
    """The same random numbers on both sides. Rounding of float32 grows over the steps: 3e-5 bits were seen."""
    bits = [results["heldout_bits_per_character"] for _, results, _ in runs.values()]
    assert bits[0] == pytest.approx(bits[1], abs=1e-3)


def test_the_model_is_the_one_measured(runs: dict[str, Any]) -> None:
    _, results, folder = runs["--accelerate"]
    model, texts = char_lm.load_model(folder / "model.npz"), char_lm.load_heldout(folder / "heldout.txt.gz")
    params = fastrnn.LSTMParams(model.lstm, embedding=model.embedding)
    measured = char_lm.bits_per_character(
        model, texts, lambda x, state, lengths: fastrnn.lstm(x, params, state, lengths=lengths)
    )
    assert measured == pytest.approx(results["excerpt_bits_per_character"], abs=1e-4)
