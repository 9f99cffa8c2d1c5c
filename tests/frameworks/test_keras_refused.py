"""Layers of Keras that can't be carried over: each is an error that names the attribute, and says why or what to do."""

from __future__ import annotations

import copy
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from support.errors import bad_calls, raises_as_said
from support.keras_layers import built, keras, layers

RELU6 = partial(keras.activations.relu, max_value=6.0)


def lstm(units: int = 4, **options: Any) -> Any:
    return built(layers.LSTM(units, **options))


def of_cells(*cells: Any) -> Any:
    return built(layers.RNN(list(cells)))


def both(layer: Any = None, backward: Any = None, **options: Any) -> Any:
    return built(layers.Bidirectional(layer or layers.LSTM(4), backward_layer=backward, **options))


def changed(layer: Any, path: str, value: Any) -> Any:
    """The layer, with an attribute of it or of what it holds set to a value."""
    *holders, name = path.split(".")
    holder = layer
    for part in holders:
        holder = getattr(holder, part)
    setattr(holder, name, value)
    return layer


def broken(layer: Any, name: str, *shape: int) -> Any:
    """The layer, with a weight of its cell of another shape, which Keras does not let pass by itself."""
    object.__setattr__(layer.cell, name, np.zeros(shape, "float32") if shape else None)
    return layer


def tanh(x: Any) -> Any:
    return keras.ops.tanh(x)


class OwnLSTM(layers.LSTM):  # type: ignore[misc]
    def call(self, *args: Any, **options: Any) -> Any:
        return 2 * super().call(*args, **options)


class OwnCell(layers.GRUCell):  # type: ignore[misc]
    def build(self, shape: Any) -> None:
        super().build(shape)


class SameLSTM(layers.LSTM):  # type: ignore[misc]
    """What a subclass may have: a name, arguments, and methods that nobody calls."""

    def __init__(self, **options: Any) -> None:
        super().__init__(4, **options)

    def get_config(self) -> dict[str, Any]:
        return {}

    def describe(self) -> str:
        return "mine"


PLAIN = lstm()
WRAPPED = wraps(PLAIN.call)(lambda *args, **options: 2)


class OldKeras:
    __module__, __qualname__ = "tf_keras.src.layers.rnn.lstm", "LSTM"


@pytest.fixture
def old_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras, "__version__", "2.15.0")


def test_subclass_that_computes_the_same() -> None:
    layer = built(SameLSTM())
    assert fastrnn.from_keras(layer).hidden_size == 4


def test_what_keras_sets_on_a_layer_is_its_own(tmp_path: Path) -> None:
    """Whatever was done with the layer: trained, saved and loaded, copied."""
    model = keras.Sequential([keras.Input((5, 3)), layers.Bidirectional(layers.GRU(4, dropout=0.5))])
    model.compile("sgd", "mse")
    model.fit(np.zeros((2, 5, 3)), np.zeros((2, 8)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    first, *others = (m.layers[0] for m in (model, loaded, keras.models.clone_model(model)))
    for layer in (first, *others, copy.deepcopy(first), changed(first, "note", tanh)):
        assert fastrnn.from_keras(layer).bidirectional


@pytest.mark.usefixtures("old_keras")
def test_old_keras_is_refused() -> None:
    with raises_as_said("TypeError", "layer: expected Bidirectional, ...of Keras 3, got ...LSTM of Keras 2.15.0"):
        fastrnn.from_keras(lstm())


# Words of the messages below that several share.
WORDS = {
    "KINDS": "Bidirectional, SimpleRNN, LSTM, GRU, RNN, StackedRNNCells, SimpleRNNCell, LSTMCell, GRUCell of Keras 3",
    "FUNCTIONS": "tanh, sigmoid, relu, softsign, hard_sigmoid, linear of keras.activations",
    "APART": "load layer.forward_layer and layer.backward_layer by themselves",
    "NOT_BUILT": "got a cell that is not built; call the layer on an input, or its build on the shape of one",
    "ANOTHER": "a layer of dtype 'float32' may take its weights, by set_weights",
    "CAST": "Keras would cast from one to the other; make all of one dtype",
    "OWN": "of its own",
    "TAKES": "that computes the same may take its weights, by set_weights",
    "ALONE": "since a direction would read its own outputs alone, while a bidirectional stack reads both",
    "EACH": "load each cell by itself",
    "RECURRENT": "layer.cell.cells[1].recurrent_activation",
    "FIRST": "that of layer.cell.cells[0]",
    "TIMES": "with which Keras joins outputs of different times",
}
# Layers, and what fastrnn.from_keras says of them.
TABLE = r"""
>>> None
TypeError: layer: expected KINDS, got NoneType
>>> keras.Sequential([lstm()])
TypeError: layer: expected KINDS, got keras.src.models.sequential.Sequential; give one of its layers
>>> layers.Dense(3)
TypeError: layer: expected KINDS, got keras.src.layers.core.dense.Dense
>>> layers.TimeDistributed(layers.Dense(3))
TypeError: layer: expected KINDS, got keras...TimeDistributed
>>> layers.ConvLSTM1D(3, 3)
TypeError: layer: expected RNN itself, got ...ConvLSTM1D, which has call, ... OWN; a plain RNN TAKES
>>> OldKeras()
TypeError: layer: expected KINDS, got tf_keras.src.layers.rnn.lstm.LSTM
>>> built(OwnLSTM(4))
TypeError: layer: expected LSTM itself, got test_keras_refused.OwnLSTM, which has call OWN; a plain LSTM TAKES
>>> built(layers.RNN(OwnCell(4)))
TypeError: layer.cell: expected GRUCell itself, got ...OwnCell, which has build OWN; a plain GRUCell TAKES
>>> changed(lstm(), "cell.call", tanh)
TypeError: layer.cell: expected LSTMCell itself, got keras...LSTMCell, which has call OWN; a plain LSTMCell TAKES
>>> changed(lstm(), "call", PLAIN.call)
TypeError: layer: expected LSTM itself, got keras...LSTM, which has call OWN; a plain LSTM TAKES
>>> changed(changed(both(), "forward_layer.build", tanh), "forward_layer.inner_loop", tanh)
TypeError: layer.forward_layer: expected LSTM itself, ... which has build, inner_loop OWN; a plain LSTM TAKES
>>> changed(of_cells(layers.LSTMCell(4), layers.LSTMCell(4)), "cell.call", WRAPPED)
TypeError: layer.cell: expected StackedRNNCells itself, got ... which has call OWN; a plain StackedRNNCells TAKES
>>> lstm(dtype="mixed_float16")
TypeError: layer.dtype_policy: expected 'float32' or 'float64', got 'mixed_float16'; ANOTHER
>>> lstm(dtype="mixed_bfloat16")
TypeError: layer.dtype_policy: expected 'float32' or 'float64', got 'mixed_bfloat16'; ANOTHER
>>> layers.LSTM(4, dtype="int8_from_float32")
TypeError: layer.dtype_policy: expected 'float32' or 'float64', got 'int8_from_float32'; ANOTHER
>>> built(layers.RNN(layers.LSTMCell(4, dtype="float64")))
TypeError: layer.cell.dtype_policy: expected 'float32', that of layer, got 'float64'; CAST
>>> both(layers.LSTM(4, dtype="float64"))
TypeError: layer.forward_layer.dtype_policy: expected 'float32', that of layer, got 'float64'; CAST
>>> layers.LSTM(4)
ValueError: layer.cell: expected weights, NOT_BUILT
>>> layers.Bidirectional(layers.GRU(4))
ValueError: layer.forward_layer.cell: expected weights, NOT_BUILT
>>> layers.SimpleRNNCell(4)
ValueError: layer: expected weights, NOT_BUILT
>>> layers.StackedRNNCells([])
ValueError: layer.cells: expected at least one cell, got none
>>> lstm(activation="gelu")
ValueError: layer.cell.activation: expected FUNCTIONS, got keras.src.activations.activations.gelu
>>> lstm(activation=tanh)
ValueError: layer.cell.activation: expected FUNCTIONS, got test_keras_refused.tanh
>>> lstm(activation=layers.ReLU(max_value=6))
ValueError: layer.cell.activation: expected FUNCTIONS, got <ReLU name=re_lu, built=True>
>>> lstm(activation=RELU6)
ValueError: layer.cell.activation: expected FUNCTIONS, got functools.partial(<function relu at ...>, max_value=6.0)
>>> lstm(recurrent_activation="silu")
ValueError: layer.cell.recurrent_activation: expected FUNCTIONS, got keras.src.activations.activations.silu
>>> both(merge_mode="sum")
ValueError: layer.merge_mode: expected 'concat', got 'sum'; APART and merge their y
>>> both(merge_mode=None)
ValueError: layer.merge_mode: expected 'concat', got None; APART and merge their y
>>> both(layers.LSTM(4, go_backwards=True), layers.LSTM(4))
ValueError: layer.forward_layer.go_backwards: expected False, got True, TIMES; APART
>>> both(layers.LSTM(4), layers.LSTM(5, go_backwards=True))
ValueError: layer.backward_layer.cell.units: expected 4, that of layer.forward_layer.cell, got 5; APART
>>> both(layers.LSTM(4), layers.GRU(4, go_backwards=True))
TypeError: layer.backward_layer.cell: expected LSTMCell, as layer.forward_layer.cell is, got GRUCell; APART
>>> both(layers.LSTM(4), layers.LSTM(4, activation="relu", go_backwards=True))
ValueError: layer.backward_layer.cell.activation: expected 'tanh', that of layer.forward_layer.cell, got 'relu'; APART
>>> both(layers.GRU(4), layers.GRU(4, reset_after=False, go_backwards=True))
ValueError: layer.backward_layer.cell.reset_after: expected True, that of layer.forward_layer.cell, got False; APART
>>> both(layers.RNN([layers.GRUCell(4), layers.GRUCell(4)]))
ValueError: layer.forward_layer.cell: expected one cell, ALONE, got 2; APART
>>> of_cells(layers.LSTMCell(4), layers.LSTMCell(5))
ValueError: layer.cell.cells[1].units: expected 4, FIRST, got 5; EACH
>>> of_cells(layers.LSTMCell(4), layers.GRUCell(4))
TypeError: layer.cell.cells[1]: expected LSTMCell, as layer.cell.cells[0] is, got GRUCell; EACH
>>> of_cells(layers.GRUCell(4), layers.GRUCell(4, activation="relu"))
ValueError: layer.cell.cells[1].activation: expected 'tanh', FIRST, got 'relu'; EACH
>>> of_cells(layers.GRUCell(4), layers.GRUCell(4, recurrent_activation="hard_sigmoid"))
ValueError: RECURRENT: expected 'sigmoid', FIRST, got 'hard_sigmoid'; EACH
>>> broken(lstm(), "kernel", 3, 15)
ValueError: layer.cell.kernel: expected (I, 16), got (3, 15)
>>> broken(lstm(), "kernel", 16)
ValueError: layer.cell.kernel: expected (I, 16), got (16,)
>>> broken(lstm(), "kernel")
ValueError: layer.cell.kernel: expected (I, 16), got None
>>> broken(lstm(), "recurrent_kernel", 5, 16)
ValueError: layer.cell.recurrent_kernel: expected (4, 16), got (5, 16)
>>> broken(lstm(), "bias", 2, 16)
ValueError: layer.cell.bias: expected (16,), got (2, 16)
>>> broken(lstm(), "bias")
ValueError: layer.cell.bias: expected (16,), got None
>>> broken(built(layers.GRU(4)), "bias", 12)
ValueError: layer.cell.bias: expected (2, 12), got (12,)
>>> broken(built(layers.GRU(4)), "bias", 1, 12)
ValueError: layer.cell.bias: expected (2, 12), got (1, 12)
>>> broken(built(layers.SimpleRNN(4)), "bias", 5)
ValueError: layer.cell.bias: expected (4,), got (5,)
>>> changed(both(), "backward_layer.go_backwards", False)
ValueError: layer.backward_layer.go_backwards: expected True, got False, TIMES; APART
"""


@pytest.mark.parametrize(("layer", "error", "message"), bad_calls(TABLE, at_least=30))
def test_bad_layers(layer: str, error: str, message: str) -> None:
    value = eval(layer)
    for word, text in WORDS.items():
        message = message.replace(word, text)
    with raises_as_said(error, message):
        fastrnn.from_keras(value)


def test_masks_of_calls_are_refused_in_words() -> None:
    """A tensor with a mask, and a layer in the place of params."""
    params = fastrnn.from_keras(layer := built(layers.LSTM(4)))
    x = layers.Masking()(np.float32([[[1, 2, 3], [4, 5, 6], [0, 0, 0]], [[1, 2, 3], [0, 0, 0], [0, 0, 0]]]))
    with pytest.raises(TypeError, match=r"^x: .* makes one; its mask is not seen: .* lengths=.*$") as caught:
        fastrnn.lstm(x, params)
    lengths = str(caught.value).rpartition("lengths=")[2]
    assert [*eval(lengths, {"numpy": np, "x": x})] == [2, 1]
    with pytest.raises(TypeError, match=r"^params: .*, got LSTM; fastrnn.from_keras\(layer\) makes them$"):
        fastrnn.lstm(np.asarray(x), layer)
