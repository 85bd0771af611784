"""What all sources' settings share, and what a run knows of a source before its class is loaded. No polars here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import Field

from cliper.settings import Settings, Text

Mirrors = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]  # YAML has lists


class GivenFeatures(NamedTuple):
    """Files with features that come with a dataset for one arm.

    With `text`: both are numpy files with a row for every item, in item order. Without: `image` has the image features
    of Amazon-2014, by asin, and the text features are made here.
    """

    image: str
    text: str | None = None


class SourceSettings(Settings):
    """Settings of one source; each kind of source subclasses this."""

    mirrors: Mirrors | None = Field(
        None,
        description="base URLs or local folders, tried in order; default: those in cliper/data/sources.csv",
    )

    @property
    @abstractmethod
    def files(self) -> dict[str, str]:
        """Role of each raw file that the catalogue is made of -> its name."""

    @property
    def given_features(self) -> Mapping[str, GivenFeatures]:
        """Arm -> its features, where the source comes with some."""
        return {}

    @property
    def has_split(self) -> bool:
        """Whether the source comes with a split of its own."""
        return False

    @property
    def cut_columns(self) -> frozenset[str]:
        """Which of rating and timestamp its interactions have; a dataset can be filtered and split by these."""
        return frozenset({"rating", "timestamp"})

    @property
    def has_image_urls(self) -> bool:
        """Whether its items have URLs of images."""
        return True
