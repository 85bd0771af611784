"""Rows of large tables, with a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl

from cliper import files

ROWS = 4_096


def batches_of(path: Path, kind: str) -> Iterator[pl.DataFrame]:
    """All rows of a table, some at a time. Raises as `files.read_table`."""
    return files.read_in_batches(path, kind, (0, files.count_rows(path, kind)), size=ROWS)


def rows_of(path: Path, kind: str, items: Collection[int]) -> pl.DataFrame:
    """The rows of some items, in the table's order. Raises as `files.read_table`."""
    wanted = pl.col("item").is_in(list(items))
    return pl.concat([batch.filter(wanted) for batch in batches_of(path, kind)])
