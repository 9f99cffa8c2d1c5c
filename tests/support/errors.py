"""Wrong calls and the messages of their errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def bad_calls(table: str, at_least: int) -> list[Any]:
    """Rows of a table of wrong calls, each ``>>> call`` and under it ``Error: message``."""
    found = re.findall(r"^>>> (.+)\n(\w+): (.+)$", table, re.MULTILINE)
    assert len(found) == table.count(">>>") > at_least
    return [pytest.param(*row, id=row[0]) for row in found]


@contextmanager
def raises_as_said(error: str, message: str) -> Iterator[None]:
    """Exactly this class of error, and this message, in which ``...`` stands for anything."""
    pattern = ".*".join(map(re.escape, message.split("..."))) + r"\Z"
    with pytest.raises(Exception, match=f"^{pattern}") as caught:
        yield
    assert caught.type.__name__ == error
