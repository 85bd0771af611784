"""Settings of MMGCN."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Few, NotNegative, Width


class MmgcnSettings(BackboneSettings):
    """MMGCN: a graph network for each modality; their outputs are averaged."""

    title: ClassVar[str] = "MMGCN"
    uses_features: ClassVar[bool] = True
    decays_by_adam: ClassVar[bool] = True

    n_layers: Few = Field(description="layers of the user-item graph; as_mmrec: 3, whatever stands here")
    image_width: Width = Field(description="width to which image features are projected before the first layer")
    reg_weight: NotNegative = Field(description="weight of the mean squares of ids and preferences")
