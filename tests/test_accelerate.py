"""PyTorch models whose recurrent layers run on fastrnn: same results, same objects, and PyTorch wherever it must be."""

from __future__ import annotations

import copy
import io
import pickle
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from conftest import package, run_python

torch = package("torch")
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_sequence  # noqa: E402

from fastrnn import _torch_layers  # noqa: E402
from fastrnn.torch import Report, accelerate, restore  # noqa: E402
from test_torch import cells, close, layers  # noqa: E402  (it needs torch)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What fastrnn has been called with: x of each call."""
    found: list[Any] = []
    original = _torch_layers._Accelerated._call

    def counted(self: Any, params: Any, x: Any, states: Any, **options: Any) -> Any:
        found.append(x)
        return original(self, params, x, states, **options)

    monkeypatch.setattr(_torch_layers._Accelerated, "_call", counted)
    return found


class counting:  # noqa: N801
    """`calls` for tests of hypothesis, which have one fixture for all examples."""

    def __enter__(self) -> list[Any]:
        self.patch = pytest.MonkeyPatch()
        return calls.__wrapped__(self.patch)  # type: ignore[attr-defined, no-any-return]

    def __exit__(self, *error: object) -> None:
        self.patch.undo()


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


@given(call=layer_calls())
def test_layer(call: tuple[Any, Any, Any]) -> None:
    layer, x, state = call
    with counting() as calls, torch.no_grad():
        same(accelerated(layer)(x, state), layer(x, state))
        assert len(calls) == 1


def test_packed_sequence_with_states() -> None:
    """Rows in any order, each with the state that stands at its place."""
    torch.manual_seed(0)
    x = pack_sequence([torch.randn(length, 3) for length in (2, 5, 1, 5)], enforce_sorted=False)
    for layer in (nn.LSTM(3, 4, bidirectional=True), nn.GRU(3, 4)):
        h = torch.randn(1 + layer.bidirectional, 4, 4)
        state = (h, -h) if isinstance(layer, nn.LSTM) else h
        with torch.no_grad():
            same(accelerated(layer)(x, state), layer(x, state))


@given(cell=cells(), B=st.integers(0, 4), given_state=st.booleans())
def test_cell(cell: Any, B: int, given_state: bool) -> None:
    """B = 0 stands for an input without a batch."""
    rows, dtype = [B] if B else [], cell.weight_ih.dtype
    x, h = torch.randn(*rows, cell.input_size, dtype=dtype), torch.randn(*rows, cell.hidden_size, dtype=dtype)
    state = None if not given_state else (h, h + 1) if isinstance(cell, nn.LSTMCell) else h
    with counting() as calls, torch.no_grad():
        same(accelerated(cell)(x, state), cell(x, state))
        assert len(calls) == 1


@given(call=layer_calls(), inputs=st.booleans())
def test_gradients_in_eval_mode(call: tuple[Any, Any, Any], inputs: bool) -> None:
    """Results of fastrnn, and gradients of PyTorch, of weights, inputs and states."""
    layer, x, state = call
    ours = accelerated(layer)
    gradients = []
    for module in (layer, ours):
        leaves = [tensor.detach().clone() for tensor in flat(state)]
        data = (x.data if isinstance(x, PackedSequence) else x).detach().clone()
        for leaf in (data, *leaves):
            leaf.requires_grad_(inputs)
        with counting() as calls:
            given_state = None if state is None else leaves[0] if len(leaves) == 1 else tuple(leaves)
            result = module(x._replace(data=data) if isinstance(x, PackedSequence) else data, given_state)
            assert len(calls) == (module is ours)
        outputs = [tensor for tensor in flat(result) if tensor.dtype != torch.int64]
        assert all(tensor.requires_grad for tensor in outputs)
        sum((tensor * tensor).sum() for tensor in outputs).backward()
        gradients.append([tensor.grad for tensor in (data, *leaves, *module.parameters())])
    for ours_, theirs in zip(*gradients, strict=True):
        assert (ours_ is None) == (theirs is None)
        if ours_ is not None:  # sums over steps and rows of products of numbers that are close
            scale = max(1.0, float(theirs.abs().max()))
            assert float((ours_ - theirs).abs().max()) <= {4: 1e-5, 8: 1e-12}[theirs.itemsize] * scale


def test_gradients_are_those_of_eval_mode() -> None:
    """Also where the layer was put to training between forward and backward."""
    layer = nn.GRU(3, 4, 2, dropout=0.5).eval()
    ours, x = accelerated(layer), torch.randn(5, 2, 3)
    for module in (layer, ours):
        y = module(x)[0].sum()
        module.train()
        y.backward()
    close(ours.weight_ih_l1.grad, layer.weight_ih_l1.grad)


@pytest.mark.parametrize("kind", ["GRU", "LSTMCell"])
def test_gradients_of_gradients(kind: str) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 4, dtype=torch.float64).eval()
    ours = accelerated(layer)
    found = []
    for module in (layer, ours):
        x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()
        (first,) = torch.autograd.grad(next(flat(module(x))).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first * first).sum(), x)
        found.append(second)
    close(found[1], found[0])
    assert found[0].abs().max() > 1e-4


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


@pytest.fixture
def model() -> Any:
    torch.manual_seed(1)
    return Model().eval()


@pytest.fixture
def x() -> Any:
    return torch.randn(2, 4, 5)


STEPS = 5  # of x: calls of the cell


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_model(model: Any, x: Any, calls: list[Any], mode: Any) -> None:
    with mode():
        expected = model(x)
        report = accelerate(model)
        assert report == Report(("lstm", "cell"), {})
        assert str(report) == "lstm: replaced\ncell: replaced"
        same(model(x), expected)
        assert len(calls) == 1 + STEPS
        restore(model)
        assert type(model.lstm) is nn.LSTM
        assert type(model.cell) is nn.GRUCell
        assert not [name for module in model.modules() for name in vars(module) if "fastrnn" in name]
        assert torch.equal(model(x), expected)
        assert len(calls) == 1 + STEPS


def test_layers_stay_what_they_are(model: Any, x: Any, calls: list[Any]) -> None:
    """The same objects and names, state_dict, parameters, hooks and repr."""
    before = {name: id(part) for name, part in [*model.named_modules(), *model.named_parameters()]}
    keys, text, seen = [*model.state_dict()], repr(model), []
    model.lstm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    accelerate(model)
    assert before == {name: id(part) for name, part in [*model.named_modules(), *model.named_parameters()]}
    assert ([*model.state_dict()], repr(model)) == (keys, text)
    assert isinstance(model.lstm, nn.LSTM)
    model(x)
    assert len(seen) == 1
    model.lstm.flatten_parameters()
    assert len(calls) == 1 + STEPS


def test_memory_is_shared(calls: list[Any]) -> None:
    layer = accelerated(nn.LSTM(4, 5, batch_first=True))
    x = torch.randn(2, 3, 4).transpose(0, 1).contiguous().transpose(0, 1)
    with torch.no_grad():
        layer(x)
    assert np.shares_memory(calls[0], x.numpy())


@pytest.mark.parametrize("twice", [False, True])
def test_accelerating_and_restoring_twice(model: Any, x: Any, calls: list[Any], twice: bool) -> None:
    for _ in range(1 + twice):
        report = accelerate(model)
    assert report.replaced == ("lstm", "cell")
    with torch.no_grad():
        model(x)
    assert len(calls) == 1 + STEPS
    for _ in range(1 + twice):
        restore(model)
    assert type(model.lstm) is nn.LSTM


def copies(model: Any) -> Iterator[Any]:
    yield copy.deepcopy(model)
    yield pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    yield torch.load(file, weights_only=False)
    shallow = copy.copy(model)
    shallow._modules = dict(model._modules)
    shallow.lstm, shallow.cell = copy.copy(model.lstm), copy.copy(model.cell)
    yield shallow


def test_copies(model: Any, x: Any, calls: list[Any]) -> None:
    """Copies are as fast, whether the layer has run before or not, carry no packed weights, and can be restored."""
    accelerate(model)
    with torch.no_grad():
        for _ in range(2):
            for copied in copies(model):
                assert not any("_fastrnn" in vars(module) for module in copied.modules())
                assert torch.equal(copied(x), model(x))
                assert len(calls) == 2 * (1 + STEPS)
                calls.clear()
                restore(copied)
                assert type(copied.lstm) is nn.LSTM
                assert type(model.lstm) is not nn.LSTM
                same(copied(x), model(x))
                calls.clear()


def test_a_pickle_loads_where_nothing_was_accelerated(model: Any) -> None:
    layer = accelerated(model.lstm)
    load = f"import pickle; layer = pickle.loads({pickle.dumps(layer)!r})"
    done = run_python(f"{load}; import torch; print(layer(torch.ones(1, 2, 6))[0].shape)")
    assert (done.returncode, done.stdout) == (0, "torch.Size([1, 2, 16])\n"), done.stderr


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
    """Train and eval in turns: PyTorch trains, fastrnn evaluates what was trained."""
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
    """PyTorch counts no changes of them."""
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


def test_packed_weights_are_freed_with_the_layer() -> None:
    layer = accelerated(nn.LSTM(3, 4))
    with torch.no_grad():
        layer(torch.randn(2, 3))
    views = [weakref.ref(view) for view, _ in layer.__dict__["_fastrnn"].samples]
    assert all(view() is not None for view in views)
    layer.float()
    assert all(view() is None for view in views)


class Watching(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return function(*arguments, **(options or {}))


class Subclass(torch.Tensor):
    pass


PYTORCH_RUNS = {
    "training": lambda layer, x: layer.train()(x),
    "dropout": lambda layer, x: no_grad(layer.train(), x),
    "autocast": lambda layer, x: autocast(layer, x),
    "forward_ad": lambda layer, x: forward_ad(layer, x),
    "dispatch mode": lambda layer, x: watched(layer, x),
    "forward_ad of weights": lambda layer, x: forward_ad_of_weights(layer, x),
    "func.grad": lambda layer, x: torch.func.grad(lambda v: layer(v)[0].sum())(x),
    "func.grad of weights": lambda layer, x: torch.func.grad(
        lambda weights: torch.func.functional_call(layer, weights, (x,))[0].sum()
    )({name: p.detach() for name, p in layer.named_parameters()})["weight_hh_l0"],
    "func.functionalize": lambda layer, x: torch.func.functionalize(
        lambda weights: torch.func.functional_call(layer, weights, (x,))[0]
    )({name: p.detach() for name, p in layer.named_parameters()}),
    "subclass": lambda layer, x: no_grad(layer, x.as_subclass(Subclass)),
    "negated": lambda layer, x: no_grad(layer, torch.complex(x, x).conj().imag),
    "no steps": lambda layer, x: no_grad(layer, x[:, :0]),
    "no rows": lambda layer, x: no_grad(layer, x[:0]),
}


def no_grad(layer: Any, x: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        return layer(x)


def autocast(layer: Any, x: Any) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        return layer(x)


def forward_ad(layer: Any, x: Any) -> Any:
    layer, x = layer.double(), x.double()  # PyTorch has no derivative of what it calls for float32
    no_grad(layer, x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        return torch.autograd.forward_ad.unpack_dual(layer(dual)[0])[:2]


def forward_ad_of_weights(layer: Any, x: Any) -> Any:
    layer, x = layer.double(), x.double()
    no_grad(layer, x)
    with torch.autograd.forward_ad.dual_level():
        weights = {name: p.detach() for name, p in layer.named_parameters()}
        dual = {name: torch.autograd.forward_ad.make_dual(p, torch.ones_like(p)) for name, p in weights.items()}
        y = torch.func.functional_call(layer, dual, (x,))[0]
        return torch.autograd.forward_ad.unpack_dual(y)[:2]


def watched(layer: Any, x: Any) -> Any:
    with Watching(), torch.no_grad():
        return layer(x)


PACKED_BEFORE = ("forward_ad", "forward_ad of weights")  # one call of fastrnn, which is to be followed by none


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", PYTORCH_RUNS)
def test_pytorch_runs_where_it_must(case: str, calls: list[Any]) -> None:
    """Same result, or same error, as without acceleration; and fastrnn is not asked."""
    torch.manual_seed(3)
    layer = nn.LSTM(4, 5, 2, dropout=0.5, batch_first=True).eval()
    x = torch.randn(2, 3, 4)
    outcomes = []
    for module in (layer, accelerated(layer)):
        with torch.no_grad():
            module(x)  # so that weights are packed
        calls.clear()
        torch.manual_seed(3)
        try:
            outcomes.append(PYTORCH_RUNS[case](module, x.clone()))
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            outcomes.append((type(error), str(error)))
    if isinstance(outcomes[0], tuple) and isinstance(outcomes[0][0], type):
        assert outcomes[0] == outcomes[1]
    else:
        for ours, theirs in zip(flat(outcomes[1]), flat(outcomes[0]), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.requires_grad == theirs.requires_grad
    assert len(calls) == (case in PACKED_BEFORE)


def mostly_padding() -> Any:
    return pack_sequence([torch.randn(50, 4), *torch.randn(40, 1, 4)])


def unaligned(*shape: int) -> Any:
    flat = torch.frombuffer(bytearray(4 * 24 + 2), dtype=torch.float32, offset=2, count=24)
    return flat.reshape(shape)


def changed(layer: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(layer, name, value)
    return layer


ODD_CALLS = {
    "mostly padding": lambda: (nn.GRU(4, 5), mostly_padding()),
    "unaligned": lambda: (nn.GRU(4, 5), unaligned(2, 3, 4)),
    "no bias of a kind": lambda: (changed(nn.LSTMCell(4, 5), bias_hh=None), torch.randn(2, 4)),
    "bias of one": lambda: (changed(nn.GRUCell(4, 5), bias_hh=nn.Parameter(torch.ones(1))), torch.randn(2, 4)),
}


@pytest.mark.parametrize("case", ODD_CALLS)
def test_odd_calls(case: str, calls: list[Any]) -> None:
    """What PyTorch makes do with, and fastrnn is not asked for."""
    layer, x = ODD_CALLS[case]()
    layer.eval()
    ours = copy.deepcopy(layer)
    ours.__class__ = _torch_layers._class_for(type(layer))
    with torch.no_grad():
        for _ in range(2):
            same(ours(x), layer(x))
    assert not calls


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


def test_memory_of_arguments_stays_resizable() -> None:
    cell, x = accelerated(nn.GRUCell(4, 5)), torch.empty(0, 4)
    with torch.no_grad():
        for n in (2, 3):
            cell(x.resize_(n, 4).fill_(1))
        cell.weight_hh.untyped_storage().resize_(0)


def test_parametrized_after_a_call(calls: list[Any]) -> None:
    """It is copied by a copy of its __dict__, and restored with the class that the parametrization gave it."""
    ours, x = accelerated(nn.LSTM(3, 4).eval()), torch.randn(5, 3)
    with torch.no_grad():
        ours(x)
        nn.utils.parametrizations.weight_norm(ours, "weight_hh_l0")
        expected = ours(x)
        same(copy.deepcopy(ours)(x), expected)
        restore(ours)
        assert not isinstance(ours, _torch_layers._Accelerated)
        assert type(ours).__name__ == "ParametrizedLSTM"
        same(ours(x), expected)
    assert len(calls) == 1


def test_forward_that_is_kept_over_restore() -> None:
    ours = accelerated(nn.LSTM(3, 4).eval())
    kept, x = ours.forward, torch.randn(5, 3)
    ours.forward = lambda *arguments: kept(*arguments)
    before = ours(x)
    restore(ours)
    same([tensor.detach() for tensor in flat(ours(x))], [tensor.detach() for tensor in flat(before)])


def test_names_of_containers_do_not_matter() -> None:
    class BidirectionalLSTM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 4)

    assert accelerate(BidirectionalLSTM()) == Report(("rnn",), {})


class Permuting(nn.LSTM):
    def permute_hidden(self, hx: Any, permutation: Any) -> Any:
        return hx


class Registered(nn.LSTM):
    def __init_subclass__(cls, *, name: str) -> None:
        raise AssertionError("never asked")


def test_classes_that_are_left_alone() -> None:
    assert accelerate(Permuting(3, 4)).kept == {"": "it has a permute_hidden of its own (Permuting)"}
    (reason,) = accelerate(Registered(3, 4)).kept.values()
    assert reason.startswith("no class can be derived from Registered: ")


WRONG_CALLS = {
    "features": lambda layer: layer(torch.randn(2, 3, 7)),
    "axes": lambda layer: layer(torch.randn(2, 3, 4, 1)),
    "one axis": lambda layer: layer(torch.randn(4)),
    "dtype": lambda layer: layer(torch.randn(2, 3, 4, dtype=torch.float64)),
    "integers": lambda layer: layer(torch.ones(2, 3, 4, dtype=torch.int64)),
    "array": lambda layer: layer(np.ones((2, 3, 4), np.float32)),
    "none": lambda layer: layer(None),
    "state": lambda layer: layer(torch.randn(2, 3, 4), torch.zeros(1, 3, 5)),
    "states": lambda layer: layer(torch.randn(2, 3, 4), (torch.zeros(1, 3, 5), torch.zeros(1, 3, 6))),
    "rows": lambda layer: layer(torch.randn(2, 3, 4), (torch.zeros(1, 2, 5), torch.zeros(1, 3, 5))),
    "state's dtype": lambda layer: layer(torch.randn(2, 3, 4), (torch.zeros(1, 3, 5).double(), torch.zeros(1, 3, 5))),
    "unbatched": lambda layer: layer(torch.randn(2, 4), (torch.zeros(1, 1, 5), torch.zeros(1, 1, 5))),
    "three states": lambda layer: layer(torch.randn(2, 3, 4), (torch.zeros(1, 3, 5),) * 3),
    "no states": lambda layer: layer(torch.randn(2, 3, 4), ()),
    "no argument": lambda layer: layer(),
    "sizes that grow": lambda layer: layer(PackedSequence(torch.randn(3, 4), torch.tensor([1, 2]))),
    "sizes of more rows": lambda layer: layer(PackedSequence(torch.randn(2, 4), torch.tensor([2, 1]))),
    "sizes of int32": lambda layer: layer(PackedSequence(torch.randn(3, 4), torch.tensor([2, 1], dtype=torch.int32))),
}
GRU_CALLS = {
    "tuple": lambda layer: layer(torch.randn(2, 3, 4), (torch.zeros(1, 3, 5),)),
    "list": lambda layer: layer(torch.randn(2, 3, 4), [torch.zeros(1, 3, 5)]),
}


@pytest.mark.parametrize("case", [*WRONG_CALLS, *GRU_CALLS])
def test_errors_are_pytorchs(case: str) -> None:
    layer = (nn.LSTM if case in WRONG_CALLS else nn.GRU)(4, 5).eval()
    outcomes = []
    with torch.no_grad():
        for module in (layer, accelerated(layer)):
            with pytest.raises(Exception) as caught:  # noqa: PT011  (compared below)
                (WRONG_CALLS | GRU_CALLS)[case](module)
            outcomes.append((caught.type, str(caught.value).replace("_Accelerated", "LSTM")))
    assert outcomes[0] == outcomes[1]


def test_scripting_gives_pytorchs_layers(model: Any, x: Any, calls: list[Any]) -> None:
    """torch.jit.script compiles the layers as they were, and can be saved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        expected = model(x)
        scripted = torch.jit.script(accelerated(model))
        traced = torch.jit.trace(accelerated(model), x)
        file = io.BytesIO()
        torch.jit.save(scripted, file)
        file.seek(0)
        calls.clear()
        for module in (scripted, traced, torch.jit.load(file)):
            assert torch.equal(module(x), expected)
    assert not calls
    assert accelerate(scripted).kept == {
        "lstm": "TorchScript has compiled it; accelerate the model before, or not at all",
        "cell": "TorchScript has compiled it; accelerate the model before, or not at all",
    }


class Front(nn.Module):
    def forward(self, x):
        return torch.relu(x) + 1


@pytest.mark.parametrize("allow_rnn", [False, True])
def test_compile(allow_rnn: bool, calls: list[Any]) -> None:
    """What is around a layer is compiled; the layer too where Dynamo takes it, and else fastrnn runs."""
    graphs: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(str(graph.graph))
        return graph.forward

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.lstm = Front(), nn.LSTM(3, 4)

        def forward(self, x: Any) -> Any:
            return self.lstm(self.front(x))[0]

    module = Net().eval()
    x = torch.randn(2, 2, 3)
    expected = module(x)
    accelerate(module)
    with torch.no_grad(), torch._dynamo.config.patch(allow_rnn=allow_rnn):
        for _ in range(2):
            same(torch.compile(module, backend=backend)(x), expected)
    assert len(graphs) == 1
    assert "relu" in graphs[0]
    assert len(calls) == (0 if allow_rnn else 2)
    torch._dynamo.reset()


def test_cells_compile_as_before() -> None:
    """Dynamo takes cells, and makes one graph of a loop over them."""
    cell, x = accelerated(nn.GRUCell(3, 4).eval()), torch.randn(5, 2, 3)

    def loop(x: Any) -> Any:
        h = torch.zeros(2, 4)
        for x_t in x:
            h = cell(x_t, h)
        return h

    with torch.no_grad():
        close(torch.compile(loop, backend="eager", fullgraph=True)(x), loop(x))
    torch._dynamo.reset()


@pytest.mark.parametrize("strict", [False, True])
def test_export(model: Any, x: Any, strict: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(accelerated(model), (x,), strict=strict)
    with torch.no_grad():
        same(program.module()(x), model(x))


def test_symbolic_trace(calls: list[Any]) -> None:
    """A layer is one node of the graph, as PyTorch's own are, and runs on fastrnn in it."""

    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(3, 4)

        def forward(self, x: Any) -> Any:
            y, _ = self.layer(x)
            return 2 * y

    module = Doubled().eval()
    x = torch.randn(5, 2, 3)
    expected = module(x)
    accelerate(module)
    graph = torch.fx.symbolic_trace(module)
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["layer"]
    same(graph(x), expected)
    assert len(calls) == 1


class Init(nn.LSTM):
    """A subclass that computes as its base does."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)


class Other(nn.LSTM):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x * 2, hx)


def test_subclasses(calls: list[Any]) -> None:
    """One that only makes layers in another way is replaced; one that computes in another way is not."""
    module = nn.ModuleDict({"a": Init(3), "b": Other(3, 3), "c": nn.GRU(3, 3)})
    module["c"].forward = lambda x: x
    report = accelerate(module)
    assert report.replaced == ("a",)
    assert report.kept == {"b": "it has a forward of its own (Other)", "c": "it has a forward of its own (GRU)"}
    assert isinstance(pickle.loads(pickle.dumps(module["a"])), Init)
    module.eval()["a"](torch.randn(2, 3))
    assert len(calls) == 1


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_is_not_replaced() -> None:
    module = nn.ModuleDict({
        "old": nn.utils.parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0"),
        "quantized": torch.ao.nn.quantized.dynamic.LSTM(3, 4),
        "linear": nn.Linear(3, 4),
    })  # fmt: skip
    report = accelerate(module)
    assert report.replaced == ()
    assert report.kept == {
        "old": "its weights are computed at each call (weight_norm, parametrizations), or some are left out",
        "quantized": "torch.ao.nn.quantized.dynamic.modules.rnn.LSTM is none of torch.nn's classes",
    }
    assert str(accelerate(nn.Linear(3, 4))) == "no recurrent layers"
    assert str(accelerate(nn.GRU(3, 4))) == "(the model): replaced"


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


def test_a_layer_at_two_places(x: Any) -> None:
    layer = nn.LSTM(3, 3)
    assert accelerate(nn.Sequential(layer, layer)).replaced == ("0",)


@pytest.mark.parametrize("function", [accelerate, restore])
def test_no_module(function: Any) -> None:
    with pytest.raises(TypeError, match=r"^model: expected a torch.nn.Module, got \{\}$"):
        function({})


def test_from_torch_takes_an_accelerated_layer() -> None:
    layer = nn.LSTM(3, 4)
    assert fastrnn.from_torch(accelerated(layer)) == fastrnn.from_torch(layer)


def test_threads_are_those_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    layer = accelerated(nn.LSTM(3, 4).eval())
    original = _torch_layers._FUNCTIONS["lstm"]
    monkeypatch.setitem(
        _torch_layers._FUNCTIONS, "lstm", lambda *a, threads, **o: (asked.append(threads), original(*a, **o))[1]
    )
    before = torch.get_num_threads(), fastrnn.get_num_threads()
    for torchs, ours in [(1, 3), (3, 1), (2, 2)]:
        torch.set_num_threads(torchs)
        fastrnn.set_num_threads(ours)
        layer(torch.ones(2, 3))
    torch.set_num_threads(before[0])
    fastrnn.set_num_threads(before[1])
    assert asked == [1, 1, 2]


def test_random_numbers_are_not_used_up() -> None:
    layer = accelerated(nn.LSTM(3, 4).eval())
    torch.manual_seed(0)
    layer(torch.ones(2, 3, requires_grad=True))[0].sum().backward()
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_many_threads_while_weights_change(model: Any) -> None:
    """Each call sees the weights of before or of after, and the last one those of after."""
    layer = accelerated(nn.GRU(6, 64))
    x, first = torch.randn(9, 2, 6), {name: p.clone() for name, p in layer.state_dict().items()}
    wrong: list[Any] = []

    def work() -> None:
        with torch.no_grad():
            for _ in range(50):
                if not torch.isfinite(layer(x)[0]).all():
                    wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        layer.load_state_dict({name: p * 0.5 for name, p in first.items()})
        layer.load_state_dict(first)
    for thread in threads:
        thread.join()
    assert not wrong
    plain = nn.GRU(6, 64)
    plain.load_state_dict(first)
    with torch.no_grad():
        same(layer(x), plain(x))


def test_without_torch() -> None:
    done = run_python("""
import sys, fastrnn
sys.modules["torch"] = None
try:
    fastrnn.torch.accelerate(3)
except ImportError as error:
    print(error)
""")
    assert done.stdout == "torch: expected PyTorch, which is not installed; pip install 'fastrnn[torch]'\n", done.stderr
