"""Layers of Keras, on the backend that KERAS_BACKEND names, or on PyTorch's."""

from __future__ import annotations

import os
from typing import Any

from support.environment import package

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = package("keras")
layers = keras.layers


def built(layer: Any) -> Any:
    layer.build((None, None, 3))
    return layer
