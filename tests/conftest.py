"""What all tests share: the targets under test and how much hypothesis searches.

FASTRNN_EXPECT_TARGETS=avx512,avx2,scalar makes a run fail where one of these cannot be used, so that no target goes
untested unseen, and FASTRNN_EXPECT_PACKAGES=torch,keras where one of these is not installed.
HYPOTHESIS_PROFILE=thorough searches twenty times longer, =quick ten times shorter.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import fastrnn

TARGETS = fastrnn.usable_targets()

common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=200, **common)
settings.register_profile("ci", max_examples=200, derandomize=True, print_blob=True, **common)
settings.register_profile("quick", max_examples=20, derandomize=True, print_blob=True, **common)
settings.register_profile("few", max_examples=6, derandomize=True, print_blob=True, **common)
settings.register_profile("thorough", max_examples=4000, **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_report_header() -> str:
    return f"fastrnn targets under test: {', '.join(TARGETS)}"


def pytest_sessionstart(session: pytest.Session) -> None:
    expected = [name for name in os.environ.get("FASTRNN_EXPECT_TARGETS", "").split(",") if name]
    missing = [name for name in expected if name not in TARGETS]
    if missing:
        raise pytest.UsageError(f"expected targets that cannot be used here: {', '.join(missing)}")


@pytest.fixture(params=TARGETS, scope="session")
def target(request: pytest.FixtureRequest) -> str:
    """Each target that this machine can run, in turn."""
    name: str = request.param
    return name


def expected_packages() -> set[str]:
    return {name for name in os.environ.get("FASTRNN_EXPECT_PACKAGES", "").split(",") if name}


def package(name: str) -> Any:
    """A package that is optional. A file of tests that can't be without it is skipped, for a reason that is shown."""
    if name in expected_packages():
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} is not installed")


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, warnings being errors.

    Not in the folder of the checkout: Python looks there first, and would find the package without its extension.
    """
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    here = Path(__file__).parent
    return subprocess.run(command, cwd=here, env=os.environ | environment, capture_output=True, text=True, timeout=120)


def c_compiler() -> str:
    """The one that CC names, or cc. A test that can't be without it is skipped."""
    found = shutil.which(os.environ.get("CC", "cc").split()[-1])
    if found is None:
        pytest.skip("no C compiler")
    return found


GLIBC_ALONE = sys.platform == "linux" and platform.libc_ver()[0] == "glibc" and "LD_PRELOAD" not in os.environ
GLIBC_REASON = "needs Linux and glibc, and nothing else that is preloaded"
glibc_alone = pytest.mark.skipif(not GLIBC_ALONE, reason=GLIBC_REASON)


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> str:
    """LD_PRELOAD of a process whose memory is counted, or in which the system is to refuse: see preloaded.py."""
    if not GLIBC_ALONE:
        pytest.skip(GLIBC_REASON)
    library = tmp_path_factory.mktemp("preload") / "preload.so"
    source = Path(__file__).parent / "c" / "fault_preload.c"
    command = [c_compiler(), "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return str(library)


def bad_calls(table: str, at_least: int) -> list[Any]:
    """Rows of a table of wrong calls, each ``>>> call`` and under it ``Error: message``."""
    found = re.findall(r"^>>> (.+)\n(\w+): (.+)$", table, re.MULTILINE)
    assert len(found) == table.count(">>>") > at_least
    return [pytest.param(*row, id=row[0]) for row in found]


@contextmanager
def raises_as_said(error: str, message: str) -> Iterator[None]:
    """Exactly this class of error, and this message, in which ``...`` stands for anything."""
    pattern = ".*".join(map(re.escape, message.split("..."))) + r"\Z"
    with pytest.raises(Exception, match=f"^{pattern}") as caught:
        yield
    assert caught.type.__name__ == error
