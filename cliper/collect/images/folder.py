"""Images in a folder of the user's own, named by item: `<asin>.jpg` (or .jpeg, .png, .gif, .webp, .bmp).

Its subfolders are searched too. `crawl` reads them instead of URLs, with the same checks and statuses.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Self

import polars as pl

from cliper import log
from cliper.collect.images.fetch import Answer
from cliper.errors import DataError

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp"})


def find_images(items: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Find every item's image among the files of a folder.

    items    item, asin (nullable)
    returns  item, url, status: what `OwnImages` reads, or "no_file"

    An id is looked up among the folder's names and never used as a path. Raises DataError if the folder is missing, or
    has no file for any item.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; put the images there, or correct image_folder")
    stamped, n_more = dict[str, str](), 0
    for path in list_images(folder):
        n_more += path.stem in stamped
        stamped.setdefault(path.stem, stamp(folder, path))
    if n_more:
        log.warn(f"{folder} has {n_more:,} more files of items that have one; the first by path is used")
    asins = items["asin"].to_list()
    urls = [stamped.get(asin) for asin in asins]
    if not any(urls):
        raise DataError(f"{folder} has no file named by an item, such as {next(filter(None, asins), 'asin')}.jpg")
    found = items.select("item").with_columns(url=pl.Series(urls, dtype=pl.String))
    return found.with_columns(status=pl.when(pl.col("url").is_null()).then(pl.lit("no_file")))


def list_images(folder: Path) -> list[Path]:
    """Paths in a folder of the images there and in its subfolders, sorted; links to folders are not followed.

    Raises DataError if a subfolder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}; make it readable, or move it away")

    found = (Path(where, name) for where, _, names in os.walk(folder, onerror=refuse) for name in names)
    return sorted(path.relative_to(folder) for path in found if path.suffix.lower() in ENDINGS and path.is_file())


def stamp(folder: Path, path: Path) -> str:
    """A file's path in the folder, its size and the time of its last change, so that a changed file is read again.

    Raises DataError if the path is no UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"{folder} has a file whose path is no UTF-8: {str(path)!a}; rename it") from None
    about = (folder / path).stat()
    return f"{path}?{about.st_size}-{about.st_mtime_ns}"


class OwnImages:
    """Reads files as a `Fetcher` fetches URLs; a broken file raises nothing."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def fetch(self, stamped: str) -> Answer:
        """Read a file that `find_images` found."""
        return await asyncio.to_thread(self._read, stamped)

    def _read(self, stamped: str) -> Answer:
        path = self._folder / stamped.rpartition("?")[0]
        try:
            if path.stat().st_size > self._max_bytes:
                return Answer("too_large", detail=f"more than {self._max_bytes} bytes")
            return Answer("ok", body=path.read_bytes())
        except OSError as error:
            return Answer("no_file", detail=error.strerror)
