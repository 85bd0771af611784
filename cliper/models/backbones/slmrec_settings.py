"""Settings of SLMRec."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Few, NotNegative, Positive


class SlmrecSettings(BackboneSettings):
    """SLMRec: LightGCN on ids and on each modality, fused; contrastive losses align an item's modalities."""

    title: ClassVar[str] = "SLMRec"
    uses_features: ClassVar[bool] = True
    decays_by_adam: ClassVar[bool] = True

    n_layers: Few = Field(description="layers of the user-item graph")
    temperature: Positive = Field(description="of the contrastive loss between users and positives")
    ssl_temperature: Positive = Field(description="of the contrastive losses between an item's modalities")
    ssl_weight: NotNegative = Field(description="weight of the contrastive losses between an item's modalities")
