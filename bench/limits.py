"""Measures what this machine can do at most: ``python -m bench`` runs it in a process of its own, before any case.

The loops are in limits.c, which is compiled for this very processor. The fastest of several rounds counts, since what
disturbs a round only slows it down.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import shlex
import subprocess
import sysconfig
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.isa import march
from bench.roofline import Level, Limits

MULTIPLY_ADD, READ, SIGMOID, BARRIER = range(4)  # as in limits.c
ROUNDS = 8
ROUND_SECONDS = 8e-3
CACHES = Path("/sys/devices/system/cpu")
USUAL_CACHES = [("L1", 32 << 10), ("L2", 1 << 20), ("L3", 32 << 20)]  # where the system does not say
MOST_MEMORY = 512 << 20


def compiler_and_flags() -> tuple[list[str], list[str]]:
    """The compiler's command, and what it takes to compile for this very processor."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    arm = platform.machine().lower() in ("aarch64", "arm64")
    return compiler, ["-mcpu=native"] if arm else [f"-march={march()}", "-mprefer-vector-width=512"]


def compile_loops(folder: Path) -> tuple[ctypes.CDLL, str]:
    """The library of limits.c, and the compiler's own name for itself."""
    compiler, flags = compiler_and_flags()
    built = folder / "limits.so"
    source = Path(__file__).with_suffix(".c")
    command = [*compiler, "-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", *flags, "-pthread"]
    subprocess.run([*command, "-shared", "-fPIC", str(source), "-o", str(built)], check=True)
    library = ctypes.CDLL(str(built))
    library.limits_seconds.restype = ctypes.c_double
    library.limits_seconds.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_long, ctypes.c_int]
    version = subprocess.run([*compiler, "--version"], check=True, capture_output=True, text=True).stdout
    return library, version.splitlines()[0]


def cache_sizes(threads: int) -> list[tuple[str, int]]:
    """Caches of data, nearest first: name, and bytes that all caches used by so many threads hold together."""
    found: dict[int, tuple[int, set[str]]] = {}
    for index in CACHES.glob("cpu[0-9]*/cache/index*"):
        try:
            kind, level, size, shared = (
                (index / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        if kind != "Instruction" and re.fullmatch(r"\d+K", size):
            caches = found.setdefault(int(level), (int(size[:-1]) << 10, set()))[1]
            caches.add(shared)  # one for each processor, or one for several
    if not found:
        return [(name, size * (1 if name == "L3" else threads)) for name, size in USUAL_CACHES]
    return [(f"L{level}", size * min(threads, len(caches))) for level, (size, caches) in sorted(found.items())]


def sizes_to_read(caches: list[tuple[str, int]]) -> list[tuple[str, int | None, int]]:
    """Levels with what they hold, and how much is read to measure them.

    Well inside the level and well beyond the one before. Not most of a large last level: what is used of it is rarely
    more than a model, and on a virtual machine it is shared with strangers.
    """
    levels: list[tuple[str, int | None, int]] = []
    before = math.inf
    for name, capacity in caches:
        levels.append((name, capacity, int(min(0.6 * capacity, 8 * before))))
        before = capacity
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return [*levels, ("memory", None, int(min(4 * before, MOST_MEMORY, memory / 8)))]


def measure(threads: int) -> Limits:
    """All limits, in a few seconds."""
    with tempfile.TemporaryDirectory() as folder:
        library, compiler = compile_loops(Path(folder))

    def seconds(kind: int, size: int = 0, threads: int = threads) -> float:
        """Seconds of one repeat, in the fastest round."""
        repeats, rounds = 1, 1
        while True:
            taken: float = library.limits_seconds(kind, threads, size, repeats, rounds)
            if taken < 0:
                raise MemoryError(f"no {threads} buffers of {size} bytes")
            if rounds == ROUNDS:
                return taken / repeats
            if taken >= ROUND_SECONDS:
                rounds = ROUNDS
            else:
                repeats = max(repeats + 1, int(repeats * min(10.0, 1.2 * ROUND_SECONDS / max(taken, 1e-9))))

    levels = []
    for name, capacity, size in sizes_to_read(cache_sizes(threads)):
        each = size // threads // 4096 * 4096 or 4096
        levels.append(Level(name, capacity, threads * each / seconds(READ, each), threads * each))
    together = max(2, threads) if (os.cpu_count() or 1) > 1 else 1
    return Limits(
        threads=threads,
        flops=threads * ctypes.c_int.in_dll(library, "limits_flops_a_repeat").value / seconds(MULTIPLY_ADD),
        levels=tuple(levels),
        activation=seconds(SIGMOID, 4096 * 4, threads=1) / 2048,  # half of the buffer goes in, half comes out
        barrier=seconds(BARRIER, threads=together) if together > 1 else None,
        call=fastest(lambda: math.copysign(1.0, 1.0)) - fastest(lambda: None),
        empty=fastest(lambda: np.empty(128, np.float32)) - fastest(lambda: None),
        compiler=compiler,
    )


def fastest(function: Callable[[], object]) -> float:
    """Seconds of a call, in the fastest of several rounds."""
    return min(timeit.repeat(function, number=20_000, repeat=15)) / 20_000
