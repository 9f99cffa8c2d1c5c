"""Layers of PyTorch, step by step in PyTorch: what a call with resets or lengths is where fastrnn may not run.

It runs on any device, and is followed by whatever follows PyTorch's operations, gradients of gradients among them.
"""

from __future__ import annotations

from typing import Any

import torch

from fastrnn.torch.marks import Marks
from fastrnn.torch.modules import weight_names


def by_steps(layer: Any, x: Any, states: tuple[Any, ...], marks: Marks) -> tuple[Any, tuple[Any, ...]]:
    """y, and the final states: what a plain nn.RNN, LSTM or GRU gives of x, which has a step and a row at least."""
    batched, first = x.dim() == 3, layer.batch_first
    if not batched:
        x = x.unsqueeze(0 if first else 1)
        states = tuple(state.unsqueeze(1) for state in states)
        marks = marks if marks.resets is None else marks._replace(resets=marks.resets.unsqueeze(0 if first else 1))
    _check(layer, x, states)
    if first:
        x, marks = x.transpose(0, 1), marks.swapped()
    y, final = _stack(layer, x, states or _zeros(layer, x), marks)
    y = y.transpose(0, 1) if first else y
    return (y, final) if batched else (y.squeeze(0 if first else 1), tuple(state.squeeze(1) for state in final))


def _check(layer: Any, x: Any, states: tuple[Any, ...]) -> None:
    """Raises PyTorch's own errors."""
    if not states:
        layer.check_input(x, None)
    else:
        layer.check_forward_args(x, states if len(states) > 1 else states[0], None)


def _zeros(layer: Any, x: Any) -> tuple[Any, ...]:
    first, sizes = layer.num_layers * (2 if layer.bidirectional else 1), [layer.proj_size or layer.hidden_size]
    sizes += [layer.hidden_size] if isinstance(layer, torch.nn.LSTM) else []
    return tuple(x.new_zeros(first, x.shape[1], size) for size in sizes)


def _stack(layer: Any, x: Any, states: tuple[Any, ...], marks: Marks) -> tuple[Any, tuple[Any, ...]]:
    """The same of x (T, B, I)."""
    directions, finals = 2 if layer.bidirectional else 1, []
    for number in range(layer.num_layers):
        if number and layer.dropout:
            x = torch.dropout(x, layer.dropout, layer.training)
        sides = []
        for place in range(number * directions, (number + 1) * directions):
            y, final = _direction(layer, place, x, [state[place] for state in states], marks)
            sides.append(y)
            finals.append(final)
        x = torch.cat(sides, -1)
    return x, tuple(torch.stack(state) for state in zip(*finals, strict=True))


def _direction(layer: Any, place: int, x: Any, states: list[Any], marks: Marks) -> tuple[Any, list[Any]]:
    """One layer in one direction: y, and its final states (B, ..)."""
    single, steps = _single(layer, place, x.shape[-1]), range(len(x))
    y, resets = [x] * len(x), marks.resets
    if resets is not None and marks.lengths is not None:  # one past a row's end is none
        resets = resets & (torch.arange(len(x), device=x.device).unsqueeze(1) < marks.lengths)
    for t in reversed(steps) if layer.bidirectional and place % 2 else steps:
        if resets is not None:
            states = [state.masked_fill(resets[t].unsqueeze(1), 0) for state in states]
        given = tuple(state.unsqueeze(0) for state in states)
        y[t], after = type(single).forward(single, x[t : t + 1], given if len(given) > 1 else given[0])
        news = [state.squeeze(0) for state in (after if isinstance(after, tuple) else (after,))]
        if marks.lengths is not None:
            past = (marks.lengths <= t).unsqueeze(1)
            y[t] = y[t].masked_fill(past, 0)
            news = [torch.where(past, state, new) for state, new in zip(states, news, strict=True)]
        states = news
    return torch.cat(y), states


def _single(layer: Any, place: int, inputs: int) -> Any:
    """A layer and direction of a stack as a layer that runs forward, with the same weights."""
    names = weight_names(layer)
    count = len(names) // (layer.num_layers * (2 if layer.bidirectional else 1))
    some = names[place * count : (place + 1) * count]
    single: Any = object.__new__(type(layer))
    own = [name.partition("_l")[0] + "_l0" for name in some]
    parameters = dict(zip(own, (getattr(layer, name) for name in some), strict=True))
    single.__dict__.update(
        layer.__dict__,
        _parameters=parameters,
        num_layers=1,
        bidirectional=False,
        input_size=inputs,
        dropout=0.0,
        batch_first=False,
        _flat_weights_names=own,
    )
    single._init_flat_weights()
    return single
