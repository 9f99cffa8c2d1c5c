"""Layers and calls of them: a `Case` is all that one call takes, and runs it here and in the reference.

`random_case` is the one place that makes them at random. It asks a `Source` for each choice: hypothesis, which can
make a case smaller (`cases`), or a generator of NumPy (`Seeded`), for loops of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from hypothesis import strategies as st

import fastrnn
from fastrnn import reference
from support.cells import ACTIVATIONS, CELLS, CLIPS, PARAMS, PROJECTING, as_state

# Every vector width of every target is one of 1, 2, 4, 8 and 16; a chain of sums is 128 terms.
EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 65, 127, 128, 129, 131]
SIZES = [*range(1, 25), *EDGES]
ROWS = [*range(9), 11, 12, 13, 19]


@dataclass(frozen=True)
class Case:
    cell: str
    weights: dict[str, np.ndarray]
    x: np.ndarray
    state: Any = None
    lengths: np.ndarray | None = None
    options: dict[str, Any] = field(default_factory=dict)
    batch_first: bool = False
    return_sequences: bool = True
    resets: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return self.x.shape[1 if self.batch_first and self.x.ndim == 3 else 0]

    @property
    def call(self) -> dict[str, Any]:
        names = ("lengths", "resets", "batch_first", "return_sequences")
        return {name: getattr(self, name) for name in names}

    def params(self, target: str | None = None, **options: Any) -> Any:
        return PARAMS[self.cell](self.weights, target=target, **self.options, **options)

    def run(self, target: str | None = None, **call: Any) -> tuple[np.ndarray, ...]:
        """(y, h_n) or (y, h_n, c_n)."""
        return flat(getattr(fastrnn, self.cell)(self.x, self.params(target), self.state, **{**self.call, **call}))

    def reference(self) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            return flat(getattr(reference, self.cell)(self.x, self.weights, self.state, **self.call, **self.options))

    def but(self, **changes: Any) -> Case:
        return replace(self, **changes)

    def rows(self, rows: Any) -> Case:
        """The same layer over some rows of the batch."""
        take = (slice(None), rows)
        state = self.state
        if state is not None:
            state = tuple(part[take] for part in state) if isinstance(state, tuple) else state[take]
        lengths = None if self.lengths is None else self.lengths[rows]
        of_steps = rows if self.batch_first else take
        resets = None if self.resets is None else self.resets[of_steps]
        return self.but(x=self.x[of_steps], state=state, lengths=lengths, resets=resets)


def flat(result: Any) -> tuple[np.ndarray, ...]:
    y, state = result
    return (y, *state) if isinstance(state, tuple) else (y, state)


def assert_same_bits(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    """Equal to the bit; any NaN equals any other."""
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        same = (a.view(f"u{a.itemsize}") == b.view(f"u{b.itemsize}")) | (np.isnan(a) & np.isnan(b))
        assert same.all(), f"{np.count_nonzero(~same)} of {same.size} differ, by up to {np.abs(a - b).max()}"


def pick_rows(case: Case, result: tuple[np.ndarray, ...], rows: Any) -> tuple[np.ndarray, ...]:
    """Results of some rows of the batch."""
    y, *states = result
    first = case.batch_first or not case.return_sequences
    return (y[rows] if first else y[:, rows], *(part[:, rows] for part in states))


def assert_rows_are_alone(case: Case, target: str, data: st.DataObject) -> None:
    """Any rows, in any order, beside any others with any lengths, have the bits that each has alone."""
    B = case.x.shape[0 if case.batch_first else 1]
    whole = case.run(target)
    rows = data.draw(st.lists(st.integers(0, B - 1), min_size=1, max_size=B + 3))
    assert_same_bits(case.rows(rows).run(target), pick_rows(case, whole, rows))
    assert_same_bits(case.rows([rows[0]]).run(target), pick_rows(case, whole, [rows[0]]))


def make_weights(
    rng: np.random.Generator,
    cell: str,
    sizes: tuple[int, int],
    *,
    layers: int = 1,
    directions: tuple[str, ...] = ("",),
    proj: int = 0,
    biases: tuple[str, ...] = ("bias_ih", "bias_hh"),
    peepholes: bool = False,
    dtype: str = "float32",
) -> dict[str, np.ndarray]:
    """Weights whose rows have absolute sums of at most 1/2 in W, in U and in all vectors together."""
    (inputs, hidden), kind, weights = sizes, CELLS[cell], {}
    out = proj or hidden
    axes = {"G*H": len(kind.gates) * hidden, "K*H": len(kind.peepholes) * hidden, "H": hidden, "O": out, "P": proj}
    absent = {"bias_ih", "bias_hh"} - {*biases}
    absent |= set() if proj else {"weight_hr"}
    absent |= set() if peepholes else {"weight_peephole"}
    names = [name for name in kind.weights if name not in absent]
    for layer in range(layers):
        axes["I"] = inputs if layer == 0 else out * len(directions)
        for direction in directions:
            for name in names:
                shape = tuple(axes[axis] for axis in kind.weights[name])
                terms = shape[1] if len(shape) == 2 else 4
                weights[f"{name}_l{layer}{direction}"] = (rng.uniform(-0.5, 0.5, shape) / max(terms, 1)).astype(dtype)
    return weights


def lay_out(rng: np.random.Generator, x: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers in other memory, the last axis dense."""
    if layout == "dense":
        return x
    if layout == "backward":
        return x[::-1].copy()[::-1]
    if layout == "swapped":
        return x.swapaxes(0, 1).copy().swapaxes(0, 1)
    wide = rng.normal(size=(2 * x.shape[0], x.shape[1] + 3, x.shape[2] + 5)).astype(x.dtype)
    part = wide[::2, 1 : 1 + x.shape[1], 2 : 2 + x.shape[2]]
    part[...] = x
    return part


def make_state(rng: np.random.Generator, cell: str, shape: tuple[int, int], hidden: int, out: int, dtype: str) -> Any:
    """A state of so many layers and rows: h has `out` units, what a cell has beside it `hidden`."""
    sizes = [out if name == "h" else hidden for name in CELLS[cell].states]
    return as_state(cell, tuple(rng.uniform(-1, 1, (*shape, size)).astype(dtype) for size in sizes))


class Source(Protocol):
    """Where the choices of a random case come from."""

    def choose(self, choices: Sequence[Any]) -> Any: ...
    def integer(self, least: int, most: int) -> int: ...


class Seeded:
    """A generator of NumPy as a source."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def choose(self, choices: Sequence[Any]) -> Any:
        return choices[self.rng.integers(len(choices))]

    def integer(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))


class Drawn:
    """hypothesis as a source."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def choose(self, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(choices))

    def integer(self, least: int, most: int) -> int:
        return int(self.draw(st.integers(least, most)))


def random_options(source: Source, cell: str) -> dict[str, Any]:
    """Half of the layers have the standard activations and no clip, whatever their flags."""
    kind = CELLS[cell]
    options = {name: source.choose([default, default, not default]) for name, default in kind.flags.items()}
    if source.choose([False, True]):
        for name, default in kind.activations.items():
            options[name] = source.choose(ACTIVATIONS if default else [None, *ACTIVATIONS])
        options["clip"] = source.choose(CLIPS)
    return options


def random_resets(source: Source, shape: tuple[int, int]) -> np.ndarray:
    """Resets of some density, in memory of any layout."""
    rng = np.random.default_rng(source.integer(0, 2**32 - 1))
    resets = rng.random((*shape, 1)) < source.choose([0.02, 0.2, 0.5, 1.0])
    return lay_out(rng, resets, source.choose(["dense", "backward", "swapped", "part"]))[..., 0]


def random_case(source: Source, *, largest: int = max(EDGES), most_steps: int = 9, may_reset: bool = False) -> Case:
    """A stack of layers of any cell, option, element type, direction and depth, and a call with any layout of x."""
    sizes = [size for size in SIZES if size <= largest]
    cell = source.choose(list(CELLS))
    kind, rng = CELLS[cell], np.random.default_rng(source.integer(0, 2**32 - 1))
    steps, rows = source.integer(0, most_steps), source.choose(ROWS)
    inputs, hidden = source.choose([0, *sizes]), source.choose(sizes)
    layers, dtype = source.integer(1, 3), source.choose(["float32", "float64"])
    directions = source.choose([("",), ("_reverse",), ("", "_reverse")])
    proj = source.choose([0, 0, 1, 5, 17]) if cell in PROJECTING else 0
    weights = make_weights(
        rng,
        cell,
        (inputs, hidden),
        layers=layers,
        directions=directions,
        proj=proj,
        biases=source.choose([(), ("bias_ih",), ("bias_hh",), ("bias_ih", "bias_hh")]),
        peepholes=bool(kind.peepholes) and source.choose([False, True]),
        dtype=dtype,
    )
    options = random_options(source, cell)
    given_state, given_lengths, batch_first, sequences = (source.choose([False, True]) for _ in range(4))
    shape = (layers * len(directions), rows)
    state = make_state(rng, cell, shape, hidden, proj or hidden, dtype) if given_state else None
    lengths = rng.integers(0, steps + 1, rows) if given_lengths else None
    x = rng.uniform(-1, 1, (*((rows, steps) if batch_first else (steps, rows)), inputs)).astype(dtype)
    x = lay_out(rng, x, source.choose(["dense", "backward", "swapped", "part"]))
    resets = random_resets(source, x.shape[:2]) if may_reset and source.choose([False, True]) else None
    return Case(cell, weights, x, state, lengths, options, batch_first, sequences, resets)


@st.composite
def cases(draw: Any, *, most_steps: int = 9, batched: bool = True, may_reset: bool = False) -> Case:
    """`random_case` by hypothesis; not `batched`, x is one row without the axis of rows."""
    case = random_case(Drawn(draw), most_steps=most_steps, may_reset=may_reset)
    if not batched and case.x.shape[0 if case.batch_first else 1]:
        case = case.rows(0).but(lengths=None)
    return case


def forward(case: Case) -> Case:
    """The case as streams can have it: forward, time first, without lengths."""
    both = sum(name.startswith("weight_ih_l0") for name in case.weights) == 2
    weights = {name.removesuffix("_reverse"): array for name, array in case.weights.items()}
    if both:  # layers above take both directions: only the first one is left
        weights = {name: array for name, array in case.weights.items() if name.endswith("_l0")}
    state, depth = case.state, sum(name.startswith("weight_ih") for name in weights)
    if state is not None:
        state = tuple(part[:depth] for part in state) if isinstance(state, tuple) else state[:depth]
    x = case.x.swapaxes(0, 1) if case.batch_first else case.x
    return case.but(weights=weights, x=x, state=state, lengths=None, batch_first=False, return_sequences=True)
