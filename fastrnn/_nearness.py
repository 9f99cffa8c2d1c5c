"""How near a layer with narrow weights comes to the same layer with floats: what `fastrnn check --precision` prints."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastrnn import _check
from fastrnn._arrays import Array
from fastrnn._untrusted import check_regular, said_of


class Nearness(NamedTuple):
    """Differences of one result, in parts of the root mean square of what floats give: 1 is as large as that is."""

    rms: float
    largest: float


def nearness(narrow: Array, wide: Array) -> Nearness:
    """NaN where one of the two has a NaN or an infinity that the other one has not; results of zeros are 0 apart."""
    wide = wide.astype(np.float64)
    odd = ~np.isfinite(wide)
    if not np.array_equal(narrow[odd], wide[odd], equal_nan=True) or not np.isfinite(narrow[~odd]).all():
        return Nearness(np.nan, np.nan)
    gaps, size = np.abs(narrow[~odd] - wide[~odd]), _rms(wide[~odd])
    if not gaps.any():
        return Nearness(0.0, 0.0)
    with np.errstate(divide="ignore"):
        return Nearness(float(_rms(gaps) / size), float(gaps.max() / size))


def _rms(numbers: Array) -> np.float64:
    return np.sqrt(np.mean(np.square(numbers), dtype=np.float64)) if numbers.size else np.float64(0)


def read_input(path: str, input_size: int) -> Array:
    """The x of a call, (T, B, I), of an .npy file that holds (T, B, I) or (T, I)."""
    check_regular(path)
    with said_of(path, "an .npy file of float16, float32 or float64"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("an .npz file")
        if array.dtype not in (np.float16, np.float32, np.float64):
            raise ValueError(str(array.dtype))
    if array.ndim not in (2, 3) or array.shape[-1] != input_size or not array.size:
        expected = f"(T, B, {input_size}) or (T, {input_size}), none of them 0"
        raise ValueError(f"--input: expected {expected}, got {_check.shown(array.shape)} in {path}")
    return array if array.ndim == 3 else array[:, None]
