"""The reference's backward pass against PyTorch's autograd, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import reference
from support.torch_models import cells, layers, torch

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
nn = torch.nn


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def whole(parts: list[Any]) -> Any:
    """The state of a call: h alone, or a tuple."""
    return tuple(parts) if len(parts) > 1 else parts[0]


def random(*shape: int, grad: bool = False) -> Any:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def weights_of(layer: Any) -> dict[str, Any]:
    return {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}


def nonlinearity(layer: Any) -> dict[str, str]:
    return {"activation": layer.nonlinearity} if hasattr(layer, "nonlinearity") else {}


def close(ours: Any, theirs: Any) -> None:
    """Equal but for rounding, relative to the largest entry, or to 1: both sides add some thousands of terms at most.

    The largest entry is that of gradients whose terms may cancel, hence 1e-12 and not a few units of 1e-16.
    """
    assert ours.shape == tuple(theirs.shape)
    scale = max(1.0, float(np.abs(ours).max(initial=0)))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-12 * scale)


def states_of(layer: Any, rows: int) -> list[Any]:
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [layer.proj_size or layer.hidden_size, layer.hidden_size]
    return [random(count, rows, size, grad=True) for size in sizes[: 2 if isinstance(layer, nn.LSTM) else 1]]


def check(layer: Any, x: Any, states: list[Any], loss: Any, gradients: reference.Gradients) -> None:
    """All gradients of a loss by PyTorch against ours."""
    given_tensors = [x, *states, *layer.parameters()]
    theirs = torch.autograd.grad(loss, given_tensors, allow_unused=True, materialize_grads=True)
    names = [name for name, _ in layer.named_parameters()]
    ours = [gradients.x, *parts(gradients.state), *(gradients.weights[name] for name in names)]
    for a, b in zip(ours, theirs, strict=True):
        close(a, b)


@given(layer=layers(), T=st.integers(1, 9), B=st.integers(1, 5))
def test_layer(layer: Any, T: int, B: int) -> None:
    layer = layer.double()
    x = random(*((B, T) if layer.batch_first else (T, B)), layer.input_size, grad=True)
    states = states_of(layer, B)
    y, final = layer(x, whole(states))
    dy, dstate = random(*y.shape), [random(*s.shape) for s in parts(final)]
    loss = (y * dy).sum() + sum((s * d).sum() for s, d in zip(parts(final), dstate, strict=True))
    gradients = reference.vjp(
        type(layer).__name__.lower(),
        x.detach().numpy(),
        weights_of(layer),
        dy.numpy(),
        whole([d.numpy() for d in dstate]),
        state=whole([s.detach().numpy() for s in states]),
        batch_first=layer.batch_first,
        **nonlinearity(layer),
    )
    check(layer, x, states, loss, gradients)


@given(layer=layers(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_packed_sequence(layer: Any, lengths: list[int]) -> None:
    """NaN stands in the padding of our x and dy; PyTorch's packed sequences have none."""
    layer, (T, B) = layer.double(), (max(lengths), len(lengths))
    x = random(T, B, layer.input_size, grad=True)
    states = states_of(layer, B)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, final = layer(packed, whole(states))
    y, _ = nn.utils.rnn.pad_packed_sequence(y)
    dy, dstate = random(*y.shape), [random(*s.shape) for s in parts(final)]
    loss = (y * dy).sum() + sum((s * d).sum() for s, d in zip(parts(final), dstate, strict=True))
    past = (np.arange(T)[:, np.newaxis] >= np.array(lengths))[..., np.newaxis]
    gradients = reference.vjp(
        type(layer).__name__.lower(),
        np.where(past, np.nan, x.detach().numpy()),
        weights_of(layer),
        np.where(past, np.nan, dy.numpy()),
        whole([d.numpy() for d in dstate]),
        state=whole([s.detach().numpy() for s in states]),
        lengths=lengths,
        **nonlinearity(layer),
    )
    check(layer, x, states, loss, gradients)


@given(layer=cells(), B=st.integers(1, 5))
def test_cell(layer: Any, B: int) -> None:
    layer = layer.double()
    kind = type(layer).__name__.removesuffix("Cell").lower()
    x = random(B, layer.input_size, grad=True)
    states = [random(B, layer.hidden_size, grad=True) for _ in range(2 if kind == "lstm" else 1)]
    new = parts(layer(x, whole(states)))
    dnew = [random(*s.shape) for s in new]
    step = [a.detach().numpy() for a in (x, *states)]
    dx, *dstates, dweights = getattr(reference, f"{kind}_cell_backward")(
        *step, weights_of(layer), *(d.numpy() for d in dnew), **nonlinearity(layer)
    )
    loss = sum((s * d).sum() for s, d in zip(new, dnew, strict=True))
    check(layer, x, states, loss, reference.Gradients(dx, dweights, tuple(dstates)))


HARDTANH, HARDSIGMOID = nn.functional.hardtanh, nn.functional.hardsigmoid


@pytest.mark.parametrize(
    ("activation", "clip", "function"),
    [
        ("relu", None, torch.relu),
        ("hard_sigmoid", None, HARDSIGMOID),
        ("softsign", None, nn.functional.softsign),
        ("linear", 3.0, lambda x: HARDTANH(x, -3.0, 3.0)),
        ("tanh", 1.0, lambda x: torch.tanh(HARDTANH(x))),
    ],
)
def test_corners(activation: str, clip: float | None, function: Any) -> None:
    """At corners, on both sides of them and far away, through an RNN that passes x on."""
    x = torch.tensor([[v] for v in (-9.0, -3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 9.0)], dtype=torch.float64)
    x.requires_grad_()
    weights = {"weight_ih": [[1.0]], "weight_hh": [[0.0]]}
    rows = np.zeros(x.shape)
    dx, _, _ = reference.rnn_cell_backward(
        x.detach().numpy(), rows, weights, rows + 1, activation=activation, clip=clip
    )
    (expected,) = torch.autograd.grad(function(x).sum(), x)
    rounding = 2.0**-24 if activation == "hard_sigmoid" else 1e-15  # PyTorch's slope is 1/6 in float32
    np.testing.assert_allclose(dx, expected.numpy(), rtol=rounding, atol=0)
