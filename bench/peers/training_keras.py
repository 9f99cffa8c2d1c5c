"""Keras on JAX in training: layers of Keras, compiled by `jax.jit` together with their `jax.vjp`."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np

from bench.cases import Array
from bench.peers.peer import Call, Unable
from bench.training.cases import TrainingCase, TrainingData

# Gates in the order in which Keras has them, by their place in the order of bench/cases.py.
ORDER = {"rnn": [0], "lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}
COMPILED = "jit"


class KerasOnJax:
    """Weights are arguments of the compiled function, as an optimiser passes them, and no constants."""

    title = "Keras on JAX"

    def __init__(self, threads: int) -> None:
        os.environ["KERAS_BACKEND"] = "jax"
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        # JAX has as many threads as there are processors to run on. No extra has it, so its types are not known either.
        self.jax, self.keras = import_module("jax"), import_module("keras")

    def about(self) -> dict[str, str]:
        return {"version": f"{self.keras.__version__}, JAX {self.jax.__version__}"}

    def forms(self, case: TrainingCase) -> list[str]:
        if case.P or case.bi or case.cells:
            raise Unable("is timed without projections, two directions and loops over cells")
        if case.f64:
            raise Unable("has float64 only where all of a process has it")
        return [COMPILED]

    def build(self, case: TrainingCase, data: TrainingData, form: str) -> Call:
        jax, layers = self.jax, self.layers(case)
        mask = None if not case.ragged else np.arange(case.T) < case.lengths[:, np.newaxis]
        others = [[variable.value for variable in layer.non_trainable_variables] for layer in layers]

        def forward(weights: Any, x: Any, state: Any) -> Any:
            y = x
            for number, layer in enumerate(layers):
                initial = [state[name][number] for name in case.state_shapes] or None
                y, _ = layer.stateless_call(weights[number], others[number], y, initial_state=initial, mask=mask)
            return y

        def step(weights: Any, x: Any, state: Any, dy: Any) -> Any:
            if case.frozen:
                y, pullback = jax.vjp(lambda *arguments: forward(weights, *arguments), x, state)
                return y, (None, *pullback(dy))
            y, pullback = jax.vjp(forward, weights, x, state)
            return y, pullback(dy)

        weights = [weights_of_layer(case, data.weights, number) for number in range(case.L)]
        x, dy = (array.swapaxes(0, 1).copy() for array in (data.x, data.dy))  # Keras has rows first
        compiled, arguments = jax.jit(step), jax.tree.map(jax.numpy.asarray, (weights, x, data.state, dy))
        return lambda: jax.block_until_ready(compiled(*arguments))

    def layers(self, case: TrainingCase) -> list[Any]:
        kinds = self.keras.layers
        options = {"reset_after": case.cell == "gru"} if case.function == "gru" else {}
        kind = {"rnn": kinds.SimpleRNN, "lstm": kinds.LSTM, "gru": kinds.GRU}[case.function]
        layers = [kind(case.H, return_sequences=True, **options) for _ in case.inputs]
        for layer, inputs in zip(layers, case.inputs):
            layer.build((case.B, case.T, inputs))
        return layers

    def gradients(self, case: TrainingCase, result: Any) -> dict[str, Array]:
        weights, x, state = result[1]
        found = {"x": np.asarray(x).swapaxes(0, 1), **{name: np.asarray(array) for name, array in state.items()}}
        for number, arrays in enumerate(weights or []):
            found |= gradients_of_layer(case, [np.asarray(array) for array in arrays], number)
        return found


def weights_of_layer(case: TrainingCase, weights: dict[str, Array], number: int) -> list[Array]:
    """A layer's kernel, recurrent kernel and bias, as Keras has them."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    W, U, *biases = (reordered(weights[f"{name}_l{number}"], ORDER[case.function]) for name in names)
    return [W.T.copy(), U.T.copy(), np.array(biases) if case.cell == "gru" else biases[0] + biases[1]]


def gradients_of_layer(case: TrainingCase, gradients: list[Array], number: int) -> dict[str, Array]:
    """The reverse; each of two biases that Keras has the sum of has that sum's gradient."""
    dW, dU, dbias = gradients
    both = list(dbias) if case.cell == "gru" else [dbias, dbias]
    named = {"weight_ih": dW.T, "weight_hh": dU.T, "bias_ih": both[0], "bias_hh": both[1]}
    back = list(np.argsort(ORDER[case.function]))
    return {f"{name}_l{number}": reordered(array, back) for name, array in named.items()}


def reordered(array: Array, order: list[int]) -> Array:
    """The same with its gates, which are equal parts of its rows, in this order."""
    return np.concatenate([np.split(array, len(order))[place] for place in order])
