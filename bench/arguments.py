"""The command line of ``python -m bench``: what may be given, and what is timed then."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench import grids
from bench.cases import Case, find
from bench.isa import HELD
from bench.peers import OURS
from bench.precision import cases as precision_cases
from bench.precision.run import PrecisionBench, PrecisionRun
from bench.results import Run
from bench.run import Bench
from bench.training.cases import TrainingCase
from bench.training.grid import training
from bench.training.results import TrainingRun
from bench.training.run import TrainingBench


class Kind(NamedTuple):
    """What is timed: calls, steps of training, or calls with narrow weights."""

    bench: type[Bench]
    run: type[Run]
    find: Callable[[str], Case]
    grids: Mapping[str, Callable[[], list[Case]]]  # the first one, if none is named
    page: str  # the module whose write_page writes its page
    readme: str | None  # and the one whose write_readme writes its times in README; None: it has none there

    @property
    def theirs(self) -> list[str]:
        """Peers that may be left out."""
        return [name for name in self.bench.peers if name not in OURS]


CALL_GRIDS = {"quick": grids.quick, "published": grids.published, "full": grids.full}
CALLS = Kind(Bench, Run, find, CALL_GRIDS, "bench.page", "bench.readme")
TRAINING = Kind(
    TrainingBench, TrainingRun, TrainingCase.parse, {"training": training}, page="bench.training.page", readme=None
)
PRECISION = Kind(
    PrecisionBench,
    PrecisionRun,
    precision_cases.find,
    {"precision": precision_cases.precision},
    page="bench.precision.page",
    readme="bench.precision.page",
)
ONE_GRID = {"training": TRAINING, "precision": PRECISION}  # by the flag of each


def needed(module: str, what: str) -> Any:
    """Import what the extra brings, or say how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SystemExit(f"{what} needs {module.split('.')[0]}: pip install '.[bench]' ({error})") from None


def as_argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Keep the words of a ValueError, which argparse would drop."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


def parse_threads(text: str) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or not 1 <= int(text) <= available:
        raise ValueError(f"expected from 1 to {available}, the processors at hand, got {text!r}")
    return int(text)


def parse_python(text: str) -> str:
    if not os.access(text, os.X_OK) or os.path.isdir(text):
        raise ValueError(f"expected the Python of an environment, such as env/bin/python, got {text!r}")
    return os.path.abspath(text)


def parse_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"expected a file that --json wrote, got {text!r}")
    return path


def make_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=description)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="some cases of every kind, in under 2 minutes; the default")
    which.add_argument("--published", action="store_true", help="the cases of docs/results, in about ten minutes")
    which.add_argument("--full", action="store_true", help="the whole grid, in about half an hour")
    which.add_argument("--case", action="append", metavar="CASE", help="the same as CASE alone")
    which.add_argument(
        "cases", nargs="*", default=[], metavar="CASE", help="such as lstm-T100-B1-I128-H128, or a model"
    )
    which.add_argument("--list", action="store_true", help="print models and cases, and measure nothing")
    which.add_argument(
        "--from",
        dest="files",
        nargs="+",
        type=as_argument(parse_file),
        metavar="FILE",
        help="measure nothing: take results from files that --json wrote",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--training", action="store_true", help="forward and backward, of a grid of its own or of CASE")
    what.add_argument("--precision", action="store_true", help="narrow weights, of a grid of its own or of CASE")
    parser.add_argument("--cell", action="append", metavar="CELL", help="only cases of this cell; may be repeated")
    parser.add_argument(
        "--peers", metavar="NAMES", help=" or ".join(",".join(kind.theirs) for kind in (CALLS, *ONE_GRID.values()))
    )
    parser.add_argument(
        "--threads", type=as_argument(parse_threads), default=1, metavar="N", help="for all; 1 if not given"
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        type=as_argument(parse_python),
        metavar=("BEFORE", "AFTER"),
        help="time fastrnn of two environments beside each other, by their Pythons, and no peers",
    )
    parser.add_argument("--isa", choices=[*HELD], help="hold all to these instructions; ONNX Runtime can't be held")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results to a file, as they come")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the file of --json, and measure again what was disturbed"
    )
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write a page of results, and plots, into a folder")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="write the times between the marks of a README")
    return parser


class Chosen(NamedTuple):
    """What the command line asks for."""

    kind: Kind
    cases: list[Case]
    peers: list[str]
    rounds: int
    most_seconds: float  # of the rounds of a case
    arguments: argparse.Namespace


def read(parser: argparse.ArgumentParser) -> Chosen:
    """The arguments of this process; a wrong one ends it, in words."""
    arguments = parser.parse_args()
    kind = next((kind for name, kind in ONE_GRID.items() if getattr(arguments, name)), CALLS)
    check_together(parser, arguments)
    try:
        cases = chosen_cases(kind, arguments)
        peers = chosen_peers(kind, arguments.peers)
    except ValueError as error:
        parser.error(str(error))
    one_by_one = bool(arguments.case or arguments.cases)
    rounds = 15 if kind is CALLS and grid_of(kind, arguments) == "quick" and not one_by_one else 25
    return Chosen(kind, cases, peers, rounds, kind.bench.most_seconds * (2 if one_by_one else 1), arguments)


def check_together(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.files and not (arguments.page or arguments.readme):
        parser.error("--from: expected --page or --readme with it")
    if arguments.resume and not arguments.json:
        parser.error("--resume: expected --json with it")
    for name in (name for name in ONE_GRID if getattr(arguments, name)):
        if arguments.compare:
            parser.error(f"--{name}: expected no --compare, which times calls alone")
        if arguments.quick or arguments.published or arguments.full:
            parser.error(f"--{name}: expected no --quick, --published or --full, since it has one grid of its own")
        if arguments.readme and ONE_GRID[name].readme is None:
            parser.error(f"--{name}: expected no --readme, which has no times of it")


def grid_of(kind: Kind, arguments: argparse.Namespace) -> str:
    return next((name for name in kind.grids if getattr(arguments, name)), next(iter(kind.grids)))


def chosen_cases(kind: Kind, arguments: argparse.Namespace) -> list[Case]:
    texts = arguments.case or arguments.cases
    cases = [kind.find(text) for text in texts] or kind.grids[grid_of(kind, arguments)]()
    for cell in arguments.cell or []:
        if cell not in (known := {case.cell for case in cases}):
            raise ValueError(f"argument --cell: expected one of {', '.join(sorted(known))}, got {cell!r}")
    return [case for case in cases if not arguments.cell or case.cell in arguments.cell]


def chosen_peers(kind: Kind, text: str | None) -> list[str]:
    names = kind.theirs if text is None else text.split(",")
    for name in names:
        if name not in kind.theirs:
            raise ValueError(f"argument --peers: expected some of {','.join(kind.theirs)}, got {name!r}")
    return names
