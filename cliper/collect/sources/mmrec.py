"""The `.inter` files of the toolbox MMRec: numbered users and items with a split that is used as it is.

<dataset>.inter     tab-separated with a header: userID, itemID, x_label (0 train, 1 valid, 2 test), maybe more
i_id_mapping.csv    tab-separated: asin, itemID; without it items have no asin and no metadata
meta_….json.gz      metadata in the format of Amazon-2014; without it every field is missing
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from cliper.collect.sources.amazon2014 import read_metadata
from cliper.collect.sources.base import PEEK, Source
from cliper.collect.sources.mmrec_settings import MmrecSettings
from cliper.collect.sources.records import ITEMS
from cliper.errors import SourceError

COLUMNS = {"userID": pl.Int32, "itemID": pl.Int32, "x_label": pl.Int32}
SPLITS = {0: "train", 1: "valid", 2: "test"}


class Mmrec(Source[MmrecSettings]):
    """Files of the toolbox."""

    Settings = MmrecSettings

    def read_interactions(self, paths: Mapping[str, Path]) -> pl.DataFrame:
        """Read user, item, split, timestamp, and asin if it is known; user_id is the user's number as text.

        Raises SourceError if a column, a number or a label is not as above.
        """
        path = paths["interactions"]
        frame = _read_tsv(path, COLUMNS)
        if unlabelled := frame.filter(~pl.col("x_label").is_in(list(SPLITS))).height:
            raise SourceError(f"{path}: {unlabelled} rows have an x_label other than 0, 1, 2; repair them")
        timestamp = (
            frame["timestamp"] if "timestamp" in frame.columns else pl.Series([None] * frame.height, dtype=pl.Int64)
        )
        seconds = timestamp.cast(pl.Int64, strict=False)
        if broken := seconds.null_count() - timestamp.null_count():
            raise SourceError(f"{path}: {broken} rows have a timestamp that is no number of seconds; repair them")
        numbered = frame.select(
            pl.col("userID").cast(pl.String).alias("user_id"),
            pl.col("userID").alias("user"),
            pl.col("itemID").alias("item"),
            pl.col("x_label").replace_strict(SPLITS, return_dtype=pl.String).alias("split"),
            seconds.alias("timestamp"),
        )
        if "item_ids" not in paths:
            return numbered.with_columns(asin=pl.lit(None, pl.String))
        ids = _read_tsv(paths["item_ids"], {"asin": pl.String, "itemID": pl.Int32}).select("asin", item="itemID")
        if repeated := ids["item"].is_duplicated().sum():
            raise SourceError(
                f"{paths['item_ids']}: {repeated} rows give an item that another row gives too; repair them"
            )
        joined = numbered.join(ids, on="item", how="left", maintain_order="left")
        if nameless := joined.filter(pl.col("asin").is_null())["item"].n_unique():
            raise SourceError(f"{paths['item_ids']} lacks {nameless} of the items in {path.name}; fetch both again")
        return joined

    def read_items(self, paths: Mapping[str, Path], wanted: Collection[str]) -> pl.DataFrame:
        """Read the metadata of the wanted items, where there is a metadata file."""
        if "metadata" not in paths:
            return pl.DataFrame(schema=ITEMS)
        return read_metadata(paths["metadata"], wanted)

    def peek(self, paths: Mapping[str, Path]) -> Collection[str]:
        """See the base class; which asins were bought stands in another file."""
        if "interactions" in paths:
            _read_tsv(paths["interactions"], COLUMNS, n_rows=PEEK)
        return ()


def _read_tsv(path: Path, columns: Mapping[str, type[pl.DataType]], *, n_rows: int | None = None) -> pl.DataFrame:
    try:
        frame = pl.read_csv(path, separator="\t", schema_overrides=columns, n_rows=n_rows)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{path}: {' '.join(str(error).split())[:120]}; repair it or fetch it again") from error
    if absent := [name for name in columns if name not in frame.columns]:
        raise SourceError(f"{path} lacks the columns {', '.join(absent)} (tab-separated, with a header)")
    if frame.select(list(columns)).null_count().sum_horizontal().item():
        raise SourceError(f"{path} has empty cells in {', '.join(columns)}; repair it")
    return frame
