"""Settings of VBPR."""

from __future__ import annotations

from typing import ClassVar

from cliper.models.backbones.base_settings import BackboneSettings


class VbprSettings(BackboneSettings):
    """VBPR: matrix factorisation; half of an item's embedding is projected from its features."""

    title: ClassVar[str] = "VBPR"
    uses_features: ClassVar[bool] = True
