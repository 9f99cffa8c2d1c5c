"""Builds the one extension; the only place with compiler flags. Metadata is in pyproject.toml.

FASTRNN_SANITIZE=address,undefined builds with these sanitizers, with assertions and without optimisation for release.
FASTRNN_WERROR=1 makes warnings errors.
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from platform import machine
from sysconfig import get_platform

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PLATFORM = get_platform()  # that of the Python that is built for: a cross build changes it
if "universal2" in PLATFORM:
    PLATFORM = f"macosx-{machine()}"
X86 = PLATFORM.endswith(("x86_64", "amd64"))
ARM64 = PLATFORM.endswith(("aarch64", "arm64"))
SANITIZE = os.environ.get("FASTRNN_SANITIZE", "")

# Bits are promised: products and sums are fused only where the text says so.
EXACT = ["-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
WARNINGS = ["-Wall", "-Wextra", *(["-Werror"] if os.environ.get("FASTRNN_WERROR") else [])]
RELEASE = ["-O2", "-DNDEBUG", "-g0"]
MODE = [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-O1", "-g", "-UNDEBUG"] if SANITIZE else RELEASE
TARGETS = {"scalar": []}
if X86:
    TARGETS["avx2"] = ["-mavx2", "-mfma"]
    TARGETS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"]
if ARM64:
    TARGETS["neon"] = []
SOURCES = ["cpu", "explain", "target", "pack", "plan", "run", "strand", "stream", "threads"]


class BuildExtension(build_ext):
    """Compiles every target and element type with flags of its own, beside the sources that need none."""

    def build_extension(self, ext: Extension) -> None:
        jobs = [(f"csrc/targets/{target}.c", bits, flags) for target, flags in TARGETS.items() for bits in (32, 64)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda job: self.compile_target(*job), jobs))
        ext.extra_objects = objects
        super().build_extension(ext)

    def compile_target(self, source: str, bits: int, flags: list[str]) -> str:
        (built,) = self.compiler.compile(
            [source],
            output_dir=os.path.join(self.build_temp, str(bits)),
            macros=[("FRNN_BITS", str(bits))],
            extra_postargs=[*EXACT, *WARNINGS, *MODE, *flags],
        )
        return built


def version() -> str:
    """The one literal of the version."""
    with open("fastrnn/config.py", encoding="utf-8") as file:
        return re.search(r'^__version__ = "(.+)"$', file.read(), re.MULTILINE)[1]


extension = Extension(
    "fastrnn._core",
    ["fastrnn/_core.pyx", *(f"csrc/{name}.c" for name in SOURCES)],
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_26_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION")],
    extra_compile_args=[*EXACT, *WARNINGS, *MODE, "-pthread"],
    extra_link_args=["-pthread", *([f"-fsanitize={SANITIZE}"] if SANITIZE else [])],
    depends=[path for path in glob("csrc/**/*", recursive=True) if os.path.isfile(path)],
)

setup(
    version=version(),
    ext_modules=cythonize([extension], build_dir="build/cython"),
    cmdclass={"build_ext": BuildExtension},
)
