"""Fails unless a wheel holds the package alone, and is small."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZipFile

path = Path(sys.argv[1])
names = ZipFile(path).namelist()
sources = [name for name in names if name.endswith((".c", ".h", ".pyx", ".o", ".def"))]
others = [name for name in names if not name.startswith(("fastrnn/", "fastrnn-"))]
wanted = ["fastrnn/py.typed", "fastrnn/_core.pyi", "fastrnn/reference.py"]
missing = [name for name in wanted if name not in names]
print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {len(names)} files")
if sources or others or missing or path.stat().st_size > 1e6:
    sys.exit(f"sources: {sources}, outside the package: {others}, missing: {missing}")
