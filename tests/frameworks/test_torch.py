"""Layers taken over from PyTorch: random modules of every option, state_dicts, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.apart import run_python
from support.environment import package
from support.errors import bad_calls, raises_as_said
from support.torch_models import cells, close, layers, torch

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
nn = torch.nn
prune = package("torch.nn.utils.prune")

FUNCTIONS = {"RNN": fastrnn.rnn, "LSTM": fastrnn.lstm, "GRU": fastrnn.gru}


@given(layer=layers(), T=st.integers(1, 9), B=st.integers(1, 5), by_state_dict=st.booleans())
def test_layer(layer: Any, T: int, B: int, by_state_dict: bool) -> None:
    source = layer.state_dict() if by_state_dict else layer
    relu = getattr(layer, "nonlinearity", None)
    told = {"nonlinearity": relu, "batch_first": layer.batch_first} if by_state_dict else {}
    params = fastrnn.from_torch(source, **told)
    assert (params.num_layers, params.proj_size) == (layer.num_layers, layer.proj_size)
    x = torch.randn((B, T) if layer.batch_first else (T, B), dtype=layer.weight_ih_l0.dtype).unsqueeze(-1)
    x = x * torch.randn(layer.input_size, dtype=x.dtype)
    with torch.no_grad():
        y, state = layer(x)
    function = FUNCTIONS[type(layer).__name__]
    ours, our_state = function(x.numpy(), params)
    close(ours, y)
    for a, b in zip(our_state, state, strict=True):
        close(a, b)


@given(cell=cells(), B=st.integers(1, 5))
def test_cell(cell: Any, B: int) -> None:
    params = fastrnn.from_torch(cell)
    dtype = cell.weight_ih.dtype
    x, h = torch.randn(B, cell.input_size, dtype=dtype), torch.randn(B, cell.hidden_size, dtype=dtype)
    with torch.no_grad():
        if isinstance(cell, nn.LSTMCell):
            expected = cell(x, (h, h))[0]
            _, (ours, _) = fastrnn.lstm(x.numpy()[None], params, (h.numpy()[None], h.numpy()[None]))
        else:
            expected = cell(x, h)
            _, ours = FUNCTIONS[type(cell).__name__[:3]](x.numpy()[None], params, h.numpy()[None])
    close(ours[0], expected)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"lstm": nn.LSTM(3, 4, 2)})
        self.decoder = nn.GRUCell(4, 5)
        self.head = nn.Linear(5, 2)


def test_layer_of_a_model() -> None:
    """By its name in the model, or by the prefix of its names in the model's state_dict, with a dot or without."""
    model = Model()
    expected = fastrnn.from_torch(model.encoder["lstm"])
    for source in (model, model.state_dict()):
        for prefix in ("encoder.lstm", "encoder.lstm."):
            assert fastrnn.from_torch(source, prefix) == expected
        assert fastrnn.from_torch(source, "decoder") == fastrnn.from_torch(model.decoder)
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert fastrnn.from_torch(arrays, "encoder.lstm") == expected


def test_names_of_others() -> None:
    layer = nn.GRU(3, 4)
    both = layer.state_dict() | {"head.weight": torch.ones(2), "embedding": torch.ones(3), "weight": torch.ones(1)}
    assert fastrnn.from_torch(both) == fastrnn.from_torch(layer)


class Tagger(nn.Module):
    """A model with one recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tagger = nn.LSTM(3, 4, 2, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.tagger(x)[0])


def test_the_only_layer_needs_no_prefix() -> None:
    tagger = Tagger()
    expected = fastrnn.from_torch(tagger.tagger)
    state = tagger.state_dict()
    for source in (tagger, state, {"epoch": 3, "state_dict": state}, {"best": {"model": state}, "optimizer": {0: {}}}):
        assert fastrnn.from_torch(source) == fastrnn.from_torch(source, "tagger") == expected


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda model: torch.compile(nn.DataParallel(model))])
def test_wrappers(wrap: Any) -> None:
    """What wrappers put before names may be left out, or be there where a model is not wrapped."""
    plain = Model()
    model, expected = wrap(plain), fastrnn.from_torch(plain, "encoder.lstm")
    for source in (model, model.state_dict()):
        assert fastrnn.from_torch(source, "encoder.lstm") == expected
        assert fastrnn.from_torch(source, "decoder.") == fastrnn.from_torch(plain.decoder)
    assert fastrnn.from_torch(plain, "module.encoder.lstm") == expected
    assert fastrnn.from_torch(wrap(plain.decoder)) == fastrnn.from_torch(plain.decoder)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_scripted() -> None:
    for layer in (nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True), nn.GRUCell(3, 4), nn.RNN(3, 4, 1, "relu")):
        assert fastrnn.from_torch(torch.jit.script(layer)) == fastrnn.from_torch(layer)
    relu = nn.RNNCell(3, 4, nonlinearity="relu")
    assert fastrnn.from_torch(torch.jit.script(relu)) == fastrnn.from_torch(relu)
    tagger = Tagger().eval()
    traced = torch.jit.trace(tagger, torch.ones(5, 2, 3))
    assert fastrnn.from_torch(torch.jit.script(tagger)) == fastrnn.from_torch(tagger)
    assert fastrnn.from_torch(traced, batch_first=False) == fastrnn.from_torch(tagger)
    with pytest.raises(ValueError, match=r"^batch_first: .* which a traced module does not tell"):
        fastrnn.from_torch(traced)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_and_target(stored: Any, dtype: str) -> None:
    layer = nn.GRU(3, 4, dtype=stored)
    wider = copy.deepcopy(layer).to(getattr(torch, dtype))
    for source in (layer, layer.state_dict()):
        params = fastrnn.from_torch(source, dtype=dtype, target="scalar")
        assert params == fastrnn.from_torch(wider)
        assert params.target == "scalar"


def test_params_are_a_copy() -> None:
    layer = nn.GRU(3, 4)
    params = fastrnn.from_torch(layer)
    before = copy.deepcopy(layer)
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
    assert params == fastrnn.from_torch(before) != fastrnn.from_torch(layer)


def test_computed_weights() -> None:
    """weight_norm replaces a parameter by a weight that is computed from others."""
    layer = nn.utils.parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(2)
        x = torch.randn(5, 2, 3)
        close(fastrnn.lstm(x.numpy(), fastrnn.from_torch(layer))[0], layer(x)[0])


@pytest.mark.parametrize("training", [False, True])
def test_reading_computed_weights_changes_nothing(training: bool) -> None:
    """spectral_norm takes a step towards its norm whenever it is asked in training."""
    layer = nn.utils.parametrizations.spectral_norm(nn.GRU(3, 4), "weight_hh_l0").train(training)
    before = copy.deepcopy(layer.state_dict())
    params = fastrnn.from_torch(layer)
    assert all(torch.equal(a, b) for a, b in zip(layer.state_dict().values(), before.values(), strict=True))
    assert [module.training for module in layer.modules()] == [training] * len([*layer.modules()])
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        close(fastrnn.gru(x.numpy(), params)[0], layer.eval()(x)[0])


def test_the_mode_of_a_layer() -> None:
    """PyTorch goes by the mode of a layer, not by the nonlinearity that is kept beside it."""
    layer = nn.RNN(3, 4).eval()
    layer.mode = "RNN_RELU"
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        close(fastrnn.rnn(x.numpy(), fastrnn.from_torch(layer))[0], layer(x)[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "GRUCell"])
def test_an_attribute_of_that_name_is_no_option(kind: str) -> None:
    """A user's own attribute `nonlinearity` on an LSTM or GRU changes nothing, taken over or accelerated."""
    layer = getattr(nn, kind)(3, 4).eval()
    expected = fastrnn.from_torch(layer)
    layer.nonlinearity = "relu"
    assert fastrnn.from_torch(layer) == expected
    ours, x = copy.deepcopy(layer), torch.randn(5, 3)
    fastrnn.torch.accelerate(ours)
    with torch.no_grad():
        a, b = ours(x), layer(x)
        close(a if kind == "GRUCell" else a[0], b if kind == "GRUCell" else b[0])


class Permuting(nn.LSTM):
    def permute_hidden(self, hx: Any, permutation: Any) -> Any:
        return hx


class Init(nn.LSTM):
    """A subclass that computes as its base does."""


class Other(nn.LSTM):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return super().forward(x * 2, hx)


def test_subclasses() -> None:
    layer = Init(3, 4)
    assert fastrnn.from_torch(layer) == fastrnn.from_torch(layer.state_dict())


lstm, gru, rnn, model = nn.LSTM(3, 4), nn.GRU(3, 4), nn.RNN(3, 4), Model()
unknown = {**lstm.state_dict(), "weight_ch_l0": torch.ones(3)}
odd = {"weight_ih": np.ones((10, 3)), "weight_hh": np.ones((10, 5))}
half = nn.LSTM(3, 4, dtype=torch.bfloat16)
meta = nn.LSTM(3, 4, device="meta")
pruned = prune.l1_unstructured(nn.LSTM(3, 4), "weight_hh_l0", amount=0.5)
whole = {name: tensor.int() for name, tensor in lstm.state_dict().items()}
params, x, h = fastrnn.from_torch(lstm), torch.ones(5, 2, 3), torch.ones(1, 2, 4, requires_grad=True)
sparse = nn.Module()
sparse.cell = nn.GRUCell(3, 4)
sparse.cell._parameters["weight_ih"] = sparse.cell.weight_ih.detach().to_sparse()

BAD_CALLS = """
>>> from_torch(3)
TypeError: module_or_state_dict: expected a torch.nn.Module or a state_dict, got 3
>>> from_torch(lstm, 3)
TypeError: prefix: expected text, got 3
>>> from_torch(lstm.state_dict(), 3)
TypeError: prefix: expected text, got 3
>>> from_torch(model)
ValueError: prefix: expected one of 'encoder.lstm', 'decoder', got ''
>>> from_torch(model, "encoder")
ValueError: prefix: expected one of 'encoder.lstm', 'decoder', got 'encoder'
>>> from_torch(model.state_dict())
ValueError: prefix: expected one of 'encoder.lstm.', 'decoder.', got ''
>>> from_torch(model.head)
ValueError: module_or_state_dict: expected a module that holds recurrent layers, got torch.nn.modules.linear.Linear
>>> from_torch(model.head.state_dict())
ValueError: module_or_state_dict: expected names of recurrent weights such as 'weight_ih_l0', got 'weight', 'bias'
>>> from_torch({})
ValueError: module_or_state_dict: expected names of recurrent weights such as 'weight_ih_l0', got no entries
>>> from_torch(unknown)
ValueError: module_or_state_dict: expected one recurrent layer under '', got 'weight_ch_l0' too
>>> from_torch(Other(3, 4))
ValueError: module_or_state_dict: expected a torch.nn.LSTM, got Other, ...; its state_dict() has the weights
>>> from_torch(Permuting(3, 4))
ValueError: module_or_state_dict: expected a torch.nn.LSTM, got Permuting, ...; its state_dict() has the weights
>>> from_torch(pruned)
ValueError: weight_hh_l0: expected a parameter, got what a hook computes before each call; ...
>>> from_torch(sparse, "cell")
ValueError: weight_ih: expected a dense tensor, got one that is sparse or negated when it is read
>>> from_torch(rnn.state_dict())
ValueError: nonlinearity: expected 'tanh' or 'relu', which the state_dict of an RNN does not tell, got None
>>> from_torch(rnn.state_dict(), nonlinearity="gelu")
ValueError: nonlinearity: expected 'tanh' or 'relu', which the state_dict of an RNN does not tell, got 'gelu'
>>> from_torch(gru.state_dict(), nonlinearity="tanh")
ValueError: nonlinearity: expected None, since the layer is of kind 'gru', got 'tanh'
>>> from_torch(rnn, nonlinearity="relu")
ValueError: nonlinearity: expected 'tanh' or None, which the module tells, got 'relu'
>>> from_torch(gru, nonlinearity="tanh")
ValueError: nonlinearity: expected None, which the module tells, got 'tanh'
>>> from_torch(half)
TypeError: weight_ih_l0: expected float32 or float64, got torch.bfloat16; dtype='float32' converts the weights, ...
>>> from_torch(whole)
TypeError: weight_ih_l0: expected float32 or float64, got torch.int32; .float() converts it
>>> from_torch("model.pt")
TypeError: ..., got 'model.pt'; from_torch(torch.load(path, map_location='cpu', weights_only=True)) reads a file
>>> from_torch("model.safetensors")
TypeError: ..., got 'model.safetensors'; fastrnn.load(path, cell) reads a file
>>> from_torch(lstm.weight_hh_l0)
TypeError: ..., got Parameter; from_torch takes the whole layer, by its module or its state_dict()
>>> from_torch({"model": lstm.state_dict(), "ema": lstm.state_dict()})
ValueError: ...: expected one state_dict, got ['model'], ['ema']; give one: state_dict['model']
>>> from_torch({"epoch": 3, "state_dict": model.state_dict()})
ValueError: prefix: expected one of 'encoder.lstm.', 'decoder.', got ''
>>> from_torch(lstm, dtype="float16")
TypeError: dtype: expected float32, float64 or None, got 'float16'
>>> from_torch(lstm, target="AVX")
ValueError: target: ...
>>> fastrnn.lstm(x, params)
TypeError: x: expected a numpy.ndarray, got Tensor; x.numpy() makes one
>>> fastrnn.lstm(x.double().requires_grad_(), params)
TypeError: x: expected a numpy.ndarray, got Tensor; x.detach().float().numpy() makes one
>>> fastrnn.lstm(x.transpose(0, 2), params)
TypeError: x: expected a numpy.ndarray, got Tensor; x.contiguous().numpy() makes one
>>> fastrnn.lstm(x.bfloat16().requires_grad_(), params)
TypeError: x: expected a numpy.ndarray, got Tensor; x.detach().float().numpy() makes one
>>> fastrnn.lstm(x.to("meta"), params)
TypeError: x: expected a numpy.ndarray, got Tensor; x.cpu().numpy() makes one
>>> fastrnn.lstm(x.numpy(), params, (h, h))
TypeError: state[0] (h): expected a numpy.ndarray, got Tensor; state[0].detach().numpy() makes one
>>> fastrnn.lstm(x.numpy(), lstm)
TypeError: params: expected LSTMParams or a mapping of weights, got LSTM; fastrnn.from_torch(module) makes them
>>> fastrnn.Stream(lstm)
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got LSTM; fastrnn.from_torch(module) makes them
>>> from_torch(meta)
ValueError: weight_ih_l0: expected a tensor on the CPU, got one on meta; .cpu() brings it there
>>> from_torch(odd)
ValueError: weight_hh: expected (H, H) of an RNN, (3 * H, H) of a GRU or (4 * H, H) of an LSTM, got (10, 5)
>>> from_torch({"weight_ih_l0": np.ones((4, 3))})
ValueError: weights: missing 'weight_hh_l0', got 'weight_ih_l0'
"""


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(BAD_CALLS, at_least=18))
def test_bad_calls(call: str, error: str, message: str) -> None:
    with raises_as_said(error, message):
        eval(call, globals() | {"from_torch": fastrnn.from_torch})


def test_importing_fastrnn_imports_no_framework() -> None:
    done = run_python("""
import sys, fastrnn
assert not {"torch", "keras", "onnx", "onnxruntime", "safetensors", "tensorflow"} & set(sys.modules)
assert not {"fastrnn.torch", "fastrnn.keras", "fastrnn.onnx", "fastrnn.files"} & set(sys.modules)
import numpy as np
fastrnn.from_torch({"weight_ih": np.ones((3, 2)), "weight_hh": np.ones((3, 1))})
assert "torch" not in sys.modules
""")
    assert done.returncode == 0, done.stderr
