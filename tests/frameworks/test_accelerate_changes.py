"""Accelerated layers whose weights, dtypes, options or classes change after they have run."""

from __future__ import annotations

import copy
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import fastrnn
from support.environment import package

torch = package("torch")

from torch import nn

from fastrnn.torch import layers as torch_layers
from fastrnn.torch import restore
from support.torch_models import STEPS, accelerated, close, flat, same

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


CHANGES = {
    "load_state_dict": lambda layer, other: layer.load_state_dict(other.state_dict()),
    "assign": lambda layer, other: layer.load_state_dict(other.state_dict(), assign=True),
    "copy_": lambda layer, other: [a.copy_(b) for a, b in zip(layer.parameters(), other.parameters())],
    "data.copy_": lambda layer, other: [a.data.copy_(b) for a, b in zip(layer.parameters(), other.parameters())],
    "data": lambda layer, other: [setattr(a, "data", b.data) for a, b in zip(layer.parameters(), other.parameters())],
    "numpy": lambda layer, other: [
        np.copyto(a.detach().numpy(), b.detach().numpy()) for a, b in zip(layer.parameters(), other.parameters())
    ],
    "parameter": lambda layer, other: [
        setattr(layer, name, nn.Parameter(b.clone())) for name, b in list(other.named_parameters())
    ],
    "one element": lambda layer, other: (
        CHANGES["copy_"](other, layer) and [next(m.parameters())[1, 1].add_(1) for m in (layer, other)]
    ),
    "one bias": lambda layer, other: (
        [p[: len(p) // 2].add_(1) for m in (layer, other) for n, p in m.named_parameters() if n.startswith("bias_ih")]
        and CHANGES["copy_"](layer, other)
    ),
}


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM", "LSTMCell"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_changed_weights_are_noticed(kind: str, change: str, mode: Any, calls: list[Any]) -> None:
    layer, other = (getattr(nn, kind)(3, 20).eval() for _ in range(2))
    layer = accelerated(layer)
    x = torch.randn(5, 3)
    with mode():
        layer(x)
        CHANGES[change](layer, other)
        same(layer(x), other(x))
    assert len(calls) == 2


def test_an_optimisers_step_is_noticed(calls: list[Any]) -> None:
    """Train and eval alternate: PyTorch trains, fastrnn evaluates what was trained."""
    torch.manual_seed(0)
    ours, theirs = accelerated(nn.LSTM(3, 4)), nn.LSTM(3, 4)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(6, 2, 3)
    for module in (ours, theirs):
        optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
        for _ in range(3):
            module.train()
            optimiser.zero_grad()
            module(x)[0].square().sum().backward()
            optimiser.step()
            assert len(calls) == 0
    ours.eval()
    with torch.no_grad():
        same(ours(x), theirs(x))
    assert len(calls) == 1


@pytest.mark.parametrize("change", ["load_state_dict", "assign", "data", "parameter"])
def test_weights_made_in_inference_mode(change: str, calls: list[Any]) -> None:
    """Inference tensors: PyTorch counts no changes of them."""
    with torch.inference_mode():
        layer, other = accelerated(nn.GRU(3, 20)), nn.GRU(3, 20)
        x = torch.randn(4, 2, 3)
        layer(x)
        CHANGES[change](layer, other)
        same(layer(x), other(x))
    assert len(calls) == 2


def test_other_weights_for_one_call(model: Any, x: Any, calls: list[Any]) -> None:
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.data.mul_(0.5)
    ours = accelerated(model)
    with torch.no_grad():
        same(torch.func.functional_call(ours, dict(other.named_parameters()), (x,)), other(x))
        same(ours(x), model(x))
    assert len(calls) == 2 * (1 + STEPS)


def test_dtype_and_device(model: Any, x: Any, calls: list[Any]) -> None:
    ours = accelerated(model)
    with torch.no_grad():
        ours(x)
        same(ours.double()(x.double()), copy.deepcopy(model).double()(x.double()))
        assert len(calls) == 2 * (1 + STEPS)
        lower = ours.lstm.bfloat16()(torch.randn(1, 2, 6, dtype=torch.bfloat16))[0]
        assert lower.dtype == torch.bfloat16
        assert ours.lstm.float().to("meta")(torch.randn(1, 2, 6, device="meta"))[0].is_meta
        assert len(calls) == 2 * (1 + STEPS)


@pytest.mark.parametrize("attribute", ["mode", "nonlinearity"])
def test_another_nonlinearity(attribute: str) -> None:
    """The layer goes by its mode, the cell by its nonlinearity; both may be set after the first call."""
    layer = nn.RNN(4, 5) if attribute == "mode" else nn.RNNCell(4, 5)
    ours, x = accelerated(layer.eval()), torch.randn(3, 4)
    with torch.no_grad():
        ours(x)
        for module in (layer, ours):
            setattr(module, attribute, "RNN_RELU" if attribute == "mode" else "relu")
        same(ours(x), layer(x))
        assert next(flat(ours(x))).min() == 0


def test_packed_weights_are_freed_with_the_layer() -> None:
    layer = accelerated(nn.LSTM(3, 4))
    with torch.no_grad():
        layer(torch.randn(2, 3))
    samples = weakref.ref(layer.__dict__["_fastrnn"]._latest.samples)
    assert samples() is not None
    layer.float()
    assert samples() is None


def test_memory_of_arguments_stays_resizable() -> None:
    cell, x = accelerated(nn.GRUCell(4, 5)), torch.empty(0, 4)
    with torch.no_grad():
        for n in (2, 3):
            cell(x.resize_(n, 4).fill_(1))
        cell.weight_hh.untyped_storage().resize_(0)


def test_parametrized_after_a_call(calls: list[Any]) -> None:
    """A layer is copied through its __dict__, and restored to the class that the parametrization gave it."""
    ours, x = accelerated(nn.LSTM(3, 4).eval()), torch.randn(5, 3)
    with torch.no_grad():
        ours(x)
        nn.utils.parametrizations.weight_norm(ours, "weight_hh_l0")
        expected = ours(x)
        same(copy.deepcopy(ours)(x), expected)
        restore(ours)
        assert not isinstance(ours, torch_layers._Accelerated)
        assert type(ours).__name__ == "ParametrizedLSTM"
        same(ours(x), expected)
    assert len(calls) == 1


def test_weights_that_become_computed(calls: list[Any]) -> None:
    """A parametrization that is registered later: PyTorch runs."""
    layer = accelerated(nn.LSTM(3, 4).eval())
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(2)
        y = layer(x)[0]
        assert not calls
        close(fastrnn.lstm(x.numpy(), fastrnn.from_torch(layer))[0], y)


def test_many_threads_while_weights_change() -> None:
    """Each call sees the weight of before or of after, one tensor being changed at once; the last that of after."""
    layer = accelerated(nn.GRU(6, 64).eval())
    x, before = torch.randn(9, 2, 6), layer.weight_hh_l0.data
    after, wrong = before * 0.5, []
    with torch.no_grad():
        known = [layer(x)[0]]
        layer.weight_hh_l0.data = after
        known.append(layer(x)[0])

    def work() -> None:
        with torch.no_grad():
            for _ in range(50):
                y, _ = layer(x)
                if not any(torch.equal(y, one) for one in known):
                    wrong.append(y)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        layer.weight_hh_l0.data = before
        layer.weight_hh_l0.data = after
    for thread in threads:
        thread.join()
    assert not wrong
    with torch.no_grad():
        assert torch.equal(layer(x)[0], known[1])
    assert not torch.equal(*known)
