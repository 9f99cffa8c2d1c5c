"""Every example in a docstring of the package is run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fastrnn
from support.environment import package

MODULES = ["fastrnn", *(f"fastrnn.{module.name}" for module in pkgutil.iter_modules(fastrnn.__path__))]
# Modules that a package is needed for, if only for their examples.
NEEDS = {"_torch_layers": "torch", "_torch_weights": "torch"} | dict.fromkeys(
    ("onnx", "_onnx_load", "_onnx_model", "_onnx_ops"), "onnx"
)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    if needed := NEEDS.get(name.removeprefix("fastrnn.")):
        package(needed)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", sorted(set(fastrnn.__all__) - {"__version__"}))
def test_every_public_name_has_an_example(name: str) -> None:
    assert doctest.DocTestFinder().find(getattr(fastrnn, name), name)[0].examples
