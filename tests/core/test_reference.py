"""The reference against PyTorch's and ONNX's golden arrays, and against what must hold whatever the numbers are."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import reference
from support.cases import make_weights
from support.cells import CELLS, GATES, PROJECTING, as_state
from support.oracle import GOLDEN, RESULTS, SEQUENCES, golden_tolerance, initial_state

# Golden arrays

ONE_STEP = [name for name in GOLDEN if name not in SEQUENCES]


def run_case(case: dict[str, Any], **options: Any) -> dict[str, np.ndarray]:
    """The reference's y, h_n and, for an LSTM, c_n."""
    options = case["options"] | options
    function = getattr(reference, case["function"])
    y, state = function(case["x"], case["weights"], initial_state(case), lengths=case.get("lengths"), **options)
    return dict(zip(RESULTS, (y, *(state if isinstance(state, tuple) else (state,))), strict=False))


@pytest.mark.parametrize("name", SEQUENCES)
def test_golden_sequence(name: str) -> None:
    case = GOLDEN[name]
    results = run_case(case)
    assert results.keys() == {key for key in RESULTS if key in case}
    for key, result in results.items():
        assert result.dtype == np.float64
        assert result.shape == case[key].shape
        np.testing.assert_allclose(result, case[key], rtol=0, atol=golden_tolerance(name), err_msg=key)


@pytest.mark.parametrize("name", ONE_STEP)
def test_golden_cell(name: str) -> None:
    """One step of a cell, and the same as a sequence of one step."""
    case = GOLDEN[name]
    state = initial_state(case)
    states = state if isinstance(state, tuple) else (state,)
    result = getattr(reference, case["function"])(case["x"], *states, case["weights"], **case["options"])
    expected = (case["h_n"], case["c_n"]) if "c_n" in case else case["h_n"]
    np.testing.assert_allclose(result, expected, rtol=0, atol=golden_tolerance(name))

    first = tuple(s[np.newaxis] for s in states)
    sequence = getattr(reference, case["function"].removesuffix("_cell"))
    y, final = sequence(
        case["x"][np.newaxis], case["weights"], first if len(first) == 2 else first[0], **case["options"]
    )
    np.testing.assert_array_equal(y[0], result[0] if "c_n" in case else result)
    np.testing.assert_array_equal(np.squeeze(final, -3), result)


@pytest.mark.parametrize("name", [n for n in SEQUENCES if n.startswith("onnx") and GOLDEN[n]["options"]])
def test_golden_case_needs_its_options(name: str) -> None:
    """Without any one of its options the reference misses a case by far, so the cases do test the options."""
    case = GOLDEN[name]
    defaults = {"activation": "tanh", "recurrent_activation": "sigmoid", "output_activation": None}
    defaults |= {"input_forget": False, "clip": None, "reset_after": not case["options"].get("reset_after")}
    for option in case["options"]:
        y = run_case(case, **{option: defaults[option]})["y"]
        assert np.abs(y - case["y"]).max() > 100 * golden_tolerance(name), option


@pytest.mark.parametrize("name", SEQUENCES)
def test_last_step_only_is_final_state(name: str) -> None:
    case = GOLDEN[name]
    full, last = run_case(case), run_case(case, return_sequences=False)
    directions = 1 + any(w.endswith("l0_reverse") for w in case["weights"]) * ("weight_ih_l0" in case["weights"])
    np.testing.assert_array_equal(last["y"], np.concatenate(full["h_n"][-directions:], axis=-1))
    for key in full.keys() - {"y"}:
        np.testing.assert_array_equal(last[key], full[key])


# Small numbers that can be checked by hand; every one is exact in binary.

HARD = ("hard_sigmoid", 0.25, 0.5)


def test_rnn_by_hand() -> None:
    weights = {"weight_ih": [[2.0, 1.0]], "weight_hh": [[-1.0]], "bias_ih": [0.5], "bias_hh": [0.25]}
    # 2*1 + 1*3 - 1*2 + 0.5 + 0.25 = 3.75
    assert reference.rnn_cell([[1.0, 3.0]], [[2.0]], weights, activation="relu") == 3.75
    assert reference.rnn_cell([[1.0, 3.0]], [[2.0]], weights, activation="relu", clip=3) == 3
    # then, from 3.75 and without input: -3.75 + 0.75 = -3
    y, h_n = reference.rnn([[1.0, 3.0], [0.0, 0.0]], weights, [[2.0]], activation="linear")
    assert y.tolist() == [[3.75], [-3.0]]
    assert h_n.tolist() == [[-3.0]]


def test_lstm_by_hand() -> None:
    weights = {"weight_ih": [[0.0], [1.0], [2.0], [-1.0]], "weight_hh": [[0.5], [0.0], [1.0], [0.0]]}
    weights["weight_peephole"] = [0.25, -0.25, 0.125]
    step = ([[1.0]], [[2.0]], [[4.0]])  # x, h, c
    options: dict[str, Any] = {"activation": "linear", "recurrent_activation": HARD}
    # i = 0.25 (0.5*2 + 0.25*4) + 0.5 = 1    f = 0.25 (1*1 - 0.25*4) + 0.5 = 0.5    g = 2*1 + 1*2 = 4
    # c' = 0.5*4 + 1*4 = 6                   o = 0.25 (-1*1 + 0.125*6) + 0.5 = 0.4375
    assert reference.lstm_cell(*step, weights, **options) == (0.4375 * 6, 6)
    assert reference.lstm_cell(*step, {**weights, "weight_hr": [[2.0]]}, **options) == (0.4375 * 12, 6)
    assert reference.lstm_cell(*step, weights, **options, output_activation="relu") == (0.4375 * 6, 6)
    # f = 1 - 1 = 0, c' = 4, o = 0.25 (-1 + 0.5) + 0.5 = 0.375
    assert reference.lstm_cell(*step, weights, **options, input_forget=True) == (0.375 * 4, 4)
    # clipped to 1: i = 0.25*1 + 0.5 = 0.75, g = 1, c' = 0.5*4 + 0.75 = 2.75 (which is not clipped itself),
    # o = 0.25 (-1 + 0.125*2.75) + 0.5 = 0.3359375
    assert reference.lstm_cell(*step, weights, **options, clip=1) == (0.3359375 * 2.75, 2.75)


def test_gru_by_hand() -> None:
    weights = {"weight_ih": [[2.0], [-2.0], [1.0]], "weight_hh": [[-1.0], [1.0], [3.0]]}
    weights |= {"bias_ih": [0.0, 0.0, 0.5], "bias_hh": [0.0, 0.0, -2.0]}
    options: dict[str, Any] = {"activation": "linear", "recurrent_activation": HARD}
    # r = 0.25 (2*1 - 1*2) + 0.5 = 0.5       z = 0.25 (-2*1 + 1*2) + 0.5 = 0.5
    # after:  n = 1 + 0.5 + 0.5 (3*2 - 2) = 3.5      h' = 0.5*3.5 + 0.5*2 = 2.75
    # before: n = 1 + 0.5 + 3 (0.5*2) - 2 = 2.5      h' = 0.5*2.5 + 0.5*2 = 2.25
    # clipped to 1: n = 1                            h' = 0.5*1 + 0.5*2 = 1.5
    assert reference.gru_cell([[1.0]], [[2.0]], weights, **options) == 2.75
    assert reference.gru_cell([[1.0]], [[2.0]], weights, **options, reset_after=False) == 2.25
    assert reference.gru_cell([[1.0]], [[2.0]], weights, **options, clip=1) == 1.5


@pytest.mark.parametrize(
    ("activation", "x", "expected"),
    [
        ("tanh", [-np.inf, 0, np.inf], [-1, 0, 1]),
        ("relu", [-np.inf, -1, 0, 2, np.inf], [0, 0, 0, 2, np.inf]),
        ("sigmoid", [-np.inf, -700, -40, 0, 40, 1e4, np.inf], [0, np.exp(-700), np.exp(-40), 0.5, 1, 1, 1]),
        ("hard_sigmoid", [-np.inf, -3, 0, 1.5, 3, np.inf], [0, 0, 0.5, 0.75, 1, 1]),
        (("hard_sigmoid", 0.2, 0.5), [-2.5, 0, 2.5], [0, 0.5, 1]),
        ("softsign", [-3, 0, 1], [-0.75, 0, 0.5]),
        ("linear", [-np.inf, 3], [-np.inf, 3]),
        (("linear", 2, -1), [-np.inf, 3], [-np.inf, 5]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_activation(activation: Any, x: list[float], expected: list[float]) -> None:
    """Through an RNN that passes x on; a NaN stays one. exp(-40) is below the spacing of numbers at 1."""
    weights = {"weight_ih": [[1.0]], "weight_hh": [[0.0]]}
    result = reference.rnn_cell(
        np.array([*x, np.nan])[:, np.newaxis], np.zeros((len(x) + 1, 1)), weights, activation=activation
    )
    np.testing.assert_allclose(result[:, 0], [*expected, np.nan], rtol=1e-15)


# Properties


def random_weights(
    kind: str, *, layers: int = 1, suffixes: tuple[str, ...] = ("",), proj: int = 0
) -> dict[str, np.ndarray]:
    """Weights of a network with 3 inputs and 4 hidden units, one bias, and peepholes where the cell has them."""
    rng, biases = np.random.default_rng(layers), ("bias_ih",)
    return make_weights(
        rng, kind, (3, 4), layers=layers, directions=suffixes, proj=proj, biases=biases, peepholes=True, dtype="float64"
    )


def random_state(kind: str, rows: int, batch: tuple[int, ...], proj: int = 0) -> Any:
    rng = np.random.default_rng(rows)
    sizes = [(proj or 4) if name == "h" else 4 for name in CELLS[kind].states]
    return as_state(kind, tuple(rng.standard_normal((rows, *batch, size)) for size in sizes))


def h_of(state: Any) -> np.ndarray:
    return state[0] if isinstance(state, tuple) else state


def select(state: Any, *index: Any) -> Any:
    """Index every array of a state."""
    return tuple(s[index] for s in state) if isinstance(state, tuple) else state[index]


BOTH = ("", "_reverse")
X = np.random.default_rng(0).standard_normal((6, 5, 3))
kinds = pytest.mark.parametrize("kind", CELLS)


def assert_close(results: Any, expected: Any) -> None:
    """The same numbers up to the order of BLAS's sums, which depends on the batch."""
    for result, e in zip(np.atleast_1d(results) if isinstance(results, np.ndarray) else results, expected, strict=True):
        if isinstance(result, tuple):
            assert_close(result, e)
        else:
            np.testing.assert_allclose(result, e, rtol=0, atol=1e-13)


@kinds
def test_reverse_is_forward_of_flipped_input(kind: str) -> None:
    run = getattr(reference, kind)
    weights = random_weights(kind)
    state = random_state(kind, 1, (5,))
    y, final = run(X, {name + "_reverse": a for name, a in weights.items()}, state)
    y_flipped, final_flipped = run(X[::-1], weights, state)
    np.testing.assert_array_equal(y, y_flipped[::-1])
    np.testing.assert_array_equal(final, final_flipped)


@kinds
def test_bidirectional_is_both_directions(kind: str) -> None:
    run = getattr(reference, kind)
    weights = random_weights(kind, suffixes=BOTH)
    state = random_state(kind, 2, (5,))
    y, final = run(X, weights, state)
    for d in (0, 1):
        one = {name: a for name, a in weights.items() if name.endswith("_reverse") == bool(d)}
        y_one, final_one = run(X, one, select(state, slice(d, d + 1)))
        np.testing.assert_array_equal(y[..., 4 * d : 4 * d + 4], y_one)
        np.testing.assert_array_equal(select(final, slice(d, d + 1)), final_one)


@kinds
@pytest.mark.parametrize("suffixes", [("",), ("_reverse",), BOTH], ids=["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.filterwarnings("error")
def test_rows_of_any_length_are_alone(kind: str, suffixes: tuple[str, ...], batch_first: bool) -> None:
    """A batch gives what each row gives alone and unbatched; what stands past a row's end is never looked at."""
    run = getattr(reference, kind)
    weights = random_weights(kind, layers=2, suffixes=suffixes)
    state = random_state(kind, 2 * len(suffixes), (5,))
    lengths = [3, 0, 6, 1, 4]
    x = np.where(np.arange(6)[:, np.newaxis, np.newaxis] < np.array(lengths)[:, np.newaxis], X, np.nan)
    y, final = run(x.swapaxes(0, 1) if batch_first else x, weights, state, lengths=lengths, batch_first=batch_first)
    if batch_first:
        y = y.swapaxes(0, 1)
    for row, length in enumerate(lengths):
        alone = run(x[:length, row], weights, select(state, slice(None), row))
        assert_close((y[:length, row], select(final, slice(None), row)), alone)
        assert not y[length:, row].any()


@kinds
def test_empty_row_keeps_state(kind: str) -> None:
    run = getattr(reference, kind)
    weights = random_weights(kind, suffixes=BOTH)
    state = random_state(kind, 2, (5,))
    y, final = run(X, weights, state, lengths=[6, 0, 2, 0, 1], return_sequences=False)
    for row in (1, 3):
        np.testing.assert_array_equal(select(final, slice(None), row), select(state, slice(None), row))
    np.testing.assert_array_equal(y[1], np.concatenate(h_of(state)[:, 1]))


@kinds
def test_step_by_step_is_all_at_once(kind: str) -> None:
    run = getattr(reference, kind)
    weights = random_weights(kind, layers=2)
    whole = run(X, weights)
    state, steps = None, []
    for x in X:
        y, state = run(x[np.newaxis], weights, state)
        steps.append(y[0])
    np.testing.assert_array_equal(whole[0], steps)
    np.testing.assert_array_equal(whole[1], state)


@kinds
@pytest.mark.parametrize("suffixes", [("",), ("_reverse",), BOTH], ids=["forward", "reverse", "bidirectional"])
def test_a_reset_is_a_cut(kind: str, suffixes: tuple[str, ...]) -> None:
    """A row that resets at step 4: forwards from there on, in reverse down from there, and from zeros each time."""
    run = getattr(reference, kind)
    weights = random_weights(kind, suffixes=suffixes)
    state = random_state(kind, len(suffixes), (5,))
    resets = np.zeros((6, 5), bool)
    resets[4, 2] = True
    whole, kept = run(X, weights, state, resets=resets), run(X, weights, state)
    others = [0, 1, 3, 4]
    assert_close(
        (whole[0][:, others], select(whole[1], slice(None), others)),
        (kept[0][:, others], select(kept[1], slice(None), others)),
    )
    for place, suffix in enumerate(suffixes):
        one = {name: a for name, a in weights.items() if name.endswith("_reverse") == bool(suffix)}
        first, rest = (slice(5, 6), slice(0, 5)) if suffix else (slice(0, 4), slice(4, 6))
        y_first, _ = run(X[first, 2], one, select(state, slice(place, place + 1), 2))
        y_rest, final = run(X[rest, 2], one)
        columns = slice(4 * place, 4 * place + 4)
        assert_close((whole[0][first, 2, columns], whole[0][rest, 2, columns]), (y_first, y_rest))
        assert_close(select(whole[1], slice(place, place + 1), 2), final)


@kinds
@pytest.mark.parametrize(("T", "B"), [(0, 2), (3, 0), (0, 0)])
def test_no_steps_or_no_rows(kind: str, T: int, B: int) -> None:
    run = getattr(reference, kind)
    proj = 2 if kind in PROJECTING else 0
    weights = random_weights(kind, layers=2, suffixes=BOTH, proj=proj)
    width = proj or 4
    state = random_state(kind, 4, (B,), proj)
    y, final = run(np.zeros((T, B, 3)), weights, state)
    assert y.shape == (T, B, 2 * width)
    np.testing.assert_array_equal(h_of(final), h_of(state))
    y, _ = run(np.zeros((B, T, 3)), weights, state, batch_first=True, lengths=[0] * B, return_sequences=False)
    assert y.shape == (B, 2 * width)
    assert run(np.zeros((T, 3)), weights)[0].shape == (T, 2 * width)


@kinds
def test_layers_are_stacked(kind: str) -> None:
    """Two layers are the second over the first one's output."""
    run = getattr(reference, kind)
    weights = random_weights(kind, layers=2, suffixes=BOTH)
    first = {name: a for name, a in weights.items() if "_l0" in name}
    second = {name.replace("_l1", "_l0"): a for name, a in weights.items() if "_l1" in name}
    np.testing.assert_array_equal(run(X, weights)[0], run(run(X, first)[0], second)[0])


@kinds
def test_absent_bias_is_zero_and_state_too(kind: str) -> None:
    run = getattr(reference, kind)
    weights = random_weights(kind)
    explicit = weights | {"bias_hh_l0": np.zeros(4 * GATES[kind])}
    zeros = np.zeros((1, 5, 4))
    y, final = run(X, weights)
    y_explicit, final_explicit = run(X, explicit, as_state(kind, (zeros, zeros)[: len(CELLS[kind].states)]))
    np.testing.assert_array_equal(y, y_explicit)
    np.testing.assert_array_equal(final, final_explicit)


@kinds
def test_arithmetic_is_float64_and_arguments_stay(kind: str) -> None:
    run = getattr(reference, kind)
    weights = {name: a.astype(np.float32) for name, a in random_weights(kind).items()}
    x = X.astype(np.float32)
    state = random_state(kind, 1, (5,))
    before = [np.copy(a) for a in (x, *weights.values(), *state)]
    y, _ = run(x, weights, state)
    assert y.dtype == np.float64
    y_wide, _ = run(x.astype(np.float64), {name: a.astype(np.float64) for name, a in weights.items()}, state)
    np.testing.assert_array_equal(y, y_wide)
    for a, b in zip((x, *weights.values(), *state), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_single_cell_names_are_layer_0() -> None:
    weights = random_weights("lstm", proj=2)
    cell = {name.removesuffix("_l0"): a for name, a in weights.items()}
    np.testing.assert_array_equal(reference.lstm(X, cell)[0], reference.lstm(X, weights)[0])


def test_coupled_lstm_ignores_its_forget_rows() -> None:
    weights = random_weights("lstm")
    other = {name: a.copy() for name, a in weights.items()}
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "weight_peephole_l0"):
        other[name][4:8] = 99.0
    y, _ = reference.lstm(X, weights, input_forget=True)
    np.testing.assert_array_equal(y, reference.lstm(X, other, input_forget=True)[0])
    assert not np.array_equal(reference.lstm(X, weights)[0], reference.lstm(X, other)[0])


@pytest.mark.parametrize("module", ["activations", "cells", "layers"])
def test_doctests(module: str) -> None:
    result = doctest.testmod(getattr(reference, module))
    assert result.attempted > 5 or module == "activations"
    assert result.failed == 0


def test_package_stands_alone(tmp_path: Path) -> None:
    """It can be copied out of fastrnn: NumPy is all it imports."""
    shutil.copytree(Path(reference.__file__).parent, tmp_path / "reference")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import reference; sys.exit('fastrnn' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True, cwd=tmp_path)
