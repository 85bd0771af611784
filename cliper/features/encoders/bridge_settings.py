"""Settings of the bridge."""

from __future__ import annotations

from typing import ClassVar

from cliper.features.encoders.base_settings import EncoderSettings
from cliper.features.encoders.cnn_settings import CnnSettings
from cliper.features.encoders.sentence_settings import SentenceSettings


class BridgeSettings(EncoderSettings):
    """There is one bridge, between two packages."""

    packages: ClassVar[tuple[str, ...]] = (*SentenceSettings.packages, *CnnSettings.packages)
    stands_in: ClassVar[str | None] = (
        "The encoder bridge is a small training-free stand-in for CLIP: these are not the paper's results."
    )
