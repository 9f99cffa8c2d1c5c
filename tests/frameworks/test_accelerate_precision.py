"""PyTorch models whose recurrent layers run with narrow weights where no gradient is wanted."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import fastrnn
from support.environment import package
from support.errors import raises_as_said

torch = package("torch")

from torch import nn

from fastrnn.torch import Report, accelerate, restore
from support.torch_models import counting

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

NARROW = ["float16", "int8", "int8_fast"]
LAYERS = {
    "rnn": lambda: nn.RNN(9, 20, nonlinearity="relu"),
    "lstm": lambda: nn.LSTM(9, 20, num_layers=2, bidirectional=True),
    "projected": lambda: nn.LSTM(9, 20, proj_size=5),
    "gru": lambda: nn.GRU(9, 20, batch_first=True),
    "cell": lambda: nn.GRUCell(9, 20),
}


def made(kind: str = "gru") -> Any:
    torch.manual_seed(0)
    return LAYERS[kind]().eval()


def given(kind: str = "gru") -> Any:
    torch.manual_seed(1)
    return torch.randn(3, 9) if kind == "cell" else torch.randn(7, 3, 9)


def output(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("kind", LAYERS)
def test_results_are_those_of_narrow_params(kind: str, precision: Any) -> None:
    """To the bit; and where a gradient is wanted, those of PyTorch."""
    layer, x = made(kind), given(kind)
    params = fastrnn.from_torch(layer, precision=precision)
    before, state = copy.deepcopy(layer.state_dict()), layer(x)
    report = accelerate(layer, precision=precision)
    assert (report.replaced, report.kept, report.trained, report.precision) == (("",), {}, (), precision)
    with torch.no_grad(), counting() as calls:
        y = output(layer(x)).numpy()
        assert len(calls) == 1
    expected = fastrnn.run(x.numpy()[None] if kind == "cell" else x.numpy(), params)[0]
    np.testing.assert_array_equal(y, expected[0] if kind == "cell" else expected)
    with counting() as calls:
        result = layer(x)
        assert not calls
    torch.testing.assert_close(output(result), output(state), rtol=0, atol=0)
    output(result).sum().backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_where_nothing_requires_a_gradient() -> None:
    """Frozen weights need no torch.no_grad()."""
    layer, x = made().requires_grad_(False), given()
    accelerate(layer, precision="int8")
    with counting() as calls:
        layer(x)
        assert len(calls) == 1
        layer(x.requires_grad_())
        assert len(calls) == 1


def test_dropout_is_pytorchs() -> None:
    layer, x = nn.LSTM(9, 20, num_layers=2, dropout=0.5), given()
    accelerate(layer, precision="int8")
    with torch.no_grad(), counting() as calls:
        layer(x)
        assert not calls
        layer.eval()(x)
        assert len(calls) == 1


def test_changed_weights_are_made_narrow_anew() -> None:
    layer, x = made(), given()
    accelerate(layer, precision="int8")
    with torch.no_grad():
        before = layer(x)[0]
        layer.weight_hh_l0.mul_(-1)
        after = layer(x)[0].numpy()
        np.testing.assert_array_equal(after, fastrnn.run(x.numpy(), fastrnn.from_torch(layer, precision="int8"))[0])
        assert not np.array_equal(before.numpy(), after)
        layer.weight_hh_l0.fill_(torch.nan)  # which int8 does not hold: PyTorch runs
        with counting() as calls:
            assert layer(x)[0].isnan().any()
            assert not calls


def test_copies_and_pickles_keep_the_precision() -> None:
    layer, x = made(), given()
    accelerate(layer, precision="int8_fast")
    with torch.no_grad():
        y = layer(x)[0]
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(other(x)[0], y)


def test_another_precision_and_restore() -> None:
    layer, x = made(), given()
    with torch.no_grad():
        plain = layer(x)[0]
        results = []
        for precision in (*NARROW, None):
            report = accelerate(layer, precision=precision)
            assert report.precision == precision
            assert report.trained == (("",) if precision is None else ())
            results.append(layer(x)[0])
        assert len({y.numpy().tobytes() for y in results}) == 4
        assert (results[-1] - plain).abs().max() < 1e-6
        accelerate(layer, precision="int8")
        restore(layer)
        assert torch.equal(layer(x)[0], plain)
    assert type(layer) is nn.GRU
    assert not [name for name in vars(layer) if "fastrnn" in name]


def test_report() -> None:
    double, nan = nn.LSTM(3, 4).double(), nn.GRU(3, 4)
    nan.weight_hh_l0.data[0] = torch.nan
    model = nn.ModuleDict({"encoder": nn.LSTM(3, 4), "decoder": double, "nan": nan})
    report = accelerate(model, precision="int8")
    assert str(report).splitlines() == [
        "encoder: replaced",
        "decoder: kept, since its weights are not all float32 on the CPU, as int8 wants them",
        "nan: kept, since weight_hh_l0: expected finite numbers for int8, got NaN or infinity",
        "int8 where no gradient is wanted, as under torch.no_grad(), and PyTorch elsewhere: encoder",
    ]
    assert type(double) is nn.LSTM
    assert Report(("a",)).precision is None
    large = nn.RNN(3, 4)
    large.weight_ih_l0.data[1, 2] = 7e4
    assert list(accelerate(large, precision="float16").kept) == [""]
    assert accelerate(large, precision="int8").replaced == ("",)


def test_wrong_precisions() -> None:
    with raises_as_said("ValueError", "precision: expected one of float16, int8, int8_fast, got 'float32'..."):
        accelerate(made(), precision="float32")  # type: ignore[arg-type]
    with raises_as_said("TypeError", "precision: expected a name or None, got 8"):
        accelerate(made(), precision=8)  # type: ignore[arg-type]


# Loading.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_checkpoints_of_16_bits(dtype: str) -> None:
    """They load with a precision, or with a dtype; float16 ones are held exactly by float16."""
    layer = made("lstm").to(getattr(torch, dtype))
    wide = fastrnn.from_torch(copy.deepcopy(layer).float())
    state = layer.state_dict()
    for source in (layer, state):
        assert fastrnn.from_torch(source, dtype="float32") == wide
        for precision in NARROW:
            assert fastrnn.from_torch(source, precision=precision) == wide.to(precision)
        with raises_as_said("TypeError", f"weight_ih_l0: expected float32 or float64, got torch.{dtype}; dtype=..."):
            fastrnn.from_torch(source)
    if dtype == "float16":
        held = fastrnn.from_torch(state, precision="float16").weights
        for name, tensor in state.items():
            np.testing.assert_array_equal(held[name], tensor.numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_safetensors_of_16_bits(dtype: str, tmp_path: Any) -> None:
    package("safetensors")
    from safetensors.torch import save_file

    layer = made("lstm").to(getattr(torch, dtype))
    save_file({f"a.{name}": tensor for name, tensor in layer.state_dict().items()}, tmp_path / "a.safetensors")
    for precision in NARROW:
        loaded = fastrnn.load(tmp_path / "a.safetensors", "lstm", "a.", precision=precision)
        assert loaded == fastrnn.from_torch(layer, precision=precision)
