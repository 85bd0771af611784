"""Settings of the sentence encoder."""

from __future__ import annotations

from typing import ClassVar

from cliper.features.encoders.base_settings import EncoderSettings


class SentenceSettings(EncoderSettings):
    """There is one model, in a package."""

    encodes_images: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("all-MiniLM-L6-v2",)
