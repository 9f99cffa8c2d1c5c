"""Accelerated layers whose weights, dtypes, options or classes change after they have run."""

from __future__ import annotations

import copy
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
from support.environment import package

torch = package("torch")

from torch import nn

from fastrnn.torch import layers as torch_layers
from fastrnn.torch import packings, restore
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
    """Training and evaluation alternate: all calls run on fastrnn."""
    torch.manual_seed(0)
    ours, theirs = accelerated(nn.LSTM(3, 4).double()), nn.LSTM(3, 4).double()
    theirs.load_state_dict(ours.state_dict())
    x, losses = torch.randn(6, 2, 3).double(), []
    for module in (ours, theirs):
        optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
        for _ in range(3):
            module.train()
            optimiser.zero_grad()
            losses.append(module(x)[0].square().sum())
            losses[-1].backward()
            optimiser.step()
    torch.testing.assert_close(losses[:3], losses[3:], rtol=1e-10, atol=0)
    assert len(calls) == 3
    ours.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-9)  # Adam divides by small gradients
    assert len(calls) == 4


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


@pytest.mark.parametrize("axis", [0, 1])
def test_a_written_row_or_column_is_noticed(axis: int, calls: list[Any]) -> None:
    """Each of them, by a write that PyTorch does not count."""
    layer = accelerated(nn.GRU(5, 20))
    x = torch.randn(3, 5)
    with torch.no_grad():
        layer(x)
        for number in range(layer.weight_hh_l0.shape[axis]):
            layer.weight_hh_l0.data.select(axis, number).add_(0.25)
            calls.clear()
            layer.__dict__["_fastrnn"]._credit = 1000
            before = layer.__dict__["_fastrnn"]._latest
            layer(x)
            assert layer.__dict__["_fastrnn"]._latest is not before


def sets_of(layer: Any, count: int) -> list[dict[str, Any]]:
    return [{name: torch.randn_like(p) * 0.3 for name, p in layer.named_parameters()} for _ in range(count)]


def packs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is packed from here on."""
    made: list[Any] = []
    pack = packings.pack
    monkeypatch.setattr(packings, "pack", lambda *arguments: made.append(arguments) or pack(*arguments))
    return made


def test_sets_in_turns_are_packed_once(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, made = nn.LSTM(3, 4), packs(monkeypatch)
    ours, x, sets = accelerated(layer), torch.randn(1, 3), sets_of(layer, packings.MOST)
    with torch.no_grad():
        for _ in range(5):
            for weights in sets:
                same(*(torch.func.functional_call(module, weights, (x,)) for module in (ours, layer)))
        assert (len(made), len(calls)) == (packings.MOST, 5 * packings.MOST)
        sets[0]["weight_hh_l0"][2, 3] += 1  # one element, which no sample need have
        for weights in sets:
            same(*(torch.func.functional_call(module, weights, (x,)) for module in (ours, layer)))
    assert len(made) == packings.MOST + 1


def test_sets_that_share_memory_with_what_changes(calls: list[Any]) -> None:
    """One parameter, whose data is one genome and then another: a genome may change while it is away."""
    layer = nn.GRU(3, 40)
    ours, x = accelerated(layer), torch.randn(50, 3)
    genomes = [0.1 * torch.randn(120, 40) for _ in range(2)]
    with torch.no_grad():
        for number in (0, 1, 0, 1):
            for module in (layer, ours):
                module.weight_hh_l0.data = genomes[number]
            same(ours(x), layer(x))
            genomes[1 - number][7, 11] += 1
    assert len(calls) == 4


def test_memory_of_sets_that_are_gone_is_free() -> None:
    layer = accelerated(nn.GRU(3, 4))
    sets, x = sets_of(layer, 4), torch.randn(5, 3)
    with torch.no_grad():
        for weights in sets:
            torch.func.functional_call(layer, weights, (x,))
        found = layer.__dict__["_fastrnn"]
        kept = [weakref.ref(one.packed.samples) for one in found._kept.values()]
        assert len(kept) == 4
        del weights, sets
        assert [one() is None for one in kept] == [True, True, True, False]  # the latest serves until another one does
        layer(x)
        assert kept[-1]() is None


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "LSTMCell"])
def test_pytorch_runs_where_weights_keep_changing(kind: str, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, made = getattr(nn, kind)(3, 4), packs(monkeypatch)
    ours, x = accelerated(layer), torch.randn(1, 3)
    with torch.no_grad():
        for _ in range(2600):
            ours.weight_hh_l0.add_(0) if kind != "LSTMCell" else ours.weight_hh.add_(0)
            ours(x)
        assert len(made) == len(calls) <= 14
        for _ in range(1100):
            same(ours(x), layer(x))
    assert len(made) <= 15  # the pause ends, and what is packed then lasts
    assert len(calls) >= 70


def test_long_calls_pay_for_packing(calls: list[Any]) -> None:
    ours, x = accelerated(nn.GRU(3, 4)), torch.randn(40, 3)
    with torch.no_grad():
        for _ in range(60):
            ours.weight_hh_l0.add_(0)
            ours(x)
    assert len(calls) == 60


SHAPES = [(1, 1), (1, 7), (7, 1), (2, 3), (3, 2), (5, 5), (9, 2), (2, 9), (13, 31), (31, 13), (80, 20), (20, 80)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_samples_have_every_row_and_column(shape: tuple[int, int], dtype: Any) -> None:
    wide = np.zeros((2 * shape[0], 3 * shape[1]), dtype)
    arrays = [np.zeros(shape, dtype), np.zeros(shape, dtype, order="F"), wide[::2, 1::3], wide[::-2, ::-3]]
    for array in arrays:
        vector = np.zeros(17, dtype)
        samples = _core.Samples([array, vector[::2]])
        for view in [*array, *array.T, *(vector[k : k + 1] for k in range(0, 17, 2))]:
            view[:] = 1
            assert not samples.are_current()
            view[:] = 0
            assert samples.are_current()


def test_samples_of_nothing() -> None:
    for arrays in ([], [np.zeros((0, 3))], [np.zeros((3, 0))], [np.zeros(0)]):
        assert _core.Samples(arrays).are_current()
    for wrong in (
        [np.zeros((2, 2, 2))],
        [np.zeros(3), np.zeros(3, np.float32)],
        [np.zeros(3, np.int8)],
        [np.array(1.0)],
    ):
        with pytest.raises(ValueError, match="one or two axes, and one dtype"):
            _core.Samples(wrong)


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
    """Each call sees the weight of before or of after, one tensor being changed at once; the last that of after.

    PyTorch may run some of them, with other roundings.
    """
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
                if not any(torch.allclose(y, one, atol=1e-5) for one in known):
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
        close(layer(x)[0], known[1])
    assert not torch.allclose(*known, atol=1e-3)
