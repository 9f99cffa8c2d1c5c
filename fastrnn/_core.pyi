from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from fastrnn._types import TargetName

F = TypeVar("F", np.float32, np.float64)
Tokens = NDArray[np.signedinteger[Any]]
Ids = Sequence[int] | NDArray[np.integer[Any]]

COMPILER: str
MOST_THREADS: int
TARGETS: tuple[tuple[TargetName, bool, TargetName], ...]
CELLS: dict[str, int]
CELL_SIZES: dict[str, tuple[int, int]]
FUNCTIONS: dict[str, int]

class Packed:
    def __init__(
        self,
        cell: str,
        dtype: np.dtype[Any],
        sizes: tuple[int, int, int, int],
        directions: tuple[bool, bool],
        activations: tuple[tuple[str, float, float], ...],
        *,
        clip: float,
        reset_after: bool,
        input_forget: bool,
        batch_first: bool,
        weights: list[tuple[NDArray[Any] | None, ...]],
        target: str,
        precision: str | None = None,
        vocabulary: int = 0,
        embedding: NDArray[Any] | None = None,
        like: Packed | None = None,
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def table_nbytes(self) -> int: ...
    def image(self, weights: list[tuple[NDArray[Any] | None, ...]], embedding: NDArray[Any] | None) -> bytes: ...
    def explain(self, T: int, B: int, threads: int) -> str: ...

def measured_rates(target: int, dtype: int) -> dict[str, float]: ...
def set_rates(rates: dict[str, float] | None) -> None: ...
def time_ways(
    packed: Packed, x: NDArray[Any], threads: int, practice: int, rounds: int, calls: int
) -> tuple[list[tuple[int, int, int, int, float, list[float]]], list[int]]: ...
def simulate_trials(
    packed: Packed, T: int, B: int, threads: int, calls: int, seconds_of: Callable[[tuple[int, int, int, int]], float]
) -> list[tuple[int, int, int, int]]: ...

class Params:
    _packed: Packed

def array_at(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any], owner: object
) -> NDArray[Any]: ...

class Samples:
    def __init__(self, arrays: list[NDArray[Any]]) -> None: ...
    def are_current(self) -> bool: ...

def set_default_threads(n: int) -> None: ...
def get_default_threads() -> int: ...

class Stream:
    def __init__(self, params: Params, batch_size: int = 1) -> None: ...
    @property
    def _params(self) -> Any: ...
    @property
    def _batch_size(self) -> int: ...
    @overload
    def step(self, x: NDArray[F], out: NDArray[F] | None = None, *, threads: int | None = 1) -> NDArray[F]: ...
    @overload
    def step(self, x: Tokens | int, out: NDArray[Any] | None = None, *, threads: int | None = 1) -> NDArray[Any]: ...
    @overload
    def run(
        self,
        x: NDArray[F],
        *,
        resets: NDArray[np.bool_] | None = None,
        batch_first: bool | None = None,
        threads: int | None = 1,
    ) -> NDArray[F]: ...
    @overload
    def run(
        self,
        x: Tokens,
        *,
        resets: NDArray[np.bool_] | None = None,
        batch_first: bool | None = None,
        threads: int | None = 1,
    ) -> NDArray[Any]: ...
    def _get_state(self) -> Any: ...
    def _set_state(self, state: Any) -> None: ...

class StreamPool:
    def __init__(self, params: Params, capacity: int = 64) -> None: ...
    @property
    def _params(self) -> Any: ...
    @property
    def capacity(self) -> int: ...
    def open(self, state: Any = None) -> int: ...
    def close(self, ids: Ids | int) -> None: ...
    def reset(self, ids: Ids | int | None = None) -> None: ...
    @overload
    def step(
        self, ids: Ids | int, x: NDArray[F], out: NDArray[F] | None = None, *, threads: int | None = 1
    ) -> NDArray[F]: ...
    @overload
    def step(
        self, ids: Ids | int, x: Tokens | int, out: NDArray[Any] | None = None, *, threads: int | None = 1
    ) -> NDArray[Any]: ...
    @overload
    def run(
        self,
        ids: Ids | int,
        x: NDArray[F],
        lengths: Ids | None = None,
        *,
        resets: NDArray[np.bool_] | None = None,
        out: NDArray[F] | None = None,
        threads: int | None = 1,
    ) -> NDArray[F]: ...
    @overload
    def run(
        self,
        ids: Ids | int,
        x: Tokens,
        lengths: Ids | None = None,
        *,
        resets: NDArray[np.bool_] | None = None,
        out: NDArray[Any] | None = None,
        threads: int | None = 1,
    ) -> NDArray[Any]: ...
    def state(self, ids: Ids | int) -> Any: ...
    def set_state(self, ids: Ids | int, state: Any) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, stream: object) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def _ids(self) -> NDArray[np.int64]: ...
    def _latest(self) -> int: ...
    def _restore(self, ids: NDArray[np.int64], latest: int, state: Any) -> None: ...

class Transposed:
    def __init__(self, packed: Packed, weights: list[tuple[NDArray[Any] | None, ...]]) -> None: ...
    @property
    def nbytes(self) -> int: ...

class Tape:
    batch_first: bool
    of_tokens: bool
    ndim: int
    T: int
    B: int
    @property
    def nbytes(self) -> int: ...
    def read(self, index: int, gates: list[NDArray[Any]], states: list[NDArray[Any]]) -> None: ...
    def pull_back(
        self,
        transposed: Transposed,
        dy: NDArray[Any] | None,
        dfinal: list[NDArray[Any] | None],
        dx: NDArray[Any] | None,
        dinitial: list[NDArray[Any]],
        weights: list[tuple[NDArray[Any] | None, ...]] | None,
        dE: NDArray[Any] | None,
    ) -> None: ...

def release_pages() -> None: ...
def run_taped(
    cell: str,
    x: Any,
    params: Any,
    state: Any,
    lengths: Any,
    resets: Any,
    batch_first: bool | None,
    return_sequences: bool,
    checkpoint: Any,
    threads: Any,
) -> tuple[Any, Tape]: ...
