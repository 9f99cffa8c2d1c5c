"""Sequences of different lengths as a batch, and calls that go by the class of params."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import pad
from support.cases import Case, assert_same_bits, cases, flat, make_weights
from support.cells import CELLS, PARAMS
from support.errors import bad_calls, raises_as_said


@pytest.mark.parametrize("cell", CELLS)
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=6), batch_first=st.booleans())
def test_rows_are_as_they_are_alone(cell: str, lengths: list[int], batch_first: bool) -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(n, 3)).astype("f4") for n in lengths]
    params = PARAMS[cell](make_weights(rng, cell, (3, 4)), batch_first=batch_first)
    x, told = pad(iter(sequences), batch_first)
    assert told.tolist() == lengths
    y, _ = fastrnn.run(x, params, lengths=told)
    y = y.swapaxes(0, 1) if batch_first else y
    for row, sequence in enumerate(sequences):
        alone, _ = fastrnn.run(sequence, params)
        assert_same_bits((y[: len(sequence), row],), (alone,))
        assert not y[len(sequence) :, row].any()


def test_any_arrays() -> None:
    x, _ = pad([[[1, 2]], [[3, 4], [5, 6]]])
    assert x.tolist() == [[[1, 2], [3, 4]], [[0, 0], [5, 6]]]
    x, lengths = pad([np.zeros((0, 2), "f4")])
    assert (x.shape, x.dtype, lengths.tolist()) == ((0, 1, 2), np.float32, [0])


@given(case=cases())
def test_run_is_the_function_of_the_cell(case: Case) -> None:
    assert_same_bits(flat(fastrnn.run(case.x, case.params(), case.state, **case.call)), case.run())


one: Any = np.zeros((3, 2), "f4")
TABLE = """
>>> pad(one)
TypeError: sequences: expected a list of arrays, one for each row, got one ndarray; [x] is a list of one
>>> pad(3)
TypeError: sequences: expected a list of arrays, one for each row, got one int; [x] is a list of one
>>> pad([])
ValueError: sequences: expected at least one, got none
>>> pad([one, one[:, :1]])
ValueError: sequences[1]: expected (T, 2), got (3, 1)
>>> pad([one[:, 0]])
ValueError: sequences[0]: expected (T, I), got (3,); sequences[0][:, None] has one number a step
>>> pad([one, one.astype("f8")])
TypeError: sequences[1]: expected float32, as sequences[0] is, got float64
>>> pad([one, np.ma.array(one)])
TypeError: sequences[1]: expected an array without a mask, got a MaskedArray...
>>> pad([one], batch_first=1)
TypeError: batch_first: expected True or False, got int
>>> fastrnn.run(one, {"weight_ih": one, "weight_hh": one})
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got dict; lstm, gru and rnn take a mapping of weights
>>> fastrnn.run(one, None)
TypeError: params: expected RNNParams, LSTMParams or GRUParams, got NoneType
"""


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(TABLE, at_least=9))
def test_bad_call(call: str, error: str, message: str) -> None:
    with raises_as_said(error, message):
        eval(call)
