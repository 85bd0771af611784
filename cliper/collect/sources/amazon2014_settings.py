"""Settings of Amazon-2014."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from cliper.collect.sources.base_settings import GivenFeatures, SourceSettings
from cliper.settings import FileName, Name, Settings


class ImageFile(Settings):
    """Image features of 2014: 4096 values an item, of a CNN."""

    image: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.b$",
        description="image_features_<Category>.b: of each item 10 bytes of asin, 4096 float32",
    )


class Amazon2014Settings(SourceSettings):
    """Raw files of one category."""

    category: FileName = Field(description="as in the files' names, for example Baby")
    interactions: Literal["ratings", "reviews"] = Field(
        description="ratings_<Category>.csv or reviews_<Category>_5.json.gz"
    )
    features: dict[Name, ImageFile] | None = Field(
        None, description="arm -> image features of 2014, used in place of the arm's image encoder"
    )

    @property
    def files(self) -> dict[str, str]:
        """Role of each raw file -> its name."""
        ratings, reviews = f"ratings_{self.category}.csv", f"reviews_{self.category}_5.json.gz"
        return {
            "interactions": ratings if self.interactions == "ratings" else reviews,
            "metadata": f"meta_{self.category}.json.gz",
        }

    @property
    def given_features(self) -> Mapping[str, GivenFeatures]:
        """Arm -> the image features that replace those of its encoder."""
        return {arm: GivenFeatures(found.image) for arm, found in (self.features or {}).items()}
