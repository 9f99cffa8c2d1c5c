"""Calls there and back: the gradients of a `Case` here and in the reference, and how far rounding may part the two."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import fastrnn
from fastrnn import reference
from fastrnn.reference import layers
from support.cases import Case, flat, lay_out
from support.cells import as_state
from support.oracle import tolerance


def parts(state: Any) -> tuple[Any, ...]:
    """The arrays of a state or of its gradient, h alone or (h, c)."""
    return state if isinstance(state, tuple) else (state,)


def named(gradients: Any) -> dict[str, np.ndarray]:
    """Every array of gradients by a name, those that were left out not among them."""
    states = {f"state[{i}]": part for i, part in enumerate(parts(gradients.state))}
    every = {"x": gradients.x, **(gradients.weights or {}), **states}
    return {name: array for name, array in every.items() if array is not None}


def arrays(gradients: Any) -> tuple[np.ndarray, ...]:
    return tuple(named(gradients).values())


def random_like(results: tuple[np.ndarray, ...], seed: int = 1) -> list[np.ndarray]:
    """Gradients for results y, h_n and c_n, of their dtype."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, a.shape).astype(a.dtype) for a in results]


def laid_out(rng: np.random.Generator, array: np.ndarray, layout: str) -> np.ndarray:
    """`lay_out` of an array with two axes or three."""
    if array.ndim == 3:
        return lay_out(rng, array, layout)
    view: np.ndarray = lay_out(rng, array[:, np.newaxis], layout)[:, 0]
    return view


class There:
    """A call that has been made, with its way back."""

    def __init__(self, case: Case, params: Any = None, **call: Any) -> None:
        self.case = case
        params = case.params() if params is None else params
        results, self.pullback = fastrnn.vjp(case.x, params, case.state, **{**case.call, **call})
        self.results = flat(results)

    def back(self, gradients: list[Any], **wanted: Any) -> fastrnn.Gradients:
        """Given the gradients of y, h_n and c_n, any of which may be None."""
        dy, *dstate = gradients
        absent = all(part is None for part in dstate)
        return self.pullback(dy, None if absent else as_state(self.case.cell, tuple(dstate)), **wanted)


def there_and_back(case: Case, gradients: list[Any], params: Any = None, **call: Any) -> tuple[np.ndarray, ...]:
    return arrays(There(case, params, **call).back(gradients))


def reference_back(case: Case, gradients: list[Any]) -> reference.Gradients:
    """The same by the reference."""
    dy, *dstate = gradients
    call = {"state": case.state, **case.call, **case.options}
    with np.errstate(all="ignore"):
        return reference.vjp(case.cell, case.x, case.weights, dy, as_state(case.cell, tuple(dstate)), **call)


class Exact(NamedTuple):
    """What the reference says of a call's gradients, and what tells how far rounding may lead from it."""

    gradients: reference.Gradients
    largest: float  # gradient that a state was given, by a step or by the caller
    nearest: float  # that an argument of an activation is to a corner, and not at it


def _corners(activation: Any, clip: float | None) -> list[float]:
    """Where the derivative of an activation jumps."""
    name, alpha, beta = (activation, 1 / 6, 0.5) if isinstance(activation, str) else activation
    corners = [] if clip is None else [-clip, clip]
    corners += [0.0] if name == "relu" else []
    return corners + ([-beta / alpha, (1 - beta) / alpha] if name == "hard_sigmoid" else [])


def exact_back(case: Case, gradients: list[Any]) -> Exact:
    """`reference_back`, watched at each of its steps."""
    cell, states, derivative = layers._CELLS[case.cell], len(gradients) - 1, reference.activations.derivative
    given = [sum(float(np.abs(a).max(initial=0)) for a in gradients if a is not None)]
    distances = [np.inf]

    def watched_cell(*step: Any, **options: Any) -> Any:
        given.extend(float(np.abs(d).max(initial=0)) for d in step[-states:])
        return cell.backward(*step, **options)

    def watched_derivative(activation: Any, x: np.ndarray, clip: float | None = None) -> np.ndarray:
        for corner in _corners(activation, clip):
            distance = np.abs(x - corner)
            distances.append(float(distance[distance > 0].min(initial=np.inf)))
        return derivative(activation, x, clip)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(layers._CELLS, case.cell, cell._replace(backward=watched_cell))
        patch.setattr(reference.cells, "derivative", watched_derivative)
        found = reference_back(case, gradients)
    return Exact(found, max(given), min(distances))


def gradient_tolerance(case: Case, expected: tuple[np.ndarray, ...], exact: Exact) -> float:
    """A bound on the difference of any gradient from exact arithmetic, u being the unit roundoff.

    No term of any sum exceeds m d, m being the largest number of the forward pass (or 1) and d the largest gradient of
    a state. A gradient of weights adds up T B of them; each is the end of a path of up to T + 1 steps in each of L
    layers, and a step's sums have up to K terms, those of U^T being the gates of all units. In the worst case such
    errors add up, to T B L (T + 1) K u m d. They do not meet it: sums of rounding errors grow with the root of their
    number. Of 2000 random cases the worst is a fifth of the bound.
    """
    m = max(1.0, *(float(np.abs(part).max(initial=0)) for part in expected))
    K = max(8, *(size for name, a in case.weights.items() if a.ndim == 2 for size in a.shape))
    L = sum(name.startswith("weight_ih") for name in case.weights)
    rows = case.x.size // max(case.x.shape[-1] * case.steps, 1) or 1
    roots = (case.steps * rows + 1) * L * (case.steps + 1) * K
    return 2 * roots**0.5 * float(np.finfo(case.x.dtype).eps) / 2 * m * exact.largest


def is_smooth(case: Case, expected: tuple[np.ndarray, ...], exact: Exact) -> bool:
    """Whether rounding can put no argument of an activation on the other side of a corner, where gradients jump.

    Results are within a fiftieth of `tolerance` (see `stays_small`), and so are the numbers on the way to them.
    """
    return exact.nearest > tolerance(case, expected) / 50
