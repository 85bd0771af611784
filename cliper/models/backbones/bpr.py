"""BPR: plain matrix factorisation, without graph and features.

Source: Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009. Departs from it: trained
by Adam in batches in place of single steps; its L2 term is the trainer's weight decay on the batch.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cliper.models.backbones.base import Backbone, Given, Triples, batch_rows, normal_embeddings
from cliper.models.backbones.bpr_settings import BprSettings
from cliper.models.maths.losses import BPR_LOSSES


class Bpr(Backbone):
    """As_mmrec: 1e-10 inside the logarithm, and the trainer's L2 term with lengths that are not squared."""

    Settings: ClassVar[type[BprSettings]] = BprSettings

    def __init__(self, given: Given, settings: BprSettings) -> None:
        super().__init__(given, settings)
        self.users = normal_embeddings(given.interactions.n_users, given.d, given.generator)
        self.items = normal_embeddings(given.interactions.n_items, given.d, given.generator)
        self.bpr = BPR_LOSSES[given.behaviour]

    def embed(self) -> tuple[Tensor, Tensor]:
        return self.users, self.items

    def loss(self, triples: Triples) -> Tensor:
        """BPR on the embeddings themselves: BPR-Opt without its L2 term, which the trainer adds."""
        return self.bpr(*batch_rows(triples, self.users, self.items))

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        return batch_rows(triples, self.users, self.items)
