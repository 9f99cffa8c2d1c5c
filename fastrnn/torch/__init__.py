"""PyTorch: layers taken over from its modules and state_dicts, and whole models made faster in place.

Importing this module does not import PyTorch: a module that is given has brought it along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from fastrnn import _check
from fastrnn._arrays import SupportsArray
from fastrnn._precision import NARROW, check_precision
from fastrnn._types import Precision, TargetName
from fastrnn.params import GRUParams, LSTMParams, RNNParams
from fastrnn.torch.load import layer_of
from fastrnn.torch.report import Report

if TYPE_CHECKING:
    import torch
    from numpy.typing import DTypeLike

__all__ = ["Report", "accelerate", "from_torch", "restore", "run"]


@overload  # first: where PyTorch is not there, type checkers take its classes for anything
def from_torch(
    module_or_state_dict: Mapping[str, SupportsArray],
    prefix: str = "",
    *,
    nonlinearity: Literal["tanh", "relu"] | None = None,
    batch_first: bool | None = None,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
    embedding: str | None = None,
) -> RNNParams | LSTMParams | GRUParams: ...


@overload
def from_torch(
    module_or_state_dict: torch.nn.RNN | torch.nn.RNNCell,
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
    embedding: str | None = None,
) -> RNNParams: ...


@overload
def from_torch(  # type: ignore[overload-cannot-match]
    module_or_state_dict: torch.nn.LSTM | torch.nn.LSTMCell,
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
    embedding: str | None = None,
) -> LSTMParams: ...


@overload
def from_torch(  # type: ignore[overload-cannot-match]
    module_or_state_dict: torch.nn.GRU | torch.nn.GRUCell,
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
    embedding: str | None = None,
) -> GRUParams: ...


@overload
def from_torch(
    module_or_state_dict: torch.nn.Module,
    prefix: str = "",
    *,
    nonlinearity: Literal["tanh", "relu"] | None = None,
    batch_first: bool | None = None,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
    embedding: str | None = None,
) -> RNNParams | LSTMParams | GRUParams: ...


def from_torch(
    module_or_state_dict: torch.nn.Module | Mapping[str, SupportsArray],
    prefix: str = "",
    *,
    nonlinearity: Literal["tanh", "relu"] | None = None,
    batch_first: bool | None = None,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
    embedding: str | None = None,
) -> RNNParams | LSTMParams | GRUParams:
    """Take the weights and options of a recurrent layer of PyTorch.

    Parameters
    ----------
    module_or_state_dict : torch.nn.Module or mapping of str to tensor or ndarray
        An ``nn.RNN``, ``LSTM``, ``GRU``, ``RNNCell``, ``LSTMCell`` or ``GRUCell``, scripted or not, or what
        ``quantize_dynamic`` made of one; a module that holds one; a state_dict, of the layer or of a whole model; or a
        checkpoint that has a state_dict in it. Tensors are on the CPU, and float32 or float64 unless `dtype` or
        `precision` is given. They are copied: later changes do not reach the params.
    prefix : str
        Where the layer is: "encoder.lstm" of ``encoder.lstm.weight_ih_l0``. It may be left out where there is only one
        recurrent layer, and so may what ``torch.compile`` and ``DataParallel`` put before names.
    nonlinearity : "tanh" or "relu", optional
        That of an ``nn.RNN``, which its state_dict does not tell. A module tells it itself.
    batch_first : bool, optional
        Layout of the data, which a state_dict does not tell: False if it is not given. A module tells it itself,
        but for a traced one.
    dtype : "float32", "float64" or None
        Converts the weights, float16 and bfloat16 too; None: as they are. Of a quantized layer, "float64" makes float64
        weights, and "float32", in which it computes, changes nothing.
    target : str or None
        As in `RNNParams`.
    precision : str or None
        As in `RNNParams`: "float16" holds float16 weights exactly, and rounds others. None: as the weights are, which
        is "int8" or "float16" for a quantized layer.
    requantize : bool
        Round the weights of a quantized layer anew where int8 does not hold them exactly, which is an error without.
    embedding : str or None
        Where the ``nn.Embedding`` is whose rows tokens name: "emb" of ``emb.weight``. Or "one-hot", as in `RNNParams`.
        ``padding_idx`` is a row like any other, and what is about training alone is not carried.

    Returns
    -------
    RNNParams, LSTMParams or GRUParams
        ``dropout`` acts in training only, and is not carried.

    Raises
    ------
    TypeError
        Neither a module nor a mapping, or tensors of another dtype.
    ValueError
        No such layer, another class with a computation of its own, a tensor elsewhere than on the CPU, a state_dict
        of an RNN without `nonlinearity`, or one of a quantized layer; quantized weights that int8 does not hold; an
        embedding with ``max_norm``, which changes rows as it reads them.

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
    options: dict[str, Any] = {"batch_first": batch_first, "dtype": dtype, "target": target, "precision": precision}
    options |= {"requantize": requantize, "embedding": embedding}
    return layer_of(module_or_state_dict, prefix, nonlinearity, **options)


def accelerate(model: torch.nn.Module, *, precision: Literal["float16", "int8", "int8_fast"] | None = None) -> Report:
    """Let every recurrent layer of a PyTorch model run on fastrnn, in place.

    Each ``nn.RNN``, ``LSTM``, ``GRU``, ``RNNCell``, ``LSTMCell`` and ``GRUCell`` stays the object that it is, with its
    parameters, hooks and names, and gets another class that is derived from its own. A call of it, and the way back
    through it, run on fastrnn where tensors are on the CPU and of float32 or float64, and as before elsewhere: on other
    devices and dtypes, under autocast, and while PyTorch traces, exports or transforms it. Changed weights are noticed,
    and packed anew. What ``quantize_dynamic`` made of such a layer runs with its own bytes or halves, where no gradient
    is wanted.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place. Calling it again with the same model does no harm, and may change the precision.
    precision : "float16", "int8", "int8_fast" or None
        Run with narrow copies of the weights, as `RNNParams` has them, where no gradient is wanted: under
        ``torch.no_grad()`` or ``torch.inference_mode()``, or where nothing requires one. PyTorch's own layers run where
        one is, and where dropout acts. The model's weights stay what they are, and are float32. None: as they are,
        "int8" or "float16" where a layer is quantized.

    Returns
    -------
    Report
        What was replaced, which of it trains on fastrnn, and what was not replaced and why.

    Raises
    ------
    TypeError
        `model` is not a module, or `precision` is not a str.
    ValueError
        Another precision.
    ImportError
        PyTorch is not installed.

    Notes
    -----
    A gradient of a gradient is PyTorch's: its layer runs again for it. ``torch.no_grad()`` or
    ``torch.inference_mode()`` saves the time and the memory of keeping what gradients need.

    A change of weights is seen by PyTorch's own counter of changes, and where that is passed by (``weight.data``, the
    memory under ``weight.numpy()``) by a sample, which has every row, every column and the biases. Who changes single
    elements in such a way calls `accelerate` again.

    The packings of up to eight sets of weights are kept. Where weights change before each short call, and no gradient
    is wanted, PyTorch runs.

    Examples
    --------
    ``report = fastrnn.torch.accelerate(model)``, and to see what it did, ``print(report)``:

    >>> from fastrnn.torch import Report
    >>> print(Report(replaced=("rnn",)))
    rnn: replaced
    """
    modules = _named_modules(model)
    check_precision(precision, NARROW)
    from fastrnn.torch import layers  # which imports PyTorch

    replaced, kept, trained = [], {}, []
    for name, module in modules:
        reason = layers.why_not(module)
        if reason is None:
            reason = layers.why_not_narrow(module, precision)
        if reason is None:
            layers.replace(module, precision)
            replaced.append(name)
            if layers.is_trained(module):
                trained.append(name)
        elif reason:
            kept[name] = reason
    return Report(tuple(replaced), kept, tuple(trained), precision)


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
    from fastrnn.torch import layers  # which imports PyTorch

    for _, module in modules:
        layers.restore(module)


def run(
    layer: Any,
    x: torch.Tensor,
    state: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
    *,
    resets: torch.Tensor | None = None,
    lengths: torch.Tensor | Sequence[int] | None = None,
) -> Any:
    """Call an accelerated layer with what PyTorch's layers do not take: resets, and lengths of rows.

    Parameters
    ----------
    layer : torch.nn.RNN, LSTM or GRU
        One that `accelerate` has replaced. Its hooks are not called.
    x : torch.Tensor
        (T, B, I), (B, T, I) where the layer is batch first, or (T, I).
    state : torch.Tensor or tuple of two, optional
        Initial states as the layer takes them: h, or (h, c) of an LSTM; zeros if not given.
    resets : torch.Tensor of bool, optional
        Laid out as the steps of `x`: (T, B), (B, T) or (T,). Where it is true, the row's state, of all layers, is zero
        before that step. The reverse direction forgets at the same steps, each before it takes the step.
    lengths : (B,) torch.Tensor of int64, or integers, optional
        Steps of each row, from 0 to T, in any order. `y` is 0 past them, and the final state that of the last step.

    Returns
    -------
    y, state : tuple
        As the layer returns them, with gradients for PyTorch's autograd. None flows over a reset.

    Raises
    ------
    TypeError, ValueError
        An argument of a wrong type, dtype, shape or value.
    ImportError
        PyTorch is not installed.

    Notes
    -----
    Where fastrnn may not run (docs/pytorch.md), PyTorch's layers go step by step: the same results, slowly.

    Examples
    --------
    ``y, (h_n, c_n) = fastrnn.torch.run(lstm, x, resets=starts)``, ``starts`` being true where an episode begins.
    """
    torch = _check.package("torch", "fastrnn.torch", "torch")
    from fastrnn.torch import layers, marks  # which import PyTorch

    if not layers.is_layer(layer):
        replaces = "; fastrnn.torch.accelerate(model) replaces those of a model"
        cure, got = replaces if isinstance(layer, torch.nn.Module) else "", type(layer).__name__
        raise TypeError(f"layer: expected an nn.RNN, LSTM or GRU that runs on fastrnn, got {got}{cure}")
    return layer.run_marked(x, state, marks.checked(layer, x, resets, lengths))


def _named_modules(model: Any) -> list[tuple[str, Any]]:
    torch = _check.package("torch", "fastrnn.torch", "torch")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {_check.shown(model)}")
    return list(model.named_modules())
