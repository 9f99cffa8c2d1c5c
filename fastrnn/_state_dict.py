"""Recurrent layers in a mapping of PyTorch's names: where they are, one of them, and its cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastrnn import _check
from fastrnn._arrays import EMBEDDING, SCALE
from fastrnn._cells import GRU, LSTM, RNN
from fastrnn._embedding import ONE_HOT, kind_of
from fastrnn._names import WEIGHT_NAME, listed

# Cells that PyTorch has, by the number of gates, which tells them apart.
_CELLS = {len(cell.gates): cell for cell in (RNN, GRU, LSTM)}
_OF_LSTM_ALONE = tuple(plain for plain in LSTM.weights if plain not in RNN.weights)


def prefixes(names: Iterable[object]) -> list[str]:
    """The prefixes of recurrent weights, "" or text that ends in a dot, each once, in their order."""
    found: dict[str, None] = {}
    for name in names:
        if isinstance(name, str):
            prefix, dot, last = name.rpartition(".")
            if WEIGHT_NAME.fullmatch(last):
                found[prefix + dot] = None
    return list(found)


def only_prefix(names: Iterable[object], prefix: Any) -> Any:
    """The prefix as it is, but that of the only recurrent layer where none is given."""
    known = prefixes(names)
    return known[0] if prefix == "" and len(known) == 1 else prefix


# What wrappers put before the names of a model: torch.compile, DataParallel.
_WRAPPERS = ("_orig_mod.", "module.")


def plain_prefix(prefix: str) -> str:
    """A prefix with a dot, or "", without the names of wrappers."""
    for wrapper in _WRAPPERS:
        prefix = f".{prefix}".replace(f".{wrapper}", ".")[1:]
    return prefix


def _as_known(prefix: str, known: list[str]) -> str:
    """The known prefix that is this one but for wrappers, if there is only one."""
    near = [name for name in known if plain_prefix(name) == plain_prefix(prefix)]
    return near[0] if prefix not in known and len(near) == 1 else prefix


def select(state: Mapping[Any, Any], prefix: str, argument: str) -> dict[str, Any]:
    """The entries of the layer under a prefix, with or without its dot, by their own names.

    Other names, such as "decoder.weight" or "embedding" beside the prefix "", belong to other layers and are left out.
    But a name right under the prefix that begins as a weight's name does, and is not one, is an error: without it the
    layer would be another one.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected text, got {_check.shown(prefix)}")
    if prefix and not prefix.endswith("."):
        prefix += "."
    known = prefixes(state)
    if not known:
        got = listed([*state]) or "no entries"
        raise ValueError(f"{argument}: expected names of recurrent weights such as 'weight_ih_l0', got {got}")
    prefix = _as_known(prefix, known)
    if prefix not in known:
        raise ValueError(f"prefix: expected one of {listed(known)}, got {_check.shown(prefix)}")
    rest = {name.removeprefix(prefix): name for name in state if isinstance(name, str) and name.startswith(prefix)}
    own = {
        name: state[whole] for name, whole in rest.items() if name.startswith(("weight_", "bias_")) and "." not in name
    }
    unknown = [prefix + name for name in own if not WEIGHT_NAME.fullmatch(name.removesuffix(SCALE))]
    if unknown:
        raise ValueError(f"{argument}: expected one recurrent layer under {prefix!r}, got {listed(unknown)} too")
    return own


def cell_of(weights: Mapping[str, Any]) -> str:
    """The name of a cell that PyTorch has: by the rows that a layer has for each of its outputs."""
    name = next((name for name in weights if name.startswith("weight_hh") and not name.endswith(SCALE)), None)
    if name is None:
        raise ValueError(f"weights: missing 'weight_hh_l0', got {listed([*weights])}")
    if any(other.startswith(_OF_LSTM_ALONE) for other in weights):
        return LSTM.name
    shape = tuple(np.shape(weights[name]))
    gates = shape[0] / shape[1] if len(shape) == 2 and shape[1] else 0
    if gates not in _CELLS:
        expected = "(H, H) of an RNN, (3 * H, H) of a GRU or (4 * H, H) of an LSTM"
        raise ValueError(f"{name}: expected {expected}, got {shape}")
    return _CELLS[int(gates)].name


def embedding_in(state: Mapping[Any, Any], name: str | None, argument: str) -> dict[str, Any]:
    """The array of this name, "emb" meaning "emb.weight", under the name that params give it; none for "one-hot"."""
    if name is None or kind_of(name) == ONE_HOT:
        return {}
    known = {plain_prefix(whole): whole for whole in state if isinstance(whole, str)}
    for whole in (name, f"{name}.weight"):
        if whole in state:
            return {EMBEDDING: state[whole]}
        if plain_prefix(whole) in known:
            return {EMBEDDING: state[known[plain_prefix(whole)]]}
    got = f"{_check.shown(name)}{_check.meant(name, known)}"
    raise ValueError(f"embedding: expected 'one-hot' or a name in {argument}, got {got}")
