"""The crawled images: a manifest with a row per item, and shards with a row per URL.

`crawl` writes both; `encode` reads the images through here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from cliper import files
from cliper.errors import DataError
from cliper.schemas import TABLES
from cliper.stages import command

OUTCOME = {name: kind for name, kind in TABLES["image_shard"].columns.items() if name != "bytes"}


def shard_folder(manifest: Path) -> Path:
    """Folder of a manifest's shards."""
    return manifest.parent / "shards"


def shard_name(number: int, urls: Sequence[str], settings: Sequence[object]) -> str:
    """Name of a shard's file: its number, and a key of its URLs and of the settings that decide what is kept.

    >>> shard_name(2, ["http://shop.test/a.jpg"], [20_000_000])
    'images-00002-f5700743df50.parquet'
    """
    key = hashlib.sha256(json.dumps([urls, settings]).encode()).hexdigest()[:12]
    return f"images-{number:05d}-{key}.parquet"


def read_outcomes(shard: Path) -> pl.DataFrame:
    """The outcomes of a shard's URLs: its columns without the bytes, and its name in column shard."""
    return files.read_table(shard, "image_shard", columns=list(OUTCOME)).with_columns(shard=pl.lit(shard.name))


def read_rows(shard: Path) -> Iterator[dict[str, Any]]:
    """A shard's rows with their images, a few in memory at a time."""
    whole = (0, files.count_rows(shard, "image_shard"))
    for frame in files.read_in_batches(shard, "image_shard", whole, size=16):
        yield from frame.iter_rows(named=True)


def check_shard(shard: Path, urls: Sequence[str]) -> list[tuple[str, int | None]]:
    """Read a shard whole; returns status and HTTP code of each URL.

    Raises DataError if it cannot be read, is of other URLs, or has an image that is not the one that was fetched.
    """
    ends = list[tuple[str, int | None]]()
    for url, row in zip_longest(urls, read_rows(shard)):
        if row is None or row["url"] != url:
            raise DataError(f"{shard} is not of the URLs that its name says")
        if row["status"] == "ok":
            _require_same(row["bytes"], row["sha256"], shard)
        ends.append((row["status"], row["http_code"]))
    return ends


def _require_same(image: bytes | None, sha256: str, shard: Path) -> None:
    if image is None or hashlib.sha256(image).hexdigest() != sha256:
        again = command("crawl", TABLES["image_shard"].file, shard)
        raise DataError(f"{shard} has other images than crawl fetched. Run: {again}")


def no_outcomes() -> pl.DataFrame:
    """A table as `read_outcomes` returns it, without rows."""
    table = pl.from_arrow(
        pa.schema(
            [*((name, files.arrow_type(kind)) for name, kind in OUTCOME.items()), ("shard", pa.string())]
        ).empty_table()
    )
    assert isinstance(table, pl.DataFrame)
    return table


def read_images(manifest: Path, *, items: Collection[int] | None = None) -> Iterator[tuple[int, bytes]]:
    """Every item that has an image, in item order, with the image's bytes as the server sent them.

    items  the items to read; default: all

    Holds one row group of a shard in memory. Raises DataError if the manifest or a shard is missing or damaged.
    """
    columns = ["item", "status", "shard", "row", "sha256"]
    rows = files.read_table(manifest, "images", columns=columns).filter(status="ok")
    if items is not None:
        rows = rows.filter(pl.col("item").is_in(list(items)))
    yield from zip(rows["item"], read_bytes(manifest, rows), strict=True)


def read_bytes(manifest: Path, rows: pl.DataFrame) -> Iterator[bytes]:
    """The images' bytes of some rows of the manifest, all of status ok, in their order.

    Holds one row group of a shard in memory. Raises DataError if a shard is missing or damaged.
    """
    held, first, images = None, 0, pl.Series(dtype=pl.Binary)
    for shard, row, sha256 in rows.select("shard", "row", "sha256").iter_rows():
        path = shard_folder(manifest) / shard
        if shard != held or not first <= row < first + len(images):
            first, table = files.read_row_group(path, "image_shard", row, columns=["bytes"])
            held, images = shard, table["bytes"]
        _require_same(images[row - first], sha256, path)
        yield images[row - first]
