"""The order of a cut model: segments for ONNX Runtime, and between them layers and views, which NumPy sees.

A segment costs a call of ONNX Runtime, so there are as few as possible. Nodes are put off as long as they can be: a
branch that a recurrent node does not need runs in the segment after it, where otherwise it would need one of its own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fastrnn.onnx.candidates import Candidate
from fastrnn.onnx.graph import Graph, Step
from fastrnn.onnx.views import can_be_view


@dataclass(eq=False)
class Segment:
    """Nodes that ONNX Runtime runs at once."""

    steps: list[Step]
    inputs: list[str]
    outputs: list[str]


@dataclass(eq=False)
class Viewed:
    """A node that changes no number."""

    step: Step


Part = Segment | Candidate | Viewed


class Order:
    """The parts of a graph for these candidates.

    Attributes
    ----------
    parts : list of Segment, Candidate and Viewed
    constants : set of str
        Constants and defaults that are read outside of segments, or are outputs; segments have theirs inside.
    """

    def __init__(self, graph: Graph, candidates: list[Candidate]) -> None:
        self._graph = graph
        self._layers = {candidate.step: candidate for candidate in candidates}
        self._steps = self._needed()
        self._readers = defaultdict(list)
        for step in self._steps:
            for name in self._reads(step):
                self._readers[name].append(step)
        self._views = self._find_views()
        self.parts: list[Part] = self._ordered()
        outside = [step for step in self._steps if self._is_outside(step)]
        taken = {name for step in outside for name in self._reads(step)}.union(graph.outputs)
        self.constants = taken & (graph.constants | graph.defaults)

    def _reads(self, step: Step) -> tuple[str, ...]:
        return tuple(self._layers[step].inputs.values()) if step in self._layers else step.reads

    def _is_outside(self, step: Step) -> bool:
        """Whether a step runs outside of ONNX Runtime."""
        return step in self._layers or step in self._views

    def _needed(self) -> list[Step]:
        """Steps that the outputs need, sorted; those that compute constants are not among them."""
        left, found = list(self._graph.outputs), set()
        while left:
            step = self._graph.writer.get(left.pop())
            if step is not None and step not in found and not self._graph.is_constant(step):
                found.add(step)
                left += self._reads(step)
        return [step for step in self._graph.steps if step in found]

    def _find_views(self) -> set[Step]:
        """Views of what a layer gives, and those that lead from an input of the graph to a layer."""
        can = {step for step in self._steps if step not in self._layers and can_be_view(step, self._graph)}
        leads: set[Step] = set()
        for step in reversed(self._steps):
            readers = [reader for name in step.writes for reader in self._readers[name]]
            if step in can and any(reader in self._layers or reader in leads for reader in readers):
                leads.add(step)
        views: set[Step] = set()
        for step in self._steps:
            if step in can:
                name = step.proto.input[0]
                source = self._graph.writer.get(name)
                if source in self._layers or source in views or (name in self._graph.inputs and step in leads):
                    views.add(step)
        return views

    def _levels(self) -> dict[Step, int]:
        """The number of each step's segment, counted from the last one, which is 0; layers come after theirs."""
        levels: dict[Step, int] = {}
        for step in reversed(self._steps):
            readers = [reader for name in step.writes for reader in self._readers[name]]
            levels[step] = min(
                (levels[reader] - (self._is_outside(step) and not self._is_outside(reader)) for reader in readers),
                default=0,
            )
        return levels

    def _ordered(self) -> list[Part]:
        levels = self._levels()
        parts: list[Part] = []
        for level in sorted(set(levels.values())):
            steps = [step for step in self._steps if levels[step] == level]
            inside = [step for step in steps if not self._is_outside(step)]
            if inside:
                parts.append(self._segment(inside))
            parts += [self._layers.get(step) or Viewed(step) for step in steps if self._is_outside(step)]
        return parts

    def _segment(self, steps: list[Step]) -> Segment:
        own = {name: None for step in steps for name in step.writes}
        read = dict.fromkeys(name for step in steps for name in step.reads)
        inputs = [name for name in read if name not in own and name not in self._graph.constants]
        chosen = set(steps)
        outputs = [
            name
            for name in own
            if name in self._graph.outputs or any(reader not in chosen for reader in self._readers[name])
        ]
        return Segment(steps, inputs, outputs)
