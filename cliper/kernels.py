"""Which code of the numeric libraries computes: the fastest for this CPU, or the same on every x86-64 with AVX2.

Libraries choose their kernels by the CPU's maker and its vector units, and kernels differ in the last bits of a sum;
over hundreds of steps that grows to other numbers in a table. Environment variables pin them, before numpy and torch
are loaded.
"""

from __future__ import annotations

import os
import sys

PORTABLE = {
    "MKL_CBWR": "COMPATIBLE",  # torch's small matrix products; other branches are not taken on CPUs of other makers
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # torch's convolutions, and its large products, see `products`
    "OPENBLAS_CORETYPE": "Haswell",  # numpy's matrix products
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # numpy's own kernels, by their names from 2.4 on
}


def are_pinned() -> bool:
    """Whether the environment asks for the portable kernels."""
    return all(os.environ.get(name) == value for name, value in PORTABLE.items())


def pin(kernels: str) -> None:
    """Set the environment for `portable` kernels; leave it for `fastest`. If numpy is loaded, start the command again.

    A config that names a class of a user's own loads numpy when it is read.
    """
    if kernels == "fastest" or are_pinned():
        return
    os.environ.update(PORTABLE)
    if "numpy" in sys.modules:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - this very command
