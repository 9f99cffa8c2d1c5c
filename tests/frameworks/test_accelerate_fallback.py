"""Where PyTorch runs in an accelerated layer: modes, odd and wrong arguments, compilers and exporters."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import numpy as np
import pytest

from support.environment import package

torch = package("torch")

from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from fastrnn.torch import accelerate
from fastrnn.torch import layers as torch_layers
from support.torch_models import accelerated, close, flat, same

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


class Watching(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return function(*arguments, **(options or {}))


class Following(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return function(*arguments, **(options or {}))


class Subclass(torch.Tensor):
    pass


PYTORCH_RUNS = {
    "autocast": lambda layer, x: autocast(layer, x),
    "forward_ad": lambda layer, x: forward_ad(layer, x),
    "dispatch mode": lambda layer, x: watched(layer, x),
    "forward_ad of weights": lambda layer, x: forward_ad_of_weights(layer, x),
    "function mode": lambda layer, x: function_mode(layer, x),
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
    layer, x = layer.double(), x.double()  # PyTorch has no derivative of the operator that it calls for float32
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


def function_mode(layer: Any, x: Any) -> Any:
    with Following(), torch.no_grad():
        return layer(x)


def watched(layer: Any, x: Any) -> Any:
    with Watching(), torch.no_grad():
        return layer(x)


# In these cases fastrnn runs once, and PyTorch from then on.
PACKED_BEFORE = ("forward_ad", "forward_ad of weights")


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
    """Odd arguments that PyTorch takes: PyTorch runs, and fastrnn is not asked."""
    layer, x = ODD_CALLS[case]()
    layer.eval()
    ours = copy.deepcopy(layer)
    ours.__class__ = torch_layers._class_for(type(layer))
    with torch.no_grad():
        for _ in range(2):
            same(ours(x), layer(x))
    assert not calls


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
    "an index below 0": lambda layer: layer(
        PackedSequence(torch.randn(3, 4), torch.tensor([2, 1]), torch.tensor([0, 1]), torch.tensor([-1, 0])),
        (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)),
    ),
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


def test_the_default_device_is_no_mode_that_follows(calls: list[Any]) -> None:
    with torch.device("cpu"), torch.no_grad():
        accelerated(nn.LSTM(3, 4))(torch.ones(2, 3))
    assert len(calls) == 1


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
    """torch.compile compiles the code around a layer, and the layer too where Dynamo takes it; else fastrnn runs."""
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
