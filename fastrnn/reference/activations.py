"""The activations and their derivatives, each with `clip` in front of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Activation: TypeAlias = "str | tuple[str, float, float]"


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that exp cannot overflow and small results keep all their digits."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0.0, e, 1.0) / (1.0 + e)


def _hard_sigmoid(x: Array, alpha: float = 1 / 6, beta: float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _linear(x: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
    return alpha * x + beta


def _within(x: Array, least: float, most: float) -> Array:
    """The derivative of x bounded to [least, most]: 1 between the bounds, 0 at them and beyond."""
    return np.where((x <= least) | (x >= most), 0.0, 1.0)


def _hard_sigmoid_derivative(x: Array, alpha: float = 1 / 6, beta: float = 0.5) -> Array:
    return alpha * _within(alpha * x + beta, 0.0, 1.0)


#: What each activation's name means.
ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "linear": _linear,
}

#: The derivative of each, at x.
DERIVATIVES: dict[str, Callable[..., Array]] = {
    "tanh": lambda x: 1.0 - np.tanh(x) ** 2,
    "relu": lambda x: np.where(x <= 0.0, 0.0, 1.0),
    "sigmoid": lambda x: _sigmoid(x) * _sigmoid(-x),
    "hard_sigmoid": _hard_sigmoid_derivative,
    "softsign": lambda x: 1.0 / (1.0 + np.abs(x)) ** 2,
    "linear": lambda x, alpha=1.0, beta=0.0: np.full_like(x, alpha),
}


def _apply(functions: dict[str, Callable[..., Array]], activation: Activation, x: Array) -> Array:
    name, *constants = (activation,) if isinstance(activation, str) else activation
    return functions[name](x, *constants)


def activate(activation: Activation, x: Array, clip: float | None = None) -> Array:
    """The activation of x, or of x bounded to [-clip, clip]."""
    return _apply(ACTIVATIONS, activation, x if clip is None else np.clip(x, -clip, clip))


def derivative(activation: Activation, x: Array, clip: float | None = None) -> Array:
    """The derivative of `activate` with respect to x."""
    slope = _apply(DERIVATIVES, activation, x)
    return slope if clip is None else slope * _within(x, -clip, clip)
