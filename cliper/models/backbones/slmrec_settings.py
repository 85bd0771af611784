"""Settings of SLMRec."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cliper.models.backbones.base_settings import BackboneSettings


class SlmrecSettings(BackboneSettings):
    """SLMRec: LightGCN on ids and on each modality, fused; contrastive losses align an item's modalities."""

    title: ClassVar[str] = "SLMRec"
    uses_features: ClassVar[bool] = True

    n_layers: int = Field(ge=1, description="layers of the user-item graph")
    temperature: float = Field(gt=0, description="of the contrastive loss between users and positives")
    ssl_temperature: float = Field(gt=0, description="of the contrastive losses between an item's modalities")
    ssl_weight: float = Field(ge=0, description="weight of the contrastive losses between an item's modalities")
