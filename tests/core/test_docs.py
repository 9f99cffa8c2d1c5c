"""The documents: their Python runs, their links lead somewhere, and what they name is there.

A block of Python is a test, run after the blocks above it in the same section and in the same namespace: each section
can be pasted on its own. Where it prints ``print(...)  # expected``, the comments are compared with the output. A block
that imports a package which is not installed is skipped, and so is one that uses what such a block would have defined.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fastrnn
from support.documents import BLOCKS, DOCUMENTS, PYTHON, Block, imports, prose, read_blocks, section_of
from support.environment import ROOT, expected_packages

COMMANDS = ["pip install . && python examples/char_lm/generate.py", "pip install '.[test]' && pytest -n 2"]

# What may follow the opening fence of a block. Python under any other name would not be run.
LANGUAGES = {"python", "sh", "c", "text"}

LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
PATH = re.compile(r"`((?:csrc|fastrnn|tests|docs|examples)/[\w./-]+\.\w+)`")
EXPECTED = re.compile(r"print\(.*\)  # (.*)")


def run(block: Block, namespace: dict[str, Any]) -> None:
    code = compile("\n" * (block.line - 1) + block.text, str(block.path), "exec")  # lines of tracebacks are the file's
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(code, namespace)
    expected = [match[1] for match in map(EXPECTED.fullmatch, block.text.splitlines()) if match]
    assert not expected or output.getvalue().splitlines() == expected


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
def run_until(block: Block) -> tuple[dict[str, Any], dict[str, str]]:
    """The namespace after a block and those above it in its section, and names that are absent, with the reasons.

    Each block is run once.
    """
    namespace, absent = before(block)
    if why := skipped(block, absent):
        return namespace, absent | dict.fromkeys(defined(block) - {*namespace}, why)
    run(block, namespace)
    return namespace, {name: why for name, why in absent.items() if name not in namespace}


def before(block: Block) -> tuple[dict[str, Any], dict[str, str]]:
    """What `run_until` has after the block above, or at the beginning of the section."""
    above = [other for other in section_of(block) if other.line < block.line]
    return run_until(above[-1]) if above else ({"__name__": block.path.stem}, {})


def skipped(block: Block, absent: dict[str, str]) -> str:
    """Why a block is not run; nothing if it is."""
    missing = missing_packages(block)
    needed = [absent[name] for name in sorted(used(block) - defined(block)) if name in absent]
    return f"{', '.join(missing)} not installed" if missing else "".join(needed[:1])


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_python_runs(block: Block) -> None:
    _, absent = before(block)
    if why := skipped(block, absent):
        pytest.skip(why)
    run_until(block)


def test_a_section_sees_no_other(tmp_path: Path) -> None:
    """A block has the names of the blocks above it in its section, and of no others."""
    path = tmp_path / "made.md"
    path.write_text("# T\n```python\na = 1\n```\n## S\n```python\nb = 2\n```\n### s\n```python\nb, a\n```\n")
    blocks = read_blocks(path)
    assert [block.section for block in blocks] == [0, 5, 5]
    assert [section_of(block, blocks) for block in blocks] == [blocks[:1], blocks[1:], blocks[1:]]
    namespace: dict[str, Any] = {}
    run(blocks[1], namespace)
    with pytest.raises(NameError, match="'a'"):
        run(blocks[2], namespace)


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


def test_citation_has_the_version() -> None:
    assert f"\nversion: {fastrnn.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


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
