"""The classes that `fastrnn.torch.accelerate` gives to PyTorch's layers.

A layer keeps its `__dict__`, and so its parameters, hooks, names and all that refers to it. Only `forward` is new:
(a) where fastrnn may not stand in for PyTorch, or where an argument is wrong, PyTorch's own `forward` runs and raises
    its own errors;
(b) where it may, tensors are read in place, and results become tensors without a copy;
(c) weights are packed at the first call, and again when they have changed (`Packings`);
(d) in eval mode results carry a gradient, which PyTorch computes if it is asked for (`_Differentiable`).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from fastrnn import _core, functional
from fastrnn._cells import GRU, LSTM, RNN, Cell
from fastrnn.config import get_num_threads
from fastrnn.torch.modules import PLAIN_CLASSES, activation_of, cell_of_class, own_methods, torch_class, weight_names
from fastrnn.torch.packings import Packings
from fastrnn.torch.weights import PackedLayer, dense, is_plain

if TYPE_CHECKING:
    from fastrnn._arrays import Array

_FUNCTIONS = {cell.name: getattr(functional, cell.name) for cell in (RNN, LSTM, GRU)}

# Steps times rows of the padded batch, over the steps that a packed sequence holds. PyTorch, which does not pad, is
# faster beyond that.
_MOST_PADDING = 4


def _is_followed() -> bool:
    """Whether PyTorch records or changes each operation: tracing, autocast, modes of dispatch, vmap and the like."""
    return bool(
        torch._C._is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack()
        or _function_modes()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def _function_modes() -> bool:
    """Modes that see functions of PyTorch, but for the one that only sets the default device."""
    stack = torch.overrides._get_current_function_mode_stack() if torch._C._len_torch_function_stack() else ()
    return any(type(mode) is not torch.utils._device.DeviceContext for mode in stack)


def _tuple_of(hx: Any) -> tuple[Any, ...]:
    return () if hx is None else tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def _state_of(states: tuple[Any, ...]) -> Any:
    """None, one state, or a tuple (h, c)."""
    return states if len(states) > 1 else states[0] if states else None


class _Accelerated:
    """The base of layers and cells. It comes before PyTorch's class, `_original`, in the order of resolution."""

    _original: type[Any]
    _cell: Cell
    _parameters: dict[str, Any]
    training: bool
    input_size: int
    hidden_size: int

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  (PyTorch's name)
        if not isinstance(self, _Accelerated):  # restored, and called by somebody who kept this method
            return type(self).forward(self, input, hx)
        if torch.compiler.is_compiling():
            return super().forward(input, hx)  # type: ignore[misc]
        if not isinstance(input, torch.fx.Proxy):
            packings: Packings | None = self.__dict__.get("_fastrnn")
            if packings is not None and packings.pauses():  # asked first: PyTorch's small calls are short too
                return super().forward(input, hx)  # type: ignore[misc]
        return self._forward(input, hx)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the code around this call is compiled
    def _forward(self, given: Any, hx: Any) -> Any:
        if isinstance(given, torch.fx.Proxy):  # recorded as one call, as a layer of PyTorch is
            arguments = (given,) if hx is None else (given, hx)
            return given.tracer.create_proxy("call_module", given.tracer.path_of_module(self), arguments, {})
        sequence = given if isinstance(given, PackedSequence) else None
        tensors = (given if sequence is None else sequence.data, *_tuple_of(hx))
        weights = self._weights()
        ready = self._ready(tensors, weights, sequence) if self._takes(hx) else None
        if ready is None:
            return super().forward(given, hx)  # type: ignore[misc]
        params, arrays, wanted = ready
        if wanted:
            results = _Differentiable.apply(self, params, sequence, len(tensors), *tensors, *weights)
        else:
            results = self._run(params, arrays, sequence)
        return self._joined(results, sequence)

    def _takes(self, hx: Any) -> bool:
        """Whether a state is of the kind that PyTorch takes: none, (h, c) of an LSTM, else a tensor."""
        if self._cell.states == ("h",):
            return not isinstance(hx, (tuple, list))
        return hx is None or (isinstance(hx, (tuple, list)) and len(hx) == len(self._cell.states))

    def _ready(self, tensors: tuple[Any, ...], weights: list[Any], sequence: Any) -> Any:
        """(params, arrays, whether a gradient is wanted) where fastrnn may run, None where it may not."""
        if not weights or _is_followed():
            return None
        arrays = []
        for tensor in tensors:
            arrays.append(dense(tensor))
            if arrays[-1] is None:
                return None
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, *weights))
        if self.training and (wanted or self._drops()):
            return None
        shapes = self._state_shapes(arrays[0].shape, sequence)
        if not shapes or 0 in arrays[0].shape or (len(arrays) > 1 and [a.shape for a in arrays[1:]] != shapes):
            return None
        packed = self._packed(weights, self._steps(arrays[0].shape, sequence))
        if packed is None:
            return None
        for array in arrays:
            if array.dtype != packed.dtype:
                return None
        return packed.params, arrays, wanted

    def _weights(self) -> list[Any]:
        """The weights as they are now; an empty list where one is no longer a parameter, but computed or absent."""
        parameters = self._parameters
        weights = [parameters.get(name) for name in weight_names(self)]
        for weight in weights:
            if weight is None:
                return []
        return weights

    def _packed(self, weights: list[Any], steps: int) -> PackedLayer | None:
        """The weights packed, for a call of so many steps; None where PyTorch is to run, since they keep changing."""
        packings: Packings | None = self.__dict__.get("_fastrnn")
        if packings is None:
            packings = self.__dict__["_fastrnn"] = Packings(self._cell)
        activation = activation_of(self) if self._cell is RNN else None
        return packings.find(weight_names(self), weights, activation, steps)

    def _call(self, params: _core.Params, x: Array, states: list[Array], **options: Any) -> tuple[Array, ...]:
        """(y, h) or (y, h, c)."""
        threads = min(torch.get_num_threads(), get_num_threads())
        function: Any = _FUNCTIONS[self._cell.name]
        y, state = function(x, params, _state_of(tuple(states)), threads=threads, **options)
        return y, *_tuple_of(state)

    def plain(self, parameters: dict[str, Any] | None = None) -> Any:
        """The layer as PyTorch's class has it, with the same parameters or others."""
        plain: Any = object.__new__(self._original)
        plain.__dict__.update(self.__getstate__())
        if parameters is not None:
            plain.__dict__["_parameters"] = parameters
        if hasattr(plain, "_flat_weights"):
            plain._init_flat_weights()
        return plain

    def __prepare_scriptable__(self) -> Any:
        """The layer that torch.jit.script compiles."""
        return self.plain()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _new, (self._original,), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        above = getattr(super(), "__getstate__", None)  # Python 3.10: not every object has it
        state = dict(self.__dict__ if above is None else above())
        state.pop("_fastrnn", None)
        return state

    def _drops(self) -> bool:
        """Whether dropout acts in training."""
        raise NotImplementedError

    def _state_shapes(self, shape: tuple[int, ...], sequence: Any) -> list[tuple[int, ...]]:
        """Shapes of the states that go with x; an empty list where the shape of x is wrong."""
        raise NotImplementedError

    def _steps(self, shape: tuple[int, ...], sequence: Any) -> int:
        """Steps of a call, given the shape of x."""
        raise NotImplementedError

    def _run(self, params: _core.Params, arrays: list[Array], sequence: Any) -> tuple[Any, ...]:
        """All results as tensors, side by side."""
        raise NotImplementedError

    def _joined(self, results: tuple[Any, ...], sequence: Any) -> Any:
        """Results in the form that PyTorch gives them."""
        raise NotImplementedError

    def _split(self, result: Any) -> tuple[Any, ...]:
        """The results that `_joined` has joined."""
        raise NotImplementedError

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self.__dict__.pop("_fastrnn", None)  # packed weights would keep the memory that the tensors leave
        return super()._apply(*arguments, **options)  # type: ignore[misc]


def _sizes_of(sequence: Any, rows: int) -> Any:
    """The batch sizes of a packed sequence, as an array.

    None where sizes or indices are not those of a packed sequence, and where a padded batch would be mostly padding.
    """
    sizes, indices = sequence.batch_sizes, (sequence.sorted_indices, sequence.unsorted_indices)
    if not all(_is_vector(tensor) for tensor in (sizes, *indices) if tensor is not None) or not len(sizes):
        return None
    counts = sizes.numpy()
    if counts[-1] < 1 or (counts[1:] > counts[:-1]).any() or counts.sum() != rows:
        return None
    if len(counts) * counts[0] > _MOST_PADDING * rows:
        return None
    places = np.arange(counts[0])
    if any(index is not None and not np.array_equal(np.sort(index.numpy()), places) for index in indices):
        return None
    return counts


def _is_vector(tensor: Any) -> bool:
    ordinary = type(tensor) is torch.Tensor and tensor.is_cpu and tensor.layout is torch.strided
    return ordinary and tensor.dtype is torch.int64 and tensor.dim() == 1 and tensor.is_contiguous()


def _in_order(states: list[Array], indices: Any) -> list[Array]:
    return states if indices is None else [np.take(state, indices.numpy(), axis=1) for state in states]


class _Layer(_Accelerated):
    """nn.RNN, LSTM and GRU."""

    num_layers: int
    bidirectional: bool
    batch_first: bool
    dropout: float
    proj_size: int

    def _drops(self) -> bool:
        return self.dropout > 0 and self.num_layers > 1

    def _state_shapes(self, shape: tuple[int, ...], sequence: Any) -> list[tuple[int, ...]]:
        if len(shape) not in ((2, 3) if sequence is None else (2,)) or shape[-1] != self.input_size:
            return []
        first = self.num_layers * (2 if self.bidirectional else 1)
        if sequence is not None:
            sizes = _sizes_of(sequence, shape[0])
            if sizes is None:
                return []
            batch = [int(sizes[0])]
        else:
            batch = [shape[0 if self.batch_first else 1]] if len(shape) == 3 else []
        h, c = ((first, *batch, size) for size in (self.proj_size or self.hidden_size, self.hidden_size))
        return [h, c][: len(self._cell.states)]

    def _steps(self, shape: tuple[int, ...], sequence: Any) -> int:
        if sequence is not None:
            return len(sequence.batch_sizes)
        return shape[1 if self.batch_first and len(shape) == 3 else 0]

    def _run(self, params: _core.Params, arrays: list[Array], sequence: Any) -> tuple[Any, ...]:
        x, *states = arrays
        if sequence is None:
            swapped = self.batch_first and x.ndim == 3
            y, *states = self._call(params, x.swapaxes(0, 1) if swapped else x, states)
            y = y.swapaxes(0, 1) if swapped else y  # steps outermost in memory, as in PyTorch
            return tuple(map(torch.from_numpy, (y, *states)))
        sizes = sequence.batch_sizes.numpy()
        runs = np.arange(sizes[0]) < sizes[:, None]  # (T, B): true at the steps in the sequence
        padded = np.zeros((*runs.shape, x.shape[1]), x.dtype)
        padded[runs] = x
        states = _in_order(states, sequence.sorted_indices)
        y, *states = self._call(params, padded, states, lengths=runs.sum(0))
        return tuple(map(torch.from_numpy, (y[runs], *_in_order(states, sequence.unsorted_indices))))

    def _joined(self, results: tuple[Any, ...], sequence: Any) -> Any:
        y, *states = results
        return y if sequence is None else sequence._replace(data=y), _state_of(tuple(states))

    def _split(self, result: Any) -> tuple[Any, ...]:
        y, state = result
        return y.data if isinstance(y, PackedSequence) else y, *_tuple_of(state)


class _Cell(_Accelerated):
    """nn.RNNCell, LSTMCell and GRUCell: a layer of one step, whose output is its state."""

    def _drops(self) -> bool:
        return False

    def _state_shapes(self, shape: tuple[int, ...], sequence: Any) -> list[tuple[int, ...]]:
        if sequence is not None or len(shape) not in (1, 2) or shape[-1] != self.input_size:
            return []
        return [(*shape[:-1], self.hidden_size)] * len(self._cell.states)

    def _steps(self, shape: tuple[int, ...], sequence: Any) -> int:
        return 1

    def _run(self, params: _core.Params, arrays: list[Array], sequence: Any) -> tuple[Any, ...]:
        x, *states = (array[None] for array in arrays)
        _, *states = self._call(params, x, states)
        return tuple([torch.from_numpy(state[0]) for state in states])

    def _joined(self, results: tuple[Any, ...], sequence: Any) -> Any:
        return _state_of(results)

    def _split(self, result: Any) -> tuple[Any, ...]:
        return _tuple_of(result)


class _Differentiable(torch.autograd.Function):  # type: ignore[misc]
    """Results of fastrnn; PyTorch runs the layer again if their gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, layer: Any, params: _core.Params, sequence: Any, count: int, *tensors: Any) -> Any:
        ctx.layer, ctx.count = layer, count
        ctx.sequence = None if sequence is None else sequence._replace(data=None)
        ctx.save_for_backward(*tensors)
        return layer._run(params, [dense(tensor) for tensor in tensors[:count]], sequence)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        twice = torch.is_grad_enabled()  # whether a gradient of the gradient may be wanted
        tensors = [t if twice else t.detach().requires_grad_(t.requires_grad) for t in ctx.saved_tensors]
        x, *states = tensors[: ctx.count]
        weights = dict(zip(weight_names(ctx.layer), tensors[ctx.count :], strict=True))
        layer = ctx.layer.plain(dict.fromkeys(("bias_ih", "bias_hh")) | weights)  # which cells need, perhaps as None
        layer.__dict__["training"] = False
        with torch.enable_grad():
            given = x if ctx.sequence is None else ctx.sequence._replace(data=x)
            outputs = ctx.layer._split(type(layer).forward(layer, given, _state_of(tuple(states))))
        wanted = [tensor for tensor in tensors if tensor.requires_grad]
        found = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=twice, allow_unused=True))
        return None, None, None, None, *(next(found) if tensor.requires_grad else None for tensor in tensors)


@functools.cache
def _class_for(original: Any) -> Any:
    above = _Layer if issubclass(original, torch.nn.RNNBase) else _Cell
    own = {"_original": original, "_cell": cell_of_class(torch_class(torch, original)), "__module__": __name__}
    return type(original.__name__, (above, original), own)


def _new(original: Any) -> Any:
    return object.__new__(_class_for(original))


def why_not(module: Any) -> str | None:
    """Why a recurrent layer is not replaced; None if it can be; "" if the module is no recurrent layer."""
    if isinstance(module, _Accelerated):
        return None
    if isinstance(module, torch.jit.ScriptModule):
        scripted = getattr(module, "original_name", "") in PLAIN_CLASSES
        return "TorchScript has compiled it; accelerate the model before, or not at all" if scripted else ""
    kind: Any = type(module)
    plain = torch_class(torch, kind)
    if plain is None:
        named = any(name in kind.__name__ for name in ("RNN", "LSTM", "GRU"))
        holds = any(torch_class(torch, type(inner)) for inner in module.modules())  # which are reported by themselves
        return f"{kind.__module__}.{kind.__name__} is none of torch.nn's classes" if named and not holds else ""
    own = own_methods(module, plain)
    if own:
        return f"it has a {own[0]} of its own ({kind.__name__})"
    weights = _Accelerated._weights(module)
    if not weights:
        return "its weights are computed at each call (weight_norm, parametrizations), or some are left out"
    foreign = next((type(weight) for weight in weights if not is_plain(weight)), None)
    if foreign is not None:
        return f"its weights are of {foreign.__module__}.{foreign.__qualname__}, a tensor that computes in its own way"
    try:
        _class_for(kind)
    except Exception as error:  # a class may refuse to be derived from in any way
        return f"no class can be derived from {kind.__name__}: {error}"
    return None


def replace(module: Any) -> None:
    if isinstance(module, _Accelerated):
        module.__dict__.pop("_fastrnn", None)
    else:
        original: Any = type(module)
        module.__class__ = _class_for(original)


def restore(module: Any) -> None:
    if not isinstance(module, _Accelerated):
        return
    module.__dict__.pop("_fastrnn", None)
    kind: Any = type(module)
    original: Any = module._original
    if kind is _class_for(original):
        module.__class__ = original
        return
    # A parametrization has derived a class of its own since: the same, derived from the original.
    bases = tuple(getattr(base, "_original", base) for base in kind.__bases__)
    own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind)(kind.__name__, bases, own)
