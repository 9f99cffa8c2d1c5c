"""Traces: each gate by its equation from the states before it, and the results that the call itself gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import fastrnn
from fastrnn import reference
from support.cases import Case, assert_same_bits, cases, flat, make_weights
from support.cells import CELLS, PARAMS
from support.environment import TARGETS


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


few = settings(max_examples=max(settings.default.max_examples // 2, 1))


@few
@given(case=cases())
def test_h_is_what_the_call_gives(target: str, case: Case) -> None:
    trace = fastrnn.trace(case.x, case.params(target), case.state, lengths=case.lengths, batch_first=case.batch_first)
    whole = case.but(return_sequences=True)
    assert_same_bits((trace.y, *flat((trace.y, trace.state))[1:]), whole.run(target))
    top = sorted({int(name.split("_")[1][1:]) for name in trace})[-1]
    h = [trace[name] for name in trace if name.startswith(f"h_l{top}")]
    assert_same_bits((np.concatenate(h, axis=-1),), (trace.y,))
    kinds = {name.split("_")[0] for name in trace}
    assert kinds == {*CELLS[case.cell].gates, *CELLS[case.cell].states}


def test_many_steps() -> None:
    """So many that they are read in pieces."""
    params = fastrnn.RNNParams(make_weights(np.random.default_rng(0), "rnn", (1, 64), directions=("", "_reverse")))
    trace = fastrnn.trace(np.random.default_rng(1).normal(size=(5000, 8, 1)).astype("f4"), params)
    assert_same_bits((np.concatenate([trace["h_l0"], trace["h_l0_reverse"]], axis=-1),), (trace.y,))


@few
@given(case=cases())
def test_targets_agree(case: Case) -> None:
    def run(target: str) -> tuple[np.ndarray, ...]:
        trace = fastrnn.trace(
            case.x, case.params(target), case.state, lengths=case.lengths, batch_first=case.batch_first
        )
        return tuple(trace.values())

    for target in TARGETS[1:]:
        assert_same_bits(run(target), run(TARGETS[0]))


def steps_of(
    cell: str, weights: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray, reset_after: bool
) -> Any:
    """The gates of one step, by hand."""
    a = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
    u = h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
    if cell == "rnn":
        return {"h": np.tanh(a + u)}
    if cell == "lstm":
        i, f, g, o = np.split(a + u, 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c = f * c + i * g
        return {"i": i, "f": f, "g": g, "o": o, "c": c, "h": o * np.tanh(c)}
    H = h.shape[-1]
    r, z = (sigmoid(a[..., part] + u[..., part]) for part in (slice(H), slice(H, 2 * H)))
    product = r * u[..., 2 * H :]
    if not reset_after:
        product = (r * h) @ weights["weight_hh_l0"][2 * H :].T + weights["bias_hh_l0"][2 * H :]
    n = np.tanh(a[..., 2 * H :] + product)
    return {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * h}


@pytest.mark.parametrize(("cell", "reset_after"), [("rnn", True), ("lstm", True), ("gru", True), ("gru", False)])
@pytest.mark.parametrize("direction", ["", "_reverse"])
def test_gates_by_hand(target: str, cell: str, reset_after: bool, direction: str) -> None:
    rng = np.random.default_rng(0)
    weights = make_weights(rng, cell, (5, 19), dtype="float64")
    options = {"reset_after": reset_after} if cell == "gru" else {}
    named = {name + direction: array for name, array in weights.items()}
    x, lengths = rng.normal(size=(7, 3, 5)), np.array([7, 0, 4])
    trace = fastrnn.trace(x, PARAMS[cell](named, target=target, **options), lengths=lengths)
    for row, length in enumerate(lengths):
        h = c = np.zeros(19)
        for t in reversed(range(length)) if direction else range(length):
            expected = steps_of(cell, weights, x[t, row], h, c, reset_after)
            for name, array in expected.items():
                np.testing.assert_allclose(trace[f"{name}_l0{direction}"][t, row], array, atol=1e-13)
            h, c = expected["h"], expected.get("c", c)
        for array in trace.values():
            assert not array[length:, row].any()


def reference_step(
    cell: str, weights: dict[str, np.ndarray], x: np.ndarray, states: list[np.ndarray], options: dict[str, Any]
) -> dict[str, np.ndarray]:
    """The gates and states of one step, as the reference has them."""
    step = getattr(reference, f"{cell}_cell")
    after = step(x, *states, weights, **options)
    found = dict(zip(CELLS[cell].states, after if isinstance(after, tuple) else (after,), strict=True))
    of_gates = step.__kwdefaults__ | options
    of_gates.pop("output_activation", None)
    if cell == "lstm":
        a = x @ weights["weight_ih"].T + states[0] @ weights["weight_hh"].T + weights["bias_ih"] + weights["bias_hh"]
        found |= zip("ifgo", reference.cells._lstm_gates(a, states[1], weights, **of_gates)[1], strict=True)
    elif cell == "gru":
        found |= zip("rzn", reference.cells._gru_gates(x, states[0], weights, **of_gates)[1], strict=True)
    return found


OTHERS = {"activation": "softsign", "recurrent_activation": "hard_sigmoid"}


@pytest.mark.parametrize(("cell", "proj", "options"), [
    ("rnn", 0, {"activation": "relu", "clip": 0.2}),
    ("lstm", 0, {"clip": 0.2}),
    ("lstm", 7, {}),
    ("lstm", 7, {"input_forget": True, "clip": 0.2}),
    ("lstm", 0, OTHERS | {"output_activation": "linear"}),
    ("gru", 0, OTHERS),
    ("gru", 0, OTHERS | {"reset_after": False, "clip": 0.2}),
])  # fmt: skip
def test_gates_with_options(target: str, cell: str, proj: int, options: dict[str, Any]) -> None:
    """Each step from the states that the trace has before it; an LSTM has peepholes."""
    rng = np.random.default_rng(0)
    weights = make_weights(rng, cell, (5, 19), proj=proj, peepholes=True, dtype="float64")
    x = 2 * rng.normal(size=(6, 3, 5))
    trace = fastrnn.trace(x, PARAMS[cell](weights, target=target, **options))
    plain = {name.removesuffix("_l0"): array for name, array in weights.items()}
    states = [np.zeros((3, size)) for size in (proj or 19, 19)[: len(CELLS[cell].states)]]
    for t in range(6):
        expected = reference_step(cell, plain, x[t], states, options)
        assert {f"{letter}_l0" for letter in expected} == {*trace}
        for letter, array in expected.items():
            np.testing.assert_allclose(trace[f"{letter}_l0"][t], array, atol=1e-13, err_msg=letter)
        states = [trace[f"{letter}_l0"][t] for letter in CELLS[cell].states]


@pytest.mark.parametrize("directions", [("",), ("", "_reverse"), ("_reverse",)])
@pytest.mark.parametrize("cell", CELLS)
def test_layers_above_read_what_the_trace_has_of_those_below(cell: str, directions: tuple[str, ...]) -> None:
    """Each layer of a stack alone, over h of the layer below, has the same trace: also with rows of all lengths."""
    rng = np.random.default_rng(0)
    weights = make_weights(rng, cell, (5, 19), layers=3, directions=directions)
    x, lengths = rng.normal(size=(7, 4, 5)).astype("f4"), np.array([7, 0, 4, 1])
    trace = fastrnn.trace(x, PARAMS[cell](weights), lengths=lengths)
    for layer in range(3):
        own = {name.replace(f"_l{layer}", "_l0"): a for name, a in weights.items() if f"_l{layer}" in name}
        alone = fastrnn.trace(x, PARAMS[cell](own), lengths=lengths)
        assert_same_bits(tuple(trace[name.replace("_l0", f"_l{layer}")] for name in alone), tuple(alone.values()))
        x = alone.y


def test_peepholes_and_coupled_gates() -> None:
    rng = np.random.default_rng(0)
    weights = make_weights(rng, "lstm", (3, 6), peepholes=True, dtype="float64")
    trace = fastrnn.trace(rng.normal(size=(4, 2, 3)), fastrnn.LSTMParams(weights, input_forget=True))
    np.testing.assert_array_equal(trace["f_l0"], 1 - trace["i_l0"])
    c, before = trace["c_l0"], np.concatenate([np.zeros((1, 2, 6)), trace["c_l0"][:-1]])
    np.testing.assert_allclose(c, trace["f_l0"] * before + trace["i_l0"] * trace["g_l0"], atol=1e-15)


def test_layouts() -> None:
    rng = np.random.default_rng(0)
    params = fastrnn.GRUParams(make_weights(rng, "gru", (3, 6), dtype="float64"))
    x = rng.normal(size=(4, 2, 3))
    trace, first = fastrnn.trace(x, params), fastrnn.trace(x.swapaxes(0, 1), params, batch_first=True)
    alone = fastrnn.trace(x[:, 1], params)
    for name in trace:
        np.testing.assert_array_equal(first[name].swapaxes(0, 1), trace[name])
        np.testing.assert_array_equal(alone[name], trace[name][:, 1])
    assert repr(alone) == "Trace(r_l0: (4, 6), z_l0: (4, 6), n_l0: (4, 6), h_l0: (4, 6))"
    assert len(trace) == 4


def test_refused() -> None:
    params = fastrnn.GRUParams(make_weights(np.random.default_rng(0), "gru", (3, 6)))
    x = np.zeros((4, 2, 3), "f4")
    with pytest.raises(KeyError, match="expected one of r_l0, z_l0, n_l0, h_l0, got 'i_l0'"):
        fastrnn.trace(x, params)["i_l0"]
    with pytest.raises(TypeError, match="params: expected RNNParams, LSTMParams or GRUParams, got dict"):
        fastrnn.trace(x, params.weights)
    with pytest.raises(ValueError, match="x: expected"):
        fastrnn.trace(x[..., :2], params)
    with pytest.raises(TypeError, match="unexpected keyword argument 'return_sequences'; a trace has all steps"):
        fastrnn.trace(x, params, return_sequences=False)  # type: ignore[call-arg]
