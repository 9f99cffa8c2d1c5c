"""Files of layers, as `save` writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.cases import make_weights
from support.cells import PARAMS
from support.environment import package

package("safetensors")
SUFFIXES = [".npz", ".safetensors"]
EVERY_SUFFIX = pytest.mark.parametrize("suffix", SUFFIXES)


def example(cell: str = "lstm", **options: Any) -> Any:
    return PARAMS[cell](make_weights(np.random.default_rng(1), cell, (3, 5)), **options)
