"""Keywords that other libraries have, and what to write here in their place: for errors alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

from fastrnn import _check

_STATE = "state= takes the initial state: h, or (h, c) for an LSTM"
_LENGTHS = "lengths= takes the number of steps of each row"
_MASK = f"{_LENGTHS}, which are mask.sum(axis) over the time axis where the padding comes after the steps"
_RESETS = "resets= takes, as bools (T, B), where a row's state is zero before a step"
_ENDS = f"{_RESETS}: at the step after the one that ends an episode"
_THREADS = "threads= takes the number of threads"
_LAYOUT = "batch_first= takes the layout"
_SIZES = "sizes, layers and directions are read from the shapes and names of the weights"
_ACTIVATION = "activation= takes the activation"
_NO_TRAINING = "it acts in training alone: leave it out"

_CALLS = {
    **dict.fromkeys(("hx", "h0", "h_0", "hidden", "hidden_state", "initial_state", "initial_h", "init_state"), _STATE),
    **dict.fromkeys(("cx", "c0", "c_0", "cell_state", "initial_c", "states"), _STATE),
    **dict.fromkeys(("mask", "attention_mask", "padding_mask", "key_padding_mask"), _MASK),
    **dict.fromkeys(("seq_lens", "seq_len", "sequence_lens", "sequence_length", "sequence_lengths"), _LENGTHS),
    **dict.fromkeys(("input_lengths", "x_lengths", "lens", "batch_sizes"), _LENGTHS),
    **dict.fromkeys(("reset", "reset_mask", "is_first", "first", "firsts", "starts", "episode_starts"), _RESETS),
    **dict.fromkeys(("done", "dones", "is_last", "terminals", "terminated", "episode_ends"), _ENDS),
    **dict.fromkeys(("num_threads", "n_threads", "nthreads", "num_workers", "n_jobs", "workers"), _THREADS),
    **dict.fromkeys(("time_major", "layout", "batch_major"), _LAYOUT),
    **dict.fromkeys(("training", "dropout", "recurrent_dropout"), _NO_TRAINING),
    "return_state": "every call returns the state: y, state = ...",
    "go_backwards": "weights whose names end in _reverse run in reverse",
    "bidirectional": "weights with names that end in _reverse beside the others make a layer bidirectional",
    "precision": "precision= goes to the params",
    "dtype": "dtype= goes to the params",
    "target": "target= goes to the params",
    "device": "fastrnn runs on CPUs: leave it out",
    "input": "x is the first argument",
    "inputs": "x is the first argument",
    "weights": "params is the second argument",
}

_PARAMS = {
    **dict.fromkeys(("input_size", "hidden_size", "num_layers", "proj_size", "units", "bidirectional"), _SIZES),
    **dict.fromkeys(("nonlinearity", "act", "activations"), _ACTIVATION),
    **dict.fromkeys(("bias", "use_bias"), "biases are there where the weights have them"),
    **dict.fromkeys(("training", "dropout", "recurrent_dropout"), _NO_TRAINING),
    **dict.fromkeys(
        ("quantize", "quantization", "compute_type", "weight_dtype"), "precision= takes it, such as 'int8'"
    ),
    "gate_activation": "recurrent_activation= takes the activation of the gates",
    "inner_activation": "recurrent_activation= takes the activation of the gates",
    "linear_before_reset": "reset_after= takes it",
    "cell_clip": "clip= bounds the inputs of the activations, as ONNX has it, and nothing bounds the cell state",
    "threads": "threads= goes to the calls",
    "num_threads": "threads= goes to the calls",
    "device": "fastrnn runs on CPUs: leave it out",
    "return_sequences": "return_sequences= goes to the calls",
    "return_state": "every call returns the state: y, state = ...",
    "stateful": "a Stream keeps the state from call to call",
    "lengths": "lengths= goes to the calls",
    "state": "state= goes to the calls",
    "go_backwards": "weights whose names end in _reverse run in reverse",
}

_STREAMS = {
    **dict.fromkeys(("batch", "batchsize", "rows", "n", "B", "num_streams"), "batch_size= takes the number of rows"),
    **dict.fromkeys(("hx", "h0", "initial_state"), "set stream.state after it is made"),
    "state": "set stream.state after it is made",
    **dict.fromkeys(("threads", "num_threads"), "a step runs on one thread, and run() takes threads="),
    "batch_first": "batch_first= goes to run(), or to the params",
}

_POOLS = {
    **dict.fromkeys(("size", "n", "streams", "num_streams", "max_streams", "slots"), "capacity= takes the number"),
    **dict.fromkeys(("batch", "batch_size", "rows"), "step takes any of the open streams as a batch"),
    "state": "open(state) takes the state of a stream",
    **dict.fromkeys(("threads", "num_threads"), "threads= goes to step() and run()"),
    "batch_first": "x of run() is (n, T, I)",
}

_GRADIENTS = {
    **_CALLS,
    "out": "results are new arrays",
    "argnums": "wrt= of the pullback names what gradients are wanted of",
    "wrt": "the pullback takes it: (y, state), pullback = fastrnn.vjp(x, params); pullback(dy, wrt=['weights'])",
    "dy": "the pullback takes it: (y, state), pullback = fastrnn.vjp(x, params); pullback(dy)",
    "truncation": "calls over chunks with the state carried over truncate: docs/training.md",
    "checkpoints": "checkpoint= takes the steps from one state that is kept to the next",
    "checkpoint_every": "checkpoint= takes the steps from one state that is kept to the next",
}

_PULLBACKS = {
    **dict.fromkeys(("cotangent", "cotangents", "grad", "grad_output", "grad_outputs", "gradient"), "dy is first"),
    **dict.fromkeys(("dh", "dh_n", "d_state", "dfinal", "grad_state"), "dstate= takes dh, or (dh, dc) for an LSTM"),
    **dict.fromkeys(("dc", "dc_n"), "dstate= takes (dh, dc)"),
    **dict.fromkeys(("inputs", "argnums"), "wrt= names what gradients are wanted of"),
    "retain_graph": "a pullback may be called again: leave it out",
    "create_graph": "there are no second derivatives",
    "threads": "threads= goes to vjp",
}

_TRACES = {
    **_CALLS,
    "return_sequences": "a trace has all steps",
    "out": "results are new arrays",
    "threads": "the threads are those of set_num_threads",
}

Function = TypeVar("Function", bound=Callable[..., Any])


def cured(cures: dict[str, str]) -> Callable[[Function], Function]:
    """A decorator of functions whose unexpected keywords are answered by what to write in their place."""

    def decorate(function: Function) -> Function:
        code = function.__code__
        positional, named = code.co_argcount, code.co_kwonlyargcount
        known = code.co_varnames[: positional + named]
        shown = [name for name in known if name not in ("self", "x", "params")]

        @wraps(function)
        def checked(*arguments: Any, **keywords: Any) -> Any:
            if not keywords.keys() <= {*known}:
                unexpected = [name for name in keywords if name not in known]
                fail_unexpected(function.__qualname__, unexpected, shown, cures)
            return function(*arguments, **keywords)

        return cast("Function", checked)

    return decorate


of_gradients, of_pullbacks, of_traces = cured(_GRADIENTS), cured(_PULLBACKS), cured(_TRACES)


def fail_unexpected(function: str, unexpected: Iterable[str], known: Iterable[str], cures: dict[str, str]) -> NoReturn:
    """Raise a TypeError in Python's words, with what to write in the keyword's place."""
    name, known = next(iter(unexpected)), list(known)
    cure = f"; {cures[name]}" if name in cures else _check.meant(name, known)
    cure = cure or f"; its keywords are {', '.join(known)}"
    raise TypeError(f"{function}() got an unexpected keyword argument {_check.shown(name)}{cure}")


def fail_call(function: str, unexpected: Iterable[str]) -> NoReturn:
    known = ("state", "lengths", "resets", "batch_first", "return_sequences", "out", "threads")
    fail_unexpected(function, unexpected, known, _CALLS)


def fail_params(kind: str, unexpected: Iterable[str], known: Iterable[str]) -> NoReturn:
    fail_unexpected(kind, unexpected, known, _PARAMS)


def fail_stream(unexpected: Iterable[str]) -> NoReturn:
    fail_unexpected("Stream", unexpected, ("params", "batch_size"), _STREAMS)


def fail_pool(unexpected: Iterable[str]) -> NoReturn:
    fail_unexpected("StreamPool", unexpected, ("params", "capacity"), _POOLS)
