"""Weights and options of PyTorch's layers, from a module or a state_dict.

Importing this module does not import PyTorch: a module that is given has brought it along.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from fastrnn import _check
from fastrnn._cells import RNN
from fastrnn._state_dict import cell_of, select
from fastrnn.params import CLASSES, AnyParams, RNNParams
from fastrnn.torch.modules import activation_of, cell_of_class, own_methods, torch_class, weight_names


def layer_of(
    module_or_state_dict: Any, prefix: str, nonlinearity: str | None, batch_first: bool | None = None
) -> AnyParams:
    """What `fastrnn.from_torch` documents."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(module_or_state_dict, torch.nn.Module):
        return _from_module(torch, module_or_state_dict, prefix, nonlinearity, batch_first)
    if not isinstance(module_or_state_dict, Mapping):
        got = _check.shown(module_or_state_dict)
        raise TypeError(f"module_or_state_dict: expected a torch.nn.Module or a state_dict, got {got}")
    tensors = select(module_or_state_dict, prefix, "module_or_state_dict")
    weights = {name: array_of(name, tensor) for name, tensor in tensors.items()}
    cell, layout = cell_of(weights), batch_first is not None and _check.flag("batch_first", batch_first)
    if cell != "rnn":
        if nonlinearity is not None:
            raise ValueError(f"nonlinearity: expected None, since the layer is of kind {cell!r}, got {nonlinearity!r}")
        return CLASSES[cell](weights, batch_first=layout)
    if nonlinearity not in ("tanh", "relu"):
        why = "which the state_dict of an RNN does not tell"
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', {why}, got {_check.shown(nonlinearity)}")
    return RNNParams(weights, activation=nonlinearity, batch_first=layout)


def _from_module(
    torch: Any, module: Any, prefix: str, nonlinearity: str | None, batch_first: bool | None
) -> AnyParams:
    """The layer of this name in a module, or the module itself."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected text, got {_check.shown(prefix)}")
    try:
        layer = module.get_submodule(prefix.removesuffix("."))
    except AttributeError:
        layer = None
    kind = torch_class(torch, type(layer))
    if kind is None:
        inside = [name for name, inner in module.named_modules() if torch_class(torch, type(inner))]
        expected = f"one of {', '.join(map(repr, inside))}" if inside else "a module that holds recurrent layers"
        got = repr(prefix) if inside else type(module).__name__
        raise ValueError(f"{'prefix' if inside else 'module_or_state_dict'}: expected {expected}, got {got}")
    if own_methods(layer, kind):
        raise ValueError(
            f"module_or_state_dict: expected a torch.nn.{kind.__name__}, got {type(layer).__name__}, "
            "which computes in its own way; its state_dict() has the weights"
        )
    own = activation_of(layer) if cell_of_class(kind) is RNN else None
    if nonlinearity is not None and nonlinearity != own:
        told = "None" if own is None else f"{own!r} or None"
        raise ValueError(f"nonlinearity: expected {told}, which the module tells, got {_check.shown(nonlinearity)}")
    layout = getattr(layer, "batch_first", False)  # a cell takes one step, and has no layout
    if batch_first is not None and _check.flag("batch_first", batch_first) != layout:
        raise ValueError(f"batch_first: expected {layout} or None, which the module tells, got {batch_first}")
    options: dict[str, Any] = {"batch_first": layout} | ({} if own is None else {"activation": own})
    weights = {name: array_of(name, _weight(layer, name)) for name in weight_names(layer)}
    return CLASSES[cell_of_class(kind).name](weights, **options)


def _weight(layer: Any, name: str) -> Any:
    """A parameter, or the value that a parametrization computes; a tensor that a hook left behind is an error."""
    if name in layer._parameters:
        return layer._parameters[name]
    if name not in getattr(layer, "parametrizations", {}):
        cure = "remove_weight_norm, prune.remove and their like make a parameter of it"
        raise ValueError(f"{name}: expected a parameter, got what a hook computes before each call; {cure}")
    parametrization, training = layer.parametrizations[name], layer.training
    parametrization.eval()  # in training some change their own state when they are read
    try:
        return getattr(layer, name)
    finally:
        parametrization.train(training)


def array_of(name: str, tensor: Any) -> Any:
    """A tensor as an array in the same memory; any other object stays as it is."""
    if not hasattr(tensor, "detach"):
        return tensor
    if tensor.device.type != "cpu":
        raise ValueError(f"{name}: expected a tensor on the CPU, got one on {tensor.device}; .cpu() brings it there")
    if str(tensor.layout) != "torch.strided" or tensor.is_neg():
        raise ValueError(f"{name}: expected a dense tensor, got one that is sparse or negated when it is read")
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        raise TypeError(f"{name}: expected float32 or float64, got {tensor.dtype}; .float() converts it")
    return tensor.detach().numpy()
