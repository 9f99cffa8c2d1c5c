"""The command line: each command in a process of its own, and the rest through `main`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _arguments, _check, _peers, _streaming, cli
from fastrnn.cli import main
from support.apart import run_python
from support.cells import PARAMS
from support.command_line import needs, printed, run, said, weights, write_files
from support.environment import ALL_TARGETS, TARGETS

COMMANDS = ["info", "inspect", "convert", "check", "bench", "completion"]
DESCRIBED = {"cell", "input_size", "hidden_size", "proj_size", "num_layers", "direction"}
DESCRIBED |= {"weights", "vocabulary", "options", "dtype", "precision", "parameters", "bytes"}
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
        assert result.stderr.endswith(f"pip install {name}\n")
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
    examples = [line.split() for line in _arguments.EXAMPLES.splitlines()[1:]]
    assert {words[1] for words in examples} == {*COMMANDS} - {"completion"}
    for words in examples:
        assert words[0] == "fastrnn"
        cli._parser().parse_args(words[1:])


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "info").splitlines()
    assert out[0] == f"fastrnn {fastrnn.__version__}"
    count = 3 * (3 * len(TARGETS) + 2 * len(ALL_TARGETS))  # cells; floats and halves, and bytes
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
    assert printed(capsys, "inspect", "none.npz", status=1) == "none.npz: no recurrent layers\n"
    told = json.loads(printed(capsys, "inspect", "foreign.npz", "--json"))
    assert told["file"] == "foreign.npz"
    rnn, gru, odd = told["layers"]
    assert (rnn["name"], rnn["cell"], gru["name"], gru["cell"]) == ("rnn.", "rnn", "gru.", "gru")
    assert gru.keys() == DESCRIBED | {"name", "outliers"}
    assert odd.keys() == {"name", "error"}
    assert gru["weights"] == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    few = {name: array for name, array in weights("lstm", peepholes=True).items() if "bias" not in name}
    fastrnn.LSTMParams(few).save("few.npz")
    (layer,) = json.loads(printed(capsys, "inspect", "few.npz", "--json"))["layers"]
    assert layer["weights"] == ["weight_ih", "weight_hh", "weight_peephole"]
    assert odd["name"] == "odd."


def test_inspect_tells_embeddings(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fastrnn.GRUParams(weights("gru"), embedding=np.zeros((7, 3), "float32")).save("tokens.npz")
    assert "gru V=7 I=3 H=5" in printed(capsys, "inspect", "tokens.npz")
    assert ", bias_hh, embedding)" in printed(capsys, "inspect", "tokens.npz")
    printed(capsys, "check", "tokens.npz")
    printed(capsys, "convert", "tokens.npz", "new.npz", "--precision", "int8")
    assert fastrnn.load("new.npz").embedding.shape == (7, 3)  # type: ignore[union-attr]


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
    "check lstm.npz --pre a": "unrecognized arguments: --pre a; did you mean --prefix? (see fastrnn check --help)",
    "convert a.npz b.npz --jsn": "unrecognized arguments: --jsn; did you mean --json? (see fastrnn convert --help)",
    "info lstm.npz": "unrecognized arguments: lstm.npz (see fastrnn info --help)",
    "completion fish": "argument SHELL: invalid choice: 'fish' ",
    "check lstm.npz --precision int8 --dtype float64": (
        "--precision: expected none that is narrow with --dtype float64, got int8"
    ),
    "check lstm.npz --precision int8 --against torch": (
        "--against: expected none, since weights are int8, which are compared with float32, got torch"
    ),
    "check lstm.npz --precision int4": "argument --precision: invalid choice: 'int4' ",
    "check lstm.npz --input lstm.npz": "lstm.npz: expected an .npy file of float16, float32 or float64, got an .npz ",
    "check lstm.npz --input empty.npz": "empty.npz: expected an .npy file of float16, float32 or float64, got ",
    "check lstm.npz --input x.npy": "--input: expected (T, B, 3) or (T, 3), none of them 0, got (4, 2) in x.npy",
    "check lstm.npz --input no.npy": "no.npy: No such file or directory",
    "bench lstm.npz --deadline 1ms": "--deadline: expected none without --stream",
    "bench lstm.npz --stream": "params: expected direction 'forward', since a stream cannot see what is to come, got ",
    "bench lstm.npz --stream --threads 2": "--threads: expected 1 with --stream, ",
    "bench lstm.npz --stream --against torch": "--against: expected none with --stream, ",
    "bench before.npz --stream --every 5": "argument --every: expected a time above 0, of a day at most, such as ",
    "bench before.npz --stream --every 0ms": "argument --every: expected a time above 0, of a day at most, such as ",
    "bench before.npz --stream --seconds 0": "argument --seconds: expected a number of seconds above 0, ",
}


@pytest.mark.parametrize("command", WRONG)
def test_wrong_calls(files: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.ones((4, 2)))
    before = sorted(os.listdir())
    assert said(capsys, *command.split()).startswith(WRONG[command])
    assert sorted(os.listdir()) == before


def test_one_line_whatever_a_file_is_called(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "inspect", "a\nb.npz") == "a b.npz: No such file or directory"
    assert said(capsys, "inspect", "a\x1b[1m\x07b\u202e.npz") == "a[1mb.npz: No such file or directory"
    assert said(capsys, "inspect", "a\udcff.npz") == r"a\udcff.npz: No such file or directory"


@pytest.mark.skipif(sys.platform == "win32", reason="no file descriptors of this kind")
@pytest.mark.parametrize(("closed", "command", "status"), [(1, "none.npz", 1), (2, "missing.npz", 2)])
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


# Precisions.


@pytest.mark.parametrize("precision", ["float16", "int8", "int8_fast"])
def test_convert_to_a_precision(files: Path, precision: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """From float32, and from float64, which is converted on the way."""
    for name in ("before.npz", "reverse.npz"):
        told = printed(capsys, "convert", name, "new.npz", "--precision", precision)
        assert f", {precision}, " in told
        loaded = fastrnn.load("new.npz")
        assert loaded.precision == precision
        assert loaded == fastrnn.load(name, dtype="float32").to(precision)
        back = printed(capsys, "convert", "new.npz", "float.npz", "--precision", "float64")
        assert ", float64, " in back
        assert fastrnn.load("float.npz") == loaded.to("float64")
    told = json.loads(printed(capsys, "inspect", "new.npz", "--json"))["layers"][0]
    assert (told["precision"], told["dtype"], told["parameters"]) == (precision, "float32", 50)


def test_convert_of_halves(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    halves = {name: array.astype("f2") for name, array in weights("gru").items()}
    np.savez("half.npz", **halves)  # type: ignore[arg-type]
    assert ", float32, " in printed(capsys, "inspect", "half.npz")
    printed(capsys, "convert", "half.npz", "new.npz", "--cell", "gru", "--precision", "float16")
    kept = fastrnn.load("new.npz").weights
    assert all(np.array_equal(kept[name], array) for name, array in halves.items())
    assert kept["weight_hh_l0"].dtype == np.float16


@pytest.mark.parametrize("precision", ["float16", "int8", "int8_fast"])
def test_check_of_a_precision(files: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "check", "lstm.npz", "--precision", precision).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["y", "h_n", "c_n"]
    assert all(f"{precision} is off by " in line for line in lines)
    told = json.loads(printed(capsys, "check", "lstm.npz", "--precision", precision, "--json"))
    assert told.keys() == {"file", "against", "errors", "tolerance", "ok", "layer"}
    assert told["layer"]["precision"] == precision
    params = fastrnn.load("lstm.npz", "lstm")
    x = np.random.default_rng(0).normal(size=(100, 1, 3)).astype("f4")
    wide, narrow = (fastrnn.lstm(x, some)[0].astype("f8") for some in (params, params.to(precision)))  # type: ignore[arg-type]
    size = np.sqrt(np.mean(wide**2))
    assert told["errors"]["y"]["rms"] == pytest.approx(np.sqrt(np.mean((wide - narrow) ** 2)) / size, rel=1e-6)
    assert told["errors"]["y"]["largest"] == pytest.approx(np.abs(wide - narrow).max() / size, rel=1e-6)
    command = ["check", "lstm.npz", "--precision", precision, "--tolerance"]
    assert printed(capsys, *command, "1").splitlines()[-1].startswith("passed: ")
    assert printed(capsys, *command, "1e-9", status=1).splitlines()[-1].startswith("FAILED: ")


def test_check_of_a_narrow_file_on_given_input(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --precision too, since no other program has such weights; in one row or in several."""
    printed(capsys, "convert", "before.npz", "small.npz", "--precision", "int8")
    x = np.random.default_rng(1).normal(size=(9, 2, 3))
    params = fastrnn.load("small.npz", "gru")
    for given in (x, x[:, 0]):
        np.save("x.npy", given)
        told = json.loads(printed(capsys, "check", "small.npz", "--input", "x.npy", "--json"))
        given = given.reshape(9, -1, 3).astype("f4")
        wide, narrow = (fastrnn.gru(given, some)[0].astype("f8") for some in (params.to("float32"), params))
        assert 0 < told["errors"]["y"]["rms"] < 1e-2
        rms = np.sqrt(np.mean((wide - narrow) ** 2) / np.mean(wide**2))
        assert told["errors"]["y"]["rms"] == pytest.approx(rms, rel=1e-6)


def test_check_of_a_precision_where_floats_overflow(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Infinite inputs give NaN where weights are bytes: a difference, and JSON has no NaN."""
    np.save("x.npy", np.where(np.arange(6).reshape(2, 3) == 4, np.inf, 0.0))
    command = ["check", "before.npz", "--precision", "int8", "--input", "x.npy"]
    told = json.loads(printed(capsys, *command, "--json", status=1))
    assert told["errors"]["y"] == {"rms": None, "largest": None}
    assert printed(capsys, *command, status=1).splitlines()[-1].startswith("FAILED: ")


def test_rows_with_outliers(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One huge weight in a row makes the others of this row coarse; where the others are 0 there is nothing to lose."""
    arrays = weights("gru")
    arrays["weight_hh_l0"][7] = [0.1, -0.1, 90, 0.1, 0.1]
    arrays["weight_ih_l0"][2] = [0, 0, 5]
    fastrnn.GRUParams(arrays).save("odd.npz")
    said = "WARNING: int8 serves rows with an outlier badly: row 7 of weight_hh_l0 has a weight 900 times its median"
    assert said in printed(capsys, "inspect", "odd.npz")
    (layer,) = json.loads(printed(capsys, "inspect", "odd.npz", "--json"))["layers"]
    assert [(row["name"], row["row"]) for row in layer["outliers"]] == [("weight_hh_l0", 7)]
    assert said in printed(capsys, "convert", "odd.npz", "new.npz", "--precision", "int8")
    assert "WARNING" not in printed(capsys, "convert", "odd.npz", "new.npz", "--precision", "float16")
    assert "WARNING" not in printed(capsys, "inspect", "lstm.npz", "before.npz", "reverse.npz")


def test_bench_of_a_precision(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "before.npz", "--stream", "--seconds", "0.05", "--precision", "int8"]
    assert ", int8, " in printed(capsys, *command)


# Several files, the standard input, the terminal.


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("--versoin", "--version"),
        ("inspec a.npz", "inspect"),
        ("check a.npz --cell grru", "gru"),
        ("check a.npz --against onnx-runtime", "onnxruntime"),
    ],
)
def test_did_you_mean(command: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"; did you mean {meant}? (see " in said(capsys, *command.split())


def test_no_option_is_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in cli._parser().commands.items():
        options = [option for action in command._actions for option in action.option_strings if len(option) > 4]
        assert options
        for option in options:
            with pytest.raises(SystemExit):
                command.parse_args([option[:-1]])
        assert name in capsys.readouterr().err


def test_several_files(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = printed(capsys, "inspect", "lstm.npz", "before.npz").splitlines()
    assert one.startswith("lstm.npz: '': lstm ")
    assert two.startswith("before.npz: '': gru ")
    told = json.loads(printed(capsys, "inspect", "lstm.npz", "none.npz", "--json", status=1))
    assert [(each["file"], len(each["layers"])) for each in told] == [("lstm.npz", 1), ("none.npz", 0)]
    assert main(["inspect", "missing.npz", "lstm.npz", "empty.npz"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("lstm.npz: ")
    assert [line.split(": ")[2] for line in err.splitlines()] == ["missing.npz", "empty.npz"]


def test_inspect_where_no_layer_can_be_read(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("odd.npz", **{"odd.weight_hh_l0": np.zeros((7, 3))})  # type: ignore[arg-type]
    assert "odd." in printed(capsys, "inspect", "odd.npz", status=1)


@pytest.mark.parametrize("command", ["inspect -", "check - --against reference", "convert - new.npz"])
def test_standard_input(files: Path, command: str) -> None:
    shell = [sys.executable, "-m", "fastrnn", *command.replace("new", str(files / "new")).split(), "--json"]
    result = subprocess.run(
        shell, input=(files / "before.npz").read_bytes(), capture_output=True, cwd=os.path.dirname(__file__)
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout)["file"] == "-"
    result = subprocess.run(shell, input=b"PK", capture_output=True, cwd=os.path.dirname(__file__))
    assert result.returncode == 2
    assert result.stderr.startswith(b"fastrnn: error: -: expected a file of the kind ")


def test_convert_in_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(printed(capsys, "convert", "before.npz", "new.npz", "--json"))
    assert (told["file"], told["dst"]) == ("before.npz", "new.npz")
    assert told["layer"].keys() == DESCRIBED


def test_lines_are_wrapped_on_a_terminal(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = printed(capsys, "inspect", "lstm.npz")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    wrapped = printed(capsys, "inspect", "lstm.npz").splitlines()
    assert max(map(len, wrapped)) <= 60
    assert " ".join(line.strip() for line in wrapped) == whole.strip()


def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Bar:
        def __init__(self, **how: Any) -> None:
            made.append(how["total"])

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def update(self) -> None:
            made.append("step")

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(cli, "find_spec", lambda name: True)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=terminal: shown)
        with cli._progress(3, "steps") as done:
            done()
    assert made == [3, "step"]


# Steps of a stream.


def test_bench_of_a_stream(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "before.npz", "--stream", "--seconds", "0.05", "--deadline", "10s"]
    first, second, third = printed(capsys, *command).splitlines()
    assert "steps back to back: gru " in first
    assert [part.split()[0] for part in second.split(", ")] == ["p50", "p99", "p99.9", "longest"]
    assert third.startswith("0 of ")
    told = json.loads(printed(capsys, *command, "--every", "5ms", "--batch", "2", "--json"))
    assert told["steps"] <= 11  # one each 5 ms, in 50 ms
    assert told["p50_us"] <= told["p99_us"] <= told["p99.9_us"] <= told["longest_us"] < 10e6
    assert (told["missed"], told["deadline_us"], told["batch"]) == (0, 10e6, 2)
    told = json.loads(printed(capsys, *command[:-1], "0.001us", "--json"))
    assert told["missed"] == told["steps"] > 11


def test_a_late_step_makes_the_next_one_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that came while the step before ran has waited: its time begins when it came."""
    now, took = [0.0], iter([0.001] * _streaming._WARM_UP + [0.001, 0.035, *[0.001] * 100])

    class Slow:
        def __init__(self, *args: Any) -> None:
            pass

        def step(self, x: Any) -> None:
            now[0] += next(took)

    clock = types.SimpleNamespace(
        perf_counter=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    monkeypatch.setattr(_streaming, "Stream", Slow)
    monkeypatch.setattr(_streaming, "time", clock)
    found = _streaming.latency(None, np.zeros((3, 1, 2), "f4"), 0.1, every=0.01, deadline=0.0105)  # type: ignore[arg-type]
    assert found.steps == 10
    assert found.longest == pytest.approx(0.035)
    assert found.missed == 3  # 35 ms, then 26 and 17, then 8


@needs("shtab")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = printed(capsys, "completion", shell)
    assert all(command in script for command in COMMANDS)
    assert "--against" in script


def test_completion_names_its_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert said(capsys, "completion", "bash").endswith("pip install shtab")
