"""The device that numbers are computed on, its kernels, and their precision."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

import torch

from cliper import kernels, products
from cliper.errors import ConfigError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CLEARLY = (
    1.5  # times as fast: on CPUs without matrix units for bf16 it is slower than fp32, with them 4 to 9 times faster
)
PROBE_S = 1.0


def compute_with(*, threads: int, kernels_are: str) -> None:
    """Set the number of threads. Raises ConfigError if the config asks for portable kernels that cannot be had here."""
    torch.set_num_threads(threads)
    if kernels_are == "fastest":
        return
    if not kernels.are_pinned():
        raise ConfigError("kernels are portable, but torch was loaded before they were pinned; run: python -m cliper")
    if torch.backends.cpu.get_cpu_capability() != "AVX2" or not torch.backends.mkldnn.is_available():
        raise ConfigError("kernels are portable, which needs a CPU with AVX2, and torch for it; write kernels: fastest")
    products.take_over()


def describe_cpu() -> dict[str, str]:
    """Model, matrix library and kernels of this CPU, for the record."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    library = re.search(r"Math Kernel Library Version ([\d.]+)|OpenBLAS", torch.__config__.show())
    return {
        "cpu": models[0] if models else platform.machine(),
        "blas": library[0] if library else "unknown",
        "kernels": f"{torch.backends.cpu.get_cpu_capability()}, MKL_CBWR={os.environ.get('MKL_CBWR', 'unset')}",
    }


def choose_device(name: str, *, setting: str) -> torch.device:
    """Device of a name in the config: auto is cuda if there is a GPU.

    setting  where the config has the name

    Raises ConfigError for cuda if there is no GPU.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError(f"{setting} is cuda, but torch finds no GPU here; write auto or cpu")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def choose_precision(name: str, device: torch.device) -> str:
    """Precision of a name in the config: auto is half precision where that is clearly faster.

    Raises ConfigError for fp16 on a CPU.
    """
    if device.type == "cpu":
        if name == "fp16":
            raise ConfigError("encode.precision is fp16, which is for GPUs; write fp32, bf16 or auto")
        return name if name != "auto" else "bf16" if bf16_speedup() > CLEARLY else "fp32"
    return name if name != "auto" else "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def bf16_speedup() -> float:
    """Measure for about a second how many times faster this CPU multiplies matrices in bf16 than in fp32."""
    best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    began = time.perf_counter()
    while time.perf_counter() - began < PROBE_S or float("inf") in best.values():
        for dtype in best:
            batch, weights = torch.ones(512, 768, dtype=dtype), torch.ones(768, 3072, dtype=dtype)  # a layer of CLIP's
            start = time.perf_counter()
            batch @ weights
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]
