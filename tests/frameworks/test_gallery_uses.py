"""Pages of the gallery about uses of layers: what they say of themselves, computed in another way."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from support.gallery import GALLERY, run_page


def test_ways_to_use_a_layer() -> None:
    page = run_page("plot_01_ways")
    assert page["one_to_one"] > 0.85
    assert page["one_to_one"] < page["one_to_one_best"] + 0.02, "better than who knows the rule"
    assert page["one_to_many"] < 0.1

    for sentence, label in page["sentences"]:
        turns = len(re.findall(r"\bnot\b", sentence)) + (sentence.split()[-1] in page["BAD"])
        assert label == (turns + 1) % 2, sentence
    assert {*page["new"].T.ravel()} <= {*range(6)}
    assert page["many_to_one"] > 0.97

    ids = [page["words"].index(word) for word in ("they", "walk", "a", "old", "play")]
    tags = page["tag_model"](np.array(ids)[:, np.newaxis])[:, 0].argmax(-1)
    assert [page["TAGS"][tag] for tag in tags] == ["PRON", "VERB", "DET", "ADJ", "NOUN"]
    assert page["step_by_step"] > 0.99 > 0.95 > page["word_alone"] > 0.5


def test_words_are_written_backwards() -> None:
    page = run_page("plot_01_ways")
    known, new = ({tuple(word) for word in page[name].T} for name in ("known", "new"))
    assert len(new) == 200
    assert not known & new
    backwards = [tuple(back) == tuple(word)[::-1] for word, back in zip(page["new"].T, page["write"](page["new"]).T)]
    assert np.mean(backwards) == page["delayed"] > 0.97


def test_what_time_is_it() -> None:
    page = run_page("plot_02_what_time_is_it")
    assert page["tokens"].tolist() == [[1, 4, 2, 3, 0]]  # of ? What is it time
    assert page["x"].shape == (1, 5, 100)
    assert page["y"].shape == (1, 5, 64)
    assert page["last"].shape == (1, 64)
    assert page["keras_shapes"] == [(5, 100), (100, 64), (64, 64)]
    assert page["difference"] < 1e-5
    assert page["apart"] > 0.1


def test_what_time_is_it_in_keras() -> None:
    """Keras prints what the page says that it prints, and computes the same."""
    from support.keras_layers import keras

    page = run_page("plot_02_what_time_is_it")
    keras.backend.clear_session()  # names count from the beginning
    words = keras.Input((5,), batch_size=1, dtype="int32")
    vectors = keras.layers.Embedding(5, 100)(words)
    rnn = keras.layers.SimpleRNN(64, use_bias=False, return_sequences=True, return_state=True)
    model = keras.Model(words, rnn(vectors))
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    printed = [re.findall(r"[│┃] ([^│┃]+)", line) for line in "\n".join(lines).splitlines() if line[:1] in "│┃"]
    rows = [[cell.strip() for cell in row] for row in printed]
    assert len(rows) == 4
    text = (GALLERY / "plot_02_what_time_is_it.py").read_text(encoding="utf-8")
    for row in rows:
        assert re.search("#    " + r" +".join(map(re.escape, row)) + "\n", text), f"the page does not have {row}"

    assert [w.shape for w in model.weights] == page["keras_shapes"]
    model.set_weights([page["E"], page["W"].T, page["U"].T])
    y, last = (keras.ops.convert_to_numpy(result) for result in model(page["tokens"]))
    np.testing.assert_allclose(page["y"], y, atol=1e-5)
    np.testing.assert_allclose(page["last"], last, atol=1e-5)


def test_hello() -> None:
    page = run_page("plot_03_hello")
    assert page["said_before"] != "ello" == page["said_after"]
    assert page["word"] == "hello"
    assert page["losses"][0] > 1
    pairs = np.log(2) / 2  # at best, for who knows only the letter before: h and e are sure, each l is even
    assert page["losses"][-1] < pairs / 10
    np.testing.assert_allclose(page["p_after"].sum(-1), 1, atol=1e-6)
    right = page["p_after"][range(4), [1, 2, 2, 3]]
    assert np.isclose(-np.log(right).mean(), page["losses"][-1], rtol=0.2)  # one step of training before


def test_a_poem_is_learnt() -> None:
    page = run_page("plot_03_hello")
    poem, samples = page["poem"], [*page["samples"].values()]
    lines = [[line for line in sample.splitlines()[:-1] if line in poem.splitlines()] for sample in samples]
    assert not any(lines[:2]), "nothing was left to learn"
    assert lines[-1]
    assert set("".join(samples)) <= set(poem)
    assert {" ", "\n"} <= set(samples[-1])
    assert np.mean(page["bits"][-20:]) < 0.2 < 3 < page["bits"][0]


def series(name: str) -> np.ndarray:
    """The second column of a file."""
    rows = (GALLERY / "data" / name).read_text(encoding="utf-8").splitlines()[1:]
    return np.array([float(row.split(",")[1]) for row in rows])


def relative(page: dict[str, Any], name: str) -> list[float]:
    """All errors of the layers, relative to the naive forecast's."""
    return [value for key, values in page[name].items() if key[0].isupper() for value in values]


def test_sunspots_can_be_forecast() -> None:
    page = run_page("plot_08_forecast")
    spots = series("sunspots.csv")
    assert len(spots) == 309
    naive = page["error"](spots, page["sun"]["naive"][0] * spots[:200].std() + spots[:200].mean())
    assert np.isclose(naive, np.sqrt(np.mean(np.diff(spots)[199:] ** 2)))
    assert len(relative(page, "sun_errors")) == 18
    assert all(0.4 < value < 0.75 for value in relative(page, "sun_errors"))
    assert 0.55 < page["sun_errors"]["linear, p = 9"][0] < 0.65
    assert min(page["sun_scores"]["naive"]) > 3
    layers = [score for name, scores in page["sun_scores"].items() if name != "naive" for score in scores]
    assert max(map(abs, layers)) < 2, "the page says that layers and the linear forecast are level"


def test_prices_cannot() -> None:
    page = run_page("plot_08_forecast")
    change = np.diff(np.log(series("sp500.csv")))
    assert np.isclose(page["error"](change, page["prices"]["naive"][0]), np.sqrt(np.mean(change[2500:] ** 2)))
    assert all(0.97 < value < 1.05 for value in relative(page, "price_errors"))
    assert page["better"] == [], "the page says that the naive forecast wins"
    assert page["follows"] > 0.98


def test_no_forecast_knows_the_future() -> None:
    page = run_page("plot_08_forecast")
    v = np.random.default_rng(1).normal(size=60)
    other = np.append(v[:40], np.zeros(20))
    for make in (
        page["Naive"],
        page["NoChange"],
        lambda: page["Linear"](3),
        lambda: page["Recurrent"]("lstm", 1, 60),
        lambda: page["Recurrent"]("gru", 1, 60, feedback=True),
    ):
        forecaster = make()
        forecaster.fit(v[:30])
        before, after = forecaster.forecast(v), forecaster.forecast(other)
        assert np.array_equal(before[:41], after[:41])
        assert before.shape == v.shape


def test_the_linear_forecast_is_the_fit() -> None:
    page = run_page("plot_08_forecast")
    v = [1.0, 2.0]
    for _ in range(30):
        v.append(0.5 + 1.2 * v[-1] - 0.8 * v[-2])
    linear = page["Linear"](2)
    linear.fit(np.array(v))
    np.testing.assert_allclose(linear.a, [0.5, 1.2, -0.8], atol=1e-9)
    np.testing.assert_allclose(linear.forecast(np.array(v))[2:], v[2:], atol=1e-9)


def test_lstm_or_gru() -> None:
    page = run_page("plot_09_lstm_or_gru")
    I, H = 64, 128  # noqa: E741
    assert page["sizes"] == {"lstm": 4 * H * (I + H + 1), "gru": 3 * H * (I + H + 1)}
    names = ["lstm", "gru"] + (["PyTorch lstm", "PyTorch gru"] if page["torch"] else [])
    assert {*page["times"]} == {(name, work) for name in names for work in page["works"]}
    assert all(0 < ratio < 3 for ratio in page["ratios"].values())  # of 0.75, on a machine that is busy with others
    for (task, name), ends in page["ends"].items():
        start = page["curves"][task, name][:, 0]
        assert (ends < 0.5 * start).all(), (task, name)
    lstm, gru, larger = ([*ends] for (task, _), ends in page["ends"].items() if task == "poem")
    assert max(gru + larger) < min(lstm), "the page says that a GRU learns the poem faster"


def test_a_larger_gru_has_the_weights_of_an_lstm() -> None:
    page = run_page("plot_09_lstm_or_gru")
    for I, H in ((2, 32), (41, 48)):  # noqa: E741
        units = page["same_weights"](I, H)
        weights = [
            page["count"](page["layer"](cell, I, n, np.random.default_rng(0)))
            for cell, n in (("lstm", H), ("gru", units))
        ]
        assert abs(weights[1] / weights[0] - 1) < 0.03
