"""The example examples/dask_score.py, as a user runs it: two workers, one of which is killed in between."""

from __future__ import annotations

import re
import subprocess
import sys

from support.environment import ROOT, package

package("distributed")


def test_score() -> None:
    command = [sys.executable, str(ROOT / "examples/dask_score.py"), "--hidden", "64", "--rows", "400", "--steps", "50"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ((killed, others),) = re.findall(r"worker (\S+) was killed, params went on at (.+)", done.stdout)
    assert killed not in others
    assert "40 chunks of 10 rows" in done.stdout
    assert "bits of all scores: the same\n" in done.stdout
