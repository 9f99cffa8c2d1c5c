"""Times fastrnn, PyTorch and ONNX Runtime side by side, on one thread, and prints a Markdown table.

All run in one process in turns, round after round, so that what disturbs one disturbs all; a row shows medians. Outputs
are compared with the float64 reference before anything is timed. Needs ``pip install '.[bench]'``.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

import fastrnn
from fastrnn import reference

CASES = [
    "lstm-T1-B1-I20-H20",
    "lstm-T100-B1-I20-H20",
    "lstm-T100-B1-I128-H128",
    "lstm-T100-B1-I512-H512",
    "lstm-T50-B8-I256-H256",
    "lstm-T50-B32-I512-H512",
    "gru-T100-B1-I20-H20",
    "gru-T100-B1-I128-H128",
    "gru-T50-B32-I512-H512",
    "rnn-T100-B1-I20-H20",
    "rnn-T100-B1-I128-H128",
    "rnn-T25-B128-I256-H256",
]
ROUNDS = 25
ROUND_SECONDS = 2e-3  # calls are repeated until a round takes about this long


class Case(NamedTuple):
    cell: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int

    @classmethod
    def parse(cls, text: str) -> Case:
        match = re.fullmatch(r"(lstm|gru|rnn)-T(\d+)-B(\d+)-I(\d+)-H(\d+)", text)
        if match is None:
            raise argparse.ArgumentTypeError(f"expected a case such as lstm-T100-B1-I128-H128, got {text!r}")
        return cls(match[1], *map(int, match.groups()[1:]))

    def __str__(self) -> str:
        return f"{self.cell}-T{self.T}-B{self.B}-I{self.I}-H{self.H}"

    def arrays(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Input and weights, in PyTorch's names and its initial distribution."""
        rng = np.random.default_rng(0)
        rows = {"rnn": 1, "lstm": 4, "gru": 3}[self.cell] * self.H

        def uniform(*shape: int) -> np.ndarray:
            return (rng.uniform(-1, 1, shape) / self.H**0.5).astype(np.float32)

        weights = {
            "weight_ih_l0": uniform(rows, self.I),
            "weight_hh_l0": uniform(rows, self.H),
            "bias_ih_l0": uniform(rows),
            "bias_hh_l0": uniform(rows),
        }
        return rng.normal(size=(self.T, self.B, self.I)).astype(np.float32), weights


def make_fastrnn(case: Case, x: np.ndarray, weights: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    kinds: dict[str, Any] = {"rnn": fastrnn.RNNParams, "lstm": fastrnn.LSTMParams, "gru": fastrnn.GRUParams}
    params, function = kinds[case.cell](weights), getattr(fastrnn, case.cell)
    return lambda: function(x, params, threads=1)[0]  # type: ignore[no-any-return]


def make_torch(case: Case, x: np.ndarray, weights: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    torch.set_num_threads(1)
    kinds: dict[str, Any] = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    module = kinds[case.cell](case.I, case.H)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    def run() -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(x))[0].numpy()  # type: ignore[no-any-return]

    return run


def make_onnxruntime(case: Case, x: np.ndarray, weights: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    order = {"rnn": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}[case.cell]  # i f g o -> i o f g; r z n -> z r n

    def turn(array: np.ndarray) -> np.ndarray:
        return np.concatenate([np.split(array, len(order))[gate] for gate in order])

    W, U, b, d = (turn(array) for array in weights.values())
    names = ["X", "W", "R", "B"]
    constants = [W[None], U[None], np.concatenate([b, d])[None]]
    attributes: dict[str, int] = {"linear_before_reset": 1} if case.cell == "gru" else {}
    node = helper.make_node(case.cell.upper(), names, ["Y"], hidden_size=case.H, **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for array, name in zip(constants, names[1:])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"X": x})[0][:, 0]  # type: ignore[no-any-return]


PEERS = {"fastrnn": make_fastrnn, "PyTorch": make_torch, "ONNX Runtime": make_onnxruntime}


def measure(case: Case) -> dict[str, float]:
    """Median microseconds a call, by peer."""
    x, weights = case.arrays()
    expected = getattr(reference, case.cell)(x, weights)[0]
    calls = {name: make(case, x, weights) for name, make in PEERS.items()}
    for name, call in calls.items():
        difference = np.abs(call() - expected).max()
        if difference > 1e-4:
            raise SystemExit(f"{case}: {name} is {difference:.1e} away from the reference")
    start = time.perf_counter()
    calls["fastrnn"]()
    repeats = max(1, round(ROUND_SECONDS / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            times[name].append((time.perf_counter() - start) / repeats)
    return {name: statistics.median(seconds) * 1e6 for name, seconds in times.items()}


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return re.search(r"model name\s*: (.+)", file.read())[1]  # type: ignore[index]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--case", type=Case.parse, action="append", help="such as lstm-T100-B1-I128-H128; may be repeated"
    )
    cases = parser.parse_args().case or [Case.parse(text) for text in CASES]
    versions = f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    target = fastrnn.LSTMParams(Case("lstm", 1, 1, 1, 1).arrays()[1]).target
    print(f"{processor()}; one thread; float32; fastrnn {fastrnn.__version__} ({target}), {versions}\n")
    print(f"| case | {' | '.join(f'{name}, us' for name in PEERS)} | best peer / fastrnn |")
    print("|---" * (len(PEERS) + 2) + "|")
    for case in cases:
        times = measure(case)
        ratio = min(seconds for name, seconds in times.items() if name != "fastrnn") / times["fastrnn"]
        columns = [
            f"`{case}`",
            *(f"{times[name]:.3g}" if times[name] < 1000 else f"{times[name]:.0f}" for name in PEERS),
        ]
        print(f"| {' | '.join(columns)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
