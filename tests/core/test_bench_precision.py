"""The benchmark of narrow weights: its cases, its peers' errors, its ratios, its page and README's table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.environment import ROOT

sys.path.append(str(ROOT))  # last, so that fastrnn itself is the installed one

from bench import __main__ as program
from bench import run
from bench.cases import Case
from bench.peers import PRECISION_PEERS
from bench.precision import cases, page
from bench.precision.cases import KINDS, NARROW, PrecisionCase
from bench.precision.run import PrecisionBench, PrecisionResult, PrecisionRun
from bench.results import Run
from support.benchmark import LIMITS, OURS, about, launch_with

TINY = ["lstm-T5-B3-I4-H6", "lstm-T5-B3-I4-H6-L2-bi-ragged", "lstm-T1-B2-I4-H6-L2", "gru-T5-B3-I4-H6-bi"]
TINY += ["gru-T1-B1-I4-H6", "gru_before-T5-B2-I4-H6", "rnn-T5-B3-I4-H6", "rnn-T1-B2-I4-H6", "lstm-T5-B1-I4-H6-P2"]
# Of weights within 1 / sqrt(6) and inputs of 8 bits: some steps of 1 / 254 of either, and bfloat16's 1 / 256.
MOST = {"float16": 1e-3, "int8": 1e-2} | dict.fromkeys(["int8_fast", "torch_int8", "onnxruntime_int8"], 5e-2)
MOST |= {"openvino_bfloat16": 5e-2}


def test_cases() -> None:
    grid = cases.precision()
    assert len(set(grid)) == len(grid)
    assert {next(name for name, belongs in KINDS if belongs(case)) for case in grid} == {name for name, _ in KINDS}
    assert set(page.README_CASES) <= set(map(str, grid))
    assert isinstance(cases.find("silero-vad"), PrecisionCase)
    with pytest.raises(ValueError, match="expected no -f64, since layers with narrow weights are computed in float32"):
        cases.find("lstm-T5-B1-I1-H1-f64")


@pytest.fixture(scope="module", params=list(PRECISION_PEERS))
def peer_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[run.Worker]:
    process = run.Worker(f"precision/{request.param}", 1, tmp_path_factory.mktemp("peer"))
    if "missing" in process.greeting:
        process.close()
        pytest.skip(f"the peer is not installed: {process.greeting['missing']}")
    process.name = request.param
    yield process
    process.close()


@pytest.mark.parametrize("text", TINY)
def test_errors_of_every_peer(peer_process: run.Worker, text: str, tmp_path: Path) -> None:
    """Each is near the reference, and no narrow one so near that it has floats."""
    path, most = tmp_path / "case.npz", MOST.get(peer_process.name, 1e-5)
    peer_process.ask("prepare", case=text, path=str(path))
    answer = peer_process.ask("build", case=text, path=str(path))
    assert "error" not in answer
    for difference in answer.get("differences", {}).values():
        assert (1e-6 if peer_process.name in MOST else 0) < difference <= most


def test_a_stream_is_a_form_of_a_step(peer_process: run.Worker, tmp_path: Path) -> None:
    if peer_process.name not in ("fastrnn", *NARROW):
        return
    path = str(tmp_path / "case.npz")
    for text, forms in (("gru-T1-B1-I4-H6", {"fastrnn.gru", "Stream.step"}), ("gru-T5-B1-I4-H6", {"fastrnn.gru"})):
        peer_process.ask("prepare", case=text, path=path)
        assert peer_process.ask("build", case=text, path=path)["differences"].keys() == forms


def test_measure() -> None:
    with PrecisionBench([], threads=1) as bench:
        result = bench.measure(PrecisionCase("gru", 5, 3, 4, 6), LIMITS, rounds=3, most_seconds=0.1)
    assert isinstance(result, PrecisionResult)
    assert set(result.seconds) == set(result.difference) == {"fastrnn", *NARROW}
    assert result.times_float32.keys() == set(NARROW)
    assert result.best is result.ratio is None
    assert result.best_ratios == {}
    assert result.ratios == dict.fromkeys(["fastrnn", *NARROW])


def test_wrong_answers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from bench.peers import PRECISION_PEERS as p; right = p['int8'].outputs\n"
    code += "p['int8'].outputs = lambda *given: right(*given) + 0.3"
    launch_with(monkeypatch, code)
    with PrecisionBench([], threads=1) as bench:
        result = bench.measure(PrecisionCase("rnn", 5, 3, 4, 6), LIMITS, rounds=3, most_seconds=0.1)
    assert "away from the reference" in result.left_out["int8"]
    assert "int8" not in result.seconds


def test_ratios_are_medians_within_rounds() -> None:
    times = {"fastrnn": [2.0, 40.0, 2.0], "int8": [1.0, 10.0, 1.0], "torch": [3.0, 30.0, 3.0]}
    bench = object.__new__(PrecisionBench)
    bench.threads = 1
    result = bench.summarise(PrecisionCase("lstm", 5, 3, 4, 6), times, LIMITS)
    assert result.times_float32 == {"int8": 2.0}
    assert result.best == "torch"
    assert result.best_ratios == {"int8": 3.0}


def canned() -> PrecisionRun:
    """Won in a batch, lost in one row; README's cases are won too."""
    timed = {"fastrnn": OURS, **dict.fromkeys(NARROW, OURS), "torch": {"version": "2"}}
    timed |= {"onnxruntime_int8": {"version": "3"}}
    made = PrecisionRun(about(timed=timed, kind="precision"), LIMITS)
    for text in ("lstm-T5-B3-I4-H6", "gru-T5-B1-I4-H6", *page.README_CASES):
        seconds = {"fastrnn": 1e-3, "float16": 9e-4, "int8": 5e-4, "int8_fast": 4e-4, "torch": 3e-3}
        seconds |= {"onnxruntime_int8": 1e-3} if text.startswith("lstm") else {}
        if text == "gru-T5-B1-I4-H6":
            seconds |= {"int8": 2e-3, "torch": 15e-4}
        best = min((name for name in seconds if name not in ("fastrnn", *NARROW)), key=seconds.__getitem__)
        errors = {name: 1e-7 if name in ("fastrnn", "torch") else 5e-3 for name in seconds}
        given = (text, 1, seconds, dict.fromkeys(seconds, 0.01), errors, 9, 5e-4, 0.5, best, seconds[best] / 1e-3)
        ratios = [{name: whole / seconds[name] for name in NARROW} for whole in (1e-3, seconds[best])]
        made.results.append(PrecisionResult(*given, times_float32=ratios[0], best_ratios=ratios[1]))  # type: ignore[arg-type] # a tuple of many types
    return made


def test_page() -> None:
    lines = page.page([canned()], "../benchmarks.md").splitlines()
    assert "int8 was slower in 1: `gru-T5-B1-I4-H6` 0.50." in lines
    assert "int8 was slower in 1: `gru-T5-B1-I4-H6` 0.75." in lines
    assert "| several rows, int8 | 2 | 0 | 2.00 | 2.00 | 2.00 |" in lines
    assert "| ONNX Runtime int8 | 7 | 5.0e-03 | 5.0e-03 |" in lines
    times = "1000 (1e-7) | 900 (5e-3) | 2000 (5e-3) | 400 (5e-3) | 1500 (1e-7) | - | 1.11 | 0.50 | 2.50 |"
    assert f"| `gru-T5-B1-I4-H6` | {times}" in lines


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table is that of the published results; the program writes it between the marks."""
    folder = ROOT / "docs" / "results"
    published = [PrecisionRun.load(folder / page.file_of(number)) for number in (1, 2)]
    assert page.README.parts((ROOT / "README.md").read_text(encoding="utf-8"))[1] == page.readme_block(published[0])
    assert (folder / "precision.md").read_text(encoding="utf-8") == page.page(published, "../benchmarks.md")
    results, text = tmp_path / "results.json", tmp_path / "README.md"
    canned().save(results)
    text.write_text(f"before\n{page.README.begin}\nold\n{page.README.end}\nafter\n", encoding="utf-8")
    arguments = ["--precision", "--from", str(results), "--page", str(tmp_path), "--readme", str(text)]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    program.main()
    assert PrecisionRun.load(tmp_path / "precision-1.json") == PrecisionRun.load(results)
    assert (tmp_path / "precision.md").read_text(encoding="utf-8").startswith("# Results of narrow weights\n")
    table = page.README.parts(text.read_text(encoding="utf-8"))[1]
    times = "1000 (1e-7) | 900 (5e-3) | 500 (5e-3) | 400 (5e-3) | ONNX Runtime int8 1000 (5e-3) | 2.00 |"
    assert f"| `lstm-T50-B1-I64-H64` | {times}" in table.splitlines()
    with pytest.raises(ValueError, match="expected results of calls, got results of precision"):
        Run.load(results)
    made = canned()
    made.results = made.results[:3]
    with pytest.raises(SystemExit, match="--readme: lstm-T50-B1-I64-H64 was not measured"):
        page.readme_block(made)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lstm-T1"], "expected a case such as"),
        (["--peers", "torch,numpy"], "expected some of torch,torch_int8,onnxruntime,"),
        (["--full"], "--precision: expected no --quick, --published or --full"),
        (["--training"], "not allowed with argument"),
    ],
)
def test_bad_arguments(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--precision", *arguments])
    with pytest.raises(SystemExit) as error:
        program.main()
    assert error.value.code == 2
    assert words in capsys.readouterr().err


def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm", reason="the program needs the extra `bench`")
    launch_with(monkeypatch, "sys.modules['torch'] = None")
    file = tmp_path / "results.json"
    arguments = ["--precision", "--peers", "torch_int8", "--json", str(file), "rnn-T3-B2-I3-H4"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    program.main()
    printed = capsys.readouterr().out
    assert "PyTorch int8:           left out: " in printed
    assert "fastrnn int8:           target " in printed
    assert [result.case for result in PrecisionRun.load(file).results] == ["rnn-T3-B2-I3-H4"]
    assert isinstance(PrecisionRun.load(file).results[0].parsed, Case)
