"""LightGCN: embeddings averaged over the layers of the user-item graph; no features, the content-free reference.

Source: He et al., LightGCN, SIGIR 2020. Departs from it: nothing; from its authors' code in that every interaction is
a positive once an epoch (there users are drawn, and a positive for each).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cliper.models.backbones.base import Backbone, Given, Triples, batch_rows, xavier_embeddings
from cliper.models.backbones.lightgcn_settings import LightgcnSettings
from cliper.models.maths.losses import BPR_LOSSES
from cliper.models.maths.sparse import interaction_graph, propagate


class Lightgcn(Backbone):
    """As_mmrec: 1e-10 inside the logarithm of BPR, and the trainer's L2 term with lengths that are not squared."""

    Settings: ClassVar[type[LightgcnSettings]] = LightgcnSettings

    def __init__(self, given: Given, settings: LightgcnSettings) -> None:
        super().__init__(given, settings)
        self.settings = settings
        self.users = xavier_embeddings(given.interactions.n_users, given.d, given.generator)
        self.items = xavier_embeddings(given.interactions.n_items, given.d, given.generator)
        self.graph = interaction_graph(*given.interactions)
        self.bpr = BPR_LOSSES[given.behaviour]

    def embed(self) -> tuple[Tensor, Tensor]:
        return propagate(self.graph, self.users, self.items, self.settings.n_layers)

    def loss(self, triples: Triples) -> Tensor:
        """BPR on the propagated embeddings: equation 15 without its L2 term, which the trainer adds."""
        return self.bpr(*batch_rows(triples, *self.embed()))

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        return batch_rows(triples, self.users, self.items)
