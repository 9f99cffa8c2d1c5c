"""The examples of Ray, as a user runs them: two processes of this machine, one of which is killed in between."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid

from support.environment import ROOT, package

package("ray")


def run(name: str, *arguments: str) -> str:
    token = {"RAY_AUTH_TOKEN": uuid.uuid4().hex}  # or Ray would write one to the home folder
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | token)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_score() -> None:
    """A killed process is replaced, and all weights lie in the memory that processes share."""
    printed = run("ray_score.py", "--hidden", "64", "--sequences", "300")
    assert re.search(
        r"^weights: 131072 bytes a machine, mapped by 2 processes from \['/dev/shm/", printed, re.MULTILINE
    )
    (killed, instead) = re.findall(r"process (\d+) was killed, process (\d+) went on in its place", printed)[0]
    assert killed != instead
    assert "bits of all scores: the same\n" in printed


def test_serve() -> None:
    """A session is moved, and a replica is killed: sessions go on where they were."""
    package("ray.serve")
    printed = run("ray_serve.py")
    assert re.search(r"^sessions of each replica: \[\d+, \d+\]$", printed, re.MULTILINE)
    assert "a session was moved: state of 512 bytes\n" in printed
    (resumed,) = re.findall(r"a replica was killed: (\d+) sessions were resumed", printed)
    assert int(resumed) > 0
    assert "bits of all outputs: the same\n" in printed
