"""PyTorch models whose recurrent layers run on fastrnn: the same results, gradients and objects."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.apart import run_python
from support.environment import package

torch = package("torch")

from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from fastrnn.torch import Report, accelerate, restore, training
from fastrnn.torch import layers as torch_layers
from fastrnn.torch.modules import PLAIN_CLASSES
from support.torch_models import STEPS, accelerated, cells, close, counting, flat, layer_calls, same

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


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
    """Results of fastrnn with gradients, of weights, inputs and states."""
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
        if ours_ is not None:  # a gradient sums products over steps and rows: their errors add up
            scale = max(1.0, float(theirs.abs().max()))
            assert float((ours_ - theirs).abs().max()) <= {4: 1e-5, 8: 1e-12}[theirs.itemsize] * scale


def test_gradients_are_those_of_eval_mode() -> None:
    """A gradient in eval mode, also where the layer was put into training mode before backward."""
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


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_model(model: Any, x: Any, calls: list[Any], mode: Any) -> None:
    with mode():
        expected = model(x)
        report = accelerate(model)
        assert report == Report(("lstm", "cell"), {}, ("lstm", "cell"))
        assert str(report) == "lstm: replaced\ncell: replaced\ntrained on fastrnn: lstm, cell"
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

    assert accelerate(BidirectionalLSTM()) == Report(("rnn",), {}, ("rnn",))


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


class Init(nn.LSTM):
    """A subclass that computes as its base does."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)


class Other(nn.LSTM):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x * 2, hx)


def test_subclasses(calls: list[Any]) -> None:
    """A subclass that only constructs layers in another way is replaced; one that computes in another way is not."""
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
        "quantizable": torch.ao.nn.quantizable.LSTMCell(3, 4),
        "linear": nn.Linear(3, 4),
    })  # fmt: skip
    report = accelerate(module)
    assert report.replaced == ()
    assert report.kept == {
        "old": "its weights are computed at each call (weight_norm, parametrizations), or some are left out",
        "quantizable": "torch.ao.nn.quantizable.modules.rnn.LSTMCell is none of torch.nn's classes",
    }
    assert str(accelerate(nn.Linear(3, 4))) == "no recurrent layers"
    assert str(accelerate(nn.GRU(3, 4))) == "(the model): replaced\ntrained on fastrnn: (the model)"


class Scaled(torch.Tensor):
    """As quantized and sharded weights are: a class of tensors that computes in its own way."""


def test_weights_of_another_class_are_reported(calls: list[Any]) -> None:
    layer = nn.GRU(3, 4).eval()
    layer.weight_hh_l0 = nn.Parameter(layer.weight_hh_l0.detach().as_subclass(Scaled))
    report = accelerate(nn.Sequential(layer))
    why = f"its weights are of {__name__}.Scaled, a tensor that computes in its own way"
    assert report.kept == {"0": why}
    with torch.no_grad():
        layer(torch.randn(2, 3))
    assert not calls


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own tests
@pytest.mark.parametrize("kind", PLAIN_CLASSES)
def test_pytorchs_own_samples(kind: str, calls: list[Any]) -> None:
    """The modules and inputs that PyTorch tests its own modules with."""
    pytest.importorskip("expecttest", reason="torch.testing._internal imports it")
    from torch.testing._internal.common_modules import module_db

    entries = [entry for entry in module_db if entry.module_cls is getattr(nn, kind)]
    assert entries
    for entry in entries:
        options = {"device": "cpu", "dtype": torch.float32, "requires_grad": False, "training": False}
        for sample in entry.module_inputs_func(entry, **options):
            layer = entry.module_cls(*sample.constructor_input.args, **sample.constructor_input.kwargs).eval()
            ours, given = accelerated(layer), sample.forward_input
            assert fastrnn.from_torch(ours).hidden_size == layer.hidden_size
            with torch.no_grad():
                same(ours(*given.args, **given.kwargs), layer(*given.args, **given.kwargs))
    assert calls


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


@pytest.fixture
def thread_counts() -> Iterator[None]:
    before = torch.get_num_threads(), fastrnn.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    fastrnn.set_num_threads(before[1])


@pytest.mark.usefixtures("thread_counts")
@pytest.mark.parametrize("wanted", [False, True])
def test_threads_are_those_of_both(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    asked: list[int] = []
    layer = accelerated(nn.LSTM(3, 4).eval()).requires_grad_(wanted)
    original = training.vjp if wanted else torch_layers._FUNCTIONS["lstm"]

    def noted(*arguments: Any, threads: int, **options: Any) -> Any:
        asked.append(threads)
        return original(*arguments, threads=threads, **options)

    monkeypatch.setitem(torch_layers._FUNCTIONS, "lstm", noted)
    monkeypatch.setattr(training, "vjp", noted)
    for torchs, ours in [(1, 3), (3, 1), (2, 2)]:
        torch.set_num_threads(torchs)
        fastrnn.set_num_threads(ours)
        layer(torch.ones(2, 3))
    assert asked == [1, 1, 2]


def test_random_numbers_are_not_used_up() -> None:
    layer = accelerated(nn.LSTM(3, 4).eval())
    torch.manual_seed(0)
    layer(torch.ones(2, 3, requires_grad=True))[0].sum().backward()
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_without_torch() -> None:
    done = run_python("""
import sys, fastrnn
sys.modules["torch"] = None
try:
    fastrnn.torch.accelerate(3)
except ImportError as error:
    print(error)
""")
    assert done.stdout == "fastrnn.torch: expected the package torch, which is not installed; pip install torch\n", (
        done.stderr
    )
