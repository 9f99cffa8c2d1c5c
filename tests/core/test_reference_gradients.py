"""The reference's backward pass: finite differences, cells and corners by hand, what must hold whatever the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastrnn import reference
from support.cases import Case, Drawn, assert_same_bits, flat, random_case
from support.cells import CELLS, GATES
from support.gradients import arrays, parts
from support.gradients import reference_back as backward
from support.oracle import stays_small, tolerance

# What a call is given and gives back, as lists of arrays


def forward(case: Case) -> tuple[np.ndarray, ...]:
    return case.reference()


@st.composite
def cases(draw: Any, *, may_reset: bool = False) -> Case:
    """Small layers in float64, with a state, some of one row without the axis of rows."""
    drawn = Drawn(draw)
    case = random_case(drawn, largest=6, most_steps=4, may_reset=may_reset)
    rng = np.random.default_rng(0)
    if case.state is None:
        case = case.but(state=tuple(rng.uniform(-1, 1, s.shape) for s in forward(case)[1:]))
        case = case.but(state=case.state if len(case.state) > 1 else case.state[0])
    if case.x.shape[0 if case.batch_first else 1] and drawn.choose([False, False, False, True]):
        resets = case.resets if case.resets is None else case.resets[0] if case.batch_first else case.resets[:, 0]
        case = case.but(x=case.x[0] if case.batch_first else case.x[:, 0], lengths=None, resets=resets)
        one = tuple(s[:, 0] for s in parts(case.state))
        case = case.but(state=one if len(one) > 1 else one[0])
    weights = {name: a.astype(np.float64) for name, a in case.weights.items()}
    return case.but(weights=weights, x=case.x.astype(np.float64))


def random_like(results: tuple[np.ndarray, ...], seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, a.shape) for a in results]


# Finite differences


def moved(case: Case, way: list[np.ndarray], distance: float) -> Case:
    """The case after all that it was given went some distance along a direction."""
    dx, *rest = way
    steps = iter(rest)
    weights = {name: a + distance * next(steps) for name, a in case.weights.items()}
    state = tuple(s + distance * next(steps) for s in parts(case.state))
    return case.but(x=case.x + distance * dx, weights=weights, state=state if len(state) > 1 else state[0])


def sides(case: Case, patch: pytest.MonkeyPatch) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
    """The results, and on which side of every corner each argument of an activation is."""
    found: list[np.ndarray] = []

    def watched(activation: Any, x: np.ndarray, clip: float | None = None) -> np.ndarray:
        name, alpha, beta = (activation, 1 / 6, 0.5) if isinstance(activation, str) else activation
        corners = [] if clip is None else [-clip, clip]
        corners += {"relu": [0.0], "softsign": [0.0]}.get(name, [])  # softsign turns there, but less sharply
        found.extend(np.sign(x - corner) for corner in corners)
        if name == "hard_sigmoid":
            found.extend(np.sign(alpha * x + beta - bound) for bound in (0.0, 1.0))
        return reference.activations.activate(activation, x, clip)

    with patch.context() as context:
        context.setattr(reference.cells, "activate", watched)
        return forward(case), found


@given(case=cases(may_reset=True))
def test_finite_differences(case: Case) -> None:
    """Along a random direction over all that a call is given, so that no entry of any gradient may be wrong.

    A central difference over a distance s is off by s^2 f'''/6 and more, and by the rounding of the loss over s. Half
    the distance has a quarter of the first error, so the difference of the two is three times what is left of it.
    """
    expected = forward(case)
    assume(stays_small(expected))
    given_gradients = random_like(expected)
    gradients = arrays(backward(case, given_gradients))
    way = random_like((case.x, *case.weights.values(), *parts(case.state)), seed=2)
    assert [a.shape for a in gradients] == [a.shape for a in way]
    assert all(a.dtype == np.float64 for a in gradients)

    patch, step = pytest.MonkeyPatch(), 1e-4
    _, there = sides(case, patch)

    def difference(distance: float) -> float:
        losses = []
        for signed in (distance, -distance):
            results, found = sides(moved(case, way, signed), patch)
            assume(all(np.array_equal(a, b) and b.all() for a, b in zip(found, there, strict=True)))
            losses.append(sum(float(np.vdot(g, a)) for g, a in zip(given_gradients, results, strict=True)))
        return (losses[0] - losses[1]) / (2 * distance)

    coarse, fine = difference(step), difference(step / 2)
    slope = sum(float(np.vdot(g, w)) for g, w in zip(gradients, way, strict=True))
    weight = sum(float(np.abs(g).sum()) for g in given_gradients)
    rounding = weight * tolerance(case, expected) / (step / 2)
    assert abs(slope - fine) <= abs(coarse - fine) + rounding


# What must hold


@given(case=cases(), data=st.data())
def test_padding_is_never_read(case: Case, data: st.DataObject) -> None:
    """NaN past a row's end, in x and in the gradient of y, changes no bit; the gradient of x is 0 there."""
    assume(case.x.ndim == 3)
    rows = case.x.shape[0 if case.batch_first else 1]
    lengths = np.array(data.draw(st.lists(st.integers(0, case.steps), min_size=rows, max_size=rows)), int)
    case = case.but(lengths=lengths)
    past = np.arange(case.steps)[:, np.newaxis] >= lengths
    past = past.T if case.batch_first else past
    dy, *dstate = random_like(forward(case))
    expected = backward(case, [dy, *dstate])
    broken = case.but(x=np.where(past[..., np.newaxis], np.nan, case.x))
    if case.return_sequences:
        dy = np.where(past[..., np.newaxis], np.nan, dy)
    got = backward(broken, [dy, *dstate])
    assert_same_bits(arrays(got), arrays(expected))
    assert not np.isnan(np.concatenate([a.ravel() for a in arrays(got)])).any()
    assert not got.x[past].any()


def assert_close(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    """The same numbers up to the order of sums, which depends on how a call is cut."""
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1.0, float(np.abs(b).max(initial=0))))


@given(case=cases())
def test_last_step_alone(case: Case) -> None:
    """The gradient of the last output is a gradient of the last layer's final h."""
    case = case.but(return_sequences=False)
    results = forward(case)
    dy, *dstate = random_like(results)
    h = dstate[0].copy()
    width = h.shape[-1]
    for direction in range(dy.shape[-1] // width):
        h[direction - dy.shape[-1] // width] += dy[..., direction * width : (direction + 1) * width]
    assert_close(arrays(backward(case, [dy, *dstate])), arrays(backward(case, [None, h, *dstate[1:]])))


@given(case=cases())
def test_absent_gradients_are_zero(case: Case) -> None:
    case = case.but(return_sequences=True)
    dy, *dstate = random_like(forward(case))
    zero = [np.zeros_like(a) for a in dstate]
    call = {"state": case.state, **case.call, **case.options}
    with np.errstate(all="ignore"):
        without_state = reference.vjp(case.cell, case.x, case.weights, dy, **call)
        nothing = reference.vjp(case.cell, case.x, case.weights, **call)
    assert_same_bits(arrays(without_state), arrays(backward(case, [dy, *zero])))
    without_y = backward(case, [None, *dstate])
    assert_same_bits(arrays(without_y), arrays(backward(case, [np.zeros_like(dy), *dstate])))
    assert_same_bits(
        arrays(backward(case, [dy, *[None] * len(dstate)])),
        arrays(without_state),
    )
    assert not any(np.nan_to_num(a).any() for a in arrays(nothing))


def forward_direction(case: Case) -> Case:
    """A stack that runs forward alone: of a reverse stack all layers, of both directions the first layer."""
    ways = {name.endswith("_reverse") for name in case.weights}
    if ways == {True}:
        return case.but(weights={name.removesuffix("_reverse"): a for name, a in case.weights.items()})
    if ways == {False}:
        return case
    state = tuple(s[:1] for s in parts(case.state))
    weights = {name: a for name, a in case.weights.items() if name.endswith("_l0")}
    return case.but(weights=weights, state=state if len(state) > 1 else state[0])


@given(case=cases(), data=st.data())
def test_chunks_with_the_state_carried_over(case: Case, data: st.DataObject) -> None:
    """Two calls, the second one's gradient of its initial state given to the first, are one call over all steps."""
    case = forward_direction(case)
    if case.batch_first and case.x.ndim == 3:
        case = case.but(x=case.x.swapaxes(0, 1))
    case = case.but(batch_first=False, lengths=None, return_sequences=True)
    cut = data.draw(st.integers(0, case.steps))
    dy, *dstate = random_like(forward(case))
    whole = backward(case, [dy, *dstate])
    first = case.but(x=case.x[:cut])
    carried = forward(first)[1:]
    second = case.but(x=case.x[cut:], state=carried if len(carried) > 1 else carried[0])
    late = backward(second, [dy[cut:], *dstate])
    early = backward(first, [dy[:cut], *parts(late.state)])
    weights = {name: early.weights[name] + late.weights[name] for name in case.weights}
    both = reference.Gradients(np.concatenate([early.x, late.x]), weights, early.state)
    assert_close(arrays(both), arrays(whole))


@given(case=cases())
def test_batch_first_is_time_first(case: Case) -> None:
    assume(case.x.ndim == 3)
    case = case.but(return_sequences=True)
    gradients = random_like(forward(case))
    other = case.but(x=case.x.swapaxes(0, 1), batch_first=not case.batch_first)
    got = backward(other, [gradients[0].swapaxes(0, 1), *gradients[1:]])
    assert_same_bits(arrays(got._replace(x=got.x.swapaxes(0, 1))), arrays(backward(case, gradients)))


@pytest.mark.parametrize("cell", CELLS)
def test_rows_add_up(cell: str) -> None:
    """A batch gives each row the gradients that it has alone and unbatched, and the sum of those of the weights."""
    rng, G = np.random.default_rng(3), GATES[cell]
    weights = {"weight_ih": rng.normal(size=(G * 4, 3)), "weight_hh": rng.normal(size=(G * 4, 4))}
    weights["bias_hh"] = rng.normal(size=G * 4)
    x, dy, lengths = rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 4, 4)), [5, 0, 2, 3]
    whole = reference.vjp(cell, x, weights, dy, lengths=lengths)
    total = {name: np.zeros_like(a) for name, a in weights.items()}
    for row, length in enumerate(lengths):
        alone = reference.vjp(cell, x[:length, row], weights, dy[:length, row])
        np.testing.assert_allclose(whole.x[:length, row], alone.x, rtol=0, atol=1e-13)
        for a, b in zip(parts(whole.state), parts(alone.state), strict=True):
            np.testing.assert_allclose(a[:, row], b, rtol=0, atol=1e-13)
        total = {name: total[name] + alone.weights[name] for name in total}
    assert whole.weights.keys() == weights.keys()
    for name, a in whole.weights.items():
        np.testing.assert_allclose(a, total[name], rtol=0, atol=1e-12)


@given(case=cases())
def test_arguments_stay(case: Case) -> None:
    gradients = random_like(forward(case))
    given_arrays = [case.x, *case.weights.values(), *parts(case.state), *gradients]
    before = [a.copy() for a in given_arrays]
    backward(case, gradients)
    assert_same_bits(tuple(given_arrays), tuple(before))


@pytest.mark.parametrize("cell", CELLS)
def test_cell_is_a_layer_of_one_step(cell: str) -> None:
    rng, G = np.random.default_rng(4), GATES[cell]
    weights = {"weight_ih": rng.normal(size=(G * 4, 3)), "weight_hh": rng.normal(size=(G * 4, 4))}
    x, states = rng.normal(size=(5, 3)), [rng.normal(size=(5, 4)) for _ in CELLS[cell].states]
    gradients = [rng.normal(size=(5, 4)) for _ in states]
    dx, *dstates, dweights = getattr(reference, f"{cell}_cell_backward")(x, *states, weights, *gradients)
    as_layer = [s[np.newaxis] for s in states], [g[np.newaxis] for g in gradients]
    state, dstate = (tuple(each) if len(each) > 1 else each[0] for each in as_layer)
    layer = reference.vjp(cell, x[np.newaxis], weights, dstate=dstate, state=state)
    assert_same_bits(
        arrays(layer), (dx[np.newaxis], *(dweights[name] for name in weights), *(d[np.newaxis] for d in dstates))
    )


# By hand


@pytest.mark.parametrize(
    ("activation", "x", "expected"),
    [
        ("tanh", [-np.inf, 0, np.inf], [0, 1, 0]),
        ("relu", [-np.inf, -1, -0.0, 0, 5e-324, 2, np.inf], [0, 0, 0, 0, 1, 1, 1]),
        ("sigmoid", [-np.inf, -1e4, 0, 1e4, np.inf], [0, 0, 0.25, 0, 0]),
        ("hard_sigmoid", [-np.inf, -4, -3, 0, 3, 4, np.inf], [0, 0, 0, 1 / 6, 0, 0, 0]),
        (("hard_sigmoid", 0.25, 0.5), [-2, -1.75, 1.75, 2], [0, 0.25, 0.25, 0]),
        (("hard_sigmoid", -0.25, 0.5), [-2, -1.75, 1.75, 2], [0, -0.25, -0.25, 0]),
        ("softsign", [-np.inf, -3, 0, 1], [0, 1 / 16, 1, 0.25]),
        ("linear", [-np.inf, 3], [1, 1]),
        (("linear", 2, -1), [-np.inf, 3], [2, 2]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_derivative(activation: Any, x: list[float], expected: list[float]) -> None:
    """Through an RNN that passes x on; corners have gradient 0."""
    weights, rows = {"weight_ih": [[1.0]], "weight_hh": [[0.0]]}, np.zeros((len(x), 1))
    finite = np.isfinite(x)
    column = np.array(x)[:, np.newaxis]
    assert reference.activations.derivative(activation, np.array(x)).tolist() == expected
    dx, _, _ = reference.rnn_cell_backward(
        column[finite], rows[finite], weights, rows[finite] + 1, activation=activation
    )
    assert dx.ravel().tolist() == [e for e, there in zip(expected, finite, strict=True) if there]


@pytest.mark.parametrize("cell", CELLS)
def test_clip_has_no_gradient_at_its_bounds(cell: str) -> None:
    """What goes into each gate is x: at a bound and beyond nothing goes back to x, just inside it does."""
    G = GATES[cell]
    weights = {"weight_ih": np.ones((G, 1)), "weight_hh": np.zeros((G, 1))}
    x = np.array([[-0.75], [-0.5], [-0.4375], [0.0], [0.4375], [0.5], [0.75]])
    states = [np.ones_like(x) for _ in CELLS[cell].states]
    dx, *_ = getattr(reference, f"{cell}_cell_backward")(x, *states, weights, *states, clip=0.5)
    assert (dx.ravel() != 0).tolist() == [False, False, True, True, True, False, False]


HARD = ("hard_sigmoid", 0.25, 0.5)


def test_rnn_by_hand() -> None:
    weights = {"weight_ih": [[2.0, 1.0]], "weight_hh": [[-1.0]], "bias_ih": [0.5], "bias_hh": [0.25]}
    step = ([[1.0, 3.0]], [[2.0]], weights, [[4.0]])  # into relu goes 3.75
    dx, dh, dweights = reference.rnn_cell_backward(*step, activation="relu")
    assert (dx.tolist(), dh.tolist()) == ([[8.0, 4.0]], [[-4.0]])
    expected = {"weight_ih": [[4.0, 12.0]], "weight_hh": [[8.0]], "bias_ih": [4.0], "bias_hh": [4.0]}
    assert {name: a.tolist() for name, a in dweights.items()} == expected
    dx, dh, dweights = reference.rnn_cell_backward(*step, activation="relu", clip=3.75)
    assert not any(a.any() for a in (dx, dh, *dweights.values()))


def test_lstm_by_hand() -> None:
    """The step of test_reference.py: i = 1, at the corner, f = 0.5, g = 4, c' = 6, o = 0.4375."""
    weights = {"weight_ih": [[0.0], [1.0], [2.0], [-1.0]], "weight_hh": [[0.5], [0.0], [1.0], [0.0]]}
    weights["weight_peephole"] = [0.25, -0.25, 0.125]
    step = ([[1.0]], [[2.0]], [[4.0]])
    options: dict[str, Any] = {"activation": "linear", "recurrent_activation": HARD}
    dx, dh, dc, dweights = reference.lstm_cell_backward(*step, weights, [[1.0]], [[2.0]], **options)
    # da_o = 6 * 0.25 = 1.5      dc' = 2 + 0.4375 + 0.125 * 1.5 = 2.625
    # da_i = 0                   da_f = 2.625 * 4 * 0.25 = 2.625      da_g = 2.625 * 1
    # dc = 2.625 * 0.5 - 0.25 * 2.625 = 0.65625
    assert (dx, dh, dc) == (2.625 + 2 * 2.625 - 1.5, 2.625, 0.65625)
    assert dweights["weight_ih"].ravel().tolist() == [0, 2.625, 2.625, 1.5]
    assert dweights["weight_hh"].ravel().tolist() == [0, 5.25, 5.25, 3]
    assert dweights["weight_peephole"].tolist() == [0, 2.625 * 4, 1.5 * 6]
    # with a projection by 2, m = 0.4375 * 6 has twice the gradient of h', which with c' alone in the loss is the same
    projected = reference.lstm_cell_backward(*step, {**weights, "weight_hr": [[2.0]]}, [[0.5]], [[2.0]], **options)
    assert projected[:3] == (dx, dh, dc)
    assert projected[3]["weight_hr"] == 0.5 * 0.4375 * 6


def test_coupled_lstm_by_hand() -> None:
    """As above from h = 0: i = 0.75, f = 1 - 0.75, g = 2, c' = 2.5, o = 0.25 (-1 + 0.125 * 2.5) + 0.5."""
    weights = {"weight_ih": [[0.0], [9.0], [2.0], [-1.0]], "weight_hh": [[0.5], [9.0], [1.0], [0.0]]}
    weights["weight_peephole"] = [0.25, 9.0, 0.125]
    options: dict[str, Any] = {"activation": "linear", "recurrent_activation": HARD, "input_forget": True}
    dx, dh, dc, dweights = reference.lstm_cell_backward([[1.0]], [[0.0]], [[4.0]], weights, [[0.0]], [[2.0]], **options)
    # dc' = 2      da_i = 2 (2 - 4) 0.25 = -1      da_g = 2 * 0.75      dc = 2 * 0.25 - 0.25
    assert (dx, dh, dc) == (2 * 1.5, -0.5 + 1.5, 0.25)
    assert dweights["weight_ih"].ravel().tolist() == [-1, 0, 1.5, 0]
    assert dweights["weight_peephole"].tolist() == [-4, 0, 0]


def test_gru_by_hand() -> None:
    """The step of test_reference.py: r = z = 0.5, u = U_n h + d_n = 4, n = 3.5 or 2.5."""
    weights = {"weight_ih": [[2.0], [-2.0], [1.0]], "weight_hh": [[-1.0], [1.0], [3.0]]}
    weights |= {"bias_ih": [0.0, 0.0, 0.5], "bias_hh": [0.0, 0.0, -2.0]}
    options: dict[str, Any] = {"activation": "linear", "recurrent_activation": HARD}
    dx, dh, dweights = reference.gru_cell_backward([[1.0]], [[2.0]], weights, [[8.0]], **options)
    # da_z = 8 (2 - 3.5) 0.25 = -3      da_n = 8 * 0.5 = 4      da_r = 4 * 4 * 0.25 = 4      du = 4 * 0.5 = 2
    assert (dx, dh) == (2 * 4 + 2 * 3 + 4, 8 * 0.5 - 4 - 3 + 3 * 2)
    assert dweights["bias_ih"].tolist() == [4, -3, 4]
    assert dweights["bias_hh"].tolist() == [4, -3, 2]
    assert dweights["weight_hh"].ravel().tolist() == [8, -6, 4]
    dx, dh, dweights = reference.gru_cell_backward([[1.0]], [[2.0]], weights, [[8.0]], reset_after=False, **options)
    # da_z = 8 (2 - 2.5) 0.25 = -1      da_n = 4      ds = 3 * 4 = 12      da_r = 12 * 2 * 0.25 = 6
    assert (dx, dh) == (2 * 6 + 2 * 1 + 4, 8 * 0.5 - 6 - 1 + 12 * 0.5)
    assert dweights["bias_hh"].tolist() == [6, -1, 4]
    assert dweights["weight_hh"].ravel().tolist() == [12, -2, 4 * 0.5 * 2]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("T", "B"), [(0, 2), (3, 0), (0, 0)])
def test_no_steps_or_no_rows(cell: str, T: int, B: int) -> None:
    """The gradient of the final state is that of the initial one, and no weight has any."""
    G, directions = GATES[cell], ("", "_reverse")
    weights = {f"weight_ih_l0{d}": np.ones((G * 4, 3)) for d in directions}
    weights |= {f"weight_hh_l0{d}": np.ones((G * 4, 4)) for d in directions}
    results = flat(getattr(reference, cell)(np.zeros((T, B, 3)), weights))
    case = Case(cell, weights, np.zeros((T, B, 3)))
    dy, *dstate = random_like(results)
    gradients = backward(case, [dy, *dstate])
    assert_same_bits(parts(gradients.state), tuple(dstate))
    assert gradients.x.shape == (T, B, 3)
    assert not any(a.any() for a in gradients.weights.values())
