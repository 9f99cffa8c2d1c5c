"""Layers of PyTorch whose gradients fastrnn computes.

(a) The forward call keeps a tape, and the way back is its pullback.
(b) PyTorch finds the pullback by a number in a tensor that is saved beside the arguments. So the tape is freed when
    PyTorch frees what it saved, and a checkpoint (`torch.utils.checkpoint`), which saves nothing, keeps no tape either.
(c) PyTorch runs the layer again, and computes the gradient, where the gradient is to have a gradient itself, where
    PyTorch follows each operation of the way back, and where the pullback is gone, since what PyTorch saved was moved.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from fastrnn.gradients import Pullback, vjp
from fastrnn.params import Params
from fastrnn.torch.followed import is_followed
from fastrnn.torch.layouts import Layout
from fastrnn.torch.modules import weight_names
from fastrnn.torch.weights import dense

if TYPE_CHECKING:
    from fastrnn._arrays import Array

_NUMBERS = itertools.count()
_PULLBACKS: weakref.WeakValueDictionary[int, Pullback] = weakref.WeakValueDictionary()


class Call(NamedTuple):
    """A call of a layer, without its tensors."""

    layer: Any
    kind: Any  # the class of the layer, which it loses where the model is restored before the way back
    layout: Layout
    sequence: Any  # a PackedSequence, or None
    inputs: int  # tensors before the weights: x and the states

    def accelerated(self) -> Any:
        """The layer as it was when it was called: of a class of fastrnn's."""
        if isinstance(self.layer, self.kind):
            return self.layer
        layer = object.__new__(self.kind)
        layer.__dict__.update(self.layer.__dict__)
        return layer

    def joined(self, tensors: list[Any]) -> tuple[Any, Any]:
        """The arguments of the layer: x and the state."""
        x, *states = tensors
        given = x if self.sequence is None else self.sequence._replace(data=x)
        return given, state_of(states)


class Differentiable(torch.autograd.Function):  # type: ignore[misc]
    """Results of fastrnn, with gradients of fastrnn."""

    @staticmethod
    def forward(ctx: Any, call: Call, params: Params, *tensors: Any) -> Any:
        params._transposed()  # now, since the memory of the weights may be written to before the way back is wanted
        arrays = [dense(tensor) for tensor in tensors[: call.inputs]]
        returned, pullback = run(call.layer, params, arrays, call.layout, vjp)
        ctx.set_materialize_grads(False)
        ctx.call = call._replace(sequence=None if call.sequence is None else call.sequence._replace(data=None))
        ctx.save_for_backward(_kept(pullback), *tensors)
        return results_of(returned, call.layout)

    @staticmethod
    @torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled autograd would look into it
    def backward(ctx: Any, *gradients: Any) -> Any:
        number, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        arrays = [None if gradient is None else dense(gradient) for gradient in gradients]
        pullback = None
        if not torch.is_grad_enabled() and not is_followed() and _are_read(arrays, gradients):
            pullback = _PULLBACKS.get(int(number))
        if pullback is None:
            return None, None, *_by_pytorch(ctx.call, tensors, gradients, wanted)
        return None, None, *_pull_back(pullback, ctx.call, arrays, wanted)


def run(layer: Any, params: Any, arrays: list[Array], layout: Layout, function: Any = None) -> Any:
    """What a function of fastrnn returns for a call of the layer."""
    x, *states = arrays
    entered = [layout.enter_state(state) for state in states]
    return layer._call(params, layout.enter(x), entered, function=function, **layout.options)


def results_of(returned: Any, layout: Layout) -> tuple[Any, ...]:
    """y, unless the layer is a cell, and the final states: as tensors, side by side."""
    y, final = returned
    results = [layout.leave(y)] if layout.gives_y else []
    results += [layout.leave_state(state) for state in states_of(final)]
    return tuple(map(torch.from_numpy, results))


def states_of(hx: Any) -> tuple[Any, ...]:
    return () if hx is None else tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def state_of(states: Any) -> Any:
    """None, one state, or a tuple (h, c)."""
    return tuple(states) if len(states) > 1 else states[0] if states else None


class _Keeper(np.ndarray[Any, Any]):
    """An array that keeps an object for as long as its memory is in use."""

    kept: Any


def _kept(pullback: Pullback) -> Any:
    """A tensor that keeps a pullback, and by whose number it is found."""
    number = next(_NUMBERS)
    keeper = np.array([number]).view(_Keeper)
    keeper.kept = _PULLBACKS[number] = pullback
    return torch.from_numpy(keeper)


def _are_read(arrays: list[Any], gradients: tuple[Any, ...]) -> bool:
    """Whether all gradients that were given could be read in place."""
    return not any(array is None and given is not None for array, given in zip(arrays, gradients, strict=True))


def _pull_back(pullback: Pullback, call: Call, arrays: list[Any], wanted: tuple[bool, ...]) -> list[Any]:
    """Gradients of x, of the states and of the weights that are wanted, None for the others."""
    layout, names = call.layout, weight_names(call.layer)
    dy = arrays.pop(0) if layout.gives_y else None
    dstates = [None if array is None else layout.enter_state(array) for array in arrays]
    wrt = [name for name, one in zip(names, wanted[call.inputs :], strict=True) if one]
    wrt += ["x"] * wanted[0] + ["state"] * any(wanted[1 : call.inputs])  # of both states, if of one
    found = pullback(None if dy is None else layout.enter(dy), state_of(dstates), wrt=wrt)
    results: list[Any] = [None if found.x is None else layout.leave(found.x)]
    results += [layout.leave_state(state) for state in states_of(found.state)] or [None] * (call.inputs - 1)
    results += map((found.weights or {}).get, names)
    return [torch.from_numpy(array) if one else None for array, one in zip(results, wanted, strict=True)]


def _by_pytorch(call: Call, tensors: list[Any], gradients: tuple[Any, ...], wanted: tuple[bool, ...]) -> list[Any]:
    """As `_pull_back`, by PyTorch's own layer; the gradients carry a gradient where that is enabled."""
    twice = torch.is_grad_enabled()
    with torch.enable_grad():
        # Other tensors than those that were given: one may be given twice, or depend on another one.
        tensors = [
            t.view_as(t) if twice else t.detach().requires_grad_(one) for t, one in zip(tensors, wanted, strict=True)
        ]
        given, state = call.joined(tensors[: call.inputs])
        weights = dict(zip(weight_names(call.layer), tensors[call.inputs :], strict=True))
        accelerated = call.accelerated()
        layer = accelerated.plain(dict.fromkeys(("bias_ih", "bias_hh")) | weights)  # which cells need, perhaps as None
        layer.__dict__["training"] = False
        outputs = accelerated._split(accelerated._run_plain(layer, given, state, call.layout.marks))
    pairs = [(output, gradient) for output, gradient in zip(outputs, gradients, strict=True) if gradient is not None]
    sources = [tensor for tensor, one in zip(tensors, wanted, strict=True) if one]
    if not pairs or not sources:
        return [None] * len(wanted)
    outputs, gradients = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outputs, sources, gradients, create_graph=twice, allow_unused=True))
    return [next(found) if one else None for one in wanted]
