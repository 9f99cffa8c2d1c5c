"""The file of results, and the rows of tables that terminal and page share."""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.cases import NAMES
from bench.peers import COMPARED, OURS, PEERS, PRECISION_PEERS, TRAINING_PEERS, Library
from bench.precision.cases import NARROW
from bench.roofline import Level, Limits
from bench.run import Result, Timing

ROOFLINE = ("of the roofline",)
TITLES = {name: peer.title for name, peer in (PRECISION_PEERS | TRAINING_PEERS | PEERS).items()}


@dataclass
class Run:
    """One run of the program: where it was made, what the machine can do, and a result for each case."""

    peers: ClassVar[Mapping[str, type[Library]]] = PEERS
    result_type: ClassVar[type[Timing]] = Result
    kind: ClassVar[str] = "calls"  # of `about`; files that do not say it are of calls
    fractions: ClassVar[Sequence[str]] = ROOFLINE  # names of a result's `fractions`

    about: dict[str, Any]
    limits: Limits
    results: list[Timing] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The peers that were timed, in the order of `peers`."""
        return [name for name in self.peers if name in self.about["timed"]]

    def text(self) -> str:
        """JSON with a line a case, so that files are short and differences can be read."""
        about, limits = (json.dumps(shorten(part)) for part in (self.about, asdict(self.limits)))
        cases = ",\n".join(json.dumps(shorten(asdict(result))) for result in self.results)
        return f'{{"about": {about},\n"limits": {limits},\n"cases": [\n{cases}\n]}}\n'

    def digest(self) -> str:
        """What shows that a plot was drawn from this run."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the file anew, so that a run that is interrupted leaves all that it has."""
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(self.text(), encoding="utf-8")
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: Path) -> Run:
        return cls.parse(path.read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> Run:
        content = json.loads(text)
        kind = content["about"].get("kind", "calls")
        if kind != cls.kind:
            raise ValueError(f"expected results of {cls.kind}, got results of {kind}")
        limits = content["limits"]
        levels = tuple(Level(**level) for level in limits.pop("levels"))
        return cls(
            content["about"], Limits(levels=levels, **limits), [cls.result_type(**case) for case in content["cases"]]
        )


def shorten(value: Any) -> Any:
    """The same, with five digits of each number that has more: times vary in their third."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: shorten(one) for key, one in value.items()}
    return [shorten(one) for one in value] if isinstance(value, list | tuple) else value


def microseconds(seconds: float) -> str:
    """Three digits, or all before the point."""
    value = seconds * 1e6
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"


def table_head(columns: Sequence[str], width: int = 4, fractions: Sequence[str] = ROOFLINE) -> str:
    titles = [f"{TITLES[name]}, us" for name in columns]
    ratios = [f"best peer / {TITLES[name]}" for name in COMPARED if name in columns]
    numbers = [*titles, *ratios, *fractions]
    return as_row(["case".ljust(width), *numbers]) + "\n" + as_rule(["-" * (width + 2), *("---:" for _ in numbers)])


def table_row(result: Timing, columns: Sequence[str], width: int = 0) -> str:
    """A case: medians with their spread, the ratios, and fractions as `table_head` names them."""
    times = [
        f"{microseconds(result.seconds[name])} ±{result.spread[name]:.0%}" if name in result.seconds else "-"
        for name in columns
    ]
    ratios = ["-" if ratio is None else f"{ratio:.2f}" for name, ratio in result.ratios.items() if name in columns]
    fractions = ["-" if fraction is None else f"{fraction:.0%}" for fraction in result.fractions]
    return as_row([f"`{result.case}`".ljust(width), *times, *ratios, *fractions])


def as_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def as_rule(cells: Iterable[str]) -> str:
    return "|" + "|".join(cells) + "|"


def as_table(head: list[str], rows: Iterable[Iterable[str]], rule: str = "---:") -> list[str]:
    """A Markdown table whose first column is words and whose others are numbers, if no other rule is given."""
    return [as_row(head), as_rule(["---", *[rule] * (len(head) - 1)]), *map(as_row, rows)]


def describe_machine(run: Run) -> list[tuple[str, str]]:
    """The machine and the versions behind the results, for people."""
    about, limits = run.about, run.limits
    ours = about["timed"]["fastrnn"]
    kind = "virtual machine" if about["virtual"] else "machine"
    pinned = f", all on {'processor' if limits.threads == 1 else 'processors'} {plain_list(about['used'])}"
    rows = [
        (
            "processor",
            f"{about['processor']}; a {kind} with {about['processors']} of them, {about['memory'] / 2**30:.0f} GiB",
        ),
        ("threads", f"{limits.threads}{pinned if about['used'] else ''}"),
        ("fastrnn", f"{ours['version']}, commit {about['commit']}, target {ours['target']}, {ours['compiler']}"),
        *((TITLES[name], f"target {about['timed'][name]['target']}") for name in run.columns if name in NARROW),
        *((TITLES[name], about["timed"][name]["version"]) for name in run.columns if name not in OURS),
        *((TITLES[name], f"left out: {words}") for name, words in about["missing"].items()),
        ("Python", about["python"]),
        ("system", about["system"]),
        ("compiler of the limits", limits.compiler),
        ("date", about["date"]),
        ("command", f"`{textwrap.shorten(about['command'], 160, placeholder=' ...')}`"),
    ]
    return [(name, str(value)) for name, value in rows]


def describe_limits(limits: Limits) -> list[tuple[str, str]]:
    """The machine's limits, for people."""
    reads = [
        (
            f"reading {level.name}",
            f"{level.bandwidth / 1e9:.0f} GB/s "
            + (f"(holds {binary(level.capacity)}, " if level.capacity else "(")
            + f"measured with {binary(level.measured_at)})",
        )
        for level in limits.levels
    ]
    barrier = "-" if limits.barrier is None else f"{limits.barrier * 1e6:.2f} us ({max(2, limits.threads)} threads)"
    return [
        ("fused multiply-adds", f"{limits.flops / 1e9:.0f} GFLOP/s in float32"),
        *reads,
        ("a sigmoid", f"{limits.activation * 1e9:.2f} ns, in a vector of them"),
        ("a barrier", barrier),
        ("Python calling C", f"{limits.call * 1e9:.0f} ns"),
        ("numpy.empty", f"{limits.empty * 1e9:.0f} ns"),
    ]


def binary(size: float) -> str:
    return f"{size / 2**20:.4g} MiB" if size >= 2**20 else f"{size / 2**10:.4g} KiB"


def plain_list(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))


def title_of(result: Timing) -> str:
    """The case, and the model that it is."""
    name = NAMES.get(result.case)
    return f"`{result.case}`" + (f" ({name})" if name else "")
