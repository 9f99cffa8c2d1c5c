"""Fails unless each wheel holds the package alone, is small, and brings no library of anyone else's.

check_wheel.py WHEEL... [--glibc 2.17] also reads the extension of a wheel for Linux (with pyelftools): it may need the
C library alone, in no newer version than this one, and exports one name.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path
from zipfile import ZipFile

WANTED = [
    f"fastrnn/{name}"
    for name in ("py.typed", "_core.pyi", "reference/__init__.py", "torch/__init__.py", "onnx/__init__.py")
]
SYSTEM = re.compile(r"lib(c|m|pthread)\.so\.[06]|ld-linux-(x86-64|aarch64)\.so\.[12]")


def problems_of_contents(names: list[str], size: int) -> list[str]:
    found = {
        "sources": [name for name in names if name.endswith((".c", ".h", ".pyx", ".pxi", ".pxd", ".o", ".def"))],
        # What auditwheel, delocate and delvewheel copy in lies in fastrnn.libs or fastrnn/.dylibs.
        "not the package's": [name for name in names if not re.match(r"fastrnn[/-](?!\.)", name)],
        "missing": [name for name in WANTED if name not in names],
        "extensions": [] if len(extensions(names)) == 1 else extensions(names) or ["none"],
        "bytes": [str(size)] if size > 2.5e6 else [],
    }
    return [f"{what}: {', '.join(values)}" for what, values in found.items() if values]


def extensions(names: list[str]) -> list[str]:
    return [name for name in names if name.endswith((".so", ".pyd", ".dll", ".dylib"))]


def problems_of_elf(binary: bytes, glibc: tuple[int, ...]) -> list[str]:
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(io.BytesIO(binary))
    dynamic = list(elf.get_section_by_name(".dynamic").iter_tags())
    needed = [tag.needed for tag in dynamic if tag.entry.d_tag == "DT_NEEDED"]
    versions = [
        version.name
        for _, auxiliaries in elf.get_section_by_name(".gnu.version_r").iter_versions()
        for version in auxiliaries
    ]
    exported = [
        symbol.name
        for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
    ]
    newest = max(version_number(version) for version in versions)
    print(f"  {elf.get_machine_arch()}: needs {', '.join(needed)}, glibc {'.'.join(map(str, newest))}")
    found = {
        "libraries": [name for name in needed if not SYSTEM.fullmatch(name)],
        "versions": [name for name in versions if version_number(name) > glibc],
        "run-time paths": [tag.entry.d_tag for tag in dynamic if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH")],
        "exports": [name for name in exported if name != "PyInit__core"],
        "executable stack": [
            part["p_type"] for part in elf.iter_segments() if part["p_type"] == "PT_GNU_STACK" and part["p_flags"] & 1
        ],
    }
    return [f"{what}: {', '.join(values)}" for what, values in found.items() if values]


def version_number(name: str) -> tuple[int, ...]:
    """(2, 17) of GLIBC_2.17; what is no version of glibc is newer than any."""
    match = re.fullmatch(r"GLIBC_([\d.]+)", name)
    return tuple(map(int, match[1].split("."))) if match else (sys.maxsize,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--glibc", type=lambda text: version_number(f"GLIBC_{text}"), help="the newest that is allowed")
    options = parser.parse_args()
    failures = []
    for path in options.wheels:
        with ZipFile(path) as wheel:
            names = wheel.namelist()
            problems = problems_of_contents(names, path.stat().st_size)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {len(names)} files")
            if options.glibc and re.search(r"-(many)?linux", path.name):
                for name in extensions(names):
                    problems += problems_of_elf(wheel.read(name), options.glibc)
        failures += [f"{path.name}: {problem}" for problem in problems]
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
