"""What is right: golden arrays of PyTorch and ONNX, `fastrnn.reference`, and how far from it rounding may lead.

The equations of a cell stand once in Python: in `fastrnn.reference`, which the golden arrays and examples by hand
(core/test_reference.py) hold to its word. bench/numpy_loop.py has them again since it is timed.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from support.cases import Case
from support.environment import TESTS

UNIT_ROUNDOFF = {"torch": 2.0**-53, "onnx": 2.0**-53, "onnxruntime": 2.0**-24}


def load_golden() -> dict[str, dict[str, Any]]:
    """Read every golden case: ``oracle/case`` -> its arrays, "weights" (a mapping), "function" and "options"."""
    cases: dict[str, dict[str, Any]] = {}
    for oracle in UNIT_ROUNDOFF:
        with np.load(TESTS / "golden" / f"{oracle}.npz", allow_pickle=False) as file:
            for key, array in file.items():
                name, _, field = key.partition("/")
                case = cases.setdefault(f"{oracle}/{name}", {"weights": {}})
                if field == "options":
                    case |= json.loads(array.item())
                elif field.startswith("weights/"):
                    case["weights"][field.removeprefix("weights/")] = array
                else:
                    case[field] = array
    for case in cases.values():  # JSON has no tuples
        case["options"] = {k: tuple(v) if isinstance(v, list) else v for k, v in case["options"].items()}
    return cases


GOLDEN = load_golden()
SEQUENCES = [name for name, case in GOLDEN.items() if not case["function"].endswith("_cell")]
RESULTS = ("y", "h_n", "c_n")


def initial_state(golden: dict[str, Any]) -> Any:
    return (golden["h_0"], golden["c_0"]) if "c_0" in golden else golden.get("h_0")


def golden_tolerance(name: str) -> float:
    """Largest absolute difference that rounding explains, u being the unit roundoff of the oracle's arithmetic.

    What goes into a gate is a sum of K = I + Hout + 2 terms. Weights are below 1, so no term exceeds m, the largest
    magnitude of input, state and output (or 1). In whatever order K such terms are added, the result is off by at most
    K u times the sum of their magnitudes, so by K^2 u m. The activations have slope 1 at most and add a few units of
    their own: 8 u m, with room for ONNX Runtime's approximations of tanh and sigmoid. Both sides of the comparison
    err, at each of T steps in each of L layers: 2 T L (K^2 + 8) u m. The recurrence may amplify an early error, but
    sums do not meet their worst case: one is typically off by sqrt(K) u m, and that is the amplification's room.
    """
    case = GOLDEN[name]
    arrays = [case[key] for key in ("x", "h_0", "c_0", *RESULTS) if key in case]
    m = max(1.0, *(np.abs(a).max() for a in arrays))
    K = max(case["weights"][w].shape[1] for w in case["weights"] if w.startswith("weight_ih"))
    K += case["h_n"].shape[-1] + 2
    layers = len({w.removesuffix("_reverse") for w in case["weights"] if w.startswith("weight_ih")})
    steps = case["x"].shape[1 if case["options"].get("batch_first") and case["x"].ndim == 3 else 0]
    return 2 * steps * layers * (K**2 + 8) * UNIT_ROUNDOFF[name.split("/")[0]] * m


def tolerance(case: Case, expected: tuple[np.ndarray, ...]) -> float:
    """A bound on the difference from exact arithmetic, first order in the unit roundoff u.

    With m the largest number of the case, the rows of W and U (absolute sums of at most 1/2 each) give pre-activations
    of at most about m with errors of at most (K + 8) u m, K being the longer of I and H (rounding of the sum, biases,
    peepholes, and 3 ulp of an activation). Activations have slopes of at most 1, the cell's products pass on at most
    twice the errors of their factors, and what a state carries over is passed on with a factor of at most 2 at first
    and less than 1 on the whole, since rows sum to at most 1/2: hence the factor 4 for each of T steps and L layers.
    """
    u = np.finfo(case.x.dtype).eps / 2
    most = max(1.0, *(float(np.abs(part).max(initial=0)) for part in expected))
    terms = max(a.shape[1] for name, a in case.weights.items() if name.startswith(("weight_ih", "weight_hh")))
    layers = len([name for name in case.weights if name.startswith("weight_ih")])
    return 4 * (case.steps + 1) * layers * (terms + 8) * u * most


def stays_small(expected: tuple[np.ndarray, ...]) -> bool:
    """Whether the bound of `tolerance` holds: linear gates multiply, and let numbers and errors grow without a bound.

    Of 6000 random cases of 19 steps, 20 exceed this limit, and one of them exceeds float32; the others are within a
    fiftieth of the bound.
    """
    return all(np.abs(part).max(initial=0) <= 8 for part in expected)


def assert_close(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...], limit: float) -> None:
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max(initial=0) <= limit
