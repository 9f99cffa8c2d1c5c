"""Recurrent layers as one would write them in NumPy by hand: a peer that is timed.

The equations stand here a second time for that alone. `fastrnn.reference` is the oracle: float64, every option, made to
be read, and slow. This loop computes in the dtype of its input, has the options that a benchmark's cases have, and
multiplies the input of all steps at once. Weights come transposed: (I, G*H), (Hout, G*H) and (H, P). No test relies on
it; tests/core/test_bench.py compares it with the reference, since a peer that is fast and wrong would be no peer.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bench.cases import Array, Case

State = list[tuple[Array, Array]]  # h and c of each layer and direction; only an LSTM uses c


def run(case: Case, x: Array, weights: dict[str, Array], state: State | None = None) -> tuple[Array, State]:
    """Outputs (T, B, D * Hout) of the last layer, and the final state; the first state is zero if none is given."""
    active = np.arange(case.T)[:, None] < case.lengths if case.ragged else None
    final: State = []
    for layer in range(case.L):
        outputs = []
        for suffix in [f"_l{layer}", f"_l{layer}_reverse"][: case.directions]:
            steps = reversed(range(case.T)) if suffix.endswith("_reverse") else range(case.T)
            own = {name.removesuffix(suffix): array for name, array in weights.items() if name.endswith(suffix)}
            first = zeros(case) if state is None else state[len(final)]
            y, last = run_direction(case, x, own, first, steps, active)
            outputs.append(y)
            final.append(last)
        x = np.concatenate(outputs, axis=2) if case.bi else outputs[0]
    return x, final


def zeros(case: Case) -> tuple[Array, Array]:
    return np.zeros((case.B, case.output), case.dtype), np.zeros((case.B, case.H), case.dtype)


def run_direction(
    case: Case,
    x: Array,
    weights: dict[str, Array],
    state: tuple[Array, Array],
    steps: Iterable[int],
    active: Array | None,
) -> tuple[Array, tuple[Array, Array]]:
    T, B, I = x.shape  # noqa: E741
    U, d = weights["weight_hh"], weights["bias_hh"]
    bias = weights["bias_ih"] + d if case.function != "gru" else weights["bias_ih"]
    inputs = (x.reshape(T * B, I) @ weights["weight_ih"] + bias).reshape(T, B, -1)
    h, c = state
    y = np.zeros((T, B, case.output), x.dtype)
    for t in steps:
        if case.cell == "rnn":
            h_new = np.tanh(inputs[t] + h @ U)
        elif case.cell == "lstm":
            h_new, c_new = lstm_step(inputs[t] + h @ U, c)
            c = c_new if active is None else np.where(active[t][:, None], c_new, c)
            if case.P:
                h_new = h_new @ weights["weight_hr"]
        else:
            h_new = gru_step(inputs[t], h, U, d, reset_after=case.cell == "gru")
        if active is None:
            y[t] = h = h_new
        else:
            h = np.where(active[t][:, None], h_new, h)
            y[t, active[t]] = h[active[t]]
    return y, (h, c)


def sigmoid(x: Array) -> Array:
    half = x.dtype.type(0.5)
    result: Array = half * np.tanh(half * x) + half
    return result


def lstm_step(sums: Array, c: Array) -> tuple[Array, Array]:
    H = c.shape[1]
    i, f, o = sigmoid(sums[:, :H]), sigmoid(sums[:, H : 2 * H]), sigmoid(sums[:, 3 * H :])
    c = f * c + i * np.tanh(sums[:, 2 * H : 3 * H])
    return o * np.tanh(c), c


def gru_step(inputs: Array, h: Array, U: Array, d: Array, reset_after: bool) -> Array:
    H = h.shape[1]
    if reset_after:
        recurrent = h @ U + d
        gates = sigmoid(inputs[:, : 2 * H] + recurrent[:, : 2 * H])
        candidate = gates[:, :H] * recurrent[:, 2 * H :]
    else:
        gates = sigmoid(inputs[:, : 2 * H] + (h @ U[:, : 2 * H] + d[: 2 * H]))
        candidate = (gates[:, :H] * h) @ U[:, 2 * H :] + d[2 * H :]
    n = np.tanh(inputs[:, 2 * H :] + candidate)
    result: Array = n + gates[:, H:] * (h - n)
    return result
