"""The k best items, ties by item index, in bounded memory: used for ranking and for kNN graphs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cliper.arrays import Ints
from cliper.models.maths.tables import Ranking

BLOCK = 2**22  # scores at a time at most, 16 MiB as float32
GROUP = 32  # columns at most that share one maximum
NO_ITEMS: Ints = np.empty(0, dtype=np.int64)


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k highest values of each row, highest first; ties go to the lower index.

    scores   (rows, columns) without NaN
    returns  values and their indices, (rows, min(k, columns)) both

    `torch.topk` leaves ties to chance, but every run must rank alike. The k-th highest maximum of groups of columns is
    a lower bound of the k-th highest value: only the few values that reach it are sorted.

    >>> top_k(torch.tensor([[1.0, 3.0, 3.0, 3.0]]), 2)[1]
    tensor([[1, 2]])
    """
    n_rows, n_columns = scores.shape
    width = min(GROUP, n_columns // (2 * k))
    if scores.is_cuda or width < 2:
        values, indices = scores.sort(dim=1, descending=True, stable=True)
        return values[:, :k], indices[:, :k]
    n_groups = n_columns // width
    dense = scores.numpy()
    maxima = dense[:, : width * n_groups].reshape(n_rows, width, n_groups).max(axis=1)
    floor = np.sort(maxima, axis=1)[:, -k:][:, :1]
    places = np.flatnonzero(dense >= floor)
    rows, columns = np.divmod(places, n_columns)
    starts = np.searchsorted(rows, np.arange(n_rows + 1))
    ranks, n_most = np.arange(len(rows)) - starts[rows], np.diff(starts).max(initial=k)
    candidates = np.full((n_rows, n_most), -np.inf, dtype=np.float32)
    candidates[rows, ranks] = dense[rows, columns]
    found = np.zeros((n_rows, n_most), dtype=np.int64)
    found[rows, ranks] = columns
    values, order = torch.from_numpy(candidates).sort(dim=1, descending=True, stable=True)
    return values[:, :k], torch.from_numpy(found).gather(1, order[:, :k])


def dot_products(users: Tensor, items: Tensor) -> Tensor:
    """Score every user (n, d) with every item (I, d): (n, I)."""
    return users @ items.T


def rank_items(
    users: Tensor,
    items: Tensor,
    *,
    train_users: Ints,
    train_items: Ints,
    k: int,
    left_out: Ints = NO_ITEMS,
    score: Callable[[Tensor, Tensor], Tensor] = dot_products,
) -> Ranking:
    """Rank the items for every user by score, without the items the user has in train and those left out.

    users, items              (U, d), (I, d) embeddings
    train_users, train_items  (n,) the interactions to leave out
    k                         length of the lists
    left_out                  (m,) items that are recommended to nobody
    score                     (n, d), (I, d) -> (n, I)
    """
    blocks = []
    # Few users at a time, so that their scores stay in the cache; fewer than d would cost more in reading the items.
    n_rows = max(1, min(BLOCK // items.shape[0], max(64, items.shape[1])))
    order = np.argsort(train_users, kind="stable")
    train_users, train_items = train_users[order], train_items[order]
    for start in range(0, users.shape[0], n_rows):
        scores = score(users[start : start + n_rows], items)
        inside = slice(*np.searchsorted(train_users, [start, start + n_rows]))
        scores[train_users[inside] - start, train_items[inside]] = -torch.inf
        scores[:, left_out] = -torch.inf
        best = top_k(scores, k)
        blocks.append([part.cpu().numpy() for part in best])
    values = np.concatenate([block[0] for block in blocks])
    indices = np.concatenate([block[1] for block in blocks])
    return Ranking(items=np.where(np.isneginf(values), -1, indices), scores=values)
