"""The tables of embeddings: each range of items is one file, and all ranges are read as one table.

`encode` writes them (`encode.ranges` of a view, or of the images); `fuse` and `inspect` read them through here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from cliper import files
from cliper.errors import DataError, FeatureError
from cliper.schemas import TABLES

DECIDES = ("weights", "context", "precision", "overflow")  # keys of a file's metadata that are equal in all ranges
TOKENS = ("view", "text_sha256", "n_tokens", "n_chunks", "truncated")  # columns that a token report reads


def span(n_items: int, number: int, n_ranges: int) -> tuple[int, int]:
    """First row of a range, and the row after its last. Raises DataError if there are fewer items than ranges.

    >>> [span(10, number, 3) for number in range(3)]
    [(0, 3), (3, 6), (6, 10)]
    """
    if n_items < n_ranges:
        raise DataError(f"{n_items} items cannot be cut into {n_ranges} ranges; lower encode.ranges")
    return n_items * number // n_ranges, n_items * (number + 1) // n_ranges


def read_ranges(paths: Sequence[Path], kind: str, *, columns: list[str] | None = None) -> pl.DataFrame:
    """Read all ranges of text_embeddings or image_embeddings as one table.

    Raises DataError if one is missing or broken, FeatureError if they do not belong together.
    """
    tables = [files.read_table(path, kind, columns=columns) for path in paths]
    made = [[files.read_metadata(path, kind).get(key) for key in DECIDES] for path in paths]
    for path, how, table, before in zip(paths[1:], made[1:], tables[1:], tables, strict=False):
        if how != made[0]:
            raise FeatureError(f"{path} was made in another way than {paths[0].name}; encode that range again")
        if "item" in table.columns and table["item"][0] <= before["item"][-1]:
            raise FeatureError(f"{path} does not follow the range before it; encode that range again")
    return pl.concat(tables)


def token_report(texts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Count the tokens of views: one row per view.

    texts  for each view, the columns TOKENS of its items' embeddings
    """
    rows = [
        {
            "view": table["view"][0],
            "n_items": table.height,
            "n_distinct": table["text_sha256"].n_unique(),
            "min_tokens": table["n_tokens"].min(),
            "median_tokens": table["n_tokens"].median(),
            "max_tokens": table["n_tokens"].max(),
            "n_truncated": table["truncated"].sum(),
            "n_chunked": (table["n_chunks"] > 1).sum(),
        }
        for table in texts
    ]
    return pl.DataFrame(rows, schema=list(TABLES["token_report"].columns)).sort("view")
