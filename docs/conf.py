"""The site: Sphinx makes it of docs/, of docstrings, and of the pages in examples/gallery, which it runs.

CONTRIBUTING.md says how.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sphinx import addnodes
from sphinx.util.inspect import signature, stringify_signature

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "site"))  # for `mathml`

import fastrnn  # noqa: E402

project = "fastrnn"
author = "The fastrnn developers"
project_copyright = "The fastrnn developers, BSD 3-Clause"
version = release = fastrnn.__version__

extensions = [
    "mathml",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["**sg_execution_times.rst"]

# Markdown: as a code host shows it
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# Docstrings: `name` is a link where there is such a name
default_role = "autolink"
autodoc_typehints = "none"  # numpydoc's sections say them in words
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
add_module_names = False
nitpicky = True
suppress_warnings = ["ref.citation"]  # see plain_references

# The gallery
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "learn",
    "filename_pattern": "/plot_",
    "ignore_pattern": r"(__init__|shared)\.py",
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("fastrnn",),
    "reference_url": {"fastrnn": None},
    "abort_on_example_error": True,
    "download_all_examples": True,
    "remove_config_comments": True,
    "show_signature": False,
    "min_reported_time": 1,
}

# The look
html_theme = "pydata_sphinx_theme"
html_title = "fastrnn"
html_static_path = ["site/fastrnn.css"]
html_css_files = ["fastrnn.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "fastrnn"},
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


# Files outside docs/ that have pages here, as links name them, and these pages. Links to other files are downloads.
PAGES = {
    r"([A-Z_]+\.md)": r"site/\1",
    r"examples/gallery\)": "learn/index.rst)",
    r"examples/gallery/(plot_\w+)\.py\)": r"learn/\1.rst)",
}


def lead_to_pages(app: Any, name: str, source: list[str]) -> None:
    """Let links to files that have pages lead to these."""
    for file, page in PAGES.items():
        source[0] = re.sub(rf"\]\(\.\./{file}", f"]({page}", source[0])


def show_titles(app: Any, document: Any) -> None:
    """Let links that show a file's name, for readers of the file, show the title of the page."""
    for link in document.findall(addnodes.pending_xref):
        if link.get("refdomain") == "doc" and link.astext().endswith(".md"):
            link["refexplicit"] = False


def plain_references(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Leave [1]_ in functions of the reference as it is, [1]: the list is that of their module."""
    if what == "function" and name.startswith("fastrnn.reference."):
        lines[:] = [re.sub(r"(\[\d+\])_", r"\1", line) for line in lines]


def signature_of_params(app: Any, what: str, name: str, thing: Any, *others: Any) -> tuple[str, str] | None:
    """Take the signature of params from their __init__, where autodoc would take that of __new__."""
    if what != "class" or not issubclass(thing, fastrnn.Params):
        return None
    return stringify_signature(signature(thing), show_annotation=False, show_return_annotation=False), ""


def find_anywhere(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Look for a name in other modules than that of the docstring it is in: `RNNParams` in fastrnn.torch."""
    if node.get("refdomain") != "py":
        return None
    node["refspecific"] = True
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], node["reftarget"], node, text
    )


def setup(app: Any) -> None:
    app.connect("missing-reference", find_anywhere)
    app.connect("source-read", lead_to_pages)
    app.connect("doctree-read", show_titles)
    app.connect("autodoc-process-docstring", plain_references)
    app.connect("autodoc-process-signature", signature_of_params)
