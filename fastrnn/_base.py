"""What all params have in common: weights of a stack of recurrent layers, checked once and packed for one target.

Names of weights are checked in `_names.py`, options in `_options.py`, arrays in `_arrays.py` and shapes in
`_shapes.py`; `_precision.py` makes weights narrow, `_packing.py` hands them to C, and `_equality.py` compares them.
The classes that users make are in `params.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

import numpy as np

from fastrnn import _check, _core, _embedding, _html
from fastrnn._arrays import (
    EMBEDDING,
    Array,
    Embedding,
    Part,
    SupportsArray,
    Unpickled,
    check_alike,
    check_array,
    common_dtype,
    frozen,
    parts_of,
)
from fastrnn._cells import Cell
from fastrnn._equality import numbers_of, rounded_options
from fastrnn._keywords import fail_params
from fastrnn._names import check_names
from fastrnn._options import check_activation, check_dtype, check_options, check_range
from fastrnn._packing import pack
from fastrnn._precision import FULL, OF_BYTES, check_given, check_held, check_precision, hold, split_scales, widened
from fastrnn._shapes import check_shapes, infer_sizes
from fastrnn._types import Precision, TargetName
from fastrnn.config import resolve_target

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

P = TypeVar("P", bound="Params")


class Params(_core.Params):
    """The base class of RNNParams, LSTMParams and GRUParams. No params are made of it alone.

    Params are immutable, and any number of threads may use them. They can be pickled and copied. They are equal where
    they compute the same, on whatever target.

    Notes
    -----
    Arrays that are given are copied twice: as `weights`, and packed for the target. Where params are loaded from a
    pickle they are packed anew, but `weights` are the arrays of the pickle: with buffers of its own (protocol 5) or
    mapped from a file (joblib), they are views of these. If the owner of such a buffer changes it, results stay what
    they were, since they come from the packed copy; `weights`, `==`, `save` and later pickles have the changed numbers.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> params = fastrnn.from_torch({"weight_ih_l0": np.ones((80, 8)), "weight_hh_l0": np.ones((80, 20))})
    >>> isinstance(params, fastrnn.Params), params.hidden_size, params.dtype.name, params.weights["weight_hh_l0"].shape
    (True, 20, 'float64', (80, 20))
    """

    _cell: ClassVar[Cell]

    def __new__(cls: type[P], *arguments: Any, **options: Any) -> P:
        """Look at the arguments before `__init__` does, for the sake of the errors: Python calls both."""
        if not hasattr(cls, "_cell"):
            raise TypeError(f"{cls.__name__}: expected {_check.params_names()}, which are made of weights")
        if "_cell" in vars(cls):  # a subclass may take other arguments
            _check_arguments(cls, arguments, options)
        return super().__new__(cls)

    def __init__(
        self,
        weights: Mapping[str, SupportsArray],
        dtype: DTypeLike | None,
        target: TargetName | None,
        precision: Precision | None,
        options: dict[str, Any],
        embedding: Embedding | None = None,
    ) -> None:
        self._options = check_options(self._cell, options)
        if not isinstance(weights, Mapping):
            cure = _check.params_cure(weights) or '; {"weight_ih_l0": W, "weight_hh_l0": U} is one'
            raise TypeError(f"weights: expected a mapping of names to arrays, got {type(weights).__name__}{cure}")
        asked, wanted, keep = check_dtype(dtype), check_precision(precision), isinstance(weights, Unpickled)
        weights, scales = split_scales(_embedding.join(weights, embedding))
        self._names = check_names(_embedding.without(weights), self._cell)
        given = check_given(self._names, weights, scales, wanted, asked)
        arrays = given.arrays
        self._narrow = given.precision
        self._requested_target = target
        self._target = resolve_target(target, self._narrow in OF_BYTES)
        self._dtype = given.dtype or common_dtype(arrays)
        check_range(self._options, self._dtype)
        self._sizes = infer_sizes(self._cell, self._names, arrays)
        check_shapes(self._cell, self._names, arrays, self._sizes)
        self._one_hot = embedding is not None and EMBEDDING not in arrays
        self._vocabulary = _embedding.vocabulary_of(arrays.get(EMBEDDING), self.input_size, self._one_hot)
        held = hold(self._names, given) if self._narrow else arrays
        self._weights = {name: frozen(array, keep) for name, array in held.items()}  # memory is taken for what fits
        self._packed = self._pack(None)

    def _parts(self) -> list[Part]:
        return parts_of(self._names, self._weights, self._dtype, self._narrow is not None)

    def _pack(self, like: _core.Packed | None) -> _core.Packed:
        layers = (self._cell, self._sizes, self._parts(), self._options, self._dtype, self._narrow)
        embedding = _embedding.packed(self._weights.get(EMBEDDING), self._dtype)
        return pack(*layers, self._target, self._vocabulary, embedding, like)

    @property
    def input_size(self) -> int:
        """Numbers in one step of `x`, I."""
        return self._sizes.input_size

    @property
    def hidden_size(self) -> int:
        """Units of a layer, H."""
        return self._sizes.hidden_size

    @property
    def num_layers(self) -> int:
        """Layers of the stack, L."""
        return self._sizes.num_layers

    @property
    def bidirectional(self) -> bool:
        """Whether every layer runs in both directions."""
        return all(self._sizes.directions)

    @property
    def direction(self) -> str:
        """One of "forward", "reverse" and "bidirectional"."""
        return "bidirectional" if self.bidirectional else "forward" if self._sizes.directions[0] else "reverse"

    @property
    def proj_size(self) -> int:
        """Outputs of a layer after its projection, P; 0 without one."""
        return self._sizes.proj_size

    @property
    def batch_first(self) -> bool:
        """Whether calls that do not say it take `x` as (B, T, I), and not as (T, B, I)."""
        return bool(self._options["batch_first"])

    @property
    def embedding(self) -> Array | Literal["one-hot"] | None:
        """The array (V, I) whose rows tokens name, in the dtype that it came in; "one-hot"; or None."""
        return "one-hot" if self._one_hot else self.weights.get(EMBEDDING)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: of the arithmetic, and of `x`, states and `y`."""
        return self._dtype

    @property
    def precision(self) -> Precision:
        """How the matrices are held and multiplied: "float16", "int8", "int8_fast", or as `dtype` says."""
        return cast("Precision", self._narrow or self._dtype.name)

    @property
    def target(self) -> TargetName:
        """The instruction set that the weights are packed for."""
        return self._target

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights; with an embedding, of its packed rows and of the table of tokens too."""
        return self._packed.nbytes

    def explain(self, T: int, B: int = 1, threads: int | None = None) -> str:
        """Say in words how a call would run, and why: chunks of steps, caches, threads, scratch.

        Parameters
        ----------
        T, B : int
            Steps and rows of the call, at least 0.
        threads : int, optional
            Threads at most; `get_num_threads` if not given.

        Returns
        -------
        str
            Some lines. Times in it are expected from constants that were measured on one machine: they are to be
            compared with each other. Scratch is what a call takes beside its results.

        Raises
        ------
        TypeError, ValueError
            An argument that is not an integer, or out of bounds.

        Examples
        --------
        >>> import numpy as np, fastrnn
        >>> weights = {"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.zeros((2, 2))}
        >>> print(fastrnn.RNNParams(weights).explain(T=100, threads=1))  # doctest: +ELLIPSIS
        T=100 steps, B=1 row, at most 1 thread: 1 strand of 1 row.
        ...
        """
        steps, rows = _check.whole("T", T, 0, sys.maxsize), _check.whole("B", B, 0, sys.maxsize)
        wanted = _core.get_default_threads() if threads is None else _check.threads(threads)
        return self._packed.explain(steps, rows, wanted)

    @property
    def weights(self) -> dict[str, Array]:
        """The arrays as they were given, by the names that they were given under; they can't be written to.

        Matrices of narrow params are as they are held: float16, or int8 with float32 scales (rows,) under the name of
        the matrix and ``_scale``: a row of weights is its scale times its bytes.

        The dict is new: to put another array into it changes no params. `with_weights` makes params of other arrays.
        """
        # A view of an array could be made writeable again where the buffer of a pickle can be written to.
        return {name: np.asarray(array.data.toreadonly()) for name, array in self._weights.items()}

    def with_weights(self: P, weights: Mapping[str, SupportsArray]) -> P:
        """Make params of the same layers with other numbers, as an optimiser's step does.

        It packs, and nothing else: the options, the sizes and the target are those of these params.

        Parameters
        ----------
        weights : mapping of str to ndarray
            The same names and shapes as `weights`, each array of the dtype that it had there, or of `dtype`. Floats
            for int8 matrices come without scales; where params are narrow, floats are made narrow anew.

        Returns
        -------
        Params
            Of the same class.

        Raises
        ------
        TypeError
            An array of another dtype.
        ValueError
            Other names or shapes.

        Examples
        --------
        >>> import numpy as np, fastrnn
        >>> params = fastrnn.RNNParams({"weight_ih": np.ones((2, 3)), "weight_hh": np.zeros((2, 2))}, activation="relu")
        >>> halved = params.with_weights({name: 0.5 * array for name, array in params.weights.items()})
        >>> fastrnn.rnn(np.ones((1, 1, 3)), halved)[0]
        array([[[1.5, 1.5]]])
        """
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights: expected a mapping of names to arrays, got {type(weights).__name__}")
        if self._narrow:
            check_held(weights, self._weights)
            return self._like(weights, self._narrow)
        arrays = {name: check_array(name, value, True) for name, value in weights.items()}
        check_alike(arrays, self._weights, self._dtype)
        other = self._copied()
        other._weights = {name: frozen(arrays[name], False) for name in self._weights}
        other._packed = other._pack(self._packed)
        return other

    def _like(self: P, weights: Mapping[str, Any], precision: str | None, dtype: str | None = None) -> P:
        """Params of the same class, target and options."""
        other = self._copied()
        options = self._cell.defaults | self._shown_options()
        named, one_hot = cast("Precision | None", precision), _embedding.ONE_HOT if self._one_hot else None
        Params.__init__(other, weights, dtype or self._dtype, self._requested_target, named, options, one_hot)
        return other

    def _copied(self: P) -> P:
        """An object with the attributes of these params, but for what belongs to their numbers alone."""
        other: P = type(self).__new__(type(self))
        vars(other).update(vars(self).copy())  # at once: a pullback of another thread may add `_backward` meanwhile
        vars(other).pop("_backward", None)
        return other

    def to(self: P, precision: Precision) -> P:
        """Make params of the same layers in another precision.

        Parameters
        ----------
        precision : "float32", "float64", "float16", "int8" or "int8_fast"
            Of the matrices. "int8" and "int8_fast" hold the same bytes, and are made of each other without loss. From
            one narrow precision to another the way leads through floats: what the first one has lost does not come
            back, and the second loses a little more.

        Returns
        -------
        Params
            Of the same class; these params where they have the precision already.

        Raises
        ------
        TypeError, ValueError
            Another precision; a narrow one of params whose dtype is float64, which go to "float32" first; weights that
            it can't hold: beyond 65504 for float16, NaN or infinity for int8.

        Examples
        --------
        >>> import numpy as np, fastrnn
        >>> weights = {"weight_ih": np.ones((8, 3), "float32"), "weight_hh": np.ones((8, 2), "float32")}
        >>> params = fastrnn.LSTMParams(weights).to("int8")
        >>> params.precision, params.weights["weight_ih"].dtype.name, params.weights["weight_ih_scale"].shape
        ('int8', 'int8', (8,))
        """
        wanted = check_precision(precision)
        if wanted is None:
            raise TypeError("precision: expected a name, got None")
        if wanted == self.precision:
            return self
        if wanted not in FULL and self._dtype == np.float64:
            cure = f".to('float32').to({wanted!r}) makes them narrow"
            raise ValueError(f"precision: expected 'float32', since the params are float64, got {wanted!r}; {cure}")
        same_bytes = self._narrow in OF_BYTES and wanted in OF_BYTES
        weights = widened(self._weights) if self._narrow and not same_bytes else self._weights
        return self._like(weights, wanted, wanted if wanted in FULL else None)

    def dequantized(self) -> dict[str, Array]:
        """The weights as floats: float32 where these params are narrow, by the names that floats have.

        Examples
        --------
        >>> import numpy as np, fastrnn
        >>> weights = {"weight_ih": np.ones((2, 3), "float32"), "weight_hh": np.eye(2, dtype="float32")}
        >>> fastrnn.RNNParams(weights, precision="int8").dequantized()["weight_hh"]
        array([[1., 0.],
               [0., 1.]], dtype=float32)
        """
        return widened(self._weights) if self._narrow else self.weights

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights and options to a file that `fastrnn.load` reads.

        Parameters
        ----------
        path : str or path
            Ends in ``.safetensors`` (which needs that package) or ``.npz``. A file that is there is replaced.

        Raises
        ------
        ValueError
            Another ending.
        ImportError
            safetensors is not installed.
        OSError
            The file can't be written; what was there stays.

        Examples
        --------
        >>> import numpy as np, fastrnn, os, tempfile
        >>> params = fastrnn.RNNParams({"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.zeros((2, 2))})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     params.save(os.path.join(folder, "layer.npz"))
        ...     fastrnn.load(os.path.join(folder, "layer.npz")) == params
        True
        """
        from fastrnn._formats import write  # not before it is needed: importing fastrnn stays fast

        said = (self._cell, self._dtype.name, self._shown_options(), self._narrow, self._one_hot)
        write(path, self.weights, *said)

    def save_image(self, path: str | os.PathLike[str]) -> None:
        """Write the layers as a program in C reads them: docs/realtime.md.

        An image holds what a call of the layers needs and nothing else: weights in the precision of these params, and
        options, but neither names nor `batch_first`. fastrnn can't read it in Python: `load` reads what `save` writes.

        Parameters
        ----------
        path : str or path
            Any name but those that end in .npz or .safetensors, which `load` reads. A file that is there is replaced.

        Raises
        ------
        ValueError
            Such a name, or that of a device, pipe or socket.
        OSError
            The file can't be written; what was there stays.

        Examples
        --------
        >>> import numpy as np, fastrnn, os, tempfile
        >>> params = fastrnn.RNNParams({"weight_ih_l0": np.ones((2, 3)), "weight_hh_l0": np.zeros((2, 2))})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     params.save_image(os.path.join(folder, "layer.frnn"))
        ...     os.path.getsize(os.path.join(folder, "layer.frnn"))
        384
        """
        from fastrnn._formats import path_name, replace

        name = path_name(path)
        if name.endswith((".npz", ".safetensors")):
            raise ValueError(f"path: expected another ending than those of files that load() reads, got {name!r}")
        embedding = _embedding.packed(self._weights.get(EMBEDDING), self._dtype)
        replace(name, self._packed.image([tuple(part) for part in self._parts()], embedding))

    def _transposed(self) -> _core.Transposed:
        """The weights as the way back multiplies them: made when they are first wanted."""
        if "_backward" not in vars(self):
            self._backward = _core.Transposed(self._packed, [tuple(part) for part in self._parts()])
        return self._backward

    def _shown_options(self) -> dict[str, Any]:
        """Options that are not what they are by default, in the form that `__init__` takes them."""
        shown = {}
        for name, value in self._options.items():
            if isinstance(value, tuple):
                bare = check_activation(name, value[0])
                value = value[0] if value == bare else value
            if value != self._cell.defaults[name]:
                shown[name] = value
        return shown

    def _cell_options(self) -> dict[str, Any]:
        """Of these, the options of the equations: all but the layout of the data."""
        return {name: value for name, value in self._shown_options().items() if name != "batch_first"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._shown().items())})"

    def _repr_html_(self) -> str:
        """What a notebook shows: sizes and options, in a table."""
        return _html.table(type(self).__name__, self._shown().items())

    def _shown(self) -> dict[str, Any]:
        """Sizes and options, by the names that a repr has them under."""
        shown: dict[str, Any] = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        shown |= {"num_layers": self.num_layers, "direction": self.direction}
        if self.proj_size:
            shown["proj_size"] = self.proj_size
        if self._vocabulary:
            shown["embedding"] = "one-hot" if self._one_hot else self._weights[EMBEDDING].shape
        shown |= self._shown_options()
        shown |= {"dtype": self.dtype.name} | ({"precision": self._narrow} if self._narrow else {})
        return shown | {"target": self.target, "nbytes": self.nbytes}

    def __reduce__(self) -> tuple[Any, ...]:
        from fastrnn.params import _rebuild  # whose module is part of the format of pickles, and imports this one

        # Without a target that was not asked for: it is chosen anew where the pickle is loaded.
        arguments = {"dtype": self._dtype.name, "target": self._requested_target, **self._shown_options()}
        arguments |= {"precision": self._narrow} if self._narrow else {}
        arguments |= {"embedding": _embedding.ONE_HOT} if self._one_hot else {}
        return _rebuild, (type(self), self._weights, arguments)

    def __copy__(self: Any) -> Any:
        return self

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        return self

    def _separate_biases(self) -> str:
        """Gates whose two biases are not simply added, by their letters."""
        return ""

    def _unused_gates(self) -> str:
        """Gates whose rows no result depends on, by their letters."""
        return ""

    def _key(self) -> tuple[Any, ...]:
        options = rounded_options(self._options, self._dtype)
        kind = (type(self).__name__, self._sizes, self.precision, self._vocabulary, self._one_hot)
        return (*kind, tuple(sorted(options.items())))

    def _numbers(self) -> list[Array]:
        separate, unused = self._separate_biases(), self._unused_gates()
        numbers = [array for part in self._parts() for array in numbers_of(self._cell, part, separate, unused)]
        return [*numbers, self._weights[EMBEDDING]] if EMBEDDING in self._weights else numbers

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Params):
            return NotImplemented
        return self._key() == other._key() and all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(self._numbers(), other._numbers(), strict=True)
        )

    def __hash__(self) -> int:
        return hash(self._key())


def _check_arguments(kind: type[Params], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raise where arguments are those of another library's layer."""
    if len(arguments) > 1:
        got = ", ".join(map(_check.shown, arguments))
        cure = f"{kind.__name__}(weights) reads the sizes from the weights"
        raise TypeError(f"{kind.__name__}: expected one argument without a keyword, weights, got {got}; {cure}")
    known = ("weights", "dtype", "target", "precision", "embedding", *kind._cell.defaults)
    unexpected = [name for name in options if name not in known]
    if unexpected:
        fail_params(kind.__name__, unexpected, known)
