"""Times whole ONNX models in `fastrnn.onnx.session` beside ONNX Runtime alone: convolution, layers, dense layer.

Run in the checkout, on a quiet machine: ``python -m bench.whole_models``. Ratios are the time of ONNX Runtime by that
of the session: above 1, the session is faster. Each runs in a process of its own, in turns, with the options that it
has by itself but for the number of threads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench.cases import MODELS, Array, Case, Data, find
from bench.onnx_model import make_whole_model
from bench.run import ROUND_SECONDS, Worker, half_range, last_processors

# The layers of models that people run, and layers so small or large that a cut may not pay.
CASES = [model.case for model in MODELS.values() if find(model.case).P == 0]
CASES += """
    lstm-T1-B1-I16-H16 gru-T1-B1-I64-H64 rnn-T20-B1-I32-H32 gru-T50-B1-I64-H64 lstm-T100-B1-I128-H128
    lstm-T100-B8-I64-H128-bi gru-T100-B4-I128-H128-L2-bi rnn-T100-B8-I128-H128 lstm-T20-B64-I256-H256
""".split()  # noqa: SIM905
FEATURES, CLASSES = 64, 32
MOST_SECONDS = 6.0  # of a case


def make_data(case: Case) -> Data:
    """The model's bytes among the weights, its input (B, F, T), and what the float64 reference expects of it."""
    from fastrnn import reference

    rng = np.random.default_rng(2)
    _, weights = case.arrays()
    around = {
        "kernels": rng.uniform(-1, 1, (case.I, FEATURES, 3)) / (3 * FEATURES) ** 0.5,
        "dense": rng.uniform(-1, 1, (case.directions * case.H, CLASSES)) / case.H**0.5,
    }
    around = {name: array.astype(np.float32) for name, array in around.items()}
    x = rng.normal(size=(case.B, FEATURES, case.T)).astype(np.float32)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1)))
    sequence: Array = np.sum(
        [np.einsum("bft,if->tbi", padded[:, :, k : k + case.T], around["kernels"][:, :, k]) for k in range(3)], axis=0
    )
    y, _ = getattr(reference, case.function)(np.maximum(sequence, 0), weights, **case.options)
    model = make_whole_model(case, weights | around)
    return Data(x, {"model": np.frombuffer(model, np.uint8)}, (y @ around["dense"].astype(np.float64))[np.newaxis])


def compare(case: Case, peers: list[str], threads: int, rounds: int) -> tuple[list[float], list[list[float]]]:
    """Seconds of a call of each peer, the median of rounds; and of each but the first, the ratios of all rounds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path, workers = folder / "case.npz", []
        make_data(case).save(path)
        for peer in peers:
            workers.append(Worker(peer, threads, folder, last_processors(threads)))
            stack.callback(workers[-1].close)
        built = [worker.ask("build", case=str(case), path=str(path)) for worker in workers]
        for peer, answer in zip(peers, built):
            if "seconds" not in answer or answer["difference"] > case.tolerance:
                raise SystemExit(f"{peer}: {case}: {answer}")
        slowest = max(answer["seconds"] for answer in built)
        repeats = max(1, round(ROUND_SECONDS / slowest))
        rounds = max(5, min(rounds, int(MOST_SECONDS / (len(peers) * repeats * slowest))))
        times: list[list[float]] = [[] for _ in peers]
        for first in range(rounds):
            for place in range(len(peers)):
                index = (first + place) % len(peers)
                times[index].append(workers[index].ask("time", warm=1, repeats=repeats)["seconds"])
    ratios = [[whole / other for whole, other in zip(times[0], seconds)] for seconds in times[1:]]
    return [statistics.median(seconds) for seconds in times], ratios


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.whole_models", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads; each number in turn")
    parser.add_argument("--rounds", type=int, default=41, help="rounds of a case, at most")
    parser.add_argument("--case", action="append", metavar="CASE", help="instead of the cases of this file; repeatable")
    parser.add_argument("--least", type=float, default=0.95, help="a smaller ratio than this is a failure")
    return parser


def main() -> None:
    """Print a Markdown table, and fail where the session is slower than ONNX Runtime."""
    arguments = make_parser().parse_args()
    print("| layers | threads | us ONNX Runtime | session | +- | always cut | +- |\n|---|---|---|---|---|---|---|")
    chosen: dict[str, float] = {}
    for threads in arguments.threads:
        for case in (find(text) for text in arguments.case or CASES):
            seconds, ratios = compare(case, ["whole", "session", "cut"], threads, arguments.rounds)
            numbers = " | ".join(f"{statistics.median(r):.2f} | {half_range(r):.2f}" for r in ratios)
            print(f"| {case} | {threads} | {seconds[0] * 1e6:.1f} | {numbers} |", flush=True)
            chosen[f"{case} on {threads}"] = statistics.median(ratios[0])
    slower = [f"{name} ({ratio:.2f})" for name, ratio in chosen.items() if ratio < arguments.least]
    mean, least = statistics.geometric_mean(chosen.values()), min(chosen.values())
    print(f"\n{len(chosen)} cases, geometric mean {mean:.2f}, least {least:.2f}")
    if slower:
        raise SystemExit("slower: " + ", ".join(slower))


if __name__ == "__main__":
    main()
