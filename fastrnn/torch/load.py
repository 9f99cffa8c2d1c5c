"""Weights and options of PyTorch's layers, from a module or a state_dict.

Importing this module does not import PyTorch: a module that is given has brought it along.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from fastrnn import _check
from fastrnn._arrays import EMBEDDING, NEEDS_CONVERSION
from fastrnn._cells import RNN
from fastrnn._embedding import ONE_HOT, kind_of
from fastrnn._names import listed
from fastrnn._options import check_dtype
from fastrnn._precision import FULL, check_precision
from fastrnn._state_dict import cell_of, embedding_in, only_prefix, plain_prefix, prefixes, select
from fastrnn._types import Precision, TargetName
from fastrnn.params import CLASSES, AnyParams
from fastrnn.torch.embedding import embedding_module
from fastrnn.torch.modules import (
    activation_of,
    cell_of_class,
    class_name,
    layer_class,
    own_methods,
    weight_names,
)
from fastrnn.torch.quantized import PackedTensors, is_packed, packed_prefixes, packed_tensors

_NESTED = 3  # dicts within dicts that are looked into: {"checkpoint": {"model": state_dict}}


def layer_of(
    module_or_state_dict: Any,
    prefix: str,
    nonlinearity: str | None,
    *,
    batch_first: bool | None = None,
    dtype: Any = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
    embedding: str | None = None,
) -> AnyParams:
    """What `fastrnn.from_torch` documents."""
    wanted = check_dtype(dtype)
    converted = check_precision(precision) is not None or wanted is not None
    requantize = bool(_check.flag("requantize", requantize))
    if batch_first is not None:
        batch_first = _check.flag("batch_first", batch_first, or_none=True)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(module_or_state_dict, torch.nn.Module):
        cell, tensors, options = _from_module(torch, module_or_state_dict, prefix, nonlinearity, batch_first)
    elif isinstance(module_or_state_dict, Mapping):
        cell, tensors, options = _from_state_dict(module_or_state_dict, prefix, nonlinearity)
        options["batch_first"] = bool(batch_first)
    else:
        fail_source(module_or_state_dict)
    if isinstance(tensors, PackedTensors):
        if precision is None and wanted != np.float64:
            precision = tensors.precision
        weights = tensors.weights(precision, requantize)
        dtype = dtype or (None if precision in FULL else "float32")
    else:
        weights = {name: array_of(name, tensor, converted) for name, tensor in tensors.items()}
    rows = _embedding_of(torch, module_or_state_dict, embedding)
    weights |= {name: array_of(str(embedding), tensor, converted) for name, tensor in rows.items()}
    one_hot: Any = ONE_HOT if embedding is not None and not rows else None
    return CLASSES[cell](weights, dtype=dtype, target=target, precision=precision, embedding=one_hot, **options)


def _embedding_of(torch: Any, source: Any, name: str | None) -> dict[str, Any]:
    """The rows of the embedding of this name, by the name that params have for it; none for "one-hot"."""
    if name is None or kind_of(name) == ONE_HOT:
        return {}
    if torch is None or not isinstance(source, torch.nn.Module):
        return embedding_in(_inner_state_dict(source), name, "module_or_state_dict")
    return {EMBEDDING: _weight(embedding_module(torch, source, name), "weight")}


def fail_source(value: object) -> NoReturn:
    cure = ""
    if isinstance(value, (str, os.PathLike)):
        cure = "; from_torch(torch.load(path, map_location='cpu', weights_only=True)) reads a file"
        if str(value).endswith((".safetensors", ".npz")):
            cure = "; fastrnn.load(path, cell) reads a file"
    elif hasattr(value, "detach"):
        cure = "; from_torch takes the whole layer, by its module or its state_dict()"
    got = _check.shown(value) if not hasattr(value, "detach") else type(value).__name__
    raise TypeError(f"module_or_state_dict: expected a torch.nn.Module or a state_dict, got {got}{cure}")


def _from_state_dict(
    state: Mapping[Any, Any], prefix: str, nonlinearity: str | None
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(cell, tensors, options) of a layer in a state_dict or a checkpoint."""
    state = _inner_state_dict(state)
    _refuse_packed(state, prefix)
    tensors = select(state, only_prefix(state, prefix), "module_or_state_dict")
    cell = cell_of(tensors)
    if cell != "rnn":
        if nonlinearity is not None:
            raise ValueError(f"nonlinearity: expected None, since the layer is of kind {cell!r}, got {nonlinearity!r}")
        return cell, tensors, {}
    if nonlinearity not in ("tanh", "relu"):
        why = "which the state_dict of an RNN does not tell"
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', {why}, got {_check.shown(nonlinearity)}")
    return cell, tensors, {"activation": nonlinearity}


def _refuse_packed(state: Mapping[Any, Any], prefix: object) -> None:
    """Raise where the layer's weights are packed: without the layer they do not tell directions from layers."""
    packed = packed_prefixes(state)
    wanted = prefix.removesuffix(".") if isinstance(prefix, str) else prefix
    if wanted in packed or (packed and wanted == "" and not prefixes(state)):
        where = repr(wanted if wanted in packed else packed[0])
        expected = f"tensors under {where}, got the packed weights of a dynamically quantized layer"
        raise ValueError(f"module_or_state_dict: expected {expected}; from_torch(model, {where}) takes its module")


def _inner_state_dict(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The one mapping with recurrent weights in a checkpoint, such as that of {"epoch": 3, "state_dict": {...}}."""
    level = {"": state}
    for _ in range(_NESTED):
        found = {key: inner for key, inner in level.items() if prefixes(inner) or packed_prefixes(inner)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            cure = "state_dict" + next(iter(found))
            raise ValueError(
                f"module_or_state_dict: expected one state_dict, got {listed([*found], str)}; give one: {cure}"
            )
        level = {
            f"{key}[{name!r}]": inner
            for key, outer in level.items()
            for name, inner in outer.items()
            if isinstance(inner, Mapping)
        }
    return state


def _from_module(
    torch: Any, module: Any, prefix: str, nonlinearity: str | None, batch_first: bool | None
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(cell, tensors, options) of the layer of this name in a module, or of the module itself, or its only layer."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected text, got {_check.shown(prefix)}")
    layer, plain = _layer_in(torch, module, prefix)
    scripted = isinstance(layer, torch.jit.ScriptModule)
    if not scripted and own_methods(layer, plain):
        raise ValueError(
            f"module_or_state_dict: expected a {class_name(torch, plain)}, got {type(layer).__name__}, "
            "which computes in its own way; its state_dict() has the weights"
        )
    cell = cell_of_class(plain)
    own = activation_of(layer) if cell is RNN else None
    if nonlinearity is not None and nonlinearity != own:
        told = "None" if own is None else f"{own!r} or None"
        raise ValueError(f"nonlinearity: expected {told}, which the module tells, got {_check.shown(nonlinearity)}")
    tensors: dict[str, Any]
    if is_packed(layer):
        tensors = packed_tensors(layer)
    elif scripted:
        tensors = dict(layer.named_parameters(recurse=False))
    else:
        tensors = {name: _weight(layer, name) for name in weight_names(layer)}
    options: dict[str, Any] = {} if own is None else {"activation": own}
    return cell.name, tensors, options | {"batch_first": _layout_of(layer, plain, batch_first)}


def _layout_of(layer: Any, plain: Any, given: bool | None) -> bool:
    """Whether a layer takes its data batch first; a cell takes one step, and has no layout."""
    own = getattr(layer, "batch_first", None)
    if own is None and plain.__name__.endswith("Cell"):
        own = False
    if own is None and given is None:
        raise ValueError("batch_first: expected True or False, which a traced module does not tell, got None")
    if own is not None and given not in (None, own):
        raise ValueError(f"batch_first: expected {own} or None, which the module tells, got {given}")
    return bool(given if own is None else own)


def _layer_in(torch: Any, module: Any, prefix: str) -> tuple[Any, Any]:
    """A layer and PyTorch's class of it."""
    layers = {
        name: (inner, plain)
        for name, inner in module.named_modules()
        if (plain := layer_class(torch, inner)) is not None
    }
    wanted = plain_prefix(prefix.removesuffix(".") + ".")
    near = [name for name in layers if plain_prefix(f"{name}.") == wanted]
    found = layers.get(prefix.removesuffix("."))
    if found is None and len(near) == 1:
        found = layers[near[0]]
    if found is None and prefix == "" and len(layers) == 1:
        found = next(iter(layers.values()))
    if found is not None:
        return found
    expected = f"one of {listed([*layers])}" if layers else "a module that holds recurrent layers"
    got = repr(prefix) if layers else f"{type(module).__module__}.{type(module).__name__}"
    raise ValueError(f"{'prefix' if layers else 'module_or_state_dict'}: expected {expected}, got {got}")


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


def is_half(tensor: Any) -> bool:
    return str(getattr(tensor, "dtype", "")) in ("torch.float16", "torch.bfloat16")


def array_of(name: str, tensor: Any, converted: bool = False) -> Any:
    """A tensor as an array, in the same memory unless its dtype is `converted`; any other object stays as it is."""
    if not hasattr(tensor, "detach"):
        return tensor
    if tensor.device.type != "cpu":
        raise ValueError(f"{name}: expected a tensor on the CPU, got one on {tensor.device}; .cpu() brings it there")
    if str(tensor.layout) != "torch.strided" or tensor.is_neg():
        raise ValueError(f"{name}: expected a dense tensor, got one that is sparse or negated when it is read")
    half = is_half(tensor)
    if converted and half:
        tensor = tensor.float()
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        cure = NEEDS_CONVERSION if half else ".float() converts it"
        raise TypeError(f"{name}: expected float32 or float64, got {tensor.dtype}; {cure}")
    return tensor.detach().numpy()
