"""Whole layers: the cells over steps, directions and layers, and back through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from .activations import Activation, Array
from .cells import (
    Weights,
    gru_cell,
    gru_cell_backward,
    lstm_cell,
    lstm_cell_backward,
    rnn_cell,
    rnn_cell_backward,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Rows: TypeAlias = "slice | NDArray[np.bool_]"


class _Step(NamedTuple):
    """What one step of one layer and direction was given, and where the results went."""

    layer: int
    place: int  # of the layer and direction in the states
    columns: slice  # of the direction in the layer's output
    suffix: str  # of the names of its weights
    weights: dict[str, Array]
    t: int
    rows: Rows  # that have this step
    resets: NDArray[np.bool_]  # which of them began it from zeros
    x: Array
    states: list[Array]


def _layers(weights: Weights) -> Iterator[list[tuple[str, dict[str, Array]]]]:
    """The directions of each layer: the suffix of its names, and its arrays under a single cell's names."""
    arrays = {_full(name): np.asarray(a, np.float64) for name, a in weights.items()}
    for k in count():
        layer = [
            (suffix, {name.removesuffix(suffix): a for name, a in arrays.items() if name.endswith(suffix)})
            for suffix in (f"_l{k}", f"_l{k}_reverse")
            if "weight_ih" + suffix in arrays
        ]
        if not layer:
            return
        yield layer


def _full(name: str) -> str:
    return name if "_l" in name else name + "_l0"


def _numbers(x: ArrayLike, weights: Weights) -> ArrayLike:
    """x, or the rows of the embedding that it names where it is of tokens."""
    return np.asarray(weights["embedding"], np.float64)[np.asarray(x)] if _is_of_tokens(x, weights) else x


def _is_of_tokens(x: ArrayLike, weights: Weights) -> bool:
    return "embedding" in weights and np.asarray(x).dtype.kind in "iu"


def _prepare(
    x: ArrayLike,
    states: Sequence[ArrayLike | None],
    lengths: ArrayLike | None,
    resets: ArrayLike | None,
    batch_first: bool,
) -> tuple[Array, list[Array | None], NDArray[Any] | None, NDArray[np.bool_]]:
    """The input (T, B, I), states (L*D, B, ...), the rows' lengths and resets (T, B), whatever the layout was."""
    y = np.asarray(x, np.float64)
    at = np.zeros(y.shape[:-1], np.bool_) if resets is None else np.asarray(resets)
    unbatched = y.ndim == 2
    initial = _batched(states, unbatched)
    y, at = _by_step(y, unbatched, batch_first), _by_step(at, unbatched, batch_first)
    return y, initial, None if lengths is None else np.broadcast_to(np.asarray(lengths), y.shape[1]), at


def _by_step(a: NDArray[Any], unbatched: bool, batch_first: bool) -> NDArray[Any]:
    """(T, B, ...) of any layout."""
    return a[:, np.newaxis] if unbatched else a.swapaxes(0, 1) if batch_first else a


def _batched(states: Sequence[ArrayLike | None], unbatched: bool) -> list[Array | None]:
    arrays = [None if s is None else np.asarray(s, np.float64) for s in states]
    return [None if s is None else s[:, np.newaxis] for s in arrays] if unbatched else arrays


def _unroll(
    cell: Callable[..., Array | tuple[Array, ...]],
    gates: int,
    weights: Weights,
    x: Array,
    initial: list[Array | None],
    ends: NDArray[Any] | None,
    resets: NDArray[np.bool_],
    tape: list[_Step] | None = None,
) -> tuple[list[Array], list[list[Array]]]:
    """Loop ``cell(x_t, *state, weights) -> state`` over layers, directions and steps.

    x (T, B, I); `initial` are h (L*D, B, Hout) and, for an LSTM, c (L*D, B, H); None is zero. `resets` (T, B) are
    true where the state is zero before a step. The results are x and the output of each layer, and the final states of
    each layer and direction. The tape gets all steps as they are made.
    """
    T, B = x.shape[:2]
    outputs: list[Array] = [x]
    finals: list[list[Array]] = []  # of every layer and direction
    for k, layer in enumerate(_layers(weights)):
        sides: list[Array] = []
        for suffix, arrays in layer:
            H = len(arrays["weight_ih"]) // gates
            H_out = len(arrays["weight_hr"]) if "weight_hr" in arrays else H
            columns = slice(len(sides) * H_out, (len(sides) + 1) * H_out)
            sizes = (H_out, H)  # of h, and of an LSTM's c
            state = [
                np.zeros((B, size)) if s is None else s[len(finals)].copy()
                for s, size in zip(initial, sizes, strict=False)
            ]
            out = np.zeros((T, B, H_out))
            for t in reversed(range(T)) if suffix.endswith("_reverse") else range(T):
                rows = slice(None) if ends is None else ends > t  # that have a step t; the others keep their state
                fresh, x_t = resets[t, rows], outputs[-1][t, rows]
                before = [np.where(fresh[:, np.newaxis], 0.0, s[rows]) for s in state]
                if tape is not None:
                    tape.append(_Step(k, len(finals), columns, suffix, arrays, t, rows, fresh, x_t, before))
                result = cell(x_t, *before, arrays)
                for s, new in zip(state, result if isinstance(result, tuple) else (result,), strict=True):
                    s[rows] = new
                out[t, rows] = state[0][rows]
            sides.append(out)
            finals.append(state)
        outputs.append(np.concatenate(sides, axis=-1))
    return outputs, finals


def _run(
    cell: Callable[..., Array | tuple[Array, ...]],
    gates: int,
    x: ArrayLike,
    weights: Weights,
    states: list[ArrayLike | None],
    lengths: ArrayLike | None,
    resets: ArrayLike | None,
    batch_first: bool,
    return_sequences: bool,
) -> tuple[Array, tuple[Array, ...]]:
    """`_unroll` from and to the caller's layout."""
    x = _numbers(x, weights)
    outputs, finals = _unroll(cell, gates, weights, *_prepare(x, states, lengths, resets, batch_first))
    y, unbatched = outputs[-1], np.ndim(x) == 2
    if not return_sequences:
        last = finals[-len(_last_layer(weights)) :]
        y = np.concatenate([state[0] for state in last], axis=-1)
    elif batch_first and not unbatched:
        y = y.swapaxes(0, 1)
    final = tuple(np.stack(s) for s in zip(*finals, strict=True))
    return (y.squeeze(-2), tuple(s.squeeze(1) for s in final)) if unbatched else (y, final)


def rnn(
    x: ArrayLike,
    weights: Weights,
    state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    batch_first: bool = False,
    return_sequences: bool = True,
    activation: Activation = "tanh",
    clip: float | None = None,
) -> tuple[Array, Array]:
    """Run an Elman network over whole sequences. See `lstm` for the parameters, `rnn_cell` for the options.

    Returns
    -------
    y, h_n : as `lstm`'s

    Examples
    --------
    A network that adds up its input:

    >>> y, h_n = rnn([[1.0], [2.0], [3.0]], {"weight_ih": [[1.0]], "weight_hh": [[1.0]]}, activation="linear")
    >>> y.ravel(), h_n
    (array([1., 3., 6.]), array([[6.]]))
    """
    cell = partial(rnn_cell, activation=activation, clip=clip)
    y, (h_n,) = _run(cell, 1, x, weights, [state], lengths, resets, batch_first, return_sequences)
    return y, h_n


def lstm(
    x: ArrayLike,
    weights: Weights,
    state: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    batch_first: bool = False,
    return_sequences: bool = True,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    output_activation: Activation | None = None,
    input_forget: bool = False,
    clip: float | None = None,
) -> tuple[Array, tuple[Array, Array]]:
    """Run an LSTM over whole sequences.

    Parameters
    ----------
    x : (T, B, I), or (B, T, I) with `batch_first`, or (T, I) unbatched; where weights have an embedding, integers
        without the axis I stand for its rows
    weights : mapping from names to arrays, see the top of the module
    state : h (L*D, B, Hout) and c (L*D, B, H), in the order layer 0, layer 0 reverse, layer 1 ...; zero by default
    lengths : (B,) steps of each row, from 0 to T; a reverse direction starts at each row's own end
    resets : bools (T, B), or as the steps of x lie; true where the row's states are zero before the step, in each
        direction when it comes to that step
    return_sequences : if False, y is only the last layer's final h, its directions side by side
    activation, recurrent_activation, output_activation, input_forget, clip : see `lstm_cell`

    Returns
    -------
    y : (T, B, D*Hout), laid out as x and in its order, 0 past a row's length; or (B, D*Hout)
    h_n, c_n : the final state, shaped as `state`; for unbatched x all results lack the axis B

    Examples
    --------
    >>> weights = {"weight_ih_l0": np.zeros((8, 3)), "weight_hh_l0": np.zeros((8, 2))}
    >>> y, (h_n, c_n) = lstm(np.ones((5, 3)), weights, (np.zeros((1, 2)), [[32.0, 64.0]]), output_activation="linear")
    >>> y[:, 0], c_n
    (array([8. , 4. , 2. , 1. , 0.5]), array([[1., 2.]]))
    """
    cell = partial(
        lstm_cell,
        activation=activation,
        recurrent_activation=recurrent_activation,
        output_activation=output_activation,
        input_forget=input_forget,
        clip=clip,
    )
    states: list[ArrayLike | None] = [None, None] if state is None else [*state]
    y, (h_n, c_n) = _run(cell, 4, x, weights, states, lengths, resets, batch_first, return_sequences)
    return y, (h_n, c_n)


def gru(
    x: ArrayLike,
    weights: Weights,
    state: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    batch_first: bool = False,
    return_sequences: bool = True,
    activation: Activation = "tanh",
    recurrent_activation: Activation = "sigmoid",
    reset_after: bool = True,
    clip: float | None = None,
) -> tuple[Array, Array]:
    """Run a GRU over whole sequences. See `lstm` for the parameters, `gru_cell` for the options.

    Returns
    -------
    y, h_n : as `lstm`'s

    Examples
    --------
    >>> y, h_n = gru(np.ones((4, 3)), {"weight_ih": np.zeros((6, 3)), "weight_hh": np.zeros((6, 2))}, [[16.0, 32.0]])
    >>> y[:, 0], h_n
    (array([8., 4., 2., 1.]), array([[1., 2.]]))
    """
    cell = partial(
        gru_cell,
        activation=activation,
        recurrent_activation=recurrent_activation,
        reset_after=reset_after,
        clip=clip,
    )
    y, (h_n,) = _run(cell, 3, x, weights, [state], lengths, resets, batch_first, return_sequences)
    return y, h_n


class _Cell(NamedTuple):
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    gates: int
    states: int


_CELLS = {
    "rnn": _Cell(rnn_cell, rnn_cell_backward, 1, 1),
    "lstm": _Cell(lstm_cell, lstm_cell_backward, 4, 2),
    "gru": _Cell(gru_cell, gru_cell_backward, 3, 1),
}


class Gradients(NamedTuple):
    """What `vjp` gives, in the names, shapes and layout of what it was given.

    Examples
    --------
    >>> vjp("rnn", np.ones((2, 1)), {"weight_ih": [[3.0]], "weight_hh": [[2.0]]}, [[0.0], [1.0]], activation="linear").x
    array([[6.],
           [3.]])
    """

    #: of x, in its shape; of the rows that it names where it is of tokens
    x: Array
    #: of each array of weights, by the name that it was given under
    weights: dict[str, Array]
    #: of the initial state, given or not: h, or (h, c) of an LSTM
    state: Array | tuple[Array, ...]


def vjp(
    cell: str,
    x: ArrayLike,
    weights: Weights,
    dy: ArrayLike | None = None,
    dstate: Any = None,
    *,
    state: Any = None,
    lengths: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    batch_first: bool = False,
    return_sequences: bool = True,
    **options: Any,
) -> Gradients:
    """Backpropagation through time [8]_: the gradients of all that `rnn`, `lstm` or `gru` was given.

    Every step of the forward pass is taken back, the last one first. What a step adds to the loss comes from two sides:
    from its output, which the layer above and `dy` have gradients of, and from the state that it handed on::

        dh_t = dy_t + dh handed back by step t + 1          dW = the sum of all steps' dW, and so on

    Steps past a row's length do not exist: x and `dy` are not read there, and the gradient of x is 0. A step that
    begins from zeros, since the row resets, hands back 0.

    Parameters
    ----------
    cell : "rnn", "lstm" or "gru"
    x, weights, state, lengths, resets, batch_first, return_sequences, options : what that function was given
    dy : the gradient of y, in the shape of y; zero by default
    dstate : the gradient of the final state: of h_n, or a tuple of that of h_n and of c_n; None, there too, is zero

    Returns
    -------
    x, weights, state : `Gradients`

    Examples
    --------
    A network that adds up its input shows it to the end, so the loss h_n changes with each x as h_n does:

    >>> weights = {"weight_ih": [[1.0]], "weight_hh": [[1.0]]}
    >>> gradients = vjp("rnn", [[1.0], [2.0], [3.0]], weights, dstate=[[1.0]], activation="linear")
    >>> gradients.x.ravel(), gradients.weights["weight_ih"], gradients.state
    (array([1., 1., 1.]), array([[6.]]), array([[1.]]))
    """
    tokens = np.asarray(x) if _is_of_tokens(x, weights) else None
    x = _numbers(x, weights)
    kind, unbatched = _CELLS[cell], np.ndim(x) == 2
    call, tape = _prepare(x, _parts(state, kind.states), lengths, resets, batch_first), list[_Step]()
    outputs, finals = _unroll(partial(kind.forward, **options), kind.gates, weights, *call, tape)

    given = _batched(_parts(dstate, kind.states), unbatched)
    dstates = [
        [np.zeros_like(s) if d is None else d[place].copy() for s, d in zip(final, given, strict=True)]
        for place, final in enumerate(finals)
    ]
    doutputs = [np.zeros_like(a) for a in outputs]
    if dy is not None and return_sequences:
        doutputs[-1] = _prepare(dy, [], None, None, batch_first)[0]
    elif dy is not None:
        directions = len(_last_layer(weights))
        sides = np.split(np.atleast_2d(np.asarray(dy, np.float64)), directions, axis=-1)
        for (dh, *_), side in zip(dstates[-directions:], sides, strict=True):
            dh += side

    dweights = _backpropagate(partial(kind.backward, **options), tape, weights, doutputs, dstates)
    dx = doutputs[0][:, 0] if unbatched else doutputs[0].swapaxes(0, 1) if batch_first else doutputs[0]
    if tokens is not None:
        np.add.at(dweights["embedding"], tokens, dx)
    initial = tuple(np.stack(s) for s in zip(*dstates, strict=True))
    initial = tuple(s[:, 0] for s in initial) if unbatched else initial
    return Gradients(dx, dweights, initial if kind.states > 1 else initial[0])


def _backpropagate(
    backward: Callable[..., tuple[Any, ...]],
    tape: list[_Step],
    weights: Weights,
    doutputs: list[Array],
    dstates: list[list[Array]],
) -> dict[str, Array]:
    """Take all steps back. The gradients of final states become those of initial ones, that of x is in doutputs[0]."""
    dweights = {_full(name): np.zeros(np.shape(a)) for name, a in weights.items()}
    for step in reversed(tape):
        t, rows, dstate = step.t, step.rows, dstates[step.place]
        dh, *others = (d[rows] for d in dstate)
        dh = dh + doutputs[step.layer + 1][t, rows, step.columns]
        dx, *before, gradients = backward(step.x, *step.states, step.weights, dh, *others)
        doutputs[step.layer][t, rows] += dx
        for d, new in zip(dstate, before, strict=True):
            d[rows] = np.where(step.resets[:, np.newaxis], 0.0, new)
        for name, gradient in gradients.items():
            dweights[name + step.suffix] += gradient
    return {name: dweights[_full(name)] for name in weights}


def _parts(state: Any, count: int) -> list[ArrayLike | None]:
    """The arrays of a state, h alone or a tuple, each None if there is no state."""
    return [None] * count if state is None else [*state] if count > 1 else [state]


def _last_layer(weights: Weights) -> list[tuple[str, dict[str, Array]]]:
    return list(_layers(weights))[-1]
