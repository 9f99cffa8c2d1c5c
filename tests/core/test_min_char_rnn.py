"""The example examples/min_char_rnn.py, as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.environment import ROOT, package

package("tqdm")

EXAMPLE = ROOT / "examples" / "min_char_rnn.py"
TEXT = "to be, or not to be: that is the question.\n" * 20


def learn(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def losses(done: subprocess.CompletedProcess[str]) -> list[float]:
    """Bits a letter, as the progress bar shows them."""
    return [float(bits) for bits in re.findall(r"bits=([\d.]+)", done.stderr)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_it_spells_hello(cell: str) -> None:
    done = learn(*([] if cell == "lstm" else ["--cell", cell]))
    assert done.returncode == 0, done.stderr
    samples = done.stdout.splitlines()
    assert samples[0] != "hello", "nothing was left to learn"
    assert samples[-3:] == ["hello"] * 3
    assert losses(done)[-1] < 0.01
    assert "300/300" in done.stderr


def test_a_few_steps_on_a_text(text: Path) -> None:
    done = learn(text, "--steps", "60", "--rows", "4", "--chunk", "10")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout) <= set(TEXT)
    assert losses(done)[-1] < 0.8 * losses(done)[0]


def test_the_state_is_carried_over(text: Path) -> None:
    """In "aabbaabb" half of all letters follow an a, and half of these are a: one bit, but for who knows the past."""
    text.write_text("aabb" * 50, encoding="utf-8")
    done = learn(text, "--steps", "1000", "--chunk", "1", "--rows", "1", "--hidden", "32")
    assert done.returncode == 0, done.stderr
    assert losses(done)[-1] < 0.1


def test_a_text_of_one_letter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a", encoding="utf-8")
    done = learn(path)
    assert done.returncode == 2
    assert "text: expected two letters at least, got 'a'" in done.stderr


def test_a_chunk_of_no_letters_is_an_error() -> None:
    done = learn("--chunk", "0")
    assert done.returncode == 2
    assert "--chunk: expected 1 at least, got 0" in done.stderr
