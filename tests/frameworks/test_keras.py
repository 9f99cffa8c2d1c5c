"""Layers of Keras as params: what Keras computes is what these params compute; `test_keras_refused.py` has the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from support.apart import import_tests, run_python
from support.environment import package
from support.keras_layers import built, keras, layers

CELLS = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
FORMS = ["layer", "cell", "cells", "bidirectional", "two layers"]
ACTIVATIONS = ["tanh", "sigmoid", "relu", "softsign", "hard_sigmoid", "linear", None]


@dataclass(frozen=True)
class Case:
    """How a layer of Keras is made, and what it is called on."""

    cell: str
    form: str
    sizes: tuple[int, int, int, int]  # B T I H
    dtype: str
    options: dict[str, Any]  # of a cell
    call: dict[str, Any]  # of a layer
    reverse: bool = False
    depth: int = 1  # cells
    with_state: bool = False
    seed: int = 0

    @cached_property
    def layer(self) -> Any:
        """The layer, built and with weights that `random_weights` describes."""
        kind, kind_cell = getattr(layers, CELLS[self.cell]), getattr(layers, f"{CELLS[self.cell]}Cell")
        (B, T, I, H), of = self.sizes, {"dtype": self.dtype}  # noqa: E741
        call = {**self.call, **of, "return_state": True}
        if self.form == "layer":
            layer = kind(H, **self.options, **call, go_backwards=self.reverse)
        elif self.form == "cell":
            layer = layers.RNN(kind_cell(H, **self.options, **of), **call, go_backwards=self.reverse)
        elif self.form == "cells":
            cells = [kind_cell(H, **self.options, **of) for _ in range(self.depth)]
            layer = layers.RNN(layers.StackedRNNCells(cells, **of), **call, go_backwards=self.reverse)
        else:
            other = kind(H, **self.options, **call, go_backwards=True) if self.form == "two layers" else None
            layer = layers.Bidirectional(kind(H, **self.options, **call), backward_layer=other, **of)
        layer.build((B, T, I))
        layer.set_weights(random_weights(layer, self.seed))
        return layer

    @cached_property
    def data(self) -> tuple[np.ndarray, Any]:
        """The input and the state."""
        rng = np.random.default_rng(self.seed)
        B, T, I, H = self.sizes  # noqa: E741
        x, h, c = (rng.uniform(-1, 1, shape).astype(self.dtype) for shape in ((B, T, I), *2 * [(self.rows, B, H)]))
        return x, ((h, c) if self.cell == "lstm" else h) if self.with_state else None

    @property
    def rows(self) -> int:
        """States of a sequence: cells in all."""
        return 2 if self.form in ("bidirectional", "two layers") else self.depth

    def run(self, **call: Any) -> list[np.ndarray]:
        """y, h_n and for an LSTM c_n, from the layer's params."""
        call = {"return_sequences": self.call["return_sequences"], **call}
        x, state = self.data
        y, final = getattr(fastrnn, self.cell)(x, fastrnn.from_keras(self.layer), state, **call)
        return [y, *(final if self.cell == "lstm" else (final,))]

    def keras(self, mask: np.ndarray | None = None) -> list[np.ndarray]:
        """The same from Keras, with y in the order of x, and states as these params have them."""
        x, state = self.data
        y, *final = self.layer(x, initial_state=keras_state(self, state), mask=mask, training=False)
        y, *flat = (keras.ops.convert_to_numpy(part) for part in (y, *keras.tree.flatten(final)))
        if self.reverse and self.call["return_sequences"]:
            y = y[:, ::-1]
        kinds = 2 if self.cell == "lstm" else 1  # h c h c ..: by cell, forward before backward
        return [y, *(np.stack(flat[kind::kinds]) for kind in range(kinds))]

    def tolerance(self, expected: list[np.ndarray], dtype: str = "float32") -> float:
        """How far Keras and these params may be apart, with u the unit roundoff and m the largest number.

        The terms of a sum are at most 3/2 m in all, and weights are so small that a step passes on less of an error
        than it got. A sum of some 20 terms and the activations after it are rounded some 30 times, at
        random: about 6 u m here, and as much in Keras. u is float32's even in a layer of float64, since the products of
        matrices are float32 in Keras, but in TensorFlow and in PyTorch's path for whole layers: see `test_float64`.
        """
        return float(16 * np.finfo(dtype).eps / 2 * max(1.0, *(np.abs(part).max() for part in expected)))


def random_weights(layer: Any, seed: int) -> list[np.ndarray]:
    """For set_weights: the weights of one sum have absolute values of at most 1/2 in W, in U and in the biases."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-0.5, 0.5, w.shape) / (w.shape[0] if "kernel" in w.path else 4) for w in layer.weights]


def keras_state(case: Case, state: Any) -> list[Any] | None:
    """States in Keras's nesting: a list for each cell of a list of cells, else one list."""
    if state is None:
        return None
    by_cell = [list(parts) for parts in zip(*(state if case.cell == "lstm" else (state,)))]
    return by_cell if case.form == "cells" else [part for parts in by_cell for part in parts]


@st.composite
def cases(draw: Any, forms: Sequence[str] = FORMS, of: Sequence[str] = ("rnn", "lstm", "gru"), **fixed: Any) -> Case:
    """Layers of every cell, form, option, size and dtype; many options do nothing in a call without training."""
    cell, form = draw(st.sampled_from(of)), draw(st.sampled_from(forms))
    options: dict[str, Any] = {
        "activation": draw(st.sampled_from(ACTIVATIONS)),
        "use_bias": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.5])),
        "recurrent_dropout": draw(st.sampled_from([0.0, 0.5])),
        "kernel_constraint": draw(st.sampled_from([None, "non_neg"])),
        "bias_regularizer": draw(st.sampled_from([None, "l2"])),
        "trainable": draw(st.booleans()),
    }
    if cell != "rnn":
        options["recurrent_activation"] = draw(st.sampled_from(ACTIVATIONS))
        options["implementation"] = draw(st.sampled_from([1, 2]))
    if cell == "lstm":
        options["unit_forget_bias"] = draw(st.booleans())
    if cell == "gru":
        options["reset_after"] = draw(st.booleans())
    call = {name: draw(st.booleans()) for name in ("return_sequences", "unroll")}
    return Case(
        cell,
        form,
        sizes=(draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 9)), draw(st.integers(1, 17))),
        dtype=draw(st.sampled_from(["float32", "float64"])),
        options=options,
        call=call | fixed,
        reverse=form in ("layer", "cell", "cells") and draw(st.booleans()),
        depth=draw(st.integers(2, 3)) if form == "cells" else 1,  # test_list_of_one_cell has depth 1
        with_state=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def assert_close(got: list[np.ndarray], expected: list[np.ndarray], limit: float) -> None:
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= limit


@given(case=cases())
def test_layer(case: Case) -> None:
    expected = case.keras()
    assert_close(case.run(), expected, case.tolerance(expected))


@given(case=cases(["layer", "bidirectional", "two layers"], ["lstm", "gru"]))
def test_float64(case: Case) -> None:
    """The cases in which Keras rounds nothing to float32."""
    if keras.backend.backend() == "torch":
        options = case.options | {"recurrent_dropout": 0.0} | ({"reset_after": True} if case.cell == "gru" else {})
        case = replace(case, dtype="float64", options=options)
        expected = case.keras()
        assert_close(case.run(), expected, case.tolerance(expected, "float64"))


@pytest.mark.parametrize("form", ["cell", "StackedRNNCells"])
@pytest.mark.parametrize("cell", CELLS)
def test_cell(cell: str, form: str) -> None:
    """A cell outside of a layer is one step."""
    cells = [getattr(layers, f"{CELLS[cell]}Cell")(5) for _ in range(2 if form == "StackedRNNCells" else 1)]
    layer = cells[0] if form == "cell" else layers.StackedRNNCells(cells)
    layer.build((None, 3))
    layer.set_weights(random_weights(layer, 1))
    rng = np.random.default_rng(2)
    x, *states = (rng.uniform(-1, 1, shape).astype("float32") for shape in ((4, 3), *2 * [(len(cells), 4, 5)]))
    states = states[: 2 if cell == "lstm" else 1]
    by_cell = [list(parts) for parts in zip(*states)]
    expected, _ = layer(x, by_cell[0] if form == "cell" else by_cell)
    y, _ = getattr(fastrnn, cell)(
        x[np.newaxis], fastrnn.from_keras(layer), tuple(states) if cell == "lstm" else states[0]
    )
    assert_close([y[0]], [keras.ops.convert_to_numpy(expected)], 1e-6)


def test_list_of_one_cell() -> None:
    """Keras itself can't run a list of one cell unrolled or with a mask."""
    cell = layers.GRUCell(4)
    assert fastrnn.from_keras(built(layers.RNN([cell]))) == fastrnn.from_keras(built(layers.RNN(cell)))


@given(case=cases(unroll=False), zeros=st.booleans())
def test_masks_of_padding_are_lengths(case: Case, zeros: bool) -> None:
    """Past a row's end y is 0, as in Keras with zero_output_for_mask; without it Keras repeats the last output."""
    layer, sequences = case.layer, case.call["return_sequences"]
    bidirectional = isinstance(layer, layers.Bidirectional)
    if not bidirectional:
        layer.zero_output_for_mask = zeros and sequences  # as Bidirectional sets it
    B, T, _, _ = case.sizes
    lengths = np.random.default_rng(case.seed).integers(0, T + 1, B)
    lengths[0] = T  # so that every step is a step of some row
    mask = np.arange(T) < lengths[:, np.newaxis]
    expected = case.keras(mask)
    if sequences and not bidirectional and not zeros:
        if not case.reverse:
            assert all((y[n:] == (y[n - 1] if n else 0)).all() for y, n in zip(expected[0], lengths))
        expected[0] = np.where(mask[..., np.newaxis], expected[0], 0)
    got = case.run(lengths=lengths)
    if not sequences:  # for a row without steps Keras gives 0, and params the initial state
        for y in got[0], expected[0]:
            y[lengths == 0] = 0
    assert_close(got, expected, case.tolerance(expected))


def test_stateful_layer() -> None:
    """What a stateful layer holds is a state here; a stream goes on as such a layer does."""
    layer = layers.LSTM(5, return_sequences=True, stateful=True)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 6, 3)).astype("float32")
    layer(x[:, :4])
    params, state = fastrnn.from_keras(layer), [keras.ops.convert_to_numpy(part)[np.newaxis] for part in layer.states]
    expected = keras.ops.convert_to_numpy(layer(x[:, 4:]))
    y, _ = fastrnn.lstm(x[:, 4:], params, tuple(state))
    assert np.abs(y - expected).max() < 1e-6
    stream = fastrnn.Stream(params, batch_size=2)
    stream.state = tuple(state)
    assert np.array_equal(stream.run(x[:, 4:]), y)


def test_weights_are_those_of_the_moment() -> None:
    layer = built(layers.LSTM(4))
    before, again = fastrnn.from_keras(layer), fastrnn.from_keras(layer)
    layer.set_weights([w + 1 for w in layer.get_weights()])
    after = fastrnn.from_keras(layer)
    assert before == again != after
    assert np.array_equal(after.weights["weight_ih_l0"], layer.get_weights()[0].T)
    assert np.array_equal(before.weights["weight_ih_l0"] + 1, after.weights["weight_ih_l0"])


def test_dtype_is_that_of_the_arithmetic() -> None:
    """A policy that is changed after the weights were made: Keras casts them in each call."""
    layer = built(layers.LSTM(4))
    layer.dtype_policy = layer.cell.dtype_policy = "float64"
    assert layer.get_weights()[0].dtype == np.float32
    assert fastrnn.from_keras(layer).dtype == np.float64


def test_reload(tmp_path: Path) -> None:
    """A model from a file has the same functions for activations."""
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.GRU(5, activation="softsign", recurrent_activation="relu")]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert fastrnn.from_keras(loaded.layers[0]) == fastrnn.from_keras(model.layers[0])


def test_keras_is_not_imported() -> None:
    code = "import sys, fastrnn; fastrnn.from_keras; assert 'keras' not in sys.modules; fastrnn.from_keras(1)"
    result = run_python(code)
    assert "TypeError: layer: expected Bidirectional, SimpleRNN, " in result.stderr
    assert result.stderr.strip().endswith("GRUCell of Keras 3, got int")


def test_numpy_backend() -> None:
    """Weights are read, and the tests above pass, whatever computes in Keras."""
    for needed in ("scipy", "jax"):  # by that backend
        package(needed)
    code = """if True:
        import warnings
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        assert tests.keras.backend.backend() == "numpy"
        tests.test_layer()
        tests.test_masks_of_padding_are_lengths()
        print("passed")"""
    code = f"import support.profiles\n{import_tests(__name__)}{code}"
    result = run_python(code, KERAS_BACKEND="numpy", HYPOTHESIS_PROFILE="quick")
    assert result.stdout.strip() == "passed", result.stderr


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_bias_that_is_turned_off_after_the_build(kind: str) -> None:
    """In a call, LSTMCell and GRUCell ask `use_bias`, and SimpleRNNCell asks whether it has a bias."""
    layer = built(layers.RNN(getattr(layers, f"{kind}Cell")(4, bias_initializer="random_normal")))
    layer.cell.use_bias = False
    x = np.random.default_rng(0).uniform(-1, 1, (2, 5, 3)).astype("float32")
    params = fastrnn.from_keras(layer)
    assert ("bias_ih_l0" in params.weights) == (kind == "SimpleRNN")
    function = {"SimpleRNN": fastrnn.rnn, "LSTM": fastrnn.lstm, "GRU": fastrnn.gru}[kind]
    y, _ = function(x, params, batch_first=True)
    np.testing.assert_allclose(y[:, -1], keras.ops.convert_to_numpy(layer(x)), atol=1e-6)


@pytest.mark.parametrize("precision", ["float16", "int8", "int8_fast"])
def test_precision(precision: Any) -> None:
    layer = built(layers.GRU(5))
    assert fastrnn.from_keras(layer, precision=precision) == fastrnn.from_keras(layer).to(precision)
    with pytest.raises(ValueError, match="dtype: expected float32 with precision="):
        fastrnn.from_keras(built(layers.GRU(5, dtype="float64")), precision=precision)
