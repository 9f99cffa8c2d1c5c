"""What tests of the benchmark share: limits of a machine that is made up, and processes that run something first.

`bench` is not installed: a file of tests appends the checkout to `sys.path` before it imports this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import run
from bench.roofline import Level, Limits

if TYPE_CHECKING:
    import pytest

LEVELS = (Level("L1", 1000, 1e9, 500), Level("L2", 100_000, 1e8, 50_000), Level("memory", None, 1e7, 10**6))
LIMITS = Limits(1, 1e9, LEVELS, 1e-8, 2e-7, 3e-8, 2e-7, "a compiler")
OURS = {"version": "1", "target": "avx2", "compiler": "gcc"}
ABOUT = {
    "processor": "A processor", "processors": 2, "virtual": False, "memory": 2**33, "system": "Linux",
    "python": "3.11", "commit": "abc+", "date": "2026-01-01", "command": "python -m bench", "used": [1], "missing": {},
}  # fmt: skip


def about(**more: Any) -> dict[str, Any]:
    """What a run says of itself."""
    return ABOUT | more


def launch_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let every process of a peer run `code` before it begins."""
    head, tail = run.LAUNCH.split("from bench.worker")
    monkeypatch.setattr(run, "LAUNCH", f"{head}\n{code}\nfrom bench.worker{tail}")
