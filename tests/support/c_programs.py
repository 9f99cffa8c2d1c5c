"""Programs in C with the library in them: sanitizers and assertions in all but the kernels, which are scalar alone."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.environment import GLIBC_ALONE, ROOT, c_compiler

CSRC = ROOT / "csrc"
BITS = (32, 64)


class Library:
    """The objects of the library, compiled in a folder. A test that can't have them is skipped."""

    def __init__(self, folder: Path) -> None:
        if not GLIBC_ALONE or not CSRC.exists():
            pytest.skip("needs the C sources, Linux with glibc, and nothing that is preloaded")
        self.common = [c_compiler(), "-std=c11", "-O1", "-ffp-contract=off", f"-I{CSRC}"]
        self.sanitized = [*self.common, "-g", "-Wall", "-Wextra", "-fsanitize=address,undefined"]
        self.sanitized += ["-fno-sanitize-recover=all"]
        kernel = ["-c", str(CSRC / "targets" / "scalar.c")]
        jobs = [[*self.common, f"-DFRNN_BITS={bits}", *kernel, "-o", f"kernel{bits}.o"] for bits in BITS]
        jobs += [[*self.sanitized, "-c", str(path)] for path in sorted(CSRC.glob("*.c"))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            built = list(pool.map(lambda job: subprocess.run(job, cwd=folder, capture_output=True, text=True), jobs))
        assert not any(result.returncode for result in built), "".join(result.stderr for result in built)
        self.objects = [*folder.glob("*.o")]

    def program(self, source: Path, to: Path, *link: str) -> Path:
        """The program of a source; its kernels of other targets are those of scalar."""
        others = [(name, bits) for name in ("avx512", "avx2", "neon") for bits in BITS]
        kernels = [f"-Wl,--defsym=frnn_{name}_{bits}=frnn_scalar_{bits}" for name, bits in others]
        command = [*self.sanitized, source, *self.objects, *kernels, *link, "-o", to, "-lm", "-pthread"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return to
