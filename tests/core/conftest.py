"""Fixtures of several files of tests in this folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property, which write the same file again and again."""
    return tmp_path_factory.mktemp("files")
