"""Times fastrnn beside its peers, and prints a Markdown table.

Needs ``pip install '.[bench]'``; peers that are missing are named and left out. How it measures: docs/benchmarks.md.
"""

from __future__ import annotations

import shlex
import sys
from importlib import import_module
from pathlib import Path

from bench import versions
from bench.arguments import CALLS, PRECISION, TRAINING, Chosen, make_parser, needed, read
from bench.cases import MODELS, Case
from bench.isa import hold
from bench.machine import describe
from bench.peers import OURS
from bench.results import TITLES, Run, describe_limits, describe_machine, table_head, table_row
from bench.roofline import Limits
from bench.run import FEWEST_ROUNDS, ROUND_SECONDS, Bench


def list_cases() -> None:
    for name, model in MODELS.items():
        print(f"{name:16} {model.case:28} {model.what}")
    for title, cases in {**CALLS.grids, **TRAINING.grids, **PRECISION.grids}.items():
        print(f"\n--{title}: {len(cases())} cases")
        print("\n".join(map(str, cases())))


def estimate(bench: Bench, cases: list[Case], limits: Limits, peers: int, chosen: Chosen) -> float:
    """Seconds that it will take, roughly: rounds as long as the rooflines say, and what it takes to build."""
    total = 0.0
    for case in cases:
        one_round = peers * max(2 * ROUND_SECONDS, bench.usual * bench.least(case, limits))
        if case.cold:
            one_round += peers * limits.levels[-1].measured_at / limits.levels[-1].bandwidth
        rounds = max(min(chosen.rounds * one_round, chosen.most_seconds), FEWEST_ROUNDS * one_round)
        total += bench.build_seconds + one_round + rounds
    return total


def begin(bench: Bench, chosen: Chosen) -> Run:
    """A run without results; or that of --resume, without the results that were disturbed."""
    about = describe() | {
        "kind": chosen.kind.run.kind,
        "command": command_line(),
        "timed": bench.about,
        "missing": bench.missing,
        "used": sorted(bench.cpus),
    }
    file = chosen.arguments.json
    if not (chosen.arguments.resume and file.is_file()):
        return chosen.kind.run(about, bench.limits())
    run = load(chosen, file)
    differing = [key for key in ("processor", "commit", "timed", "used") if run.about[key] != about[key]]
    if differing:
        words = "; ".join(f"{key} was {run.about[key]}, is {about[key]}" for key in differing)
        raise SystemExit(f"--resume: {file} is of another run: {words}")
    run.results = [result for result in run.results if not result.disturbed]
    return run


def load(chosen: Chosen, path: Path) -> Run:
    try:
        return chosen.kind.run.load(path)
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from None


def measure(chosen: Chosen) -> Run:
    """Measure and print, a row as soon as it is known."""
    free = hold(chosen.arguments.isa, chosen.peers) if chosen.arguments.isa else {}
    with chosen.kind.bench([name for name in chosen.peers if name not in free], chosen.arguments.threads) as bench:
        bench.missing |= free
        run = begin(bench, chosen)
        for name, value in [*describe_machine(run), *describe_limits(run.limits)]:
            print(f"{name + ':':24}{value}")
        there = {result.case for result in run.results}
        missing = [case for case in chosen.cases if str(case) not in there]
        minutes = estimate(bench, missing, run.limits, len(run.columns), chosen) / 60
        print(f"{len(missing)} cases, about {minutes:.1f} minutes\n")
        measure_cases(bench, run, missing, chosen)
    order = {str(case): number for number, case in enumerate(chosen.cases)}
    run.results.sort(key=lambda result: order.get(result.case, len(order)))
    if chosen.arguments.json:
        run.save(chosen.arguments.json)
    print_doubts(run)
    return run


def measure_cases(bench: Bench, run: Run, cases: list[Case], chosen: Chosen) -> None:
    """Add a result for each case, and print it; the file, if there is one, has it at once."""
    tqdm = needed("tqdm", "the progress bar").tqdm
    width = max((len(str(case)) for case in cases), default=0) + 2
    print(table_head(run.columns, width, run.fractions), flush=True)
    with tqdm(cases, disable=None, leave=False, unit="case") as progress:
        for case in progress:
            progress.set_postfix_str(str(case), refresh=True)
            result = bench.measure(case, run.limits, chosen.rounds, chosen.most_seconds)
            run.results.append(result)
            tqdm.write(table_row(result, run.columns, width), file=sys.stdout)
            sys.stdout.flush()
            if chosen.arguments.json:
                run.save(chosen.arguments.json)


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


def write(chosen: Chosen, runs: list[Run]) -> None:
    """The page and README's times, where they are asked for."""
    folder, readme = chosen.arguments.page, chosen.arguments.readme
    if folder:
        print(f"wrote {import_module(chosen.kind.page).write_page(runs, folder)}")
    if readme and chosen.kind.readme:
        import_module(chosen.kind.readme).write_readme(runs, readme)
        print(f"wrote {readme}")


def main() -> None:
    chosen = read(make_parser((__doc__ or "").split("\n")[0]))
    arguments = chosen.arguments
    if arguments.list:
        return list_cases()
    if arguments.page and chosen.kind is CALLS:
        needed("matplotlib", "--page")
    if arguments.files:
        return write(chosen, [load(chosen, path) for path in arguments.files])
    if arguments.compare:
        named = arguments.case or arguments.cases or arguments.quick or arguments.published or arguments.full
        cases = chosen.cases if named else [Case.parse(text) for text in versions.CASES]
        return versions.compare_all(arguments.compare, cases, arguments.threads)
    needed("tqdm", "the progress bar")
    try:
        run = measure(chosen)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    return write(chosen, [run])


if __name__ == "__main__":
    main()
