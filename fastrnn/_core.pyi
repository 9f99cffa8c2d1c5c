from typing import Any

import numpy as np
from numpy.typing import NDArray

COMPILER: str
MOST_THREADS: int
TARGETS: tuple[tuple[str, bool], ...]
CELLS: dict[str, int]
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
        weights: list[tuple[NDArray[Any] | None, ...]],
        target: str,
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...

def set_default_threads(n: int) -> None: ...
def get_default_threads() -> int: ...
def run(
    packed: Packed,
    x: Any,
    state: Any,
    lengths: Any,
    batch_first: bool,
    return_sequences: bool,
    out: Any,
    threads: int | None,
) -> tuple[Any, Any]: ...
