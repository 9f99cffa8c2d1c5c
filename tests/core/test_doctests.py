"""Every example in a docstring of the package is run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fastrnn
from support.environment import package

MODULES = ["fastrnn", *(module.name for module in pkgutil.walk_packages(fastrnn.__path__, "fastrnn."))]
# Modules that a package is needed for, if only for their examples.
NEEDS = dict.fromkeys(
    (
        "_torch_layers",
        *(f"torch.{name}" for name in ("steps", "training", "weights")),
        *(f"torch.{name}" for name in ("followed", "layers", "layouts", "marks", "packings")),
    ),
    "torch",
)
NEEDS |= dict.fromkeys(("onnx.constants", "onnx.decomposed", "onnx.load", "onnx.model", "onnx.tensors"), "onnx")
NEEDS |= dict.fromkeys(("onnx.operators", "onnx.graph", "onnx.views", "onnx.cut", "onnx.candidates"), "onnx")
NEEDS |= dict.fromkeys(("onnx", "onnx.segments", "onnx.pipeline", "onnx.plan"), "onnxruntime")


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    if needed := NEEDS.get(name.removeprefix("fastrnn.")):
        package(needed)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", sorted(set(fastrnn.__all__) - {"__version__"}))
def test_every_public_name_has_an_example(name: str) -> None:
    assert doctest.DocTestFinder().find(getattr(fastrnn, name), name)[0].examples
