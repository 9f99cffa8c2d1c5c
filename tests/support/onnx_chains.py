"""Constants behind nodes: random chains of ONNX's operators that end in a given array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from support.onnx_models import constant, helper, tensor

Array = np.ndarray
SINCE = {"CastLike": 15, "Tile": 6}  # the other operators are in every opset from 9 on


class Chain:
    """Nodes and initializers. A method adds what ends in an array, and gives its name.

    Each operator is put in front of an array by undoing it first: a Slice is given the array with something around it,
    a Transpose the array transposed back. So the array itself says what must be loaded, to the bit.
    """

    def __init__(self, draw: Callable[..., Any], rng: np.random.Generator, opset: int) -> None:
        self.draw, self.rng, self.opset = draw, rng, opset
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}
        self.used: list[str] = []

    def ending_in(self, array: Array, length: int) -> str:
        """A chain of so many operators, or some more, that ends in the array."""
        if length <= 0:
            return self.constant(array)
        fitting = [op for op in UNDONE if SINCE.get(op, 0) <= self.opset]
        op = self.draw(st.sampled_from(fitting))
        name = UNDONE[op](self, array, length - 1)
        if name is None:  # this operator cannot end in such an array
            return self.ending_in(array, length - 1)
        self.used.append(op)
        return name

    def constant(self, array: Array) -> str:
        name = self.new_name()
        if self.draw(st.booleans()):
            self.nodes.append(constant(name, array))
        else:
            self.tensors[name] = tensor(array, name)
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [self.new_name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, names[0] + "node", **attributes))
        return names

    def one(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.node(op, *inputs, **attributes)[0]

    def new_name(self) -> str:
        return f"v{len(self.nodes)}_{len(self.tensors)}_{self.rng.integers(2**60)}"

    def axis(self, array: Array) -> int:
        """An axis, counted from the end too from opset 11 on, since when all operators allow that."""
        return int(self.draw(st.integers(-array.ndim if self.opset >= 11 else 0, array.ndim - 1)))

    def numbers(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return self.rng.uniform(-1, 1, shape).astype(dtype)

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def with_axes(self, op: str, name: str, axes: list[int]) -> str:
        """Squeeze and Unsqueeze, whose axes are an input from opset 13 on."""
        return self.one(op, name, axes=axes) if self.opset < 13 else self.one(op, name, self.ints(*axes))

    def shape_of(self, array: Array) -> str:
        """The shape as numbers, or as the Shape of another constant."""
        if self.draw(st.booleans()):
            return self.ints(*array.shape)
        return self.one("Shape", self.constant(np.zeros(array.shape, np.int8)))

    def zeros_of(self, array: Array) -> str:
        return self.one("ConstantOfShape", self.shape_of(array), value=tensor(np.zeros(1, array.dtype)))

    # One operator each.

    def identity(self, array: Array, length: int) -> str:
        return self.one("Identity", self.ending_in(array, length))

    def slice(self, array: Array, length: int) -> str:
        axis = self.axis(array)
        before, after = (self.draw(st.integers(0, 2)) for _ in range(2))
        parts = [np.moveaxis(array, axis, 0)]
        around = (self.numbers((n, *parts[0].shape[1:]), array.dtype) for n in (before, after))
        whole = np.moveaxis(np.concatenate([next(around), *parts, next(around)]), 0, axis)
        size = array.shape[axis]
        if self.opset < 10:
            name = self.ending_in(whole, length)
            return self.one("Slice", name, starts=[before], ends=[before + size], axes=[axis % array.ndim])
        if self.draw(st.booleans()):
            ends = self.draw(st.sampled_from([before + size] + [2**62] * (after == 0)))
            return self.one("Slice", self.ending_in(whole, length), *map(self.ints, (before, ends, axis)))
        backwards, start = np.flip(whole, axis), after + size - 1
        end = after - 1 if after else -(2**62)
        return self.one("Slice", self.ending_in(backwards, length), *map(self.ints, (start, end, axis, -1)))

    def concat(self, array: Array, length: int) -> str | None:
        axes = [axis for axis, size in enumerate(array.shape) if size > 1]
        if not axes:
            return None
        axis = self.draw(st.sampled_from([*axes, *(axis - array.ndim for axis in axes if self.opset >= 11)]))
        cut = self.draw(st.integers(1, array.shape[axis] - 1))  # no part is empty: a 0 of Reshape means another size
        first, second = np.split(array, [cut], axis)
        names = [self.ending_in(first, length), self.ending_in(second, length // 2)]
        return self.one("Concat", *names, axis=axis)

    def split(self, array: Array, length: int) -> str:
        axis, size = self.axis(array), self.draw(st.integers(1, 3))
        shape = list(array.shape)
        shape[axis] = size
        whole = self.ending_in(np.concatenate([self.numbers(tuple(shape), array.dtype), array], axis), length)
        sizes = [size, array.shape[axis]]
        given = {"split": sizes} if self.opset < 13 else {}
        inputs = [] if given else [self.ints(*sizes)]
        return self.node("Split", whole, *inputs, outputs=2, axis=axis, **given)[1]

    def unsqueeze(self, array: Array, length: int) -> str | None:
        ones = [axis for axis, size in enumerate(array.shape) if size == 1]
        if not ones or array.ndim == 1:
            return None
        axis = self.draw(st.sampled_from(ones))
        return self.with_axes("Unsqueeze", self.ending_in(array.squeeze(axis), length), [axis])

    def squeeze(self, array: Array, length: int) -> str:
        axis = self.draw(st.integers(0, array.ndim))
        return self.with_axes("Squeeze", self.ending_in(np.expand_dims(array, axis), length), [axis])

    def transpose(self, array: Array, length: int) -> str:
        perm = self.draw(st.permutations(range(array.ndim)))
        before = np.ascontiguousarray(array.transpose(np.argsort(perm)))
        given = {} if perm == [*range(array.ndim)][::-1] and self.draw(st.booleans()) else {"perm": perm}
        return self.one("Transpose", self.ending_in(before, length), **given)

    def reshape(self, array: Array, length: int) -> str:
        before = array.reshape(self.draw(st.sampled_from([(array.size,), (1, array.size, 1), array.shape])))
        shape = list(array.shape)
        if array.size and self.draw(st.booleans()):
            shape[self.axis(array)] = -1
        name = self.ending_in(before, length)
        return self.one("Reshape", name, self.ints(*shape) if self.draw(st.booleans()) else self.shape_of(array))

    def flatten(self, array: Array, length: int) -> str:
        """It gives two axes, which Reshape makes the array's."""
        axis = self.draw(st.integers(0, array.ndim))
        return self.one("Reshape", self.one("Flatten", self.ending_in(array, length), axis=axis), self.shape_of(array))

    def gather(self, array: Array, length: int) -> str:
        axis = self.axis(array)
        order = self.rng.permutation(array.shape[axis])
        before = np.take(array, np.argsort(order), axis)
        indices = order - array.shape[axis] * self.rng.integers(0, 2, order.size) if self.opset >= 11 else order
        return self.one("Gather", self.ending_in(before, length), self.ints(*indices), axis=axis)

    def expand(self, array: Array, length: int) -> str:
        """Two of the array, of which Gather takes one."""
        twice = self.one("Expand", self.ending_in(array, length), self.ints(2, *array.shape))
        return self.one("Gather", twice, self.constant(np.array(1)), axis=0)

    def tile(self, array: Array, length: int) -> str:
        """Two of the array, of which Split gives one."""
        twice = self.one("Tile", self.ending_in(array, length), self.ints(2, *[1] * (array.ndim - 1)))
        return self.node("Split", twice, outputs=2, axis=0, **({"num_outputs": 2} if self.opset >= 18 else {}))[0]

    def shape(self, array: Array, length: int) -> str:
        same = self.one("Shape", self.ending_in(array, length // 2))
        return self.one("Reshape", self.ending_in(array.ravel(), length), same)

    def size(self, array: Array, length: int) -> str:
        """The number of all elements, as a number that is 1 after it was divided by itself."""
        size = self.one(
            "Cast", self.one("Size", self.ending_in(array, 0)), to=helper.np_dtype_to_tensor_dtype(array.dtype)
        )
        return (
            self.one("Mul", self.ending_in(array, length), self.one("Div", size, size))
            if array.size
            else self.identity(array, length)
        )

    def constant_of_shape(self, array: Array, length: int) -> str:
        return self.one("Add", self.zeros_of(array), self.ending_in(array, length))

    def cast(self, array: Array, length: int) -> str | None:
        if array.dtype != np.float32:
            return None
        return self.one("Cast", self.ending_in(array.astype(np.float64), length), to=1)

    def cast_like(self, array: Array, length: int) -> str | None:
        if array.dtype != np.float32:
            return None
        return self.one("CastLike", self.ending_in(array.astype(np.float64), length), self.constant(np.zeros(1, "f4")))

    def neg(self, array: Array, length: int) -> str:
        return self.one("Neg", self.ending_in(-array, length))

    def add(self, array: Array, length: int) -> str:
        inputs = [self.ending_in(array, length), self.constant(np.zeros(1, array.dtype))]
        return self.one("Add", *self.draw(st.permutations(inputs)))

    def sub(self, array: Array, length: int) -> str:
        return self.one("Sub", self.ending_in(array, length), self.zeros_of(array))

    def mul(self, array: Array, length: int) -> str:
        two = np.full((1,) * array.ndim, 2, array.dtype)
        return self.one("Mul", *self.draw(st.permutations([self.ending_in(array / 2, length), self.constant(two)])))

    def div(self, array: Array, length: int) -> str:
        return self.one("Div", self.ending_in(array / 4, length), self.constant(np.array(0.25, array.dtype)))

    def equal(self, array: Array, length: int) -> str:
        """Numbers that lie in one of two constants, by an integer that equals another one."""
        which = self.rng.integers(0, 2, array.shape)
        other = self.numbers(array.shape, array.dtype)
        condition = self.one("Equal", self.constant(which), self.constant(np.array([1])))
        names = [
            self.ending_in(np.where(which == 1, array, other), length),
            self.ending_in(np.where(which == 1, other, array), length // 2),
        ]
        return self.one("Where", condition, *names)

    def where(self, array: Array, length: int) -> str:
        condition = self.constant(np.ones((1,) * array.ndim, bool))
        return self.one(
            "Where", condition, self.ending_in(array, length), self.constant(self.numbers((1,), array.dtype))
        )


UNDONE: dict[str, Callable[[Chain, Array, int], str | None]] = {
    "Identity": Chain.identity,
    "Slice": Chain.slice,
    "Concat": Chain.concat,
    "Split": Chain.split,
    "Unsqueeze": Chain.unsqueeze,
    "Squeeze": Chain.squeeze,
    "Transpose": Chain.transpose,
    "Reshape": Chain.reshape,
    "Flatten": Chain.flatten,
    "Gather": Chain.gather,
    "Expand": Chain.expand,
    "Tile": Chain.tile,
    "Shape": Chain.shape,
    "Size": Chain.size,
    "ConstantOfShape": Chain.constant_of_shape,
    "Cast": Chain.cast,
    "CastLike": Chain.cast_like,
    "Neg": Chain.neg,
    "Add": Chain.add,
    "Sub": Chain.sub,
    "Mul": Chain.mul,
    "Div": Chain.div,
    "Equal": Chain.equal,
    "Where": Chain.where,
}
