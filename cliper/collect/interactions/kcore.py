"""Which interactions stay: the first of each user and item, and those of users and items with k of them."""

from __future__ import annotations

from collections.abc import Iterator

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


def rounds(users: Ints, items: Ints, k: int) -> Iterator[Ints]:
    """Drop all outside the k-core: yields what is left after each round that drops some, (m,) positions."""
    left = np.arange(len(users))
    while not (stays := are_in_core(users[left], items[left], k)).all():
        left = left[stays]
        yield left


def describe_smaller(users: Ints, items: Ints, k: int) -> str:
    """What each smaller core would leave, from 2 to 4, as words in brackets; nothing where there is none.

    >>> describe_smaller(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 4)
    '(2 would leave 2 users, 2 items, 4 interactions; 3 nothing)'
    """
    parts = []
    for smaller in range(2, min(k, 5)):
        *_, left = np.arange(len(users)), *rounds(users, items, smaller)
        n_users, n_items = (len(np.unique(ids[left])) for ids in (users, items))
        parts.append(f"{n_users:,} users, {n_items:,} items, {len(left):,} interactions" if len(left) else "nothing")
    words = "; ".join(f"{n} {'would leave ' * (n == 2)}{part}" for n, part in enumerate(parts, start=2))
    return f"({words})" if words else ""
