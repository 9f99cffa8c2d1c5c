"""Targets and the number of threads: detection, environment variables, show_config; memory of calls."""

from __future__ import annotations

import platform
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn import _check, _core
from support.apart import run_python
from support.environment import ALL_TARGETS, TARGETS


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="reads the flags of /proc/cpuinfo"
)
def test_detection_agrees_with_the_system() -> None:
    """Linux lists a flag in /proc/cpuinfo only where it also saves the registers."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        flags = next(line for line in file if line.startswith("flags")).split()
    avx2, avx512 = {"avx2", "fma", "f16c"}, {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
    needs = {"avx512_vnni": avx512 | {"avx512_vnni"}, "avx512": avx512, "avx2_vnni": avx2 | {"avx_vnni"}, "avx2": avx2}
    expected = [target for target, needed in needs.items() if needed <= set(flags)]
    assert fastrnn.usable_targets() == (*expected, "scalar")


def test_target_of_the_environment(target: str) -> None:
    code = (
        "import numpy, fastrnn; print(fastrnn.RNNParams({'weight_ih': numpy.eye(2), 'weight_hh': numpy.eye(2)}).target)"
    )
    assert run_python(code, FASTRNN_TARGET=target).stdout.strip() == target
    assert run_python(code, FASTRNN_TARGET="").stdout.strip() == TARGETS[0]


def test_show_config() -> None:
    result = run_python("import fastrnn; fastrnn.show_config()", FASTRNN_TARGET="scalar", FASTRNN_NUM_THREADS="3")
    lines = dict(line.partition(": ")[::2] for line in result.stdout.splitlines())
    assert f"fastrnn {fastrnn.__version__}" in lines
    assert lines["target in use"] == "scalar"
    assert lines["target in use for int8"] == "scalar"
    assert lines["targets usable"].startswith(", ".join(ALL_TARGETS))
    assert lines["compiler"].split()[0] in ("gcc", "clang")
    assert lines["threads"] == "3"


def test_show_config_says_what_cannot_be_used() -> None:
    result = run_python("import fastrnn; fastrnn.show_config()", FASTRNN_TARGET="sse")
    assert result.returncode == 0
    assert "target in use: none; FASTRNN_TARGET: expected one of" in result.stdout
    assert "threads: " in result.stdout


def test_set_num_threads() -> None:
    before = fastrnn.get_num_threads()
    try:
        fastrnn.set_num_threads(5)
        assert fastrnn.get_num_threads() == 5
    finally:
        fastrnn.set_num_threads(before)


def test_most_threads_is_said_once() -> None:
    assert _check.MOST_THREADS == _core.MOST_THREADS


def test_strided_input_is_not_copied() -> None:
    """An input of 2 GB of address space, 4 kB of memory, is read where it is."""
    x = np.broadcast_to(np.ones(8, "f4"), (1 << 16, 1 << 10, 8))
    weights = {"weight_ih": np.ones((1, 8), "f4"), "weight_hh": np.zeros((1, 1), "f4")}
    lengths = np.ones(1 << 10, int)
    y, _ = fastrnn.rnn(x, weights, lengths=lengths, return_sequences=False)
    assert y.shape == (1 << 10, 1)


def test_public_names_alone_are_listed() -> None:
    assert {"lstm", "LSTMParams", "load", "onnx", "torch"} <= set(dir(fastrnn))
    assert [name for name in dir(fastrnn) if name.startswith("_") and name != "__version__"] == []
    assert all(hasattr(fastrnn, name) for name in dir(fastrnn) if name not in ("from_onnx", "onnx"))
