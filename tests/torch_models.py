"""What the tests of accelerated models share: a model, a count of calls, and how results are compared."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import package

torch = package("torch")

from torch import nn

from fastrnn.torch import accelerate
from fastrnn.torch import layers as torch_layers
from test_torch import close


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What fastrnn has been called with: x of each call."""
    found: list[Any] = []
    original = torch_layers._Accelerated._call

    def counted(self: Any, params: Any, x: Any, states: Any, **options: Any) -> Any:
        found.append(x)
        return original(self, params, x, states, **options)

    monkeypatch.setattr(torch_layers._Accelerated, "_call", counted)
    return found


class counting:  # noqa: N801
    """`calls` for tests of hypothesis, which have one fixture for all examples."""

    def __enter__(self) -> list[Any]:
        self.patch = pytest.MonkeyPatch()
        return calls.__wrapped__(self.patch)  # type: ignore[attr-defined, no-any-return]

    def __exit__(self, *error: object) -> None:
        self.patch.undo()


def flat(result: Any) -> Iterator[Any]:
    """All tensors of a result."""
    if isinstance(result, torch.Tensor):
        yield result
    elif result is not None:
        for part in result:
            yield from flat(part)


def same(ours: Any, theirs: Any) -> None:
    """The same structure, and numbers that are close."""
    assert type(ours) is type(theirs)
    for a, b in zip(flat(ours), flat(theirs), strict=True):
        assert [n for n, size in zip(a.stride(), a.shape) if size > 1] == [
            n for n, size in zip(b.stride(), b.shape) if size > 1
        ]
        if b.dtype == torch.int64:
            assert torch.equal(a, b)
        else:
            close(a, b)


def accelerated(module: Any) -> Any:
    copied = copy.deepcopy(module)
    assert accelerate(copied).replaced
    return copied


class Model(nn.Module):
    """A convolution, a bidirectional stack, a cell and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=1)
        self.lstm = nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True)
        self.cell = nn.GRUCell(16, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, x):
        y, _ = self.lstm(torch.relu(self.conv(x)).transpose(1, 2))
        h = torch.zeros(x.shape[0], 7, dtype=x.dtype)
        for t in range(y.shape[1]):
            h = self.cell(y[:, t], h)
        return self.head(h)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(1)
    return Model().eval()


@pytest.fixture
def x() -> Any:
    return torch.randn(2, 4, 5)


STEPS = 5  # of x: calls of the cell
