"""The closest rows of each row: items by their features, users by the items they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor

from cliper import log
from cliper.arrays import Bools, Ints, Vectors, bring_near_one
from cliper.models.maths.ranking import BLOCK, top_k
from cliper.models.maths.tables import Neighbours


@torch.no_grad()
def nearest_rows(
    x: Tensor, k: int, *, show: Callable[[tuple[Tensor, ...]], Iterable[Tensor]] = iter
) -> tuple[Tensor, Tensor]:
    """Find for each row of x (n, d) the k rows of highest product, itself among them.

    show     passes the blocks on
    returns  the products and the rows' indices, (n, min(k, n)) both, highest first; ties go to the lower index

    Works in blocks, never on n x n values.
    """
    # Equal rows must tie, whatever kernel computes their products: each distinct one is multiplied once.
    distinct, place = torch.unique(x, dim=0, return_inverse=True)
    has_equal = len(distinct) < len(x)
    n_rows = max(1, BLOCK // max(1, len(x)))
    blocks = [top_k((block @ distinct.T)[:, place] if has_equal else block @ x.T, k) for block in show(x.split(n_rows))]
    products, nearest = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return products, nearest


def nearest_items(features: Vectors, is_left_out: Bools, k: int) -> Neighbours:
    """Find the k items of highest cosine for each item, itself among them.

    features     (I, D) raw, any length
    is_left_out  (I,)   has no neighbours and is none; so do rows of zeros
    returns      (I, k)

    Ties go to the lower item index. Where fewer than k items are usable, lists end early. Works in blocks, never on
    I x I values. Source: FREEDOM's and LATTICE's code. Departs from it: a row of zeros has no neighbours (there NaN).
    """
    usable = np.flatnonzero(~is_left_out & features.any(axis=1))
    index = np.full((len(features), k), -1)
    value = np.zeros((len(features), k), dtype=np.float32)
    scaled, _ = bring_near_one(features[usable].astype(np.float32))
    rows = F.normalize(torch.from_numpy(scaled))
    products, nearest = nearest_rows(rows, k, show=partial(log.progress, what="blocks of items"))
    index[usable, : nearest.shape[1]] = usable[nearest.numpy()]
    value[usable, : nearest.shape[1]] = products.numpy()
    return Neighbours(index, value)


def sharing_users(users: Ints, items: Ints, *, n_users: int, k: int) -> Neighbours:
    """Find for each user the k others who share most items.

    users, items  (n,) the train interactions
    returns       (n_users, k), closeness the number of shared items

    Ties go to the lower user index; users who share nothing are none. A sparse product, so nothing is U x U.
    Source: DualGNN's code. Departs from it: nothing but the order of ties.
    """
    bought = scipy.sparse.csr_array((np.ones(len(users), np.float32), (users, items)), shape=(n_users, items.max() + 1))
    index, value = np.full((n_users, k), -1), np.zeros((n_users, k), dtype=np.float32)
    n_rows = 4096  # users at a time: the product of Clothing's 39,387 holds 14 million pairs
    for start in log.progress(range(0, n_users, n_rows), what="blocks of users"):
        shared = (bought[start : start + n_rows] @ bought.T).tocoo()
        is_other = shared.row + start != shared.col
        row, column, count = (part[is_other].astype(np.int64) for part in (shared.row, shared.col, shared.data))
        # One number to sort by: row, then highest count, then lowest column.
        top = count.max(initial=0)
        order = np.sort((row * (top + 1) + top - count) * n_users + column)
        n_of_row = np.bincount(row)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(n_of_row) - n_of_row, n_of_row)
        place, column = np.divmod(order[rank < k], n_users)
        row, below_top = np.divmod(place, top + 1)
        rank = rank[rank < k]
        index[row + start, rank] = column
        value[row + start, rank] = top - below_top
    return Neighbours(index, value)
