"""The losses the backbones share."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor


def bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Bayesian personalised ranking: -mean log σ(user · positive - user · negative).

    users, positives, negatives  (B, d) the rows of a batch of triples
    returns                      scalar
    """
    return -F.logsigmoid((users * (positives - negatives)).sum(dim=1)).mean()


def half_squared_norm(*rows: Tensor) -> Tensor:
    """Half the squared length of all rows of a batch, per triple: (½ Σ ‖·‖²) / B.

    rows     (B, d) each
    returns  scalar
    """
    return sum((part.square().sum() for part in rows), start=rows[0].new_zeros(())) / (2 * len(rows[0]))
