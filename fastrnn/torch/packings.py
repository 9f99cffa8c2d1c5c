"""The packings that an accelerated layer keeps, and when packing anew would not pay."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any, NamedTuple

from fastrnn._cells import Cell
from fastrnn._types import Precision
from fastrnn.params import Params
from fastrnn.torch.weights import UNCOUNTED, Marks, PackedLayer, marks_of, pack

MOST = 8  # packings that a layer keeps: as many sets of weights may take turns
# Of packing, in steps of PyTorch's: PyTorch's LSTM is its fastest cell, and takes as long for about 100 of them.
_COSTS = {"rnn": 32, "gru": 32, "lstm": 128}
_OF_NARROW = 3  # times as long where floats become halves, and twice where they become bytes
_COST_OF_CHANGED = 128  # where a tensor has changed, which may do so again, and calls are short
_OF_A_CALL = 4  # steps that a call saves, however short it is
_PAUSES = 128, 1024  # the first and the longest one, in steps


class _Kept(NamedTuple):
    packed: PackedLayer
    owners: list[weakref.ref[Any]]  # of each weight: the tensor object whose changes PyTorch counts


class Packings:
    """What a layer has packed, found by its weights.

    (a) The latest packing serves weights that have its marks, whatever tensor objects they are now.
    (b) Earlier ones, of sets of weights that take turns, serve the tensor objects that they were made of. They are
        dropped when such an object has changed, or is gone: so no memory of weights is kept but that of the latest.
    (c) Packing takes credit, which calls earn, most of it by their steps. Where weights change before each short call,
        credit runs out. PyTorch runs for a while then, and longer each time, until a packing has paid for itself.
    (d) Where a gradient is wanted, which takes several times as long as packing does, credit is not asked for.
    """

    def __init__(self, cell: Cell, precision: Precision | None = None) -> None:
        self._cell, self._precision = cell, precision
        self._latest: PackedLayer | None = None
        self._kept: dict[Marks, _Kept] = {}  # the one used longest ago first
        self._cost = _COSTS[cell.name] * (_OF_NARROW if precision else 1)
        self._credit = self._most_credit = MOST * self._cost
        self._pause, _ = _PAUSES  # the next one
        self._left = 0  # calls of the pause that is on
        self._layers: dict[int, Packings] = {}

    def __reduce__(self) -> Any:
        """Copies and pickles are None: a copy of a layer packs for itself."""
        return type(None), ()

    def pauses(self) -> bool:
        """Whether PyTorch runs this call, since the weights keep changing; it is asked once a call."""
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    def of_layer(self, number: int) -> Packings:
        """The packings of one layer of a stack, which runs by itself."""
        return self._layers.setdefault(number, Packings(self._cell))

    def find(
        self, names: list[str], weights: list[Any], activation: str | None, steps: int, wanted: bool = False
    ) -> PackedLayer | None:
        """The weights, packed, for a call of so many steps, of which a gradient is wanted or not.

        None where PyTorch is to run.
        """
        marks, packed = marks_of(weights, activation), self._latest
        if packed is None or packed.marks != marks:
            packed = self._earlier(marks, weights)
        if packed is None or not packed.is_current(exactly=wanted):
            changed = self._drop_changed(marks, weights)
            if not wanted and not self._pay(_COST_OF_CHANGED if changed and steps < self._cost else self._cost, steps):
                return None
            packed = self._latest = pack(self._cell, names, weights, activation, self._latest, self._precision)
            self._keep(packed, weights)
            return packed
        self._latest = packed
        self._credit = min(self._credit + steps + _OF_A_CALL, self._most_credit)
        if self._credit >= 2 * self._cost:
            self._pause, _ = _PAUSES
        return packed

    def _earlier(self, marks: Marks, weights: list[Any]) -> PackedLayer | None:
        kept = self._kept.pop(marks, None)
        if kept is None or any(owner() is not weight for owner, weight in zip(kept.owners, weights, strict=True)):
            return None
        self._kept[marks] = kept
        return kept.packed

    def _pay(self, cost: int, steps: int) -> bool:
        """Whether the layer has credit for packing; if not, a pause begins."""
        credit = min(self._credit + steps, self._most_credit) - cost
        if credit < 0:
            self._kept.clear()
            self._latest, self._credit = None, max(0, self._cost - steps)  # for one packing after the pause
            self._left, self._pause = self._pause // steps, min(2 * self._pause, _PAUSES[1])
            return False
        self._credit = credit
        return True

    def _drop_changed(self, marks: Marks, weights: list[Any]) -> bool:
        """Drop packings of what these weights were before; whether there were any."""
        changed = False
        for old, kept in list(self._kept.items()):
            owners = zip(kept.owners, weights, old[1:], marks[1:], strict=True)
            if any(owner() is weight and (before != now or old == marks) for owner, weight, before, now in owners):
                self._kept.pop(old, None)
                changed = True
        return changed

    def _keep(self, packed: PackedLayer, weights: list[Any]) -> None:
        for old in list(self._kept)[: 1 - MOST]:
            self._kept.pop(old, None)
        if all(mark[1] != UNCOUNTED for mark in packed.marks[1:]):
            gone = partial(_drop, weakref.ref(self), packed.marks)
            self._kept[packed.marks] = _Kept(packed, [weakref.ref(weight, gone) for weight in weights])


def _drop(packings: weakref.ref[Packings], marks: Marks, _: Any) -> None:
    found = packings()
    if found is not None:
        found._kept.pop(marks, None)


class Carried(NamedTuple):
    """Of a dynamically quantized layer, whose weights never change: params, in the place of `Packings`."""

    params: Params
    objects: list[Any]  # that hold the layer's weights: others take their place when other weights are loaded

    def __reduce__(self) -> Any:
        return type(None), ()

    def pauses(self) -> bool:
        return False
