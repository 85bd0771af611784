"""The raw formats of Amazon-2014 (McAuley et al. 2015; He and McAuley 2016).

ratings_<Category>.csv           user, asin, rating, unix time; no header
reviews_<Category>_5.json.gz     one JSON object a line: reviewerID, asin, overall, unixReviewTime, …
meta_<Category>.json.gz          one Python dict literal a line: asin, title, brand, categories, …
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cliper.collect.sources.amazon2014_settings import Amazon2014Settings
from cliper.collect.sources.base import Source
from cliper.collect.sources.ratings import read_ratings, read_reviews
from cliper.collect.sources.records import as_text, id_pattern, read_records, require_record, unbroken
from cliper.errors import SourceError

RATINGS = ("user_id", "asin", "rating", "timestamp")
REVIEWS = {"user_id": "reviewerID", "asin": "asin", "rating": "overall", "timestamp": "unixReviewTime"}
ASIN = id_pattern("asin", quotes="'\"")


class Amazon2014(Source[Amazon2014Settings]):
    """Raw files of one category."""

    Settings = Amazon2014Settings

    def read_interactions(self, paths: Mapping[str, Path]) -> pl.DataFrame:
        """Read ratings or reviews, by the file's name, in the file's order.

        Raises SourceError naming the line that is broken.
        """
        path = paths["interactions"]
        return read_reviews(path, REVIEWS) if path.name.endswith(".json.gz") else read_ratings(path, RATINGS)

    def read_items(self, paths: Mapping[str, Path], wanted: Collection[str]) -> pl.DataFrame:
        """Read the metadata of the wanted items. Raises SourceError."""
        return read_metadata(paths["metadata"], wanted)


def read_metadata(path: Path, wanted: Collection[str]) -> pl.DataFrame:
    """Read the metadata of the wanted items; one row per item that has a line, the first line of each.

    Streams: a line is parsed only if it names a wanted asin. Raises SourceError naming the line if a wanted
    one is no Python literal (it is never run) or if the file is cut.
    """
    return read_records(path, wanted, key=ASIN, parse=parse_record)


def parse_record(line: str, where: str) -> dict[str, Any]:
    """One line of metadata as a row of ITEMS. Raises SourceError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # '\d' in a description is data, not a mistake of ours
            warnings.simplefilter("ignore", DeprecationWarning)
            found = ast.literal_eval(line.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise SourceError(f"{where}: no plain Python literal ({reason}); repair or remove the line") from None
    record = require_record(found, "asin", where)
    return {
        "asin": record["asin"],
        "title": as_text(record.get("title"), f"{where}, title"),
        "brand": as_text(record.get("brand"), f"{where}, brand"),
        "categories": _paths(record.get("categories"), f"{where}, categories"),
        "description": as_text(record.get("description"), f"{where}, description"),
        "image_url": as_text(record.get("imUrl"), f"{where}, imUrl"),
    }


def _paths(value: object, where: str) -> list[list[str]] | None:
    if value is None or value == []:
        return None
    if isinstance(value, list) and all(isinstance(p, list) and all(isinstance(s, str) for s in p) for p in value):
        return [[unbroken(name) for name in path] for path in value]
    raise SourceError(f"{where}: no list of lists of texts; repair or remove the line")
