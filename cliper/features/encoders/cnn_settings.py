"""Settings of the image classifier."""

from __future__ import annotations

from typing import ClassVar

from cliper.features.encoders.base_settings import EncoderSettings


class CnnSettings(EncoderSettings):
    """There is one model, in a package."""

    encodes_texts: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("EfficientNet-Lite0",)
    stands_in: ClassVar[str | None] = (
        "EfficientNet-Lite0 stands in for the 4096-d image features of Amazon-2014 that MMRec's runs read."
    )
