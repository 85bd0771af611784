"""The raw formats of Amazon-2018 (Ni et al. 2019).

<Category>.csv             asin, user, rating, unix time; no header
<Category>_5.json.gz       reviews of the 5-core, one JSON object a line: reviewerID, asin, overall, unixReviewTime, …
meta_<Category>.json.gz    one JSON object a line: asin, title, brand, category, description, feature, imageURL, …
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cliper.collect.sources.amazon2018_settings import Amazon2018Settings
from cliper.collect.sources.base import Source
from cliper.collect.sources.jsonlines import describe, parse_object
from cliper.collect.sources.ratings import read_ratings, read_reviews
from cliper.collect.sources.records import as_path, as_text, id_pattern, read_records

RATINGS = ("asin", "user_id", "rating", "timestamp")
REVIEWS = {"user_id": "reviewerID", "asin": "asin", "rating": "overall", "timestamp": "unixReviewTime"}
ASIN = id_pattern("asin", quotes='"')
IMAGES = ("imageURLHighRes", "imageURL", "image")  # the first is the whole picture, the second one of about 50 px


class Amazon2018(Source[Amazon2018Settings]):
    """Raw files of one category."""

    Settings = Amazon2018Settings

    def read_interactions(self, paths: Mapping[str, Path]) -> pl.DataFrame:
        """Read ratings or reviews, by the file's name, in the file's order. Raises SourceError."""
        path = paths["interactions"]
        return read_reviews(path, REVIEWS) if path.name.endswith(".json.gz") else read_ratings(path, RATINGS)

    def read_items(self, paths: Mapping[str, Path], wanted: Collection[str]) -> pl.DataFrame:
        """Read the metadata of the wanted items; one row per item that has a line, the first line of each.

        Raises SourceError naming the line if a wanted one is broken.
        """
        return read_records(paths["metadata"], wanted, key=ASIN, parse=parse_record)


def parse_record(line: str, where: str) -> dict[str, Any]:
    """One line of metadata as a row of ITEMS: description and feature joined, the first image. Raises SourceError."""
    record = parse_object(line, "asin", where)
    image = next((found for name in IMAGES if (found := record.get(name))), None)
    if isinstance(image, list):
        image = image[0]
    return {
        "asin": record["asin"],
        "title": as_text(record.get("title"), f"{where}, title"),
        "brand": as_text(record.get("brand"), f"{where}, brand"),
        "categories": as_path(record.get("category"), f"{where}, category"),
        "description": describe(record, ("description", "feature"), where),
        "image_url": as_text(image, f"{where}, image"),
    }
