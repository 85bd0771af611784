"""Settings of Amazon-2023."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cliper.collect.sources.base_settings import SourceSettings
from cliper.settings import FileName


class Amazon2023Settings(SourceSettings):
    """Raw files of one category."""

    category: FileName = Field(description="as in the files' names, for example Baby_Products")
    interactions: Literal["ratings", "reviews"] = Field(description="<Category>.csv.gz or <Category>.jsonl.gz")

    @property
    def files(self) -> dict[str, str]:
        """Role of each raw file -> its name."""
        ratings, reviews = f"{self.category}.csv.gz", f"{self.category}.jsonl.gz"
        return {
            "interactions": ratings if self.interactions == "ratings" else reviews,
            "metadata": f"meta_{self.category}.jsonl.gz",
        }
