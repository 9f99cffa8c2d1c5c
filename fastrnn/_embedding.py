"""Embeddings: arrays (V, I) whose rows tokens name. They stand among the weights of params, and are of no layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fastrnn import _check
from fastrnn._arrays import EMBEDDING, Array, Embedding

ONE_HOT: Literal["one-hot"] = "one-hot"


def join(weights: Mapping[Any, Any], embedding: Embedding | None) -> dict[Any, Any]:
    """Weights with the embedding that was given beside them, if it is an array."""
    joined = dict(weights)
    if embedding is None:
        return joined
    if EMBEDDING in joined:
        raise ValueError(f"embedding: expected None, since weights have {EMBEDDING!r} too, got both")
    if isinstance(embedding, str):
        if embedding != ONE_HOT:
            raise ValueError(f"embedding: expected an array or {ONE_HOT!r}, got {_check.shown(embedding)}")
        return joined
    if not hasattr(embedding, "__array__"):
        raise TypeError(f"embedding: expected an array or {ONE_HOT!r}, got {type(embedding).__name__}")
    return {**joined, EMBEDDING: embedding}


def without(weights: Mapping[Any, Any]) -> dict[Any, Any]:
    """The weights that are of layers."""
    return {name: value for name, value in weights.items() if name != EMBEDDING}


def vocabulary_of(embedding: Array | None, input_size: int, one_hot: bool) -> int:
    """Tokens that x may be made of, V; 0: it is of numbers alone. Raises where an embedding is not (V, I)."""
    if one_hot and input_size == 0:
        raise ValueError("embedding: expected weights that read numbers, got 'one-hot' with an input size of 0")
    if embedding is None:
        return input_size if one_hot else 0
    if embedding.ndim != 2 or embedding.shape[1] != input_size or not len(embedding):
        transposed = embedding.ndim == 2 and embedding.shape[0] == input_size > 0
        hint = ", which looks transposed; its .T fits" if transposed else ""
        raise ValueError(f"embedding: expected (V, {input_size}), a row for each token, got {embedding.shape}{hint}")
    return len(embedding)


def kind_of(name: object) -> str:
    """What the name of an embedding in a file or a state_dict means: "one-hot", or an "array"."""
    if not isinstance(name, str):
        raise TypeError(f"embedding: expected a name or {ONE_HOT!r}, got {_check.shown(name)}")
    return ONE_HOT if name == ONE_HOT else "array"


def packed(embedding: Array | None, dtype: np.dtype[Any]) -> Array | None:
    """The array as C copies it."""
    return None if embedding is None else np.require(embedding, dtype, ["C", "A"])
