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

from torch.nn.utils.rnn import PackedSequence, pack_sequence

from fastrnn.torch import accelerate, training
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


def states_for(draw: st.DrawFn, layer: Any, *batch: int) -> Any:
    """None, or initial states at random."""
    if draw(st.booleans()):
        return None
    first, dtype = layer.num_layers * (1 + layer.bidirectional), layer.weight_ih_l0.dtype
    h = torch.randn(first, *batch, layer.proj_size or layer.hidden_size, dtype=dtype)
    c = torch.randn(first, *batch, layer.hidden_size, dtype=dtype)
    return (h, c) if isinstance(layer, nn.LSTM) else h


@st.composite
def layer_calls(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """A layer, an input of any of the kinds that it takes, and a state."""
    layer = draw(layers())
    T, B, dtype = draw(st.integers(1, 7)), draw(st.integers(1, 5)), layer.weight_ih_l0.dtype
    kind = draw(st.sampled_from(["batch", "single", "packed", "strided"]))
    if kind == "packed":
        lengths = [draw(st.integers(1, T)) for _ in range(B)]
        rows = [torch.randn(length, layer.input_size, dtype=dtype) for length in lengths]
        rows = rows if draw(st.booleans()) else sorted(rows, key=len, reverse=True)
        ordered = all(a >= b for a, b in zip(map(len, rows), map(len, rows[1:])))
        return layer, pack_sequence(rows, enforce_sorted=ordered), states_for(draw, layer, B)
    if kind == "single":
        return layer, torch.randn(T, layer.input_size, dtype=dtype), states_for(draw, layer)
    x = torch.randn(*((B, T) if layer.batch_first else (T, B)), layer.input_size, dtype=dtype)
    if kind == "strided":
        x = x.transpose(0, 2).contiguous().transpose(0, 2)
    return layer, x, states_for(draw, layer, B)


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


@contextmanager
def without_pytorch(count: int) -> Iterator[None]:
    """Fails unless fastrnn runs so many layers meanwhile, and PyTorch none, neither forth nor back."""

    def fail(*_: Any) -> None:
        raise AssertionError("PyTorch's layer ran for a gradient")

    with pytest.MonkeyPatch.context() as patch, counting() as calls:
        patch.setattr(training, "_by_pytorch", fail)
        yield
        assert len(calls) == count


def gradients(module: Any, x: Any, state: Any = None, *, wanted: bool = True, seed: int = 0) -> list[Any]:
    """Results of a layer and gradients of x, of the states (both if they are wanted) and of the parameters."""
    leaves = [tensor.detach().clone().requires_grad_(wanted) for tensor in (data_of(x), *flat(state))]
    for parameter in module.parameters():
        parameter.grad = None
    torch.manual_seed(seed)
    given = None if state is None else leaves[1] if len(leaves) == 2 else tuple(leaves[1:])
    result = module(x._replace(data=leaves[0]) if isinstance(x, PackedSequence) else leaves[0], given)
    outputs = [tensor for tensor in flat(result) if tensor.dtype.is_floating_point]
    sum((output * torch.randn(output.shape).to(output.dtype)).sum() for output in outputs).backward()
    return [*(output.detach() for output in outputs), *(tensor.grad for tensor in (*leaves, *module.parameters()))]


def data_of(x: Any) -> Any:
    return x.data if isinstance(x, PackedSequence) else x


def near(ours: list[Any], theirs: list[Any]) -> None:
    """Equal but for rounding, relative to the largest entry of each tensor, or to 1; where PyTorch has None, None.

    Entries are sums of numbers about 1, which all but cancel in some tensors of few entries.
    """
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.shape == b.shape
            tolerance = {4: 2e-6, 8: 1e-10}[a.itemsize]
            assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


def doubled(module: Any, x: Any, state: Any = None) -> tuple[Any, Any, Any]:
    """The same call in float64."""
    states = [tensor.double() for tensor in flat(state)]
    return copy.deepcopy(module).double(), x.to(torch.float64), states[0] if len(states) == 1 else tuple(states) or None
