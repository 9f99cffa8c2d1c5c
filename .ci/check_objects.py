"""Fails unless each target's objects export one name, and only they hold registers wider than the baseline's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def exported(path: Path) -> list[str]:
    return re.findall(r"^\w+ [A-Z] (\w+)$", output("nm", "--defined-only", "--extern-only", path), re.MULTILINE)


def widest(path: Path) -> int:
    text = output("objdump", "-d", "--no-show-raw-insn", path)
    return 512 if "%zmm" in text else 256 if "%ymm" in text else 128


WIDTHS = {"avx512": 512, "avx2": 256}
objects = sorted(Path(sys.argv[1]).rglob("*.o"))
failures = []
seen = set()
for path in objects:
    target = path.stem if path.parent.name == "targets" else None
    if target:
        seen.add(target)
        bits = next(part for part in path.parts if part in ("32", "64"))
        if exported(path) != [f"frnn_{target}_{bits}"]:
            failures.append(f"{path}: exports {exported(path)}")
    if widest(path) != WIDTHS.get(target or "", 128):
        failures.append(f"{path}: registers of {widest(path)} bits")
    if not target and path.stem != "_core" and any(not name.startswith("frnn_") for name in exported(path)):
        failures.append(f"{path}: exports {exported(path)}")
print(f"{len(objects)} objects; targets {sorted(seen)}")
if failures or "scalar" not in seen:
    sys.exit("\n".join(failures) or "no objects of the scalar target")
