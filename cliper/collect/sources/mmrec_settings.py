"""Settings of the toolbox MMRec's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from cliper.collect.sources.base_settings import GivenFeatures, Mirrors, SourceSettings
from cliper.settings import FileName, Name, Settings

Matrix = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*\.npy$")]


class FeatureFiles(Settings):
    """Features of one arm, made elsewhere."""

    image: Matrix = Field(
        description="(items, width) by numpy.save, rows in the order of itemID; folders of the mirror by /"
    )
    text: Matrix = Field(description="the same, fused")


class MmrecSettings(SourceSettings):
    """An `.inter` file with its split, and where known the items' ids and metadata, and features."""

    inter: FileName = Field(description="tab-separated userID, itemID, x_label (0 train, 1 valid, 2 test)")
    mirrors: Mirrors = Field(description="base URLs or local folders, tried in order")
    item_ids: FileName | None = Field(None, description="tab-separated asin, itemID")
    metadata: FileName | None = Field(None, description="meta_<Category>.json.gz of Amazon-2014")
    features: dict[Name, FeatureFiles] | None = Field(
        None, description="arm -> its features, made elsewhere; used in place of the arm's encoders"
    )

    @property
    def files(self) -> dict[str, str]:
        """Role of each raw file that the catalogue is made of -> its name."""
        found = {"interactions": self.inter, "item_ids": self.item_ids, "metadata": self.metadata}
        return {role: name for role, name in found.items() if name is not None}

    @property
    def given_features(self) -> Mapping[str, GivenFeatures]:
        """Arm -> the features that replace those of its encoders."""
        return {arm: GivenFeatures(found.image, found.text) for arm, found in (self.features or {}).items()}

    @property
    def has_split(self) -> bool:
        """It always does: x_label."""
        return True

    @property
    def has_image_urls(self) -> bool:
        """The metadata has them."""
        return self.metadata is not None
