"""Matrix products of torch by oneDNN, in place of MKL's.

oneDNN writes its machine code by the vector units that it may use, not by the maker of the CPU. So its products are the
same bits wherever `kernels` pins those, two to three times faster than the branch of MKL that is the same everywhere.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

SMALL = 2**18  # multiplications; below, and for a narrow matrix, MKL takes no longer
NARROW = 8


@cache
def take_over() -> torch.library.Library:
    """Let torch compute its products here from now on. They stay as long as what is returned."""
    taken = torch.library.Library("aten", "IMPL")
    taken.impl("mm", _mm, "CPU", allow_override=True)
    taken.impl("mm.out", _mm_out, "CPU", allow_override=True)
    taken.impl("addmm", _addmm, "CPU", allow_override=True)
    return taken


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return _times(a, b) if _is_large(a, b) else torch.bmm(a[None], b[None])[0]


def _mm_out(a: Tensor, b: Tensor, *, out: Tensor) -> Tensor:
    return out.copy_(_mm(a, b))


def _addmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if _is_large(a, b) and beta == alpha == 1:
        return _times(a, b).add_(c)
    return torch.baddbmm(c, a[None], b[None], beta=beta, alpha=alpha)[0]


def _is_large(a: Tensor, b: Tensor) -> bool:
    (m, k), n = a.shape, b.shape[1]
    return a.dtype == torch.float32 and min(m, k, n) >= NARROW and m * k * n >= SMALL


def _times(a: Tensor, b: Tensor) -> Tensor:
    """ab for a (m, k), b (k, n). Of a transposed matrix, the larger is not copied."""
    if not a.is_contiguous() and a.numel() > b.numel():
        return _linear(b.T.contiguous(), a).T
    return _linear(a.contiguous(), b.T)


def _linear(rows: Tensor, weight: Tensor) -> Tensor:
    is_dense = weight.is_contiguous() or weight.T.is_contiguous()  # else oneDNN takes a thousand times as long
    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        rows, weight if is_dense else weight.contiguous(), None, "none", [], ""
    )
    return product
