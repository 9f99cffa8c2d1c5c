"""How fast the plan takes the machine to be: measured, set by FASTRNN_PLAN, printed by show_config."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

import fastrnn
from fastrnn import _core, config
from support.apart import run_python, succeed
from support.environment import TARGETS

PINNED = os.environ["FASTRNN_PLAN"]
PRINT = "import fastrnn; fastrnn.show_config()"
MAKE = "import numpy as np, fastrnn; fastrnn.RNNParams({'weight_ih': np.ones((3, 2)), 'weight_hh': np.ones((3, 3))})"


def as_dict(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (pair.split("=") for pair in text.split(","))}


def printed(**environment: str) -> str:
    """The line of the plan that show_config prints."""
    result = run_python(PRINT, **environment)
    assert result.stderr == ""
    (line,) = re.findall(r"^plan: (.*)$", result.stdout, re.MULTILINE)
    return str(line)


def test_the_printed_line_is_what_the_environment_takes() -> None:
    name, text = printed(FASTRNN_PLAN="").split("=", maxsplit=1)
    assert name == "FASTRNN_PLAN"
    assert printed(FASTRNN_PLAN=text) == f"FASTRNN_PLAN={text}"
    assert list(as_dict(text)) == list(config._RATES)


@pytest.mark.parametrize("dtype", [0, 1])
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_measured_is_possible(target: str, dtype: int) -> None:
    index = [name for name, _, _ in _core.TARGETS].index(target)
    code = f"from fastrnn import _core; print(_core.measured_rates({index}, {dtype}))"
    rates = eval(run_python(code, FASTRNN_PLAN="").stdout)
    bounds = {  # a sanitizer's are a hundred times as slow as others
        "multiplies": (1e6, 1e11),
        "near_bytes": (1e7, 1e13),
        "far_bytes": (1e7, 1e13),
        "cell_seconds": (1e-10, 1e-4),
        "meet_seconds": (1e-9, 1e-2),
        "wake_seconds": (1e-7, 1e-1),
    }
    assert rates.keys() == bounds.keys()
    for name, (least, most) in bounds.items():
        assert least < rates[name] < most, (name, rates)
    assert (rates["multiplies"] in (2e8, 5e9)) == (target == "scalar"), "guesses are of scalar alone"


@pytest.mark.skipif(TARGETS[0] == "scalar", reason="scalar's rates are guesses, whatever is set")
def test_the_environment_is_what_counts() -> None:
    config.pin_rates()
    index = [name for name, _, _ in _core.TARGETS].index(TARGETS[0])
    assert _core.measured_rates(index, 0) == as_dict(PINNED)
    with pytest.MonkeyPatch.context() as patch:
        other = PINNED.replace("meet_seconds=5e-7", "meet_seconds=1e-3")
        assert other != PINNED
        patch.setenv("FASTRNN_PLAN", other)
        weights = {"weight_ih": np.ones((1600, 8), "f4"), "weight_hh": np.ones((1600, 400), "f4")}
        params = fastrnn.LSTMParams(weights, target=TARGETS[0])
        assert "One thread: " in params.explain(100, threads=2)  # who meets for so long shares nothing
    config.pin_rates()
    assert "2 threads: " in params.explain(100, threads=2)
    assert _core.measured_rates(index, 0) == as_dict(PINNED)


@pytest.mark.parametrize(
    "text",
    [
        "fast",
        PINNED.removesuffix(",wake_seconds=2e-5"),
        PINNED + ",more=1",
        PINNED + ",wake_seconds=2e-5",
        PINNED.replace("5e9", "-5e9"),
        PINNED.replace("5e9", "0"),
        PINNED.replace("5e9", "1e999"),
        PINNED.replace("5e9", "nan"),
        PINNED.replace("5e9", "5e9.3"),
        PINNED.replace(",", ";"),
        PINNED.replace("5e9", "5e9 "),
    ],
)
def test_bad_numbers_in_the_environment(text: str) -> None:
    expected = r"FASTRNN_PLAN: expected multiplies=NUMBER,.*, as show_config\(\) prints it, got "
    result = run_python(MAKE, FASTRNN_PLAN=text)
    assert re.search(rf"^ValueError: {expected}", result.stderr, re.MULTILINE), result.stderr
    assert re.fullmatch(rf"none; {expected}.*", printed(FASTRNN_PLAN=text))


def test_first_calls_of_many_threads() -> None:
    """They measure once, whoever is first, and have the bits of calls on one thread."""
    succeed(
        """
    calls = [shared(kind) for kind in SPLITS]
    expected = [call(threads=1) for call in calls]
    wrong, begin = [], threading.Barrier(8)

    def work(i):
        begin.wait()
        for k in range(12):
            n = (i + k) % len(calls)
            try:
                assert_same_bits(calls[n](), expected[n])
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    """,
        FASTRNN_PLAN="",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_child_of_a_process_that_measures() -> None:
    succeed(
        """
    call = shared("units")
    expected = call(threads=1)
    thread = threading.Thread(target=call)
    thread.start()
    child = os.fork()
    if child == 0:
        for _ in range(3):
            assert_same_bits(call(), expected)
        os._exit(0)
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert_same_bits(call(), expected)
    """,
        FASTRNN_PLAN="",
    )
