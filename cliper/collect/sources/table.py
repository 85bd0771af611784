"""A user's own tables: CSV, TSV or Parquet of interactions and of items, with their columns named in the config.

interactions   user_id, asin; optional: rating, timestamp, split (train, valid, test, or 0, 1, 2)
items          asin; optional: title, brand, categories, description, image_url

`asin` is the shop's own id of an item. Ids are read as texts without the white space around them, so 007 is not 7. A
timestamp is in seconds, or a date of ISO 8601 (2024-03-04, 2024-03-04 10:30, 2024-03-04T10:30:00+01:00; without a zone
in UTC), or has a time type of Parquet. Categories are a text with " > " or "|" between the levels, or a list of texts,
or a list of such lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl
import polars.selectors as cs

from cliper import log
from cliper.collect.sources.base import PEEK, Source
from cliper.collect.sources.records import ITEMS
from cliper.collect.sources.table_settings import TableSettings
from cliper.errors import SourceError
from cliper.settings import plain

LABELS = {"0": "train", "1": "valid", "2": "test", "train": "train", "valid": "valid", "test": "test"}
INTERACTIONS = {"user_id": pl.String, "asin": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
SEPARATOR = re.compile(r" > |\|")  # between the levels of categories
ISO = r"^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$"  # date, time, seconds, zone
UNFIT = {  # what is wrong with a value of these columns
    "rating": "is no number; write 4.5, or do not name the column",
    "timestamp": "is no number of seconds since 1970 and no date such as 2024-03-04 or 2024-03-04T10:30Z; convert it",
}
ADVICE = {"utf-8": "save it as UTF-8", "more fields": "put values with a separator in quotes"}  # on polars' words
BROKEN = (pl.exceptions.PolarsError, OSError)


class Table(Source[TableSettings]):
    """A table of interactions and, optionally, one of items."""

    Settings = TableSettings

    def read_interactions(self, paths: Mapping[str, Path]) -> pl.DataFrame:
        """Read who bought what in the file's order, with split where the config names its column.

        Raises SourceError if a column is missing, a value of it is, or one has another form than above.
        """
        return self._interactions(paths["interactions"])

    def _interactions(self, path: Path, *, n_rows: int | None = None) -> pl.DataFrame:
        named = plain(self.settings.columns.interactions)
        frame = _read(path, named, n_rows)
        if frame.is_empty():
            raise SourceError(f"{path} has no rows; bring a table with some")
        for name in frame.columns:
            if n_missing := frame[name].null_count():
                row = (frame[name].is_null().arg_max() or 0) + 1
                raise SourceError(
                    f"{path}: column {named[name]} lacks a value in {n_missing:,} rows (first: row {row:,}); "
                    "remove the rows, or do not name the column if the dataset can do without"
                )
        if "split" in frame.columns:
            frame = _label(frame, path)
        absent = {name: pl.lit(None, kind) for name, kind in INTERACTIONS.items() if name not in frame.columns}
        return frame.with_columns(**absent)

    def read_items(self, paths: Mapping[str, Path], wanted: Collection[str]) -> pl.DataFrame:
        """Read the wanted items; without a table of items, none. Of several rows of an item, warn and use the first.

        Raises SourceError if the table cannot be read, or has no row of a wanted item.
        """
        if "metadata" not in paths:
            return pl.DataFrame(schema=ITEMS)
        path, named = paths["metadata"], plain(self.settings.columns.items)
        frame = _read(path, named)
        known = frame.filter(pl.col("asin").is_in(list(wanted)))
        if known.is_empty():
            here = f"it has {frame['asin'][0]}" if len(frame) else "it has no rows"
            raise SourceError(
                f"{path}: column {named['asin']} has none of the items that were bought, "
                f"such as {min(wanted)} ({here}); write the ids alike in both tables"
            )
        if "categories" in known.columns:
            paths_of = [_as_paths(value, path) for value in known["categories"].to_list()]
            known = known.with_columns(categories=pl.Series(paths_of, dtype=ITEMS["categories"]))
        first = known.unique("asin", keep="first", maintain_order=True)
        if n_more := known.height - first.height:
            log.warn(f"{path} has {n_more:,} more rows of items that have one; the first is used")
        absent = {name: pl.lit(None, kind) for name, kind in ITEMS.items() if name not in known.columns}
        return first.with_columns(**absent).select(list(ITEMS)).sort("asin")

    def peek(self, paths: Mapping[str, Path]) -> Collection[str]:
        """See the base class."""
        if "metadata" in paths:
            _read(paths["metadata"], plain(self.settings.columns.items), PEEK)
        return self._interactions(paths["interactions"], n_rows=PEEK)["asin"] if "interactions" in paths else ()


def _read(path: Path, columns: Mapping[str, str], n_rows: int | None = None) -> pl.DataFrame:
    """The named columns of a table under our names, each of its kind; categories as they are."""
    try:
        if path.suffix == ".parquet":
            found = pl.scan_parquet(path, n_rows=n_rows)
        else:
            separator = "\t" if ".tsv" in path.suffixes else ","
            # read whole: where columns are chosen first, polars does not see that a row has too many
            found = pl.read_csv(path, separator=separator, infer_schema=False, n_rows=n_rows).lazy()
        known = found.collect_schema().names()
        if absent := sorted(set(columns.values()) - set(known)):
            form = "" if len(known) > 1 else "; commas must part the columns of a CSV, tabs those of a TSV"
            raise SourceError(f"{path} has no column {', '.join(absent)}; it has {', '.join(known)}{form}")
        frame = found.select(**{name: pl.col(theirs) for name, theirs in columns.items()}).collect()
    except BROKEN as error:
        advice = next((advice for sign, advice in ADVICE.items() if sign in str(error)), "repair it")
        raise SourceError(f"{path} cannot be read ({_one_line(error)}); {advice}") from error
    frame = frame.with_columns(cs.float().fill_nan(None))  # before it becomes a text: "NaN" is no user
    return _cast(frame, columns, path)


def _cast(frame: pl.DataFrame, columns: Mapping[str, str], path: Path) -> pl.DataFrame:
    """Give columns their kinds; empty texts and NaN become null. Raises SourceError naming a value that has another."""
    kinds = {name: INTERACTIONS.get(name, pl.String) for name in columns if name != "categories"}
    try:
        cast = frame.with_columns(_as_kind(name, frame.schema[name], kind) for name, kind in kinds.items())
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path}: {_one_line(error)}; repair the column") from error
    if "timestamp" in kinds and cast["timestamp"].null_count() and isinstance(frame.schema["timestamp"], pl.String):
        cast = cast.with_columns(timestamp=pl.coalesce("timestamp", _seconds(frame["timestamp"])))
    for name in (name for name in UNFIT if name in kinds and cast[name].null_count()):
        is_empty = frame[name].cast(pl.String).str.strip_chars().str.to_lowercase().is_in(["", "nan"]).fill_null(True)
        if (is_unfit := cast[name].is_null() & ~is_empty).any():
            row = is_unfit.arg_max() or 0
            value = f"{frame[name][row]!r:.60}"
            raise SourceError(f"{path}: column {columns[name]}, row {row + 1:,}: {value} {UNFIT[name]}")
    return cast


def _as_kind(name: str, found: pl.DataType, kind: type[pl.DataType]) -> pl.Expr:
    """A column of one kind as one of another; null where a number is none."""
    column = pl.col(name)
    if kind is pl.String:
        return column.cast(pl.String).str.strip_chars().replace("", None)
    if isinstance(found, pl.Datetime | pl.Date):
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    if isinstance(found, pl.String):
        column = column.str.strip_chars()
    number = column.cast(pl.Float64, strict=False).fill_nan(None)
    whole = column.cast(pl.Int64, strict=False)  # first: a float has no room for nanoseconds
    return number if kind is pl.Float64 else pl.coalesce(whole, number.floor().cast(pl.Int64, strict=False))


def _seconds(dates: pl.Series) -> pl.Series:
    """Seconds since 1970 of dates of ISO 8601, as texts; null where a text is none.

    >>> _seconds(pl.Series(["1970-01-02", "1970-01-01T01:00:07.9+01:00", "01/02/1970"])).to_list()
    [86400, 7, None]
    """
    text = pl.col("text").str.strip_chars()
    parts = ((1, ""), (2, "00:00"), (3, ":00"), (4, "+00:00"))
    date, time, seconds, zone = (text.str.extract(ISO, n).fill_null(default) for n, default in parts)
    whole = pl.concat_str(date, pl.lit("T"), time, seconds, zone.replace("Z", "+00:00"))
    return pl.DataFrame({"text": dates}).select(
        whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", strict=False).dt.epoch("s")
    )["text"]


def _label(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    labels = frame["split"].cast(pl.String)
    if unknown := sorted(set(labels.unique()) - LABELS.keys()):
        raise SourceError(f"{path}: split says {', '.join(unknown[:5])}; write train, valid, test, or 0, 1, 2")
    return frame.with_columns(split=labels.replace_strict(LABELS, return_dtype=pl.String))


def _as_paths(value: object, path: Path) -> list[list[str]] | None:
    """Categories of one item as a list of paths; null where there are none."""
    if isinstance(value, str):
        value = [level for level in (part.strip() for part in SEPARATOR.split(value)) if level]
    if not value:
        return None
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return [value]
    if isinstance(value, list) and all(isinstance(p, list) and all(isinstance(n, str) for n in p) for p in value):
        return value
    raise SourceError(f"{path}: categories {value!r:.60}: write texts, lists of texts, or lists of such lists")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
