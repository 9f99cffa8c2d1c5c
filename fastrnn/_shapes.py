"""Sizes of a stack of layers, inferred from the shapes of its weights, and the shapes that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fastrnn import _check
from fastrnn._arrays import Array
from fastrnn._cells import CELLS, Cell
from fastrnn._names import Names

_TRANSPOSED = "transposed (Keras keeps kernels so); its .T fits"


class Sizes(NamedTuple):
    """Sizes of a stack; `proj_size` is 0 without a projection, `directions` is (forward, reverse)."""

    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    directions: tuple[bool, bool]

    def axes(self, cell: Cell, layer: int) -> dict[str, int]:
        """The sizes that the letters of a cell's row stand for in a layer."""
        H, P, out = self.hidden_size, self.proj_size, self.proj_size or self.hidden_size
        inputs = self.input_size if layer == 0 else out * sum(self.directions)
        return {"I": inputs, "H": H, "P": P, "O": out, "G*H": len(cell.gates) * H, "K*H": len(cell.peepholes) * H}


def infer_sizes(cell: Cell, names: Names, weights: Mapping[str, Array]) -> Sizes:
    """Sizes from the arrays of the first layer, whose matrices must at least have two axes."""
    first, gates = next(iter(names.values())), len(cell.gates)
    for plain, axes in cell.weights.items():
        if plain in first and len(axes) == 2 != weights[first[plain]].ndim:
            raise ValueError(f"{first[plain]}: expected 2 axes, got {weights[first[plain]].shape}")
    shapes: dict[str, tuple[int, ...]] = {plain: weights[name].shape for plain, name in first.items()}
    W, U, V = shapes["weight_ih"], shapes.get("weight_hh", (0, 0)), shapes.get("weight_hr")
    if gates > 1 and V is None and U[1] == gates * U[0] > 0:
        expected = f"({gates} * hidden_size, hidden_size)"
        raise ValueError(f"{first['weight_hh']}: expected {expected}, got {U}, which looks {_TRANSPOSED}")
    if W[0] == 0 or W[0] % gates:
        hint = f", which looks {_TRANSPOSED}" if W[1] == U[0] > 0 else ""
        raise ValueError(
            f"{first['weight_ih']}: expected ({gates} * hidden_size, input_size), got {W}{hint or _other_cell(cell, U)}"
        )
    if V is not None and V[0] == 0:
        raise ValueError(f"{first['weight_hr']}: expected at least one row, got {V}")
    directions = (any(not reverse for _, reverse in names), any(reverse for _, reverse in names))
    return Sizes(W[1], W[0] // gates, V[0] if V else 0, len(names) // sum(directions), directions)


def _other_cell(cell: Cell, shape: tuple[int, ...]) -> str:
    """The cure where recurrent weights have the rows of another cell's gates."""
    if len(shape) != 2 or not shape[1]:
        return ""
    fits = [other.params for other in CELLS.values() if other is not cell and shape[0] == len(other.gates) * shape[1]]
    return f"; the rows of weight_hh, {shape}, are those of {_check.either(fits)}" if fits else ""


def check_shapes(cell: Cell, names: Names, weights: Mapping[str, Array], sizes: Sizes) -> None:
    """Raise where an array is not of the shape that the sizes ask for."""
    first = next(iter(names.values()))["weight_ih"]
    reason = f"since {first} is {weights[first].shape}"
    for (layer, _), part in names.items():
        axes = sizes.axes(cell, layer)
        for plain, name in part.items():
            expected, got = tuple(axes[axis] for axis in cell.weights[plain]), weights[name].shape
            if got != expected:
                hint = f", which looks {_TRANSPOSED}" if got[::-1] == expected else ""
                hint = hint or (_other_cell(cell, got) if plain == "weight_hh" else "")
                raise ValueError(f"{name}: expected {expected}, {reason}, got {got}{hint}")
