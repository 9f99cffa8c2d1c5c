"""The benchmark of training: its case texts, its limit, its peers' gradients, its figures and its page.

Peers that no test environment has are not needed: fastrnn itself is there with weights that stay.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.environment import ROOT

sys.path.append(str(ROOT))  # last, so that fastrnn itself is the installed one

from bench import __main__ as program
from bench import run, worker
from bench.cases import CELLS, Case
from bench.peers import TRAINING_PEERS
from bench.results import Run
from bench.training import grid, page
from bench.training.cases import TrainingCase, TrainingData
from bench.training.limit import limit
from bench.training.results import TrainingRun
from bench.training.run import TrainingBench, TrainingResult, figures_of_ours
from support.benchmark import LIMITS, OURS, about, launch_with

SPECIAL = ["", "-L2", "-bi", "-ragged", "-L2-bi-ragged-state", "-f64", "-state", "-frozen", "-L2-state-frozen"]
TINY = [f"{cell}-T5-B3-I4-H6{special}" for cell in CELLS for special in SPECIAL]
TINY += [f"{cell}-T5-B3-I4-H6-L2{special}-cells" for cell in ("lstm", "gru", "rnn") for special in ("", "-state")]
TINY += ["lstm-T5-B3-I4-H6-P2-state", "lstm-T5-B3-I4-H6-L2-bi-P2-ragged", "gru-T1-B2-I4-H6-state"]


@st.composite
def any_case(draw: st.DrawFn) -> TrainingCase:
    cell, state, frozen, cells = draw(st.sampled_from(list(CELLS))), *(draw(st.booleans()) for _ in range(3))
    T, B, L = (draw(st.integers(1, 1000)) for _ in range(3))
    bi, ragged = draw(st.booleans()) and not cells, draw(st.booleans()) and not cells and T > 1
    P = draw(st.integers(0, 6)) if cell == "lstm" and not cells else 0
    return TrainingCase(cell, T, B, 3, 7, L, bi, P, ragged, draw(st.booleans()), False, state, frozen, cells)


@given(any_case())
def test_case_texts_say_all(case: TrainingCase) -> None:
    assert TrainingCase.parse(str(case)) == case


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lstm-T1", r"expected a case such as .*\[-frozen\].* got 'lstm-T1'"),
        ("lstm-T5-B1-I1-H1-frozen-state", "got 'lstm-T5-B1-I1-H1-frozen-state'"),
        ("", "got ''"),
        ("gru-T5-B1-I1-H4-P2-frozen", "only an lstm may have a projection"),
        ("gru-T5-B1-I1-H4-cold", "expected no -cold"),
        ("gru-T5-B1-I1-H4-bi-cells", "expected neither -bi, -P nor -ragged"),
        ("gru-T5-B1-I1-H4-ragged-cells", "expected neither -bi, -P nor -ragged"),
    ],
)
def test_a_bad_case_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainingCase.parse(text)


def test_the_grid_has_every_kind_once() -> None:
    cases = grid.training()
    assert len(set(cases)) == len(cases)
    assert [str(case) for case in cases if str(case) in grid.OTHERS] == grid.OTHERS
    names = [next(name for name, belongs in grid.kinds() if belongs(case)) for case in cases]
    assert set(names) == {name for name, _ in grid.kinds()} - {"other cells"}


def test_limit_by_hand() -> None:
    """An LSTM with I = 2 and H = 10: W has 80 weights and U 400, whose 1600 bytes lie in the second level."""
    batch = TrainingCase("lstm", 100, 50, 2, 10)
    forward = 2 * (80 + 400) * 100 * 50 / 1e9
    assert limit(batch, LIMITS) == pytest.approx(3 * forward)
    assert limit(dataclasses.replace(batch, frozen=True), LIMITS) == pytest.approx(2 * forward)
    assert limit(dataclasses.replace(batch, f64=True, bi=True), LIMITS) == pytest.approx(4 * 3 * forward)
    assert limit(dataclasses.replace(batch, ragged=True), LIMITS) < 3 * forward

    row = TrainingCase(
        "lstm", 100, 1, 2, 10
    )  # reading U takes longer than its 80 us of arithmetic, forward and backward
    products = 2 * (3 * 80 + 400) * 100 / 1e9
    assert limit(row, LIMITS) == pytest.approx(products + 2 * 100 * 1600 / 1e8)


def test_data_come_back_from_their_file(tmp_path: Path) -> None:
    case = TrainingCase.parse("lstm-T5-B3-I4-H6-bi-P2-ragged-state")
    data = TrainingData.make(case)
    data.save(tmp_path / "case.npz")
    np.testing.assert_equal(dataclasses.asdict(TrainingData.load(tmp_path / "case.npz")), dataclasses.asdict(data))
    assert list(data.expected) == case.wanted(data.weights)
    assert data.expected["h"].shape == (2, 3, 2)
    assert data.expected["c"].shape == (2, 3, 6)
    past = np.arange(5)[:, np.newaxis] >= case.lengths
    assert past.any()
    assert not data.dy[past].any()


@pytest.fixture(scope="module", params=list(TRAINING_PEERS))
def peer_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[run.Worker]:
    process = run.Worker(f"training/{request.param}", 1, tmp_path_factory.mktemp("peer"))
    if "missing" in process.greeting:
        process.close()
        pytest.skip(f"the peer is not installed: {process.greeting['missing']}")
    yield process
    process.close()


@pytest.mark.parametrize("text", TINY)
def test_gradients_of_every_peer(peer_process: run.Worker, text: str, tmp_path: Path) -> None:
    """Every form of every peer that runs a case has all gradients that are wanted, and they are right."""
    path = tmp_path / "case.npz"
    TrainingData.make(TrainingCase.parse(text)).save(path)
    answer = peer_process.ask("build", case=text, path=str(path))
    assert "error" not in answer
    if "unable" not in answer:
        assert max(answer["differences"].values()) <= TrainingCase.parse(text).tolerance / 10


class Given:
    """A peer whose gradients are those that it is made with."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found

    def forms(self, case: TrainingCase) -> list[str]:
        return ["given"]

    def build(self, case: TrainingCase, data: TrainingData, form: str) -> Any:
        return lambda: self.found

    def gradients(self, case: TrainingCase, result: Any) -> Any:
        return result


def build_given(folder: Path, **found: Any) -> dict[str, Any]:
    """The answer to "build" of a peer that has the right gradients, but for these; None is left out."""
    names = {"case": "rnn-T5-B3-I4-H6-state", "path": str(folder / "case.npz")}
    session = worker.TrainingSession(Given({}))
    session.prepare(**names)
    right = TrainingData.load(folder / "case.npz").expected
    session.peer.found = {name: array for name, array in {**right, **found}.items() if array is not None}
    return session.build(**names)


def test_gradients_are_compared_in_parts_of_their_largest_number(tmp_path: Path) -> None:
    case = TrainingCase.parse("rnn-T5-B3-I4-H6-state")
    right = TrainingData.make(case).expected["weight_hh_l0"]
    assert build_given(tmp_path)["difference"] == 0
    wrong = right.copy()
    wrong[0, 0] += 0.25 * np.abs(right).max()
    assert build_given(tmp_path, weight_hh_l0=wrong)["difference"] == pytest.approx(0.25)
    assert build_given(tmp_path, weight_hh_l0=right * np.nan)["difference"] == np.inf


def test_gradients_that_are_missing_or_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no gradient of bias_hh_l0, h"):
        build_given(tmp_path, bias_hh_l0=None, h=None)
    with pytest.raises(ValueError, match=r"its gradient of h has the shape \(3, 6\), not \(1, 3, 6\)"):
        build_given(tmp_path, h=np.ones((3, 6)))


@pytest.fixture(scope="module")
def bench() -> Iterator[TrainingBench]:
    with TrainingBench([], threads=1) as made:
        yield made


@pytest.mark.parametrize("text", ["lstm-T5-B3-I4-H6", "gru-T5-B3-I4-H6-L2-bi-ragged", "rnn-T5-B3-I4-H6-frozen"])
def test_measure(bench: TrainingBench, text: str) -> None:
    result = bench.measure(TrainingCase.parse(text), LIMITS, rounds=3, most_seconds=0.1)
    assert isinstance(result, TrainingResult)
    packed = set() if text.endswith("frozen") else {"packing"}
    assert set(result.seconds) == set(result.difference) == {"fastrnn", "held"} | packed
    assert result.best is result.ratio is result.held_ratio is None
    assert result.roofline_seconds == limit(TrainingCase.parse(text), LIMITS)
    assert (result.packing is None) == text.endswith("frozen")
    assert (result.all_gradients is None) != text.endswith("frozen")


def test_wrong_gradients_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of `held` here; a fastrnn that is wrong ends the run."""
    code = "from bench.peers import {}; right = {}.gradients\n"
    code += "{}.gradients = lambda *given: {k: 2 * array for k, array in right(*given).items()}"
    case = TrainingCase.parse("gru-T5-B3-I4-H6")
    launch_with(monkeypatch, code.replace("{}", "FastRNNHeld"))
    with TrainingBench([], threads=1) as made:
        result = made.measure(case, LIMITS, rounds=3, most_seconds=0.1)
    assert "1.0e+00 away from the reference" in result.left_out["held"]
    assert isinstance(result, TrainingResult)
    assert result.held_ratio is result.all_gradients is None
    launch_with(monkeypatch, code.replace("{}", "FastRNNStep"))
    with (
        TrainingBench([], threads=1) as made,
        pytest.raises(SystemExit, match=r"gru-T5-B3-I4-H6: fastrnn: .* away from the reference"),
    ):
        made.measure(case, LIMITS, rounds=3, most_seconds=0.1)


def test_one_process_of_pytorch_keeps_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_THRESHOLD_')"
    launch_with(
        monkeypatch, f"import os; sys.modules['torch'] = None\nif all(map(os.environ.get, {names})): os._exit(3)"
    )
    with TrainingBench(["torch", "torch_pages"], threads=1) as made:
        assert "torch" in made.missing["torch"]
        assert made.missing["torch_pages"] == "its process died: its process ended with status 3"


def test_figures_are_those_of_rounds() -> None:
    """A round that is slow for all sides changes none of them."""
    times = {"fastrnn": [2.0, 20.0, 2.0], "held": [1.5, 15.0, 1.5], "torch": [3.0, 30.0, 3.0]}
    case, packing = TrainingCase("lstm", 5, 3, 4, 6), {"packing": [0.5, 5.0, 0.5]}
    assert figures_of_ours(case, times | packing, "torch") == {"packing": 0.25, "held_ratio": 2.0}
    assert figures_of_ours(case, times | packing, None) == {"packing": 0.25}
    frozen = dataclasses.replace(case, frozen=True)
    assert figures_of_ours(frozen, times | {"held": [3.0, 30.0, 3.0]}, "torch") == {"all_gradients": 1.5}
    assert figures_of_ours(case, {"fastrnn": [1.0]}, None) == {}


def canned() -> TrainingRun:
    """Won from PyTorch that keeps its pages; lost to Keras; won with frozen weights."""
    timed = {"fastrnn": OURS, "held": OURS, **{name: {"version": "2"} for name in ("torch", "torch_pages", "jax")}}
    made = TrainingRun(about(timed=timed, kind="training"), LIMITS)
    for text, seconds in (
        ("lstm-T5-B3-I4-H6", {"torch": 4e-3, "torch_pages": 2e-3, "jax": 3e-3}),
        ("gru-T5-B40-I4-H6", {"torch": 4e-3, "torch_pages": 5e-3, "jax": 5e-4}),
        ("rnn-T5-B3-I4-H6-frozen", {"torch": 8e-3}),
    ):
        best = min(seconds, key=seconds.__getitem__)
        seconds = {"fastrnn": 1e-3, "held": 1.5e-3 if "frozen" in text else 9e-4, **seconds}
        given = (text, 1, seconds, dict.fromkeys(seconds, 0.01), {}, 9, 5e-4, 0.5, best, seconds[best] / 1e-3)
        held = {"all_gradients": 1.5} if "frozen" in text else {"packing": 0.1, "held_ratio": seconds[best] / 9e-4}
        made.results.append(TrainingResult(*given, **held))  # type: ignore[arg-type] # a tuple of many types
    return made


def test_page_shows_losses_first() -> None:
    before, _, after = page.page([canned()], "../benchmarks.md").partition("### By kind")
    assert "3 cases. fastrnn was slower than the best peer in 1 of them" in before
    assert "2 of them were also timed with weights that stay" in before
    losses = [line for line in before.splitlines() if line.startswith("| `")]
    assert losses == ["| `gru-T5-B40-I4-H6` | fastrnn | 0.500 | Keras on JAX | 1000 ±1% | 500 ±1% | 50% |"]
    lines = after.splitlines()
    assert "| gru, 32 rows and more | 1 | 1 | 0.50 | 0.50 | 0.50 | 50% |" in lines
    assert "| lstm, 2 to 31 rows | 2.00, 2.00 | 3.00, 3.00 |" in lines
    assert "| gru, 32 rows and more | 4.00, 4.00 | 0.50, 0.50 |" in lines
    assert "| frozen weights | 8.00, 8.00 | - |" in lines
    assert "| all | 2.00, 4.00 | 0.50, 1.22 |" in lines
    assert "| `rnn-T5-B3-I4-H6-frozen` | 1000 | 1500 | 1.50 |" in lines
    assert (
        "| `lstm-T5-B3-I4-H6` | 1000 ±1% | 900 ±1% | 4000 ±1% | 2000 ±1% | 3000 ±1% | 2.00 | 2.22 | 10% | 50% |"
        in lines
    )


def test_a_run_comes_back_from_its_file_and_is_not_taken_for_one_of_calls(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    canned().save(path)
    assert [result.case for result in TrainingRun.load(path).results] == [result.case for result in canned().results]
    assert TrainingRun.load(path).results[0].ratios.keys() == {"fastrnn", "held"}
    assert all(isinstance(result.parsed, TrainingCase) for result in TrainingRun.load(path).results)
    with pytest.raises(ValueError, match="expected results of calls, got results of training"):
        Run.load(path)


def test_page_is_written_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs no matplotlib, since it has no plots."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    file, folder = tmp_path / "results.json", tmp_path / "page"
    canned().save(file)
    monkeypatch.setattr(sys, "argv", ["bench", "--training", "--from", str(file), "--page", str(folder)])
    program.main()
    assert capsys.readouterr().out == f"wrote {folder / 'training.md'}\n"
    assert (folder / "training.md").read_text(encoding="utf-8").startswith("# Results of training\n")
    assert TrainingRun.load(folder / "training-1.json") == TrainingRun.load(file)
    monkeypatch.setattr(sys, "argv", ["bench", "--from", str(file), "--readme", str(folder)])
    with pytest.raises(SystemExit, match="expected results of calls, got results of training"):
        program.main()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lstm-T1"], r"expected a case such as lstm-T50-B32-I256-H256"),
        (["--case", "lstm-T1-B1-I2-H3-cold"], "expected no -cold"),
        (["--peers", "torch,numpy"], "expected some of torch,torch_pages,jax, got 'numpy'"),
        (["--full"], "--training: expected no --quick, --published or --full"),
        (["--readme", "README.md"], "--training: expected no --readme, which has no times of it"),
        (["--cell", "mgu"], "argument --cell: expected one of gru, lstm, rnn, got 'mgu'"),
    ],
)
def test_bad_arguments(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--training", *arguments])
    with pytest.raises(SystemExit) as error:
        program.main()
    assert error.value.code == 2
    assert words in capsys.readouterr().err


def test_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A row a case, of the cells that are asked for; a peer that is missing is named."""
    pytest.importorskip("tqdm", reason="the program needs the extra `bench`")
    launch_with(monkeypatch, "sys.modules['jax'] = None")
    file, cases = tmp_path / "results.json", ["lstm-T3-B2-I3-H4", "gru-T3-B2-I3-H4-frozen"]
    arguments = ["--training", "--peers", "jax", "--cell", "gru", "--json", str(file), *cases]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    program.main()
    printed = capsys.readouterr().out
    assert "Keras on JAX:           left out: " in printed
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("| `")] == [f"`{cases[1]}`"]
    assert [result.case for result in TrainingRun.load(file).results] == cases[1:]
    assert isinstance(TrainingRun.load(file).results[0].parsed, Case)
