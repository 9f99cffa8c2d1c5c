"""PyTorch's dynamically quantized layers: their weights are carried exactly, or refused in words."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.environment import package
from support.errors import raises_as_said

torch = package("torch")

from torch import nn

from fastrnn.torch import accelerate, restore
from fastrnn.torch import file as torch_file
from support.torch_models import counting, same

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.nn.quantized import dynamic
    from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver, QConfig, quantize_dynamic
    from torch.ao.quantization.qconfig import default_dynamic_qconfig, float16_dynamic_qconfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.*deprecated"),
    pytest.mark.filterwarnings("ignore:.*reduce_range:UserWarning"),
]

KINDS = ("LSTM", "GRU", "LSTMCell", "GRUCell", "RNNCell")
HAS_HALVES = torch.backends.quantized.engine in ("x86", "fbgemm")  # others pack no halves
NARROW = ["int8", "int8_fast", "float16"]


def config(observer: Any, scheme: Any, least: int, most: int) -> Any:
    weight = observer.with_args(dtype=torch.qint8, qscheme=scheme, quant_min=least, quant_max=most)
    return QConfig(activation=default_dynamic_qconfig.activation, weight=weight)


# Of the weights. Integers less a zero point other than 0 fit bytes where the observer uses half of all numbers.
CONFIGS = {
    "tensor": config(MinMaxObserver, torch.per_tensor_symmetric, -128, 127),
    "tensor, moved": config(MinMaxObserver, torch.per_tensor_affine, -63, 63),
    "rows": config(PerChannelMinMaxObserver, torch.per_channel_symmetric, -128, 127),
    "rows, moved": config(PerChannelMinMaxObserver, torch.per_channel_affine, -63, 63),
}
HALVES = {"halves": float16_dynamic_qconfig} if HAS_HALVES else {}


def quantized(layer: Any, qconfig: Any = CONFIGS["rows"]) -> Any:
    """What PyTorch makes of a layer, which stays as it is."""
    return quantize_dynamic(nn.Sequential(layer.eval()), {type(layer): qconfig})[0]


def made(kind: str = "LSTM", qconfig: Any = CONFIGS["rows"], inputs: int = 9, hidden: int = 20, **options: Any) -> Any:
    torch.manual_seed(0)
    return quantized(getattr(nn, kind)(inputs, hidden, **options), qconfig)


def unfit(kind: str = "LSTM") -> Any:
    """One of weights from 0 to 1, whose integers are from 0 to 255 less their zero point."""
    torch.manual_seed(2)
    layer = getattr(nn, kind)(9, 20)
    for parameter in layer.parameters():
        parameter.data.abs_()
    return quantized(layer, config(MinMaxObserver, torch.per_tensor_affine, -128, 127))


def is_cell(layer: Any) -> bool:
    return type(layer).__name__.endswith("Cell")


def parts(layer: Any) -> dict[str, Any]:
    """Tensors by PyTorch's names, as PyTorch's own unpacking operators give them."""
    found = {}

    def add(suffix: str, pair: Any) -> None:
        for kind, packed in zip(("ih", "hh"), pair, strict=True):
            halves = not packed.__getstate__()[0][0].is_quantized
            operators = torch.ops.quantized
            weight, bias = (operators.linear_unpack_fp16 if halves else operators.linear_unpack)(packed)
            found.update({f"weight_{kind}{suffix}": weight, f"bias_{kind}{suffix}": bias.detach()})

    if is_cell(layer):
        add("", [layer._packed_weight_ih, layer._packed_weight_hh])
        return found
    values = iter(layer._all_weight_values)
    for number in range(layer.num_layers):
        for suffix in ("", "_reverse")[: 1 + layer.bidirectional]:
            add(f"_l{number}{suffix}", next(values).param.__getstate__()[0][-1])
    return found


def widened(layer: Any) -> Any:
    """A float64 layer of `torch.nn` with the weights that a quantized layer has."""
    plain = getattr(nn, type(layer).__name__)
    names = ("bias",) if is_cell(layer) else ("num_layers", "bidirectional", "batch_first")
    options = {name: getattr(layer, name) for name in (*names, "nonlinearity") if hasattr(layer, name)}
    wide = plain(layer.input_size, layer.hidden_size, **options).double()
    floats = {name: tensor.dequantize() if tensor.is_quantized else tensor for name, tensor in parts(layer).items()}
    wide.load_state_dict({name: tensor.double() for name, tensor in floats.items()})
    return wide.eval()


def given_to(layer: Any, T: int = 30, B: int = 3) -> Any:
    torch.manual_seed(1)
    if is_cell(layer):
        return torch.randn(B, layer.input_size)
    return torch.randn(*((B, T) if layer.batch_first else (T, B)), layer.input_size)


def first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def by_fastrnn(params: Any, layer: Any, x: Any) -> Any:
    if is_cell(layer):
        return fastrnn.run(x.numpy()[None], params)[0][0]
    return fastrnn.run(x.numpy(), params)[0]


def error(y: Any, exact: Any) -> float:
    """Root mean square relative to the exact one's."""
    y, exact = np.asarray(y, np.float64), np.asarray(exact)
    return float(np.sqrt(np.square(y - exact).mean() / np.square(exact).mean()))


# Weights.


@st.composite
def layers(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(KINDS))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    inputs, hidden = draw(st.sampled_from([1, 3, 16, 40])), draw(st.sampled_from([1, 2, 5, 16, 17, 33]))
    options: dict[str, Any] = {}
    if kind == "RNNCell":
        options = {"nonlinearity": draw(st.sampled_from(["tanh", "relu"]))}
    elif not kind.endswith("Cell"):
        options = {"num_layers": draw(st.integers(1, 3))}
        options |= {name: draw(st.booleans()) for name in ("bidirectional", "batch_first")}
    config = draw(st.sampled_from([*(CONFIGS | HALVES).values()]))
    return quantized(getattr(nn, kind)(inputs, hidden, **options), config)


@given(layer=layers(), T=st.integers(1, 9), B=st.integers(1, 5))
def test_weights_are_carried(layer: Any, T: int, B: int) -> None:
    """Integers, scales, halves and biases are the same numbers, and so are the options; results are close."""
    params, expected = fastrnn.from_torch(layer), parts(layer)
    held = params.weights
    assert type(params).__name__.removesuffix("Params") == type(layer).__name__.removesuffix("Cell")
    assert params.batch_first == getattr(layer, "batch_first", False)
    assert params.bidirectional == getattr(layer, "bidirectional", False)
    for name, tensor in expected.items():
        if not tensor.is_quantized:
            assert held[name].dtype == ("float32" if name.startswith("bias") else "float16")
            np.testing.assert_array_equal(held[name].astype("f4"), tensor.numpy())
            continue
        rows = "channel" in str(tensor.qscheme())
        zeros = tensor.q_per_channel_zero_points().numpy()[:, None] if rows else tensor.q_zero_point()
        scales = tensor.q_per_channel_scales().numpy() if rows else tensor.q_scale()
        assert held[name].dtype == np.int8
        np.testing.assert_array_equal(held[name], tensor.int_repr().numpy().astype(int) - zeros)
        np.testing.assert_array_equal(held[f"{name}_scale"], np.broadcast_to(np.float32(scales), len(tensor)))
    assert len(held) == sum(1 + tensor.is_quantized for tensor in expected.values())
    if layer.__class__.__name__ == "RNNCell":
        assert f"activation={layer.nonlinearity!r}" in repr(params) or layer.nonlinearity == "tanh"
    x = given_to(layer, T, B)
    with torch.no_grad():
        exact = first(widened(layer)(x.double())).numpy()
    assert np.abs(by_fastrnn(params, layer, x) - exact).max() < 2e-3 * max(1, np.abs(exact).max())


@pytest.mark.parametrize("name", CONFIGS | HALVES)
@pytest.mark.parametrize("kind", KINDS)
def test_errors(kind: str, name: str) -> None:
    """They are smaller than PyTorch's, whose inputs have 7 or 8 bits, and far below those of narrow weights."""
    layer = made(kind, (CONFIGS | HALVES)[name], 64, 96)
    x = given_to(layer, 100, 4)
    params = fastrnn.from_torch(layer)
    with torch.no_grad():
        exact, theirs = first(widened(layer)(x.double())), first(layer(x))
    ours = error(by_fastrnn(params, layer, x), exact)
    assert ours < (1e-6 if name == "halves" else 3e-4)
    if name != "halves":
        assert ours < 0.1 * error(theirs, exact)
        fast = error(by_fastrnn(params.to("int8_fast"), layer, x), exact)
        assert fast < min(1.5e-2, error(theirs, exact))


def test_precisions() -> None:
    """Bytes stay the same bytes; others hold the floats that PyTorch dequantizes to."""
    layer = made(num_layers=2)
    params = fastrnn.from_torch(layer)
    assert params.precision == "int8"
    assert fastrnn.from_torch(layer, dtype="float32") == params
    assert fastrnn.from_torch(layer, precision="int8_fast") == params.to("int8_fast")
    floats = {name: tensor.dequantize().numpy() for name, tensor in parts(layer).items()}
    wide = fastrnn.LSTMParams(floats)
    assert fastrnn.from_torch(layer, precision="float32") == wide == params.to("float32")
    assert fastrnn.from_torch(layer, precision="float16") == wide.to("float16")
    double = fastrnn.LSTMParams(floats, dtype="float64")
    assert fastrnn.from_torch(layer, precision="float64") == fastrnn.from_torch(layer, dtype="float64") == double
    with raises_as_said("ValueError", "dtype: expected float32 with precision='int8', got float64; ..."):
        fastrnn.from_torch(layer, dtype="float64", precision="int8")


@pytest.mark.skipif(not HAS_HALVES, reason="this engine of PyTorch packs no halves")
def test_precisions_of_halves() -> None:
    layer = made("GRU", HALVES["halves"])
    params = fastrnn.from_torch(layer)
    wide = fastrnn.GRUParams({name: tensor.numpy() for name, tensor in parts(layer).items()})
    assert params.precision == "float16"
    assert params == wide.to("float16") == fastrnn.from_torch(layer, dtype="float32")
    assert fastrnn.from_torch(layer, precision="float32") == wide
    assert fastrnn.from_torch(layer, precision="int8") == wide.to("int8")
    assert fastrnn.from_torch(layer, dtype="float64").precision == "float64"


# Where layers are.


def test_models_scripts_traces_and_files() -> None:
    layer = made("GRU", batch_first=True, bidirectional=True, num_layers=2)
    cell = made("RNNCell", nonlinearity="relu")
    params, of_cell = fastrnn.from_torch(layer), fastrnn.from_torch(cell)
    assert params.batch_first
    model = nn.ModuleDict({"a": layer, "b": nn.ModuleDict({"c": cell, "d": nn.GRU(9, 20)})})
    assert fastrnn.from_torch(model, "a") == params
    assert fastrnn.from_torch(model, "b.c") == of_cell
    assert fastrnn.from_torch(model, "b.d").precision == "float32"
    with raises_as_said("ValueError", "prefix: expected one of 'a', 'b.c', 'b.d', got ''"):
        fastrnn.from_torch(model)
    assert fastrnn.from_torch(nn.Sequential(layer)) == params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted, traced = torch.jit.script(layer), torch.jit.trace(layer, given_to(layer))
        of_script = torch.jit.script(cell)
    for source in (scripted, traced):
        assert fastrnn.from_torch(source) == params
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = io.BytesIO()
            torch.jit.save(source, file)
            file.seek(0)
            assert fastrnn.from_torch(torch.jit.load(file)) == params
    assert fastrnn.from_torch(of_script) == of_cell
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fastrnn.from_torch(torch.load(file, weights_only=False), "a") == params


def test_loaded_weights() -> None:
    layer, other = made(), quantized(nn.LSTM(9, 20))
    layer.load_state_dict(other.state_dict())
    assert fastrnn.from_torch(layer) == fastrnn.from_torch(other)


# What is refused.


def test_state_dicts() -> None:
    """They do not tell whether two packed weights are two layers or two directions."""
    model = nn.ModuleDict({"a": made(), "b": made("GRUCell"), "c": nn.GRU(9, 20)})
    state = model.state_dict()
    expected = (
        "module_or_state_dict: expected tensors under {0}, got the packed weights of a dynamically quantized layer"
    )
    cure = "; from_torch(model, {0}) takes its module"
    for prefix in ("a", "b", "a."):
        with raises_as_said("ValueError", (expected + cure).format(repr(prefix[0]))):
            fastrnn.from_torch(state, prefix)
    with raises_as_said("ValueError", (expected + cure).format("'b'")):
        fastrnn.from_torch({"epoch": 3, "state_dict": nn.ModuleDict({"b": model["b"]}).state_dict()})
    with raises_as_said("ValueError", (expected + cure).format("''")):
        fastrnn.from_torch(made().state_dict())
    assert fastrnn.from_torch(state, "c") == fastrnn.from_torch(model["c"]) == fastrnn.from_torch(state)


def test_files_of_state_dicts(tmp_path: Any) -> None:
    path = str(tmp_path / "a.pt")
    torch.save(made().state_dict(), path)
    got = "got packed weights, as those of quantized layers are; load them into their model, and fastrnn.from_torch..."
    with raises_as_said("ValueError", f"{path}: expected tensors alone ..., {got}"):
        torch_file.state_dict(path)
    with raises_as_said("ValueError", "path: expected a file of weights in .safetensors or .npz, got ..."):
        fastrnn.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_integers_that_bytes_do_not_hold(kind: str) -> None:
    """They are an error, or become other bytes, by the rule of params of floats."""
    layer = unfit(kind)
    expected, first_name = "expected integers from -128 to 127, less their zero point", next(iter(parts(layer)))
    cure = "requantize=True of its loader rounds its floats to other bytes"
    floats = fastrnn.from_torch(layer, precision="float32")  # which need no other bytes
    for precision in ("int8", "int8_fast"):
        with raises_as_said("ValueError", f"{first_name}: {expected}, got some from ... to 255; {cure}"):
            fastrnn.from_torch(layer, precision=precision)
        assert fastrnn.from_torch(layer, precision=precision, requantize=True) == floats.to(precision)
    with pytest.raises(ValueError, match="requantize=True"):
        fastrnn.from_torch(layer)
    assert fastrnn.from_torch(layer, requantize=True).precision == "int8"
    with raises_as_said("TypeError", "requantize: expected True or False, got int"):
        fastrnn.from_torch(layer, requantize=1)


def test_matrices_that_fit_are_not_rounded_anew() -> None:
    layer = unfit()
    weight, bias = layer._all_weight_values[0].param.__getstate__()[0][-1][1].__getstate__()[0]
    whole = torch.quantize_per_tensor(weight.dequantize(), 0.01, 0, torch.qint8)
    pairs = [
        dynamic.modules.rnn.pack_weight_bias(tensor, bias, torch.qint8)
        for tensor in (parts(layer)["weight_ih_l0"], whole)
    ]
    make = torch.ops.quantized.make_quantized_cell_params_dynamic
    layer._all_weight_values[0].param = make(*pairs, bias, bias, True)
    held = fastrnn.from_torch(layer, requantize=True).weights
    np.testing.assert_array_equal(held["weight_hh_l0"], whole.int_repr().numpy())
    assert held["weight_ih_l0_scale"].std() > 0
    assert set(held["weight_hh_l0_scale"]) == {np.float32(0.01)}


def test_what_is_no_dynamic_layer() -> None:
    class Own(dynamic.LSTM):
        def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
            return super().forward(2 * input, hx)

    said = (
        "module_or_state_dict: expected a torch.ao.nn.quantized.dynamic.LSTM, got Own, which computes in its own way..."
    )
    with raises_as_said("ValueError", said):
        fastrnn.from_torch(Own(3, 4))
    assert accelerate(Own(3, 4)).kept == {"": "it has a forward of its own (Own)"}
    projected = quantized(nn.LSTM(3, 4, proj_size=2))  # which PyTorch itself can't run
    with raises_as_said("ValueError", "weight_hh_l0: ..."):
        fastrnn.from_torch(projected)
    static = torch.ao.nn.quantizable.LSTM(3, 4)
    with raises_as_said(
        "ValueError", "module_or_state_dict: expected a module that holds recurrent layers, got torch..."
    ):
        fastrnn.from_torch(static)


# Accelerated models.


@pytest.mark.parametrize("name", ["rows", *HALVES])
@pytest.mark.parametrize("kind", KINDS)
def test_accelerated(kind: str, name: str) -> None:
    """Results are those of the params that are carried, in the form that PyTorch's have."""
    layer = made(kind, (CONFIGS | HALVES)[name])
    x, original = given_to(layer), copy.deepcopy(layer)
    for precision in (None, *NARROW):
        report = accelerate(layer, precision=precision)
        assert (report.replaced, report.kept, report.trained) == (("",), {}, ())
        with counting() as calls:
            result = layer(x)
            assert len(calls) == 1
        params = fastrnn.from_torch(original, precision=precision)
        np.testing.assert_array_equal(first(result).numpy(), by_fastrnn(params, layer, x))
        theirs = original(x)
        assert type(result) is type(theirs)
        assert first(result).stride() == first(theirs).stride()
    accelerate(layer)
    for other in (copy.deepcopy(layer), through_a_file(layer)):
        assert isinstance(other, type(original))
        np.testing.assert_array_equal(first(other(x)).numpy(), first(layer(x)).numpy())
    restore(layer)
    assert type(layer) is type(original)
    assert not [name for name in vars(layer) if "fastrnn" in name]
    assert torch.equal(first(layer(x)), first(original(x)))


def through_a_file(layer: Any) -> Any:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(file, weights_only=False)


@pytest.mark.parametrize("batch_first", [False, True])
def test_accelerated_layers_with_states_and_packed_sequences(batch_first: bool) -> None:
    layer = made(batch_first=batch_first, bidirectional=True, num_layers=2)
    wide, x = widened(layer), given_to(layer)
    accelerate(layer)
    h, c = torch.randn(4, 3, 20), torch.randn(4, 3, 20)
    lengths = torch.tensor([7, 30, 11])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    for data, state in ((x, None), (x, (h, c)), (packed, None), (packed, (h, c))):
        with torch.no_grad(), counting() as calls:
            result = layer(data, state)
            assert len(calls) == 1
            double = data.double() if data is x else data._replace(data=data.data.double())
            expected = wide(double, None if state is None else (h.double(), c.double()))
        for ours, theirs in zip(tensors(result), tensors(expected), strict=True):
            assert error(ours, theirs) < 1e-3


def tensors(result: Any) -> list[Any]:
    y, states = result
    return [y if isinstance(y, torch.Tensor) else y.data, *states]


def test_where_pytorch_runs() -> None:
    """Inputs of which a gradient is wanted, dropout in training, and wrong arguments, with PyTorch's errors."""
    layer = made(num_layers=2, dropout=0.5)
    original, x = copy.deepcopy(layer), given_to(layer)
    accelerate(layer)
    with counting() as calls:
        same(layer(x.clone().requires_grad_()), original(x.clone().requires_grad_()))
        layer.train()(x)
        layer.eval()
        assert not calls
        for wrong in (x[:, 0], x[..., 1:], x.double()):
            with pytest.raises(Exception) as theirs:  # noqa: PT011
                original(wrong)
            with pytest.raises(type(theirs.value)) as ours:
                layer(wrong)
            assert str(ours.value).splitlines()[0] == str(theirs.value).splitlines()[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(layer)
        assert torch.equal(scripted(x)[0], original(x)[0])
        assert not calls


def test_other_weights_are_noticed() -> None:
    layer, other, wrong = made("GRU"), quantized(nn.GRU(9, 20)), unfit("GRU")
    x = given_to(layer)
    accelerate(layer)
    layer(x)
    layer.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(layer(x)[0].numpy(), by_fastrnn(fastrnn.from_torch(other), layer, x))
    layer.load_state_dict(wrong.state_dict())
    with counting() as calls:
        assert torch.equal(layer(x)[0], wrong(x)[0])
        assert not calls


def test_report() -> None:
    model = nn.ModuleDict({"a": made(), "b": unfit("GRUCell"), "c": nn.LSTM(3, 4)})
    for _ in range(2):
        lines = str(accelerate(model)).splitlines()
        assert lines[:2] == ["a: replaced", "c: replaced"]
        assert lines[2].startswith(
            "b: kept, since weight_ih: expected integers from -128 to 127, less their zero point"
        )
        assert lines[3:] == ["trained on fastrnn: c"]
    assert type(model["b"]) is dynamic.GRUCell
    assert accelerate(model, precision="float16").replaced == ("a", "b", "c")
