"""Tokens in the place of x: the bits of the rows that they name, gradients of the embedding, memory, errors."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import reference
from support.cases import Case, assert_same_bits, cases, flat, lay_out, make_weights
from support.cells import CELLS, PARAMS

MOST_TABLE = 64 << 20  # FRNN_MOST_TABLE_BYTES of csrc/fastrnn.h
VOCABULARIES = [1, 2, 3, 5, 95, 96, 97, 193]  # rows of a product are taken 96 at a time when the table is made
few = settings(max_examples=max(settings.default.max_examples // 2, 1))


@dataclass(frozen=True)
class Tokens:
    """A case whose x is the rows that tokens name, and the same of tokens."""

    case: Case
    tokens: np.ndarray
    embedding: np.ndarray | str

    def params(self, target: str | None = None, **options: Any) -> Any:
        case = self.case
        return PARAMS[case.cell](case.weights, embedding=self.embedding, target=target, **case.options, **options)

    @property
    def rows(self) -> np.ndarray:
        E = self.embedding
        return np.eye(self.case.x.shape[-1], dtype=self.case.x.dtype) if isinstance(E, str) else E

    def run(self, params: Any, **call: Any) -> tuple[np.ndarray, ...]:
        return flat(fastrnn.run(self.tokens, params, self.case.state, **{**self.case.call, **call}))

    def run_dense(self, params: Any, **call: Any) -> tuple[np.ndarray, ...]:
        return flat(fastrnn.run(self.case.x, params, self.case.state, **{**self.case.call, **call}))


def is_one_hot(tokens: Tokens) -> bool:
    return isinstance(tokens.embedding, str)


def tokens_of(case: Case, rng: np.random.Generator, vocabulary: int, dtype: str, layout: str, one_hot: bool) -> Tokens:
    inputs = case.x.shape[-1]
    E = np.eye(inputs) if one_hot else rng.uniform(-1, 1, (vocabulary, inputs))
    E = E.astype(case.x.dtype)
    tokens = rng.integers(0, len(E), case.x.shape[:-1]).astype(dtype)
    tokens = lay_out(rng, tokens[..., None], layout)[..., 0] if tokens.ndim == 2 else tokens
    return Tokens(case.but(x=np.ascontiguousarray(E[tokens])), tokens, "one-hot" if one_hot else E)


@st.composite
def token_cases(draw: Any, *, most_steps: int = 9, batched: bool = True, one_hot: bool | None = None) -> Tokens:
    """A random case of tokens of either type, in any layout, of an embedding or of one-hot rows."""
    case = draw(cases(most_steps=most_steps, batched=batched))
    if one_hot is None:
        one_hot = draw(st.booleans())
    one_hot = one_hot and case.x.shape[-1] > 0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vocabulary = draw(st.sampled_from(VOCABULARIES))
    dtype, layout = draw(st.sampled_from(["int32", "int64"])), draw(st.sampled_from(["dense", "swapped", "part"]))
    return tokens_of(case, rng, vocabulary, dtype, layout, one_hot)


# Bits.


@settings(max_examples=2 * settings.default.max_examples)
@given(tokens=token_cases())
def test_tokens_have_the_bits_of_the_rows_that_they_name(target: str, tokens: Tokens) -> None:
    assert_same_bits(tokens.run(tokens.params(target)), tokens.case.run(target))


@few
@given(tokens=token_cases(most_steps=40), threads=st.integers(1, 5))
def test_threads_change_nothing(tokens: Tokens, threads: int) -> None:
    params = tokens.params()
    assert_same_bits(tokens.run(params, threads=threads), tokens.run_dense(params, threads=1))


@few
@given(tokens=token_cases(batched=False))
def test_sequences_without_a_batch(target: str, tokens: Tokens) -> None:
    assert_same_bits(tokens.run(tokens.params(target)), tokens.case.run(target))


@few
@given(tokens=token_cases(), precision=st.sampled_from(["float16", "int8", "int8_fast"]))
def test_narrow_weights(target: str, tokens: Tokens, precision: Any) -> None:
    params = tokens.params(target, dtype="float32").to(precision)
    case = tokens.case
    state = case.state
    if state is not None:
        state = tuple(s.astype("float32") for s in state) if isinstance(state, tuple) else state.astype("float32")
    x = tokens.rows.astype("float32")[tokens.tokens]
    assert_same_bits(
        flat(fastrnn.run(tokens.tokens, params, state, **case.call)), flat(fastrnn.run(x, params, state, **case.call))
    )


@few
@given(tokens=token_cases())
def test_float_x_is_as_without_an_embedding(target: str, tokens: Tokens) -> None:
    assert_same_bits(tokens.run_dense(tokens.params(target)), tokens.case.run(target))


@pytest.mark.parametrize("cell", [*CELLS])
@pytest.mark.parametrize("rows", [1, 2, 7, 80])
@pytest.mark.parametrize("layers", [1, 2])
def test_without_a_table(target: str, cell: str, rows: int, layers: int) -> None:
    """An embedding whose table would be larger than it may be: rows are multiplied where they lie."""
    rng = np.random.default_rng(0)
    weights = make_weights(rng, cell, (3, 5), layers=layers, directions=("", "_reverse"))
    E = rng.uniform(-1, 1, (MOST_TABLE // 40 + 1, 3)).astype("float32")  # a row has 2 * 5 numbers and more
    params = PARAMS[cell](weights, embedding=E, target=target)
    assert params._packed.table_nbytes == 0
    tokens = rng.integers(0, len(E), (9, rows))
    lengths = rng.integers(0, 10, rows)
    got, expected = (flat(fastrnn.run(x, params, lengths=lengths)) for x in (tokens, E[tokens]))
    assert_same_bits(got, expected)


@few
@given(tokens=token_cases().filter(lambda t: not any("_reverse" in name for name in t.case.weights)), data=st.data())
def test_streams(target: str, tokens: Tokens, data: st.DataObject) -> None:
    """Step by step, and in chunks."""
    case = tokens.case
    x = np.ascontiguousarray(tokens.tokens.swapaxes(0, 1) if case.batch_first else tokens.tokens)
    if not x.shape[1]:
        return
    params = tokens.params(target)
    expected = flat(fastrnn.run(tokens.rows[x], params, case.state))[0]
    stream = fastrnn.Stream(params, x.shape[1])
    stream.state = case.state
    cut = data.draw(st.integers(0, len(x)))
    steps = np.empty_like(expected[:cut])
    for x_t, y_t in zip(x, steps):
        stream.step(x_t, out=y_t)
    assert_same_bits((np.concatenate([steps, stream.run(x[cut:], batch_first=False)]),), (expected,))


def test_a_stream_of_one_row_takes_integers(target: str) -> None:
    rng = np.random.default_rng(0)
    params = fastrnn.GRUParams(make_weights(rng, "gru", (4, 5)), embedding="one-hot", target=target)
    expected = fastrnn.gru(np.array([2, 0, 3, 1]), params)[0]
    stream = fastrnn.Stream(params)
    given = [2, np.int32(0), np.array(3), np.array([1])]
    assert_same_bits(tuple(stream.step(x).reshape(5).copy() for x in given), tuple(expected))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, -0.0])
def test_special_numbers(target: str, number: float) -> None:
    rng = np.random.default_rng(0)
    weights = make_weights(rng, "lstm", (3, 5))
    E = rng.uniform(-1, 1, (4, 3)).astype("float32")
    E[1, 2] = number
    tokens = np.array([[0, 1], [2, 0], [3, 1]])
    params = fastrnn.LSTMParams(weights, embedding=E, target=target)
    with np.errstate(all="ignore"):
        assert_same_bits(flat(fastrnn.lstm(tokens, params)), flat(fastrnn.lstm(E[tokens], params)))


def test_infinite_weights_reach_all_one_hot_rows(target: str) -> None:
    """0 times infinity is NaN in a row of the identity matrix, whether it is stored or not."""
    weights = make_weights(np.random.default_rng(0), "rnn", (3, 5))
    weights["weight_ih_l0"][1, 2] = np.inf
    params = fastrnn.RNNParams(weights, embedding="one-hot", target=target)
    tokens = np.array([0, 1, 2])
    got, expected = (flat(fastrnn.rnn(x, params)) for x in (tokens, np.eye(3, dtype="float32")[tokens]))
    assert np.isnan(expected[0]).any()
    assert_same_bits(got, expected)


# Gradients.


def pulled(x: np.ndarray, params: Any, case: Case, dy: np.ndarray, **call: Any) -> Any:
    _, pullback = fastrnn.vjp(x, params, case.state, **{**case.call, **call})
    return pullback(dy)


@few
@given(tokens=token_cases(one_hot=False), checkpoint=st.sampled_from([None, 1, 3]), threads=st.integers(1, 3))
def test_gradients(target: str, tokens: Tokens, checkpoint: int | None, threads: int) -> None:
    """All but the embedding's are those of its rows as x; the embedding's are sums of the gradients of x."""
    case, params = tokens.case, tokens.params(target)
    rng = np.random.default_rng(1)
    dy = rng.uniform(-1, 1, tokens.run(params)[0].shape).astype(case.x.dtype)
    got = pulled(tokens.tokens, params, case, dy, checkpoint=checkpoint, threads=threads)
    dense = pulled(case.x, params, case, dy)
    assert got.x is None
    assert not dense.weights["embedding"].any()
    names = [name for name in params.weights if name != "embedding"]
    assert_same_bits(tuple(got.weights[n] for n in names), tuple(dense.weights[n] for n in names))
    as_parts = lambda state: state if isinstance(state, tuple) else (state,)  # noqa: E731
    assert_same_bits(as_parts(got.state), as_parts(dense.state))
    expected = np.zeros(tokens.rows.shape, np.float64)
    np.add.at(expected, tokens.tokens, dense.x.astype(np.float64))
    terms = np.zeros(tokens.rows.shape, np.float64)
    np.add.at(terms, tokens.tokens, np.abs(dense.x).astype(np.float64))
    # Each sum has at most as many terms as there are tokens: so many roundings of at most all their sizes.
    limit = tokens.tokens.size * np.finfo(case.x.dtype).eps * terms
    assert (np.abs(got.weights["embedding"] - expected) <= limit).all()


@few
@given(tokens=token_cases(one_hot=True))
def test_gradients_of_one_hot_rows(target: str, tokens: Tokens) -> None:
    case, params = tokens.case, tokens.params(target)
    if not is_one_hot(tokens):
        return
    dy = np.random.default_rng(1).uniform(-1, 1, tokens.run(params)[0].shape).astype(case.x.dtype)
    got, dense = pulled(tokens.tokens, params, case, dy), pulled(case.x, params, case, dy)
    assert list(got.weights) == list(dense.weights) == list(params.weights)
    assert_same_bits(tuple(got.weights.values()), tuple(dense.weights.values()))


@few
@given(tokens=token_cases(one_hot=False).filter(lambda t: t.case.x.dtype == np.float64))
def test_gradients_are_those_of_the_reference(tokens: Tokens) -> None:
    case, params = tokens.case, tokens.params()
    dy = np.random.default_rng(1).uniform(-1, 1, tokens.run(params)[0].shape)
    got = pulled(tokens.tokens, params, case, dy).weights["embedding"]
    with np.errstate(all="ignore"):
        call = {**case.call, **case.options}
        expected = reference.vjp(case.cell, tokens.tokens, params.weights, dy, state=case.state, **call)
    exact = expected.weights["embedding"]
    largest = np.abs(exact).max(initial=0)
    if np.isfinite(exact).all() and largest < 1e3:
        np.testing.assert_allclose(got, exact, rtol=0, atol=1e-9 * max(largest, 1))


def test_many_terms_lose_little() -> None:
    """Chains of 128 terms: a token that comes 60,000 times has a gradient within 5e-7 of the largest entry."""
    rng = np.random.default_rng(0)
    weights = make_weights(rng, "rnn", (3, 5))
    params = fastrnn.RNNParams(weights, embedding=rng.uniform(-1, 1, (2, 3)).astype("float32"))
    tokens = np.zeros((300, 200), np.int32)
    tokens[::300] = 1
    dy = rng.uniform(0, 1, (300, 200, 5)).astype("float32")
    (_, _), pullback = fastrnn.vjp(tokens, params)
    (_, _), dense = fastrnn.vjp(params.weights["embedding"][tokens], params)
    exact = np.zeros((2, 3))
    np.add.at(exact, tokens, dense(dy).x.astype(np.float64))
    got = pullback(dy, wrt=["embedding"])
    assert list(got.weights) == ["embedding"]
    assert np.abs(got.weights["embedding"] - exact).max() <= 5e-7 * np.abs(exact).max()


def test_a_step_of_training() -> None:
    rng = np.random.default_rng(0)
    weights = make_weights(rng, "gru", (3, 5))
    params = fastrnn.GRUParams(weights, embedding=rng.uniform(-1, 1, (7, 3)).astype("float32"))
    tokens = rng.integers(0, 7, (6, 4))

    def loss(params: fastrnn.GRUParams) -> float:
        return float(np.mean(fastrnn.gru(tokens, params)[0] ** 2))

    (y, _), pullback = fastrnn.vjp(tokens, params)
    gradients = pullback(2 * y / y.size).weights
    moved = params.with_weights({name: w - 0.1 * gradients[name] for name, w in params.weights.items()})
    assert loss(moved) < loss(params)
    assert moved == fastrnn.GRUParams(moved.weights)
    assert_same_bits(flat(fastrnn.gru(tokens, moved)), flat(fastrnn.gru(moved.weights["embedding"][tokens], moved)))


def test_a_trace_of_tokens() -> None:
    rng = np.random.default_rng(0)
    params = fastrnn.LSTMParams(make_weights(rng, "lstm", (3, 5)), embedding="one-hot")
    tokens = rng.integers(0, 3, (6, 4))
    got, expected = fastrnn.trace(tokens, params), fastrnn.trace(np.eye(3, dtype="float32")[tokens], params)
    assert_same_bits(tuple(got.values()), tuple(expected.values()))


# What params are.


def small(embedding: Any = None, **options: Any) -> fastrnn.LSTMParams:
    weights = make_weights(np.random.default_rng(0), "lstm", (3, 5))
    return fastrnn.LSTMParams(weights, embedding=embedding, **options)


ROWS = np.arange(12, dtype="float32").reshape(4, 3)


def test_an_embedding_is_one_of_the_weights() -> None:
    params = small(ROWS)
    assert params == fastrnn.LSTMParams({**small().weights, "embedding": ROWS})
    assert list(params.weights)[-1] == "embedding"
    np.testing.assert_array_equal(params.embedding, ROWS)
    assert small().embedding is None
    assert small("one-hot").embedding == "one-hot"
    assert "embedding=(4, 3)" in repr(params)
    assert "embedding='one-hot'" in repr(small("one-hot"))
    assert "embedding" not in repr(small())


@pytest.mark.parametrize("embedding", [ROWS, "one-hot"], ids=["array", "one-hot"])
def test_equality(embedding: Any) -> None:
    params = small(embedding)
    assert params == small(embedding)
    assert hash(params) == hash(small(embedding))
    assert params != small()
    assert params != small(2 * ROWS)
    assert params != small(np.eye(3, dtype="float32"))


@pytest.mark.parametrize("embedding", [ROWS, "one-hot"], ids=["array", "one-hot"])
@pytest.mark.parametrize("precision", [None, "float16", "int8"])
def test_copies_keep_it(embedding: Any, precision: Any, tmp_path: Any) -> None:
    params = small(embedding, precision=precision)
    tokens = np.array([[0, 1], [2, 2]])
    params.save(tmp_path / "lstm.npz")
    for other in (
        pickle.loads(pickle.dumps(params)),
        fastrnn.load(tmp_path / "lstm.npz"),
        params.with_weights(params.weights),
        params.to("int8").to("int8_fast").to("int8") if precision == "int8" else params,
    ):
        assert other == params
        assert_same_bits(flat(fastrnn.run(tokens, other)), flat(fastrnn.run(tokens, params)))


def test_dtypes() -> None:
    params, tokens = small(ROWS).to("float64"), np.array([[1], [2]])
    assert_same_bits(flat(fastrnn.lstm(tokens, params)), flat(fastrnn.lstm(ROWS.astype("float64")[tokens], params)))
    half = small(ROWS.astype("float16"), precision="int8")
    assert half.weights["embedding"].dtype == np.float32
    assert small(ROWS, precision="float16").weights["embedding"].dtype == np.float32
    with pytest.raises(TypeError, match="weights: expected one dtype"):
        small(ROWS.astype("float64"))
    assert small(ROWS.astype("float64"), dtype="float32").dtype == np.float32


def large(vocabulary: int) -> fastrnn.LSTMParams:
    """Params whose tables pay wherever they lie: W x is longer than reading a row."""
    weights = make_weights(np.random.default_rng(0), "lstm", (80, 64))
    return fastrnn.LSTMParams(weights, embedding=np.zeros((vocabulary, 80), "float32"))


def test_memory_of_the_table_is_bounded() -> None:
    """`nbytes` has the rows and the table; of these the table has at most its bound."""
    plain = fastrnn.LSTMParams({name: w for name, w in large(1).weights.items() if name != "embedding"})
    row = large(1)._packed.table_nbytes
    assert row == 4 * 64 * 4  # gates, units, bytes of a number
    most = MOST_TABLE // row
    for V, is_there in ((1, True), (most, True), (most + 1, False)):
        params = large(V)
        table = V * row * is_there
        assert params._packed.table_nbytes == table <= MOST_TABLE
        assert table + V * 80 * 4 <= params.nbytes - plain.nbytes <= table + V * 80 * 4 + 1024
        assert (f"each of the {V} tokens is in a table" in params.explain(1)) == is_there
        assert (
            f"a table of W x + b for all {V} would not pay, or take more than 67.1 MB" in params.explain(1)
        ) != is_there
    assert plain._packed.table_nbytes == 0
    assert "token" not in plain.explain(1)


def test_a_training_step_makes_no_large_table() -> None:
    for V, is_there in ((256, True), (257, False)):
        params = small(np.zeros((V, 3), "float32"))
        renewed = params.with_weights(params.weights)
        assert bool(renewed._packed.table_nbytes) == is_there
        assert params._packed.table_nbytes


# Errors.


@pytest.mark.parametrize(
    ("embedding", "error", "said"),
    [
        ("onehot", ValueError, "embedding: expected an array or 'one-hot', got 'onehot'"),
        (3, TypeError, "embedding: expected an array or 'one-hot', got int"),
        (ROWS[0], ValueError, r"embedding: expected \(V, 3\), a row for each token, got \(3,\)$"),
        (ROWS.T, ValueError, r"embedding: expected \(V, 3\), .* got \(3, 4\), which looks transposed; its .T fits"),
        (ROWS[:0], ValueError, r"embedding: expected \(V, 3\), a row for each token, got \(0, 3\)"),
        (ROWS.astype(int), TypeError, "embedding: expected float32 or float64, got int64"),
        (ROWS.astype("float16"), TypeError, "embedding: expected float32 or float64, got float16"),
    ],
)
def test_wrong_embeddings(embedding: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        small(embedding)


def test_two_embeddings() -> None:
    with pytest.raises(ValueError, match="embedding: expected None, since weights have 'embedding' too, got both"):
        fastrnn.LSTMParams(small(ROWS).weights, embedding=ROWS)


def test_one_hot_rows_of_no_inputs() -> None:
    weights = make_weights(np.random.default_rng(0), "rnn", (0, 5))
    with pytest.raises(ValueError, match="got 'one-hot' with an input size of 0"):
        fastrnn.RNNParams(weights, embedding="one-hot")


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("wrong", [-1, 4, 2**31 - 1, -(2**31)])
def test_tokens_out_of_range(dtype: str, wrong: int) -> None:
    params, tokens = small(ROWS), np.zeros((5, 3), dtype)
    tokens[3, 1] = tokens[4, 0] = wrong
    out = np.full((5, 3, 5), 7, "float32")
    said = rf"x: expected tokens from 0 to 3, the rows of the embedding, got {wrong} at x\[3, 1\]"
    with pytest.raises(ValueError, match=said):
        fastrnn.lstm(tokens, params, out=out)
    assert (out == 7).all()
    with pytest.raises(ValueError, match=said):
        fastrnn.vjp(tokens, params)
    with pytest.raises(ValueError, match=said.replace("3, 1", "0, 4")):
        fastrnn.lstm(np.ascontiguousarray(tokens.T), params, batch_first=True)
    with pytest.raises(ValueError, match=said.replace("3, 1", "3")):
        fastrnn.lstm(np.ascontiguousarray(tokens[:, 1]), params)


def test_tokens_past_a_rows_end_are_not_read() -> None:
    params, tokens = small(ROWS), np.zeros((5, 3), np.int64)
    tokens[3:, 1] = -100
    lengths = [5, 3, 4]
    padded = np.where(tokens < 0, 0, tokens)
    assert_same_bits(
        flat(fastrnn.lstm(tokens, params, lengths=lengths)), flat(fastrnn.lstm(padded, params, lengths=lengths))
    )
    _, pullback = fastrnn.vjp(tokens, params, lengths=lengths)
    _, expected = fastrnn.vjp(padded, params, lengths=lengths)
    dy = np.ones((5, 3, 5), "float32")
    assert_same_bits(tuple(pullback(dy).weights.values()), tuple(expected(dy).weights.values()))
    tokens[2, 1] = 4
    with pytest.raises(ValueError, match=r"got 4 at x\[2, 1\]"):
        fastrnn.lstm(tokens, params, lengths=lengths)


def test_a_stream_stays_as_it_was_where_a_token_is_wrong() -> None:
    stream = fastrnn.Stream(small(ROWS), 2)
    stream.step(np.array([1, 2]))
    before = stream.state
    with pytest.raises(ValueError, match=r"expected tokens from 0 to 3, .* got 9 at x\[1\]"):
        stream.step(np.array([1, 9]))
    with pytest.raises(ValueError, match=r"got -1 at x\[1, 0\]"):
        stream.run(np.array([[1, 2], [-1, 2]]))
    assert_same_bits(stream.state, before)
    one = fastrnn.Stream(small(ROWS))
    pool = fastrnn.StreamPool(small(ROWS))
    stream_of_pool = pool.open()
    for token in (4, -1, 2**70, np.int64(4), np.array(4)):
        with pytest.raises(ValueError, match=f"expected tokens from 0 to 3, the rows of the embedding, got {token}$"):
            one.step(token)
        with pytest.raises(ValueError, match=f"expected tokens from 0 to 3, the rows of the embedding, got {token}$"):
            pool.step(stream_of_pool, token)


def test_streams_of_a_pool_stay_as_they_were_where_a_token_is_wrong() -> None:
    pool = fastrnn.StreamPool(small(ROWS))
    ids = [pool.open() for _ in range(3)]
    pool.step(ids, np.array([1, 2, 3]))
    before = pool.state(ids)
    with pytest.raises(ValueError, match=r"expected tokens from 0 to 3, .* got 9 at x\[1\]"):
        pool.step(ids[::-1], np.array([1, 9, 2]))
    with pytest.raises(ValueError, match=r"got -1 at x\[1, 0\]"):
        pool.run(ids[:2], np.array([[1, 2], [-1, 2]]))
    assert_same_bits(pool.state(ids), before)
    pool.run(ids[:2], np.array([[1, -1], [2, 2]]), lengths=[1, 2])  # a token past a row's end is not read


@pytest.mark.parametrize(
    ("x", "error", "said"),
    [
        (np.zeros((5, 3), "int8"), TypeError, r"x: expected tokens of int32 or int64, got int8; x.astype\('int64'\)"),
        (np.zeros((5, 3), "uint64"), TypeError, "x: expected tokens of int32 or int64, got uint64"),
        (np.zeros((5, 3), ">i8"), TypeError, "x: expected tokens in native byte order, got '>i8'"),
        (np.zeros((5, 3, 1), "int64"), ValueError, r"x: expected tokens \(T, B\) or \(T,\), got \(5, 3, 1\)"),
        (np.array(1), ValueError, r"x: expected tokens \(T, B\) or \(T,\), got \(\)"),
        (np.zeros((5, 3), bool), TypeError, "x: expected float32"),
        (np.zeros((5, 4, 2), "float32"), ValueError, r"x: expected \(T, B, 3\), got \(5, 4, 2\)"),
        (
            np.zeros((5, 4), "float32"),
            ValueError,
            r"x: expected tokens, .* or vectors of 3, .*x.astype\('int64'\) makes",
        ),
        ([[1, 2], [0, 1]], TypeError, r"got list; numpy.ascontiguousarray\(x, dtype='int64'\) makes one"),
    ],
)
def test_wrong_tokens(x: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        fastrnn.lstm(x, small(ROWS))


def test_tokens_that_are_not_aligned() -> None:
    tokens = np.zeros(33, np.uint8)[1:].view(np.int64)
    with pytest.raises(ValueError, match="expected aligned memory"):
        fastrnn.lstm(tokens, small(ROWS))


@pytest.mark.parametrize(
    ("x", "error", "said"),
    [
        (np.zeros(3, "int64"), ValueError, r"x: expected tokens \(2,\), got \(3,\)"),
        (np.zeros((4, 2), "int64"), ValueError, r"got \(4, 2\); run\(\) takes a chunk of steps"),
        (1, ValueError, r"x: expected tokens \(2,\), got 1"),
        (np.zeros(2, "uint8"), TypeError, "x: expected tokens of int32 or int64, got uint8"),
        (True, TypeError, "x: expected a numpy.ndarray, got bool"),
    ],
)
def test_wrong_tokens_of_a_step(x: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        fastrnn.Stream(small(ROWS), 2).step(x)
    pool = fastrnn.StreamPool(small(ROWS))
    with pytest.raises(error, match=said.replace(", got", " for 2 streams, got", 1) if "2," in said else said):
        pool.step([pool.open(), pool.open()], x)


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 2, 3)])
def test_tokens_without_an_embedding(shape: tuple[int, ...]) -> None:
    tokens = np.zeros(shape, np.int64)
    said = r"x: expected float32 \(the dtype of params\), got int64; .* params with embedding=E take tokens"
    with pytest.raises(TypeError, match=said):
        fastrnn.lstm(tokens, small())
    if len(shape) < 3:
        with pytest.raises(TypeError, match=said):
            fastrnn.Stream(small(), shape[-1]).step(tokens)


# Files of other programs.


def test_load_names_the_embedding(tmp_path: Any) -> None:
    path = tmp_path / "model.npz"
    weights = {f"rnn.{name}": array for name, array in small().weights.items()}
    np.savez(path, **weights, **{"emb.weight": ROWS})
    for name in ("emb.weight", "emb"):
        assert fastrnn.load(path, "lstm", "rnn.", embedding=name) == small(ROWS)
    assert fastrnn.load(path, "lstm", "rnn.", embedding="one-hot") == small("one-hot")
    assert fastrnn.load(path, "lstm", "rnn.") == small()
    with pytest.raises(ValueError, match=r"expected 'one-hot' or a name in .*, got 'emb2'"):
        fastrnn.load(path, "lstm", "rnn.", embedding="emb2")
    with pytest.raises(ValueError, match=r"got 'emb.weigh'; did you mean 'emb.weight'\?"):
        fastrnn.load(path, "lstm", "rnn.", embedding="emb.weigh")
    with pytest.raises(TypeError, match="embedding: expected a name or 'one-hot', got array"):
        fastrnn.load(path, "lstm", "rnn.", embedding=ROWS)  # type: ignore[call-overload]
