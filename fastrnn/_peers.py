"""The programs that the command line compares a layer with, on one input: the reference, PyTorch, ONNX Runtime."""

from __future__ import annotations

import math
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastrnn import _check, _core, _rounding, functional, reference
from fastrnn._cells import RNN
from fastrnn._embedding import without
from fastrnn._precision import FULL, OF_BYTES
from fastrnn._shapes import Sizes
from fastrnn._types import Precision, TargetName
from fastrnn.config import __version__
from fastrnn.params import CLASSES, Params

Array = NDArray[Any]
# Of `self_check`: docs/numerics.md, "Accuracy"; float64 has 2**-29 of the roundoff. Narrow weights are compared with
# the floats that they stand for. x and h as integers are what int8 is off by: 2e-4 and 2e-2 were measured.
TOLERANCE: dict[Precision, float] = {
    "float32": 2e-6,
    "float64": 4e-15,
    "float16": 2e-6,
    "int8": 1e-3,
    "int8_fast": 6e-2,
}


class Peer(NamedTuple):
    """A call that is ready to be timed, and a function that makes (y, h_n) or (y, h_n, c_n) of its result."""

    title: str
    call: Callable[[], Any]
    arrays: Callable[[Any], tuple[Array, ...]]


class RefusedError(ValueError):
    """Another program does not run this layer."""


def _refused(program: str, error: Exception) -> RefusedError:
    """The program's own message without codes and C++ signatures, one line at most."""
    said = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    said = re.sub(r"\S+\.(?:cc|cpp|h):\d+ .*?\)(?: const)?(?: \[with [^]]*\])? ", "", said)
    said = said if len(said) <= 200 else f"{said[:200]}..."
    return RefusedError(f"--against: {program} refuses this layer: {said or type(error).__name__}")


def _flat(result: Any) -> tuple[Array, ...]:
    y, state = result
    return (y, *state) if isinstance(state, tuple) else (y, state)


def ours(params: Params, x: Array, threads: int | None = None) -> Peer:
    function: Any = getattr(functional, params._cell.name)
    return Peer(f"fastrnn {__version__}", lambda: function(x, params, batch_first=False, threads=threads), _flat)


def exact(params: Params, x: Array) -> Peer:
    """The float64 reference, of the weights in the params' dtype, or of those that narrow ones stand for."""
    function: Any = getattr(reference, params._cell.name)
    weights = {name: array.astype(params.dtype) for name, array in params.dequantized().items()}
    return Peer("reference", lambda: function(x, weights, **params._cell_options()), _flat)


def torch(params: Params, x: Array, tensors: Mapping[str, Any] | None = None) -> Peer:
    """PyTorch's layer, of the file's own tensors where there are some, else of the weights of params."""
    library = _check.package("torch", "--against", "torch")
    options = params._cell_options()
    nonlinearity = options.pop("activation", "tanh") if params._cell is RNN else "tanh"
    lacks = [f"{name}={value!r}" for name, value in options.items()]
    lacks += [f"activation={nonlinearity!r}"] if nonlinearity not in ("tanh", "relu") else []
    lacks += ["peepholes"] if any("weight_peephole" in part for part in params._names.values()) else []
    lacks += [] if hasattr(library.nn, params._cell.title) else [params._cell.title]
    lacks += ["layer that runs in reverse alone"] if params.direction == "reverse" else []
    if lacks:
        raise RefusedError(f"--against: PyTorch has no {' and no '.join(lacks)}")
    more: dict[str, dict[str, Any]] = {"rnn": {"nonlinearity": nonlinearity}, "lstm": {"proj_size": params.proj_size}}
    module = getattr(library.nn, params._cell.title)(
        params.input_size,
        params.hidden_size,
        params.num_layers,
        bidirectional=params.bidirectional,
        dtype=getattr(library, params.dtype.name),
        **more.get(params._cell.name, {}),
    ).eval()
    state = {name: library.zeros_like(tensor) for name, tensor in module.state_dict().items()}  # biases may be absent
    if tensors is None:
        tensors = {name: library.from_numpy(np.array(a, params.dtype)) for name, a in without(params.weights).items()}
    state |= {name if "_l" in name else f"{name}_l0": tensor for name, tensor in tensors.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise _refused("PyTorch", error) from None
    tensor = library.from_numpy(x)

    def call() -> Any:
        try:
            with library.inference_mode():
                return module(tensor)
        except Exception as error:  # PyTorch raises many classes
            raise _refused("PyTorch", error) from None

    def arrays(result: Any) -> tuple[Array, ...]:
        tensors: tuple[Any, ...] = _flat(result)
        return tuple(tensor.numpy() for tensor in tensors)

    return Peer(f"PyTorch {library.__version__}", call, arrays)


def onnxruntime(path: str, node: str | None, x: Array, threads: int) -> Peer:
    library = _check.package("onnxruntime", "--against", "onnxruntime")
    from fastrnn.onnx.load import one_node_model

    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    model = one_node_model(path, node, x.dtype).SerializeToString()
    try:
        session = library.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of ONNX Runtime's own classes
        raise _refused("ONNX Runtime", error) from None

    def call() -> Any:  # ONNX Runtime finds some features that it lacks only here
        try:
            return session.run(None, {"X": x})
        except Exception as error:
            raise _refused("ONNX Runtime", error) from None

    def arrays(result: Any) -> tuple[Array, ...]:
        y = result[0].swapaxes(1, 2)  # (T, D, B, H) becomes (T, B, D, H)
        return y.reshape(*y.shape[:2], -1), *result[1:]

    return Peer(f"ONNX Runtime {library.__version__}", call, arrays)


@contextmanager
def running(count: int) -> Iterator[None]:
    """Set PyTorch's number of threads for the process, and put it back; its warning of a slow layer is not shown."""
    library = sys.modules.get("torch")
    if library is None:
        yield
        return
    before = library.get_num_threads()
    library.set_num_threads(count)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
            yield
    finally:
        library.set_num_threads(before)


def results(peer: Peer) -> tuple[Array, ...]:
    return peer.arrays(peer.call())


def difference(ours: tuple[Array, ...], theirs: tuple[Array, ...]) -> float:
    """The largest difference of two results; a NaN equals a NaN."""
    return float(np.max([_rounding.gap(a, b).max(initial=0) for a, b in zip(ours, theirs, strict=True)]))


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if math.isfinite(value) else None


def targets_of(precision: str) -> list[TargetName]:
    """Those that layers of this precision may have."""
    return [name for name, usable, base in _core.TARGETS if usable and (name == base or precision in OF_BYTES)]


def self_check(cell: str, precision: Precision, target: TargetName) -> dict[str, Any]:
    """Compare a layer of a kind whose accuracy docs/numerics.md promises with the reference and the best target."""
    rng, kind = np.random.default_rng(0), CLASSES[cell]
    sizes, row = Sizes(12, 20, 0, 1, (True, True)), kind._cell
    dtype = precision if precision in FULL else "float32"
    axes = sizes.axes(row, 0)
    weights = {
        f"{plain}_l0{end}": rng.uniform(-(20**-0.5), 20**-0.5, [axes[axis] for axis in letters]).astype(dtype)
        for end in ("", "_reverse")
        for plain, letters in row.weights.items()
        if plain in RNN.weights
    }
    x = rng.normal(size=(100, 3, 12)).astype(dtype)
    params, best = (kind(weights, target=name, precision=precision) for name in (target, targets_of(precision)[0]))
    here, there = ours(params, x), ours(best, x)
    gap = difference(results(here), results(exact(params, x)))
    bits = [[array.tobytes() for array in results(peer)] for peer in (here, there)]
    same, tolerance = bits[0] == bits[1], TOLERANCE[precision]
    return {"difference": number(gap), "tolerance": tolerance, "same_bits": same, "ok": same and gap <= tolerance}


def medians(peers: list[Peer], rounds: int, done: Callable[[], object] = lambda: None) -> list[float]:
    """Seconds a call of each, timed alternately, so that a slow moment of the machine slows all of them."""
    times: list[list[float]] = [[] for _ in peers]
    counts = [_calls_of(peer.call) for peer in peers]
    for _ in range(rounds):
        for peer, count, taken in zip(peers, counts, times):
            taken.append(_time(peer.call, count) / count)
        done()
    return [statistics.median(taken) for taken in times]


def _calls_of(call: Callable[[], Any]) -> int:
    """How many calls take some milliseconds; they warm up too."""
    count = 1
    while _time(call, count) < 5e-3:
        count *= 2
    return count


def _time(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start
