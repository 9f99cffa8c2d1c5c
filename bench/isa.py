"""Holds all peers to instructions that most machines have, on one that has more."""

from __future__ import annotations

import os
from collections.abc import Iterable

# Read by fastrnn, by oneDNN in PyTorch and OpenVINO, by PyTorch's own kernels, by MKL and by OpenBLAS.
HELD = {
    "avx2": {
        "FASTRNN_TARGET": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    }
}
MARCH = {"avx2": "haswell"}  # of the loops that measure the limits
FREE = "onnxruntime"  # it takes what the processor has, whatever it is told


def hold(isa: str, peers: Iterable[str]) -> dict[str, str]:
    """Set the environment of processes that begin from now on; peers that can't be held, and why."""
    os.environ |= HELD[isa]
    return {name: f"it can't be held to {isa}" for name in peers if name.startswith(FREE)}


def march() -> str:
    """The processor for which the loops are compiled."""
    return next((MARCH[isa] for isa, held in HELD.items() if held.items() <= os.environ.items()), "native")
