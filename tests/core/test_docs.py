"""The documents: their Python runs, their links lead somewhere, and what they name is there.

A block of Python is a test, run after the blocks above it in the same file and in the same namespace. Where it prints
``print(...)  # expected``, the comments are compared with the output. A block that imports a package which is not
installed is skipped, and so is one that uses what such a block would have defined.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fastrnn
from support.environment import ROOT, expected_packages

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDS = ["pip install . && python examples/char_lm/generate.py", "pip install '.[test]' && pytest"]

# What may follow the opening fence of a block. Python under any other name would not be run.
LANGUAGES = {"python", "sh", "c", "text"}

FENCE = re.compile(r"(?P<indent>\s*)(?P<fence>```+|~~~+)\s*(?P<language>.*?)\s*")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
PATH = re.compile(r"`((?:csrc|fastrnn|tests|docs|examples)/[\w./-]+\.\w+)`")
EXPECTED = re.compile(r"print\(.*\)  # (.*)")


class Block(NamedTuple):
    """A fenced block: the file, the line of its first line of text, its language and its text."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line}"


def read_blocks(path: Path) -> list[Block]:
    """All fenced blocks of a document, whatever is in them."""
    blocks: list[Block] = []
    opening: re.Match[str] | None = None
    lines: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = FENCE.fullmatch(line)
        if opening is None and match:
            opening, lines = match, []
        elif opening and match and not match["language"] and match["fence"].startswith(opening["fence"]):
            blocks.append(Block(path, number - len(lines), opening["indent"] + opening["language"], "\n".join(lines)))
            opening = None
        else:
            lines.append(line)
    if opening is not None:
        raise ValueError(f"{path.name}: a block is not closed")
    return blocks


BLOCKS = [block for path in DOCUMENTS for block in read_blocks(path)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def prose(path: Path) -> str:
    """A document without its blocks."""
    text, inside = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        fence = FENCE.fullmatch(line) is not None
        inside ^= fence
        if not inside and not fence:
            text.append(line)
    return "\n".join(text)


def run(block: Block, namespace: dict[str, Any]) -> None:
    code = compile("\n" * (block.line - 1) + block.text, str(block.path), "exec")  # lines of tracebacks are the file's
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, namespace)
    expected = [match[1] for match in map(EXPECTED.fullmatch, block.text.splitlines()) if match]
    assert not expected or output.getvalue().splitlines() == expected


def imports(block: Block) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, (ast.Import, ast.ImportFrom))]


def used(block: Block) -> set[str]:
    nodes = ast.walk(ast.parse(block.text))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def defined(block: Block) -> set[str]:
    nodes = ast.walk(ast.parse(block.text))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {(alias.asname or alias.name).partition(".")[0] for node in imports(block) for alias in node.names}


def missing_packages(block: Block) -> list[str]:
    """Packages that a block imports and that are not installed; packages that are expected count as installed."""
    roots = {alias.name for node in imports(block) if isinstance(node, ast.Import) for alias in node.names}
    roots |= {node.module or "" for node in imports(block) if isinstance(node, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in roots} - expected_packages()
    return sorted(name for name in tops if importlib.util.find_spec(name) is None)


@cache
def run_until(path: Path, count: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The namespace after the first `count` blocks of a file, and the names that skipped ones leave out, with reasons.

    Each block is run once.
    """
    if count == 0:
        return {"__name__": path.stem}, {}
    namespace, absent = run_until(path, count - 1)
    block = [block for block in PYTHON if block.path == path][count - 1]
    if why := skipped(block, absent):
        return namespace, absent | dict.fromkeys(defined(block) - {*namespace}, why)
    run(block, namespace)
    return namespace, {name: why for name, why in absent.items() if name not in namespace}


def skipped(block: Block, absent: dict[str, str]) -> str:
    """Why a block is not run; nothing if it is."""
    missing = missing_packages(block)
    needed = [absent[name] for name in sorted(used(block) - defined(block)) if name in absent]
    return f"{', '.join(missing)} not installed" if missing else "".join(needed[:1])


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_python_runs(block: Block) -> None:
    before = [other for other in PYTHON if other.path == block.path and other.line < block.line]
    _, absent = run_until(block.path, len(before))
    if why := skipped(block, absent):
        pytest.skip(why)
    run_until(block.path, len(before) + 1)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_all_python_is_found(path: Path) -> None:
    """No block that test_python_runs would miss: another name for Python, an indented fence, a session with prompts."""
    for block in read_blocks(path):
        assert block.language in LANGUAGES, f"{block.name}: {block.language!r} is none of {sorted(LANGUAGES)}"
        assert ">>>" not in block.text, f"{block.name}: Python with prompts is not run"
    assert path.read_text(encoding="utf-8").count("```python") == sum(block.path == path for block in PYTHON)
    assert not re.search(r"^\s*>>> ", prose(path), re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_exist(path: Path) -> None:
    text = prose(path)
    links = [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]
    for link in links:
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name}: no {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name}: no {link}"
    for name in PATH.findall(text):
        assert (ROOT / name).exists(), f"{path.name}: no {name}"


def anchors(path: Path) -> set[str]:
    """Names of a document's headings, as links write them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [name for name in fastrnn.__all__ if name != "__version__"])
def test_public_name_has_examples(name: str) -> None:
    documentation = getattr(fastrnn, name).__doc__
    assert documentation
    assert re.search(r"^ *Examples\n *-{8}\n", documentation, re.MULTILINE), f"{name}: no section Examples"


def test_readme_names_every_document() -> None:
    links = set(LINK.findall(prose(ROOT / "README.md")))
    assert {path.relative_to(ROOT).as_posix() for path in DOCUMENTS} - {"README.md"} <= links


def test_design_names_every_source() -> None:
    """The tree in docs/design.md is that of the repository."""
    words = set(re.split(r"[\s`]+", (ROOT / "docs/design.md").read_text(encoding="utf-8")))
    sources = [*ROOT.glob("csrc/**/*.*"), *ROOT.glob("fastrnn/*.py*"), *ROOT.glob("fastrnn/*/*.py")]
    assert {path.name for path in sources} <= words


FILES_OF_TESTS = sorted((ROOT / "tests").glob("*/test_*.py"))


def test_contributing_names_every_file_of_tests() -> None:
    words = set(re.findall(r"`([\w./]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert {path.name for path in FILES_OF_TESTS} <= words
    assert {f"tests/{path.parent.name}/" for path in FILES_OF_TESTS} <= words


def test_no_test_is_imported() -> None:
    """What tests share is in tests/support."""
    for path in [*FILES_OF_TESTS, *(ROOT / "tests/support").glob("*.py"), ROOT / "tests/soak.py"]:
        imported = re.findall(
            r"^ *(?:from|import) +((?:test_|conftest)\w*)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert not imported, f"{path.name} imports {', '.join(imported)}"


def test_commands_of_readme_are_run_by_ci() -> None:
    shell = [block.text for block in BLOCKS if block.path == ROOT / "README.md" and block.language == "sh"]
    assert shell[0].splitlines() == COMMANDS
    run, python = ((ROOT / ".ci" / name).read_text(encoding="utf-8").splitlines() for name in ("run", "python"))
    assert "for script in python native; do" in run
    for command in COMMANDS:
        assert f'bash -c "{command}"' in python, f".ci/python does not run: {command}"


def test_every_requirement_is_explained() -> None:
    """docs/dependencies.md has a row for each package that pyproject.toml asks for."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = metadata["project"]["optional-dependencies"].values()
    lists = [metadata["build-system"]["requires"], metadata["project"]["dependencies"], *extras]
    names = {re.split(r"[^\w-]", requirement)[0] for requirements in lists for requirement in requirements}
    rows = set(re.findall(r"^\| ([\w-]+) ", (ROOT / "docs/dependencies.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert names - {"fastrnn"} <= rows
