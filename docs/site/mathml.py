"""Formulas as MathML, which browsers show by themselves: nothing is loaded from elsewhere, and pages work offline."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def convert(node: nodes.Element, as_block: bool) -> str:
    tex = re.sub(r"\\dots\b", r"\\ldots", node.astext())
    tex = re.sub(r"\n\s*\n", r" \\\\ ", tex)  # formulas apart by an empty line are lines of one
    try:
        return str(tex2mathml(tex, as_block=as_block))
    except (MathError, AttributeError) as error:  # the latter for some that are wrong
        LOGGER.warning("no formula that can be shown: %s (%s)", tex, error, location=node)
        return f"<code>{escape(tex)}</code>"


def visit_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(convert(node, as_block=False))
    raise nodes.SkipNode


def visit_displaymath(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math-block">{convert(node, as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
