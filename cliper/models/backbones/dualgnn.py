"""DualGNN: LightGCN on each modality, mixed by each user's own weights, then averaged over users who buy alike.

Source: Wang et al., DualGNN: Dual Graph Neural Network for Multimedia Recommendation, IEEE TMM 2021, by the authors'
code with two modalities. Departs from the code: see `Dualgnn`. The weights of items are in the regulariser only, there
as here. Degrees have FREEDOM's floor, which changes an edge's weight by less than 1e-7 of it.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.models.backbones.base import Backbone, Given, LastForward, Triples
from cliper.models.backbones.dualgnn_settings import DualgnnSettings
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.maths.losses import bpr
from cliper.models.maths.sparse import interaction_graph, sum_layers
from cliper.models.maths.tables import Neighbours

MMREC_D, MMREC_LAYERS = 64, 2  # whatever the config says


class Dualgnn(Backbone):
    """As published: natural logarithm (the code takes log2); short lists of neighbours stay short (the code fills them
    with repeats, drawn at random, up to n_neighbours); d and the depth are settings (there 64 and two layers); ranks by
    the current parameters (there by the last training forward), without train items (there they get the score 1e-5).

    As_mmrec: logarithm and neighbours as in the code; 64 wide, 256 inside the projections, two layers of the graph;
    users get w₁(image + text) + w₂ text for w₁ image + w₂ text; ranks by the last training forward.
    """

    Settings: ClassVar[type[DualgnnSettings]] = DualgnnSettings

    def __init__(self, given: Given, settings: DualgnnSettings) -> None:
        super().__init__(given, settings)
        interactions, features, generator = given.interactions, given.features, given.generator
        self.is_published = given.behaviour == "as_published"
        self.reg_weight = settings.reg_weight
        self.d, self.n_layers = (given.d, settings.n_layers) if self.is_published else (MMREC_D, MMREC_LAYERS)
        n_users, n_items = interactions.n_users, interactions.n_items
        self.image_preferences = nn.Parameter(xavier_normal(n_users, self.d, generator))
        self.text_preferences = nn.Parameter(xavier_normal(n_users, self.d, generator))
        self.user_weights = nn.Parameter(xavier_normal(n_users, 2, generator).softmax(dim=1))  # image, text
        self.item_weights = nn.Parameter(xavier_normal(n_items, 2, generator).softmax(dim=1))
        hidden_width = (settings.hidden_width if self.is_published else None) or 4 * self.d
        self.image = FeatureRows(features.image, is_trained=False, generator=generator)
        self.image_projection = projection(self.image.width, hidden_width, self.d, generator)
        self.text = FeatureRows(features.text, is_trained=False, mlp_width=features.mlp_width, generator=generator)
        self.text_projection = projection(self.text.width, hidden_width, self.d, generator)
        self.graph = interaction_graph(*interactions)
        self.n_neighbours = n = settings.n_neighbours
        nearest, closeness = given.user_neighbours
        self.known = Neighbours(nearest[:, :n], closeness[:, :n])
        self.neighbours = WeightedNeighbours(self.known)
        self.last = None if self.is_published else LastForward(interactions, self.d)

    def start_epoch(self, generator: np.random.Generator) -> None:
        """As_mmrec: repeat other neighbours than in the last epoch."""
        if not self.is_published:
            padded = repeat_neighbours(self.known, self.n_neighbours, generator)
            self.neighbours = WeightedNeighbours(padded).to(self.user_weights.device)

    def embed(self) -> tuple[Tensor, Tensor]:
        if self.last is not None and self.last.is_kept:
            return self.last.embeddings()
        mixed, items = self._propagate()
        return mixed + self.neighbours(mixed), items

    def loss(self, triples: Triples) -> Tensor:
        """BPR, and the mean squares of the batch's preferences and of all weights of modalities."""
        mixed, items = self._propagate()
        if self.last is not None:
            kept, kept_items, neighbours = mixed.detach(), items.detach(), self.neighbours
            self.last.keep(lambda: (kept + neighbours(kept), kept_items))
        users = F.embedding(triples.users, mixed) + self.neighbours(mixed, triples.users)
        ranked = F.embedding(torch.cat([triples.positives, triples.negatives]), items)
        ranking = bpr(users, *ranked.chunk(2))
        regularised = (*self.decayed(triples), self.user_weights, self.item_weights)
        mean_squares = torch.stack([part.square().mean() for part in regularised]).sum()
        return (ranking if self.is_published else ranking / math.log(2)) + self.reg_weight * mean_squares

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        """Preferences of the batch."""
        return (
            F.embedding(triples.users, self.image_preferences),
            F.embedding(triples.users, self.text_preferences),
        )

    def _propagate(self) -> tuple[Tensor, Tensor]:
        """Users (U, d) with their modalities mixed, items (I, d) with theirs added; no user's neighbours yet."""
        users = [F.normalize(self.image_preferences), F.normalize(self.text_preferences)]
        items = [
            F.normalize(self.image_projection(self.image())),
            F.normalize(self.text_projection(self.text())),
        ]
        # Both modalities side by side: one sparse product a layer. Here layers are added, not averaged.
        sums = sum_layers(self.graph, torch.cat(users, dim=1), torch.cat(items, dim=1), self.n_layers)
        (user_image, user_text), (item_image, item_text) = (side.chunk(2, dim=1) for side in sums)
        image_weight, text_weight = self.user_weights.split(1, dim=1)
        if not self.is_published:
            user_image = user_image + user_text
        return image_weight * user_image + text_weight * user_text, item_image + item_text


class WeightedNeighbours(nn.Module):
    """Adds up the neighbours of users, weighed by a softmax over how many items they share."""

    nearest: Tensor
    weights: Tensor

    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__()
        is_there = torch.from_numpy(neighbours.nearest >= 0)
        closeness = torch.from_numpy(neighbours.closeness).masked_fill(~is_there, -torch.inf)
        weights = closeness.softmax(dim=1).nan_to_num(0.0)  # NaN: a user without neighbours
        self.register_buffer("nearest", torch.from_numpy(neighbours.nearest).clamp(min=0), persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, embeddings: Tensor, users: Tensor | None = None) -> Tensor:
        """Sums (n, d) of the neighbours of some users (n,), or of all."""
        nearest, weights = self.nearest, self.weights
        if users is not None:
            nearest, weights = nearest[users], weights[users]
        return F.embedding_bag(nearest, embeddings, mode="sum", per_sample_weights=weights)


def repeat_neighbours(neighbours: Neighbours, n: int, generator: np.random.Generator) -> Neighbours:
    """Fill short lists up to n: each next neighbour repeats one of those before it, drawn uniformly.

    neighbours  (U, k) ≤ n
    returns     (U, n), an empty list stays empty

    Source: MMRec. Departs from it: nothing.
    """
    room = ((0, 0), (0, n - neighbours.nearest.shape[1]))
    nearest = np.pad(neighbours.nearest, room, constant_values=-1)
    closeness = np.pad(neighbours.closeness, room)
    n_known = (neighbours.nearest >= 0).sum(axis=1)
    for place in range(1, n):
        rows = np.flatnonzero((n_known > 0) & (n_known <= place))
        drawn = generator.integers(place, size=len(rows))
        nearest[rows, place], closeness[rows, place] = nearest[rows, drawn], closeness[rows, drawn]
    return Neighbours(nearest, closeness)


def projection(width: int, hidden_width: int, d: int, generator: torch.Generator) -> nn.Sequential:
    """Make two layers from features (n, width) to (n, d)."""
    return nn.Sequential(linear(width, hidden_width, generator), nn.LeakyReLU(), linear(hidden_width, d, generator))


def xavier_normal(n: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw (n, width) from a normal distribution of variance 2 / (n + width)."""
    return nn.init.xavier_normal_(torch.empty(n, width), generator=generator)
