"""The classes that `fastrnn.torch.accelerate` gives to PyTorch's layers.

A layer keeps its `__dict__`, and so its parameters, hooks, names and all that refers to it. Only `forward` is new:
(a) where fastrnn may not stand in for PyTorch, or where an argument is wrong, PyTorch's own `forward` runs and raises
    its own errors;
(b) where it may, tensors are read in place, and results become tensors without a copy;
(c) weights are packed at the first call, and again when they have changed (`Packings`);
(d) where a gradient is wanted, the call keeps a tape (`Differentiable`);
(e) where dropout acts, the layers of a stack run one by one, and PyTorch's dropout between them;
(f) where the layer is to run with narrow weights, PyTorch's own `forward` runs in the cases of (d) and (e);
(g) a dynamically quantized layer runs with the weights that are packed in it, and as in (f);
(h) a call with resets or lengths (`Marks`) takes the same ways, and in the place of PyTorch's `forward`, which knows
    neither, it goes step by step (`by_steps`).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import PackedSequence

from fastrnn import functional
from fastrnn._cells import GRU, LSTM, RNN, Cell
from fastrnn.config import get_num_threads
from fastrnn.torch.followed import is_followed
from fastrnn.torch.layouts import Layout, OneStep, layout_of
from fastrnn.torch.load import layer_of
from fastrnn.torch.marks import Marks
from fastrnn.torch.modules import PLAIN_CLASSES, activation_of, cell_of_class, own_methods, torch_class, weight_names
from fastrnn.torch.packings import Carried, Packings
from fastrnn.torch.quantized import dynamic_class, is_packed, packed_objects, packed_tensors
from fastrnn.torch.steps import by_steps
from fastrnn.torch.training import Call, Differentiable, results_of, run, state_of, states_of
from fastrnn.torch.weights import dense, is_plain, pack, view_of

if TYPE_CHECKING:
    from fastrnn._arrays import Array
    from fastrnn._types import Precision
    from fastrnn.params import Params

_PRECISION = "_fastrnn_precision"  # an attribute of layers that run with narrow weights: copies and pickles have it too
_FUNCTIONS = {cell.name: getattr(functional, cell.name) for cell in (RNN, LSTM, GRU)}


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
        if not isinstance(input, torch.fx.Proxy) and not torch.is_grad_enabled() and self._pauses():
            return super().forward(input, hx)  # type: ignore[misc]  # at once: PyTorch's small calls are short too
        return self._forward(input, hx)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the code around this call is compiled
    def _forward(self, given: Any, hx: Any, marks: Marks | None = None) -> Any:
        if isinstance(given, torch.fx.Proxy):  # recorded as one call, as a layer of PyTorch is
            arguments = (given,) if hx is None else (given, hx)
            return given.tracer.create_proxy("call_module", given.tracer.path_of_module(self), arguments, {})
        sequence = given if isinstance(given, PackedSequence) else None
        tensors = (given if sequence is None else sequence.data, *states_of(hx))
        weights = self._weights()
        arrays = self._arrays(tensors, weights) if self._takes(hx) else None
        layout = None if arrays is None else self._layout([array.shape for array in arrays], sequence)
        if arrays is None or layout is None or (marks is not None and not layout.mark(marks)):
            return self._by_pytorch(given, hx, marks)
        drops = self.training and self._drops()
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, *weights))
        if precision_of(self) is not None and (drops or wanted):
            return self._by_pytorch(given, hx, marks)
        if drops:
            return self._run_dropping(given, hx, weights, marks)
        params = self._params(arrays, weights, layout.steps, wanted)
        if params is None:
            return self._by_pytorch(given, hx, marks)
        if wanted:
            results = Differentiable.apply(
                Call(self, type(self), layout, sequence, len(tensors)), params, *tensors, *weights
            )
        else:
            results = results_of(run(self, params, arrays, layout), layout)
        return self._joined(results, sequence)

    def _by_pytorch(self, given: Any, hx: Any, marks: Marks | None) -> Any:
        if marks is None:
            return super().forward(given, hx)  # type: ignore[misc]
        return self._run_plain(self.plain(), given, hx, marks)

    def _run_plain(self, plain: Any, given: Any, hx: Any, marks: Marks | None) -> Any:
        """What PyTorch's own layer gives."""
        return type(plain).forward(plain, given, hx)

    def _pauses(self) -> bool:
        packings: Packings | None = self.__dict__.get("_fastrnn")
        return packings is not None and packings.pauses()

    def _takes(self, hx: Any) -> bool:
        """Whether a state is of the kind that PyTorch takes: none, (h, c) of an LSTM, else a tensor."""
        if self._cell.states == ("h",):
            return not isinstance(hx, (tuple, list))
        return hx is None or (isinstance(hx, (tuple, list)) and len(hx) == len(self._cell.states))

    def _arrays(self, tensors: tuple[Any, ...], weights: list[Any]) -> list[Array] | None:
        """Arrays of x and of the states; None where fastrnn may not run."""
        if not weights and not is_packed(self):
            return None
        if is_followed():
            return None
        arrays = []
        for tensor in tensors:
            arrays.append(dense(tensor))
            if arrays[-1] is None:
                return None
        return arrays

    def _weights(self) -> list[Any]:
        """The weights as they are now; an empty list where one is absent, or computed when it is read.

        A weight need not be a parameter: to drop weights, a tensor is set in its place before each call.
        """
        parameters, others = self._parameters, self.__dict__
        weights = [parameters[name] if name in parameters else others.get(name) for name in weight_names(self)]
        for weight in weights:
            if not isinstance(weight, torch.Tensor):
                return []
        return weights

    def _params(self, arrays: list[Array], weights: list[Any], steps: int, wanted: bool) -> Params | None:
        """The weights packed, for a call of so many steps, of which a gradient is wanted or not.

        None where PyTorch is to run, since they keep changing, or have not the dtype of the arrays.
        """
        if not wanted and torch.is_grad_enabled() and self._pauses():
            return None
        activation = activation_of(self) if self._cell is RNN else None
        packed = self._packings().find(weight_names(self), weights, activation, steps, wanted)
        return packed.params if packed is not None and all(a.dtype == packed.dtype for a in arrays) else None

    def _packings(self) -> Packings:
        packings: Packings | None = self.__dict__.get("_fastrnn")
        if packings is None:
            packings = self.__dict__["_fastrnn"] = Packings(self._cell, precision_of(self))
        return packings

    def _call(self, params: Params, x: Array, states: list[Array], *, function: Any = None, **options: Any) -> Any:
        """What a function of fastrnn returns, by default that of the cell."""
        threads = min(torch.get_num_threads(), get_num_threads())
        function = function or _FUNCTIONS[self._cell.name]
        return function(x, params, state_of(states), threads=threads, **options)

    def plain(self, parameters: dict[str, Any] | None = None, **attributes: Any) -> Any:
        """The layer as PyTorch's class has it, with the same parameters and attributes or others."""
        plain: Any = object.__new__(self._original)
        plain.__dict__.update(self.__getstate__(), **attributes)
        plain.__dict__.pop(_PRECISION, None)
        if parameters is not None:
            plain.__dict__["_parameters"] = parameters
            for name in parameters:  # tensors that were set in the place of parameters
                plain.__dict__.pop(name, None)
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

    def _run_dropping(self, given: Any, hx: Any, weights: list[Any], marks: Marks | None) -> Any:
        """The results where dropout acts."""
        raise NotImplementedError

    def _layout(self, shapes: list[tuple[int, ...]], sequence: Any) -> Layout | None:
        """How a call lies, given the shapes of x and of the states; None where these are wrong, or empty."""
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


class _Layer(_Accelerated):
    """nn.RNN, LSTM and GRU."""

    num_layers: int
    bidirectional: bool
    batch_first: bool
    dropout: float
    proj_size: int

    def _drops(self) -> bool:
        return self.dropout > 0 and self.num_layers > 1

    def _layout(self, shapes: list[tuple[int, ...]], sequence: Any) -> Layout | None:
        x, *states = shapes
        layout = None if 0 in x or x[-1:] != (self.input_size,) else layout_of(x, self.batch_first, sequence)
        if layout is None or not states:
            return layout
        first = self.num_layers * (2 if self.bidirectional else 1)
        h, c = ((first, *layout.rows, size) for size in (self.proj_size or self.hidden_size, self.hidden_size))
        return layout if states == [h, c][: len(states)] else None

    def run_marked(self, x: Any, hx: Any, marks: Marks) -> Any:
        """A call with resets or lengths."""
        return self._forward(x, hx, marks)

    def _run_plain(self, plain: Any, given: Any, hx: Any, marks: Marks | None) -> Any:
        if marks is None or 0 in given.shape:  # without steps and rows there is nothing to mark
            return super()._run_plain(plain, given, hx, None)
        y, states = by_steps(plain, given, states_of(hx), marks)
        return y, state_of(states)

    def _run_dropping(self, given: Any, hx: Any, weights: list[Any], marks: Marks | None) -> Any:
        """As PyTorch runs a stack in training: dropout takes the output of each layer, steps outermost."""
        swapped = self.batch_first and not isinstance(given, PackedSequence) and given.dim() == 3
        y, count = given.transpose(0, 1) if swapped else given, 2 if self.bidirectional else 1
        marks = marks.swapped() if marks is not None and swapped else marks
        finals = []
        for number in range(self.num_layers):
            states = [state[number * count : (number + 1) * count] for state in states_of(hx)]
            if number:
                y = y._replace(data=self._dropped(y.data)) if isinstance(y, PackedSequence) else self._dropped(y)
            single = self._single(number, weights)
            call = _Accelerated.forward if marks is None else functools.partial(_Layer.run_marked, marks=marks)
            y, final = call(single, y, state_of(states))
            finals.append(states_of(final))
        joined = [torch.cat(states) for states in zip(*finals, strict=True)]
        return y.transpose(0, 1) if swapped else y, state_of(joined)

    def _dropped(self, y: Any) -> Any:
        return torch.dropout(y, self.dropout, True)

    def _single(self, number: int, weights: list[Any]) -> Any:
        """One layer of the stack, as a layer of the same class."""
        names, inputs = weight_names(self), self.input_size
        count = len(names) // self.num_layers
        if number:
            inputs = (2 if self.bidirectional else 1) * (self.proj_size or self.hidden_size)
        parameters = dict(zip(names[:count], weights[number * count : (number + 1) * count], strict=True))
        single = self.plain(
            parameters,
            num_layers=1,
            input_size=inputs,
            dropout=0.0,
            batch_first=False,
            _flat_weights_names=names[:count],
        )
        single.__class__ = type(self)
        single.__dict__["_fastrnn"] = self._packings().of_layer(number)
        return single

    def _joined(self, results: tuple[Any, ...], sequence: Any) -> Any:
        y, *states = results
        return y if sequence is None else sequence._replace(data=y), state_of(states)

    def _split(self, result: Any) -> tuple[Any, ...]:
        y, state = result
        return y.data if isinstance(y, PackedSequence) else y, *states_of(state)


class _Cell(_Accelerated):
    """nn.RNNCell, LSTMCell and GRUCell: a layer of one step, whose output is its state."""

    def _drops(self) -> bool:
        return False

    def _layout(self, shapes: list[tuple[int, ...]], sequence: Any) -> Layout | None:
        x, *states = shapes
        if sequence is not None or len(x) not in (1, 2) or 0 in x or x[-1] != self.input_size:
            return None
        return OneStep(1, x[:-1]) if all(state == (*x[:-1], self.hidden_size) for state in states) else None

    def _joined(self, results: tuple[Any, ...], sequence: Any) -> Any:
        return state_of(results)

    def _split(self, result: Any) -> tuple[Any, ...]:
        return states_of(result)


class _Dynamic(_Accelerated):
    """What quantized layers and cells have in common: their weights are in objects of PyTorch that never change."""

    def _weights(self) -> list[Any]:
        return []

    def _params(self, arrays: list[Array], weights: list[Any], steps: int, wanted: bool) -> Params | None:
        carried: Carried | None = self.__dict__.get("_fastrnn")
        objects = packed_objects(self)
        if carried is None or any(a is not b for a, b in zip(carried.objects, objects, strict=True)):
            try:
                params = layer_of(self, "", None, precision=precision_of(self))
            except (TypeError, ValueError):  # other weights were loaded, which fastrnn does not take
                return None
            carried = self.__dict__["_fastrnn"] = Carried(params, objects)
        return carried.params if all(a.dtype == carried.params.dtype for a in arrays) else None

    def _call(self, params: Params, x: Array, states: list[Array], *, function: Any = None, **options: Any) -> Any:
        batch_first = False  # of x as it is here, whatever the params say
        return super()._call(params, x, states, function=function, batch_first=batch_first, **options)


class _DynamicLayer(_Dynamic, _Layer):
    """LSTM and GRU, which take no x without a batch."""

    proj_size = 0

    def _layout(self, shapes: list[tuple[int, ...]], sequence: Any) -> Layout | None:
        return super()._layout(shapes, sequence) if sequence is not None or len(shapes[0]) == 3 else None

    def _run_plain(self, plain: Any, given: Any, hx: Any, marks: Marks | None) -> Any:
        if marks is not None:
            raise ValueError(
                "layer: expected a call that fastrnn takes, on the CPU, of float32 and not followed, "
                "since PyTorch's quantized layers take no resets and no lengths"
            )
        return super()._run_plain(plain, given, hx, None)


class _DynamicCell(_Dynamic, _Cell):
    """RNNCell, LSTMCell and GRUCell, which take no x without a batch."""

    def _layout(self, shapes: list[tuple[int, ...]], sequence: Any) -> Layout | None:
        return super()._layout(shapes, sequence) if len(shapes[0]) == 2 else None


@functools.cache
def _class_for(original: Any) -> Any:
    dynamic = dynamic_class(original)
    plain = dynamic or torch_class(torch, original)
    above = _ABOVE[dynamic is not None, plain.__name__.endswith("Cell")]
    own = {"_original": original, "_cell": cell_of_class(plain), "__module__": __name__}
    return type(original.__name__, (above, original), own)


_ABOVE = {
    (False, False): _Layer,
    (False, True): _Cell,
    (True, False): _DynamicLayer,
    (True, True): _DynamicCell,
}  # whether a class is of quantized layers, and whether of cells


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
    plain = torch_class(torch, kind) or dynamic_class(kind)
    if plain is None:
        named = any(name in kind.__name__ for name in ("RNN", "LSTM", "GRU"))
        holds = any(torch_class(torch, type(inner)) for inner in module.modules())  # which are reported by themselves
        return f"{kind.__module__}.{kind.__name__} is none of torch.nn's classes" if named and not holds else ""
    own = own_methods(module, plain)
    if own:
        return f"it has a {own[0]} of its own ({kind.__name__})"
    weights = [] if is_packed(module) else _Accelerated._weights(module)
    if not weights and not is_packed(module):
        return "its weights are computed at each call (weight_norm, parametrizations), or some are left out"
    foreign = next((type(weight) for weight in weights if not is_plain(weight)), None)
    if foreign is not None:
        return f"its weights are of {foreign.__module__}.{foreign.__qualname__}, a tensor that computes in its own way"
    try:
        _class_for(kind)
    except Exception as error:  # a class may refuse to be derived from in any way
        return f"no class can be derived from {kind.__name__}: {error}"
    return None


def why_not_narrow(module: Any, precision: Precision | None) -> str | None:
    """Why a recurrent layer can't run with narrow weights, as its weights are now; None if it can.

    Those of a quantized layer are narrow whatever the precision is.
    """
    if is_packed(module):
        try:
            layer_of(module, "", None, precision=precision)
        except (TypeError, ValueError) as error:
            return str(error)
        return None
    if precision is None:
        return None
    weights, cell = _Accelerated._weights(module), cell_of_class(torch_class(torch, type(module)))
    if any(weight.dtype != torch.float32 or view_of(weight.detach()) is None for weight in weights):
        return f"its weights are not all float32 on the CPU, as {precision} wants them"
    activation = activation_of(module) if cell is RNN else None
    packed = pack(cell, weight_names(module), weights, activation, None, precision)
    return packed.refused if packed.params is None else None


def is_layer(module: Any) -> bool:
    """Whether this is a replaced layer, and no cell."""
    return isinstance(module, _Layer)


def precision_of(module: Any) -> Precision | None:
    """The narrow precision that a replaced layer runs in, or None."""
    precision: Precision | None = module.__dict__.get(_PRECISION)
    return precision


def is_trained(module: Any) -> bool:
    """Whether fastrnn computes the gradients of a replaced layer, as its weights are now."""
    if precision_of(module) is not None:
        return False
    dtypes = {None if (array := view_of(weight)) is None else array.dtype for weight in module._weights()}
    return len(dtypes) == 1 and None not in dtypes


def replace(module: Any, precision: Precision | None = None) -> None:
    if isinstance(module, _Accelerated):
        _forget(module)
    else:
        original: Any = type(module)
        module.__class__ = _class_for(original)
    if is_packed(module):
        precision = precision or packed_tensors(module).precision
    if precision is not None:
        module.__dict__[_PRECISION] = precision


def _forget(module: Any) -> None:
    """Drop what a replaced layer has packed, and its precision."""
    for name in ("_fastrnn", _PRECISION):
        module.__dict__.pop(name, None)


def restore(module: Any) -> None:
    if not isinstance(module, _Accelerated):
        return
    _forget(module)
    kind: Any = type(module)
    original: Any = module._original
    if kind is _class_for(original):
        module.__class__ = original
        return
    # A parametrization has derived a class of its own since: the same, derived from the original.
    bases = tuple(getattr(base, "_original", base) for base in kind.__bases__)
    own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(kind)(kind.__name__, bases, own)
