"""Wrong calls of `vjp` and of its pullbacks: errors in the words of the other functions, which change nothing.

What `vjp` shares with the plain call is checked by the same code; `test_bad_input.py` has its errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import GRUParams, LSTMParams, _core, vjp
from support.cases import make_weights
from support.errors import bad_calls, raises_as_said
from support.gradients import arrays

T, B, I, H = 10, 2, 3, 6  # noqa: E741
rng = np.random.default_rng(5)


def numbers(*shape: int) -> np.ndarray:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def swapped(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder())


def huge(*shape: int) -> np.ndarray:
    """A view of a few numbers that claims to be large."""
    return np.broadcast_to(np.zeros(shape[-1], np.float32), shape)


# What the calls share, and must leave as it was: of both kinds of state, of a projection, of one row, of the last step.
x, dy, dh, dc, wide = numbers(T, B, I), numbers(T, B, H), numbers(1, B, H), numbers(1, B, H), numbers(T, B, 2 * H)
W = {cell: make_weights(rng, cell, (I, H)) for cell in ("rnn", "lstm", "gru")}
LSTM, GRU = LSTMParams(W["lstm"]), GRUParams(W["gru"])
PROJECTED = LSTMParams(make_weights(rng, "lstm", (I, H), proj=4))
_, lstm_back = vjp(x, LSTM)
_, gru_back = vjp(x, GRU)
_, projected_back = vjp(x, PROJECTED)
_, one_back = vjp(x[:, 0], GRU)
_, last_back = vjp(x, GRU, return_sequences=False)
_, batch_first_back = vjp(x.swapaxes(0, 1), GRU, batch_first=True)
_, marked_back = vjp(x, GRU, checkpoint=3)
_, two_layers_back = vjp(x, GRUParams(make_weights(rng, "gru", (I, H), layers=2)))


def snapshot() -> list[bytes]:
    given = [x, dy, dh, dc, wide, *(array for weights in W.values() for array in weights.values())]
    gradients = [*arrays(lstm_back(dy, (dh, dc))), *arrays(gru_back(dy, dh)), *arrays(last_back(dy[0], dh))]
    return [array.tobytes() for array in [*given, *gradients]]


BEFORE = snapshot()

TABLE = r"""
the call
>>> vjp(x, W["gru"])
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got dict; fastrnn.LSTMParams(weights) makes them
>>> vjp(GRU, x)
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got ndarray; x comes first, then params
>>> vjp(x, None)
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got NoneType
>>> vjp(x, "layer.npz")
TypeError: params: expected RNNParams, ..., got str; fastrnn.load(path), ... make them
>>> vjp(GRU, GRU)
TypeError: x: expected a numpy.ndarray, got GRUParams; x comes first, then params
>>> vjp(x.astype("float64"), GRU)
TypeError: x: expected float32 (the dtype of params), got float64; x.astype('float32') converts it, or params ...
>>> vjp(x.astype("int64"), GRU)
TypeError: x: expected float32 (the dtype of params), got int64; x.astype('float32') converts it; ...
>>> vjp(x[..., :2], GRU)
ValueError: x: expected (T, B, 3), got (10, 2, 2)
>>> vjp(x, LSTM, dh)
TypeError: state: expected a tuple (h, c) for an LSTM, got ndarray
>>> vjp(x, GRU, dh[:, :1])
ValueError: state: expected (1, 2, 6), which is (layers * directions, B, size), got (1, 1, 6)
>>> vjp(x, GRU, lengths=[1, 11])
ValueError: lengths: expected values from 0 to T=10, got 11 at row 1
>>> vjp(x, GRU, batch_first=1)
TypeError: batch_first: expected True, False or None, got int
>>> vjp(x, GRU, return_sequences=None)
TypeError: return_sequences: expected True or False, got NoneType
>>> vjp(x, GRU, threads=0)
ValueError: threads: expected from 1 to 256, got 0
>>> vjp(x, GRU, None, [1, 2])
TypeError: vjp() takes from 2 to 3 positional arguments but 4 were given
>>> vjp(huge(2**45, 1, 3), GRU, return_sequences=False)
MemoryError: no memory for ...
>>> vjp(huge(1, 2**59, 3), GRU, return_sequences=False)
ValueError: x: expected T * B * outputs that an array can hold, got T=1, B=576460752303423488 and 6 outputs a step
>>> vjp(x, GRU, hx=dh)
TypeError: vjp() got an unexpected keyword argument 'hx'; state= takes the initial state: h, or (h, c) for an LSTM
>>> vjp(x, GRU, lengthz=[1, 2])
TypeError: vjp() got an unexpected keyword argument 'lengthz'; did you mean 'lengths'?
>>> vjp(x, GRU, out=dy)
TypeError: vjp() got an unexpected keyword argument 'out'; results are new arrays
>>> vjp(x, GRU, wrt=["x"])
TypeError: vjp() got an unexpected keyword argument 'wrt'; the pullback takes it: (y, state), pullback = ...
>>> vjp(x, GRU, dtypes=1)
TypeError: vjp() got an unexpected keyword argument 'dtypes'; ...

dy
>>> gru_back(dy.swapaxes(0, 1))
ValueError: dy: expected (10, 2, 6), the shape of y, got (2, 10, 6); dy.swapaxes(0, 1) has it
>>> batch_first_back(dy)
ValueError: dy: expected (2, 10, 6), the shape of y, got (10, 2, 6); dy.swapaxes(0, 1) has it
>>> gru_back(dy[:, 0])
ValueError: dy: expected (10, 2, 6), the shape of y, got (10, 6); it is of the last step alone where vjp was called ...
>>> gru_back(dy[-1])
ValueError: dy: expected (10, 2, 6), ..., got (2, 6); it is of the last step alone where vjp was called with return_...
>>> batch_first_back(dy[-1])
ValueError: dy: expected (2, 10, 6), ..., got (2, 6); it is of the last step alone where vjp was called with return_...
>>> gru_back(dy[0, :1])
ValueError: dy: expected (10, 2, 6), the shape of y, got (1, 6)
>>> one_back(dy[:, :1])
ValueError: dy: expected (10, 6), the shape of y, got (10, 1, 6)
>>> last_back(dy)
ValueError: dy: expected (2, 6), the shape of y, got (10, 2, 6)
>>> projected_back(dy)
ValueError: dy: expected (10, 2, 4), the shape of y, got (10, 2, 6)
>>> gru_back(1.0)
TypeError: dy: expected a numpy.ndarray, got float
>>> gru_back(np.float32(1))
TypeError: dy: expected a numpy.ndarray, got float32; numpy.ascontiguousarray(dy, dtype='float32') makes one
>>> gru_back(np.array(1, "f4"))
ValueError: dy: expected (10, 2, 6), the shape of y, got ()
>>> gru_back(dy.tolist())
TypeError: dy: expected a numpy.ndarray, got list; numpy.ascontiguousarray(dy, dtype='float32') makes one
>>> gru_back((dy, dh))
TypeError: dy: expected a numpy.ndarray, got tuple; numpy.ascontiguousarray(dy, dtype='float32') makes one
>>> gru_back(np.ma.array(dy))
TypeError: dy: expected an array without a mask, got a MaskedArray; filled() makes one
>>> gru_back(dy.astype("float64"))
TypeError: dy: expected float32 (the dtype of params), got float64; dy.astype('float32') converts it, or params ...
>>> gru_back(dy.astype("int32"))
TypeError: dy: expected float32 (the dtype of params), got int32; dy.astype('float32') converts it
>>> gru_back(dy > 0)
TypeError: dy: expected float32 (the dtype of params), got bool
>>> gru_back(swapped(dy))
TypeError: dy: expected ... byte order, got '...f4'; numpy.ascontiguousarray(dy, dtype='float32') converts it
>>> gru_back(wide[..., ::2])
ValueError: dy: expected a dense last axis ..., got stride 8; numpy.ascontiguousarray(dy) makes a dense copy
>>> gru_back(np.broadcast_to(np.float32(1), dy.shape))
ValueError: dy: expected a dense last axis ..., got stride 0; numpy.ascontiguousarray(dy) makes a dense copy
>>> gru_back(dy[..., ::-1])
ValueError: dy: expected a dense last axis ..., got stride -4; numpy.ascontiguousarray(dy) makes a dense copy

checkpoint
>>> vjp(x, GRU, checkpoint=0)
ValueError: checkpoint: expected from 1 to 9223372036854775807, got 0
>>> vjp(x, GRU, checkpoint=-3)
ValueError: checkpoint: expected from 1 to 9223372036854775807, got -3
>>> vjp(x, GRU, checkpoint=10**30)
ValueError: checkpoint: expected from 1 to 9223372036854775807, got 1000000000000000000000000000000
>>> vjp(x, GRU, checkpoint=2.5)
TypeError: checkpoint: expected an integer or None, got float
>>> vjp(x, GRU, checkpoint=True)
TypeError: checkpoint: expected an integer or None, got bool
>>> vjp(x, GRU, None, None, 3)
TypeError: vjp() takes from 2 to 3 positional arguments but 5 were given

dstate
>>> gru_back(dstate=(dh, dc))
TypeError: dstate: expected one array, got a tuple of 2
>>> gru_back(dstate=[dh])
TypeError: dstate: expected one array, got a list of 1
>>> gru_back(dstate=dh[0])
ValueError: dstate: expected (1, 2, 6), the shape of state, got (2, 6)
>>> one_back(dstate=dh)
ValueError: dstate: expected (1, 6), the shape of state, got (1, 2, 6)
>>> gru_back(dstate=dh.astype("float64"))
TypeError: dstate: expected float32 (the dtype of params), got float64; dstate.astype('float32') converts it, or ...
>>> gru_back(dstate=wide[:1, :, ::2])
ValueError: dstate: expected a dense last axis ..., got stride 8; numpy.ascontiguousarray(dstate) makes a dense copy
>>> lstm_back(dstate=dh)
TypeError: dstate: expected a tuple (dh, dc) for an LSTM, got ndarray
>>> lstm_back(dy, dh, dc)
TypeError: Pullback.__call__() takes from 1 to 3 positional arguments but 4 were given
>>> lstm_back(dstate=(dh,))
ValueError: dstate: expected a tuple (dh, dc) for an LSTM, got 1 entries
>>> lstm_back(dstate=(dh, dc[0]))
ValueError: dstate[1] (dc): expected (1, 2, 6), the shape of state[1], got (2, 6)
>>> lstm_back(dstate=(dh, dc.astype("float64")))
TypeError: dstate[1] (dc): expected float32 ..., got float64; dstate[1].astype('float32') converts it, or ...
>>> lstm_back(dstate=((dh, dc), None))
TypeError: dstate[0] (dh): expected one array, got a tuple of 2
>>> projected_back(dstate=(dh, dc))
ValueError: dstate[0] (dh): expected (1, 2, 4), the shape of state[0], got (1, 2, 6)
>>> lstm_back(dh=dh)
TypeError: Pullback.__call__() got an unexpected keyword argument 'dh'; dstate= takes dh, or (dh, dc) for an LSTM
>>> lstm_back(dy, threads=2)
TypeError: Pullback.__call__() got an unexpected keyword argument 'threads'; threads= goes to vjp
>>> lstm_back(dy, want="x")
TypeError: Pullback.__call__() got an unexpected keyword argument 'want'; ...

wrt
>>> gru_back(wrt="x")
TypeError: wrt: expected a list or tuple of names, got 'x'; ['x'] is one
>>> gru_back(wrt=None)
TypeError: wrt: expected a list or tuple of names, got None
>>> gru_back(wrt=["weight"])
ValueError: wrt: expected 'x', 'weights', 'state' or names of weights, got 'weight'; did you mean 'weights'?
>>> gru_back(wrt=("x", "weight_hh"))
ValueError: wrt: expected 'x', ... or names of weights, got 'weight_hh'; did you mean 'weight_hh_l0'?
>>> two_layers_back(wrt=["weight_hh"])
ValueError: wrt: expected 'x', ... or names of weights, got 'weight_hh'; did you mean 'weight_hh_l0'?
>>> gru_back(wrt=iter(["h"]))
ValueError: wrt: expected 'x', 'weights', 'state' or names of weights, got 'h'
>>> gru_back(wrt=["weight_peephole_l0"])
ValueError: wrt: expected 'x', 'weights', 'state' or names of weights, got 'weight_peephole_l0'...
>>> gru_back(wrt=[x])
TypeError: wrt: expected 'x', 'weights', 'state' or names of weights, got array([[[...
>>> gru_back(wrt=b"x")
TypeError: wrt: expected 'x', 'weights', 'state' or names of weights, got 120
>>> gru_back(wrt=[["x"]])
TypeError: wrt: expected 'x', 'weights', 'state' or names of weights, got ['x']
"""


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(TABLE, at_least=50))
def test_bad_call(call: str, error: str, message: str) -> None:
    with raises_as_said(error, message):
        eval(call)
    assert snapshot() == BEFORE


GOOD: dict[str, Any] = {
    "subclass": lambda: gru_back(dy.view(np.recarray), dh.view(np.recarray)),
    "read-only": lambda: gru_back(np.broadcast_to(dy, dy.shape), np.broadcast_to(dh, dh.shape)),
    "rows apart": lambda: gru_back(dy.swapaxes(0, 1).copy().swapaxes(0, 1), dh),
    "backward in time": lambda: gru_back(dy[::-1].copy()[::-1], dh),
    "a set of names": lambda: gru_back(dy, dh, wrt={"state", "weights", "x"}),
    "names more than once": lambda: gru_back(dy, dh, wrt=["x", "state", *W["gru"], "weights", "x"]),
    "steps run again": lambda: marked_back(dy, dh),
    "numpy strings": lambda: gru_back(dy, dh, wrt=np.array(["x", "weights", "state"])),
}


@pytest.mark.parametrize("call", GOOD.values(), ids=GOOD)
def test_unusual_but_good(call: Any) -> None:
    expected = gru_back(dy, dh)
    assert [array.tobytes() for array in arrays(call())] == [array.tobytes() for array in arrays(expected)]


def test_a_list_for_two_states() -> None:
    expected = arrays(lstm_back(dy, (dh, dc)))
    assert [a.tobytes() for a in arrays(lstm_back(dy, [dh, dc]))] == [a.tobytes() for a in expected]
    assert lstm_back(wrt=[]) == fastrnn.Gradients(None, None, None)


def test_a_tape_of_no_call() -> None:
    with raises_as_said("TypeError", "fastrnn.vjp and fastrnn.trace make tapes"):
        _core.Tape()
