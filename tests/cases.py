"""Random layers for property tests: a `Case` is all that one call takes, and runs it here and in the reference."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import fastrnn
from fastrnn import reference

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
CELLS = ["rnn", "lstm", "gru"]
PARAMS: dict[str, Any] = {"rnn": fastrnn.RNNParams, "lstm": fastrnn.LSTMParams, "gru": fastrnn.GRUParams}
ACTIVATIONS = [
    "tanh",
    "sigmoid",
    "relu",
    "softsign",
    "hard_sigmoid",
    "linear",
    ("hard_sigmoid", 0.2, 0.5),
    ("linear", 0.5, -0.25),
]
# Every vector width of every target is one of 1, 2, 4, 8 and 16; a chain of sums is 128 terms.
EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 65, 127, 128, 129, 131]


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

    @property
    def steps(self) -> int:
        return self.x.shape[1 if self.batch_first and self.x.ndim == 3 else 0]

    @property
    def call(self) -> dict[str, Any]:
        return {"lengths": self.lengths, "batch_first": self.batch_first, "return_sequences": self.return_sequences}

    def params(self, target: str | None = None) -> Any:
        return PARAMS[self.cell](self.weights, target=target, **self.options)

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
        return self.but(x=self.x[rows] if self.batch_first else self.x[take], state=state, lengths=lengths)


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
    """Weights whose rows have absolute sums of at most 1/2 in W, in U and in the biases and peepholes together."""
    (inputs, hidden), gates, weights = sizes, GATES[cell], {}
    out = proj or hidden

    def uniform(*shape: int, terms: int = 1) -> np.ndarray:
        return (rng.uniform(-0.5, 0.5, shape) / max(terms, 1)).astype(dtype)

    for layer in range(layers):
        width = inputs if layer == 0 else out * len(directions)
        for direction in directions:
            end = f"_l{layer}{direction}"
            weights[f"weight_ih{end}"] = uniform(gates * hidden, width, terms=width)
            weights[f"weight_hh{end}"] = uniform(gates * hidden, out, terms=out)
            for bias in biases:
                weights[f"{bias}{end}"] = uniform(gates * hidden, terms=4)
            if proj:
                weights[f"weight_hr{end}"] = uniform(proj, hidden, terms=hidden)
            if peepholes:
                weights[f"weight_peephole{end}"] = uniform(3 * hidden, terms=4)
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


@st.composite
def cases(draw: Any, *, most_steps: int = 9, batched: bool = True) -> Case:
    """Layers of every cell, option, element type, direction, depth and layout of the input."""
    size = st.one_of(st.integers(1, 24), st.sampled_from(EDGES))
    cell = draw(st.sampled_from(CELLS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps, rows = (
        draw(st.integers(0, most_steps)),
        draw(st.one_of(st.integers(0, 8), st.sampled_from([11, 12, 13, 19]))),
    )
    inputs, hidden = draw(st.one_of(st.just(0), size)), draw(size)
    layers, dtype = draw(st.integers(1, 3)), draw(st.sampled_from(["float32", "float64"]))
    directions = draw(st.sampled_from([("",), ("_reverse",), ("", "_reverse")]))
    proj = draw(st.sampled_from([0, 0, 1, 5, 17])) if cell == "lstm" else 0
    biases = draw(st.sampled_from([(), ("bias_ih",), ("bias_hh",), ("bias_ih", "bias_hh")]))
    weights = make_weights(
        rng,
        cell,
        (inputs, hidden),
        layers=layers,
        directions=directions,
        proj=proj,
        biases=biases,
        peepholes=cell == "lstm" and draw(st.booleans()),
        dtype=dtype,
    )
    options: dict[str, Any] = {"reset_after": draw(st.booleans())} if cell == "gru" else {}
    if draw(st.booleans()):
        options["activation"] = draw(st.sampled_from(ACTIVATIONS))
        options["clip"] = draw(st.sampled_from([None, 0.125, 0.5]))
        if cell != "rnn":
            options["recurrent_activation"] = draw(st.sampled_from(ACTIVATIONS))
        if cell == "lstm":
            options["output_activation"] = draw(st.sampled_from([None, *ACTIVATIONS]))
            options["input_forget"] = draw(st.booleans())

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(dtype)

    depth = layers * len(directions)
    state: Any = None
    if draw(st.booleans()):
        state = uniform(depth, rows, proj or hidden)
        state = (state, uniform(depth, rows, hidden)) if cell == "lstm" else state
    lengths = rng.integers(0, steps + 1, rows) if draw(st.booleans()) else None
    batch_first = draw(st.booleans())
    x = uniform(rows, steps, inputs) if batch_first else uniform(steps, rows, inputs)
    x = lay_out(rng, x, draw(st.sampled_from(["dense", "backward", "swapped", "part"])))
    case = Case(cell, weights, x, state, lengths, options, batch_first, draw(st.booleans()))
    if not batched and rows:
        case = case.rows(0).but(lengths=None)
    return case
