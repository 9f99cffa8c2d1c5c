"""The program of docs/training.md that trains on several processes, as torchrun starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.documents import PYTHON
from support.environment import package

package("torch")

ABORTED = "terminate called without an active exception"  # PyTorch's own threads, when a process ends on a busy machine
PROGRAM = next(block for block in PYTHON if "DistributedDataParallel(model)" in block.text)


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROGRAM.text, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        if ABORTED not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    said = re.findall(r"process (\d): loss ([\d.]+)", done.stdout)
    assert {rank for rank, _ in said} == {"0", "1"}
    assert len({loss for _, loss in said}) == 2, "each process has data of its own"
