"""What a user bought, what was kept for the test, and what is recommended: items, few enough to look at."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl


def lists_of(topk: pl.DataFrame, valid: pl.DataFrame | None, length: int) -> dict[int, list[int]]:
    """The first items of each user's list.

    topk   user, rank, item
    valid  user, item: left out of the lists, as evaluate.mask_valid does; None: nothing is
    """
    kept = topk if valid is None else topk.join(valid, on=["user", "item"], how="anti")
    first = kept.sort("user", "rank").group_by("user", maintain_order=True).agg(pl.col("item").head(length))
    return dict(first.rows())


def latest_items(train: pl.DataFrame, length: int) -> list[int]:
    """The items that a user bought last; without times, those with the smallest numbers.

    train  item, timestamp of one user
    """
    latest = train.sort(["timestamp", "item"], descending=[True, False], nulls_last=True)
    return latest["item"].head(length).to_list()


def kept_items(test: pl.DataFrame, lists: Mapping[str, Mapping[str, list[int]]], length: int) -> list[int]:
    """A user's test items: all that a list has, then others until there are `length`.

    test   item, of one user
    lists  backbone -> arm -> items
    """
    listed = {item for arms in lists.values() for items in arms.values() for item in items}
    items = sorted(test["item"].to_list(), key=lambda item: (item not in listed, item))
    return items[: max(length, len(listed.intersection(items)))]
