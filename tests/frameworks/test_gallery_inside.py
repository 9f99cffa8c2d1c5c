"""Pages of the gallery that look into layers: what they say is what they compute."""

from __future__ import annotations

import io
import re
import tokenize

import numpy as np

from fastrnn import reference
from support.gallery import run_page


def test_bptt() -> None:
    page = run_page("plot_04_bptt")
    assert page["differences"]["float64"] < 1e-14
    assert page["differences"]["float32"] < 1e-5

    x, wanted, W, U, b = (page[name] for name in ("x", "wanted", "W", "U", "b"))
    y = reference.rnn(x, {"weight_ih": W, "weight_hh": U, "bias_ih": b})[0]
    dW, dU, _, dx = page["backward"](x, page["h"], y - wanted, W, U)
    exact = reference.vjp("rnn", x, {"weight_ih": W, "weight_hh": U, "bias_ih": b}, y - wanted)
    for by_hand, gradient in [(dW, exact.weights["weight_ih"]), (dU, exact.weights["weight_hh"]), (dx, exact.x)]:
        np.testing.assert_allclose(by_hand, gradient, atol=1e-12)
    np.testing.assert_allclose(page["of_copies"][5, 3], norm_of_a_copy(5, 3, x, wanted, W, U, b), rtol=1e-5)
    assert not np.triu(page["of_copies"], 1).any()

    assert page["descent"][0] > 0.5
    assert page["descent"][-1] < 0.01
    assert page["memory"][2000] > 150 * page["memory"][10]
    for delay, cut, whole in zip(page["delays"], *page["errors"].values()):
        assert whole < 0.05, delay
        assert (cut < 0.1) if delay < 10 else (cut > 0.9), delay


def norm_of_a_copy(t: int, k: int, x, wanted, W, U, b) -> float:  # type: ignore[no-untyped-def]
    """|dE_t / dU_k| by finite differences of the copy of U that step k uses."""

    def loss(U_k) -> float:  # type: ignore[no-untyped-def]
        h = np.zeros((x.shape[1], len(U)))
        for step in range(t + 1):
            h = np.tanh(x[step] @ W.T + h @ (U_k if step == k else U).T + b)
        return float(np.sum((h - wanted[t]) ** 2) / 2)

    gradient = np.zeros_like(U)
    for index in np.ndindex(*U.shape):
        step = np.zeros_like(U)
        step[index] = 1e-5
        gradient[index] = (loss(U + step) - loss(U - step)) / 2e-5
    return float(np.linalg.norm(gradient))


def test_vanishing() -> None:
    page = run_page("plot_05_vanishing")
    steps = page["steps"]
    for radius in page["radii"]:  # U is r times an orthogonal matrix
        bound = radius ** (100.0 - steps)
        np.testing.assert_allclose(page["linear_norms"][radius], bound, rtol=1e-9)
        assert (page["tanh_norms"][radius] <= bound * (1 + 1e-9)).all()
        assert (page["sigmoid_norms"][radius] <= bound * 0.25 ** (100.0 - steps) * (1 + 1e-9)).all()
    assert page["tanh_norms"][0.9][0] < 1e-4
    assert page["tanh_norms"][1.1][0] < 1, "the page says that tanh stops it from growing"
    assert page["tanh_norms"][2.0][0] > 1e4
    assert abs(page["slopes"]["tanh"].max() - 1) < 1e-12
    assert abs(page["slopes"]["sigmoid"].max() - 0.25) < 1e-12

    for norms in (page["lstm_norms"], page["gru_norms"]):
        at_first = [norms[bias][0] for bias in page["biases"]]
        assert at_first[0] < 1e-15
        assert at_first[-1] > 0.01
        assert at_first == sorted(at_first)

    u = 1.1  # h_50 = u ** 50
    np.testing.assert_allclose(page["loss_and_gradient"](u)[1], 2 * (u**50 - 0.5) * 50 * u**49, rtol=1e-9)
    assert page["unclipped"][-1] < -1000
    assert abs(page["clipped"][-1] - 0.5**0.02) < 1e-4
    assert max(abs(np.diff(page["clipped"]))) < 1.001e-3

    for name, (losses, right) in page["results"].items():
        assert (right > 0.95 and losses[-1] < 0.1) if ":" in name else (right < 0.4), name


def test_gates() -> None:
    page = run_page("plot_06_gates")
    assert [row[0] > 0.98 for row in page["rows"]] == [True] * 5
    assert min(abs(row[1]) for row in page["rows"]) > 0.5  # a unit that holds the person is found in each
    assert min(page["kept"]) < 0.15
    assert max(page["kept"]) > 0.3  # 20 % is no law

    words, one, answers = page["words"], page["one"], page["answers"]
    np.testing.assert_allclose(one["c"][1:], one["f"][1:] * one["c"][:-1] + one["i"][1:] * one["g"][1:], atol=1e-6)
    np.testing.assert_allclose(one["h"], one["o"] * np.tanh(one["c"]), atol=1e-6)
    first, second = (t for t, word in enumerate(words) if word == "___")
    jane = words.index("Jane")
    assert answers[first] > 0.8
    assert answers[second] < -0.8
    assert max(abs(np.delete(answers, [first, second]))) < 0.2
    assert one["f"][jane] < 0.2
    assert np.sign(one["c"][jane]) == -np.sign(one["c"][jane - 1])
    assert one["f"][1:jane].min() > 0.7
    assert one["o"][[first, second]].min() > 3 * np.delete(one["o"], [first, second]).max()


def test_cells_that_can_be_read() -> None:
    page = run_page("plot_07_cells_that_can_be_read")
    strings_of_tokenize(page["texts"], page["answers"])
    assert abs(page["found"]["inside quotes"][1]) > 0.7
    assert page["right"]["inside quotes"] > (0.9, 0.9)
    for name, (cell, at_search, at_check) in page["found"].items():
        assert np.sign(at_search) == np.sign(at_check)
        assert abs(at_check) > 0.4, name
        values = page["c" if name in page["COUNTS"] else "shown"][:, page["search"], cell]
        expected = np.corrcoef(values.ravel(), page["asked"][name][:, page["search"]].ravel())[0, 1]
        np.testing.assert_allclose(at_search, expected, atol=1e-4)
    assert np.mean(page["best_of_each"] > 0.5) < 0.1
    drawn = page["texts"][page["file"]][page["begin"] : page["end"]]
    assert "don't" in drawn, "the page speaks of it"
    assert "  for " in drawn, "the page speaks of it"


def strings_of_tokenize(texts, answers) -> None:  # type: ignore[no-untyped-def]
    """Python's own scanner finds the same strings, where there are no f-strings, which it cuts from 3.12 on."""
    checked = 0
    for text in texts:
        if re.search(r"\b[fF][rR]?[\"']", text):
            continue
        starts = np.cumsum([0] + [len(line) for line in text.splitlines(keepends=True)])
        inside = np.zeros(len(text), bool)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING:
                first = re.match(r"\w*", token.string)
                begin = starts[token.start[0] - 1] + token.start[1] + first.end()  # type: ignore[union-attr]
                inside[begin : starts[token.end[0] - 1] + token.end[1] - 1] = True
        found = answers(text)
        np.testing.assert_array_equal(inside, (found["inside quotes"] + found["inside a docstring"]) > 0)
        checked += 1
    assert checked > 3


def test_precision() -> None:
    page = run_page("plot_10_precision")
    errors, of_random, bits = page["errors"], page["random_errors"], page["bits"]
    assert max(errors["float32"], errors["float16"]) < 3e-6  # the file holds halves
    assert 1e-3 < errors["int8"] < errors["int8_fast"] < 5e-2
    for precision, most in {"float32": 2e-6, "float16": 5e-4, "int8": 6e-3, "int8_fast": 1.5e-2}.items():
        difference, exact = page["random_outputs"][precision] - page["random_exact"], page["random_exact"]
        assert abs(of_random[precision] - np.linalg.norm(difference) / np.linalg.norm(exact)) < 1e-9
        assert of_random[precision] < most
        assert abs(bits[precision] - bits["float32"]) < 0.01
        assert all(least[precision] > 0 for least in page["times"].values())
        of_step = page["relative_error"](page["outputs"][precision], page["exact"], axis=(1, 2))
        assert of_step[-100:].mean() < 1.5 * of_step[100:200].mean(), "the page says that errors do not grow"
    assert 1 < bits["float32"] < 2.5
    assert page["layers"]["int8"].nbytes < page["layers"]["float16"].nbytes < page["layers"]["float32"].nbytes


def test_streams() -> None:
    page = run_page("plot_11_streams")
    x, alone = page["x"], page["alone"]
    weights = {name: w.astype("float64") for name, w in page["layer"](128).weights.items()}
    assert page["same_bits"]
    np.testing.assert_allclose(alone, reference.lstm(x.astype("float64"), weights)[0], atol=1e-5)
    for times in page["measured"].values():
        assert times.shape == (len(page["counts"]), 2)
        assert (times > 0).all()
        assert (times[-1] > 10 * times[0]).all()  # 256 streams are more work than one
