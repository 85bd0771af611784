"""Which interactions stay: the first of each user and item, and those of users and items with k of them."""

from __future__ import annotations

import numpy as np
import polars as pl

from cliper.arrays import Bools, Ints


def are_first(users: Ints, items: Ints) -> Bools:
    """Which interactions are the first of their user and item, (n,) each.

    >>> are_first(np.array([0, 1, 0]), np.array([5, 5, 5])).tolist()
    [True, True, False]
    """
    pairs = users * (items.max(initial=0) + 1) + items
    return pl.Series(pairs).is_first_distinct().to_numpy()


def are_in_core(users: Ints, items: Ints, k: int) -> Bools:
    """Which interactions have a user and an item with at least k of these interactions, (n,) each.

    One round: the rest may again have users and items with fewer.
    """
    kept: Bools = (np.bincount(users)[users] >= k) & (np.bincount(items)[items] >= k)
    return kept
