"""The example examples/char_lm: its files, its measure, and its generator as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastrnn
from support.environment import ROOT, TARGETS

EXAMPLE = ROOT / "examples" / "char_lm"
sys.path.insert(0, str(EXAMPLE))
import model as char_lm  # noqa: E402

RESULTS = json.loads(char_lm.RESULTS_FILE.read_text())


def generate(*arguments: str, target: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "FASTRNN_TARGET"}
    if target is not None:
        environment["FASTRNN_TARGET"] = target
    command = [sys.executable, str(EXAMPLE / "generate.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def bits_per_character(texts: list[str], target: str) -> float:
    model = char_lm.load_model()
    params = fastrnn.LSTMParams(model.lstm, embedding=model.embedding, target=target)
    return char_lm.bits_per_character(
        model, texts, lambda x, state, lengths: fastrnn.lstm(x, params, state, lengths=lengths)
    )


def test_model_file() -> None:
    assert char_lm.MODEL_FILE.stat().st_size <= 4_000_000
    with np.load(char_lm.MODEL_FILE) as file:
        arrays = dict(file)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert sum(array.size for array in arrays.values()) == RESULTS["parameters"]
    assert arrays["weight_hh_l0"].shape == arrays["weight_hh_l1"].shape == (4 * RESULTS["hidden"], RESULTS["hidden"])


def test_heldout_text_is_the_one_measured() -> None:
    measured = [file["characters"] for file in RESULTS["excerpt"]]
    assert [len(text) for text in char_lm.load_heldout()] == measured


# PyTorch wrote the measure down, train.py says how. The LSTM is float32 on both sides: a character's logits differ by
# some 1e-5, and the mean over characters by no more (2e-8 was seen).
TOLERANCE = 1e-4


def test_bits_per_character_of_the_heldout_text() -> None:
    params = fastrnn.LSTMParams(char_lm.load_model().lstm)
    if params.target == "scalar":
        pytest.skip("minutes of work for the scalar target, which the next test runs on one file")
    bits = bits_per_character(char_lm.load_heldout(), params.target)
    assert bits == pytest.approx(RESULTS["excerpt_bits_per_character"], abs=TOLERANCE)
    assert bits < 2.0


def test_bits_per_character_of_one_file(target: str) -> None:
    texts = char_lm.load_heldout()
    index = min(range(len(texts)), key=lambda index: abs(len(texts[index]) - 1000))
    bits = bits_per_character([texts[index]], target)
    assert bits == pytest.approx(RESULTS["excerpt"][index]["bits_per_character"], abs=TOLERANCE)


def test_chunks_do_not_change_the_measure() -> None:
    model = char_lm.load_model()
    params = fastrnn.LSTMParams(model.lstm, embedding=model.embedding)
    texts = [text[:100] for text in char_lm.load_heldout()[:3]]
    whole, cut = (
        char_lm.bits_per_character(
            model, texts, lambda x, state, lengths: fastrnn.lstm(x, params, state, lengths=lengths), chunk
        )
        for chunk in (100, 7)
    )
    assert cut == pytest.approx(whole, abs=1e-9)


def test_same_seed_same_text_on_every_target_and_thread_count() -> None:
    arguments = ["--prompt", "def main(", "--length", "150", "--seed", "3", "--temperature", "0.8"]
    runs = [generate(*arguments, target=target) for target in TARGETS]
    runs += [generate(*arguments, "--threads", threads) for threads in ("1", "2")]
    assert [run.returncode for run in runs] == [0] * len(runs)
    assert len({run.stdout for run in runs}) == 1
    assert re.fullmatch(r"def main\([\n -~]{150}\n", runs[0].stdout)
    for run, target in zip(runs, TARGETS, strict=False):  # the runs of the default target come after those of TARGETS
        assert re.search(rf"^150 characters in [\d.]+ s, \d+ characters a second \({target}\)$", run.stderr, re.M)
    other = generate(*arguments, "--seed", "4")
    assert other.stdout != runs[0].stdout


@pytest.mark.parametrize("temperature", ["0", "1e-300", "100"])
def test_extreme_temperatures(temperature: str) -> None:
    run = generate("--length", "20", "--temperature", temperature, "--prompt", "")
    assert run.returncode == 0
    assert len(run.stdout) == 21
    assert "Warning" not in run.stderr


def test_without_arguments() -> None:
    run = generate()
    assert run.returncode == 0
    assert run.stdout.count("\n") > 10


def test_help() -> None:
    run = generate("--help")
    assert run.returncode == 0
    for option in ("--prompt", "--length", "--temperature", "--seed", "--threads", "--help"):
        assert option in run.stdout


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--length", "0", "a whole number, 1 or more"),
        ("--length", "1.5", "a whole number, 1 or more"),
        ("--temperature", "-1", "a number from 0 to 100"),
        ("--temperature", "nan", "a number from 0 to 100"),
        ("--seed", "-1", "a whole number, 0 or more"),
        ("--threads", "none", "a whole number, 1 or more"),
        ("--prompt", "caf\xe9", "printable ASCII and newlines, got '\\xe9'"),
    ],
)
def test_bad_argument(option: str, value: str, expected: str) -> None:
    run = generate(f"{option}={value}")
    assert run.returncode == 2
    assert run.stdout == ""
    assert f"error: argument {option}: expected {expected}" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "target", "name"), [([], "abacus", "FASTRNN_TARGET"), (["--threads", "1000000"], None, "threads")]
)
def test_what_fastrnn_refuses(arguments: list[str], target: str | None, name: str) -> None:
    run = generate(*arguments, target=target)
    assert run.returncode == 2
    assert run.stdout == ""
    assert f"error: {name}: expected" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes end otherwise there")
def test_closed_pipe_ends_it_quietly() -> None:
    command = [sys.executable, str(EXAMPLE / "generate.py"), "--length", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(40)
        process.stdout.close()
        message = process.stderr.read()
    assert process.returncode == 0
    assert "characters a second" in message
    assert "Traceback" not in message


@pytest.mark.skipif(os.name != "posix", reason="signals are sent otherwise there")
def test_interrupt_ends_it_quietly() -> None:
    command = [sys.executable, str(EXAMPLE / "generate.py"), "--length", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.read(40)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "characters a second" in message
    assert "Traceback" not in message
