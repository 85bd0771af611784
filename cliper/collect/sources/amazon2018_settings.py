"""Settings of Amazon-2018."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cliper.collect.sources.base_settings import SourceSettings
from cliper.settings import FileName


class Amazon2018Settings(SourceSettings):
    """Raw files of one category."""

    category: FileName = Field(description="as in the files' names, for example Luxury_Beauty")
    interactions: Literal["ratings", "reviews"] = Field(description="<Category>.csv or <Category>_5.json.gz")

    @property
    def files(self) -> dict[str, str]:
        """Role of each raw file -> its name."""
        ratings, reviews = f"{self.category}.csv", f"{self.category}_5.json.gz"
        return {
            "interactions": ratings if self.interactions == "ratings" else reviews,
            "metadata": f"meta_{self.category}.json.gz",
        }
