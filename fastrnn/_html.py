"""Tables that notebooks show in the place of a repr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(title: str, rows: Iterable[Sequence[object]], columns: Sequence[str] = ()) -> str:
    """HTML of a table under a title; the first cell of a row names it. All text is escaped."""
    head = f"<thead>{_row(columns, 'th')}</thead>" if columns else ""
    body = "".join(_row(row, "td") for row in rows)
    return f"<table><caption><code>{escape(title)}</code></caption>{head}<tbody>{body}</tbody></table>"


def _row(cells: Sequence[object], kind: str) -> str:
    name, *others = (escape(str(cell)) for cell in cells)
    return f"<tr><th>{name}</th>{''.join(f'<{kind}>{cell}</{kind}>' for cell in others)}</tr>"
