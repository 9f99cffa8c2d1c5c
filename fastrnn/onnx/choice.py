"""Which of two ways to run a model is faster, for the shapes that it is given."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

Way = Callable[[list[str], Mapping[str, Any], Any], list[Any]]
Shapes = tuple[tuple[str, tuple[int, ...]], ...]  # of each input by name, in the order of the names
_MOST_SHAPES = 10_000  # of which the choice is kept; then all are looked up anew
_MOST_PAIRS, _FEWEST_PAIRS = 25, 3
_ENOUGH_SECONDS = 0.05  # of measuring one class


def _class_of(shapes: Shapes) -> Shapes:
    """Shapes whose sizes are within a factor of two are one class."""
    return tuple((name, tuple(size.bit_length() for size in shape)) for name, shape in shapes)


class Choice:
    """Runs a model the faster way of two: the first call of each class of shapes measures both, and decides for all.

    So equal inputs have equal bits for as long as the object lives. Where all shapes are `fixed` there is one class,
    and the way that lost is let go, with its memory.
    """

    def __init__(self, cut: Way, whole: Way, *, fixed: bool) -> None:
        self._ways: tuple[Way, Way] | None = (cut, whole)
        self._fixed = fixed
        self._only: Way | None = None
        self._by_shapes: dict[Shapes, Way] = {}
        self._by_class: dict[Shapes, Way] = {}
        self._lock = threading.Lock()
        self.ratios: dict[str, float] = {}  # by the shapes that were measured: seconds of the whole / of the cut model

    def run(self, names: list[str], feeds: Mapping[str, Any], run_options: Any) -> list[Any]:
        """The outputs, from the way that is faster."""
        if self._only is not None:
            return self._only(names, feeds, run_options)
        shapes = tuple([(name, getattr(feeds[name], "shape", ())) for name in sorted(feeds)])
        way = self._by_shapes.get(shapes)
        if way is None:
            way = self._decide(shapes, names, feeds, run_options)
        return way(names, feeds, run_options)

    def _decide(self, shapes: Shapes, names: list[str], feeds: Mapping[str, Any], run_options: Any) -> Way:
        kind = _class_of(shapes)
        with self._lock:
            if self._only is not None or self._ways is None:
                return self._only or self._by_class[kind]
            if kind not in self._by_class:
                ratio = _measure(*(lambda way=way: way(names, feeds, run_options) for way in self._ways))
                self.ratios[", ".join(f"{name} {shape}" for name, shape in shapes)] = ratio
                self._by_class[kind] = self._ways[ratio < 1]
                if self._fixed:
                    self._only, self._ways = self._by_class[kind], None
            if len(self._by_shapes) >= _MOST_SHAPES:
                self._by_shapes.clear()
            way = self._by_shapes[shapes] = self._by_class[kind]
            return way


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _measure(cut: Callable[[], object], whole: Callable[[], object]) -> float:
    """The time of the whole model by that of the cut one: the median over pairs, after a first call of each."""
    whole()  # whose errors of bad feeds are ONNX Runtime's own
    cut()
    start, ratios = time.perf_counter(), []
    for number in range(_MOST_PAIRS):
        calls = [cut, whole] if number % 2 else [whole, cut]
        seconds = {}
        for call in calls:
            call()  # while threads of the other way may still spin
            seconds[call] = _seconds(call)
        ratios.append(seconds[whole] / seconds[cut])
        spent = time.perf_counter() - start
        if spent > _ENOUGH_SECONDS and (len(ratios) >= _FEWEST_PAIRS or spent > 10 * _ENOUGH_SECONDS):
            break
    return statistics.median(ratios)
