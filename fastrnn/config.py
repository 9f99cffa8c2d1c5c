"""Version, targets and threads."""

from __future__ import annotations

import math
import os
import re

import numpy as np

from fastrnn import _check, _core
from fastrnn._types import TargetName

__all__ = ["__version__", "get_num_threads", "set_num_threads", "show_config", "usable_targets"]

__version__ = "0.1.0"


def usable_targets() -> tuple[TargetName, ...]:
    """Names of the targets that this build holds and this machine can run, best first.

    One with a suffix, such as "avx512_vnni", is the target before the suffix with an instruction for products of bytes.
    Weights that are int8 take it; those of all other params have `target` "avx512". All targets give the same bits.

    Examples
    --------
    >>> import fastrnn
    >>> "scalar" in fastrnn.usable_targets()
    True
    """
    return tuple(name for name, usable, _ in _core.TARGETS if usable)


def resolve_target(target: str | None, of_bytes: bool = False) -> TargetName:
    """The target of new params: as asked for, else FASTRNN_TARGET, else the best that can be used.

    Instructions for products of bytes are for weights that are bytes: others have the target's base.
    """
    pin_rates()
    usable = usable_targets()
    source = "target"
    if target is None:
        target = os.environ.get("FASTRNN_TARGET") or usable[0]
        source = "FASTRNN_TARGET"
    if not isinstance(target, str):
        raise TypeError(f"{source}: expected a name or None, got {type(target).__name__}")
    if target not in usable:
        built = [name for name, _, _ in _core.TARGETS]
        why = "which this machine can't run" if target in built else "which this build does not hold"
        meant = "" if target in built else _check.meant(target, usable)
        raise ValueError(f"{source}: expected one of {', '.join(usable)}, got {_check.shown(target)}, {why}{meant}")
    found, base = next((name, base) for name, _, base in _core.TARGETS if name == target)  # a plain str, of a subclass
    return found if of_bytes else base


_RATES = ("multiplies", "near_bytes", "far_bytes", "cell_seconds", "meet_seconds", "wake_seconds")


def pin_rates() -> None:
    """Let the plan take the rates that FASTRNN_PLAN names, where it is set."""
    text = os.environ.get("FASTRNN_PLAN", "")
    if text == _pinned[0]:
        return
    pairs = dict(re.findall(r"(\w+)=([0-9.e+-]+)(?:,|$)", text))
    try:
        rates = {name: float(pairs[name]) for name in _RATES} if text else None
        if rates and not (
            len(pairs) == text.count("=") == len(_RATES) and all(0 < x < math.inf for x in rates.values())
        ):
            raise ValueError
    except (KeyError, ValueError):
        wanted = ",".join(f"{name}=NUMBER" for name in _RATES)
        raise ValueError(
            f"FASTRNN_PLAN: expected {wanted}, as show_config() prints it, got {_check.shown(text)}"
        ) from None
    _core.set_rates(rates)
    _pinned[0] = text


_pinned = [""]  # FASTRNN_PLAN, as it was read last


def _cpu_quota() -> float:
    """Processors' worth of time that a control group of Linux lets this process use; infinite where there is no limit.

    The limit of the process's own group and of those around it, version 2, or that of a container's group, version 1.
    """
    lines = _read("/proc/self/cgroup").splitlines()
    groups = [next((line[3:] for line in lines if line.startswith("0::")), "/")]
    while groups[-1] not in ("", "/"):
        groups.append(os.path.dirname(groups[-1]))
    texts = [_read(f"/sys/fs/cgroup{group}/cpu.max") for group in groups]
    texts.append(" ".join(_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period")))
    limits = [re.fullmatch(r"(\d+) +([1-9]\d*)", " ".join(text.split())) for text in texts]
    return min((int(limit[1]) / int(limit[2]) for limit in limits if limit), default=math.inf)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _available_cpus() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, math.floor(min(_cpu_quota(), allowed) + 0.5)))


def initial_threads() -> int:
    """The default number of threads until one is set."""
    value = os.environ.get("FASTRNN_NUM_THREADS")
    if not value:
        return min(_available_cpus(), _check.MOST_THREADS)
    if not re.fullmatch(r"[0-9]{1,9}", value.strip()):
        raise ValueError(f"FASTRNN_NUM_THREADS: expected from 1 to {_check.MOST_THREADS}, got {_check.shown(value)}")
    return _check.threads(int(value), "FASTRNN_NUM_THREADS")


def set_num_threads(n: int) -> None:
    """Set how many threads a call uses at most where `threads=` is not given.

    A call uses fewer where more would not pay. Until it is set it is FASTRNN_NUM_THREADS, or the number of processors
    that this process may run on: by its affinity, and by the quota of its control group. These are read by the first
    call that needs them, which raises a ValueError where FASTRNN_NUM_THREADS is no such number.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import fastrnn
    >>> before = fastrnn.get_num_threads()
    >>> fastrnn.set_num_threads(1)
    >>> fastrnn.get_num_threads()
    1
    >>> fastrnn.set_num_threads(before)
    """
    _core.set_default_threads(_check.threads(n, "n"))


def get_num_threads() -> int:
    """Return how many threads a call uses at most where `threads=` is not given.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.get_num_threads() >= 1
    True
    """
    return _core.get_default_threads()


def _rates_in_use() -> str:
    try:
        pin_rates()
        index = [name for name, _, _ in _core.TARGETS].index(resolve_target(None))
    except ValueError as error:
        return f"none; {error}"
    rates = _core.measured_rates(index, 0)
    return "FASTRNN_PLAN=" + ",".join(f"{name}={value:.3g}" for name, value in rates.items())


def show_config() -> None:
    """Print the version, the targets, the compiler, the threads, and how fast the plan takes this machine to be.

    The plan's numbers are of float32: products a second in a lane of a vector; bytes of weights that are read in a
    second from the second-level cache, and from beyond it; seconds of a block's gates and states, of two threads that
    meet, and of waking a thread. They are measured in some milliseconds, here or by the first call that may be worth
    several threads. With the line that is printed in the environment they are taken as they stand.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.show_config()  # doctest: +ELLIPSIS
    fastrnn ...
    """
    print(f"fastrnn {__version__}")
    try:
        print(f"target in use: {resolve_target(None)}")
        print(f"target in use for int8: {resolve_target(None, of_bytes=True)}")
    except ValueError as error:
        print(f"target in use: none; {error}")
    built = ", ".join(name for name, _, _ in _core.TARGETS)
    print(f"targets usable: {', '.join(usable_targets())} (in this build: {built})")
    print(f"compiler: {_core.COMPILER}")
    print(f"threads: {get_num_threads()}")
    print(f"plan: {_rates_in_use()}")
    print(f"numpy: {np.__version__}")
