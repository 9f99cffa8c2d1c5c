"""Fixtures of the files of tests that accelerate models of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def calls() -> Iterator[list[Any]]:
    """What fastrnn has been called with: x of each call."""
    from support.torch_models import counting

    with counting() as found:
        yield found


@pytest.fixture
def model() -> Any:
    from support.torch_models import Model, torch

    torch.manual_seed(1)
    return Model().eval()


@pytest.fixture
def x() -> Any:
    """An input of the model."""
    from support.torch_models import STEPS, torch

    return torch.randn(2, 4, STEPS)
