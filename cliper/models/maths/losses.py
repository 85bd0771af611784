"""The losses the backbones share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor

SIGMOID_FLOOR = 1e-10  # MMRec's


def bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Bayesian personalised ranking: -mean log σ(user · positive - user · negative).

    users, positives, negatives  (B, d) the rows of a batch of triples
    returns                      scalar
    """
    return -F.logsigmoid((users * (positives - negatives)).sum(dim=1)).mean()


def half_squared_norm(*rows: Tensor) -> Tensor:
    """Half the squared length of all rows of a batch, per triple: (½ Σ ‖·‖²) / B.

    rows     (B, d) each
    returns  scalar, 0 if there are no rows

    Source: BPR and LightGCN, the L2 term without its weight.
    """
    if not rows:
        return torch.zeros(())
    return sum((part.square().sum() for part in rows), start=rows[0].new_zeros(())) / (2 * len(rows[0]))


def floored_bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """BPR as MMRec computes it: -mean log(1e-10 + σ(·)), which gives up on margins below -23.

    users, positives, negatives  (B, d) the rows of a batch of triples
    returns                      scalar
    """
    return -(SIGMOID_FLOOR + (users * (positives - negatives)).sum(dim=1).sigmoid()).log().mean()


def norm_sum(*rows: Tensor) -> Tensor:
    """Lengths of the matrices of a batch, per triple, as MMRec regularises: Σ ‖·‖ / B, not squared.

    rows     (B, d) each
    returns  scalar, 0 if there are no rows
    """
    if not rows:
        return torch.zeros(())
    return sum((part.norm() for part in rows), start=rows[0].new_zeros(())) / len(rows[0])


def info_nce(rows: Tensor, matches: Tensor, *, temperature: float) -> Tensor:
    """Find each row's match among those of the whole batch: cross entropy of dot products over the temperature.

    rows, matches  (B, d) row b matches row b; all others are negatives, also where they are the same item
    returns        scalar
    """
    loss: Tensor = _InfoNce.apply(rows, matches, temperature)
    return loss


class _InfoNce(torch.autograd.Function):
    """One B x B matrix for products and probabilities, where `cross_entropy` makes five."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matches: Tensor, temperature: float) -> Tensor:
        products = (rows / temperature) @ matches.T
        own, highest = products.diagonal().clone(), products.amax(dim=1)
        probabilities = torch.softmax(products, dim=1, out=products)
        ctx.save_for_backward(rows, matches, probabilities)
        ctx.temperature = temperature
        return (highest - probabilities.amax(dim=1).log() - own).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, matches, probabilities = ctx.saved_tensors
        scale = gradient / (ctx.temperature * len(rows))
        of_rows = probabilities @ matches - matches
        of_matches = (rows.T @ probabilities).T - rows  # half the time of probabilities.T @ rows
        return scale * of_rows, scale * of_matches, None


# By behaviour.
BPR_LOSSES = {"as_published": bpr, "as_mmrec": floored_bpr}
L2_TERMS = {"as_published": half_squared_norm, "as_mmrec": norm_sum}
