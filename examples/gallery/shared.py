"""What pages and `examples/min_char_rnn.py` share: first weights, losses, an optimiser, a layer with a linear head."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import fastrnn

LAYERS = {"rnn": (fastrnn.RNNParams, 1), "gru": (fastrnn.GRUParams, 3), "lstm": (fastrnn.LSTMParams, 4)}  # and G


def example(path):
    """What a file of another example defines, by its path in `examples`."""
    return SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / path)))


def uniform(rng, hidden, **shapes):
    """First weights as the field sets them: uniform in ±1/√H."""
    return {name: (rng.uniform(-1, 1, shape) / hidden**0.5).astype("float32") for name, shape in shapes.items()}


def one_hot(ids, count):
    """A 1 at the place that each id names; an id of -1 is all zeros."""
    return (np.asarray(ids)[..., np.newaxis] == np.arange(count)).astype("float32")


def softmax(logits):
    """Probabilities, which sum to 1."""
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def softmax_loss(logits, targets):
    """The mean of -ln of the probability of each target, and its gradient with respect to the logits.

    A target of -1 asks for nothing.
    """
    p, hit = softmax(logits), one_hot(targets, logits.shape[-1])
    asked = hit.any(axis=-1)
    return float(-np.log(p[hit > 0]).mean()), (p - hit) * asked[..., np.newaxis] / np.float32(asked.sum())


def squared_loss(outputs, targets):
    """The mean of the squared errors, and its gradient with respect to the outputs."""
    error = outputs - targets
    return float(np.mean(error**2)), 2 * error / error.size


def clip(gradients, largest):
    """Scale all gradients together, where their norm is larger than this (Pascanu et al., 2013)."""
    norm = float(sum(np.sum(g**2) for g in gradients.values())) ** 0.5
    return {name: g * min(1.0, largest / norm) for name, g in gradients.items()} if norm else gradients


class Adam:
    """The optimiser of Kingma and Ba (2015), over a dictionary of weights."""

    def __init__(self, rate):
        self.rate, self.step, self.means, self.squares = rate, 0, {}, {}

    def __call__(self, weights, gradients):
        """New weights."""
        self.step += 1
        rate = self.rate * (1 - 0.999**self.step) ** 0.5 / (1 - 0.9**self.step)
        moved = dict(weights)
        for name, g in gradients.items():
            self.means[name] = 0.9 * self.means.get(name, 0) + 0.1 * g
            self.squares[name] = 0.999 * self.squares.get(name, 0) + 0.001 * g**2
            moved[name] = weights[name] - rate * self.means[name] / (self.squares[name] ** 0.5 + 1e-8)
        return moved


class Model:
    """A recurrent layer, a linear head that makes O outputs of its h, and Adam.

    `embedding` is that of params: an array (V, I), which is trained too, or "one-hot".
    """

    def __init__(self, cell, I, H, O, rng, embedding=None, rate=0.01):
        kind, G = LAYERS[cell]
        layer = uniform(rng, H, weight_ih=(G * H, I), weight_hh=(G * H, H), bias_ih=G * H)
        self.head = uniform(rng, H, head=(O, H), head_bias=O)
        self.params, self.adam = kind(layer, embedding=embedding), Adam(rate)

    def outputs(self, y):
        """What the head makes of the layer's y."""
        return y @ self.head["head"].T + self.head["head_bias"]

    def __call__(self, x, state=None, **options):
        """Outputs for x; options are those of `fastrnn.run`."""
        return self.outputs(fastrnn.run(x, self.params, state, **options)[0])

    def learn(self, x, targets, loss=softmax_loss, state=None, **options):
        """One step of training: the loss, and the state after x."""
        (y, state), pullback = fastrnn.vjp(x, self.params, state, **options)
        value, d_outputs = loss(self.outputs(y), targets)
        layer = pullback(d_outputs @ self.head["head"], wrt=["weights"]).weights
        rows = tuple(range(y.ndim - 1))  # steps and rows, or rows alone
        head = {"head": np.tensordot(d_outputs, y, axes=(rows, rows)), "head_bias": d_outputs.sum(rows)}
        weights = self.adam({**self.params.weights, **self.head}, clip({**layer, **head}, 1.0))
        self.head = {name: weights.pop(name) for name in self.head}
        self.params = self.params.with_weights(weights)
        return value, state

    def write(self, first, count, temperature, rng):
        """A letter, and letters after it, each drawn from the softmax of logits / temperature; 0: the likeliest."""
        stream, ids = fastrnn.Stream(self.params), [first]
        for _ in range(count):
            logits = self.outputs(stream.step(ids[-1]))
            ids.append(int((logits + temperature * rng.gumbel(size=len(logits))).argmax()))  # the Gumbel-max trick
        return ids
