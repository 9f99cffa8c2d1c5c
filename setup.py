"""Builds the one extension. Metadata is in pyproject.toml; flags that results depend on are in csrc/targets.mk.

CC names the compiler: gcc or clang; on Windows one that builds for MinGW-w64, the first of these on the PATH.
FASTRNN_SANITIZE=address,undefined, or thread, builds with these sanitizers and with assertions, for the targets of this
processor alone: a target that it can't run is scalar by another name.
FASTRNN_WERROR=1 makes warnings errors.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from platform import machine
from sysconfig import get_platform

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError
from setuptools.modified import newer_group

CYTHON = Path("build/cython")  # for what Cython writes and reads
SANITIZE = os.environ.get("FASTRNN_SANITIZE", "")

with open("csrc/targets.mk", encoding="utf-8") as file:
    FLAGS = {name: flags.split() for name, flags in re.findall(r"^(\w+) =(.*)$", file.read(), re.MULTILINE)}
EXACT = ["-std=c11", *FLAGS["exact"], "-fvisibility=hidden"]
WARNINGS = ["-Wall", "-Wextra", *(["-Werror"] if os.environ.get("FASTRNN_WERROR") else [])]
SANITIZERS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
# Kernels compile in minutes under sanitizers, and run for minutes under ThreadSanitizer at -O1. Their text is the same
# for every target: only scalar's is built for UndefinedBehaviorSanitizer.
SIMD = ["-fno-sanitize=undefined"] if SANITIZE else []
LEVEL = "-O1" if "address" in SANITIZE else "-O2"
MODE = [*SANITIZERS, "-fno-sanitize-recover=all", LEVEL, "-g", "-UNDEBUG"] if SANITIZE else ["-O2", "-DNDEBUG", "-g0"]
SOURCES = sorted(glob("csrc/*.c"))
OWN = ["setup.py", *glob("fastrnn/*.px[di]"), *filter(os.path.isfile, glob("csrc/**/*", recursive=True))]
BITS = (32, 64)

# What functional.py documents.
FUNCTION = """
def {1}(x, params, state=None, *, lengths=None, resets=None, batch_first=None, return_sequences=True, out=None,
        threads=None, **unexpected):
    if unexpected:
        _keywords.fail_call("{1}", unexpected)
    return run(<frnn_cell>{0}, x, params, state, lengths, resets, batch_first, return_sequences, out, threads)
"""

# The threads of MinGW-w64 go into the extension, so that it needs no DLL but Python's and the system's.
WINDOWS_LINK = ["-static-libgcc", "-Wl,-Bstatic", "-lwinpthread", "-Wl,-Bdynamic"]


class BuildExtension(build_ext):
    """Compiles every target and element type with flags of its own, beside the sources that need none."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if sys.platform == "win32":
            self.compiler = choose_windows_compiler(self.compiler)

    def build_extension(self, ext: Extension) -> None:
        """Compile and link, unless what is there was made of the same text in the same way."""
        defined = ask_compiler(self.compiler.compiler_so)
        settings = [*self.compiler.compiler_so, defined["__VERSION__"], *MODE, *WARNINGS, numpy.__version__]
        write(CYTHON / "settings.txt", "\n".join(settings))
        made_of = [*ext.sources, *OWN, CYTHON / "settings.txt"]
        if not (self.force or newer_group(made_of, self.get_ext_fullpath(ext.name))):
            return
        windows = "_WIN32" in defined
        more = [*SIMD, *(FLAGS["windows_gcc"] if windows and "__clang__" not in defined else [])]
        if "address" in SANITIZE and "__clang__" not in defined:
            more += ["--param=asan-instrumentation-with-call-threshold=0"]  # calls: a third of the time to compile
        targets = [target for name in FLAGS.keys() & defined for target in FLAGS[name]]
        unusable = self.unusable(targets, defined) if SANITIZE else []
        jobs = [
            (f"csrc/targets/{target}.c", bits, [*FLAGS[target], *(more if target != "scalar" else [])])
            for target in [*targets, "scalar"]
            for bits in BITS
            if target not in unusable
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda job: self.compile_target(*job), jobs))
        ext.extra_objects = objects
        ext.extra_link_args = [*(WINDOWS_LINK if windows else ["-pthread"]), *SANITIZERS]
        ext.extra_link_args += [f"-Wl,--defsym=frnn_{name}_{n}=frnn_scalar_{n}" for name in unusable for n in BITS]
        if windows:
            ext.define_macros.append(("MS_WIN64", ""))  # which Python's headers define for Microsoft's compiler alone
        super().build_extension(ext)

    def unusable(self, targets: list[str], defined: dict[str, str]) -> list[str]:
        """Those whose flags define what the flags for this processor do not."""
        known = defined.keys() | ask_compiler([*self.compiler.compiler_so, "-march=native"]).keys()
        return [name for name in targets if ask_compiler([*self.compiler.compiler_so, *FLAGS[name]]).keys() - known]

    def compile_target(self, source: str, bits: int, flags: list[str]) -> str:
        (built,) = self.compiler.compile(
            [source],
            output_dir=os.path.join(self.build_temp, str(bits)),
            macros=[("FRNN_BITS", str(bits))],
            extra_postargs=[*EXACT, *WARNINGS, *MODE, *flags],
        )
        return built


def choose_windows_compiler(chosen: str | None) -> str:
    """The name that setuptools has for compilers of MinGW-w64, whatever else is installed; CC is the command."""
    if chosen not in (None, "mingw32"):
        raise PlatformError(f"--compiler: expected mingw32, got {chosen}: kernels need gcc or clang")
    if "CC" not in os.environ:
        found = [command for command in ("gcc", "clang") if shutil.which(command)]
        if not found:
            raise PlatformError("no C compiler found: put gcc or clang of MinGW-w64 on the PATH, or name it with CC")
        os.environ["CC"] = found[0]
    return "mingw32"


def ask_compiler(command: list[str]) -> dict[str, str]:
    """What a compiler defines, for the processor and system that it builds for; csrc/require.h says what is refused."""
    ask = [*command, *EXACT, "-include", "csrc/require.h", "-dM", "-E", "-x", "c", "-"]
    try:
        answer = subprocess.run(ask, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise PlatformError(f"no C compiler found: install gcc or clang, or name it with CC ({error})") from None
    defined = dict(re.findall(r"^#define (\w+) ?(.*)$", answer.stdout, re.MULTILINE))
    if answer.returncode or "__GNUC__" not in defined:
        reasons = re.findall(r'error: (?:#error )?"?(.*?)"?$', answer.stderr, re.MULTILINE) or ["it is no gcc or clang"]
        raise PlatformError(f"{command[0]} cannot build fastrnn: {reasons[0]}")
    if defined["__SIZEOF_POINTER__"] != "8":
        raise PlatformError("fastrnn needs a 64-bit processor: what it promises of bits is not tested on 32-bit ones")
    return defined


def version() -> str:
    """The one literal of the version."""
    with open("fastrnn/config.py", encoding="utf-8") as file:
        return re.search(r'^__version__ = "(.+)"$', file.read(), re.MULTILINE)[1]


if "universal2" in get_platform():  # a Python for two processors: the extension is for the one that it is built on
    os.environ.setdefault("ARCHFLAGS", f"-arch {machine()}")


def write_functions(path: Path) -> None:
    """Write the binding's function of each cell: one a row of csrc/cells.def, so that its errors bear its name."""
    with open("csrc/cells.def", encoding="utf-8") as file:
        names = re.findall(r"^FRNN_CELL\(\w+, (\w+),", file.read(), re.MULTILINE)
    write(path, "".join(FUNCTION.format(*row) for row in enumerate(names)))


def translate(extension: Extension) -> Extension:
    """The extension with C in the place of Cython.

    What Cython writes is new in each environment that pip makes for a build, since it names that environment's files.
    Without these names its text is new where it says something else.
    """
    (translated,) = cythonize([extension], build_dir=str(CYTHON), include_path=[str(CYTHON)])
    written, named = Path(translated.sources[0]), CYTHON / "_core.c"
    text = written.read_text(encoding="utf-8")
    write(named, re.sub(r"/\* BEGIN: Cython Metadata.*?END: Cython Metadata \*/", "", text, count=1, flags=re.DOTALL))
    translated.sources[0] = str(named)
    return translated


def write(path: Path, text: str) -> None:
    """Write a file whose text is another one: what is made of it is made anew."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


extension = Extension(
    "fastrnn._core",
    ["fastrnn/_core.pyx", *SOURCES],
    include_dirs=["csrc", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_26_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION")],
    extra_compile_args=[*EXACT, *WARNINGS, *MODE, "-pthread"],
    depends=OWN,
)

write_functions(CYTHON / "_core_functions.pxi")
setup(
    version=version(),
    ext_modules=[translate(extension)],
    cmdclass={"build_ext": BuildExtension},
)
