"""PyTorch: layers taken over from its modules and state_dicts, and whole models made faster in place.

Importing this module does not import PyTorch: a module that is given has brought it along.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastrnn import _check
from fastrnn._arrays import SupportsArray
from fastrnn._cells import GRU, LSTM, RNN, Cell
from fastrnn._state_dict import cell_of, select
from fastrnn.params import CLASSES, GRUParams, LSTMParams, RNNParams

if TYPE_CHECKING:
    import torch

__all__ = ["Report", "accelerate", "from_torch", "restore"]

_CELLS = {cell.title: cell for cell in (RNN, LSTM, GRU)}  # those that PyTorch has; it calls them so too
PLAIN_CLASSES = (*_CELLS, *(f"{title}Cell" for title in _CELLS))


def from_torch(
    module_or_state_dict: torch.nn.Module | Mapping[str, SupportsArray],
    prefix: str = "",
    *,
    nonlinearity: str | None = None,
) -> RNNParams | LSTMParams | GRUParams:
    """Take the weights and options of a recurrent layer of PyTorch.

    Parameters
    ----------
    module_or_state_dict : torch.nn.Module or mapping of str to tensor or ndarray
        An ``nn.RNN``, ``LSTM``, ``GRU``, ``RNNCell``, ``LSTMCell`` or ``GRUCell``; a module that holds one, with
        `prefix`; or a state_dict, of the layer or of a whole model. Tensors are on the CPU, float32 or float64. They
        are copied: later changes do not reach the params.
    prefix : str
        Where the layer is: "encoder.lstm" of ``encoder.lstm.weight_ih_l0``.
    nonlinearity : "tanh" or "relu", optional
        That of an ``nn.RNN``, which its state_dict does not tell. A module tells it itself.

    Returns
    -------
    RNNParams, LSTMParams or GRUParams
        ``batch_first`` is about the data, and goes to the call. ``dropout`` acts in training only, and is not carried.

    Raises
    ------
    TypeError
        Neither a module nor a mapping, or tensors of another dtype.
    ValueError
        No such layer, another class with a computation of its own, a tensor elsewhere than on the CPU, or a state_dict
        of an RNN without `nonlinearity`.

    Notes
    -----
    The cell of a state_dict is known by its shapes: ``weight_hh`` has one, three or four rows for each column.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> state_dict = {"encoder.weight_ih_l0": np.ones((80, 8)), "encoder.weight_hh_l0": np.ones((80, 20))}
    >>> params = fastrnn.from_torch(state_dict, prefix="encoder")
    >>> type(params).__name__, params.input_size, params.hidden_size
    ('LSTMParams', 8, 20)

    With PyTorch: ``fastrnn.from_torch(torch.nn.LSTM(8, 20))``, ``fastrnn.from_torch(model, "encoder.lstm")``.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(module_or_state_dict, torch.nn.Module):
        return _from_module(torch, module_or_state_dict, prefix, nonlinearity)
    if not isinstance(module_or_state_dict, Mapping):
        got = _check.shown(module_or_state_dict)
        raise TypeError(f"module_or_state_dict: expected a torch.nn.Module or a state_dict, got {got}")
    tensors = select(module_or_state_dict, prefix, "module_or_state_dict")
    weights = {name: as_array(name, tensor) for name, tensor in tensors.items()}
    cell = cell_of(weights)
    if cell != "rnn":
        if nonlinearity is not None:
            raise ValueError(f"nonlinearity: expected None, since the layer is of kind {cell!r}, got {nonlinearity!r}")
        return CLASSES[cell](weights)
    if nonlinearity not in ("tanh", "relu"):
        why = "which the state_dict of an RNN does not tell"
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', {why}, got {_check.shown(nonlinearity)}")
    return RNNParams(weights, activation=nonlinearity)


def _from_module(torch: Any, module: Any, prefix: str, nonlinearity: str | None) -> RNNParams | LSTMParams | GRUParams:
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
    options: dict[str, Any] = {} if own is None else {"activation": own}
    weights = {name: as_array(name, _weight(layer, name)) for name in weight_names(layer)}
    return CLASSES[cell_of_class(kind).name](weights, **options)


def _weight(layer: Any, name: str) -> Any:
    """A parameter, or what a parametrization computes; but nothing that a hook has left from the last call."""
    if name in layer._parameters:
        return layer._parameters[name]
    if name not in getattr(layer, "parametrizations", {}):
        cure = "remove_weight_norm, prune.remove and their like make a parameter of it"
        raise ValueError(f"{name}: expected a parameter, got what a hook computes before each call; {cure}")
    parametrization, training = layer.parametrizations[name], layer.training
    parametrization.eval()  # in training some change what they keep whenever they are asked
    try:
        return getattr(layer, name)
    finally:
        parametrization.train(training)


def torch_class(torch: Any, kind: type) -> Any:
    """The class of recurrent layers in `torch.nn` that a class is, or is derived from; None if there is none."""
    return next((plain for name in PLAIN_CLASSES if issubclass(kind, plain := getattr(torch.nn, name))), None)


# What PyTorch's forward calls: a class or an object that has another one of these computes in its own way.
_ASKED = ["forward", "check_input", "check_forward_args", "check_hidden_size", "permute_hidden"]
_ASKED += ["get_expected_hidden_size", "get_expected_cell_size", "_update_flat_weights"]


def own_methods(layer: Any, plain: type) -> list[str]:
    """What a layer, accelerated or not, does in another way than PyTorch's class."""
    kind = getattr(layer, "_original", type(layer))
    return [
        name for name in _ASKED if getattr(kind, name, None) is not getattr(plain, name, None) or name in vars(layer)
    ]


def activation_of(layer: Any) -> str | None:
    """That of an RNN, which a layer keeps in its mode and a cell in its nonlinearity."""
    own = vars(layer)
    mode = str(own.get("mode", ""))
    return mode.removeprefix("RNN_").lower() if mode.startswith("RNN_") else own.get("nonlinearity")


def cell_of_class(plain: type) -> Cell:
    return _CELLS[plain.__name__.removesuffix("Cell")]


def weight_names(layer: Any) -> list[str]:
    """Names of a layer's weights, whether they are parameters or computed."""
    names: list[str] | None = vars(layer).get("_flat_weights_names")
    return names or ["weight_ih", "weight_hh", "bias_ih", "bias_hh"][: 4 if layer.bias else 2]


def as_array(name: str, tensor: Any) -> Any:
    """A tensor as an array in the same memory; what is none stays as it is."""
    if not hasattr(tensor, "detach"):
        return tensor
    if tensor.device.type != "cpu":
        raise ValueError(f"{name}: expected a tensor on the CPU, got one on {tensor.device}; .cpu() brings it there")
    if str(tensor.layout) != "torch.strided" or tensor.is_neg():
        raise ValueError(f"{name}: expected a dense tensor, got one that is sparse or negated when it is read")
    if str(tensor.dtype) not in ("torch.float32", "torch.float64"):
        raise TypeError(f"{name}: expected float32 or float64, got {tensor.dtype}; .float() converts it")
    return tensor.detach().numpy()


@dataclass(frozen=True)
class Report:
    """What `accelerate` did to the recurrent layers of a model.

    Attributes
    ----------
    replaced : tuple of str
        Names of layers that run on fastrnn where they may; "" is the model itself.
    kept : dict of str to str
        Names of layers that stay as they were, each with the reason.

    Examples
    --------
    >>> from fastrnn.torch import Report
    >>> print(Report(replaced=("encoder",), kept={"decoder": "it is scripted"}))
    encoder: replaced
    decoder: kept, since it is scripted
    """

    replaced: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name or '(the model)'}: replaced" for name in self.replaced]
        lines += [f"{name or '(the model)'}: kept, since {why}" for name, why in self.kept.items()]
        return "\n".join(lines) or "no recurrent layers"


def accelerate(model: torch.nn.Module) -> Report:
    """Let every recurrent layer of a PyTorch model run on fastrnn, in place.

    Each ``nn.RNN``, ``LSTM``, ``GRU``, ``RNNCell``, ``LSTMCell`` and ``GRUCell`` stays the object that it is, with its
    parameters, hooks and names, and gets another class that is derived from its own. A call of it runs on fastrnn where
    tensors are on the CPU and of float32 or float64, and as before elsewhere: on other devices and dtypes, in training
    where a gradient or dropout is wanted, under autocast, and while PyTorch traces, exports or transforms it. Changed
    weights are noticed, and packed anew.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place. Calling it again with the same model does no harm.

    Returns
    -------
    Report
        What was replaced, and what was not and why.

    Raises
    ------
    TypeError
        `model` is not a module.
    ImportError
        PyTorch is not installed.

    Notes
    -----
    In eval mode with gradients enabled, results carry PyTorch's gradients: if they are asked for, the layer is run
    again by PyTorch. ``torch.no_grad()`` or ``torch.inference_mode()`` saves keeping what that would need.

    A change of weights is seen by PyTorch's own counter of changes, and where that is passed by (``weight.data``, the
    memory under ``weight.numpy()``) by a sample of the weights. Who changes single elements in such a way calls
    `accelerate` again.

    Examples
    --------
    ``report = fastrnn.torch.accelerate(model)``, and to see what it did, ``print(report)``:

    >>> from fastrnn.torch import Report
    >>> print(Report(replaced=("rnn",)))
    rnn: replaced
    """
    modules = _named_modules(model)
    from fastrnn import _torch_layers  # which imports PyTorch

    replaced, kept = [], {}
    for name, module in modules:
        reason = _torch_layers.why_not(module)
        if reason is None:
            _torch_layers.replace(module)
            replaced.append(name)
        elif reason:
            kept[name] = reason
    return Report(tuple(replaced), kept)


def restore(model: torch.nn.Module) -> None:
    """Give every layer that `accelerate` replaced its own class back, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Layers that were not replaced stay as they are.

    Raises
    ------
    TypeError
        `model` is not a module.
    ImportError
        PyTorch is not installed.

    Examples
    --------
    ``fastrnn.torch.restore(model)`` undoes ``fastrnn.torch.accelerate(model)``.
    """
    modules = _named_modules(model)
    from fastrnn import _torch_layers  # which imports PyTorch

    for _, module in modules:
        _torch_layers.restore(module)


def _named_modules(model: Any) -> list[tuple[str, Any]]:
    torch = _check.package("torch", "fastrnn.torch", "fastrnn[torch]")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {_check.shown(model)}")
    return list(model.named_modules())
