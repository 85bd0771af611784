"""Rankings and splits with the shop's own ids, so that others can measure our rankings.

export/<dataset>/<arm>/lists/<backbone>-<seed>.csv   user_id, item_id, score: the items of `topk`, best first
export/<dataset>/{train,valid,test}.csv              user_id, item_id: what was bought

The score is 1 / rank. The model's own score may be negative or tie: WarpRec ranks an item of negative score behind all
that are not listed, and other scorers break ties by rules of their own. It stays in `topk`. Lists are those that
`evaluate` measures on test: without train items, and under evaluate.mask_valid without validation items.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cliper import files
from cliper.config import Cell, Config
from cliper.errors import ConfigError
from cliper.layout import At
from cliper.models.maths.tables import leave_out

SPLITS = ("train", "valid", "test")


def cells_of(config: Config, **asked: str | int | None) -> list[Cell]:
    """The run's cells that have all the names asked for. Raises ConfigError if none has."""
    found = [
        cell for cell in config.cells if all(value in (None, getattr(cell, name)) for name, value in asked.items())
    ]
    if not found:
        names = " ".join(f"--{name} {value}" for name, value in asked.items() if value is not None)
        raise ConfigError(f"the run has no cell with {names}; see `run` in the config")
    return found


def write_splits(folder: Path, at: At) -> None:
    """Write a dataset's splits."""
    for split in SPLITS:
        rows = name_rows(files.read_table(at(split), split), at)
        write_csv(folder / f"{split}.csv", rows.select("user_id", "item_id"))


def write_list(path: Path, at: At, *, mask_valid: bool) -> int:
    """Write a cell's ranking; the number of users who have one."""
    topk = files.read_table(at("topk"), "topk", columns=["user", "rank", "item"])
    if mask_valid:
        topk = leave_out(topk, files.read_table(at("valid"), "valid"))
    scored = topk.with_columns(score=1 / pl.col("rank").cast(pl.Float64))
    write_csv(path, name_rows(scored, at).select("user_id", "item_id", "score"))
    return topk["user"].n_unique()


def name_rows(rows: pl.DataFrame, at: At) -> pl.DataFrame:
    """Add the shop's own ids, user_id and item_id, to rows of users and items. Items without ids keep their numbers."""
    users = files.read_table(at("users"), "users")
    items = files.read_table(at("items"), "items", columns=["item", "asin"])
    named = rows.join(users, on="user", how="left", maintain_order="left")
    return named.join(items.select("item", item_id=item_ids(items)), on="item", how="left", maintain_order="left")


def item_ids(items: pl.DataFrame) -> pl.Series:
    """The shop's own ids of items (columns item, asin); their numbers where the shop has none."""
    return items["item"].cast(pl.String) if items["asin"].null_count() else items["asin"]


def write_csv(path: Path, rows: pl.DataFrame) -> None:
    """Write a table with commas; an id that holds one is quoted."""
    with files.atomic(path) as temporary:
        rows.write_csv(temporary)
