"""Gradients of accelerated layers: against PyTorch's autograd in float64, of every layer, call and kind of weight."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.gradients import Pullback
from support.environment import package

torch = package("torch")

from torch import nn
from torch.nn.utils.rnn import pack_sequence

from fastrnn.torch import packings, training
from support.torch_models import accelerated, cells, doubled, flat, gradients, layer_calls, near, same, without_pytorch

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

KINDS = ["RNN", "LSTM", "GRU"]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]


def compare(layer: Any, x: Any, state: Any = None, *, wanted: bool = True, runs: int = 1) -> None:
    """Gradients of fastrnn against those of PyTorch in float64, of the layer as it was before `accelerate`."""
    with without_pytorch(runs):
        ours = gradients(accelerated(layer), x, state, wanted=wanted)
    near(ours, gradients(*doubled(layer, x, state), wanted=wanted))


# A layer is run here and by PyTorch, there and back, twice: so fewer examples than elsewhere do.
some = settings(max_examples=max(settings.default.max_examples // 4, 1))


def freeze(module: Any, draw: st.DrawFn) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(draw(st.booleans()))


@some
@given(call=layer_calls(), training=st.booleans(), data=st.data())
def test_layer(call: tuple[Any, Any, Any], training: bool, data: st.DataObject) -> None:
    """In training and not, some weights frozen; without dropout, whose random numbers depend on the dtype."""
    layer, x, state = call
    layer.train(training)
    layer.dropout = 0.0
    wanted = data.draw(st.booleans())
    if not wanted:
        compare(layer, x, state, wanted=False)
    freeze(layer, data.draw)
    compare(layer, x, state)


@some
@given(cell=cells(), rows=st.sampled_from([[], [1], [3]]), given_state=st.booleans(), data=st.data())
def test_cell(cell: Any, rows: list[int], given_state: bool, data: st.DataObject) -> None:
    dtype = cell.weight_ih.dtype
    x, h = torch.randn(*rows, cell.input_size, dtype=dtype), torch.randn(*rows, cell.hidden_size, dtype=dtype)
    freeze(cell, data.draw)
    state = None if not given_state else (h, h + 1) if isinstance(cell, nn.LSTMCell) else h
    compare(cell.train(), x, state)


def inputs(dtype: Any = torch.float32) -> dict[str, Any]:
    """Inputs of three features."""
    rows = [torch.randn(length, 3, dtype=dtype) for length in (2, 5, 1, 5)]
    return {
        "batch": torch.randn(5, 4, 3, dtype=dtype),
        "single": torch.randn(5, 3, dtype=dtype),
        "packed": pack_sequence(rows, enforce_sorted=False),
        "sorted": pack_sequence(sorted(rows, key=len, reverse=True)),
        "strided": torch.randn(4, 3, 5, dtype=dtype).permute(2, 0, 1),
    }


@pytest.mark.parametrize("shape", inputs())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_has_pytorchs_masks(kind: str, shape: str, dtype: Any, batch_first: bool) -> None:
    """The same numbers for the same seed, and as many of them: those that are drawn later are the same, too."""
    torch.manual_seed(1)
    x = inputs(dtype)[shape]
    layer = getattr(nn, kind)(3, 6, 3, bidirectional=True, dropout=0.4, batch_first=batch_first, dtype=dtype)
    ours = accelerated(layer)
    with without_pytorch(3):
        found = gradients(ours, x, seed=5)
        after = torch.rand(3)
    near(found, gradients(layer, x, seed=5))
    assert torch.equal(after, torch.rand(3))
    with torch.no_grad(), without_pytorch(3):
        torch.manual_seed(6)
        result = ours(x)
    torch.manual_seed(6)
    with torch.no_grad():
        same([*flat(result)], [*flat(layer(x))])


@pytest.mark.parametrize("dropout", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("layer", [
    lambda dropout: nn.LSTM(3, 6, 4, dropout=dropout, proj_size=2, dtype=torch.float64),
    lambda dropout: nn.GRU(3, 6, 2, dropout=dropout, bias=False, dtype=torch.float64),
    lambda dropout: nn.RNN(3, 6, 2, dropout=dropout, nonlinearity="relu", bidirectional=True, dtype=torch.float64),
])  # fmt: skip
def test_dropout_with_states(layer: Any, dropout: float) -> None:
    torch.manual_seed(2)
    layer, x = layer(dropout), torch.randn(4, 3, 3, dtype=torch.float64)
    first = layer.num_layers * (1 + layer.bidirectional)
    h = torch.randn(first, 3, layer.proj_size or 6, dtype=torch.float64)
    state = (h, torch.randn(first, 3, 6, dtype=torch.float64)) if isinstance(layer, nn.LSTM) else h
    with without_pytorch(layer.num_layers if dropout else 1):
        ours = gradients(accelerated(layer), x, state)
    near(ours, gradients(layer, x, state))


@pytest.mark.parametrize("shape", inputs())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_results_have_the_bits_of_inference(kind: str, shape: str, training: bool) -> None:
    ours, x = accelerated(getattr(nn, kind)(3, 17, 2, bidirectional=True).train(training)), inputs()[shape]
    with torch.no_grad():
        expected = [*flat(ours(x))]
    for a, b in zip(flat(ours(x)), expected, strict=True):
        assert torch.equal(a, b)
        assert a.requires_grad or not a.dtype.is_floating_point


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[str]]]:
    """What gradients are asked of each pullback from here on."""
    found: list[set[str]] = []
    original = Pullback.__call__

    def noted(self: Any, *arguments: Any, wrt: Any) -> Any:
        found.append(set(wrt))
        return original(self, *arguments, wrt=wrt)

    monkeypatch.setattr(Pullback, "__call__", noted)
    return found


def test_frozen_weights_are_left_out(asked: list[set[str]]) -> None:
    layer, x = accelerated(nn.LSTM(3, 4, 2)), torch.randn(5, 2, 3)
    layer(x)[0].sum().backward()
    layer.weight_hh_l0.requires_grad_(False)
    layer.bias_ih_l1.requires_grad_(False)
    layer(x)[0].sum().backward()
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    layer(x.requires_grad_())[0].sum().backward()
    layer(x.detach(), (torch.zeros(2, 2, 4, requires_grad=True), torch.zeros(2, 2, 4)))[0].sum().backward()
    names = {name for name, _ in layer.named_parameters()}
    assert asked == [names, names - {"weight_hh_l0", "bias_ih_l1"}, {"x"}, {"state"}]


USES = {
    "y": lambda y, h, c: y.sum(),
    "h": lambda y, h, c: h.prod(),
    "c": lambda y, h, c: c[0].exp().sum(),
    "a step": lambda y, h, c: (y[1, :, 2] ** 2).sum(),
    "a column": lambda y, h, c: y.transpose(0, 2)[1].cumsum(0).sum(),
    "every other unit": lambda y, h, c: y[..., ::2].sum() * h[..., ::3].sum(),
    "the last step twice": lambda y, h, c: (y[-1] * h[0] * c[0]).sum(),
    "reversed": lambda y, h, c: (y.flip(0) * torch.arange(5.0).reshape(5, 1, 1)).sum(),
}


@pytest.mark.parametrize("use", USES)
def test_some_results_are_used(use: str) -> None:
    """Gradients with strides, of zeros, of one number that is repeated, and none at all."""
    torch.manual_seed(4)
    found = []
    layer, x = nn.LSTM(3, 6, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    for module in (accelerated(layer), layer):
        y, (h, c) = module(x)
        found.append(torch.autograd.grad(USES[use](y, h, c), [x, *module.parameters()]))
    near(*found)


def test_a_result_may_be_written_to() -> None:
    """The way back does not read what the caller was given. PyTorch's own layer refuses this."""
    layer, x = nn.GRU(3, 6, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    ours = accelerated(layer)
    for module in (layer, ours):
        y = module(x)[0]
        (y.mul_(2) if module is ours else y * 2).square().sum().backward()
    near([p.grad for p in ours.parameters()], [p.grad for p in layer.parameters()])


@pytest.mark.parametrize("which", ["weight_ih_l0", "x", "state"])
def test_what_was_given_may_not_be_written_to(which: str) -> None:
    """As in PyTorch: an error of its own."""
    for module in (nn.GRU(3, 4, dtype=torch.float64), accelerated(nn.GRU(3, 4, dtype=torch.float64))):
        x, state = torch.ones(5, 2, 3, dtype=torch.float64), torch.zeros(1, 2, 4, dtype=torch.float64)
        y, _ = module(x.requires_grad_(), state)
        with torch.no_grad():
            {"x": x, "state": state}.get(which, module.weight_ih_l0).add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_gradients_belong_to_the_weights_of_the_call() -> None:
    """Also where they are changed behind PyTorch's back before the way back begins."""
    layer, x = nn.GRU(3, 200, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    ours = accelerated(layer)
    layer(x)[0].sum().backward()
    expected, x.grad = x.grad, None
    y = ours(x)[0].sum()
    ours.weight_ih_l0.data.mul_(2)
    y.backward()
    near([x.grad], [expected])


def test_backward_twice() -> None:
    layer, x = nn.LSTM(3, 4, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    ours = accelerated(layer)
    for module in (layer, ours):
        y = module(x)[0].square().sum()
        y.backward(retain_graph=True)
        y.backward()  # gradients add up
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            y.backward()
        module(2 * x)[0].sum().backward()
    near([p.grad for p in ours.parameters()], [p.grad for p in layer.parameters()])


def test_truncated_backpropagation() -> None:
    """States carried from chunk to chunk, cut at each and not."""
    torch.manual_seed(0)
    layer, x = nn.LSTM(3, 4, 2, dtype=torch.float64), torch.randn(3, 5, 2, 3, dtype=torch.float64)
    ours = accelerated(layer)
    for cut in (True, False):
        with without_pytorch(3):
            found = [total_of(ours, x, cut)]
        near(*found, total_of(layer, x, cut))


def total_of(module: Any, chunks: Any, cut: bool) -> list[Any]:
    module.zero_grad()
    state, losses = None, []
    for chunk in chunks:
        y, state = module(chunk, state)
        losses.append(y.square().sum())
        state = [part.detach() for part in state] if cut else state
    sum(losses).backward()
    return [parameter.grad.clone() for parameter in module.parameters()]


def test_a_loop_over_cells() -> None:
    for kind in CELLS:
        torch.manual_seed(0)
        cell, x = getattr(nn, kind)(3, 4, dtype=torch.float64), torch.randn(7, 2, 3, dtype=torch.float64)
        with without_pytorch(7):
            found = loop(accelerated(cell), x)
        near(found, loop(cell, x))


def loop(cell: Any, x: Any) -> list[Any]:
    state, total = None, torch.zeros((), dtype=x.dtype)
    for step in x:
        state = cell(step, state)
        total = total + sum(part.square().sum() for part in flat(state))
    total.backward()
    return [parameter.grad for parameter in cell.parameters()]


def test_tied_weights() -> None:
    """One parameter in two layers of a stack and in another module; one tensor as x and as state."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.RNN(4, 4, 2), nn.RNN(4, 4)
            self.a.weight_hh_l1 = self.a.weight_ih_l1 = self.b.weight_hh_l0 = self.a.weight_hh_l0

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.b(self.a(x, x[:2])[0], x[:1])

    torch.manual_seed(0)
    model = Tied().double()
    compare(model, torch.randn(3, 2, 4, dtype=torch.float64), runs=2)


class WeightDrop(nn.Module):
    """Weights of a layer that are dropped anew at each call: tensors that are computed, in the place of parameters."""

    def __init__(self, layer: Any, names: list[str]) -> None:
        super().__init__()
        self.layer, self.names = layer, names
        for name in names:
            self.register_parameter(f"{name}_raw", nn.Parameter(getattr(layer, name).detach()))
            delattr(layer, name)
            setattr(layer, name, getattr(self, f"{name}_raw").detach().clone())

    def forward(self, x: Any, state: Any = None) -> Any:
        for name in self.names:
            setattr(self.layer, name, torch.dropout(getattr(self, f"{name}_raw"), 0.5, self.training))
        return self.layer(x, state)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRUCell"])
def test_weights_that_are_computed_before_each_call(kind: str) -> None:
    torch.manual_seed(0)
    suffix = "" if kind.endswith("Cell") else "_l0"
    model = WeightDrop(getattr(nn, kind)(3, 4, dtype=torch.float64), [f"weight_hh{suffix}", f"bias_ih{suffix}"])
    x = torch.randn(2, 3, dtype=torch.float64)
    ours = accelerated(model)
    for seed in range(3):
        with without_pytorch(1):
            found = gradients(ours, x, seed=seed)
        near(found, gradients(model, x, seed=seed))
    assert all(parameter.grad is not None for parameter in ours.parameters())
    torch.manual_seed(9)
    second = [twice(module, x.clone().requires_grad_()) for module in (ours, model)]
    near(*second)


def twice(module: Any, x: Any) -> list[Any]:
    """Gradients of the square of a gradient."""
    torch.manual_seed(3)
    (first,) = torch.autograd.grad(sum(t.square().sum() for t in flat(module(x))), x, create_graph=True)
    return [*torch.autograd.grad(first.square().sum(), [x, *module.parameters()], allow_unused=True)]


def test_functional_call_with_computed_weights() -> None:
    torch.manual_seed(0)
    layer, x = nn.GRU(3, 4, 2, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    ours, found = accelerated(layer), []
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    for module in (ours, layer):
        weights = {name: scale * p.detach() for name, p in module.named_parameters()}
        found.append([*torch.autograd.grad(torch.func.functional_call(module, weights, (x,))[0].sum(), scale)])
    near(*found)


def test_weights_are_packed_once_for_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    pack = packings.pack
    monkeypatch.setattr(packings, "pack", lambda *arguments: made.append(arguments) or pack(*arguments))
    for size in (4, 100):
        made.clear()
        layer, x = accelerated(nn.LSTM(3, size)), torch.randn(5, 2, 3)
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
        for step in range(4):
            for _ in range(3):  # one batch in parts
                layer(x)[0].sum().backward()
            with torch.no_grad():
                layer.eval()(x)
            layer.train()
            assert len(made) == step + 1
            optimiser.step()


def test_hooks() -> None:
    layer, x = nn.LSTM(3, 4, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    found = []
    for module in (accelerated(layer), layer):
        seen: list[Any] = []
        module.register_forward_pre_hook(lambda _, arguments: (2 * arguments[0],))
        module.register_forward_hook(lambda _, arguments, result: (3 * result[0], result[1]))
        module.register_full_backward_pre_hook(lambda _, outer, seen=seen: seen.extend(outer[:1]))
        module.register_full_backward_hook(lambda _, inner, outer, seen=seen: seen.extend((*inner, *outer[:1])))
        module.weight_hh_l0.register_hook(lambda gradient: gradient * 10)
        module.bias_ih_l0.register_post_accumulate_grad_hook(lambda p, seen=seen: seen.append(p.grad.clone()))
        found.append(gradients(module, x) + seen)
    near(*found)


GRADCHECKED = {
    "LSTM": lambda: nn.LSTM(2, 3, 2, bidirectional=True, proj_size=2, dtype=torch.float64),
    "GRU": lambda: nn.GRU(2, 3, batch_first=True, dtype=torch.float64),
    "RNN": lambda: nn.RNN(2, 3, 2, bias=False, dtype=torch.float64),
    "LSTMCell": lambda: nn.LSTMCell(2, 3, dtype=torch.float64),
    "GRUCell": lambda: nn.GRUCell(2, 3, dtype=torch.float64),
    "RNNCell": lambda: nn.RNNCell(2, 3, dtype=torch.float64),
    "dropout": lambda: nn.LSTM(2, 3, 2, dropout=0.3, dtype=torch.float64),
}


@pytest.mark.parametrize("case", GRADCHECKED)
def test_gradcheck(case: str) -> None:
    """Of x and all weights, whose single elements are changed behind PyTorch's back."""
    torch.manual_seed(0)
    layer = accelerated(GRADCHECKED[case]())
    names = [name for name, _ in layer.named_parameters()]
    shape = (2, 2) if case.endswith("Cell") else (3, 2, 2)

    def function(x: Any, *weights: Any) -> tuple[Any, ...]:
        torch.manual_seed(1)
        return tuple(flat(torch.func.functional_call(layer, dict(zip(names, weights)), (x,))))

    tensors = [torch.randn(shape, dtype=torch.float64), *(p.detach().clone() for p in layer.parameters())]
    for tensor in tensors:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradcheck(function, tensors, fast_mode=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, tensors[:1] + [t.detach() for t in tensors[1:]])


def test_gradcheck_of_a_packed_sequence() -> None:
    torch.manual_seed(0)
    layer = accelerated(nn.GRU(2, 3, bidirectional=True, dtype=torch.float64))
    packed = pack_sequence([torch.randn(n, 2) for n in (1, 3, 2)], enforce_sorted=False)

    def function(data: Any, state: Any) -> tuple[Any, ...]:
        y, h = layer(packed._replace(data=data), state)
        return y.data, h

    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((6, 2), (2, 3, 3))]
    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


def test_second_derivatives_where_arguments_depend_on_each_other() -> None:
    """One tensor is x, the state and, times two, a weight: what depends on it is counted once."""
    torch.manual_seed(0)
    layer, found = nn.RNN(3, 3, bias=False, dtype=torch.float64), []
    for module in (accelerated(layer), layer):
        x = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(3, 3).requires_grad_()
        weights = {"weight_ih_l0": 2 * x, "weight_hh_l0": x}
        y, _ = torch.func.functional_call(module, weights, (x, x[:1]))
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append([first.detach(), *torch.autograd.grad(first.square().sum(), x)])
    near(*found)


def test_a_gradient_penalty() -> None:
    """Second derivatives of the parameters, added to a first one."""
    torch.manual_seed(0)
    layer, found = nn.LSTM(3, 4, 2, dropout=0.2, dtype=torch.float64), []
    for module in (accelerated(layer), layer):
        torch.manual_seed(1)
        x = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(5, 2, 3).requires_grad_()
        y = module(x)[0].square().sum()
        (slope,) = torch.autograd.grad(y, x, create_graph=True)
        (y + (slope.norm() - 1) ** 2).backward()
        found.append([parameter.grad for parameter in module.parameters()])
    near(*found)


def test_nothing_is_kept_after_the_way_back() -> None:
    layer, x = accelerated(nn.LSTM(3, 4)), torch.randn(5, 2, 3)
    before = len(training._PULLBACKS)
    y = layer(x)[0]
    assert len(training._PULLBACKS) == before + 1
    y.sum().backward()
    assert len(training._PULLBACKS) == before  # though y is there
    y = layer(x)[0]
    del y
    assert len(training._PULLBACKS) == before


def test_copies_train() -> None:
    layer, x = nn.LSTM(3, 4, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    ours = accelerated(layer)
    gradients(ours, x)
    with without_pytorch(1):
        found = gradients(copy.deepcopy(ours), x)
    near(found, gradients(layer, x))
