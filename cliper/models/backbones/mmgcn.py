"""MMGCN: a graph network for each modality over users and items; their outputs are averaged.

Source: Wei et al., MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video, ACM MM
2019, by the authors' code with two modalities. Departs from the code: id embeddings and preferences are trained as in
the paper (there they are missing among the parameters), and both modalities' preferences are regularised; ranks by the
current parameters (there by the last training forward), without train items (there they get the score 1e-5, and may be
recommended); the depth is a setting (there three layers). A layer always concatenates what comes from the neighbours
and from the node itself, as there: the code reads its --concat=False as true.
"""

from __future__ import annotations

import copy
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.models.backbones.base import Backbone, Given, LastForward, Triples, batch_rows
from cliper.models.backbones.mmgcn_settings import MmgcnSettings
from cliper.models.backbones.rows import FeatureRows, linear
from cliper.models.maths.losses import bpr
from cliper.models.maths.sparse import SparseMatrix, neighbour_means

MMREC_LAYERS = 3  # whatever n_layers says


class Mmgcn(Backbone):
    """As_mmrec: ids and preferences are drawn and never trained, so that the regulariser (there without the text's
    preferences) moves nothing; three layers whatever n_layers says; ranks by the last training forward.
    """

    Settings: ClassVar[type[MmgcnSettings]] = MmgcnSettings

    def __init__(self, given: Given, settings: MmgcnSettings) -> None:
        super().__init__(given, settings)
        interactions, features, d, generator = given.interactions, given.features, given.d, given.generator
        self.is_published = given.behaviour == "as_published"
        self.reg_weight = settings.reg_weight
        self.sizes = [interactions.n_users, interactions.n_items]
        self.ids = Rows(sum(self.sizes), d, is_trained=self.is_published, generator=generator)  # users, then items
        self.last = None if self.is_published else LastForward(interactions, d)
        image = FeatureRows(features.image, is_trained=False, generator=generator)
        text = FeatureRows(features.text, is_trained=False, mlp_width=features.mlp_width, generator=generator)
        projection = linear(image.width, settings.image_width, generator)
        means = neighbour_means(*interactions)
        n_layers = settings.n_layers if self.is_published else MMREC_LAYERS
        self.image, self.text = (
            Branch(
                interactions.n_users,
                rows,
                layer,
                means,
                d=d,
                n_layers=n_layers,
                is_trained=self.is_published,
                generator=generator,
            )
            for rows, layer in ((image, projection), (text, None))
        )

    def embed(self) -> tuple[Tensor, Tensor]:
        if self.last is not None and self.last.is_kept:
            return self.last.embeddings()
        users, items = self._propagate()
        layers = self._last_layers()
        return average(layers, users), average(layers, items)

    def loss(self, triples: Triples) -> Tensor:
        """BPR, and the mean squares of the batch's ids and of all preferences."""
        users, items = self._propagate()
        layers = self._last_layers()
        if self.last is not None:
            kept, kept_layers = [[nodes.detach() for nodes in side] for side in (users, items)], copy.deepcopy(layers)
            self.last.keep(lambda: (average(kept_layers, kept[0]), average(kept_layers, kept[1])))
        ranked = torch.cat([triples.positives, triples.negatives])
        batch_users = average(layers, [nodes.at(triples.users) for nodes in users])
        batch_items = average(layers, [nodes.at(ranked) for nodes in items])
        return bpr(batch_users, *batch_items.chunk(2)) + self.reg_weight * self._mean_squares(triples)

    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        """Ids and preferences of the batch; none where they are constants."""
        if not self.is_published:
            return ()
        preferences = (F.embedding(triples.users, branch.preferences.rows) for branch in (self.image, self.text))
        return (*self._batch_ids(triples), *preferences)

    def _propagate(self) -> tuple[list[Nodes], list[Nodes]]:
        """What the last layers of the image's and of the text's branch read: for all users, for all items."""
        user_ids, item_ids = self.ids.rows.split(self.sizes)
        (image_users, image_items), (text_users, text_items) = (
            branch(user_ids, item_ids) for branch in (self.image, self.text)
        )
        return [image_users, text_users], [image_items, text_items]

    def _last_layers(self) -> list[nn.Module]:
        return [branch.layers[-1] for branch in (self.image, self.text)]

    def _mean_squares(self, triples: Triples) -> Tensor:
        users, positives, negatives = self._batch_ids(triples)
        regularised = (self.image, self.text) if self.is_published else (self.image,)
        ids = users.square().mean() + torch.cat([positives, negatives]).square().mean()
        return ids + sum(branch.preferences.rows.square().mean() for branch in regularised)

    def _batch_ids(self, triples: Triples) -> tuple[Tensor, Tensor, Tensor]:
        return batch_rows(triples, *self.ids.rows.split(self.sizes))


class Nodes(NamedTuple):
    """Users or items as a layer reads them."""

    own: Tensor  # (n, L) their representations
    near: Tensor  # (n, L) the means of their neighbours' representations times the layer's weight
    ids: Tensor  # (n, d)

    def at(self, rows: Tensor) -> Nodes:
        """Rows of some nodes: the last layer is computed for those of a batch only."""
        return Nodes(*(F.embedding(rows, part) for part in self))

    def detach(self) -> Nodes:
        return Nodes(*(part.detach() for part in self))


def average(layers: list[nn.Module], branches: list[Nodes]) -> Tensor:
    """Average (n, d) what the last layers of both branches make of the same nodes."""
    image, text = (layer(*nodes) for layer, nodes in zip(layers, branches, strict=True))
    mean: Tensor = (image + text) / 2
    return mean


class Branch(nn.Module):
    """The graph network of one modality, up to what its last layer reads.

    projection  of the features before the first layer, or None: as they are
    means       (U, I), (I, U): as `neighbour_means` makes them
    """

    def __init__(
        self,
        n_users: int,
        features: FeatureRows,
        projection: nn.Linear | None,
        means: tuple[SparseMatrix, SparseMatrix],
        *,
        d: int,
        n_layers: int,
        is_trained: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        width = projection.out_features if projection else features.width
        self.features, self.projection = features, projection or nn.Identity()
        self.user_mean, self.item_mean = means
        self.preferences = Rows(n_users, width, is_trained=is_trained, generator=generator)
        self.users = LayerZero(self.item_mean, is_constant=not is_trained)
        self.items = LayerZero(self.user_mean, is_constant=projection is None and features.mlp is None)
        first = Layer(width, d, generator)
        nn.init.xavier_normal_(first.mix.weight, generator=generator)
        self.layers = nn.ModuleList([first, *(Layer(d, d, generator) for _ in range(n_layers - 1))])

    def forward(self, user_ids: Tensor, item_ids: Tensor) -> tuple[Nodes, Nodes]:
        weights: list[Tensor] = [layer.weight for layer in self.layers]  # type: ignore[misc]
        users, near_items = self.users(self.preferences.rows, weights[0])
        items, near_users = self.items(self.projection(self.features()), weights[0])
        for layer, next_weight in zip(self.layers, weights[1:], strict=False):
            users, items = layer(users, near_users, user_ids), layer(items, near_items, item_ids)
            near_users = mean_product(self.user_mean, items, next_weight)
            near_items = mean_product(self.item_mean, users, next_weight)
        return Nodes(users, near_users, user_ids), Nodes(items, near_items, item_ids)


class LayerZero(nn.Module):
    """Rows (n, L) of unit length, and what the nodes of the other side (m, L) read of them.

    Constant rows are scaled, and where the mean comes before the weight averaged, once for the run.
    """

    own: Tensor | None
    mean: Tensor | None

    def __init__(self, neighbour_mean: SparseMatrix, *, is_constant: bool) -> None:
        super().__init__()
        self.neighbour_mean, self.is_constant = neighbour_mean, is_constant
        self._forget()
        self.register_load_state_dict_post_hook(LayerZero._forget)  # type: ignore[no-untyped-call]

    def _forget(self, *_: object) -> None:
        self.register_buffer("own", None, persistent=False)
        self.register_buffer("mean", None, persistent=False)

    def forward(self, rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        own = F.normalize(rows) if self.own is None else self.own
        if self.is_constant:
            self.own = own
        if not self.is_constant or len(own) < self.neighbour_mean.n_rows:
            return own, mean_product(self.neighbour_mean, own, weight)
        if self.mean is None:
            self.mean = self.neighbour_mean(own)
        return own, self.mean @ weight


def mean_product(neighbour_mean: SparseMatrix, rows: Tensor, weight: Tensor) -> Tensor:
    """Average rows (n, L) over the neighbours of each node of the other side, times a weight (L, L): (m, L).

    The product comes first where that is the smaller one.
    """
    is_smaller = len(rows) < neighbour_mean.n_rows
    product: Tensor = neighbour_mean(rows @ weight) if is_smaller else neighbour_mean(rows) @ weight
    return product


class Layer(nn.Module):
    """One layer: from the neighbours' mean through one weight, from the node itself and its id through another."""

    def __init__(self, width: int, d: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(width, width), generator=generator))
        self.linear = linear(width, d, generator)
        nn.init.xavier_normal_(self.linear.weight, generator=generator)
        self.mix = linear(width + d, d, generator)

    def forward(self, own: Tensor, near: Tensor, ids: Tensor) -> Tensor:
        # In place where the values are its own, and without `cat`: these are all nodes.
        aggregated = F.leaky_relu(near)
        kept = F.leaky_relu(self.linear(own), inplace=True) + ids
        of_aggregated, of_kept = self.mix.weight.split([near.shape[1], ids.shape[1]], dim=1)
        mixed = F.linear(aggregated, of_aggregated) + F.linear(kept, of_kept, self.mix.bias)
        return F.leaky_relu(mixed, inplace=True)


class Rows(nn.Module):
    """A table (n, width) of drawn rows: trained, or a constant of the state."""

    rows: Tensor

    def __init__(self, n: int, width: int, *, is_trained: bool, generator: torch.Generator) -> None:
        super().__init__()
        drawn = nn.init.xavier_normal_(torch.empty(n, width), generator=generator)
        if is_trained:
            self.rows = nn.Parameter(drawn)
        else:
            self.register_buffer("rows", drawn)
