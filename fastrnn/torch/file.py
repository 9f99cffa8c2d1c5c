"""The files of PyTorch for the command line: tensors by name, without running anything that a file holds."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from fastrnn import _check
from fastrnn._state_dict import cell_of, select
from fastrnn.params import AnyParams
from fastrnn.torch.load import is_half, layer_of

_MOST_ENTRIES = 2**20  # n dicts, each of which holds the next one twice, have 2**n entries


def state_dict(path: str) -> dict[str, Any]:
    """The tensors of a file; dicts in it become prefixes."""
    torch = _check.package("torch", path, "torch")
    with open(path, "rb") as file, warnings.catch_warnings():  # opened here for errors of the system
        warnings.simplefilter("ignore")  # what PyTorch warns of raises an error below
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # PyTorch's unpickler raises many classes
            expected = "expected tensors alone (torch.save(model.state_dict(), ...))"
            raise ValueError(f"{path}: {expected}, got {_not_tensors(str(error))}") from None
    flat: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for number, (name, origin, value) in enumerate(_entries(content)):
        if number == _MOST_ENTRIES:
            raise ValueError(f"{path}: expected at most {_MOST_ENTRIES} entries, got more")
        if not isinstance(value, torch.Tensor):
            continue
        if name in flat:
            got = f"{origins[name]} and {origin}"
            raise ValueError(f"{path}: expected one tensor of the name {_check.shown(name)}, got {got}")
        flat[name], origins[name] = value, origin
    return dict(sorted(flat.items()))


def _not_tensors(said: str) -> str:
    """What a file holds, found in PyTorch's message, most of which tells how to load the file unsafely."""
    if "GLOBAL torch.ScriptObject" in said:
        cure = "load them into their model, and fastrnn.from_torch(model, prefix) takes a layer of it"
        return f"packed weights, as those of quantized layers are; {cure}"
    if named := re.search(r"GLOBAL ([\w.]+)", said):
        return f"a file that holds other objects, such as {named[1]}"
    return "a TorchScript archive" if "TorchScript" in said else "a file that is none of PyTorch, or a broken one"


def _entries(content: object) -> Iterator[tuple[str, str, object]]:
    """(name, keys as written, value) of every entry of nested dicts; a dict may hold itself."""
    stack, within = [("", "", content, False)], set[int]()
    while stack:
        name, origin, value, done = stack.pop()
        if done:
            within.remove(id(value))
        else:
            yield name, origin, value
        if done or not isinstance(value, dict) or id(value) in within:
            continue
        within.add(id(value))
        stack.append((name, origin, value, True))
        for key, part in reversed(value.items()):
            stack.append((f"{name}.{key}" if name else str(key), f"{origin}[{_check.shown(key)}]", part, False))


def load_layer(
    path: str, state: dict[str, Any], prefix: str, activation: Any, *, batch_first: bool = False, dtype: Any = None
) -> AnyParams:
    """A layer, in words of the command line; a state_dict does not tell the activation of an RNN."""
    cell = cell_of(select(state, prefix, path))
    got = "none" if activation is None else _check.shown(activation)
    if cell == "rnn" and activation not in ("tanh", "relu"):
        raise ValueError(
            f"--activation: expected tanh or relu, which the state_dict of an RNN does not tell, got {got}"
        )
    if cell != "rnn" and activation is not None:
        raise ValueError(f"--activation: expected none, since the layer is of kind {cell!r}, got {got}")
    return layer_of(state, prefix, activation, batch_first=batch_first, dtype=dtype)


def load_by_shapes(path: str, state: dict[str, Any], prefix: str) -> AnyParams:
    """A layer, an RNN's activation being the default; in float32 where tensors are of 16 bits."""
    tensors = select(state, prefix, path)
    dtype = "float32" if any(map(is_half, tensors.values())) else None
    return load_layer(path, state, prefix, "tanh" if cell_of(tensors) == "rnn" else None, dtype=dtype)
