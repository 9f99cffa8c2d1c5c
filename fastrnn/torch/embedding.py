"""PyTorch's embeddings: the rows that a module looks up, where it does nothing else.

Importing this module does not import PyTorch.
"""

from __future__ import annotations

from typing import Any

from fastrnn import _check
from fastrnn._names import listed
from fastrnn._state_dict import plain_prefix


def embedding_module(torch: Any, module: Any, name: str) -> Any:
    """The `torch.nn.Embedding` of a name in a module; anything else, or one that changes its rows, raises."""
    found = {plain_prefix(f"{path}."): inner for path, inner in module.named_modules()}
    inner = found.get(plain_prefix(f"{name.removesuffix('.weight')}."))
    if inner is None:
        known = [path for path, inner in module.named_modules() if isinstance(inner, torch.nn.Embedding)]
        raise ValueError(f"embedding: expected one of {listed([*known, 'one-hot'])}, got {_check.shown(name)}")
    if not isinstance(inner, torch.nn.Embedding) or type(inner).forward is not torch.nn.Embedding.forward:
        why = "whose forward looks rows up"
        raise ValueError(f"embedding: expected a torch.nn.Embedding, {why}, got {type(inner).__name__} of {name!r}")
    if inner.max_norm is not None:
        why, cure = "since others change rows as they are read", "renormalise its rows, then set max_norm to None"
        raise ValueError(f"embedding: expected max_norm None, {why}, got {inner.max_norm}; {cure}")
    return inner
