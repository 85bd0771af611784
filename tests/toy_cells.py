"""A world of two tastes, small enough to train any backbone in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import toy

from cliper import config, files
from cliper.config import Config

N_USERS, N_ITEMS = 30, 40
QUICK = {"batch_size": 64, "max_epochs": 12, "learning_rate": 0.01, "device": "cpu"}
CELL = {"dataset": "toy", "backbone": "freedom", "arm": "vanilla", "seed": 1}


def two_tastes() -> dict[str, pl.DataFrame]:
    """Users below 15 buy of the items below 20, the others of the rest: 6 to train, 2 each to check."""
    generator = np.random.default_rng(0)
    rows = [
        (user, item, None)
        for user in range(N_USERS)
        for item in generator.choice(20, size=10, replace=False) + (20 if user >= 15 else 0)
    ]
    schema = {"user": pl.Int32, "item": pl.Int32, "timestamp": pl.Int64}
    all_rows = pl.DataFrame(rows, schema=schema, orient="row").with_columns(place=pl.int_range(10).over("user"))
    split = {"train": (0, 5), "valid": (6, 7), "test": (8, 9)}
    return {
        name: all_rows.filter(pl.col("place").is_between(*places)).drop("place").sort("user", "item")
        for name, places in split.items()
    }


def features() -> pl.DataFrame:
    generator = np.random.default_rng(1)
    taste = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, axis=0)
    vectors = {
        name: (np.tile(taste, 4) + 0.3 * generator.standard_normal((N_ITEMS, 8))).astype(np.float32)
        for name in ("image", "text")
    }
    item = np.arange(N_ITEMS, dtype=np.int32)
    return pl.DataFrame({"item": item} | {name: pl.Series(name, rows) for name, rows in vectors.items()}).with_columns(
        image_is_filled=pl.col("item") == 3, text_is_filled=pl.lit(value=False)
    )


def write(folder: Path, **overlay: Any) -> Config:
    """Write all tables that a cell is trained on, but those of neighbours of items other than vanilla's."""
    own = {"arms": {"vanilla": {"d": 8}}, "train": QUICK, **overlay}
    settings = toy.settings(**config.lay_over(toy.dataset(folder), own))
    tables = two_tastes() | {
        "users": pl.DataFrame({"user": np.arange(N_USERS, dtype=np.int32), "user_id": ["?"] * N_USERS}),
        "items": pl.DataFrame({"item": np.arange(N_ITEMS, dtype=np.int32)}).with_columns(
            *(pl.lit(None, pl.String).alias(name) for name in ("asin", "title", "brand", "description", "image_url")),
            categories=pl.lit(None, pl.List(pl.List(pl.String))),
        ),
        "features": features(),
    }
    for kind, table in tables.items():
        files.write_table(toy.path(settings, kind, **CELL), kind, table)
    toy.run("neighbours-items", settings, dataset="toy", arm="vanilla")
    toy.run("neighbours-users", settings, dataset="toy")
    return settings
