"""LightGCN: embeddings averaged over the layers of the user-item graph; no features, the content-free reference.

Source: He et al., LightGCN, SIGIR 2020. Departs from it: nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cliper import config
from cliper.models.backbones.base import (
    Backbone,
    Graphs,
    Interactions,
    ItemFeatures,
    Triples,
    batch_rows,
    xavier_embeddings,
)
from cliper.models.maths.losses import BPR_LOSSES
from cliper.models.maths.sparse import interaction_graph, propagate


class Lightgcn(Backbone):
    """As_mmrec: 1e-10 inside the logarithm of BPR, and the trainer's L2 term with lengths that are not squared."""

    uses_features = False

    def __init__(
        self,
        interactions: Interactions,
        features: ItemFeatures | None,
        graphs: Graphs,
        settings: config.Lightgcn,
        *,
        d: int,
        generator: torch.Generator,
        behaviour: str,
    ) -> None:
        super().__init__(interactions, features, graphs, settings, d=d, generator=generator, behaviour=behaviour)
        self.settings = settings
        self.users = xavier_embeddings(interactions.n_users, d, generator)
        self.items = xavier_embeddings(interactions.n_items, d, generator)
        self.graph = interaction_graph(*interactions)
        self.bpr = BPR_LOSSES[behaviour]

    def embed(self) -> tuple[Tensor, Tensor]:
        return propagate(self.graph, self.users, self.items, self.settings.n_layers)

    def loss(self, triples: Triples) -> Tensor:
        """BPR on the propagated embeddings: equation 15 without its L2 term, which the trainer adds."""
        return self.bpr(*batch_rows(triples, *self.embed()))

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        return batch_rows(triples, self.users, self.items)
