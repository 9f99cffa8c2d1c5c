"""Times fastrnn beside its peers, and prints a Markdown table.

Needs ``pip install '.[bench]'``; peers that are missing are named and left out. How it measures: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import grids
from bench.cases import MODELS, Case, find
from bench.machine import describe
from bench.peers import OURS, PEERS
from bench.results import TITLES, Run, describe_limits, describe_machine, table_head, table_row
from bench.roofline import Limits, roofline
from bench.run import FEWEST_ROUNDS, ROUND_SECONDS, Bench

GRIDS = {"quick": grids.quick, "published": grids.published, "full": grids.full}
THEIRS = [name for name in PEERS if name not in OURS]


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


def parse_peers(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in THEIRS:
            raise ValueError(f"expected some of {','.join(THEIRS)}, got {name!r}")
    return names


def parse_threads(text: str) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdigit() or not 1 <= int(text) <= available:
        raise ValueError(f"expected from 1 to {available}, the processors at hand, got {text!r}")
    return int(text)


def parse_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"expected a file that --json wrote, got {text!r}")
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="some cases of every kind, in under 2 minutes; the default")
    which.add_argument("--published", action="store_true", help="the cases of docs/results, in about ten minutes")
    which.add_argument("--full", action="store_true", help="the whole grid, in about half an hour")
    which.add_argument(
        "--case",
        action="append",
        type=as_argument(find),
        metavar="CASE",
        help="such as lstm-T100-B1-I128-H128, or a model's name; may be repeated",
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
    parser.add_argument(
        "--peers", type=as_argument(parse_peers), default=THEIRS, metavar="NAMES", help=f"of {','.join(THEIRS)}"
    )
    parser.add_argument(
        "--threads", type=as_argument(parse_threads), default=1, metavar="N", help="for all; 1 if not given"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results to a file, as they come")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the file of --json, and measure again what was disturbed"
    )
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write results.md and plots into a folder")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="write the times between the marks of a README")
    return parser


def list_cases() -> None:
    for name, model in MODELS.items():
        print(f"{name:16} {model.case:28} {model.what}")
    for title, cases in GRIDS.items():
        print(f"\n--{title}: {len(cases())} cases")
        print("\n".join(map(str, cases())))


def estimate(cases: list[Case], limits: Limits, peers: int, rounds: int, most_seconds: float) -> float:
    """Seconds that it will take, roughly: rounds as long as the rooflines say, and half a second to build."""
    total = 0.0
    for case in cases:
        one_round = peers * max(2 * ROUND_SECONDS, 1.5 * roofline(case, limits))
        if case.cold:
            one_round += peers * limits.levels[-1].measured_at / limits.levels[-1].bandwidth
        total += 0.5 + one_round + max(min(rounds * one_round, most_seconds), FEWEST_ROUNDS * one_round)
    return total


def chosen_cases(arguments: argparse.Namespace) -> list[Case]:
    grid = next((name for name in GRIDS if getattr(arguments, name)), "quick")
    return arguments.case or GRIDS[grid]()


def effort(arguments: argparse.Namespace) -> tuple[int, float]:
    """Rounds of a case, and the most seconds of them."""
    if arguments.case:
        return 25, 3.0
    return (25 if arguments.full or arguments.published else 15), 1.5


def begin(bench: Bench, arguments: argparse.Namespace) -> Run:
    """A run without results; or that of --resume, without the results that were disturbed."""
    about = describe() | {
        "command": command_line(),
        "timed": bench.about,
        "missing": bench.missing,
        "used": sorted(bench.cpus),
    }
    if not (arguments.resume and arguments.json.is_file()):
        return Run(about, bench.limits())
    run = Run.load(arguments.json)
    differing = [key for key in ("processor", "commit", "timed", "used") if run.about[key] != about[key]]
    if differing:
        words = "; ".join(f"{key} was {run.about[key]}, is {about[key]}" for key in differing)
        raise SystemExit(f"--resume: {arguments.json} is of another run: {words}")
    run.results = [result for result in run.results if not result.disturbed]
    return run


def measure(arguments: argparse.Namespace) -> Run:
    """Measure and print, a row as soon as it is known."""
    cases, (rounds, most_seconds) = chosen_cases(arguments), effort(arguments)
    with Bench(arguments.peers, arguments.threads) as bench:
        run = begin(bench, arguments)
        for name, value in [*describe_machine(run), *describe_limits(run.limits)]:
            print(f"{name + ':':24}{value}")
        there = {result.case for result in run.results}
        missing = [case for case in cases if str(case) not in there]
        minutes = estimate(missing, run.limits, len(run.columns), rounds, most_seconds) / 60
        print(f"{len(missing)} cases, about {minutes:.1f} minutes\n")
        measure_cases(bench, run, missing, rounds, most_seconds, arguments.json)
    order = {str(case): number for number, case in enumerate(cases)}
    run.results.sort(key=lambda result: order.get(result.case, len(order)))
    if arguments.json:
        run.save(arguments.json)
    print_doubts(run)
    return run


def measure_cases(
    bench: Bench, run: Run, cases: list[Case], rounds: int, most_seconds: float, file: Path | None
) -> None:
    """Add a result for each case, and print it; the file, if there is one, has it at once."""
    tqdm = needed("tqdm", "the progress bar").tqdm
    width = max((len(str(case)) for case in cases), default=0) + 2
    print(table_head(run.columns, width), flush=True)
    with tqdm(cases, disable=None, leave=False, unit="case") as progress:
        for case in progress:
            progress.set_postfix_str(str(case), refresh=True)
            result = bench.measure(case, run.limits, rounds, most_seconds)
            run.results.append(result)
            tqdm.write(table_row(result, run.columns, width), file=sys.stdout)
            sys.stdout.flush()
            if file:
                run.save(file)


def print_doubts(run: Run) -> None:
    """Print which cases were disturbed, and which peers were left out and why."""
    disturbed = [result.case for result in run.results if result.disturbed]
    if disturbed:
        print(f"\ndisturbed by other processes, so measure again (--resume does): {some_of(disturbed)}")
    reasons: dict[str, list[str]] = {}
    for result in run.results:
        for name, words in result.left_out.items():
            if name not in OURS:
                reasons.setdefault(f"{TITLES[name]}: {words}", []).append(result.case)
    if reasons:
        print("\nleft out:")
        for words, where in reasons.items():
            print(f"- {words} ({some_of(where)})")


def some_of(names: list[str]) -> str:
    """The first few, and how many more there are."""
    return ", ".join(names[:4]) + (f", and {len(names) - 4} more" if len(names) > 4 else "")


def command_line() -> str:
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])


def main() -> None:
    parser = make_parser()
    arguments = parser.parse_args()
    if arguments.list:
        return list_cases()
    if arguments.files and not (arguments.page or arguments.readme):
        parser.error("--from: expected --page or --readme with it")
    if arguments.resume and not arguments.json:
        parser.error("--resume: expected --json with it")
    if arguments.page:
        needed("matplotlib", "--page")
    if not arguments.files:
        needed("tqdm", "the progress bar")
    if arguments.files:
        runs = [Run.load(path) for path in arguments.files]
    else:
        try:
            runs = [measure(arguments)]
        except KeyboardInterrupt:
            raise SystemExit(130) from None
    if arguments.page:
        from bench.page import write_page

        print(f"wrote {write_page(runs, arguments.page)}")
    if arguments.readme:
        from bench.readme import write_readme

        write_readme(runs, arguments.readme)
        print(f"wrote {arguments.readme}")
    return None


if __name__ == "__main__":
    main()
