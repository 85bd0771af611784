"""Anyone's own tables: CSV, TSV or Parquet of interactions and of items, with their columns named in the config.

interactions   user_id, asin; where there are: rating, timestamp, split (train, valid, test, or 0, 1, 2)
items          asin; where there are: title, brand, categories, description, image_url

`asin` is the shop's own id of an item. Ids are read as texts, so 007 is not 7. A timestamp is in seconds, or a time of
Parquet's own. Categories are a text, whose levels " > " or "|" part, or a list of texts, or a list of such lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from cliper.errors import SourceError
from cliper.sources.records import ITEMS

LABELS = {"0": "train", "1": "valid", "2": "test", "train": "train", "valid": "valid", "test": "test"}
INTERACTIONS = {"user_id": pl.String, "asin": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
SEPARATOR = re.compile(r" > |\|")  # between the levels of categories
BROKEN = (pl.exceptions.PolarsError, OSError)


def read_interactions(paths: Mapping[str, Path], columns: Mapping[str, Mapping[str, str]]) -> pl.DataFrame:
    """Read who bought what in the file's order, with split where the config names its column.

    columns  of config: "interactions" -> our name -> the file's

    Raises SourceError if a column is missing, a value of it is, or one has another form than above.
    """
    path = paths["interactions"]
    frame = _read(path, columns["interactions"])
    kinds = {name: kind for name, kind in INTERACTIONS.items() if name in frame.columns}
    if isinstance(time := frame.schema.get("timestamp"), pl.Datetime | pl.Date):
        frame = frame.with_columns(pl.col("timestamp").cast(pl.Datetime("us")).dt.epoch("s"))
    elif time is not None and time.is_float():
        frame = frame.with_columns(pl.col("timestamp").floor())
    frame = _cast(frame, kinds, path)
    if incomplete := frame.filter(pl.any_horizontal(pl.all().is_null())).height:
        raise SourceError(f"{path}: {incomplete:,} rows lack a value in {', '.join(frame.columns)}; remove them")
    if "split" in frame.columns:
        frame = _label(frame, path)
    absent = {name: pl.lit(None, kind) for name, kind in INTERACTIONS.items() if name not in kinds}
    return frame.with_columns(**absent)


def read_items(
    paths: Mapping[str, Path], wanted: Collection[str], columns: Mapping[str, Mapping[str, str]]
) -> pl.DataFrame:
    """Read the wanted items, the first row of each; none where there is no table of items. Raises SourceError."""
    if "metadata" not in paths:
        return pl.DataFrame(schema=ITEMS)
    path = paths["metadata"]
    frame = _read(path, columns["items"])
    known = frame.with_columns(pl.col("asin").cast(pl.String)).filter(pl.col("asin").is_in(list(wanted)))
    if "categories" in known.columns:
        paths_of = [_as_paths(value, path) for value in known["categories"].to_list()]
        known = known.with_columns(categories=pl.Series(paths_of, dtype=ITEMS["categories"]))
    texts = {name: kind for name, kind in ITEMS.items() if name in known.columns and name != "categories"}
    known = _cast(known, texts, path).with_columns(
        pl.col(name).str.strip_chars().replace("", None) for name in texts if name != "asin"
    )
    absent = {name: pl.lit(None, kind) for name, kind in ITEMS.items() if name not in known.columns}
    first = known.unique("asin", keep="first", maintain_order=True)
    return first.with_columns(**absent).select(list(ITEMS)).sort("asin")


def _read(path: Path, columns: Mapping[str, str]) -> pl.DataFrame:
    """The named columns of a table under our names. CSV gives texts alone."""
    try:
        if path.suffix == ".parquet":
            found = pl.scan_parquet(path)
        else:
            separator = "\t" if ".tsv" in path.suffixes else ","
            found = pl.scan_csv(path, separator=separator, infer_schema=False)
        known = found.collect_schema().names()
        if absent := sorted(set(columns.values()) - set(known)):
            raise SourceError(f"{path} has no column {', '.join(absent)}; it has {', '.join(known)}")
        return found.select(**{name: pl.col(theirs) for name, theirs in columns.items()}).collect()
    except BROKEN as error:
        raise SourceError(f"{path} cannot be read ({_one_line(error)}); repair it") from error


def _cast(frame: pl.DataFrame, kinds: Mapping[str, type[pl.DataType]], path: Path) -> pl.DataFrame:
    try:
        return frame.with_columns(pl.col(name).cast(kind) for name, kind in kinds.items())
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path}: {_one_line(error)}; repair the column") from error


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
