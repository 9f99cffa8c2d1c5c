"""A graph as steps: what each node reads and writes, in an order in which they can run, and what never changes.

A node reads its inputs, and whatever the graphs in its attributes (bodies of If, Loop, Scan) take from outside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from fastrnn import _check
from fastrnn.onnx.scope import DEFAULT_DOMAIN

OLDEST_OVERRIDABLE = 4  # the version of the format since when an initializer that is an input too is a mere default
_RANDOM = ("Random", "Multinomial", "Bernoulli")


@dataclass(eq=False)
class Step:
    """A node of the graph."""

    proto: Any
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def op(self) -> str:
        """The operator, where it is ONNX's own; else "", since another domain may give its name another meaning."""
        return str(self.proto.op_type) if self.proto.domain in DEFAULT_DOMAIN else ""


def _bodies(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _reads(node: Any) -> set[str]:
    """Names that a node takes from the graph around it."""
    names = {name for name in node.input if name}
    for body in _bodies(node):
        own = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        own |= {tensor.values.name for tensor in body.sparse_initializer}
        own |= {name for inner in body.node for name in inner.output}
        taken = {value.name for value in body.output}.union(*(_reads(inner) for inner in body.node))
        names |= taken - own
    return names


class Graph:
    """The top graph of a model.

    Attributes
    ----------
    inputs : dict of str to ValueInfoProto
        What a caller gives, or may give.
    defaults : set of str
        Inputs that have an initializer as well.
    initializers : dict of str to tensor
        All of them, sparse ones too.
    outputs : list of str
    steps : list of Step
        Sorted: what a step reads was written before.
    constants : set of str
        What is the same in every call: initializers, and what is computed from these alone.
    """

    def __init__(self, model: Any) -> None:
        graph = model.graph
        self.outputs = [value.name for value in graph.output]
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.initializers |= {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        fixed = self.initializers if model.ir_version < OLDEST_OVERRIDABLE else {}
        self.inputs = {value.name: value for value in graph.input if value.name not in fixed}
        self.defaults = self.inputs.keys() & self.initializers.keys()
        self.steps = _sorted([Step(node, tuple(sorted(_reads(node))), _written(node)) for node in graph.node])
        self.writer = {name: step for step in self.steps for name in step.writes}
        self.constants = set(self.initializers) - self.defaults
        for step in self.steps:
            if self.constants.issuperset(step.reads) and not step.op.startswith(_RANDOM) and step.op:
                self.constants.update(step.writes)

    def is_constant(self, step: Step) -> bool:
        """Whether a step computes from constants alone."""
        return bool(step.writes) and self.constants.issuperset(step.writes)

    def behind(self, names: Iterable[str]) -> list[Step]:
        """The steps that compute these constants, sorted."""
        left, found = list(names), set()
        while left:
            step = self.writer.get(left.pop())
            if step is not None and step not in found and self.is_constant(step):
                found.add(step)
                left += step.reads
        return [step for step in self.steps if step in found]


def _written(node: Any) -> tuple[str, ...]:
    return tuple(name for name in node.output if name)


def _sorted(steps: list[Step]) -> list[Step]:
    writer = {name: step for step in steps for name in step.writes}
    sorter = TopologicalSorter({step: [writer[name] for name in step.reads if name in writer] for step in steps})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        names = " and ".join(_check.shown(name) for step in error.args[1][:2] for name in step.writes[:1])
        raise ValueError(f"expected a graph without cycles, got one through {names}") from None
