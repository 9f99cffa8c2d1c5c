"""The example examples/recurrent_policy.py, as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support.environment import ROOT

EXAMPLE = ROOT / "examples" / "recurrent_policy.py"


@pytest.fixture(scope="module")
def printed() -> str:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_learns(printed: str) -> None:
    """One pull in four pays without a memory of the cue."""
    paid = [int(share) for share in re.findall(r"(\d+)% of all pulls paid", printed)]
    assert paid[0] < 50
    assert paid[-1] > 90


def test_the_loop_has_the_same_numbers(printed: str) -> None:
    assert "the loop's outputs and states: the same\n" in printed
    (off,) = re.findall(r"the loop's gradients: within (\S+) of their largest entries", printed)
    assert float(off) < 1e-5


def test_calls_are_faster(printed: str) -> None:
    times = re.findall(r"the loop [\d.]+ ms: ([\d.]+) times as long", printed)
    assert len(times) == 2
    assert min(map(float, times)) > 1
