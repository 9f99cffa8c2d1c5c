"""What pytest takes from here: fixtures of all tests, and what must be there before a run begins.

FASTRNN_EXPECT_TARGETS=avx512,avx2,scalar makes a run fail where one of these cannot be used, so that no target goes
untested unseen, and FASTRNN_EXPECT_PACKAGES=torch,keras where one of these is not installed.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

# Calls are planned as on one machine, so that those which are to be shared by threads are, in every process of a test.
RATES = "multiplies=5e9,near_bytes=1.2e11,far_bytes=2.5e10,cell_seconds=2e-8,meet_seconds=5e-7,wake_seconds=2e-5"
os.environ.setdefault("FASTRNN_PLAN", RATES)

pytest.register_assert_rewrite("support")

from support.c_programs import Library
from support.environment import ALL_TARGETS, GLIBC_ALONE, GLIBC_REASON, TARGETS, TESTS, c_compiler, listed
from support.profiles import EXAMPLES, PROFILE


def pytest_report_header() -> list[str]:
    return [
        f"fastrnn targets under test: {', '.join(TARGETS)}",
        f"hypothesis profile: {PROFILE}, {EXAMPLES[PROFILE]} examples a test",
    ]


def pytest_sessionstart(session: pytest.Session) -> None:
    missing = sorted(listed("FASTRNN_EXPECT_TARGETS") - set(ALL_TARGETS))
    if missing:
        raise pytest.UsageError(f"expected targets that cannot be used here: {', '.join(missing)}")
    # A shell without job control has what it runs in the background ignore SIGINT, and so would the processes of tests
    # that interrupt them.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=TARGETS, scope="session")
def target(request: pytest.FixtureRequest) -> str:
    """Each target that this machine can run, in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> str:
    """LD_PRELOAD of a process whose memory is counted, or in which the system refuses: see support/preloaded.py."""
    if not GLIBC_ALONE:
        pytest.skip(GLIBC_REASON)
    library = tmp_path_factory.mktemp("preload") / "preload.so"
    source = TESTS / "c" / "fault_preload.c"
    command = [c_compiler(), "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return str(library)


@pytest.fixture(scope="session")
def c_library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """What programs in C are made with."""
    return Library(tmp_path_factory.mktemp("c_library"))
