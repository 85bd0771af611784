"""LATTICE: an item graph that is learned from projected features, mixed with one of raw features.

Source: Zhang et al., Mining Latent Structures for Multimedia Recommendation, ACM MM 2021, by the authors' code.
Departs from it in both behaviours: items with filled or zero features stay out of the graphs of that modality, the
learned one too (see the stage `neighbours`); an item whose similarities add up to 0 or less has no edges (there NaN);
ties go to the lower item index. Departs from it as torch has changed since: Adam moves features, projections and the
modalities' weights in the first step of an epoch alone, the only one with a gradient for them; on the authors' torch
1.5 the others have gradients of zeros, and momentum and decay go on. As_published also departs from how they draw a
batch: every interaction is a positive once an epoch, as with all backbones here (there users are drawn, with one of
each user's items: who bought two weighs as much as who bought fifty).

Nothing is I x I: an item graph is the positions and weights of each item's neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.arrays import Bools, Ints
from cliper.models.backbones.base import Backbone, Given, Triples, batch_rows, xavier_embeddings
from cliper.models.backbones.lattice_settings import LatticeSettings
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.maths.losses import bpr, half_squared_norm
from cliper.models.maths.nearest import nearest_rows
from cliper.models.maths.sparse import Edges, LayerSum, SparseMatrix
from cliper.models.maths.tables import Neighbours


class ItemGraph(NamedTuple):
    """Each item's neighbours; weight 0 pads, the same neighbour twice adds up."""

    nearest: Tensor  # (I, n) int64
    weights: Tensor  # (I, n)

    def product(self, x: Tensor) -> Tensor:
        """Sum the neighbours' rows of x (I, d) by weight; there is a gradient for both."""
        n_items, n_neighbours = self.nearest.shape
        starts = torch.arange(n_items, device=x.device) * n_neighbours  # 2-D input would refuse lists of length 0
        columns, weights = self.nearest.flatten(), self.weights.flatten()
        summed: Tensor = F.embedding_bag(columns, x, starts, per_sample_weights=weights, mode="sum")
        return summed


class Lattice(Backbone):
    """Switch: as_mmrec divides the regulariser by the size of a full batch, also for the short last one.

    The full size is that of the largest batch so far: the configured one, unless train fills no batch.
    """

    Settings: ClassVar[type[LatticeSettings]] = LatticeSettings

    def __init__(self, given: Given, settings: LatticeSettings) -> None:
        super().__init__(given, settings)
        interactions, features, d, generator = given.interactions, given.features, given.d, given.generator
        self.settings = settings
        self.behaviour = given.behaviour
        self.full_size = 0
        self.users = xavier_embeddings(interactions.n_users, d, generator)
        self.items = xavier_embeddings(interactions.n_items, d, generator)
        image = FeatureRows(features.image, is_trained=True, generator=generator)
        text = FeatureRows(features.text, is_trained=True, mlp_width=features.mlp_width, generator=generator)
        nearest = given.item_neighbours
        self.image = Modality(image, features.image_is_filled, nearest.image, k=settings.k, d=d, generator=generator)
        self.text = Modality(text, features.text_is_filled, nearest.text, k=settings.k, d=d, generator=generator)
        self.modality_scores = nn.Parameter(torch.full((2,), 0.5))  # image, text
        self.graph = walk_graph(*interactions)
        self.epoch_graph: SparseMatrix | None = None

    def learning_rate_factor(self, epoch: int) -> float:
        return float(self.settings.learning_rate_decay ** (epoch / 50))

    def start_epoch(self, generator: np.random.Generator) -> None:
        """Let the first batch build the item graph. Only its gradient reaches the features and their weights."""
        self.epoch_graph = None

    def embed(self) -> tuple[Tensor, Tensor]:
        nodes, similar = self._propagate(self.build_item_graph().product)
        users, items = nodes.split([len(self.users), len(self.items)])
        return users, items + F.normalize(similar)

    def loss(self, triples: Triples) -> Tensor:
        """BPR on the propagated embeddings, and half their squared length."""
        nodes, similar = self._propagate(self._epoch_product())
        ranked = torch.cat([triples.positives, triples.negatives])
        users = F.embedding(triples.users, nodes)
        items = F.embedding(ranked + len(self.users), nodes) + F.normalize(F.embedding(ranked, similar))
        rows = (users, *items.chunk(2))
        reg_weight = self.settings.reg_weight
        if self.behaviour == "as_mmrec":
            self.full_size = max(self.full_size, len(triples.users))
            reg_weight *= len(triples.users) / self.full_size
        return bpr(*rows) + reg_weight * half_squared_norm(*rows)

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        return batch_rows(triples, self.users, self.items)

    def build_item_graph(self) -> ItemGraph:
        """Mix the graph learned from the current parameters with the frozen one."""
        weights = self.modality_scores.softmax(dim=0)
        modalities = (self.image, self.text)
        learned = [modality.learned_graph() for modality in modalities]
        mixed = normalise(join(learned, weights))
        frozen = join([modality.frozen_graph() for modality in modalities], weights)
        share = self.settings.frozen_weight
        return join([mixed, frozen], weights.new_tensor([1 - share, share]))

    def _epoch_product(self) -> Callable[[Tensor], Tensor]:
        if self.epoch_graph is not None:
            return self.epoch_graph
        built = self.build_item_graph()
        self.epoch_graph = as_constant(built)
        return built.product

    def _propagate(self, item_product: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Averages over the layers of users, then items (N, d), and items mixed with similar ones (I, d)."""
        similar: Tensor = self.items
        for _ in range(self.settings.n_item_layers):
            similar = item_product(similar)
        n_layers = self.settings.n_ui_layers
        # The graph is linear: dividing layer 0 divides them all.
        nodes = torch.cat([self.users, self.items]).div_(n_layers + 1)
        products = (lambda x: (self.graph.by_row(x),)), (lambda x: (self.graph.by_column(x),))
        (mean,) = LayerSum.apply(*products, n_layers, nodes)
        return mean, similar


class Modality(nn.Module):
    """One modality's part of the item graph: its features, their projection, and the frozen neighbours."""

    usable: Tensor  # (n,) items whose features are their own
    frozen_nearest: Tensor  # (I, k), as below
    frozen_weights: Tensor
    found_for: Tensor  # (n, d) rows of the last search; what it found follows
    found_nearest: Tensor  # (n, k)
    found_cosines: Tensor  # (n, k)

    def __init__(
        self,
        rows: FeatureRows,
        is_filled: Bools,
        neighbours: Neighbours,
        *,
        k: int,
        d: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.k = k
        self.rows = rows
        self.projection = linear(rows.width, d, generator)
        has_own = torch.from_numpy(~is_filled) & rows.features.detach().any(dim=1)
        nearest, closeness = (torch.from_numpy(part[:, :k]) for part in neighbours)
        frozen = normalise(ItemGraph(nearest.clamp(min=0), closeness.where(nearest >= 0, 0)))
        for name, constant in (
            ("usable", has_own.nonzero().flatten()),
            ("frozen_nearest", frozen.nearest),
            ("frozen_weights", frozen.weights),
            *((f"found_{what}", torch.empty(0)) for what in ("for", "nearest", "cosines")),
        ):
            self.register_buffer(name, constant, persistent=False)

    def frozen_graph(self) -> ItemGraph:
        return ItemGraph(self.frozen_nearest, self.frozen_weights)

    def learned_graph(self) -> ItemGraph:
        """Link each usable item to the k of highest cosine by projected features, weighted with the cosine."""
        projected = self.projection(self.rows())
        unit = F.normalize(projected.index_select(0, self.usable))
        # An epoch begins with the parameters that the evaluation before it embedded: one search serves both.
        if not torch.equal(unit, self.found_for):
            self.found_for = unit.detach()
            self.found_cosines, self.found_nearest = nearest_rows(self.found_for, self.k)
        cosines = _Products.apply(unit, self.found_nearest, self.found_cosines)
        shape = (len(projected), cosines.shape[1])
        return ItemGraph(
            self.usable.new_zeros(shape).index_copy(0, self.usable, self.usable[self.found_nearest]),
            cosines.new_zeros(shape).index_copy(0, self.usable, cosines),
        )


class _Products(torch.autograd.Function):
    """Give the known products of rows of x (n, d) with their nearest (n, k) a gradient for x.

    Nothing is n x k x d: the gradient is a graph's product with x, plus its transpose's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, nearest: Tensor, products: Tensor) -> Tensor:
        ctx.save_for_backward(x, nearest)
        return products.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, nearest = ctx.saved_tensors
        columns, order = nearest.flatten().sort(stable=True)
        starts = torch.searchsorted(columns, torch.arange(len(x), device=x.device))
        rows, weights = order // nearest.shape[1], gradient.flatten()[order]
        transposed = F.embedding_bag(rows, x, starts, per_sample_weights=weights, mode="sum")
        return ItemGraph(nearest, gradient).product(x) + transposed, None, None


def walk_graph(users: Ints, items: Ints, n_users: int, n_items: int) -> SparseMatrix:
    """Build the user-item graph with self-loops, row-normalised: (D + I)^-1 (A + I), (N, N), users first."""
    nodes = np.arange(n_users + n_items)
    rows = np.concatenate([users, items + n_users, nodes])
    columns = np.concatenate([items + n_users, users, nodes])
    return SparseMatrix(Edges(rows, columns, 1 / np.bincount(rows)[rows]), shape=(len(nodes), len(nodes)))


def normalise(graph: ItemGraph) -> ItemGraph:
    """Divide each weight by √(r_i r_j), r the sums of the rows; an item with r of 0 or less loses its edges."""
    sums = graph.weights.sum(dim=1)
    factors = torch.where(sums > 0, sums, torch.inf).rsqrt()
    return ItemGraph(graph.nearest, factors[:, None] * graph.weights * factors[graph.nearest])


def join(graphs: list[ItemGraph], weights: Tensor) -> ItemGraph:
    """Add graphs up, each times its weight."""
    return ItemGraph(
        torch.cat([graph.nearest for graph in graphs], dim=1),
        torch.cat([weight * graph.weights for graph, weight in zip(graphs, weights, strict=True)], dim=1),
    )


def as_constant(graph: ItemGraph) -> SparseMatrix:
    """Detach a graph for the batches that do not learn it."""
    rows, places = graph.weights.detach().nonzero(as_tuple=True)
    entries = (graph.nearest[rows, places], graph.weights.detach()[rows, places].double())
    edges = Edges(rows.cpu().numpy(), *(part.cpu().numpy() for part in entries))
    n_items = len(graph.nearest)
    return SparseMatrix(edges, shape=(n_items, n_items)).to(graph.weights.device)
