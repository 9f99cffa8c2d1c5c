"""The command `fastrnn`: the files that its tests read, and what it prints."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.cli import main
from support.apart import run_python
from support.cases import make_weights
from support.environment import expected_packages


def needs(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if not importlib.util.find_spec(name) and name not in expected_packages()]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def weights(cell: str, **more: Any) -> dict[str, np.ndarray]:
    return make_weights(np.random.default_rng(0), cell, (3, 5), **more)


def write_files() -> None:
    """Into the current folder, what needs no framework."""
    fastrnn.LSTMParams(weights("lstm", layers=2, directions=("", "_reverse"))).save("lstm.npz")
    fastrnn.GRUParams(weights("gru"), reset_after=False, clip=0.5).save("before.npz")
    fastrnn.RNNParams(weights("rnn", directions=("_reverse",)), dtype="float64").save("reverse.npz")
    foreign = {f"{cell}.{name}": array for cell in ("rnn", "gru") for name, array in weights(cell).items()}
    np.savez("foreign.npz", **foreign, **{"odd.weight_hh_l0": np.zeros((7, 3))})  # type: ignore[arg-type]
    np.savez("none.npz", a=np.zeros(3))
    Path("broken.npz").write_bytes(b"PK\3\4")
    Path("empty.npz").touch()


def run(*arguments: str, code: str = "from fastrnn.cli import main; import sys; sys.exit(main())") -> Any:
    return run_python(code, *arguments)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert err == ""
    return out


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an error."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err.startswith("fastrnn: error: ")
    return err.removeprefix("fastrnn: error: ")[:-1]
