"""The raw formats of Amazon-2014 (McAuley et al. 2015; He and McAuley 2016).

ratings_<Category>.csv           user, asin, rating, unix time; no header
reviews_<Category>_5.json.gz     one JSON object a line: reviewerID, asin, overall, unixReviewTime, …
meta_<Category>.json.gz          one Python dict literal a line: asin, title, brand, categories, …
"""

from __future__ import annotations

import ast
import gzip
import re
import warnings
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cliper import log
from cliper.errors import SourceError

RATINGS = {"user_id": pl.String, "asin": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
REVIEWS = {"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float64, "unixReviewTime": pl.Int64}
ITEMS: dict[str, Any] = {
    "asin": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.List(pl.String)),
    "description": pl.String,
    "image_url": pl.String,
}
ASIN = re.compile(rb"""['"]asin['"]: ?['"]([^'"]*)['"]""")


def read_interactions(paths: Mapping[str, Path]) -> pl.DataFrame:
    """Read ratings or reviews, told apart by the file's name, in the file's order.

    Raises SourceError naming the line that is broken.
    """
    path = paths["interactions"]
    read = _read_reviews if path.name.endswith(".json.gz") else _read_ratings
    frame = read(path)
    if frame.is_empty():
        raise SourceError(f"{path} is empty; fetch it again")
    incomplete = frame.select(pl.any_horizontal(pl.all().is_null())).to_series()
    if incomplete.any():
        raise SourceError(f"{path}, line {(incomplete.arg_max() or 0) + 1}: a value is missing; repair or remove it")
    return frame


def _read_ratings(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, has_header=False, schema=RATINGS, quote_char=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{path}, {_first_bad_rating(path)}; repair or remove it") from error


def _first_bad_rating(path: Path) -> str:
    """Find the line that made the fast reader give up."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip("\r\n").split(",")
            if len(fields) != len(RATINGS):
                return f"line {number}: {len(fields)} columns instead of user, asin, rating, unix time"
            try:
                float(fields[2]), int(fields[3])
            except ValueError:
                return f"line {number}: rating {fields[2]!r} or time {fields[3]!r} is no number"
    return "a line that cannot be read"


def _read_reviews(path: Path) -> pl.DataFrame:
    try:
        with gzip.open(path) as file:
            frame = pl.read_ndjson(file.read(), schema=REVIEWS)
    except (pl.exceptions.PolarsError, *BROKEN_GZIP) as error:
        raise SourceError(f"{path}: {' '.join(str(error).split())}; fetch it again") from error
    return frame.select(user_id="reviewerID", asin="asin", rating="overall", timestamp="unixReviewTime")


BROKEN_GZIP = (EOFError, zlib.error, OSError)


def read_items(paths: Mapping[str, Path], wanted: Collection[str]) -> pl.DataFrame:
    """Read the metadata of the wanted items; one row per item that has a line, the first line of each.

    Streams: a line is parsed only if it names a wanted asin. Raises SourceError naming the line if a wanted
    one is no Python literal (it is never run) or if the file is cut.
    """
    records: dict[str, dict[str, Any]] = {}
    path, still_wanted = paths["metadata"], set(wanted)
    keys = {asin.encode() for asin in still_wanted}
    for number, line in log.progress(read_lines(path), what=path.name):
        if not any(asin in keys for asin in ASIN.findall(line)):
            continue
        record = parse_record(line, f"{path}, line {number}")
        if record["asin"] in still_wanted:
            still_wanted.remove(record["asin"])
            records[record["asin"]] = record
    return pl.DataFrame([records[asin] for asin in sorted(records)], schema=ITEMS)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with gzip.open(path) as file:
            yield from enumerate(file, start=1)
    except BROKEN_GZIP as error:
        raise SourceError(f"{path} is cut or broken ({error}); delete it and fetch it again") from error


def parse_record(line: bytes, where: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # '\d' in a description is data, not a mistake of ours
            warnings.simplefilter("ignore", DeprecationWarning)
            record = ast.literal_eval(line.decode("utf-8").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise SourceError(f"{where}: no plain Python literal ({reason}); repair or remove the line") from None
    if not isinstance(record, dict) or not isinstance(record.get("asin"), str):
        raise SourceError(f"{where}: no dict with an asin; repair or remove the line")
    return {
        "asin": record["asin"],
        "title": _text(record.get("title"), f"{where}, title"),
        "brand": _text(record.get("brand"), f"{where}, brand"),
        "categories": _paths(record.get("categories"), f"{where}, categories"),
        "description": _text(record.get("description"), f"{where}, description"),
        "image_url": _text(record.get("imUrl"), f"{where}, imUrl"),
    }


def _text(value: object, where: str) -> str | None:
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    if isinstance(value, int | float):
        return str(value)
    raise SourceError(f"{where}: a {type(value).__name__} instead of a text; repair or remove the line")


def _paths(value: object, where: str) -> list[list[str]] | None:
    if value is None or value == []:
        return None
    if isinstance(value, list) and all(isinstance(p, list) and all(isinstance(s, str) for s in p) for p in value):
        return value
    raise SourceError(f"{where}: no list of lists of texts; repair or remove the line")
