"""The benchmark: its case texts, its arithmetic, its processes and its page. What it measures is not tested here.

Peers that no test environment has are not needed: a NumPy loop is a peer, and the processes are the real ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.environment import ROOT, c_compiler

sys.path.append(str(ROOT))  # last, so that fastrnn itself is the installed one

from bench import __main__ as program
from bench import choices, cold, fixed, grids, isa, numpy_loop, page, readme, run, versions, worker
from bench import limits as machine_limits
from bench.cases import CELLS, MODELS, Case, Data, find
from bench.peers import PEERS, Call
from bench.results import Run, microseconds, table_row
from bench.roofline import roofline
from bench.run import Bench, Result, summarise
from support.benchmark import LEVELS, LIMITS, OURS, about, launch_with

SPECIAL = ["", "-L2", "-bi", "-L2-bi", "-ragged", "-L2-bi-ragged", "-f64"]
TINY = [f"{cell}-T5-B3-I4-H6{special}" for cell in CELLS for special in SPECIAL]
TINY += ["lstm-T5-B3-I4-H6-P2", "lstm-T5-B3-I4-H6-L2-bi-P2-ragged"]
STEPS = [f"{cell}-T1-B2-I4-H6{special}" for cell in CELLS for special in ("", "-L2", "-L2-bi", "-f64")]
STEPS += ["lstm-T1-B1-I4-H6-L2-P2", "gru-T1-B1-I4-H6-cold"]

sizes = st.integers(1, 10**6)


@st.composite
def any_case(draw: st.DrawFn) -> Case:
    cell, H = draw(st.sampled_from(list(CELLS))), draw(st.integers(2, 10**6))
    P = draw(st.integers(0, H - 1)) if cell == "lstm" else 0
    T, L, flags = draw(sizes), draw(st.integers(1, 9)), [draw(st.booleans()) for _ in range(4)]
    return Case(cell, T, draw(sizes), draw(sizes), H, L, flags[0], P, flags[1] and T > 1, flags[2], flags[3])


@given(any_case())
def test_case_texts_say_all(case: Case) -> None:
    assert Case.parse(str(case)) == case


@pytest.mark.parametrize("text", [*grids.QUICK, *grids.ODD, *(model.case for model in MODELS.values()), *TINY])
def test_texts_in_use_are_in_the_one_form(text: str) -> None:
    assert str(Case.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lstm-T1-B1-I1", "expected a case such as"),
        ("lstm-T0-B1-I1-H1", "expected a case such as"),
        ("lstm-T1-B1-I1-H1-", "expected a case such as"),
        ("mgu-T1-B1-I1-H1", "expected a case such as"),
        ("silero", "or one of silero-vad"),
        ("gru-T1-B1-I1-H4-P2", "only an lstm may have a projection"),
        ("lstm-T1-B1-I1-H4-P4", "a projection smaller than H"),
        ("gru-T1-B1-I1-H4-ragged", "expected more than one step"),
    ],
)
def test_a_bad_case_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find(text)


def test_models_are_found_by_name() -> None:
    assert find("silero-vad") == Case("lstm", 1, 1, 128, 128)


def test_full_grid() -> None:
    cases = grids.full()
    assert len(set(cases)) == len(cases)
    plain = {(case.cell, case.H, case.B) for case in cases if case == Case(case.cell, case.T, case.B, case.H, case.H)}
    assert {(cell, H, B) for cell in CELLS for H in grids.HIDDEN for B in grids.BATCH} <= plain
    for belongs in (lambda c: c.bi, lambda c: c.L > 1, lambda c: c.P, lambda c: c.ragged, lambda c: c.f64):
        assert any(map(belongs, cases))


def test_published_grid() -> None:
    """It has the models, README's rows, and every kind of layer and of stream."""
    cases = grids.published()
    assert len(set(cases)) == len(cases)
    assert {model.case for model in MODELS.values()} <= set(map(str, cases))
    assert {case for case, _ in readme.ROWS} <= set(map(str, cases))
    for groups in (page.KINDS, page.CELL_KINDS):
        assert all(any(belongs(case) for case in cases) for _, belongs in groups)
    steps = [case for case in cases if case.T == 1]
    assert all(any(belongs(case) for case in steps) for _, belongs in page.STREAM_KINDS)


def test_roofline_by_hand() -> None:
    """An LSTM with I = 2 and H = 10: W has 80 weights and U 400; 320 + 1600 bytes lie in the second level."""
    sequence = Case("lstm", 100, 1, 2, 10)
    input_part = 2 * 80 * 100 / 1e9
    recurrent_part = 100 * 1600 / 1e8  # longer than its 80 us of arithmetic
    activations = 5 * 10 * 100 * 1e-8
    assert roofline(sequence, LIMITS) == pytest.approx(input_part + recurrent_part + activations)

    step = Case("lstm", 1, 1, 2, 10)  # reads W and U once
    assert roofline(step, LIMITS) == pytest.approx((320 + 1600) / 1e8 + 5 * 10 * 1e-8)

    cold = dataclasses.replace(step, cold=True)
    assert roofline(cold, LIMITS) == pytest.approx((320 + 1600) / 1e7 + 5 * 10 * 1e-8)

    batch = Case("lstm", 100, 50, 2, 10)  # reading U is short beside its arithmetic
    assert roofline(batch, LIMITS) == pytest.approx(50 * (input_part + 2 * 400 * 100 / 1e9 + activations))


def test_roofline_of_kinds() -> None:
    plain = Case("gru", 20, 8, 16, 16)
    assert roofline(dataclasses.replace(plain, bi=True), LIMITS) == pytest.approx(2 * roofline(plain, LIMITS))
    assert roofline(dataclasses.replace(plain, L=3), LIMITS) == pytest.approx(3 * roofline(plain, LIMITS))
    assert roofline(dataclasses.replace(plain, f64=True), LIMITS) == pytest.approx(2 * roofline(plain, LIMITS))
    assert roofline(dataclasses.replace(plain, ragged=True), LIMITS) < roofline(plain, LIMITS)
    twice = tuple(dataclasses.replace(level, bandwidth=2 * level.bandwidth) for level in LEVELS)
    both = dataclasses.replace(LIMITS, threads=2, flops=2e9, levels=twice)
    assert roofline(plain, both) == pytest.approx(roofline(plain, LIMITS) / 2)


@pytest.mark.parametrize("text", TINY)
def test_numpy_loop(text: str) -> None:
    case = Case.parse(text)
    data = Data.make(case)
    weights = {name: array.T for name, array in data.weights.items()}
    y, _ = numpy_loop.run(case, data.x, weights)
    assert y.dtype == case.dtype
    assert np.abs(y - data.expected).max() <= case.tolerance / 100


@pytest.fixture(scope="module", params=list(PEERS))
def peer_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[run.Worker]:
    process = run.Worker(request.param, 1, tmp_path_factory.mktemp("peer"))
    if "missing" in process.greeting:
        process.close()
        pytest.skip(f"the peer is not installed: {process.greeting['missing']}")
    yield process
    process.close()


@pytest.mark.parametrize("text", STEPS)
def test_single_steps_carry_the_state(peer_process: run.Worker, text: str, tmp_path: Path) -> None:
    """Every form of every peer is right in the first call, and in two that go on from there."""
    case, path = Case.parse(text), tmp_path / "case.npz"
    data = Data.make(case)
    data.save(path)
    first, second, third = data.expected
    assert min(np.abs(first - second).max(), np.abs(second - third).max()) > 100 * case.tolerance
    answer = peer_process.ask("build", case=text, path=str(path))
    assert "error" not in answer
    if "unable" not in answer:
        assert max(answer["differences"].values()) <= case.tolerance / 10


def test_the_fastest_form_that_is_right_is_timed(tmp_path: Path) -> None:
    session = worker.Session(ThreeForms(1))
    names = {"case": "gru-T3-B2-I4-H6", "path": str(tmp_path / "case.npz")}
    session.prepare(**names)
    answer = session.build(**names)
    assert answer["form"] == "fast"
    assert answer["difference"] < 1e-6
    assert answer["seconds"] < 0.01


class ThreeForms(PEERS["numpy"]):  # type: ignore[misc] # its class is chosen by a name
    """A NumPy loop as it is, one that takes longer, and one that is faster and wrong."""

    def forms(self, case: Case) -> list[str]:
        return ["slow", "fast", "wrong"]

    def build(self, case: Case, data: Data, form: str) -> Call:
        call = super().build(case, data, form)
        wrong = call() + 0.5
        return {"slow": lambda: (time.sleep(0.02), call())[1], "fast": call, "wrong": lambda: wrong}[form]


def test_caches_are_filled_before_each_call_and_that_is_not_timed() -> None:
    done = []

    class Slow:
        def fill(self) -> None:
            done.append("fill")
            time.sleep(0.02)

    assert worker.seconds_cold(lambda: done.append("call"), 3, Slow()) < 0.01  # type: ignore[arg-type]
    assert done == ["fill", "call"] * 3


def test_caches_are_filled_with_more_than_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "cache_sizes", lambda threads: [("L1", 1000), ("L2", 4096)])
    caches = cold.Caches()
    assert caches.buffer.nbytes == 2 * 4096
    assert caches.buffer.all()
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    caches.fill()
    assert allowed is None or os.sched_getaffinity(0) == allowed


@pytest.mark.parametrize("name", ["numpy", "fastrnn"])
def test_protocol(name: str, tmp_path: Path) -> None:
    case = {"case": "gru-T3-B2-I4-H6", "path": str(tmp_path / "case.npz")}
    commands = [
        {"do": "prepare", **case},
        {"do": "build", **case},
        {"do": "time", "warm": 1, "repeats": 3},
        {"do": "drop"},
        {"do": "time", "warm": 0, "repeats": 1},
    ]
    answers = io.StringIO()
    worker.answer_lines(name, 1, map(json.dumps, commands), answers)
    about, prepared, built, timed, dropped, failed = map(json.loads, answers.getvalue().splitlines())
    assert about["about"]["version"]
    assert prepared == dropped == {}
    assert built["difference"] < 1e-6
    assert built["seconds"] > 0
    assert built["form"]
    assert timed["seconds"] > 0
    assert timed["idle"] <= 1
    assert failed["error"].startswith("TypeError")


@pytest.fixture(scope="module")
def bench() -> Bench:
    with Bench(["numpy"], threads=1) as made:
        yield made


@pytest.mark.parametrize("text", [*TINY, *STEPS])
def test_measure(bench: Bench, text: str) -> None:
    result = bench.measure(Case.parse(text), LIMITS, rounds=3, most_seconds=0.1)
    assert {"fastrnn", "numpy"} <= set(result.seconds)
    assert result.seconds.keys() == result.spread.keys() == result.difference.keys()
    assert result.rounds == 3
    assert result.best == "numpy"
    assert result.ratio is not None
    assert result.ratio > 0
    assert (result.stream_ratio is None) == ("stream" not in result.seconds)
    assert result.form.keys() == result.seconds.keys()
    assert not set(result.left_out) - {"stream"}
    assert max(result.difference.values()) <= Case.parse(text).tolerance / 100


def measure_with(monkeypatch: pytest.MonkeyPatch, code: str, peers: list[str]) -> tuple[Bench, Result]:
    launch_with(monkeypatch, code)
    with Bench(peers, threads=1) as made:
        return made, made.measure(Case.parse("lstm-T3-B1-I2-H4"), LIMITS, rounds=3, most_seconds=0.1)


def test_missing_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, result = measure_with(monkeypatch, "sys.modules['torch'] = None", ["torch", "numpy"])
    assert "torch" in bench.missing["torch"]
    assert "torch" not in result.seconds
    assert "numpy" in result.seconds


def test_a_peer_that_is_wrong_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import bench.numpy_loop as loop; right = loop.run; loop.run = lambda *a: (right(*a)[0] + 0.5, None)"
    _, result = measure_with(monkeypatch, code, ["numpy"])
    assert "away from the reference" in result.left_out["numpy"]
    assert result.difference["numpy"] == pytest.approx(0.5)
    assert result.ratio is None


def test_a_peer_that_dies_is_left_out_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, bench.numpy_loop as loop; loop.run = lambda *a: (os.write(2, b'no more'), os._exit(3))"
    bench, result = measure_with(monkeypatch, code, ["numpy"])
    assert result.left_out["numpy"] == "its process died: no more"
    assert "numpy" in bench.workers


def test_a_peer_that_dies_while_it_is_imported_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from bench.peers import NumPyLoop; NumPyLoop.__init__ = lambda self, threads: os._exit(3)"
    bench, _ = measure_with(monkeypatch, "import os; " + code, ["numpy"])
    assert bench.missing["numpy"] == "its process died: its process ended with status 3"


STREAM = """
import fastrnn
class Stream:
    def __init__(self, params, batch_size):
        self.params, self.state = params, None
    def step(self, x):
        y, self.state = fastrnn.lstm(x[None], self.params, self.state)
        return y[0]
fastrnn.Stream = Stream
"""


def test_streams_are_timed_where_there_is_a_single_step(monkeypatch: pytest.MonkeyPatch) -> None:
    launch_with(monkeypatch, STREAM)
    with Bench([], threads=1) as bench:
        step, sequence = (bench.measure(Case.parse(f"lstm-T{T}-B3-I2-H4"), LIMITS, 3, 0.1) for T in (1, 2))
    assert set(step.seconds) == {"fastrnn", "stream"}
    assert step.best is step.ratio is step.stream_ratio is None
    assert set(sequence.seconds) == {"fastrnn"}
    assert sequence.left_out == {"stream": "takes one step at a time"}


def test_a_wrong_fastrnn_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from bench.peers import FastRNN; FastRNN.outputs = lambda self, case, result: result + 0.5"
    with pytest.raises(SystemExit, match=r"lstm-T3-B1-I2-H4: fastrnn: .* away from the reference"):
        measure_with(monkeypatch, code, ["numpy"])


def test_ratio_is_that_of_rounds() -> None:
    """A machine that slows down by the same factor for both sides changes no ratio."""
    times = {"fastrnn": [1.0, 5.0, 1.0], "torch": [2.0, 10.0, 2.0], "numpy": [4.0, 4.0, 9.0]}
    result = summarise(Case.parse("lstm-T1-B1-I4-H6"), times, least=0.25, threads=1)
    assert (result.best, result.ratio, result.roofline) == ("torch", 2.0, 0.25)
    assert result.stream_ratio is None
    times["stream"] = [0.25, 0.5, 1.0]
    assert summarise(Case.parse("lstm-T1-B1-I4-H6"), times, least=0.25, threads=1).stream_ratio == 8.0
    assert result.spread["fastrnn"] == 1.0


def test_limits_are_measurable(tmp_path: Path) -> None:
    library, compiler = machine_limits.compile_loops(tmp_path)
    assert compiler
    for kind in (machine_limits.MULTIPLY_ADD, machine_limits.READ, machine_limits.SIGMOID, machine_limits.BARRIER):
        assert library.limits_seconds(kind, 2, 8192, 10, 2) > 0


def test_levels_are_read_inside_of_them() -> None:
    sizes = machine_limits.sizes_to_read([("L1", 32 << 10), ("L2", 1 << 20), ("L3", 256 << 20)])
    assert [name for name, _, _ in sizes] == ["L1", "L2", "L3", "memory"]
    read = [size for _, _, size in sizes]
    assert read[0] < 32 << 10 < read[1] < 1 << 20 < read[2] < 256 << 20 < read[3]


def canned() -> Run:
    """Three results: won, lost by a little, lost by a lot."""
    timed = {"fastrnn": OURS, "stream": OURS, "torch": {"version": "2"}}
    made = Run(about(timed=timed, missing={"openvino": "No module named 'openvino'"}), LIMITS)
    for text, ratio in (("lstm-T1-B1-I128-H128", 2.0), ("gru-T9-B1-I8-H8", 0.99), ("rnn-T9-B64-I8-H512", 0.5)):
        seconds = {"fastrnn": 1e-3, "torch": ratio * 1e-3} | ({"stream": 4e-3} if "-T1-" in text else {})
        result = Result(text, 1, seconds, dict.fromkeys(seconds, 0.01), {}, 9, 5e-4, 0.5, "torch", ratio)
        result.stream_ratio = ratio / 4 if "-T1-" in text else None
        result.form = {"torch": "cells" if "-T1-" in text else "module"}
        result.left_out = {"numpy": "takes about 3.0 s a call"}
        made.results.append(result)
    return made


def test_page_shows_losses_first() -> None:
    text = page.page([canned()], "../benchmarks.md")
    before, _, after = text.partition("### Against each peer")
    assert "slower than the best peer in 2 of them, and not slower in 1" in before
    losses = [line for line in before.splitlines() if line.startswith("| `")]
    assert [line.split(" | ")[:4] for line in losses] == [
        ["| `rnn-T9-B64-I8-H512`", "fastrnn", "0.500", "PyTorch"],
        ["| `lstm-T1-B1-I128-H128` (silero-vad)", "Stream.step", "0.500", "PyTorch"],
        ["| `gru-T9-B1-I8-H8`", "fastrnn", "0.990", "PyTorch"],
    ]
    assert "silero-vad" in after
    assert "No module named 'openvino'" in after
    assert "| NumPy loop | so slow that it can't be the best | 3 |" in after
    assert all(f"| `{result.case}` | 1000 ±1% |" in after for result in canned().results)
    streams = after.partition("### Single steps of a stream")[2].splitlines()
    assert "| one row, H up to 128 | 1 | 1 | 0.50 | 0.50 | 0.50 |" in streams
    assert "| PyTorch | cells | 1 |" in after
    assert "| PyTorch | module | 2 |" in after


def test_page_without_losses_says_so() -> None:
    made = canned()
    made.results = made.results[:1]
    made.results[0].stream_ratio = 3.0
    assert "No peer was faster in any case." in page.page([made], "")


def test_results_file_keeps_all(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    canned().save(path)
    assert Run.load(path) == canned()
    case = json.loads(path.read_text(encoding="utf-8"))["cases"][0]
    assert {"case", "threads", "seconds", "ratio", "roofline", "difference"} <= case.keys()


def test_plots_are_the_same_bytes_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra `bench`")
    again = tmp_path / "again"
    page.write_page([canned()], tmp_path)
    page.write_page([canned()], again)
    for path in again.glob("*.svg"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    made_from = f"results-1.json, SHA-256 {hashlib.sha256((again / 'results-1.json').read_bytes()).hexdigest()}"
    for name in ("ratio-1.svg", "roofline-1.svg", page.PICTURE):
        assert made_from in (again / name).read_text(encoding="utf-8")


RESULTS = ROOT / "docs" / "results"


def published() -> list[Run]:
    return page.read_runs(RESULTS, len(list(RESULTS.glob("results-*.json"))))


def test_the_published_page_is_that_of_its_results() -> None:
    assert (RESULTS / "results.md").read_text(encoding="utf-8") == page.page(published(), "../benchmarks.md")


def test_the_published_plots_are_those_of_their_results() -> None:
    """A plot names its file of results, with a digest. Bytes are not compared: versions of matplotlib differ."""
    plots = sorted(RESULTS.glob("*.svg"))
    assert plots
    assert page.PICTURE in {plot.name for plot in plots}
    for plot in plots:
        found = re.search(r"(results-\d\.json), SHA-256 ([0-9a-f]{64})", plot.read_text(encoding="utf-8"))
        assert found, plot
        assert hashlib.sha256((RESULTS / found[1]).read_bytes()).hexdigest() == found[2], plot


def test_readme_has_the_published_times() -> None:
    """Make them anew with: python -m bench --from docs/results/results-*.json --readme README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.TIMES.parts(text)[1] == readme.block(published())
    assert f"docs/results/{page.PICTURE}" in text


@pytest.mark.parametrize("old", ["", "before\n"])
def test_readme_is_written_between_its_marks(tmp_path: Path, old: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n\n{readme.TIMES.begin}\n{old}{readme.TIMES.end}\n\nafter\n", encoding="utf-8")
    readme.write_readme(published(), path)
    expected = f"before\n\n{readme.TIMES.begin}\n{readme.block(published())}\n{readme.TIMES.end}\n\nafter\n"
    assert path.read_text(encoding="utf-8") == expected
    with pytest.raises(SystemExit, match="each once"):
        readme.TIMES.parts("no marks")


def test_results_are_rounded_where_they_are_saved(tmp_path: Path) -> None:
    made = canned()
    made.results[0].seconds["fastrnn"] = 1.23456789e-6
    made.save(tmp_path / "results.json")
    assert Run.load(tmp_path / "results.json").results[0].seconds["fastrnn"] == 1.2346e-6


def test_a_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Cases in the file are kept, but for disturbed ones; the others are measured. Another version is refused."""
    pytest.importorskip("tqdm", reason="the program needs the extra `bench`")
    file = tmp_path / "results.json"
    cases = ["lstm-T1-B1-I2-H3", "gru-T2-B1-I2-H3", "rnn-T2-B1-I2-H3"]

    def measure(*texts: str) -> Run:
        chosen = [part for text in texts for part in ("--case", text)]
        monkeypatch.setattr(sys, "argv", ["bench", "--peers", "numpy", "--json", str(file), "--resume", *chosen])
        program.main()
        return Run.load(file)

    run = measure(*cases[:2])
    for result, idle in zip(run.results, (0.0, 0.5), strict=True):
        result.idle, result.rounds = idle, 1000
    run.save(file)
    resumed = measure(*cases)
    assert [result.case for result in resumed.results] == cases
    assert [result.rounds == 1000 for result in resumed.results] == [True, False, False]
    assert resumed.limits == run.limits
    resumed.about["commit"] = "another"
    resumed.save(file)
    with pytest.raises(SystemExit, match="of another run: commit was another, is "):
        measure(*cases)
    assert "2 cases, about" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234e-6, "1.23"), (9.999e-6, "10.0"), (12.34e-6, "12.3"), (99.99e-6, "100"), (1.2344e-2, "12344")],
)
def test_microseconds(seconds: float, text: str) -> None:
    assert microseconds(seconds) == text


def test_row_of_a_peer_that_was_not_timed() -> None:
    row = table_row(canned().results[0], ["fastrnn", "torch", "numpy"])
    assert row == "| `lstm-T1-B1-I128-H128` | 1000 ±1% | 2000 ±1% | - | 2.00 | 50% |"
    row = table_row(canned().results[0], ["fastrnn", "stream", "torch"])
    assert row == "| `lstm-T1-B1-I128-H128` | 1000 ±1% | 4000 ±1% | 2000 ±1% | 2.00 | 0.50 | 50% |"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--case", "lstm-T1"], "expected a case such as lstm-T100-B1-I128-H128"),
        (["--peers", "torch,jax"], "expected some of torch,onnxruntime,openvino,numpy, got 'jax'"),
        (["--threads", "0"], "expected from 1 to"),
        (["--from", "nowhere.json"], "expected a file that --json wrote, got 'nowhere.json'"),
        (["--from", __file__], "expected --page or --readme with it"),
        (["--resume"], "--resume: expected --json with it"),
        (["--quick", "--full"], "not allowed with"),
        (["lstm-T1-B1-I2-H3", "--cell", "gru"], "argument --cell: expected one of lstm, got 'gru'"),
    ],
)
def test_bad_arguments(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as error:
        program.main()
    assert error.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("module", "arguments"), [("tqdm", []), ("matplotlib", ["--page", "nowhere"])])
def test_what_the_extra_brings_is_asked_for(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit, match=rf"needs {module}: pip install '\.\[bench\]'"):
        program.main()


def test_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--list"])
    program.main()
    listed = capsys.readouterr().out
    assert all(str(case) in listed for case in [*grids.quick(), *grids.published(), *grids.full()])
    assert all(name in listed for name in MODELS)


def test_versions_are_timed_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row a case, the geometric mean, and a warning where a case has become slower."""
    cases = ["--case", "lstm-T1-B1-I3-H5", "--case", "gru-T3-B2-I3-H5"]
    monkeypatch.setattr(sys, "argv", ["bench", "--compare", sys.executable, sys.executable, *cases])
    monkeypatch.setattr(versions, "MOST_SECONDS", 0.5)
    for warned in (0.0, 1000.0):
        monkeypatch.setattr(versions, "WARNED", warned)
        program.main()
        rows = capsys.readouterr().out.splitlines()
        assert [row.split(" | ")[0] for row in rows[2:4]] == ["| lstm-T1-B1-I3-H5", "| gru-T3-B2-I3-H5"]
        assert rows[5].startswith("2 cases, threads: 1, geometric mean ")
        assert [row.split(" (")[0] for row in rows[6:]] == ["warning: slower than before: lstm-T1-B1-I3-H5"][
            : int(warned)
        ]


def test_peers_are_held_to_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in isa.HELD["avx2"]:
        monkeypatch.setenv(name, "")  # and what it was before comes back
    assert isa.march() == "native"
    left_out = isa.hold("avx2", ["torch", "onnxruntime", "onnxruntime_int8"])
    assert left_out == dict.fromkeys(["onnxruntime", "onnxruntime_int8"], "it can't be held to avx2")
    assert isa.march() == "haswell"
    assert os.environ["FASTRNN_TARGET"] == "avx2"


def test_choices_of_the_plan_are_judged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["choices", "--calls", "3", "--rounds", "2", "--threads", "3"])
    choices.main()
    assert re.search(
        r"^3 calls: [\d.]+% within 5 % of the best way, least [\d.]+$", capsys.readouterr().out, re.MULTILINE
    )


def test_more_threads_than_there_are_are_expected_to_pay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the rates that tests set: of a small call none, and of a large batch most."""
    cases = ["lstm-T10-B1-I8-H8", "lstm-T50-B256-I512-H512"]
    monkeypatch.setattr(
        sys, "argv", ["choices", "--expected", "--threads", "64", "--case", cases[0], "--case", cases[1]]
    )
    choices.main()
    small, large = capsys.readouterr().out.splitlines()[-2:]
    assert re.fullmatch(r"\| lstm-T10-B1-I8-H8 \| \d+ \|( 1\.0 \|){6}", small)
    ratios = [float(ratio) for ratio in large.split("|")[3:-1]]
    assert ratios == sorted(ratios)
    assert 1.7 < ratios[0] <= 2
    assert ratios[-1] > 20


def test_ways_of_a_call_are_those_of_its_size() -> None:
    judged = choices.judge(Case.parse("lstm-T20-B6-I8-H16-L3"), threads=4, practice=1, rounds=2)
    ways = {(way.parts, way.unit_threads, way.layer_threads) for way in judged.ways}
    assert {(1, 1, 1), (2, 1, 1), (4, 1, 1), (1, 2, 1), (1, 4, 1), (2, 2, 1), (1, 1, 3)} == ways
    assert judged.chosen is judged.ways[0]  # so small that threads are not worth a thought
    assert {way.parts for way in choices.judge(Case.parse("gru-T9-B1-I8-H16-bi"), 2, 1, 2).ways} == {1}
    assert 0 < judged.of_best <= 1
    assert judged.of_one == 1


@pytest.mark.parametrize("text", versions.CASES)
def test_cases_of_versions(text: str) -> None:
    assert str(Case.parse(text)) == text


@pytest.mark.parametrize("text", ["lstm-T20-B1-I3-H5", "gru-T20-B1-I1-H17", "lstm-T20-B1-I8-H40"])
def test_fixed_sizes_give_the_same_and_are_timed(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", c_compiler())
    monkeypatch.setattr(sys, "argv", ["fixed", "--case", text, "--rounds", "1"])
    fixed.main()
    assert capsys.readouterr().out.splitlines()[2].startswith(f"| {text} | ")
    assert np.array([np.finfo("f4").smallest_normal]) / 2 > 0, "subnormals are flushed in this process from now on"
    monkeypatch.setattr(fixed, "MOST_DIFFERENCE", 0.0)
    with pytest.raises(SystemExit, match="outputs differ by "):
        fixed.main()
