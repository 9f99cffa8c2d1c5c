"""What this machine and this installation have: targets, optional packages, a C compiler, glibc."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import fastrnn
from fastrnn import _core

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
ALL_TARGETS = fastrnn.usable_targets()
# Others differ from their base where weights are bytes, and nowhere else.
TARGETS = tuple(name for name, usable, base in _core.TARGETS if usable and name == base)


def listed(variable: str) -> set[str]:
    """The names in an environment variable, between commas."""
    return {name for name in os.environ.get(variable, "").split(",") if name}


def expected_packages() -> set[str]:
    return listed("FASTRNN_EXPECT_PACKAGES")


def package(name: str) -> Any:
    """A package that is optional. A file of tests that can't be without it is skipped, for a reason that is shown."""
    if name in expected_packages():
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} is not installed")


def c_compiler() -> str:
    """The one that CC names, or cc. A test that can't be without it is skipped."""
    found = shutil.which(os.environ.get("CC", "cc").split()[-1])
    if found is None:
        pytest.skip("no C compiler")
    return found


GLIBC_ALONE = sys.platform == "linux" and platform.libc_ver()[0] == "glibc" and "LD_PRELOAD" not in os.environ
GLIBC_REASON = "needs Linux and glibc, and nothing else that is preloaded"
glibc_alone = pytest.mark.skipif(not GLIBC_ALONE, reason=GLIBC_REASON)
