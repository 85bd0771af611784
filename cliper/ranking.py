"""The k best items, ties by item index, in bounded memory: used for ranking and for kNN graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLOCK = 2**22  # scores at a time, 16 MiB as float32; larger blocks were slower (2**25 by half)


class Ranking(NamedTuple):
    """Best items of every user, best first; -1 where a user has no item left."""

    items: npt.NDArray[np.int64]  # (U, K)
    scores: npt.NDArray[np.float32]  # (U, K); -inf where there is no item


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k highest values of each row, highest first; ties go to the lower index.

    scores   (rows, columns)
    returns  values and their indices, (rows, min(k, columns)) both

    `torch.topk` alone leaves ties to chance, and the same ranking must come out of every run.

    >>> top_k(torch.tensor([[1.0, 3.0, 3.0, 3.0]]), 2)[1]
    tensor([[1, 2]])
    """
    values, indices = torch.topk(scores, min(k, scores.shape[1]))
    last = values[:, -1:]
    is_cut_in_tie = (scores == last).sum(dim=1) > (values == last).sum(dim=1)
    best_first = scores[is_cut_in_tie].sort(dim=1, descending=True, stable=True).indices
    indices[is_cut_in_tie] = best_first[:, : indices.shape[1]]
    indices = indices.sort(dim=1).values
    values, order = scores.gather(1, indices).sort(dim=1, descending=True, stable=True)
    return values, indices.gather(1, order)


def dot_products(users: Tensor, items: Tensor) -> Tensor:
    """Score every user (n, d) with every item (I, d): (n, I)."""
    return users @ items.T


def rank_items(
    users: Tensor,
    items: Tensor,
    *,
    train_users: npt.NDArray[np.int64],
    train_items: npt.NDArray[np.int64],
    k: int,
    score: Callable[[Tensor, Tensor], Tensor] = dot_products,
) -> Ranking:
    """Rank all items for every user by score, without the items the user has in train.

    users, items              (U, d), (I, d) embeddings
    train_users, train_items  (n,) the interactions to leave out
    k                         length of the lists
    score                     (n, d), (I, d) -> (n, I)
    """
    blocks = []
    n_rows = max(1, BLOCK // items.shape[0])
    for start in range(0, users.shape[0], n_rows):
        scores = score(users[start : start + n_rows], items)
        inside = (train_users >= start) & (train_users < start + n_rows)
        scores[train_users[inside] - start, train_items[inside]] = -torch.inf
        best = top_k(scores, k)
        blocks.append([part.cpu().numpy() for part in best])
    values = np.concatenate([block[0] for block in blocks])
    indices = np.concatenate([block[1] for block in blocks])
    return Ranking(items=np.where(np.isneginf(values), -1, indices), scores=values)
