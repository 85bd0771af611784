"""Settings of LightGCN."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Few


class LightgcnSettings(BackboneSettings):
    """LightGCN: embeddings averaged over the layers of the user-item graph; no features."""

    title: ClassVar[str] = "LightGCN"

    n_layers: Few = Field(description="layers of the user-item graph")
