"""Settings of a user's own tables."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cliper.collect.sources.base_settings import Mirrors, SourceSettings
from cliper.settings import FileName, Settings, Text, fault


class InteractionColumns(Settings):
    """Our name of a column -> the file's; what is not named is not read."""

    user_id: Text = Field(description="ids of users")
    asin: Text = Field(description="the shop's own ids of items")
    rating: Text | None = Field(None, description="numbers")
    timestamp: Text | None = Field(None, description="seconds since 1970, or a Parquet's times")
    split: Text | None = Field(None, description="train, valid, test, or 0, 1, 2")


class ItemColumns(Settings):
    """The same of the table of items."""

    asin: Text = Field(description="the shop's own ids of items")
    title: Text | None = Field(None, description="texts")
    brand: Text | None = Field(None, description="texts")
    categories: Text | None = Field(None, description='texts with " > " or "|" between levels, or lists of texts')
    description: Text | None = Field(None, description="texts")
    image_url: Text | None = Field(None, description="of the cover images")


class Columns(Settings):
    """Columns of both tables."""

    interactions: InteractionColumns
    items: ItemColumns | None = None


class TableSettings(SourceSettings):
    """Tables of interactions and of items, and the names of their columns."""

    interactions: FileName = Field(
        description="a file in a folder of mirrors: CSV, TSV (.tsv) or Parquet (.parquet), a row an interaction"
    )
    items: FileName | None = Field(None, description="the same, a row an item")
    mirrors: Mirrors = Field(description="base URLs or local folders, tried in order")
    columns: Columns = Field(description="our name of a column -> the file's; what is not named is not read")

    @model_validator(mode="after")
    def _match_items(self) -> Self:
        if (self.items is None) != (self.columns.items is None):
            raise fault("items and columns.items go together")
        return self

    @property
    def files(self) -> dict[str, str]:
        """Role of each raw file -> its name."""
        return {"interactions": self.interactions} | ({"metadata": self.items} if self.items else {})

    @property
    def has_split(self) -> bool:
        """Whether a column says which split a row is in."""
        return self.columns.interactions.split is not None

    @property
    def cut_columns(self) -> frozenset[str]:
        """Those that are named."""
        columns = self.columns.interactions
        return frozenset(name for name in ("rating", "timestamp") if getattr(columns, name) is not None)

    @property
    def has_image_urls(self) -> bool:
        """Whether a column has them."""
        return self.columns.items is not None and self.columns.items.image_url is not None
