"""Calls of PyTorch's layers in float64 with all of their gradients, as NumPy's arrays, for ours to be compared with."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from support.gradients import arrays
from support.torch_models import nn, torch


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def whole(parts: list[Any]) -> Any:
    """The state of a call: h alone, or a tuple."""
    return tuple(parts) if len(parts) > 1 else parts[0]


def random(*shape: int, grad: bool = False) -> Any:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def states_of(layer: Any, rows: int) -> list[Any]:
    """A random initial state of a layer or a cell."""
    sizes = [getattr(layer, "proj_size", 0) or layer.hidden_size, layer.hidden_size]
    sizes = sizes[: 2 if isinstance(layer, (nn.LSTM, nn.LSTMCell)) else 1]
    if not hasattr(layer, "num_layers"):
        return [random(rows, size, grad=True) for size in sizes]
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    return [random(count, rows, size, grad=True) for size in sizes]


class Taken(NamedTuple):
    """A call, the gradients of its results that were drawn, and those that PyTorch makes of them."""

    x: np.ndarray
    state: Any
    dy: np.ndarray  # of a cell, what dstate begins with
    dstate: Any
    expected: tuple[np.ndarray, ...]  # of x, of the parameters in their order, of the initial state
    past: np.ndarray  # where x and dy are padding

    def with_nan(self, a: np.ndarray) -> np.ndarray:
        """The same, x or dy, with NaN in the padding."""
        return np.where(self.past[..., np.newaxis], np.nan, a)


def _taken(layer: Any, x: Any, states: list[Any], results: list[Any], past: np.ndarray) -> Taken:
    """Go back from y, which a cell has none of, and the final states."""
    gradients = [random(*result.shape) for result in results]
    given = [x, *layer.parameters(), *states]
    expected = torch.autograd.grad(results, given, gradients, allow_unused=True, materialize_grads=True)
    return Taken(
        x.detach().numpy(),
        whole([s.detach().numpy() for s in states]),
        gradients[0].numpy(),
        whole([d.numpy() for d in gradients[-len(states) :]]),
        tuple(a.numpy() for a in expected),
        past,
    )


def take(layer: Any, T: int, B: int, lengths: list[int] | None = None) -> Taken:
    """Run a layer on a random x and state, as a packed sequence if there are lengths, and go back."""
    x = random(*((B, T) if layer.batch_first else (T, B)), layer.input_size, grad=True)
    states, options = states_of(layer, B), {"batch_first": layer.batch_first}
    past = np.arange(T)[:, np.newaxis] >= np.array(lengths or [T] * B)
    if lengths is None:
        y, final = layer(x, whole(states))
    else:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False, **options)
        y, final = layer(packed, whole(states))
        y, _ = nn.utils.rnn.pad_packed_sequence(y, **options)
    return _taken(layer, x, states, [y, *parts(final)], past.T if layer.batch_first else past)


def take_cell(layer: Any, B: int) -> Taken:
    """One step of a cell, whose results are a state alone."""
    x, states = random(B, layer.input_size, grad=True), states_of(layer, B)
    return _taken(layer, x, states, [*parts(layer(x, whole(states)))], np.zeros(B, bool))


def assert_taken(gradients: Any, expected: tuple[np.ndarray, ...]) -> None:
    """Equal but for rounding, relative to the largest entry, or to 1: both sides add some thousands of terms at most.

    The largest entry is that of gradients whose terms may cancel, hence 1e-12 and not a few units of 1e-16.
    """
    for a, b in zip(arrays(gradients), expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1.0, float(np.abs(b).max(initial=0))))
