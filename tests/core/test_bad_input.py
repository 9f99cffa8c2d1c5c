"""Bad input: a wrong call is an error that names the argument, what was expected and what came, and changes nothing.

(a) `TABLE` holds the calls and their errors, as a user would see them.
(b) What needs a process of its own (environment variables, memory that can't be had) comes after it.
(c) Last, unusual input that is good: what the checks must let pass.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import GRUParams, LSTMParams, RNNParams, gru, lstm, rnn
from support.apart import run_python
from support.cells import GATES
from support.errors import bad_calls, raises_as_said

T, B, I, H = 5, 3, 3, 4  # noqa: E741
rng = np.random.default_rng(5)


def numbers(*shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def weights_of(gates: int, layers: int = 1, P: int = 0) -> dict[str, np.ndarray]:
    """Weights in PyTorch's names, with biases."""
    weights: dict[str, np.ndarray] = {}
    out, rows = P or H, gates * H
    for k in range(layers):
        weights |= {f"weight_ih_l{k}": numbers(rows, out if k else I), f"weight_hh_l{k}": numbers(rows, out)}
        weights |= {f"bias_ih_l{k}": numbers(rows), f"bias_hh_l{k}": numbers(rows)}
        if P:
            weights[f"weight_hr_l{k}"] = numbers(P, H)
    return weights


# What the calls share, and must leave as it was.
x, h, c, out = numbers(T, B, I), numbers(1, B, H), numbers(1, B, H), numbers(T, B, H)
wide = numbers(T, B, 2 * H)
W = {cell: weights_of(gates) for cell, gates in GATES.items()}
TWO = weights_of(4, layers=2)
RNN, LSTM, GRU = RNNParams(W["rnn"]), LSTMParams(W["lstm"]), GRUParams(W["gru"])
SQUARE = RNNParams({**W["rnn"], "weight_ih_l0": numbers(H, H)})  # its y is of x's shape
PROJECTED = LSTMParams(weights_of(4, P=2))


def snapshot() -> tuple[list[bytes], int]:
    """The bits of all that the calls share, and of what the params compute."""
    arrays = [x, h, c, out, wide, *(array for weights in [*W.values(), TWO] for array in weights.values())]
    results = [*rnn(x, RNN, h), *gru(x, GRU, h), *rnn(out, SQUARE)]
    for params in (LSTM, PROJECTED):
        y, state = lstm(x, params)
        results += [y, *state]
    return [array.tobytes() for array in [*arrays, *results]], fastrnn.get_num_threads()


BEFORE = snapshot()


class Odd:
    """An object that goes wrong whatever it is asked."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise RuntimeError("no array")


def swapped(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder())


def misaligned(array: np.ndarray) -> np.ndarray:
    view: np.ndarray = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    return view


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def huge(*shape: int) -> np.ndarray:
    """A view of a few numbers that claims to be large."""
    return np.broadcast_to(zeros(shape[-1]), shape)


def strided(array: np.ndarray, *strides: int) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(array, strides=strides)


def rename(old: str, new: str) -> LSTMParams:
    return LSTMParams({name.replace(old, new): value for name, value in TWO.items()})


def change(weights: dict[Any, Any] = TWO, **changes: Any) -> LSTMParams:
    """Params of weights of which some are replaced, added, or (None) left out."""
    return LSTMParams({name: value for name, value in {**weights, **changes}.items() if value is not None})


def option(**options: Any) -> LSTMParams:
    return LSTMParams(W["lstm"], **options)


# Calls in the names above, and the errors that they raise; "..." in a message is any text.
TABLE = r"""
x
>>> rnn(x.tolist(), RNN)
TypeError: x: expected a numpy.ndarray, got list; numpy.ascontiguousarray(x, dtype='float32') makes one
>>> lstm([x[:, 0], x[:2, 0]], LSTM)
TypeError: x: expected a numpy.ndarray, got list; x, lengths = fastrnn.pad(x) makes a batch of sequences, and ...
>>> fastrnn.load("model.onnx")
ValueError: path: expected a file of weights in .safetensors or .npz, got 'model.onnx'; fastrnn.from_onnx(path) reads it
>>> fastrnn.load("model.pth")
ValueError: path: expected a file of ... got 'model.pth'; fastrnn.from_torch(torch.load(path, ...)) reads it
>>> fastrnn.LSTM(3, 4)
AttributeError: module 'fastrnn' has no attribute 'LSTM'; fastrnn.LSTMParams(weights) has the weights, and ...
>>> fastrnn.GRUCell
AttributeError: module 'fastrnn' has no attribute 'GRUCell'; fastrnn.GRUParams(weights) has ...
>>> fastrnn.from_pytorch
AttributeError: module 'fastrnn' has no attribute 'from_pytorch'; did you mean 'from_torch'?
>>> fastrnn.quantize
AttributeError: module 'fastrnn' has no attribute 'quantize'
>>> rnn(None, RNN)
TypeError: x: expected a numpy.ndarray, got NoneType
>>> rnn(np.ma.array(x), RNN)
TypeError: x: expected an array without a mask, got a MaskedArray...
>>> rnn(x.astype("float64"), RNN)
TypeError: x: expected float32 (the dtype of params), got float64; x.astype('float32') converts it, or params ...
>>> gru(x, GRUParams(W["gru"], dtype="float64"))
TypeError: x: expected float64 (the dtype of params), got float32; x.astype('float64') converts it, or params ...
>>> gru(x.astype("float16"), GRU)
TypeError: x: expected float32 (the dtype of params), got float16; x.astype('float32') converts it
>>> gru(x.astype("int64"), GRU)
TypeError: x: expected float32 (...), got int64; x.astype('float32') converts it; params with embedding=E take tokens
>>> lstm(x > 0, LSTM)
TypeError: x: expected float32 (the dtype of params), got bool
>>> lstm(x.astype("complex64"), LSTM)
TypeError: x: expected float32 (the dtype of params), got complex64
>>> lstm(x.astype(object), LSTM)
TypeError: x: expected float32 (the dtype of params), got object
>>> lstm(x.astype("<U8"), LSTM)
TypeError: x: expected float32 (the dtype of params), got <U8
>>> rnn(swapped(x), RNN)
TypeError: x: expected ... byte order, got '...f4'; numpy.ascontiguousarray(x, dtype='float32') converts it
>>> rnn(np.array(x[0, 0, 0]), RNN)
ValueError: x: expected (T, B, 3) or (T, 3), got 0 axes: ()
>>> rnn(x[None], RNN, batch_first=True)
ValueError: x: expected (B, T, 3) or (T, 3), got 4 axes: (1, 5, 3, 3)
>>> rnn(x[..., :2], RNN)
ValueError: x: expected (T, B, 3), got (5, 3, 2)
>>> rnn(out[:, 0], RNN)
ValueError: x: expected (T, 3), got (5, 4)
>>> rnn(misaligned(x), RNN)
ValueError: x: expected aligned memory, got an array that is not; x.copy() is aligned
>>> rnn(wide[..., :6:2], RNN)
ValueError: x: expected a dense last axis (stride 4 bytes), got stride 8; numpy.ascontiguousarray(x) makes a dense copy
>>> rnn(x[..., ::-1], RNN)
ValueError: x: expected a dense last axis (stride 4 bytes), got stride -4...
>>> rnn(huge(2**59, 1, 3), RNN)
ValueError: x: expected T * B * outputs that an array can hold, got T=576460752303423488, B=1 and 4 outputs a step
>>> lstm(huge(1, 2**59, 3), LSTM, return_sequences=False)
ValueError: x: expected T * B * outputs that an array can hold, got T=1, B=576460752303423488 and 4 outputs a step
>>> rnn(huge(0, 2**59, 3), RNN)
ValueError: x: expected T * B * outputs that an array can hold, got T=0, B=576460752303423488 and 4 outputs a step

state
>>> rnn(x, RNN, (h, c))
TypeError: state: expected one array, got a tuple of 2
>>> gru(x, GRU, [h])
TypeError: state: expected one array, got a list of 1
>>> gru(x, GRU, h.astype("float64"))
TypeError: state: expected float32 (the dtype of params), got float64; state.astype('float32') converts it...
>>> rnn(x, RNN, h[0])
ValueError: state: expected (1, 3, 4), which is (layers * directions, B, size), got (3, 4)
>>> rnn(x[:, 0], RNN, h)
ValueError: state: expected (1, 4), which is (layers * directions, size), got (1, 3, 4)
>>> rnn(x, RNN, np.repeat(h, 2, axis=0))
ValueError: state: expected (1, 3, 4), which is ..., got (2, 3, 4)
>>> gru(x, GRU, h[:, :2])
ValueError: state: expected (1, 3, 4), which is ..., got (1, 2, 4)
>>> rnn(x, RNN, wide[:1, :, ::2])
ValueError: state: expected a dense last axis (stride 4 bytes), got stride 8...
>>> lstm(x, LSTM, np.stack([h, c]))
TypeError: state: expected a tuple (h, c) for an LSTM, got ndarray
>>> lstm(x, LSTM, (state for state in (h, c)))
TypeError: state: expected a tuple (h, c) for an LSTM, got generator
>>> lstm(x, LSTM, (h, c, c))
ValueError: state: expected a tuple (h, c) for an LSTM, got 3 entries
>>> lstm(x, LSTM, (None, c))
TypeError: state[0] (h): expected a numpy.ndarray, got NoneType
>>> lstm(x, LSTM, (h, c.tolist()))
TypeError: state[1] (c): expected one array, got a list of 1
>>> lstm(x, LSTM, (h, c.astype("float64")))
TypeError: state[1] (c): expected float32 (the dtype of params), got float64; state[1].astype('float32') converts it...
>>> lstm(x, PROJECTED, (h, c))
ValueError: state[0] (h): expected (1, 3, 2), which is ..., got (1, 3, 4)
>>> lstm(x, LSTM, (h, c[..., :3]))
ValueError: state[1] (c): expected (1, 3, 4), which is ..., got (1, 3, 3)

lengths
>>> rnn(x, RNN, lengths=[1.0, 2.0, 3.0])
TypeError: lengths: expected integers, got float64
>>> rnn(x, RNN, lengths=[True, 2, 3])
TypeError: lengths: expected integers, got bool
>>> rnn(x, RNN, lengths="123")
TypeError: lengths: expected integers, got <U3
>>> rnn(x, RNN, lengths=[None, 2, 3])
TypeError: lengths: expected integers, got object
>>> rnn(x, RNN, lengths=np.array([1, 2, 3], object))
TypeError: lengths: expected integers, got object
>>> rnn(x, RNN, lengths=np.ma.array([1, 2, 3]))
TypeError: lengths: expected an array without a mask, got a MaskedArray...
>>> rnn(x, RNN, lengths=Odd())
TypeError: lengths: expected an array, got Odd: no array
>>> rnn(x, RNN, lengths=[1, 2, 3, 4, 5])
ValueError: lengths: expected (3,), one for ... got a list of 5; with batch_first=True it fits, and x is (B, T, I)
>>> rnn(x.swapaxes(0, 1), RNN, lengths=np.arange(3), batch_first=True) and rnn(x, RNN, lengths=np.arange(5))
ValueError: lengths: expected (3,), one for ... got (5,); with batch_first=True it fits, and x is (B, T, I)
>>> rnn(x, RNN, numbers(1, T, H))
ValueError: state: expected (1, 3, 4), ... got (1, 5, 4); with batch_first=True it fits, and x is (B, T, I)
>>> lstm(x, LSTM, (numbers(1, T, H), c), batch_first=True)
ValueError: state[1] (c): expected (1, 5, 4), ... got (1, 3, 4); with batch_first=False it fits, and x is (T, B, I)
>>> gru(x, GRU, lengths=[-1, 2, 3])
ValueError: lengths: expected values from 0 to T=5, got -1 at row 0
>>> gru(x.swapaxes(0, 1), GRU, lengths=[1, 2, 6], batch_first=True)
ValueError: lengths: expected values from 0 to T=5, got 6 at row 2
>>> gru(x, GRU, lengths=np.array([1, 2**63, 1], np.uint64))
ValueError: lengths: expected values from 0 to T=5, got 9223372036854775808 at row 1
>>> gru(x, GRU, lengths=[1, 2**70, 1])
ValueError: lengths: expected values from 0 to T=5, got 1180591620717411303424
>>> lstm(x, LSTM, lengths=[1, 2])
ValueError: lengths: expected (3,), one for each row of the batch, got a list of 2
>>> lstm(x, LSTM, lengths=range(10**12))
ValueError: lengths: expected (3,), one for each row of the batch, got a range of 1000000000000
>>> lstm(x, LSTM, lengths=np.ones((1, 3), int))
ValueError: lengths: expected (3,), one for each row of the batch, got (1, 3)
>>> lstm(x, LSTM, lengths=3)
ValueError: lengths: expected (3,), one for each row of the batch, got ()
>>> lstm(x[:, 0], LSTM, lengths=[5])
ValueError: lengths: expected None, since x has no batch axis, got lengths; ...

out
>>> rnn(x, RNN, out=[])
TypeError: out: expected a numpy.ndarray, got list
>>> rnn(x, RNN, out=out.astype("float64"))
TypeError: out: expected float32 (the dtype of params), got float64
>>> rnn(x, RNN, out=swapped(out))
TypeError: out: expected float32 in native byte order, got '...f4'
>>> rnn(x, RNN, out=out.reshape(3, 5, 4))
ValueError: out: expected (5, 3, 4), got (3, 5, 4)
>>> rnn(x[:, 0], RNN, out=out[:, :1])
ValueError: out: expected (5, 4), got (5, 1, 4)
>>> gru(x, GRU, return_sequences=False, out=out)
ValueError: out: expected (3, 4), got (5, 3, 4)
>>> lstm(x, PROJECTED, out=out)
ValueError: out: expected (5, 3, 2), got (5, 3, 4)
>>> lstm(x, LSTM, out=read_only(out))
ValueError: out: expected an array that can be written to, got a read-only one
>>> lstm(x, LSTM, out=misaligned(out))
ValueError: out: expected aligned memory, got an array that is not
>>> rnn(x, RNN, out=wide[..., ::2])
ValueError: out: expected a dense last axis (stride 4 bytes), got stride 8
>>> rnn(x, RNN, out=strided(out, 16, 8, 4))
ValueError: out: expected elements of their own, got strides (16, 8, 4), which make them overlap
>>> rnn(x, RNN, out=strided(out, 0, 16, 4))
ValueError: out: expected elements of their own, got strides (0, 16, 4), which make them overlap
>>> rnn(out, SQUARE, out=out)
ValueError: out: expected memory of its own, got memory that overlaps x
>>> rnn(wide[..., :4], SQUARE, out=wide[..., 3:7])
ValueError: out: expected memory of its own, got memory that overlaps x
>>> gru(x[:1], GRU, h, out=h)
ValueError: out: expected memory of its own, got memory that overlaps state
>>> lstm(x[:1], LSTM, (h, c), out=c)
ValueError: out: expected memory of its own, got memory that overlaps state[1] (c)

flags, threads, params and keywords of a call
>>> rnn(x, RNN, batch_first=1)
TypeError: batch_first: expected True, False or None, got int
>>> rnn(x, RNN, return_sequences="no")
TypeError: return_sequences: expected True or False, got str
>>> gru(x, GRU, threads=1.0)
TypeError: threads: expected an integer or None, got float
>>> gru(x, GRU, threads=True)
TypeError: threads: expected an integer or None, got bool
>>> gru(x, GRU, threads=0)
ValueError: threads: expected from 1 to 256, got 0
>>> gru(x, GRU, threads=10**5000)
ValueError: threads: expected from 1 to 256, got ...
>>> fastrnn.set_num_threads(None)
TypeError: n: expected an integer, got NoneType
>>> fastrnn.set_num_threads(-1)
ValueError: n: expected from 1 to 256, got -1
>>> gru(x, LSTM)
TypeError: params: expected GRUParams ..., got LSTMParams; fastrnn.lstm runs them, and fastrnn.run(x, params) ...
>>> lstm(LSTM, x)
TypeError: params: expected LSTMParams or a mapping of weights, got ndarray; x comes first, then params
>>> lstm(LSTM, LSTM)
TypeError: x: expected a numpy.ndarray, got LSTMParams; x comes first, then params
>>> gru(x, "layer.npz")
TypeError: params: expected GRUParams ..., got str; fastrnn.load(path), ... make them
>>> gru(x, None)
TypeError: params: expected GRUParams or a mapping of weights, got NoneType
>>> gru(x, {name: array.tolist() for name, array in W["gru"].items()})
TypeError: weight_ih_l0: expected an array, got list
>>> rnn(x, W["lstm"])
ValueError: weight_hh_l0: expected (16, 16), since ...; the rows of weight_hh, (16, 4), are those of LSTMParams
>>> gru(x, W["lstm"])
ValueError: weight_ih_l0: ...got (16, 3); the rows of weight_hh, (16, 4), are those of LSTMParams
>>> rnn(x, RNN, length=[1, 2, 3])
TypeError: rnn() got an unexpected keyword argument 'length'; did you mean 'lengths'?
>>> lstm(x, LSTM, hx=(h, c))
TypeError: lstm() got an unexpected keyword argument 'hx'; state= takes the initial state: h, or (h, c) for an LSTM
>>> gru(x, GRU, h0=h)
TypeError: gru() got an unexpected keyword argument 'h0'; state= takes the initial state: h, or (h, c) for an LSTM
>>> gru(x, GRU, initial_state=h)
TypeError: gru() got ... argument 'initial_state'; state= takes the initial state: h, or (h, c) for an LSTM
>>> gru(x, GRU, mask=x)
TypeError: gru() got ... argument 'mask'; lengths= takes the number of steps of each row, which are mask.sum(axis) ...
>>> gru(x, GRU, seq_lens=[1, 2, 3])
TypeError: gru() got an unexpected keyword argument 'seq_lens'; lengths= takes the number of steps of each row
>>> gru(x, GRU, num_threads=2)
TypeError: gru() got an unexpected keyword argument 'num_threads'; threads= takes the number of threads
>>> gru(x, GRU, spam=2)
TypeError: gru() got ... argument 'spam'; its keywords are state, lengths, resets, batch_first, ..., threads
>>> fastrnn.run(x, GRU, hx=h)
TypeError: gru() got an unexpected keyword argument 'hx'; state= takes the initial state: h, or (h, c) for an LSTM
>>> rnn(x, RNN, None, [1, 2, 3])
TypeError: rnn() takes at most 3 positional arguments (4 given)

names of weights
>>> LSTMParams(LSTM)
TypeError: weights: expected a mapping of names to arrays, got LSTMParams...
>>> LSTMParams({})
ValueError: weights: missing 'weight_ih_l0', 'weight_hh_l0', got none
>>> change(weight_hh_l1=None)
ValueError: weights: missing 'weight_hh_l1', got 'weight_ih_l0', ...
>>> rename("l1", "l2")
ValueError: weights: missing 'weight_ih_l1', 'weight_hh_l1', got ...'weight_ih_l2'...
>>> change(weight_ih_l0_reverse=zeros(16, 3))
ValueError: weights: missing 'weight_hh_l0_reverse', 'weight_ih_l1_reverse', 'weight_hh_l1_reverse', got ...
>>> change(weight_hr_l1=zeros(2, 4))
ValueError: weights: missing 'weight_hr_l0', got ...'weight_hr_l1'
>>> change(weight_ih=zeros(16, 3))
ValueError: weights: expected 'weight_ih_l0' or 'weight_ih', which mean the same, got both
>>> change(wieght_ih_l7=x, Bias_ih_l1=x, Q=x)
ValueError: weights: unknown 'wieght_ih_l7' (nearest known: 'weight_ih_l7'), 'Bias_ih_l1' (...'bias_ih_l1'), 'Q' (...)
>>> GRUParams(weights_of(3, P=2))
ValueError: weights: unknown 'weight_hr_l0' (nearest known: ...)
>>> rename("weight", "encoder.weight")
ValueError: weights: unknown 'encoder.weight_ih_l0' (nearest known: 'weight_ih_l0'), ...
>>> rename("l0", "l\u0660")
ValueError: weights: unknown 'weight_ih_l...' (nearest known: 'weight_ih_l0'), ...
>>> LSTMParams({**TWO, 3: x})
ValueError: weights: unknown 3 (known: such as 'weight_ih_l0')
>>> LSTMParams({f"weight_{i}": x for i in range(5000)})
ValueError: weights: unknown 'weight_0' (...), ... and 4980 more

arrays of weights
>>> change(bias_ih_l0=Odd())
TypeError: bias_ih_l0: expected an array, got Odd: no array
>>> change(weight_ih_l0=np.ma.array(zeros(16, 3)))
TypeError: weight_ih_l0: expected an array without a mask, got a MaskedArray...
>>> change(weight_ih_l0=zeros(16, 3, dtype="int64"))
TypeError: weight_ih_l0: expected float32 or float64, got int64
>>> change(bias_hh_l1=swapped(zeros(16)))
TypeError: bias_hh_l1: expected float32 or float64, got ...f4
>>> change(bias_hh_l1=zeros(16, dtype="float16"))
TypeError: bias_hh_l1: expected float32 or float64, got float16; dtype='float32' converts the weights, ...
>>> change(bias_hh_l1=zeros(16, dtype="float64"))
TypeError: weights: expected one dtype, got weight_ih_l0 float32, ...bias_hh_l1 float64; dtype= converts them
>>> change(weight_ih_l0=zeros(16))
ValueError: weight_ih_l0: expected 2 axes, got (16,)
>>> change(weight_ih_l0=zeros(15, 3))
ValueError: weight_ih_l0: expected (4 * hidden_size, input_size), got (15, 3)
>>> LSTMParams({"weight_ih": zeros(0, 3), "weight_hh": zeros(0, 0)})
ValueError: weight_ih: expected (4 * hidden_size, input_size), got (0, 3)
>>> change(W["lstm"], weight_hr_l0=zeros(0, 4))
ValueError: weight_hr_l0: expected at least one row, got (0, 4)
>>> change(weight_ih_l1=zeros(16, 3))
ValueError: weight_ih_l1: expected (16, 4), since weight_ih_l0 is (16, 3), got (16, 3)
>>> change(weight_hh_l1=zeros(16))
ValueError: weight_hh_l1: expected (16, 4), since weight_ih_l0 is (16, 3), got (16,)
>>> change(weight_hh_l1=zeros())
ValueError: weight_hh_l1: expected (16, 4), since weight_ih_l0 is (16, 3), got ()
>>> change(weight_hh_l1=zeros(16, 4, 1))
ValueError: weight_hh_l1: expected (16, 4), since weight_ih_l0 is (16, 3), got (16, 4, 1)
>>> change(bias_hh_l1=zeros(2, 16))
ValueError: bias_hh_l1: expected (16,), since weight_ih_l0 is (16, 3), got (2, 16)
>>> change(weight_peephole_l0=zeros(3, 4))
ValueError: weight_peephole_l0: expected (12,), since weight_ih_l0 is (16, 3), got (3, 4)
>>> change(weight_hh_l0=huge(2**40, 4))
ValueError: weight_hh_l0: expected (16, 4), since weight_ih_l0 is (16, 3), got (1099511627776, 4)
>>> LSTMParams({"weight_ih": zeros(3, 16), "weight_hh": zeros(4, 16)})
ValueError: weight_hh: expected (4 * hidden_size, hidden_size), got (4, 16), which looks transposed (Keras ...
>>> LSTM.weights["weight_ih_l0"].fill(0)
ValueError: assignment destination is read-only

options of params
>>> option(dtype="float16")
TypeError: dtype: expected float32, float64 or None, got 'float16'
>>> option(dtype=int)
TypeError: dtype: expected float32, float64 or None, got <class 'int'>
>>> option(dtype=Odd())
TypeError: dtype: expected float32, float64 or None, got an object of type Odd
>>> option(activation="Tanh")
ValueError: activation: expected one of tanh, sigmoid, relu, ... got 'Tanh'; did you mean 'tanh'?
>>> option(recurrent_activation=None)
TypeError: recurrent_activation: expected a name or (name, alpha, beta), got None
>>> option(output_activation=b"tanh")
TypeError: output_activation: expected a name or (name, alpha, beta), got b'tanh'
>>> option(activation=["linear", 1, 0])
TypeError: activation: expected a name or (name, alpha, beta), got ['linear', 1, 0]
>>> option(activation=("linear", 1))
ValueError: activation: expected a name or (name, alpha, beta), got ('linear', 1)
>>> option(activation=("tanh", 1, 0))
ValueError: activation: expected 'tanh' alone, which has no alpha and beta, got ('tanh', 1, 0)
>>> option(activation=("linear", "1", 0))
TypeError: activation alpha: expected a number, got '1'
>>> option(activation=("linear", 1, float("nan")))
ValueError: activation beta: expected a finite number, got nan
>>> option(activation=("linear", 1e39, 0))
ValueError: activation: expected numbers up to 3.40282e+38 (float32), got 1e+39
>>> option(clip=0)
ValueError: clip: expected a positive number or None, got 0
>>> option(clip=10**400)
ValueError: clip: expected a finite number, got 1000...
>>> option(clip=1e-50)
ValueError: clip: expected from 1.17549e-38 to 3.40282e+38 (float32), got 1e-50
>>> option(clip=True)
TypeError: clip: expected a number, got True
>>> option(input_forget="yes")
TypeError: input_forget: expected True or False, got str
>>> GRUParams(W["gru"], reset_after=None)
TypeError: reset_after: expected True or False, got NoneType
>>> option(target="AVX2")
ValueError: target: expected one of ..., got 'AVX2', which this build does not hold; did you mean 'avx2'?
>>> option(target=b"scalar")
TypeError: target: expected a name or None, got bytes
>>> option(reset_after=True)
TypeError: LSTMParams() got ... argument 'reset_after'; its keywords are weights, dtype, target, precision, ...
>>> option(hidden_size=4)
TypeError: LSTMParams() got ... argument 'hidden_size'; sizes, layers and directions are read from the ... weights
>>> option(bidirectional=True)
TypeError: LSTMParams() got ... argument 'bidirectional'; sizes, layers and directions are read from the ... weights
>>> RNNParams(W["rnn"], nonlinearity="relu")
TypeError: RNNParams() got an unexpected keyword argument 'nonlinearity'; activation= takes the activation
>>> LSTMParams(3, 4)
TypeError: LSTMParams: expected one argument without a keyword, ..., got 3, 4; LSTMParams(weights) reads ...
>>> LSTMParams([W["lstm"]["weight_ih_l0"]])
TypeError: weights: expected a mapping of names to arrays, got list; {"weight_ih_l0": W, "weight_hh_l0": U} is one
>>> fastrnn.Params(W["lstm"])
TypeError: Params: expected RNNParams, LSTMParams or GRUParams, which are made of weights
"""


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(TABLE, at_least=130))
def test_bad_call(call: str, error: str, message: str) -> None:
    with raises_as_said(error, message):
        eval(call)
    assert snapshot() == BEFORE


MISSING = sorted({"avx512", "avx2", "neon"} - set(fastrnn.usable_targets()))  # never empty: neon is not of x86


@pytest.mark.parametrize("name", MISSING)
def test_target_that_cannot_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    message = f": expected one of {', '.join(fastrnn.usable_targets())}, got '{name}', which this (machine|build) .*"
    with pytest.raises(ValueError, match=f"^target{message}$"):
        option(target=name)
    monkeypatch.setenv("FASTRNN_TARGET", name)
    with pytest.raises(ValueError, match=f"^FASTRNN_TARGET{message}$"):
        option()
    assert option(target="scalar").target == "scalar"
    assert snapshot() == BEFORE


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Code in a process of its own, which may neither crash nor hang."""
    result = run_python(code, **environment)
    assert result.returncode in (0, 1), result
    return result


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "257", "many", " "])
def test_bad_number_of_threads_in_the_environment(value: str) -> None:
    """Each call that needs it says so, and none that is told a number."""
    code = """if True:
        import numpy as np, fastrnn
        eye = np.eye(4, dtype=np.float32)
        x, params = np.ones((2, 3, 4), np.float32), fastrnn.RNNParams({"weight_ih": eye, "weight_hh": eye})
        assert fastrnn.rnn(x, params, threads=1)[0].shape == (2, 3, 4)
        for call in (fastrnn.get_num_threads, lambda: fastrnn.rnn(x, params), lambda: fastrnn.rnn(x, params)):
            try:
                call()
            except ValueError as error:
                print(error)
        fastrnn.set_num_threads(2)
        assert fastrnn.rnn(x, params)[0].shape == (2, 3, 4) and fastrnn.get_num_threads() == 2
    """
    result = run(code, FASTRNN_NUM_THREADS=value)
    lines = result.stdout.splitlines()
    assert (result.stderr, len(lines)) == ("", 3)
    for line in lines:
        assert re.fullmatch(rf"FASTRNN_NUM_THREADS: expected from 1 to 256, got '?{value}'?", line)


def test_lengths_that_out_overwrites_are_read_first() -> None:
    code = """if True:
        import numpy as np, fastrnn
        memory = np.zeros(100, np.uint64)
        lengths, out = memory[:3], memory[:30].view(np.float32).reshape(5, 3, 4)
        x, eye = np.ones((5, 3, 4), np.float32), np.eye(4, dtype=np.float32)
        weights = {"weight_ih": eye, "weight_hh": eye}
        lengths[:] = 5, 2, 4
        y, _ = fastrnn.rnn(x, weights, lengths=lengths, out=out)
        assert np.array_equal(y, fastrnn.rnn(x, weights, lengths=[5, 2, 4])[0])"""
    result = run(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("ends", [[""], ["_reverse"], ["", "_reverse"]])
def test_an_endless_call_can_be_interrupted(ends: list[str], rows: int, threads: int) -> None:
    code = f"""if True:
        import signal, numpy as np, fastrnn
        weights = {{f"weight_{{kind}}h_l0{{end}}": np.eye(4) for kind in "ih" for end in {ends}}}
        x = np.broadcast_to(np.ones(4), (2**40, {rows}, 4))
        params = fastrnn.RNNParams(weights)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            fastrnn.rnn(x, params, return_sequences=False, threads={threads})
        except KeyboardInterrupt:
            print(fastrnn.rnn(x[:2], params)[0].shape)"""
    result = run(code)
    assert result.stdout.startswith(f"(2, {rows}"), result.stderr


def test_params_do_not_follow_their_arrays() -> None:
    weights = {name: array.copy() for name, array in W["gru"].items()}
    params = GRUParams(weights)
    for array in weights.values():
        array.fill(7)
    weights.clear()
    params.weights.clear()
    assert params == GRU
    assert gru(x, params)[0].tobytes() == gru(x, GRU)[0].tobytes()


GOOD: dict[str, Callable[[], Any]] = {
    "subclass": lambda: gru(x.view(np.recarray), GRU),
    "read-only x": lambda: gru(read_only(x), GRU),
    "fortran rows": lambda: gru(x.swapaxes(0, 1).copy().swapaxes(0, 1), GRU),
    "backwards in time": lambda: gru(x[::-1].copy()[::-1], GRU),
    "numpy scalars": lambda: gru(x, GRU, threads=np.int8(1), batch_first=np.False_),
    "int8 lengths": lambda: gru(x, GRU, lengths=np.full(B, T, np.int8)),
    "swapped lengths": lambda: gru(x, GRU, lengths=swapped(np.full(B, T))),
    "out beside x": lambda: gru(x, GRU, out=np.empty((T, B, 2 * H), np.float32)[..., H:]),
    "out transposed": lambda: gru(x, GRU, out=np.empty((B, T, H), np.float32).swapaxes(0, 1)),
    "float64 weights": lambda: gru(x, GRUParams({k: v.astype("f8") for k, v in W["gru"].items()}, dtype="f4")),
    "numpy strings": lambda: gru(x, GRUParams(W["gru"], activation=np.str_("tanh"), target=np.str_("scalar"))),
}


@pytest.mark.parametrize("call", GOOD.values(), ids=GOOD)
def test_unusual_but_good(call: Callable[[], Any]) -> None:
    expected = gru(x, GRU)
    assert [array.tobytes() for array in call()] == [array.tobytes() for array in expected]
