"""The classes that `fastrnn.torch.accelerate` gives to PyTorch's layers.

A layer keeps its `__dict__`, and so its parameters, hooks, names and all that refers to it. Only `forward` is new:
(a) where fastrnn may not stand in for PyTorch, or where an argument is not as it should be, PyTorch's own `forward`
    runs, errors included;
(b) where it may, tensors are read and results are given in the same memory;
(c) weights are packed at the first call, and again when they have changed (`_Packed`);
(d) a gradient that may be wanted in eval mode is had from PyTorch if it is asked for (`_Differentiable`).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from fastrnn import _core, functional
from fastrnn.config import get_num_threads
from fastrnn.params import CLASSES, Array
from fastrnn.torch import PLAIN_CLASSES, cell_name, torch_class, weight_names

try:
    import torch
except ImportError as error:
    raise ImportError("torch: expected PyTorch, which is not installed; pip install 'fastrnn[torch]'") from error

from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

_FUNCTIONS = {"rnn": functional.rnn, "lstm": functional.lstm, "gru": functional.gru}
_DTYPES: dict[Any, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}
_SAMPLES = 8  # along each axis of a weight
_MOST_PADDING = (
    4  # steps times rows of a packed sequence, over what it holds: beyond, PyTorch does not pad and is faster
)

# What PyTorch's forward calls: a class that has another one of these computes in its own way.
_ASKED = ["forward", "check_input", "check_forward_args", "check_hidden_size", "permute_hidden"]
_ASKED += ["get_expected_hidden_size", "get_expected_cell_size", "_update_flat_weights"]


class _Packed(NamedTuple):
    """Packed weights, and by what a change of the tensors is seen that they were packed from."""

    params: _core.Params | None  # None where fastrnn can't have such weights
    dtype: np.dtype[Any] | None
    marks: list[Any]
    samples: list[tuple[Array, bytes]]  # some numbers: a view, which keeps the address from another use, and a copy

    def __deepcopy__(self, memo: Any) -> None:
        """None: a copy of a layer packs for itself."""

    def __reduce__(self) -> Any:
        return type(None), ()


def _marks(weights: list[Any], activation: str | None) -> list[Any]:
    """Where weights are, how often PyTorch has counted that they changed, and the one option that can be set later."""
    try:
        return [activation, *[(weight.data_ptr(), weight._version) for weight in weights]]
    except RuntimeError:  # made under inference_mode: changes are not counted; or without memory
        return [activation, *[(_address(weight), -1) for weight in weights]]


def _address(tensor: Any) -> int:
    try:
        return int(tensor.data_ptr())
    except RuntimeError:
        return 0


def _pack(cell: str, names: list[str], weights: list[Any], activation: str | None) -> _Packed:
    marks = _marks(weights, activation)  # before the numbers are read: a change in between is a change
    arrays = [_array(weight.detach()) for weight in weights]  # what keeps the memory if the weight leaves it
    if any(array is None or array.dtype != arrays[0].dtype for array in arrays):
        return _Packed(None, None, marks, [])
    options: dict[str, Any] = {} if activation is None else {"activation": activation}
    params = _core.Params()  # all that a call needs: no copy of the weights stays beside the packed ones
    try:
        params._packed = CLASSES[cell](dict(zip(names, arrays, strict=True)), **options)._packed
    except (TypeError, ValueError):  # shapes that PyTorch makes do with, or has an error of its own for
        return _Packed(None, None, marks, [])
    views = [array[tuple(slice(None, None, max(1, n // _SAMPLES)) for n in array.shape)] for array in arrays]
    return _Packed(params, arrays[0].dtype, marks, [(view, view.tobytes()) for view in views])


def _are_as_sampled(samples: list[tuple[Array, bytes]]) -> bool:
    return [view.tobytes() for view, _ in samples] == [copy for _, copy in samples]  # half the time of all(...)


def _array(tensor: Any) -> Any:
    """A tensor as an array in the same memory; None where it is not an ordinary tensor of floats in such memory.

    `tensor.numpy()` would do the same and leave a mark: the tensor's memory could not be resized any more.
    """
    if type(tensor) is not torch.Tensor and type(tensor) is not torch.nn.Parameter:
        return None
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None or not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_neg():
        return None
    address = _address(tensor)
    if address == 0 or address % dtype.itemsize:
        return None
    return _core.array_at(address, tensor.shape, tensor.stride(), dtype, tensor)


def _dense(tensor: Any) -> Any:
    """As `_array`, but that a last axis with strides is copied."""
    array = _array(tensor)
    if array is None or not array.ndim or array.strides[-1] == array.itemsize:
        return array
    return np.ascontiguousarray(array)


def _is_followed() -> bool:
    """Whether each operation is seen or changed by others: tracing, autocast, modes of dispatch, vmap and the like."""
    return bool(
        torch._C._is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def _tuple_of(hx: Any) -> tuple[Any, ...]:
    return () if hx is None else tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def _state_of(states: tuple[Any, ...]) -> Any:
    """None, one state, or a tuple (h, c)."""
    return states if len(states) > 1 else states[0] if states else None


class _Accelerated:
    """What layers and cells have in common. It stands before PyTorch's class, which `_original` is."""

    _original: type[Any]
    _cell: str
    _parameters: dict[str, Any]
    training: bool
    input_size: int
    hidden_size: int

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  (PyTorch's name)
        if not isinstance(self, _Accelerated):  # restored, and called by somebody who kept this method
            return type(self).forward(self, input, hx)
        if torch.compiler.is_compiling():
            return super().forward(input, hx)  # type: ignore[misc]
        return self._forward(input, hx)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # what is around it is compiled; this is called
    def _forward(self, given: Any, hx: Any) -> Any:
        if isinstance(given, torch.fx.Proxy):  # noted down as one call, as a layer of PyTorch is
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
        if self._cell != "lstm":
            return not isinstance(hx, (tuple, list))
        return hx is None or (isinstance(hx, (tuple, list)) and len(hx) == 2)

    def _ready(self, tensors: tuple[Any, ...], weights: list[Any], sequence: Any) -> Any:
        """(params, arrays, whether a gradient is wanted) where fastrnn may run, None where it may not."""
        if not weights or _is_followed():
            return None
        arrays = []
        for tensor in tensors:
            arrays.append(_dense(tensor))
            if arrays[-1] is None:
                return None
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, *weights))
        if self.training and (wanted or self._drops()):
            return None
        shapes = self._state_shapes(arrays[0].shape, sequence)
        if not shapes or 0 in arrays[0].shape or (len(arrays) > 1 and [a.shape for a in arrays[1:]] != shapes):
            return None
        packed = self._packed(weights)
        for array in arrays:
            if array.dtype != packed.dtype:
                return None
        return packed.params, arrays, wanted

    def _weights(self) -> list[Any]:
        """Tensors as they are now; none where one is no parameter any more, but computed or left out."""
        parameters = self._parameters
        weights = [parameters.get(name) for name in weight_names(self)]
        for weight in weights:
            if weight is None:
                return []
        return weights

    def _packed(self, weights: list[Any]) -> _Packed:
        """The weights packed, anew where they have changed."""
        packed: _Packed | None = self.__dict__.get("_fastrnn")
        activation = self._activation() if self._cell == "rnn" else None
        if packed is None or packed.marks != _marks(weights, activation) or not _are_as_sampled(packed.samples):
            packed = self.__dict__["_fastrnn"] = _pack(self._cell, weight_names(self), weights, activation)
        return packed

    def _call(self, params: _core.Params, x: Array, states: list[Array], **options: Any) -> tuple[Array, ...]:
        """(y, h) or (y, h, c)."""
        threads = min(torch.get_num_threads(), get_num_threads())
        function: Any = _FUNCTIONS[self._cell]
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
        """What torch.jit.script compiles."""
        return self.plain()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _new, (self._original,), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        above = getattr(super(), "__getstate__", None)  # Python 3.10: not every object has it
        state = dict(self.__dict__ if above is None else above())
        state.pop("_fastrnn", None)
        return state

    def _activation(self) -> str:
        """Of an RNN."""
        raise NotImplementedError

    def _drops(self) -> bool:
        """Whether dropout acts in training."""
        raise NotImplementedError

    def _state_shapes(self, shape: tuple[int, ...], sequence: Any) -> list[tuple[int, ...]]:
        """Shapes of the states that go with x; none where x is not as it should be."""
        raise NotImplementedError

    def _run(self, params: _core.Params, arrays: list[Array], sequence: Any) -> tuple[Any, ...]:
        """All results as tensors, side by side."""
        raise NotImplementedError

    def _joined(self, results: tuple[Any, ...], sequence: Any) -> Any:
        """Results in the form that PyTorch gives them."""
        raise NotImplementedError

    def _apart(self, result: Any) -> tuple[Any, ...]:
        """What `_joined` has joined."""
        raise NotImplementedError

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self.__dict__.pop("_fastrnn", None)  # it would keep memory that the weights may leave
        return super()._apply(*arguments, **options)  # type: ignore[misc]


def _sizes_of(sequence: Any, rows: int) -> Any:
    """The batch sizes of a packed sequence, as an array; None where they or the indices are not as they should be.

    Also where most of what a padded batch would hold is padding.
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

    mode: str
    num_layers: int
    bidirectional: bool
    batch_first: bool
    dropout: float
    proj_size: int

    def _drops(self) -> bool:
        return self.dropout > 0 and self.num_layers > 1

    def _activation(self) -> str:
        return {"RNN_TANH": "tanh", "RNN_RELU": "relu"}.get(self.mode, self.mode)

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
        return [h, c] if self._cell == "lstm" else [h]

    def _run(self, params: _core.Params, arrays: list[Array], sequence: Any) -> tuple[Any, ...]:
        x, *states = arrays
        if sequence is None:
            turned = self.batch_first and x.ndim == 3
            y, *states = self._call(params, x.swapaxes(0, 1) if turned else x, states)
            y = y.swapaxes(0, 1) if turned else y  # steps outermost in memory, as in PyTorch
            return tuple(map(torch.from_numpy, (y, *states)))
        sizes = sequence.batch_sizes.numpy()
        runs = np.arange(sizes[0]) < sizes[:, None]  # (T, B): a packed sequence holds what is true, in this order
        padded = np.zeros((*runs.shape, x.shape[1]), x.dtype)
        padded[runs] = x
        states = _in_order(states, sequence.sorted_indices)
        y, *states = self._call(params, padded, states, lengths=runs.sum(0))
        return tuple(map(torch.from_numpy, (y[runs], *_in_order(states, sequence.unsorted_indices))))

    def _joined(self, results: tuple[Any, ...], sequence: Any) -> Any:
        y, *states = results
        return y if sequence is None else sequence._replace(data=y), _state_of(tuple(states))

    def _apart(self, result: Any) -> tuple[Any, ...]:
        y, state = result
        return y.data if isinstance(y, PackedSequence) else y, *_tuple_of(state)


class _Cell(_Accelerated):
    """nn.RNNCell, LSTMCell and GRUCell: a layer of one step, whose output is its state."""

    nonlinearity: str

    def _activation(self) -> str:
        return self.nonlinearity

    def _drops(self) -> bool:
        return False

    def _state_shapes(self, shape: tuple[int, ...], sequence: Any) -> list[tuple[int, ...]]:
        if sequence is not None or len(shape) not in (1, 2) or shape[-1] != self.input_size:
            return []
        return [(*shape[:-1], self.hidden_size)] * (2 if self._cell == "lstm" else 1)

    def _run(self, params: _core.Params, arrays: list[Array], sequence: Any) -> tuple[Any, ...]:
        x, *states = (array[None] for array in arrays)
        _, *states = self._call(params, x, states)
        return tuple([torch.from_numpy(state[0]) for state in states])

    def _joined(self, results: tuple[Any, ...], sequence: Any) -> Any:
        return _state_of(results)

    def _apart(self, result: Any) -> tuple[Any, ...]:
        return _tuple_of(result)


class _Differentiable(torch.autograd.Function):  # type: ignore[misc]
    """Results of fastrnn; PyTorch runs the layer again if their gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, layer: Any, params: _core.Params, sequence: Any, count: int, *tensors: Any) -> Any:
        ctx.layer, ctx.count = layer, count
        ctx.sequence = None if sequence is None else sequence._replace(data=None)
        ctx.save_for_backward(*tensors)
        return layer._run(params, [_dense(tensor) for tensor in tensors[:count]], sequence)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        twice = torch.is_grad_enabled()  # whether a gradient of the gradient may be wanted
        tensors = [t if twice else t.detach().requires_grad_(t.requires_grad) for t in ctx.saved_tensors]
        x, *states = tensors[: ctx.count]
        weights = dict(zip(weight_names(ctx.layer), tensors[ctx.count :], strict=True))
        layer = ctx.layer.plain(dict.fromkeys(("bias_ih", "bias_hh")) | weights)  # which cells have, if only as None
        layer.__dict__["training"] = False
        with torch.enable_grad():
            given = x if ctx.sequence is None else ctx.sequence._replace(data=x)
            outputs = ctx.layer._apart(type(layer).forward(layer, given, _state_of(tuple(states))))
        wanted = [tensor for tensor in tensors if tensor.requires_grad]
        found = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=twice, allow_unused=True))
        return None, None, None, None, *(next(found) if tensor.requires_grad else None for tensor in tensors)


@functools.cache
def _class_for(original: Any) -> Any:
    above = _Layer if issubclass(original, torch.nn.RNNBase) else _Cell
    own = {"_original": original, "_cell": cell_name(torch_class(torch, original)), "__module__": __name__}
    return type(original.__name__, (above, original), own)


def _new(original: Any) -> Any:
    return object.__new__(_class_for(original))


def why_not(module: Any) -> str | None:
    """Why a recurrent layer is not replaced; None where it is to be; "" where the module is none."""
    if isinstance(module, _Accelerated):
        return None
    if isinstance(module, torch.jit.ScriptModule):
        scripted = getattr(module, "original_name", "") in PLAIN_CLASSES
        return "TorchScript has compiled it; accelerate the model before, or not at all" if scripted else ""
    kind: Any = type(module)
    plain = torch_class(torch, kind)
    if plain is None:
        named = any(name in kind.__name__ for name in ("RNN", "LSTM", "GRU"))
        holds = any(
            torch_class(torch, type(inner)) for inner in module.modules()
        )  # which are replaced, or have reasons
        return f"{kind.__module__}.{kind.__name__} is none of torch.nn's classes" if named and not holds else ""
    own = [
        name for name in _ASKED if getattr(kind, name, None) is not getattr(plain, name, None) or name in vars(module)
    ]
    if own:
        return f"it has a {own[0]} of its own ({kind.__name__})"
    if not _Accelerated._weights(module):
        return "its weights are computed at each call (weight_norm, parametrizations), or some are left out"
    try:
        _class_for(kind)
    except Exception as error:  # whatever the class asks of those that are derived from it
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
