"""Settings of DualGNN."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import Few, NotNegative, Width


class DualgnnSettings(BackboneSettings):
    """DualGNN: LightGCN on each modality, mixed for each user, averaged over users who buy alike."""

    title: ClassVar[str] = "DualGNN"
    uses_features: ClassVar[bool] = True
    uses_user_graph: ClassVar[bool] = True
    decays_by_adam: ClassVar[bool] = True

    n_layers: Few = Field(description="layers of the user-item graph; as_mmrec: 2, whatever stands here")
    hidden_width: Width | None = Field(
        None,
        description="hidden width of the two-layer projection of features; null: 4 d, as the authors; "
        "as_mmrec: 256, whatever stands here",
    )
    n_neighbours: Few = Field(description="users whose embeddings are added to a user's own; at most neighbours.users")
    reg_weight: NotNegative = Field(description="weight of the mean squares of preferences and modality weights")
