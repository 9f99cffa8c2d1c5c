"""Times two versions of fastrnn beside each other, each in an environment of its own: before a change, and after it.

``python -m bench --compare BEFORE/bin/python AFTER/bin/python`` runs it. A case of a single step is a step of a stream,
which carries its state.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.cases import Case
from bench.run import ROUND_SECONDS, Worker, half_range, last_processors

# Every cell, kind of layer and number of rows that has code of its own.
CASES = """
    rnn-T1-B1-I16-H16 lstm-T1-B1-I20-H20 gru-T1-B1-I24-H24 lstm-T1-B1-I128-H128 lstm-T1-B4-I64-H64 gru-T1-B1-I512-H512
    rnn-T100-B1-I16-H16 lstm-T100-B1-I24-H24 gru-T100-B1-I40-H40 lstm-T60-B1-I96-H96 gru-T60-B1-I320-H320
    rnn-T60-B1-I320-H320 lstm-T50-B1-I512-H512 gru-T40-B5-I150-H150 lstm-T40-B5-I150-H150 rnn-T40-B8-I100-H100
    lstm-T100-B8-I1-H256 lstm-T30-B12-I320-H320 gru-T30-B12-I320-H320 lstm-T20-B32-I256-H256 lstm-T20-B48-I400-H400
    gru-T20-B64-I256-H256 rnn-T50-B64-I256-H256 lstm-T12-B96-I640-H640 lstm-T50-B1-I80-H128-L2
    lstm-T50-B4-I80-H128-L2-bi gru_before-T50-B1-I64-H64 gru_before-T20-B32-I256-H256 lstm-T50-B8-I64-H128-P64
    lstm-T60-B16-I64-H128-ragged lstm-T40-B8-I100-H100-f64 gru-T100-B1-I40-H40-f64
""".split()  # noqa: SIM905
MOST_SECONDS = 4.0  # of a case
WARNED = 0.95  # of the speed before


def time_in_turns(workers: list[Worker], repeats: int, rounds: int) -> Iterator[tuple[float, float]]:
    """Seconds of a call, before and after, in each round; the other one begins each time."""
    for first in range(rounds):
        seconds = [0.0, 0.0]
        for index in (first % 2, 1 - first % 2):
            seconds[index] = min(workers[index].ask("time", warm=1, repeats=repeats)["seconds"] for _ in range(2))
        yield seconds[0], seconds[1]


def compare(case: Case, pythons: list[str], threads: int, rounds: int) -> tuple[float, float, float]:
    """Seconds of a call after the change; the median of before / after over the rounds, and half its spread."""
    peer = "stream" if case.T == 1 else "fastrnn"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "case.npz"
        helper = Worker("reference", 1, folder)
        stack.callback(helper.close)
        workers = []
        for python in pythons:
            workers.append(Worker(peer, threads, folder, last_processors(threads), python))
            stack.callback(workers[-1].close)
        helper.ask("prepare", case=str(case), path=str(path))
        built = [worker.ask("build", case=str(case), path=str(path)) for worker in workers]
        for python, answer in zip(pythons, built):
            if "seconds" not in answer:
                raise SystemExit(f"{python}: {case}: {answer}")
        slowest = max(answer["seconds"] for answer in built)
        repeats = max(1, round(ROUND_SECONDS / slowest))
        rounds = max(5, min(rounds, int(MOST_SECONDS / (6 * repeats * slowest))))
        times = list(time_in_turns(workers, repeats, rounds))
    ratios = [before / after for before, after in times]
    return statistics.median(after for _, after in times), statistics.median(ratios), half_range(ratios)


def compare_all(pythons: list[str], cases: list[Case], threads: int, rounds: int = 21) -> None:
    """Print a Markdown table, the geometric mean, and which cases have become slower."""
    print("| case | us after | before / after | +- |\n|---|---|---|---|")
    ratios: dict[str, float] = {}
    for case in cases:
        if threads > 1 and case.T == 1:
            continue  # a step runs on one thread
        after, ratio, spread = compare(case, pythons, threads, rounds)
        print(f"| {case} | {after * 1e6:.1f} | {ratio:.3f} | {spread:.3f} |", flush=True)
        ratios[str(case)] = ratio
    if ratios:
        mean, least = statistics.geometric_mean(ratios.values()), min(ratios.values())
        print(f"\n{len(ratios)} cases, threads: {threads}, geometric mean {mean:.3f}, least {least:.3f}")
    slower = [f"{name} ({ratio:.3f})" for name, ratio in ratios.items() if ratio < WARNED]
    if slower:
        print(f"warning: slower than before: {', '.join(slower)}")
