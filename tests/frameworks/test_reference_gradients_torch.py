"""The reference's backward pass against PyTorch's autograd, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn import reference
from support.torch_gradients import Taken, assert_taken, parts, take, take_cell
from support.torch_models import cells, layers, nn, torch

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def weights_of(layer: Any) -> dict[str, Any]:
    return {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}


def nonlinearity(layer: Any) -> dict[str, str]:
    return {"activation": layer.nonlinearity} if hasattr(layer, "nonlinearity") else {}


def pull_back(layer: Any, taken: Taken, x: np.ndarray, dy: np.ndarray, **call: Any) -> reference.Gradients:
    kind, options = type(layer).__name__.lower(), nonlinearity(layer)
    call = {"state": taken.state, "batch_first": layer.batch_first, **call}
    return reference.vjp(kind, x, weights_of(layer), dy, taken.dstate, **call, **options)


@given(layer=layers(), T=st.integers(1, 9), B=st.integers(1, 5))
def test_layer(layer: Any, T: int, B: int) -> None:
    taken = take(layer.double(), T, B)
    assert_taken(pull_back(layer, taken, taken.x, taken.dy), taken.expected)


@given(layer=layers(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_packed_sequence(layer: Any, lengths: list[int]) -> None:
    """NaN stands in the padding of our x and dy; PyTorch's packed sequences have none."""
    taken = take(layer.double(), max(lengths), len(lengths), lengths)
    gradients = pull_back(layer, taken, taken.with_nan(taken.x), taken.with_nan(taken.dy), lengths=lengths)
    assert_taken(gradients, taken.expected)


@given(layer=cells(), B=st.integers(1, 5))
def test_cell(layer: Any, B: int) -> None:
    kind = type(layer).__name__.removesuffix("Cell").lower()
    taken = take_cell(layer.double(), B)
    dx, *dstates, dweights = getattr(reference, f"{kind}_cell_backward")(
        taken.x, *parts(taken.state), weights_of(layer), *parts(taken.dstate), **nonlinearity(layer)
    )
    in_order = {name: dweights[name] for name in weights_of(layer)}
    assert_taken(reference.Gradients(dx, in_order, tuple(dstates)), taken.expected)


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
