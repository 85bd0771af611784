"""The raw formats of Amazon-2023 (Hou et al. 2024); an item is a parent_asin.

<Category>.csv.gz          user_id, parent_asin, rating, timestamp in milliseconds; with a header
<Category>.jsonl.gz        reviews, one JSON object a line: user_id, parent_asin, rating, timestamp, …
meta_<Category>.jsonl.gz   one JSON object a line: parent_asin, title, store, categories, features, images, …
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cliper.collect.sources.amazon2023_settings import Amazon2023Settings
from cliper.collect.sources.base import Source
from cliper.collect.sources.jsonlines import describe, parse_object
from cliper.collect.sources.ratings import read_ratings, read_reviews
from cliper.collect.sources.records import as_path, as_text, id_pattern, read_records

RATINGS = ("user_id", "asin", "rating", "timestamp")
REVIEWS = {"user_id": "user_id", "asin": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
PARENT_ASIN = id_pattern("parent_asin", quotes='"')
SIZES = ("large", "hi_res", "thumb")  # large has about 500 px a side, enough for any encoder; hi_res is 3 times that


class Amazon2023(Source[Amazon2023Settings]):
    """Raw files of one category."""

    Settings = Amazon2023Settings

    def read_interactions(self, paths: Mapping[str, Path]) -> pl.DataFrame:
        """Read ratings or reviews, by the file's name, in the file's order. Raises SourceError."""
        path = paths["interactions"]
        is_ratings = path.name.endswith(".csv.gz")
        found = read_ratings(path, RATINGS, has_header=True) if is_ratings else read_reviews(path, REVIEWS)
        return found.with_columns(pl.col("timestamp") // 1000)

    def read_items(self, paths: Mapping[str, Path], wanted: Collection[str]) -> pl.DataFrame:
        """Read the metadata of the wanted items; one row per item that has a line, the first line of each.

        Raises SourceError naming the line if a wanted one is broken.
        """
        return read_records(paths["metadata"], wanted, key=PARENT_ASIN, parse=parse_record)


def parse_record(line: str, where: str) -> dict[str, Any]:
    """One line of metadata as a row of ITEMS: description and features joined, the main image. Raises SourceError."""
    record = parse_object(line, "parent_asin", where)
    details = record.get("details")
    brand = record.get("store") or (details.get("Brand") if isinstance(details, dict) else None)
    return {
        "asin": record["parent_asin"],
        "title": as_text(record.get("title"), f"{where}, title"),
        "brand": as_text(brand, f"{where}, store"),
        "categories": as_path(record.get("categories"), f"{where}, categories"),
        "description": describe(record, ("description", "features"), where),
        "image_url": as_text(choose_image(record.get("images")), f"{where}, images"),
    }


def choose_image(images: object) -> object:
    """URL of an item's main image in the first of SIZES that it has; null without one.

    >>> choose_image([{"variant": "PT01", "large": "b"}, {"variant": "MAIN", "hi_res": "a", "large": None}])
    'a'
    """
    listed = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    main = sorted(listed, key=lambda image: image.get("variant") != "MAIN")
    return next((image[size] for image in main[:1] for size in SIZES if image.get(size)), None)
