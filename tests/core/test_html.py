"""Tables that notebooks show: what is in them, and that text in them is escaped."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

import fastrnn
from fastrnn import _html

WEIGHTS = {"weight_ih": np.ones((12, 5), "float32"), "weight_hh": np.ones((12, 4), "float32")}


def cells(html: str) -> tuple[str, list[list[str]]]:
    """The title and the rows of a table. Text that is not escaped is an error of the parser, or other elements."""
    table = ElementTree.fromstring(html)
    assert {element.tag for element in table.iter()} <= {"table", "caption", "code", "thead", "tbody", "tr", "th", "td"}
    return "".join(table[0].itertext()), [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def test_params_show_sizes_and_options() -> None:
    params = fastrnn.GRUParams(WEIGHTS, reset_after=False, precision="int8", embedding=np.ones((9, 5), "float32"))
    title, rows = cells(params._repr_html_())
    assert title == "GRUParams"
    shown = dict(map(tuple, rows))
    assert shown == {
        "input_size": "5",
        "hidden_size": "4",
        "num_layers": "1",
        "direction": "forward",
        "embedding": "(9, 5)",
        "reset_after": "False",
        "dtype": "float32",
        "precision": "int8",
        "target": params.target,
        "nbytes": str(params.nbytes),
    }
    assert list(shown) == [
        part.partition("=")[0] for part in repr(params)[len("GRUParams(") :].split(", ") if "=" in part
    ]


def test_a_trace_shows_its_arrays() -> None:
    trace = fastrnn.trace(np.ones((7, 5), "float32"), fastrnn.GRUParams(WEIGHTS))
    title, rows = cells(trace._repr_html_())
    assert title == "Trace"
    assert rows == [
        ["array", "what it is", "shape"],
        ["r_l0", "reset gate", "(7, 4)"],
        ["z_l0", "update gate", "(7, 4)"],
        ["n_l0", "candidate", "(7, 4)"],
        ["h_l0", "hidden state", "(7, 4)"],
    ]
    lstm = fastrnn.LSTMParams({name: np.ones((16, array.shape[1])) for name, array in WEIGHTS.items()})
    _, rows = cells(fastrnn.trace(np.ones((7, 2, 5)), lstm)._repr_html_())
    assert [row[0] for row in rows[1:]] == ["i_l0", "f_l0", "g_l0", "o_l0", "c_l0", "h_l0"]
    assert {row[2] for row in rows[1:]} == {"(7, 2, 4)"}


def test_text_is_escaped() -> None:
    """A class may have any name."""
    kind = type("<b>&\"'", (fastrnn.GRUParams,), {})
    title, _ = cells(kind(WEIGHTS)._repr_html_())
    assert title == "<b>&\"'"
    text = "</td><script>&"
    assert cells(_html.table(text, [(text, text)], (text, text))) == (text, [[text, text], [text, text]])
