"""Settings of LATTICE."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Few, NotNegative, Positive, Share


class LatticeSettings(BackboneSettings):
    """LATTICE: an item graph learned from projected features, mixed with one of raw features."""

    title: ClassVar[str] = "LATTICE"
    uses_features: ClassVar[bool] = True
    uses_item_graph: ClassVar[bool] = True
    decays_by_adam: ClassVar[bool] = True

    n_ui_layers: Few = Field(description="layers of the user-item graph")
    n_item_layers: Few = Field(description="layers of the item graph")
    k: Few = Field(description="neighbours of an item; at most neighbours.items")
    frozen_weight: Share = Field(description="λ: share of the graph of raw features")
    reg_weight: NotNegative = Field(description="weight of half the squared norm of the batch's embeddings")
    learning_rate_decay: Positive = Field(description="γ: the learning rate is multiplied by γ in 50 epochs")
