"""Pages of examples/gallery, run as they stand."""

from __future__ import annotations

import functools
import runpy
import sys
import warnings
from typing import Any

from support.environment import ROOT, package

GALLERY = ROOT / "examples" / "gallery"


@functools.cache
def run_page(name: str) -> dict[str, Any]:
    """The names that a page has defined, `plot_04_bptt` say. Its pictures are drawn, and not shown."""
    package("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    if str(GALLERY) not in sys.path:
        sys.path.insert(0, str(GALLERY))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive", UserWarning)  # of plt.show()
        try:
            return runpy.run_path(str(GALLERY / f"{name}.py"))
        finally:
            plt.close("all")
