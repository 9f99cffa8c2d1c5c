"""Judges the plan: of random calls, how the way that is chosen does beside all ways that it is chosen from.

Run in the checkout, on a quiet machine: ``python -m bench.choices --calls 300 --threads 2``. With ``--expected`` only
the machine's rates are measured: it prints what the plan expects of more threads than there are.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import fastrnn
from bench.cases import CELLS, Case
from fastrnn import _core

MOST_WORK = 1e9  # products of a call
PARAMS = {"rnn": fastrnn.RNNParams, "lstm": fastrnn.LSTMParams, "gru": fastrnn.GRUParams}


class Way(NamedTuple):
    """One way to run a call."""

    parts: int  # of the batch
    unit_threads: int
    layer_threads: int
    threads: int  # that take part
    expected: float  # seconds
    seconds: float  # the median

    def __str__(self) -> str:
        shares = {"parts": self.parts, "units": self.unit_threads, "layers": self.layer_threads}
        words = ", ".join(f"{n} {what}" for what, n in shares.items() if n > 1) or "whole"
        return f"{words} on {self.threads}: {self.expected * 1e6:.0f} us expected, {self.seconds * 1e6:.0f} taken"


class Judged(NamedTuple):
    """A call, and the ways that it may be run in, that of one thread first."""

    case: Case
    ways: list[Way]
    chosen: Way  # most often
    repeated: float  # the speed of the way that was fastest in the first rounds, in the others, of the fastest there

    @property
    def of_best(self) -> float:
        """The speed of the choice, of that of the fastest way."""
        return min(way.seconds for way in self.ways) / self.chosen.seconds

    @property
    def of_one(self) -> float:
        """The same, of that of one thread."""
        return self.ways[0].seconds / self.chosen.seconds


def random_cases(seed: int) -> Iterator[Case]:
    """Calls of all sizes, up to a tenth of a second."""
    rng = np.random.default_rng(seed)
    while True:
        cell = str(rng.choice([*CELLS]))
        T, B, I, H = (int(2 ** rng.uniform(low, high)) for low, high in ((0, 7), (0, 7), (3, 10), (3, 11)))  # noqa: E741
        L, bi = int(rng.choice([1, 1, 1, 2, 3])), bool(rng.random() < 0.25)
        if len(CELLS[cell].gates) * T * B * H * (I + H * (1 + bi) * L) * (1 + bi) < MOST_WORK:
            yield Case(cell, T, B, I, H, L, bi)


def judge(case: Case, threads: int, practice: int, rounds: int) -> Judged:
    """Time each way, in turns; of some calls in a row the last one counts, as in a loop."""
    x, weights = case.arrays()
    params = PARAMS[case.function](weights, **case.options)
    found, choices = _core.time_ways(params._packed, x, threads, practice, rounds, 3)
    ways = [
        Way(parts, units, layers, n, expected, statistics.median(taken))
        for parts, units, layers, n, expected, taken in found
    ]
    earlier, later = ([statistics.median(taken[half]) for *_, taken in found] for half in halves(rounds))
    return Judged(case, ways, ways[statistics.mode(choices)], min(later) / later[earlier.index(min(earlier))])


def halves(rounds: int) -> tuple[slice, slice]:
    return slice(None, rounds // 2), slice(rounds // 2, None)


def at_least_two(text: str) -> int:
    """Rounds, of which there are two halves."""
    if int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected at least 2, got {text}")
    return int(text)


EXPECTED = """
    lstm-T1-B1-I512-H512 lstm-T100-B1-I128-H128 lstm-T100-B1-I512-H512 lstm-T100-B1-I2048-H2048 gru-T100-B1-I256-H256-L4
    gru-T100-B1-I256-H256-bi lstm-T50-B32-I512-H512 lstm-T50-B256-I512-H512 rnn-T50-B64-I256-H256
""".split()  # noqa: SIM905


def print_expected(cases: list[Case], most: int) -> None:
    """A table: of each case, microseconds on one thread, and how many times as fast on more."""
    counts = [2**i for i in range(1, most.bit_length()) if 2**i <= most]
    print("| case | us | " + " | ".join(map(str, counts)) + " |\n|---|---:" + "|---:" * len(counts) + "|")
    for case in cases:
        x, weights = case.arrays()
        params = PARAMS[case.function](weights, **case.options)
        ways = [_core.time_ways(params._packed, x, count, 0, 0, 0)[0] for count in counts]
        alone = ways[0][0][4]  # expected, as of one thread
        ratios = [f"{alone / min(way[4] for way in some):.1f}" for some in ways]
        print(f"| {case} | {alone * 1e6:.0f} | " + " | ".join(ratios) + " |", flush=True)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.choices", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calls", type=int, default=300, help="random calls")
    parser.add_argument("--threads", type=int, default=2, help="that a call may take")
    parser.add_argument(
        "--practice", type=int, default=200, help="calls of each case from which the plan learns before"
    )
    parser.add_argument("--rounds", type=at_least_two, default=15, help="times of each way, of which the median counts")
    parser.add_argument("--seed", type=int, default=0, help="of the calls")
    parser.add_argument(
        "--expected", action="store_true", help="of 2, 4, 8.. threads, up to --threads; no call is timed"
    )
    parser.add_argument("--case", action="append", metavar="CASE", help="instead of random calls; repeatable")
    return parser


def describe(ratios: list[float]) -> str:
    near = sum(ratio >= 0.95 for ratio in ratios) / len(ratios)
    return f"{near:.1%} within 5 % of the best way, least {min(ratios):.2f}"


def main() -> None:
    arguments = make_parser().parse_args()
    fastrnn.show_config()
    if arguments.expected:
        print_expected([Case.parse(text) for text in arguments.case or EXPECTED], arguments.threads)
    else:
        print_judged(arguments)


def print_judged(arguments: argparse.Namespace) -> None:
    """Calls whose choice was not the best, and how many were."""
    cases = map(Case.parse, arguments.case) if arguments.case else random_cases(arguments.seed)
    judged = []
    for _, case in zip(range(arguments.calls), cases):
        judged.append(judge(case, arguments.threads, arguments.practice, arguments.rounds))
        if arguments.case or judged[-1].of_best < 0.95 or judged[-1].of_one < 0.97:
            one = judged[-1]
            print(f"\n{case}: {one.of_best:.2f} of the best, {one.of_one:.2f} of one thread")
            for way in judged[-1].ways:
                print(f"  {'* ' if way is judged[-1].chosen else '  '}{way}", flush=True)
    of_best, of_one = [one.of_best for one in judged], [one.of_one for one in judged]
    print(f"\n{len(judged)} calls: {describe(of_best)}")
    print(f"what was fastest in the first rounds, in the others: {describe([one.repeated for one in judged])}")
    print(f"over one thread: geometric mean {statistics.geometric_mean(of_one):.2f}, least {min(of_one):.2f}")


if __name__ == "__main__":
    main()
