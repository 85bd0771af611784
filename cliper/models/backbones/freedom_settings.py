"""Settings of FREEDOM."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Few, NotNegative, Share


class FreedomSettings(BackboneSettings):
    """FREEDOM: a frozen item graph, and a user-item graph that loses edges in each epoch."""

    title: ClassVar[str] = "FREEDOM"
    uses_features: ClassVar[bool] = True
    uses_item_graph: ClassVar[bool] = True
    decays_by_adam: ClassVar[bool] = True

    n_ui_layers: Few = Field(description="layers of the user-item graph")
    n_item_layers: Few = Field(description="layers of the item graph")
    k: Few = Field(description="neighbours of an item; at most neighbours.items")
    image_weight: Share = Field(description="share of the image graph in the item graph; the text graph has the rest")
    edge_dropout: float = Field(ge=0, lt=1, description="share of user-item edges that training drops in each epoch")
    reg_weight: NotNegative = Field(description="weight of the BPR losses on projected features")
