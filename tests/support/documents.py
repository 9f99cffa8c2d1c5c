"""The documents of the project and the blocks of code in them, section by section."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

from support.environment import ROOT

SITE = ROOT / "docs" / "site"  # its pages are documents from the top of the repository, included
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("docs/**/*.md") if SITE not in path.parents)])
FENCE = re.compile(r"(?P<indent>\s*)(?P<fence>```+|~~~+)\s*(?P<language>.*?)\s*")


class Block(NamedTuple):
    """A fenced block: the file, the line of its first line of text, its language, its text, and its section.

    A section begins at a heading of the second level, whose line is its number, or at the top of the file, which is 0.
    """

    path: Path
    line: int
    language: str
    text: str
    section: int

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line}"


def read_blocks(path: Path) -> list[Block]:
    """All fenced blocks of a document, whatever is in them."""
    blocks: list[Block] = []
    opening: re.Match[str] | None = None
    lines: list[str] = []
    section = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = FENCE.fullmatch(line)
        if opening is None and match:
            opening, lines = match, []
        elif opening and match and not match["language"] and match["fence"].startswith(opening["fence"]):
            language = opening["indent"] + opening["language"]
            blocks.append(Block(path, number - len(lines), language, "\n".join(lines), section))
            opening = None
        else:
            lines.append(line)
            section = number if opening is None and line.startswith("## ") else section
    if opening is not None:
        raise ValueError(f"{path.name}: a block is not closed")
    return blocks


BLOCKS = [block for path in DOCUMENTS for block in read_blocks(path)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
C = [block for block in BLOCKS if block.language == "c"]  # whole programs, which are given an image


def section_of(block: Block, among: list[Block] = PYTHON) -> list[Block]:
    """The blocks in the section that a block is in, in their order."""
    return [other for other in among if (other.path, other.section) == (block.path, block.section)]


def imports(block: Block) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, (ast.Import, ast.ImportFrom))]


def prose(path: Path) -> str:
    """A document without its blocks."""
    text, inside = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        fence = FENCE.fullmatch(line) is not None
        inside ^= fence
        if not inside and not fence:
            text.append(line)
    return "\n".join(text)
