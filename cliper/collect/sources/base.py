"""The base of all sources: each reads two tables from raw files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import polars as pl

from cliper.collect.sources.base_settings import SourceSettings

S = TypeVar("S", bound=SourceSettings)
PEEK = 1000  # first rows that `peek` reads


class Source(ABC, Generic[S]):
    """One kind of raw data.

    Settings  what the config may say of such a source; every kind has its own, which name its files
    settings  what it says of this one
    """

    Settings: ClassVar[type[SourceSettings]]

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def read_interactions(self, paths: Mapping[str, Path]) -> pl.DataFrame:
        """Read who bought what, in the file's order.

        paths    role of each raw file, as `settings.files` names it -> its path
        returns  user_id, asin (texts), rating, timestamp in seconds (numbers, null where there is none); a source with
                 a split of its own adds split (train, valid, test), and where it numbers them user and item

        Raises SourceError naming the line that is broken.
        """

    @abstractmethod
    def read_items(self, paths: Mapping[str, Path], wanted: Collection[str]) -> pl.DataFrame:
        """Read the metadata of the wanted asins: the columns of `records.ITEMS`, at most one row an asin.

        Raises SourceError naming the line that is broken.
        """

    def peek(self, paths: Mapping[str, Path]) -> Collection[str]:
        """Read the first rows of those files that are there, for `doctor`; returns the asins that were bought.

        Raises SourceError as the readers do. A source that does not override it reads nothing.
        """
        del paths
        return ()
