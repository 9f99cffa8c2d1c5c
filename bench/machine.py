"""A description of the machine, for readers of results."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def describe() -> dict[str, Any]:
    """The machine, the system, Python, the commit and the time."""
    information = cpu_information()
    return {
        "processor": processor(information),
        "processors": os.cpu_count(),
        "virtual": " hypervisor" in information,
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def cpu_information() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def processor(information: str) -> str:
    """The processor's name, as the system has it."""
    match = re.search(r"^model name\s*: (.+)$", information, re.MULTILINE)
    if match:
        return match[1]
    if platform.system() == "Darwin":
        return output_of("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the checkout, with a + where files differ from it."""
    name = output_of("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    if not name:
        return "unknown"
    return name + ("+" if output_of("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no") else "")


def output_of(*command: str) -> str:
    """The output of a command; empty if it cannot be run or fails."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
