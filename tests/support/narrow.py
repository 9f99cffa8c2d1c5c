"""Layers of narrow weights in NumPy, to the bit: docs/precision.md has the formulas.

Sums of integers are exact in float64, and every rounding to float32 is written down. sigmoid, tanh and the other
functions are the library's own, taken out of layers of one unit. So what is compared is the arithmetic of the weights:
how they are rounded, what the rows that they multiply become, and how sums are made of both. The way over layers,
directions and lengths is that of docs/numerics.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastrnn
from support.cells import GATES, PARAMS

Floats = NDArray[np.float32]

LEAST_NORMAL = np.finfo(np.float32).smallest_normal
LARGEST_WEIGHT = np.float32(127)
TOP = {"int8": 8191, "int8_fast": 127}
FLUSHED_BY = np.float32(2.0**-20)  # the least normal number times this is flushed to a zero
LEAST_OF_X, LEAST_OF_H = np.float32(2.0**-100), np.float32(1)


def flushed(a: Floats) -> Floats:
    """Subnormals as zeros of their sign."""
    return np.where(np.abs(a) < LEAST_NORMAL, np.copysign(np.float32(0), a), a)


def fma(a: Any, b: Any, c: Any) -> Floats:
    """Multiply and add, rounded once; subnormals are zeros, here and in all that follows.

    The product of two float32 is exact in float64. The float64 sum is made one that is rounded to odd: where it is not
    exact, its last bit is 1. Such a number can be rounded again, to 29 bits fewer, as if it were exact.
    """
    a, b, c = (np.float64(flushed(np.float32(number))) for number in (a, b, c))
    with np.errstate(all="ignore"):
        product = a * b
        total = np.asarray(product + c)
        part = total - product
        error = (product - (total - part)) + (c - part)  # of the sum: Knuth's two-sum
        bits = total.view(np.int64).copy()
        even = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
        bits += np.where(even, np.where((error > 0) == (total > 0), 1, -1), 0)
        return flushed(bits.view(np.float64).astype(np.float32))


def times(a: Any, b: Any) -> Floats:
    with np.errstate(all="ignore"):
        return flushed(flushed(np.float32(a)) * flushed(np.float32(b)))


def minus(a: Any, b: Any) -> Floats:
    with np.errstate(all="ignore"):
        return flushed(flushed(np.float32(a)) - flushed(np.float32(b)))


def bytes_of(w: NDArray[Any]) -> tuple[NDArray[np.int8], Floats]:
    """What int8 params hold of a matrix of floats: bytes and a scale a row."""
    w = w.astype(np.float32)
    scale = np.abs(w).max(axis=1, initial=0) / LARGEST_WEIGHT
    scale[scale < LEAST_NORMAL] = 1
    return np.rint(w / scale[:, None]).clip(-LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8), scale


def integers(a: Floats, precision: str, least: Floats) -> tuple[NDArray[np.int64], Floats]:
    """What rows (n, K) become, and what one of a row's integers stands for, (n, 1)."""
    top = np.float32(TOP[precision])
    with np.errstate(all="ignore"):
        finite = np.isfinite(a).all(axis=1, keepdims=True)
        a = flushed(np.where(finite, a, np.float32(0)))
        largest = np.maximum(np.abs(a).max(axis=1, keepdims=True, initial=0), least)
        whole = np.rint(times(a, top / largest)).astype(np.int64)
        return whole, np.where(finite, flushed(largest / top), np.float32(np.nan))


def add_product(start: Floats, w: NDArray[np.int8], scale: Floats, a: Floats, precision: str, least: Floats) -> Floats:
    """Add w (rows, K) times a (n, K) to start (n, rows)."""
    v, unit = integers(a, precision, least)
    columns = np.float64(w).T

    def exact(numbers: NDArray[np.int64]) -> Floats:
        """Sums of integers far below 2^53, rounded; 0 has no sign."""
        return np.float32(np.float64(numbers) @ columns + 0.0)

    if precision == "int8":
        moved = v + 8192
        total = fma(exact((moved >> 7) - 64), np.float32(128), exact(moved & 127))
    else:
        total = exact(v)
    return fma(total, times(scale[None], unit), start)


def activated(function: Any, a: Floats, clip: float | None = None) -> Floats:
    """An activation of the library, of each number alone: rows of a layer of one unit.

    A sum is -0 only where a negative term is flushed: such a term is added where -0 is meant.
    """
    weights = {"weight_ih": np.array([[1, FLUSHED_BY]], "f4"), "weight_hh": np.full((1, 1), -0.0, "f4")}
    params = fastrnn.RNNParams(weights, activation=function, clip=clip)
    x = np.stack([a.ravel(), np.where(negative_zeros(a).ravel(), -LEAST_NORMAL, np.float32(0))], axis=-1)
    return fastrnn.rnn(x[None], params, return_sequences=False)[0].reshape(a.shape)


def negative_zeros(a: Floats) -> NDArray[np.bool_]:
    return (a == 0) & np.signbit(a)


def standard_lstm(sums: Floats, c: Floats) -> tuple[Floats, Floats]:
    """New h and c of an LSTM without options, which divides quotients together: the library's, from sums as biases."""
    B, H = c.shape
    h, after = np.empty((B, H), "f4"), np.empty((B, H), "f4")
    weights = {"weight_hh": np.full((4 * H, H), -0.0, "f4")}
    for row in range(B):
        zeros = np.where(negative_zeros(sums[row]), FLUSHED_BY, np.float32(0))[:, None]
        params = fastrnn.LSTMParams(weights | {"weight_ih": zeros, "bias_ih": sums[row]})
        x, state = np.full((1, 1, 1), -LEAST_NORMAL), (np.zeros((1, 1, H), "f4"), c[row].reshape(1, 1, H))
        h[row], (_, after[row]) = fastrnn.lstm(x, params, state, return_sequences=False)
    return h, after


class Layer(NamedTuple):
    """One layer in one direction."""

    cell: str
    precision: str
    options: dict[str, Any]
    arrays: dict[str, Any]  # as params hold them, by plain names; absent biases are zeros
    standard: bool

    def product(self, start: Floats, name: str, a: Floats, rows: slice = slice(None)) -> Floats:
        least = LEAST_OF_X if name == "weight_ih" else LEAST_OF_H
        w, scale = self.arrays[name][rows], self.arrays[name + "_scale"][rows]
        return add_product(start, w, scale, a, self.precision, least)

    def gate(self, a: Floats) -> Floats:
        return activated(self.options["recurrent_activation"], a, self.options["clip"])

    def candidate(self, a: Floats) -> Floats:
        return activated(self.options["activation"], a, self.options["clip"])

    def step(self, x: Floats, states: tuple[Floats, ...]) -> tuple[Floats, ...]:
        """From x (n, I) and the states (n, H or P) to the new states, h first."""
        return {"rnn": self._rnn, "lstm": self._lstm, "gru": self._gru}[self.cell](x, states)

    def _start(self, n: int, rows: slice = slice(None), names: tuple[str, ...] = ("bias_ih", "bias_hh")) -> Floats:
        """Biases, added in float64 to 0: no sum starts from -0."""
        both = np.float64(0) + sum(np.float64(flushed(self.arrays[name][rows])) for name in names)
        return np.repeat(both.astype(np.float32)[None], n, axis=0)

    def _rnn(self, x: Floats, states: tuple[Floats, ...]) -> tuple[Floats, ...]:
        sums = self.product(self.product(self._start(len(x)), "weight_ih", x), "weight_hh", states[0])
        return (self.candidate(sums),)

    def _lstm(self, x: Floats, states: tuple[Floats, ...]) -> tuple[Floats, ...]:
        h, c = states
        sums = self.product(self.product(self._start(len(x)), "weight_ih", x), "weight_hh", h)
        inner, after = standard_lstm(sums, c) if self.standard else self._other_lstm(sums, c)
        if "weight_hr" not in self.arrays:
            return inner, after
        start = np.zeros((len(x), len(self.arrays["weight_hr"])), np.float32)
        return self.product(start, "weight_hr", inner), after

    def _other_lstm(self, sums: Floats, c: Floats) -> tuple[Floats, Floats]:
        i, f, g, o = np.split(sums, 4, axis=1)
        peephole = self.arrays.get("weight_peephole")
        of_i, of_f, of_o = np.split(peephole, 3) if peephole is not None else (None, None, None)
        i, f = (a if p is None else fma(p, c, a) for a, p in ((i, of_i), (f, of_f)))
        i = self.gate(i)
        f = minus(1, i) if self.options["input_forget"] else self.gate(f)
        after = fma(f, c, times(i, self.candidate(g)))
        o = self.gate(o if of_o is None else fma(of_o, after, o))
        output = self.options["output_activation"]
        return times(o, activated(self.options["activation"] if output is None else output, after)), after

    def _gru(self, x: Floats, states: tuple[Floats, ...]) -> tuple[Floats, ...]:
        h, n, H = states[0], len(x), states[0].shape[1]
        first, last = slice(0, 2 * H), slice(2 * H, 3 * H)
        sums = self.product(self._start(n, first), "weight_ih", x, first)
        r, z = np.split(self.gate(self.product(sums, "weight_hh", h, first)), 2, axis=1)
        if self.options["reset_after"]:
            of_x, of_h = self._start(n, last, ("bias_ih",)), self._start(n, last, ("bias_hh",))
            of_x, of_h = self.product(of_x, "weight_ih", x, last), self.product(of_h, "weight_hh", h, last)
            new = self.candidate(fma(r, of_h, of_x))
        else:
            of_x = self.product(self._start(n, last), "weight_ih", x, last)
            new = self.candidate(self.product(of_x, "weight_hh", times(r, h), last))
        return (fma(minus(1, z), new, times(z, h)),)

    def run(self, x: Floats, states: tuple[Floats, ...], lengths: NDArray[Any], reverse: bool) -> tuple[Any, Any]:
        """From x (T, B, I) to y (T, B, H or P), zeros past a row's end, and the last states (B, H or P)."""
        states = tuple(state.copy() for state in states)
        y = np.zeros((*x.shape[:2], states[0].shape[1]), np.float32)
        for t in reversed(range(len(x))) if reverse else range(len(x)):
            rows = np.flatnonzero(lengths > t)
            if not len(rows):
                continue
            for state, new in zip(states, self.step(x[t, rows], tuple(s[rows] for s in states)), strict=True):
                state[rows] = new
            y[t, rows] = states[0][rows]
        return y, states


def layers_of(cell: str, params: Any, options: dict[str, Any]) -> Iterator[tuple[bool, Layer]]:
    """The layers of params, layer by layer, forward before reverse, and whether each runs in reverse."""
    defaults = {"activation": "tanh", "recurrent_activation": "sigmoid", "output_activation": None, "clip": None}
    options = defaults | {"input_forget": False, "reset_after": True} | options
    held, H = params.weights, params.hidden_size
    directions = {"forward": [""], "reverse": ["_reverse"], "bidirectional": ["", "_reverse"]}[params.direction]
    for number in range(params.num_layers):
        for direction in directions:
            end = f"_l{number}{direction}"
            arrays = {name: np.zeros(GATES[cell] * H, "f4") for name in ("bias_ih", "bias_hh")}
            arrays |= {
                name.replace(end, ""): a for name, a in held.items() if name.removesuffix("_scale").endswith(end)
            }
            functions = (options["activation"], options["recurrent_activation"], options["output_activation"])
            standard = functions in (("tanh", "sigmoid", None), ("tanh", "sigmoid", "tanh"))
            standard = standard and options["clip"] is None and not options["input_forget"]
            standard = standard and "weight_peephole" not in arrays
            yield direction == "_reverse", Layer(cell, params.precision, options, arrays, standard)


def run(case: Any) -> tuple[Floats, ...]:
    """What a `Case` of int8 params answers: (y, h_n) or (y, h_n, c_n)."""
    params = PARAMS[case.cell](case.weights, **case.options)
    x = case.x.swapaxes(0, 1) if case.batch_first else case.x
    (T, B), H, D = x.shape[:2], params.hidden_size, 1 + params.bidirectional
    layers = list(layers_of(case.cell, params, {k: v for k, v in case.options.items() if k != "precision"}))
    sizes = [params.proj_size or H] + [H] * (case.cell == "lstm")
    given = case.state if isinstance(case.state, tuple) else (case.state,) * (case.state is not None)
    states = given or tuple(np.zeros((len(layers), B, size), np.float32) for size in sizes)
    lengths = np.full(B, T) if case.lengths is None else case.lengths
    last: list[list[Floats]] = [[] for _ in sizes]
    outputs: list[Floats] = []
    for number, (reverse, layer) in enumerate(layers):
        if number and number % D == 0:
            x, outputs = np.concatenate(outputs, axis=-1), []
        y, after = layer.run(x, tuple(state[number] for state in states), lengths, reverse)
        outputs.append(y)
        for part, state in zip(last, after, strict=True):
            part.append(state)
    finals = [np.stack(part) for part in last]
    if case.return_sequences:
        y = np.concatenate(outputs, axis=-1)
        return (y.swapaxes(0, 1) if case.batch_first else y, *finals)
    return (np.concatenate(list(finals[0][-D:]), axis=-1), *finals)
