"""PyTorch's recurrent modules: which class a module is of, whether it computes as that class does, what it holds.

Importing this module does not import PyTorch.
"""

from __future__ import annotations

from typing import Any

from fastrnn._cells import GRU, LSTM, RNN, Cell
from fastrnn.torch.quantized import DYNAMIC, dynamic_class

_CELLS = {cell.title: cell for cell in (RNN, LSTM, GRU)}  # of PyTorch, which gives them the same titles
PLAIN_CLASSES = (*_CELLS, *(f"{title}Cell" for title in _CELLS))


def torch_class(torch: Any, kind: type) -> Any:
    """The class of recurrent layers in `torch.nn` that a class is, or is derived from, or None."""
    return next((plain for name in PLAIN_CLASSES if issubclass(kind, plain := getattr(torch.nn, name))), None)


def layer_class(torch: Any, module: Any) -> Any:
    """The class of recurrent layers that a module is of, scripted or not, or None."""
    if isinstance(module, torch.jit.ScriptModule):
        name = getattr(module, "original_name", "")
        return getattr(torch.nn, name) if name in PLAIN_CLASSES else None
    return torch_class(torch, type(module)) or dynamic_class(type(module))


def class_name(torch: Any, plain: type) -> str:
    """The name under which users import a class of recurrent layers."""
    name = plain.__name__
    return f"{'torch.nn' if plain is getattr(torch.nn, name) else DYNAMIC}.{name}"


# Methods that PyTorch's forward calls: a class or an object that overrides one computes in its own way.
_ASKED = ["forward", "check_input", "check_forward_args", "check_hidden_size", "permute_hidden"]
_ASKED += ["get_expected_hidden_size", "get_expected_cell_size", "_update_flat_weights"]
_ASKED += ["forward_impl", "check_forward_input", "check_forward_hidden"]  # of quantized layers


def own_methods(layer: Any, plain: type) -> list[str]:
    """Methods of PyTorch's class that a layer, accelerated or not, overrides."""
    kind = getattr(layer, "_original", type(layer))
    return [
        name for name in _ASKED if getattr(kind, name, None) is not getattr(plain, name, None) or name in vars(layer)
    ]


def activation_of(layer: Any) -> str | None:
    """The activation of an RNN: a layer keeps it in its mode, a cell in its nonlinearity."""
    own = vars(layer)
    mode, nonlinearity = own.get("mode"), own.get("nonlinearity")
    if not own.keys() & {"mode", "nonlinearity"}:  # TorchScript has attributes of its own
        mode, nonlinearity = getattr(layer, "mode", None), getattr(layer, "nonlinearity", None)
    mode = str(mode)
    return mode.removeprefix("RNN_").lower() if mode.startswith("RNN_") else nonlinearity


def cell_of_class(plain: type) -> Cell:
    return _CELLS[plain.__name__.removesuffix("Cell")]


def weight_names(layer: Any) -> list[str]:
    """Names of a layer's weights, whether they are parameters or computed."""
    names: list[str] | None = vars(layer).get("_flat_weights_names")
    return names or ["weight_ih", "weight_hh", "bias_ih", "bias_hh"][: 4 if layer.bias else 2]
