"""SLMRec: LightGCN on ids and on each modality, fused; contrastive losses align the modalities of an item.

Source: Tao et al., Self-Supervised Learning for Multimedia Recommendation, IEEE TMM 2022, by the authors' code: its
task FAC (fine and coarse alignment of an item's modalities), without sound. Departs from it: ranks by the dot product
of the current embeddings (there by its sigmoid, which ties high scores, of the last training forward's). Degrees have
FREEDOM's floor of 1e-7 (the authors' code has none, the toolbox 1e-8), which changes an edge's weight by less than
1e-7 of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.arrays import Vectors, bring_near_one
from cliper.models.backbones.base import Backbone, Given, LastForward, Triples, xavier_embeddings
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.backbones.slmrec_settings import SlmrecSettings
from cliper.models.maths.losses import info_nce
from cliper.models.maths.sparse import interaction_graph


class Channels(NamedTuple):
    """Embeddings of nodes after propagation, in the three channels id, image, text, as two parts to be added."""

    own: Tensor  # (n, 3d) what came from the items, channel by channel
    shared: Tensor  # (n, d) what came from the users: their one embedding is in every channel

    def rows(self, nodes: Tensor) -> Tensor:
        """Channels of some nodes (B,), side by side (B, 3d)."""
        return Channels(*(F.embedding(nodes, part) for part in self)).all()

    def all(self) -> Tensor:
        """Channels of all nodes, side by side (n, 3d)."""
        return self.own + self.shared.repeat(1, 3)

    def detach(self) -> Channels:
        return Channels(*(part.detach() for part in self))


class Slmrec(Backbone):
    """As_mmrec: ranks the embeddings that the last training forward computed, by the sigmoid of their dot product
    (which rounds high scores to ties), and has a head that nothing uses.
    """

    Settings: ClassVar[type[SlmrecSettings]] = SlmrecSettings

    def __init__(self, given: Given, settings: SlmrecSettings) -> None:
        super().__init__(given, settings)
        interactions, features, d, generator = given.interactions, given.features, given.d, given.generator
        self.settings = settings
        self.behaviour = given.behaviour
        self.users = xavier_embeddings(interactions.n_users, d, generator)
        self.items = xavier_embeddings(interactions.n_items, d, generator)
        self.image = FeatureRows(unit_rows(features.image), is_trained=False, generator=generator)
        self.image_projection = xavier_linear(self.image.width, d, generator)
        text = features.text if features.mlp_width else unit_rows(features.text)
        self.text = FeatureRows(text, is_trained=False, mlp_width=features.mlp_width, generator=generator)
        self.text_projection = xavier_linear(self.text.width, d, generator)
        self.fuse_users = xavier_linear(3 * d, d, generator)
        self.fuse_items = xavier_linear(3 * d, d, generator)
        self.id_head = xavier_linear(d, d, generator)
        self.image_head = xavier_linear(d, d, generator)
        self.fine_head = xavier_linear(d, d, generator)  # from where ids meet images to where text joins
        self.coarse_head = xavier_linear(d, d // 2, generator)
        self.text_head = xavier_linear(d, d // 2, generator)
        self.graph = interaction_graph(*interactions)
        if given.behaviour == "as_mmrec":
            self.unused_head = xavier_linear(d, d, generator)
            self.last_forward = LastForward(interactions, d)

    def embed(self) -> tuple[Tensor, Tensor]:
        if self.behaviour == "as_mmrec" and self.last_forward.is_kept:
            return self.last_forward.embeddings()
        users, items = self._propagate()
        return self.fuse_users(users.all()), self.fuse_items(items.all())

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        scores = super().score(users, items)
        return scores.sigmoid() if self.behaviour == "as_mmrec" else scores

    def loss(self, triples: Triples) -> Tensor:
        """Contrast users with their positives, and weakly an item's modalities; sampled negatives play no part."""
        users, items = self._propagate()
        if self.behaviour == "as_mmrec":
            sides, layers = (users.detach(), items.detach()), copy.deepcopy((self.fuse_users, self.fuse_items))
            self.last_forward.keep(lambda: tuple(fuse(side.all()) for fuse, side in zip(layers, sides, strict=True)))
        batch_items = items.rows(triples.positives)
        ranked = info_nce(
            F.normalize(self.fuse_users(users.rows(triples.users))),
            F.normalize(self.fuse_items(batch_items)),
            temperature=self.settings.temperature,
        )
        return ranked + self.settings.ssl_weight * self._align(*batch_items.chunk(3, dim=1))

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        return F.embedding(triples.users, self.users), F.embedding(triples.positives, self.items)

    def _propagate(self) -> tuple[Channels, Channels]:
        """Users and items after propagation. The channels differ in the items only, so the users go through once."""
        text = self.text() if self.text.mlp is None else F.normalize(self.text())
        items = torch.cat([self.items, self.image_projection(self.image()), self.text_projection(text)], dim=1)
        own_items, own_users = spread(items, self.graph, self.graph.transposed, self.settings.n_layers)
        shared_users, shared_items = spread(self.users, self.graph.transposed, self.graph, self.settings.n_layers)
        return Channels(own_users, shared_users), Channels(own_items, shared_items)

    def _align(self, ids: Tensor, image: Tensor, text: Tensor) -> Tensor:
        """Find an item's image and its text among those of the batch (B, d), both by its id."""
        fine = self.id_head(ids)
        coarse = self.coarse_head(self.fine_head(fine))
        temperature = self.settings.ssl_temperature
        return info_nce(fine, self.image_head(image), temperature=temperature) + info_nce(
            coarse, self.text_head(text), temperature=temperature
        )


def spread(
    start: Tensor, across: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], n_layers: int
) -> tuple[Tensor, Tensor]:
    """Average over layers 0 to n_layers what spreads from one side of the user-item graph alone.

    start         (n, d) layer 0 of this side; the other side's is 0
    across, back  products with the graph: this side -> the other, and back
    n_layers      at least 1
    returns       (n, d) this side (even layers), (m, d) the other (odd layers)

    Source: LightGCN, equation 8, which is linear: what spreads from both sides is the sum.
    """
    layers = [start / (n_layers + 1)]
    for layer in range(n_layers):
        layers.append((back if layer % 2 else across)(layers[-1]))
    return sum(layers[2::2], start=layers[0]), sum(layers[3::2], start=layers[1])


def unit_rows(features: Vectors) -> Vectors:
    """Scale rows (n, D) of any length to unit length; a row of zeros stays."""
    scaled, _ = bring_near_one(features)
    lengths = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
    unit: Vectors = scaled / np.maximum(lengths, 1e-12)[:, None]
    return unit


def xavier_linear(width_in: int, width_out: int, generator: torch.Generator) -> nn.Linear:
    """Make x Wᵀ + b with W uniform within ±√(6 / (width_in + width_out)) and torch's default b."""
    layer = linear(width_in, width_out, generator)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    return layer
