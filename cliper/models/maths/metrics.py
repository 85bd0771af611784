"""Ranking metrics of each user: Recall, NDCG, precision and average precision at k.

All take the hits of users who have at least one relevant item; their mean over those users is the metric.
Source: paper, section 4, "Evaluation Metrics"; it gives no formulas, these are those of MMRec, which it follows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cliper.arrays import Bools, Floats, Ints


def find_hits(ranking: Ints, users: Ints, items: Ints) -> Bools:
    """Say which ranked items are relevant.

    ranking       (U, K) items, best first; -1 where a user's list ends early
    users, items  (n,) the relevant pairs
    returns       (U, K)

    >>> find_hits(np.array([[3, 1], [2, -1]]), np.array([0, 0]), np.array([1, 3]))
    array([[ True,  True],
           [False, False]])
    """
    pairs, ranks = np.nonzero(ranking[users] == items[:, None])
    hits = np.zeros(ranking.shape, dtype=np.bool_)
    hits[users[pairs], ranks] = True
    return hits


def hits_by_user(ranking: Ints, users: Ints, items: Ints) -> tuple[Ints, Ints, Bools]:
    """Who has relevant items (n,), how many (n,), and which ranks of their lists hold one (n, K).

    Arguments as `find_hits` has them.
    """
    known, n_relevant = np.unique(users, return_counts=True)
    return known, n_relevant, find_hits(ranking, users, items)[known]


def recall(hits: Bools, n_relevant: Ints, k: int) -> Floats:
    """Share of a user's relevant items among the first k; the divisor is n_relevant also where it exceeds k.

    hits        (n, K) which ranks hold a relevant item, as for all functions below
    n_relevant  (n,)   number of the user's relevant items, at least 1
    returns     (n,)
    """
    shares: Floats = hits[:, :k].sum(axis=1) / n_relevant
    return shares


def ndcg(hits: Bools, n_relevant: Ints, k: int) -> Floats:
    """Gain of the first k, discounted by log2(rank + 1), over that of the best possible list of k."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(n_relevant, k) - 1]
    shares: Floats = hits[:, :k] @ discounts[: hits.shape[1]] / ideal
    return shares


def precision(hits: Bools, n_relevant: Ints, k: int) -> Floats:
    """Share of relevant items among the first k; the divisor is k also where a list ends early."""
    shares: Floats = hits[:, :k].sum(axis=1) / k
    return shares


def average_precision(hits: Bools, n_relevant: Ints, k: int) -> Floats:
    """Mean precision at the hits among the first k, over the number of hits the best possible list has."""
    first = hits[:, :k]
    precisions = first.cumsum(axis=1) / np.arange(1, first.shape[1] + 1)
    sums: Floats = (precisions * first).sum(axis=1)
    return sums / np.minimum(n_relevant, k)


METRICS: dict[str, Callable[[Bools, Ints, int], Floats]] = {
    "recall": recall,
    "ndcg": ndcg,
    "precision": precision,
    "map": average_precision,
}
