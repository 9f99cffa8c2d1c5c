"""What a peer is: a class that makes a call of a case in the cheapest forms that its library's Python has.

A peer lives in a process of its own (bench/worker.py) and imports its library when it is made, so that no other library
is in that process. A form is a way to ask the library for the same thing. The worker tries each form of a case, and
times the fastest. A peer refuses a case that it cannot run with `Unable`.

Where `case.carries_state`, a call begins with the state that the call before it returned. The first begins with zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from bench.cases import Array, Case, Data

Call = Callable[[], Any]


class Unable(Exception):  # noqa: N818 -- it is no error
    """A kind of layer that a peer does not have; the words say what it lacks."""


class Library(Protocol):
    """What every peer says of its library."""

    title: str

    def __init__(self, threads: int) -> None: ...

    def about(self) -> dict[str, str]:
        """The version, and what else a reader of results must know of it."""


class Peer(Library, Protocol):
    """The interface of every peer."""

    def forms(self, case: Case) -> list[str]:
        """Names of the forms that may be the fastest."""

    def build(self, case: Case, data: Data, form: str) -> Call:
        """A function of no arguments that answers the outputs, in the library's own type."""

    def outputs(self, case: Case, result: Any) -> Array:
        """What the call answered as (T, B, D * outputs); it is not timed."""
