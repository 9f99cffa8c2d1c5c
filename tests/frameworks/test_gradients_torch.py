"""Gradients of `fastrnn.vjp` against PyTorch's autograd, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from support.torch_gradients import assert_taken, parts, random, take, take_cell, whole
from support.torch_models import cells, layers, nn, torch

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
few = settings(max_examples=max(settings.default.max_examples // 2, 1))


@few
@given(layer=layers(), T=st.integers(1, 9), B=st.integers(1, 9))
def test_layer(layer: Any, T: int, B: int) -> None:
    taken = take(layer.double(), T, B)
    _, pullback = fastrnn.vjp(taken.x, fastrnn.from_torch(layer), taken.state)
    assert_taken(pullback(taken.dy, taken.dstate), taken.expected)


@few
@given(layer=layers(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=7))
def test_packed_sequence(layer: Any, lengths: list[int]) -> None:
    """NaN stands in the padding of our x and dy; PyTorch's packed sequences have none."""
    taken = take(layer.double(), max(lengths), len(lengths), lengths)
    _, pullback = fastrnn.vjp(taken.with_nan(taken.x), fastrnn.from_torch(layer), taken.state, lengths=lengths)
    assert_taken(pullback(taken.with_nan(taken.dy), taken.dstate), taken.expected)


@few
@given(layer=cells(), B=st.integers(1, 9))
def test_cell(layer: Any, B: int) -> None:
    """A cell is a layer over one step."""
    taken = take_cell(layer.double(), B)
    state, dstate = (whole([s[np.newaxis] for s in parts(each)]) for each in (taken.state, taken.dstate))
    _, pullback = fastrnn.vjp(taken.x[np.newaxis], fastrnn.from_torch(layer), state)
    dx, weights, initial = pullback(dstate=dstate)
    assert_taken(fastrnn.Gradients(dx[0], weights, whole([s[0] for s in parts(initial)])), taken.expected)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_training(kind: str) -> None:
    """Gradient descent both ways comes by the same weights, and to a smaller loss."""
    torch.manual_seed(3)
    layer = getattr(nn, kind)(4, 6, num_layers=2, bidirectional=True, batch_first=True).double()
    x, wanted = random(3, 8, 4), random(3, 12) / 2
    params, losses = fastrnn.from_torch(layer), []
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    for _ in range(20):
        (y, _), pullback = fastrnn.vjp(x.numpy(), params)
        error = y[:, -1] - wanted.numpy()
        losses.append(float((error**2).mean()))
        dy = np.zeros_like(y)
        dy[:, -1] = 2 * error / error.size
        gradients = pullback(dy, wrt=["weights"]).weights
        params = params.with_weights({name: w - 0.5 * gradients[name] for name, w in params.weights.items()})
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(x)[0][:, -1], wanted).backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(params.weights[name], parameter.detach().numpy(), rtol=0, atol=1e-12)
