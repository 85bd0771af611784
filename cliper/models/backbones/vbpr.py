"""VBPR: matrix factorisation with a second half of each item's embedding read from its features.

Source: He and McAuley, VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback, AAAI 2016, as MMRec has it:
text as well as images, and no bias of an item or of its features. The L2 term is the trainer's weight decay on the
batch; it also shrinks the half that is read from features, and so the projection.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.models.backbones.base import Backbone, Given, Triples, xavier_embeddings
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.backbones.vbpr_settings import VbprSettings
from cliper.models.maths.losses import BPR_LOSSES


class Vbpr(Backbone):
    """As_mmrec: 1e-10 inside the logarithm, and the trainer's L2 term with lengths that are not squared."""

    Settings: ClassVar[type[VbprSettings]] = VbprSettings

    def __init__(self, given: Given, settings: VbprSettings) -> None:
        super().__init__(given, settings)
        interactions, features, d, generator = given.interactions, given.features, given.d, given.generator
        self.users = xavier_embeddings(interactions.n_users, 2 * d, generator)
        self.items = xavier_embeddings(interactions.n_items, d, generator)
        self.image = FeatureRows(features.image, is_trained=False, generator=generator)
        self.text = FeatureRows(features.text, is_trained=False, mlp_width=features.mlp_width, generator=generator)
        self.projection = linear(self.text.width + self.image.width, d, generator)
        nn.init.xavier_normal_(self.projection.weight, generator=generator)
        nn.init.zeros_(self.projection.bias)
        self.bpr = BPR_LOSSES[given.behaviour]

    def embed(self) -> tuple[Tensor, Tensor]:
        return self.users, self._item_rows(torch.arange(len(self.items), device=self.items.device))

    def loss(self, triples: Triples) -> Tensor:
        """BPR without its L2 term, which the trainer adds."""
        return self.bpr(*self.decayed(triples))

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        # Only the batch's items are projected, each once.
        items, place = torch.cat([triples.positives, triples.negatives]).unique(return_inverse=True)
        positives, negatives = F.embedding(place, self._item_rows(items)).chunk(2)
        return F.embedding(triples.users, self.users), positives, negatives

    def _item_rows(self, items: Tensor) -> Tensor:
        """Embed items (n,): their own half and the half read from their features, (n, 2d)."""
        read = self.projection(torch.cat([self.text(items), self.image(items)], dim=1))
        return torch.cat([F.embedding(items, self.items), read], dim=1)
