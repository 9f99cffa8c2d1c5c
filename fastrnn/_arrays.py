"""Arrays of weights on their way into params: checked, then copied or kept, and closed to writing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check
from fastrnn._names import Names, listed

Array = NDArray[Any]


class SupportsArray(Protocol):
    """An object that NumPy makes an array of, but no sequence: an ndarray, or a tensor of a framework."""

    def __array__(self) -> Array: ...


Embedding = SupportsArray | Literal["one-hot"]  # as it is given to params


class Unpickled(dict[str, Any]):
    """Weights out of a pickle. Nobody else was given their arrays, so params keep them and make no copy."""


# The cure where weights are of 16 bits.
NEEDS_CONVERSION = "dtype='float32' converts the weights, precision='float16' keeps them narrow"


def check_array(name: str, value: object, converted: bool) -> Array:
    """One array of weights, of the dtype that it came in; `converted` says that params will convert it."""
    _check.refuse_mask(name, value)
    if not hasattr(value, "__array__"):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    array = _check.converted(name, value)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8 or not array.dtype.isnative:
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}")
    if array.dtype.itemsize < 4 and not converted:
        raise TypeError(f"{name}: expected float32 or float64, got {array.dtype}; {NEEDS_CONVERSION}")
    return array


def common_dtype(weights: Mapping[str, Array]) -> np.dtype[Any]:
    """The one dtype of all arrays."""
    dtypes = {array.dtype for array in weights.values()}
    if len(dtypes) > 1:
        got = ", ".join(f"{name} {array.dtype}" for name, array in weights.items())
        raise TypeError(f"weights: expected one dtype, got {got}; dtype= converts them")
    return dtypes.pop()


def check_alike(arrays: Mapping[str, Array], old: Mapping[str, Array], dtype: np.dtype[Any]) -> None:
    """Raise where arrays are not of the names, shapes and dtypes of old ones; another dtype may be good too."""
    if arrays.keys() != old.keys():
        missing = [name for name in old if name not in arrays]
        unknown = [name for name in arrays if name not in old]
        wrong = [f"without {listed(missing)}"] * bool(missing) + [f"with {listed(unknown)}"] * bool(unknown)
        raise ValueError(f"weights: expected the names {listed([*old])}, got them {' and '.join(wrong)}")
    for name, array in arrays.items():
        if array.shape != old[name].shape:
            raise ValueError(f"{name}: expected {old[name].shape}, as before, got {array.shape}")
        if array.dtype not in (old[name].dtype, dtype):
            expected = _check.either(dict.fromkeys((old[name].dtype.name, dtype.name)))
            cure = f"weights[{name!r}].astype({old[name].dtype.name!r}) converts it"
            raise TypeError(f"{name}: expected {expected}, as before, got {array.dtype}; {cure}")


def frozen(array: Array, keep: bool) -> Array:
    """A dense copy, or the array itself if it is to be kept and is dense, that can't be written to."""
    dense: Array = np.asarray(array, order="C") if keep else np.array(array, order="C")
    dense.flags.writeable = False
    return dense


class Part(NamedTuple):
    """The arrays of one layer in one direction, in the order that `_core.Packed` takes them."""

    weight_ih: Array
    weight_hh: Array | None = None
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Array | None = None
    weight_peephole: Array | None = None
    weight_ih_scale: Array | None = None
    weight_hh_scale: Array | None = None
    weight_hr_scale: Array | None = None


EMBEDDING = "embedding"  # the name of an array (V, I) among the weights, which is of no layer
TRAINED = Part._fields[:6]  # what has gradients
MATRICES = ("weight_ih", "weight_hh", "weight_hr")  # which may be narrow
SCALE = "_scale"  # after the name of a matrix of bytes


def parts_of(names: Names, weights: Mapping[str, Array], dtype: np.dtype[Any], narrow: bool = False) -> list[Part]:
    """Arrays of every layer and direction, in the dtype of the arithmetic; narrow matrices as they are held."""

    def arrays_of(plain: str, name: str) -> dict[str, Array]:
        as_held = narrow and plain in MATRICES
        arrays = {plain: np.require(weights[name], None if as_held else dtype, ["C", "A"])}
        if as_held and name + SCALE in weights:
            arrays[plain + SCALE] = np.require(weights[name + SCALE], None, ["C", "A"])
        return arrays

    return [
        Part(**{key: array for plain, name in part.items() for key, array in arrays_of(plain, name).items()})
        for part in names.values()
    ]
