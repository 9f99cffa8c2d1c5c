"""How far from float64 rounding may take a layer: the bound that `fastrnn check` judges by.

A layer passes on its rounding errors, and how much it makes of them depends on its weights: a saturated LSTM forgets
them, a deep stack or a layer with large weights multiplies them from step to step. So no constant is a bound. This one
is derived in two parts.

(a) What one step may add, by forward error analysis in the unit roundoff u (Higham, Accuracy and Stability of Numerical
    Algorithms, chapters 2 to 4):

    - A gate's sum of n = I + Hout + 2 terms, in any order, with or without fused multiply-add: sqrt(n) u m, where m is
      the sum of the terms' magnitudes. n u m is the worst case, sqrt(n) u m what roundings that are independent reach
      (Higham and Mary, A new approach to probabilistic rounding error analysis, 2019).
    - The equations that follow, whose terms are products of activations and states: 8 u times the largest value that
      the term can have. An activation here is off by at most 3 units in the last place, which is 6 u; a product and a
      sum add 1 u each. The largest value of a bounded activation is taken to be 1, since other programs approximate
      them with an absolute error (ONNX Runtime's tanh is off by 4e-8 at 0). A GRU's n + z (h - n), which rounds n
      where z is 1, lies within it too.

(b) What the layer makes of it, by measurement: the float64 reference runs with errors of that size, of either sign, in
    every sum and every new state. In half of the runs the signs are drawn at every step; in the other half each unit
    keeps its sign, since roundings that repeat, as those of a counter, add up over steps. There are at least 8 rows of
    each kind.

The bound of a step is `SAFETY` times the largest difference of all rows and units from the exact result, at this step
or an earlier one. SAFETY covers what so few draws miss. A right layer stays below a quarter of the bound, and mostly
below a tenth: tests/frameworks/test_cli_rounding.py has the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import reference
from fastrnn.params import Params

Array = NDArray[Any]
SAFETY = 2
_EPILOGUE = 8  # units of roundoff, by (a)
_LEAST_ROWS = 8  # of each kind of run
_AT_MOST_ONE = ("tanh", "softsign", "sigmoid", "hard_sigmoid")


def _reach(activation: Any, m: Array) -> Array:
    """A bound on |f(a)| for all |a| <= m: 1 for what is bounded, however small m, since errors there are absolute."""
    name, *constants = (activation,) if isinstance(activation, str) else activation
    if name in _AT_MOST_ONE:
        return np.ones_like(m)
    alpha, beta = constants or (1.0, 0.0)  # of linear; relu has none
    reach: Array = abs(alpha) * m + abs(beta)
    return reach


# The errors of each cell's equations, by (a), in units of `_EPILOGUE` u: of h, and of an LSTM's c.
# `reach` has a bound for each gate.


def _rnn(reach: list[Array], old: list[Array], new: list[Array], options: dict[str, Any]) -> list[Array]:
    return [reach[0]]


def _gru(reach: list[Array], old: list[Array], new: list[Array], options: dict[str, Any]) -> list[Array]:
    _, z, n = reach
    return [(1 + z) * n + z * np.abs(old[0])]


def _lstm(reach: list[Array], old: list[Array], new: list[Array], options: dict[str, Any]) -> list[Array]:
    i, f, g, o = reach
    last = options["output_activation"] or options["activation"]
    return [o * _reach(last, np.abs(new[1])), f * np.abs(old[1]) + i * g]


_EQUATIONS = {"rnn": _rnn, "gru": _gru, "lstm": _lstm}


class _Signs:
    """Signs of errors: drawn anew each time, or once for each width and place in the step."""

    def __init__(self, keep: bool, seed: int) -> None:
        self._rng, self._kept, self._keep = np.random.default_rng(seed), dict[tuple[str, Any], Array](), keep

    def __call__(self, place: str, like: Array) -> Array:
        key = place, like.shape
        if not self._keep or key not in self._kept:
            self._kept[key] = self._rng.integers(0, 2, like.shape, np.int8) * 2.0 - 1.0
        return self._kept[key]


class _ErringCell:
    """A cell of the reference that errs at every step as much as (a) allows."""

    def __init__(self, params: Params, signs: _Signs, done: Callable[[], object]) -> None:
        self._cell, self._dtype, self._signs, self._done = params._cell, params.dtype, signs, done
        self._u, self._tiny = np.finfo(params.dtype).eps / 2, np.finfo(params.dtype).tiny
        self._shown = params._cell_options()
        self._options = {**params._cell.defaults, **self._shown}
        self._step = getattr(reference, f"{params._cell.name}_cell")
        self._sizes: tuple[Any, dict[str, Array]] = (None, {})  # magnitudes of the arrays of the layer at work

    def __call__(self, x: Array, *rest: Any) -> tuple[Array, ...]:
        *old, arrays = rest
        if self._sizes[0] is not arrays:
            self._sizes = arrays, {name: np.abs(array) for name, array in arrays.items()}
        sizes = self._sizes[1]
        sums, reach = self._sums(np.abs(x), [np.abs(part) for part in old], sizes)
        arrays = self._with_errors(arrays, sums, x.shape[-1] + old[0].shape[-1] + 2)
        projection = arrays.pop("weight_hr", None)
        new = self._step(x, *old, arrays, **self._shown)
        new = [*new] if isinstance(new, tuple) else [new]
        errors = _EQUATIONS[self._cell.name](reach, old, new, self._options)
        new = [self._off(f"new{k}", a, _EPILOGUE * self._u * e) for k, (a, e) in enumerate(zip(new, errors))]
        if projection is not None:
            most = np.sqrt(projection.shape[1]) * self._u * (np.abs(new[0]) @ sizes["weight_hr"].T)
            new[0] = self._off("projected", new[0] @ projection.T, most)
        self._done()
        return tuple(a.astype(self._dtype).astype(np.float64) for a in new)  # which overflows where a loop does

    def _sums(self, x: Array, old: list[Array], sizes: dict[str, Array]) -> tuple[list[Array], list[Array]]:
        """The magnitudes of the terms of W x + b and of U h + d, and what each gate reaches."""
        of_x = x @ sizes["weight_ih"].T + sizes.get("bias_ih", 0.0)
        of_h = old[0] @ sizes["weight_hh"].T + sizes.get("bias_hh", 0.0)
        names = [*self._cell.activations]
        kinds = {gate: names[min(1, len(names) - 1)] for gate in self._cell.gates} | dict.fromkeys("hgn", names[0])
        parts = dict(zip(self._cell.gates, np.split(of_x + of_h, len(self._cell.gates), axis=-1)))
        peepholes = np.split(sizes["weight_peephole"], 3) if "weight_peephole" in sizes else []
        reach: dict[str, Array] = {}
        for gate in sorted(parts, key="hrznifgo".index):  # o is last, since its peephole sees the new c
            if peepholes and gate in self._cell.peepholes:
                seen = old[1] if gate != "o" else reach["f"] * old[1] + reach["i"] * reach["g"]
                parts[gate] = parts[gate] + peepholes[self._cell.peepholes.index(gate)] * seen
            m = parts[gate] if self._options["clip"] is None else np.minimum(parts[gate], self._options["clip"])
            reach[gate] = _reach(self._options[kinds[gate]], m)
        return [np.concatenate([*parts.values()], axis=-1), of_h], [reach[gate] for gate in self._cell.gates]

    def _with_errors(self, arrays: dict[str, Array], sums: list[Array], terms: int) -> dict[str, Array]:
        """The layer's arrays with biases of each row of the batch, which are off by what sums may be off."""
        changed = dict(arrays)
        for name, most in zip(("bias_ih", "bias_hh"), sums):  # U h + d is a sum of its own in a GRU
            changed[name] = self._off(name, arrays.get(name, np.zeros_like(most)), np.sqrt(terms) * self._u * most)
        return changed

    def _off(self, place: str, a: Array, most: Array) -> Array:
        off: Array = a + self._signs(place, most) * (most + self._tiny)  # tiny: subnormal numbers are flushed
        return off


def gap(a: Array, b: Array) -> Array:
    """|a - b|, 0 where both are the same infinity or NaN, and NaN where one alone is NaN."""
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b)) | (a == b.astype(a.dtype)) | (a.astype(b.dtype) == b)
        return np.where(same, 0.0, np.abs(a.astype(np.float64) - b))


class Verdict(NamedTuple):
    """How far a result is from float64, and the largest quotient of that and the bound: above 1, it is wrong."""

    distance: float
    share: float

    @property
    def right(self) -> bool:
        return self.share <= 1

    def __str__(self) -> str:
        share = f"{100 * self.share:.2g} %" if self.right else f"{self.share:.3g} times"
        return f"{self.distance:.3g} from float64, {share} of what rounding explains"


def judge(results: tuple[Array, ...], exact: tuple[Array, ...], limits: tuple[Array, ...]) -> Verdict:
    """Judge results by bounds on each, as `bounds` gives them."""
    gaps = [gap(a, b) for a, b in zip(results, exact, strict=True)]
    with np.errstate(all="ignore"):  # an infinite bound explains any number, and a NaN on one side too
        shares = [np.where((off == 0) | np.isinf(most), 0.0, off / most) for off, most in zip(gaps, limits)]
    return Verdict(*(float(np.max([part.max(initial=0) for part in parts])) for parts in (gaps, shares)))


def told_steps(exact: tuple[Array, ...], limits: tuple[Array, ...]) -> int:
    """Steps at which the bound is below a hundredth of the largest output, so that another layer shows there."""
    finite = np.abs(exact[0][np.isfinite(exact[0])])
    return int(np.count_nonzero(limits[0].min(axis=(1, 2)) <= finite.max(initial=0) / 100))


def bounds(
    params: Params, x: Array, exact: tuple[Array, ...], done: Callable[[], object] = lambda: None
) -> tuple[Array, ...]:
    """A bound on the rounding error of each result: of y for each step and direction, of states for each layer.

    Parameters
    ----------
    params, x : the layer, and (T, B, I) input, B being at least 1
    exact : y (T, B, D*Hout), h_n (L*D, B, Hout) and, of an LSTM, c_n of the reference
    done : is called after each step of each layer and direction of each of the two runs

    Returns
    -------
    bounds : of shapes that broadcast with those of `exact`; infinite where a row of a run overflowed
    """
    weights = {name: array.astype(params.dtype) for name, array in params.weights.items()}
    cell, times = params._cell, -(-_LEAST_ROWS // x.shape[1])
    most = [np.zeros(1)] * len(exact)
    for seed, keep in enumerate((False, True)):
        erring = _ErringCell(params, _Signs(keep, seed), done)
        with np.errstate(all="ignore"):
            tiled, zeros = np.tile(x, (1, times, 1)), list[Any]([None] * len(cell.states))
            y, states = reference.layers._run(erring, len(cell.gates), tiled, weights, zeros, None, None, False, True)
        offs = [_off_by(off, np.tile(a, (1, times, 1))) for off, a in zip((y, *states), exact)]
        directions = offs[0].reshape(*y.shape[:2], 1 + params.bidirectional, -1).max(axis=(1, 3))  # (T, D)
        largest = [directions, *(off.max(axis=(1, 2), keepdims=True) for off in offs[1:])]
        most = [np.maximum(a, b) for a, b in zip(most, largest)]
    return _over_time(params, most[0]), *(SAFETY * part for part in most[1:])


def _off_by(result: Array, exact: Array) -> Array:
    """The difference; infinite where errors led to NaN, 0 where the exact result is NaN."""
    off = gap(result, exact)
    return np.where(np.isnan(exact), 0.0, np.where(np.isnan(off), np.inf, off))


def _over_time(params: Params, most: Array) -> Array:
    """The bound of y (T, 1, D*Hout), of (T, D): errors of earlier steps in the direction's own order count too."""
    backwards = [params.direction == "reverse", True]
    steps = [slice(None, None, -1 if back else 1) for back in backwards[: most.shape[1]]]
    grown = np.stack([np.maximum.accumulate(most[order, k])[order] for k, order in enumerate(steps)], axis=-1)
    outputs = params.proj_size or params.hidden_size
    bound: Array = SAFETY * np.repeat(grown, outputs, axis=-1)[:, np.newaxis]
    return bound
