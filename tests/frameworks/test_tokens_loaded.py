"""Embeddings taken over from PyTorch and Keras beside the layers that read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.keras_layers import keras
from support.torch_models import close, layers, torch

nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def with_embedding(layer: Any, **options: Any) -> Any:
    emb = nn.Embedding(11, layer.input_size, dtype=layer.weight_ih_l0.dtype, **options)
    return nn.ModuleDict({"emb": emb, "rnn": layer})


# PyTorch.


@given(layer=layers(), T=st.integers(1, 9), B=st.integers(1, 5), by_state_dict=st.booleans(), padding=st.booleans())
def test_torch_model(layer: Any, T: int, B: int, by_state_dict: bool, padding: bool) -> None:
    model = with_embedding(layer, padding_idx=2 if padding else None, sparse=not padding)
    told = {"nonlinearity": getattr(layer, "nonlinearity", None), "batch_first": layer.batch_first}
    source = model.state_dict() if by_state_dict else model
    params = fastrnn.from_torch(source, "rnn", embedding="emb", **(told if by_state_dict else {}))
    np.testing.assert_array_equal(params.embedding, model["emb"].weight.detach().numpy())
    tokens = torch.randint(0, 11, (B, T) if layer.batch_first else (T, B))
    with torch.no_grad():
        y, _ = layer(model["emb"](tokens))
    close(fastrnn.run(tokens.numpy(), params)[0], y)


def test_torch_names() -> None:
    model = with_embedding(nn.LSTM(3, 5))
    params = fastrnn.from_torch(model, "rnn", embedding="emb")
    state = {"epoch": 3, "model": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}}
    for source, name in ((model, "emb.weight"), (model.state_dict(), "emb.weight"), (state, "emb")):
        assert fastrnn.from_torch(source, "rnn", embedding=name) == params
    assert fastrnn.from_torch(model, "rnn", embedding="one-hot").embedding == "one-hot"
    assert fastrnn.from_torch(model, "rnn").embedding is None
    narrow = fastrnn.from_torch(model.half(), "rnn", embedding="emb", precision="float16")
    assert narrow.weights["embedding"].dtype == np.float32


@pytest.mark.filterwarnings("ignore:torch.*deprecated", "ignore:.*reduce_range:UserWarning")
def test_torch_quantized_layer() -> None:
    model = with_embedding(nn.LSTM(3, 5)).eval()
    emb = model["emb"].weight.detach().numpy().copy()
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM})
    params = fastrnn.from_torch(quantized, "rnn", embedding="emb")
    np.testing.assert_array_equal(params.embedding, emb)
    assert params.precision == "int8"


class Own(nn.Embedding):  # type: ignore[name-defined, misc]
    def forward(self, tokens: Any) -> Any:
        return 2 * super().forward(tokens)


@pytest.mark.parametrize(
    ("emb", "name", "said"),
    [
        (nn.Embedding(4, 3, max_norm=1.0), "emb", "embedding: expected max_norm None, since .*, got 1.0; renormalise"),
        (Own(4, 3), "emb", "embedding: expected a torch.nn.Embedding, whose forward looks rows up, got Own of 'emb'"),
        (nn.EmbeddingBag(4, 3), "emb", "embedding: expected a torch.nn.Embedding, .*, got EmbeddingBag of 'emb'"),
        (nn.Embedding(4, 3), "words", "embedding: expected one of 'emb', 'one-hot', got 'words'"),
        (nn.Embedding(4, 2), "emb", r"embedding: expected \(V, 3\), a row for each token, got \(4, 2\)"),
    ],
)
def test_torch_refuses(emb: Any, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fastrnn.from_torch(nn.ModuleDict({"emb": emb, "rnn": nn.LSTM(3, 5)}), "rnn", embedding=name)


def test_torch_gradients() -> None:
    """PyTorch's autograd in float64, through the embedding."""
    model = with_embedding(nn.GRU(3, 5, num_layers=2, bidirectional=True).double())
    params = fastrnn.from_torch(model, "rnn", embedding="emb")
    tokens = torch.randint(0, 9, (7, 4))
    y, _ = model["rnn"](model["emb"](tokens))
    dy = torch.randn(y.shape, dtype=y.dtype)
    y.backward(dy)
    gradients = fastrnn.vjp(tokens.numpy(), params)[1](dy.numpy())
    np.testing.assert_allclose(gradients.weights["embedding"], model["emb"].weight.grad.numpy(), rtol=0, atol=1e-12)


# Keras.


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("masked", [False, True])
def test_keras_model(kind: str, masked: bool) -> None:
    words = keras.layers.Embedding(11, 3, mask_zero=masked)
    layer = getattr(keras.layers, kind)(5, return_sequences=True, zero_output_for_mask=True)
    tokens = np.random.default_rng(0).integers(1, 11, (4, 6))
    tokens[1, 4:] = tokens[3, 2:] = 0
    expected = keras.ops.convert_to_numpy(layer(words(tokens)))
    params = fastrnn.from_keras(layer, embedding=words)
    lengths = (tokens != 0).sum(axis=1) if masked else None
    assert np.abs(fastrnn.run(tokens, params, lengths=lengths)[0] - expected).max() < 1e-6
    assert fastrnn.from_keras(layer, embedding="one-hot").embedding == "one-hot"


def test_keras_lora() -> None:
    words, layer = keras.layers.Embedding(11, 3), keras.layers.LSTM(5, return_sequences=True)
    tokens = np.random.default_rng(0).integers(0, 11, (4, 6))
    words(tokens)
    words.enable_lora(2)
    words.lora_embeddings_b.assign(np.ones((2, 3)))
    expected = keras.ops.convert_to_numpy(layer(words(tokens)))
    params = fastrnn.from_keras(layer, embedding=words)
    assert np.abs(fastrnn.run(tokens, params)[0] - expected).max() < 1e-6


def test_keras_refuses() -> None:
    layer = keras.layers.LSTM(5)
    layer.build((None, None, 3))
    words = keras.layers.Embedding(4, 3)
    with pytest.raises(ValueError, match="embedding: expected weights, got a layer that is not built"):
        fastrnn.from_keras(layer, embedding=words)
    with pytest.raises(TypeError, match=r"embedding: expected Embedding of Keras 3, got .*Dense"):
        fastrnn.from_keras(layer, embedding=keras.layers.Dense(3))
    half = keras.layers.Embedding(4, 3, dtype="float16")
    half.build()
    with pytest.raises(TypeError, match=r"embedding\.dtype_policy: expected 'float32', that of layer, got 'float16'"):
        fastrnn.from_keras(layer, embedding=half)
    with pytest.raises(ValueError, match="embedding: expected an array or 'one-hot', got 'emb'"):
        fastrnn.from_keras(layer, embedding="emb")
