"""Models of PyTorch: random layers, a model to accelerate, a count of calls, how results are compared."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from support.environment import package

torch = package("torch")
nn = torch.nn

from fastrnn.torch import accelerate
from fastrnn.torch import layers as torch_layers


@st.composite
def layers(draw: st.DrawFn) -> Any:
    """A recurrent layer with every option at random, in eval mode."""
    kind = draw(st.sampled_from(["RNN", "LSTM", "GRU"]))
    hidden = draw(st.sampled_from([1, 2, 5, 16, 17, 33]))
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.5])),
        "bidirectional": draw(st.booleans()),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
    }
    if options["num_layers"] == 1:
        options["dropout"] = 0.0  # PyTorch warns
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if kind == "LSTM" and hidden > 1:
        options["proj_size"] = draw(st.sampled_from([0, hidden // 2]))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return getattr(nn, kind)(draw(st.sampled_from([1, 3, 16, 40])), hidden, **options).eval()


@st.composite
def cells(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["RNNCell", "LSTMCell", "GRUCell"]))
    options = {"bias": draw(st.booleans()), "dtype": draw(st.sampled_from([torch.float32, torch.float64]))}
    if kind == "RNNCell":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return getattr(nn, kind)(draw(st.sampled_from([1, 3, 16])), draw(st.sampled_from([1, 5, 16, 33])), **options).eval()


def close(ours: Any, theirs: Any) -> None:
    """Equal but for rounding: in float32 to a part in a million of the largest number, or of 1."""
    ours, theirs = (a.detach().numpy() if isinstance(a, torch.Tensor) else a for a in (ours, theirs))
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    scale = max(1.0, float(np.abs(theirs).max(initial=0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol={4: 1e-6, 8: 1e-14}[ours.dtype.itemsize] * scale)


@contextmanager
def counting() -> Iterator[list[Any]]:
    """What fastrnn is called with meanwhile: x of each call."""
    found: list[Any] = []
    original = torch_layers._Accelerated._call

    def counted(self: Any, params: Any, x: Any, states: Any, **options: Any) -> Any:
        found.append(x)
        return original(self, params, x, states, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_layers._Accelerated, "_call", counted)
        yield found


def flat(result: Any) -> Iterator[Any]:
    """All tensors of a result."""
    if isinstance(result, torch.Tensor):
        yield result
    elif result is not None:
        for part in result:
            yield from flat(part)


def same(ours: Any, theirs: Any) -> None:
    """The same structure, and numbers that are close."""
    assert type(ours) is type(theirs)
    for a, b in zip(flat(ours), flat(theirs), strict=True):
        assert [n for n, size in zip(a.stride(), a.shape) if size > 1] == [
            n for n, size in zip(b.stride(), b.shape) if size > 1
        ]
        if b.dtype == torch.int64:
            assert torch.equal(a, b)
        else:
            close(a, b)


def accelerated(module: Any) -> Any:
    copied = copy.deepcopy(module)
    assert accelerate(copied).replaced
    return copied


class Model(nn.Module):
    """A convolution, a bidirectional stack, a cell and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=1)
        self.lstm = nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True)
        self.cell = nn.GRUCell(16, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, x):
        y, _ = self.lstm(torch.relu(self.conv(x)).transpose(1, 2))
        h = torch.zeros(x.shape[0], 7, dtype=x.dtype)
        for t in range(y.shape[1]):
            h = self.cell(y[:, t], h)
        return self.head(h)


STEPS = 5  # of the fixture x: calls of the model's cell
