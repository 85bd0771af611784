"""FREEDOM: a frozen item-item graph, and a user-item graph that loses other edges in each epoch.

Source: Zhou and Shen, A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation,
ACM MM 2023, by the authors' code: "frozen" is the item graph, the raw features are trained. Departs from it: items
with filled or zero features stay out of the item graph (see the stage `neighbours`).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor

from cliper.models.backbones.base import Backbone, Given, ItemNeighbours, Triples, batch_rows, xavier_embeddings
from cliper.models.backbones.freedom_settings import FreedomSettings
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.maths.losses import bpr
from cliper.models.maths.sampling import sample_edges
from cliper.models.maths.sparse import DEGREE_FLOOR, Edges, SparseMatrix, edge_weights, interaction_graph, propagate
from cliper.models.maths.tables import Neighbours


class Freedom(Backbone):
    Settings: ClassVar[type[FreedomSettings]] = FreedomSettings
    negatives_from_train: ClassVar[bool] = True  # the authors' code is the toolbox

    def __init__(self, given: Given, settings: FreedomSettings) -> None:
        super().__init__(given, settings)
        interactions, features, d, generator = given.interactions, given.features, given.d, given.generator
        self.settings = settings
        self.interactions = interactions
        self.users = xavier_embeddings(interactions.n_users, d, generator)
        self.items = xavier_embeddings(interactions.n_items, d, generator)
        self.image = FeatureRows(features.image, is_trained=True, generator=generator)
        self.image_projection = linear(self.image.width, d, generator)
        self.text = FeatureRows(features.text, is_trained=True, mlp_width=features.mlp_width, generator=generator)
        self.text_projection = linear(self.text.width, d, generator)
        self.graph = self.train_graph = interaction_graph(*interactions)
        self.item_graph = item_graph(given.item_neighbours, settings)

    def start_epoch(self, generator: np.random.Generator) -> None:
        """Keep a share of 1 - edge_dropout of the edges, rather those of rare users and items."""
        users, items, n_users, n_items = self.interactions
        n_kept = int(len(users) * (1 - self.settings.edge_dropout))
        kept = sample_edges(edge_weights(users, items), n_kept, generator)
        self.train_graph = interaction_graph(users[kept], items[kept], n_users, n_items).to(self.users.device)

    def embed(self) -> tuple[Tensor, Tensor]:
        return self._propagate(self.graph)

    def loss(self, triples: Triples) -> Tensor:
        """BPR on the propagated embeddings, and weakly on each modality's projected features."""
        users, items = self._propagate(self.train_graph)
        batch_users = F.embedding(triples.users, users)
        ranked = torch.cat([triples.positives, triples.negatives])
        loss = bpr(batch_users, *F.embedding(ranked, items).chunk(2))
        # Only the batch's items are projected, each once: 4096-d features of all items are most of the work.
        batch_items, place = ranked.unique(return_inverse=True)
        for modality, projection in ((self.text, self.text_projection), (self.image, self.image_projection)):
            projected = F.embedding(place, modality.project(projection, batch_items))
            loss = loss + self.settings.reg_weight * bpr(batch_users, *projected.chunk(2))
        return loss

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        return batch_rows(triples, self.users, self.items)

    def _propagate(self, graph: SparseMatrix) -> tuple[Tensor, Tensor]:
        similar = self.items
        for _ in range(self.settings.n_item_layers):
            similar = self.item_graph(similar)
        users, items = propagate(graph, self.users, self.items, self.settings.n_ui_layers)
        return users, items + similar


def equal_edges(neighbours: Neighbours, k: int) -> Edges:
    """Link each row to its first k neighbours with equal weights 1 / (k + 1e-7), k those that it has (FREEDOM)."""
    nearest = neighbours.nearest[:, :k]
    rows, ranks = np.nonzero(nearest >= 0)
    n_neighbours = (nearest >= 0).sum(axis=1)
    return Edges(rows, nearest[rows, ranks], 1 / (n_neighbours[rows] + DEGREE_FLOOR))


def item_graph(neighbours: ItemNeighbours, settings: FreedomSettings) -> SparseMatrix:
    """Mix the kNN graphs of both modalities (I, I), the images' with `image_weight`."""
    image, text = (equal_edges(each, settings.k) for each in neighbours)
    mixed = Edges(
        rows=np.concatenate([image.rows, text.rows]),
        columns=np.concatenate([image.columns, text.columns]),
        values=np.concatenate([settings.image_weight * image.values, (1 - settings.image_weight) * text.values]),
    )
    n_items = len(neighbours.image.nearest)
    return SparseMatrix(mixed, shape=(n_items, n_items))
