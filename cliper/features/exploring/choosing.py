"""Which items and users are looked at: some by chance, and the items whose views disagree most."""

from __future__ import annotations

import numpy as np
import polars as pl

from cliper.arrays import Ints


def spreads(weights: pl.DataFrame, missing: pl.DataFrame) -> pl.DataFrame:
    """How far an item's views disagree: the largest minus the smallest similarity to its own image.

    weights  view_weights of one arm
    missing  item, view, is_missing
    returns  item, spread; the largest first, ties by item. Only items with two views of their own that have a rank, so
             none whose image is filled
    """
    ranked = weights.join(missing, on=["item", "view"]).filter(~pl.col("is_missing"), pl.col("rank").is_not_null())
    similarity = pl.col("similarity")
    found = ranked.group_by("item").agg(spread=similarity.max() - similarity.min(), n_views=pl.len())
    return found.filter(pl.col("n_views") > 1).sort(["spread", "item"], descending=[True, False]).drop("n_views")


def choose_items(n_items: int, disagreeing: list[int], n: int, generator: np.random.Generator) -> dict[int, str]:
    """Choose items: half by chance among all, half the first of `disagreeing` that are left; chance fills the rest.

    disagreeing  items, those first whose views disagree most; it may be short or empty
    returns      item -> why it was chosen, chance or disagree; every item if there are no more than n

    >>> choose_items(2, [1, 0], 5, np.random.default_rng(0))
    {0: 'chance', 1: 'disagree'}
    """
    n = min(n, n_items)
    order = generator.permutation(n_items).tolist()
    drawn = order[: n - n // 2]
    left = [item for item in disagreeing[:n] if item not in drawn][: n // 2]
    more = [item for item in order[len(drawn) :] if item not in left][: n - len(drawn) - len(left)]
    return {**dict.fromkeys(drawn + more, "chance"), **dict.fromkeys(left, "disagree")}


def choose_users(users: Ints, n: int, generator: np.random.Generator) -> list[int]:
    """Choose up to n of some users by chance; sorted."""
    known = np.unique(users)
    chosen: list[int] = np.sort(generator.choice(known, min(n, len(known)), replace=False)).tolist()
    return chosen
