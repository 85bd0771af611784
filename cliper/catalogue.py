"""Turn raw files into users, items and splits (paper section 4, "Datasets").

In:   the dataset's raw files
Out:  train, valid, test (three files), users, items, and counts: the data card, one row a step

Rows of one user and item are dropped after the first, then rows below `min_rating`, then users and items with
fewer than `k_core` interactions until none is left. Ids number users and items by their first appearance in
the file. Each user's interactions are shuffled and cut: of fewer than ten the last two are valid and test, of
ten or more a fifth is held out, half of that (rounded down) for validation. A split of the source's own is
used as it is, with its numbers.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl

from cliper import files, log
from cliper.config import Config, Dataset
from cliper.errors import DataError
from cliper.layout import locate
from cliper.sources import SOURCES

SPLITS = ("train", "valid", "test")


def drop_duplicates(interactions: pl.DataFrame) -> pl.DataFrame:
    """Keep the first row of each user and item, in the file's order."""
    return interactions.unique(["user_id", "asin"], keep="first", maintain_order=True)


def k_core_round(interactions: pl.DataFrame, k: int) -> pl.DataFrame:
    """Drop, at once, the rows of users and of items that have fewer than k rows."""
    return interactions.filter((pl.len().over("user_id") >= k) & (pl.len().over("asin") >= k))


def number_ids(interactions: pl.DataFrame) -> pl.DataFrame:
    """Add user and item: whole numbers from 0 in the order of first appearance (MMRec's convention)."""
    rows = interactions.with_row_index("row")
    first = (pl.col("row").first().over(column).rank("dense").cast(pl.Int32) - 1 for column in ("user_id", "asin"))
    return rows.with_columns(user=next(first), item=next(first)).drop("row")


def split_by_user(users: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Cut each user's interactions at random (the rule of the toolbox MMRec).

    users      (n,) int, the user of each interaction
    returns    (n,) str, train, valid or test

    Of n interactions of a user: n < 3 all train; n < 10 one valid, one test; else n // 5 held out, half of
    them (rounded down) valid and the rest test.
    """
    shuffled = pl.DataFrame({"user": users, "draw": generator.permutation(len(users))})
    n, place = pl.len().over("user"), (pl.col("draw").rank("ordinal") - 1).over("user")
    held = pl.when(n < 3).then(0).when(n < 10).then(2).otherwise(n // 5)
    label = (
        pl.when(place < n - held)
        .then(pl.lit("train"))
        .when(place < n - held + held // 2)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )
    return shuffled.select(label).to_series().to_numpy()


def cut(raw: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, list[tuple[str, pl.DataFrame]]]:
    """Filter, number and split interactions.

    raw        user_id, asin, rating, timestamp in the file's order
    returns    the same rows that stay, with user, item, split; and each step's name with what it left

    Raises DataError if nothing is left.
    """
    steps = [("raw", raw), ("without duplicates", drop_duplicates(raw))]
    if dataset.min_rating is not None:
        rated = steps[-1][1].filter(pl.col("rating") >= dataset.min_rating)
        steps.append((f"rating >= {dataset.min_rating:g}", rated))
    for number in range(1, raw.height + 1):
        left = k_core_round(steps[-1][1], dataset.k_core or 1)
        if left.height == steps[-1][1].height:
            break
        steps.append((f"{dataset.k_core}-core, round {number}", left))
    kept = steps[-1][1]
    if kept.is_empty():
        raise DataError(f"{dataset.title}: nothing is left after {steps[-1][0]}; lower k_core or min_rating")
    numbered = number_ids(kept)
    labels = split_by_user(numbered["user"].to_numpy(), np.random.default_rng(dataset.split_seed))
    return numbered.with_columns(split=pl.Series(labels)), steps


def describe_items(interactions: pl.DataFrame, metadata: pl.DataFrame) -> pl.DataFrame:
    """The items table: every item by its number, fields null where the metadata has none."""
    known = interactions.select("item", "asin").unique("item")
    every = pl.DataFrame({"item": np.arange(known["item"].to_numpy().max() + 1, dtype=np.int32)})
    return every.join(known, on="item", how="left").join(metadata, on="asin", how="left").sort("item")


def count(steps: list[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """The data card: interactions, users and items after each step."""
    return pl.DataFrame(
        [
            {
                "order": order,
                "step": name,
                "interactions": frame.height,
                "users": frame["user_id"].n_unique(),
                "items": frame["asin" if frame["asin"].null_count() == 0 else "item"].n_unique(),
            }
            for order, (name, frame) in enumerate(steps)
        ]
    )


def run(config: Config, *, dataset: str) -> None:
    """Read the raw files, cut them, write the tables."""
    began, settings = time.monotonic(), config.dataset(dataset)
    source = SOURCES[settings.source.kind]
    names = settings.source.files
    paths = {role: locate(config.root, "raw", dataset=dataset, file=name) for role, name in names.items()}
    _require(paths, dataset)
    raw = source.read_interactions(paths)
    kept, steps = (raw, [("given", raw)]) if "split" in raw.columns else cut(raw, settings)
    metadata = source.read_items(paths, set(kept["asin"].drop_nulls()))
    items = describe_items(kept, metadata)
    splits = [(split, kept.filter(pl.col("split") == split)) for split in SPLITS]
    for split, rows in splits:
        table = rows.select("user", "item", "timestamp").sort("user", "item")
        files.write_table(locate(config.root, split, dataset=dataset), split, table)
    users = kept.select("user", "user_id").unique("user").sort("user")
    files.write_table(locate(config.root, "users", dataset=dataset), "users", users)
    files.write_table(locate(config.root, "items", dataset=dataset), "items", items)
    files.write_table(locate(config.root, "counts", dataset=dataset), "counts", count([*steps, *splits]))
    log.account(
        f"{dataset}: {raw.height:,} rows -> {users.height:,} users, {items.height:,} items, "
        f"{kept.height:,} interactions ({' / '.join(f'{rows.height:,}' for _, rows in splits)}), "
        f"{items.height - metadata.height:,} items without metadata, {time.monotonic() - began:.1f} s"
    )


def _require(paths: dict[str, Path], dataset: str) -> None:
    for path in paths.values():
        if not path.is_file():
            raise DataError(f"{path} is missing. Run: python -m cliper download --dataset {dataset} --file {path.name}")
