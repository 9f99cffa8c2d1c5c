"""The model of this example, its frames and its answers: what the server and the load generator share.

    y = one LSTM layer over the frames                           (T, H)
    answer = sigmoid(head_weight . y + head_bias)                one number a frame

It has the form of a detector of voice activity: a frame are the features of some milliseconds of sound, the answer is
a probability. Its weights are random unless a file of trained ones is given.
"""

from __future__ import annotations

import argparse
import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastrnn

FRAME_TYPE = np.dtype("<f4")


class WrongMessageError(ValueError):
    """A message that is no frame, with the WebSocket close code that says of what kind it is."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Model(NamedTuple):
    """Weights of the model, float32."""

    params: fastrnn.LSTMParams
    head_weight: np.ndarray  # (H,)
    head_bias: float

    def frame(self, message: bytes | str) -> np.ndarray:
        """A message as the input of a step. A NaN would stay in the session's state for good, so it is refused."""
        n = self.params.input_size
        if isinstance(message, str):
            raise WrongMessageError(1003, f"expected binary messages of {n} float32, got a text message")
        if len(message) != n * FRAME_TYPE.itemsize:
            expected = f"expected {n * FRAME_TYPE.itemsize} bytes, which are {n} float32"
            raise WrongMessageError(1007, f"{expected}, got {len(message)} bytes")
        x = np.frombuffer(message, FRAME_TYPE)
        if not np.isfinite(x).all():
            at = np.flatnonzero(~np.isfinite(x))[0]
            raise WrongMessageError(1007, f"expected finite numbers, got {x[at]} at {at}")
        return x

    def answer(self, y: np.ndarray) -> bytes:
        """The answer to one frame, from the layer's output (H,).

        Its bits depend on the numbers in y alone. No other session's y is in the call, the product is an array of its
        own, whose sum NumPy takes in an order that its length decides, and the sigmoid is a function of one number. A
        product of all sessions' y with the weights would leave the order to BLAS, which chooses it by their count.
        """
        logit = float(np.add.reduce(y * self.head_weight)) + self.head_bias
        return struct.pack("<f", 0.5 + 0.5 * math.tanh(0.5 * logit))


def make_model(inputs: int, hidden: int, seed: int = 0) -> Model:
    """A model of random weights, the same for the same seed."""
    rng, bound = np.random.default_rng(seed), hidden**-0.5
    shapes = {
        "weight_ih": (4 * hidden, inputs),
        "weight_hh": (4 * hidden, hidden),
        "bias_ih": 4 * hidden,
        "bias_hh": 4 * hidden,
    }
    weights = {name: rng.uniform(-bound, bound, shape).astype("float32") for name, shape in shapes.items()}
    head = rng.uniform(-4 * bound, 4 * bound, hidden).astype("float32")
    return Model(fastrnn.LSTMParams(weights), head, 0.0)


def load_model(path: Path) -> Model:
    """Read a model from an `.npz` of `head_weight` (H,), `head_bias` () and the LSTM's arrays under PyTorch's names."""
    with np.load(path) as file:
        arrays = {name: file[name].astype("float32") for name in file.files}
    for name in ("head_weight", "head_bias"):
        if name not in arrays:
            raise ValueError(f"{path}: expected head_weight and head_bias beside the LSTM's arrays, got no {name!r}")
    head_weight, head_bias = arrays.pop("head_weight"), arrays.pop("head_bias")
    if head_bias.size != 1:
        raise ValueError(f"{path}: head_bias: expected one number, got {head_bias.shape}")
    params = fastrnn.LSTMParams(arrays)
    outputs = params.proj_size or params.hidden_size
    if head_weight.shape != (outputs,):
        raise ValueError(f"{path}: head_weight: expected {(outputs,)}, got {head_weight.shape}")
    return Model(params, head_weight, float(head_bias.item()))


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which model it is. Both sides must be given the same ones."""
    parser.add_argument("--model", type=Path, help="an .npz of weights (default: random ones)")
    parser.add_argument("--inputs", type=int, default=40, help="numbers in a frame of a random model (default: 40)")
    parser.add_argument("--hidden", type=int, default=128, help="units of a random model (default: 128)")
    parser.add_argument("--seed", type=int, default=0, help="of a random model (default: 0)")


def chosen_model(args: argparse.Namespace) -> Model:
    for name in ("inputs", "hidden"):
        if getattr(args, name) < 1:
            raise SystemExit(f"--{name}: expected 1 or more, got {getattr(args, name)}")
    try:
        return load_model(args.model) if args.model else make_model(args.inputs, args.hidden, args.seed)
    except (OSError, ValueError) as error:
        raise SystemExit(f"expected a model, got: {error}") from None
