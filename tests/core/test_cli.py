"""The command line: each command in a process of its own, and the rest through `main`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _check, _peers, cli
from fastrnn.cli import main
from support.apart import run_python
from support.cells import PARAMS
from support.command_line import printed, run, said, weights, write_files

COMMANDS = ["info", "inspect", "convert", "check", "bench"]
DESCRIBED = {"cell", "input_size", "hidden_size", "proj_size", "num_layers", "direction"}
DESCRIBED |= {"weights", "options", "dtype", "parameters", "bytes"}
JUDGED = {"fastrnn_distance", "fastrnn_share"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_files()
    return tmp_path


# Each command as a process.


def test_module_runs() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "fastrnn", "--version"], capture_output=True, text=True, cwd=os.path.dirname(__file__)
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, f"fastrnn {fastrnn.__version__}\n", "")


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxruntime", "keras", "safetensors"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Block())
from fastrnn.cli import main
sys.exit(main())
"""


def test_with_numpy_alone(files: Path) -> None:
    """Every command runs; what needs a package names it, in one line."""
    commands = [
        ("info",),
        ("inspect", str(files / "lstm.npz")),
        ("convert", str(files / "foreign.npz"), str(files / "new.npz"), "--cell", "gru", "--prefix", "gru."),
        ("check", str(files / "before.npz")),
    ]
    for command in commands:
        result = run(*command, code=BLOCK)
        assert (result.returncode, result.stderr) == (0, ""), command
        assert result.stdout
    assert fastrnn.load(files / "new.npz") == fastrnn.GRUParams(weights("gru"))
    with zipfile.ZipFile(files / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"")
    (files / "model.onnx").write_bytes(b"\x08\x08\x3a\x00")  # a version and an empty graph
    (files / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    for command, name in [
        (("bench", str(files / "lstm.npz")), "torch"),
        (("inspect", str(files / "model.pt")), "torch"),
        (("inspect", str(files / "model.onnx")), "onnx"),
        (("inspect", str(files / "model.safetensors")), "safetensors"),
        (("convert", str(files / "lstm.npz"), "a.safetensors"), "safetensors"),
    ]:
        result = run(*command, code=BLOCK)
        assert (result.returncode, result.stdout) == (2, ""), command
        assert result.stderr.startswith("fastrnn: error: ")
        assert result.stderr.endswith(f"pip install 'fastrnn[{name}]'\n")
        assert result.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of this kind")
def test_closed_pipe_and_interrupt(files: Path) -> None:
    command = [sys.executable, "-m", "fastrnn", "info"]
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=os.path.dirname(__file__))
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")
    code = (
        "import sys; from fastrnn import cli\n"
        "def interrupted(*args): raise KeyboardInterrupt\n"
        "cli._peers.self_check = interrupted; sys.exit(cli.main())"
    )
    result = run("info", "--json", code=code)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


# Each command through main.


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(" ".join(["usage: fastrnn", *command]))
    if not command:
        assert all(name in out for name in COMMANDS)


def test_examples_of_help_parse() -> None:
    examples = [line.split() for line in cli._EXAMPLES.splitlines()[1:]]
    assert {words[1] for words in examples} == {*COMMANDS}
    for words in examples:
        assert words[0] == "fastrnn"
        cli._parser().parse_args(words[1:])


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "info").splitlines()
    assert out[0] == f"fastrnn {fastrnn.__version__}"
    count = 6 * len(fastrnn.usable_targets())
    assert out[-1] == f"self-check: {count} of {count} passed"
    told = json.loads(printed(capsys, "info", "--json"))
    assert told.keys() == {"version", "target", "targets", "build", "compiler", "threads", "numpy", "checks", "ok"}
    assert told["ok"]
    assert all(check["difference"] <= check["tolerance"] for check in told["checks"])


@pytest.mark.parametrize(("name", "value"), [("FASTRNN_NUM_THREADS", "0"), ("FASTRNN_TARGET", "sse")])
@pytest.mark.parametrize("more", [[], ["--json"]], ids=str)
def test_info_in_a_wrong_environment(name: str, value: str, more: list[str]) -> None:
    code = "from fastrnn.cli import main; import sys; sys.exit(main())"
    result = run_python(code, "info", *more, **{name: value})
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fastrnn: error: {name}: expected ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("wrong", ["reference", "bits"])
def test_info_finds_what_is_wrong(
    wrong: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = _peers.ours

    def off(params: Any, x: Any) -> _peers.Peer:
        peer = ours(params, x)
        if params._cell.name != "gru" or params.target != fastrnn.usable_targets()[-1]:
            return peer
        if wrong == "reference":
            return peer._replace(arrays=lambda result: tuple(part + 1 for part in peer.arrays(result)))
        return peer._replace(arrays=lambda result: tuple(np.nextafter(part, 2) for part in peer.arrays(result)))

    if wrong == "bits" and len(fastrnn.usable_targets()) == 1:
        pytest.skip("one target has none to compare with")
    monkeypatch.setattr(_peers, "ours", off)
    out = printed(capsys, "info", status=1)
    assert "FAILED gru float32" in out


def test_inspect(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "inspect", "lstm.npz") == (
        "'': lstm I=3 H=5, 2 layers, bidirectional, float32, 1080 parameters, 4320 bytes "
        "(weight_ih, weight_hh, bias_ih, bias_hh)\n"
    )
    assert printed(capsys, "inspect", "before.npz").endswith(", bias_hh) reset_after=False clip=0.5\n")
    assert printed(capsys, "inspect", "none.npz") == "none.npz: no recurrent layers\n"
    told = json.loads(printed(capsys, "inspect", "foreign.npz", "--json"))
    assert told["file"] == "foreign.npz"
    rnn, gru, odd = told["layers"]
    assert (rnn["name"], rnn["cell"], gru["name"], gru["cell"]) == ("rnn.", "rnn", "gru.", "gru")
    assert gru.keys() == DESCRIBED | {"name"}
    assert odd.keys() == {"name", "error"}
    assert gru["weights"] == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    few = {name: array for name, array in weights("lstm", peepholes=True).items() if "bias" not in name}
    fastrnn.LSTMParams(few).save("few.npz")
    (layer,) = json.loads(printed(capsys, "inspect", "few.npz", "--json"))["layers"]
    assert layer["weights"] == ["weight_ih", "weight_hh", "weight_peephole"]
    assert odd["name"] == "odd."


def test_convert(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--cell", "gru", "--prefix", "gru.", "--reset-before", "--clip", "2", "--dtype", "float64"]
    arguments += ["--activation", "linear,0.5,0", "--recurrent-activation", "hard_sigmoid"]
    assert printed(capsys, "convert", "foreign.npz", "new.npz", *arguments).startswith("new.npz: gru I=3 H=5, ")
    options = {"activation": ("linear", 0.5, 0.0), "recurrent_activation": "hard_sigmoid", "clip": 2.0}
    assert fastrnn.load("new.npz") == fastrnn.GRUParams(weights("gru"), dtype="float64", reset_after=False, **options)


@pytest.mark.parametrize("name", ["lstm.npz", "before.npz", "reverse.npz"])
def test_check(files: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, last = printed(capsys, "check", name).splitlines()
    assert first.endswith("of what rounding explains")
    assert last.startswith("passed: ")
    told = json.loads(printed(capsys, "check", name, "--json", "--steps", "7", "--batch", "2", "--seed", "3"))
    assert told.keys() == {"file", "against", "difference", *JUDGED, "told_steps", "tolerance", "ok", "layer"}
    assert (told["told_steps"], told["tolerance"], told["ok"]) == (7, None, True)
    assert told["layer"].keys() == DESCRIBED
    assert "FAILED" in printed(capsys, "check", name, "--tolerance", "0", status=1)
    assert "within --tolerance 1" in printed(capsys, "check", name, "--tolerance", "1")


def test_check_of_nan(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN on one side alone is a difference, and JSON has no NaN."""
    exact = _peers.exact
    nan = lambda params, x: exact(params, x)._replace(arrays=lambda result: (result[0] * np.nan, result[1]))  # noqa: E731
    monkeypatch.setattr(_peers, "exact", nan)
    told = json.loads(printed(capsys, "check", "before.npz", "--json", status=1))
    assert told["difference"] is None
    assert told["fastrnn_share"] is None
    assert "BEYOND: nan from float64" in printed(capsys, "check", "before.npz", status=1)


def test_a_package_that_lacks_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed but cannot be imported: its own error says more."""
    (tmp_path / "lacking.py").write_text("import lacked")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'lacked'"):
        _check.package("lacking", "test", "lacking")


WRONG = {
    "": "the following arguments are required: COMMAND (see fastrnn --help)",
    "inspect": "the following arguments are required: FILE (see fastrnn inspect --help)",
    "inspect missing.npz": "missing.npz: No such file or directory",
    "inspect broken.npz": "broken.npz: expected an .npz file, got ",
    "inspect model.txt": "model.txt: No such file or directory",
    "convert lstm.npz new.txt": "path: expected a name that ends in .safetensors or .npz, got 'new.txt'",
    "convert lstm.npz no/new.npz": "no/new.npz: No such file or directory",
    "convert foreign.npz new.npz": "cell: expected 'rnn', 'lstm' or 'gru', which foreign.npz does not say, got None; ",
    "convert foreign.npz new.npz --cell gru --prefix nope": "prefix: expected one of 'rnn.', 'gru.', 'odd.', got ",
    "convert foreign.npz new.npz --cell gru": "prefix: expected one of 'rnn.', 'gru.', 'odd.', got ''",
    "check lstm.npz --prefix a": "--prefix: expected none, since nothing stands before the names in lstm.npz, got 'a'",
    "inspect empty.npz": "empty.npz: expected an .npz file, got ",
    "check lstm.npz --activation swish": "activation: expected one of tanh, ",
    "check lstm.npz --activation tanh,x": (
        "argument --activation: expected NAME or NAME,ALPHA,BETA with two numbers, got 'tanh,x' (see "
    ),
    "check lstm.npz --tolerance nan": "argument --tolerance: expected a finite number of at least 0, got nan (see ",
    "check lstm.npz --tolerance inf": "argument --tolerance: expected a finite number of at least 0, got inf (see ",
    "check lstm.npz --tolerance=-1": "argument --tolerance: expected a finite number of at least 0, got -1 (see ",
    "check lstm.npz --tolerance x": "argument --tolerance: invalid number value: 'x' (see ",
    "check lstm.npz --node a": "--node: expected none for a .npz file, ",
    "check lstm.npz --steps 0": "argument --steps: expected an integer from 1 to 2147483647, got 0 (see ",
    "check lstm.npz --steps x": "argument --steps: invalid integer value: 'x' (see fastrnn check --help)",
    "check lstm.npz --threads 257": "argument --threads: expected an integer from 1 to 256, got 257 (see ",
    "bench lstm.npz --threads 100000": "argument --threads: expected an integer from 1 to 256, got 100000 (see ",
    "check lstm.npz --steps 2147483647": "--steps, --batch: expected at most 268435456 inputs and gates in all, got ",
    "bench lstm.npz --steps 65536 --batch 65536": "--steps, --batch: expected at most 268435456 inputs and gates ",
    "check lstm.npz --against onnxruntime": "--against: expected torch or reference, since this is not an .onnx file, ",
    "check lstm.npz --against keras": "argument --against: invalid choice: 'keras' ",
}


@pytest.mark.parametrize("command", WRONG)
def test_wrong_calls(files: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(os.listdir())
    assert said(capsys, *command.split()).startswith(WRONG[command])
    assert sorted(os.listdir()) == before


def test_one_line_whatever_a_file_is_called(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "inspect", "a\nb.npz") == "a b.npz: No such file or directory"
    assert said(capsys, "inspect", "a\x1b[1m\x07b\u202e.npz") == "a[1mb.npz: No such file or directory"
    assert said(capsys, "inspect", "a\udcff.npz") == r"a\udcff.npz: No such file or directory"


@pytest.mark.skipif(sys.platform == "win32", reason="no file descriptors of this kind")
@pytest.mark.parametrize(("closed", "command", "status"), [(1, "none.npz", 0), (2, "missing.npz", 2)])
def test_closed_output(files: Path, closed: int, command: str, status: int) -> None:
    """With stdout or stderr closed, nothing is written to the other one instead."""
    shell = ["sh", "-c", f'"$0" -m fastrnn inspect "$1" {closed}>&-', sys.executable, str(files / command)]
    result = subprocess.run(shell, capture_output=True, text=True, cwd=os.path.dirname(__file__))
    assert (result.returncode, result.stdout, result.stderr) == (status, "", "")


def test_what_the_terminal_cannot_show(files: Path) -> None:
    np.savez("name.npz", **{f"caf\xe9.{name}": array for name, array in weights("gru").items()})  # type: ignore[arg-type]
    code = "from fastrnn.cli import main; import sys; sys.exit(main())"
    result = run_python(code, "inspect", str(files / "name.npz"), PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(r"'caf\xe9.': gru ")


def test_nan_equals_nan(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fastrnn.GRUParams({name: array * np.nan for name, array in weights("gru").items()}).save("nan.npz")
    told = json.loads(printed(capsys, "check", "nan.npz", "--json"))
    assert (told["difference"], told["ok"]) == (0, True)


def test_params_of_every_cell_against_the_reference(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for cell, kind in PARAMS.items():
        kind(weights(cell)).save("a.npz")
        assert "passed" in printed(capsys, "check", "a.npz")
