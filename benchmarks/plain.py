"""Five backbones in the plain way, with the mathematics of our `as_mmrec` models and copies of their parameters.

Plain: an N x N sparse matrix in COO form, or messages gathered and scattered along the edges; all items projected for
each batch; dense item graphs; Python lists and loops for sampling, for neighbours of users and for hits.

Written from our own description of the mathematics (each class cites the model it repeats), from nobody's code.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.arrays import Ints
from cliper.models.backbones import dualgnn, mmgcn
from cliper.models.backbones.base import Backbone, Interactions, ItemFeatures, Triples
from cliper.models.maths.metrics import METRICS
from cliper.models.maths.sampling import sample_edges
from cliper.models.maths.sparse import DEGREE_FLOOR, edge_weights

Draw = Any  # what a backbone draws for an epoch: kept edges, lists of neighbours, or nothing

USERS_AT_A_TIME = 4096  # of an evaluation batch
MASKED = -1e10  # score of a train item
MMREC_LAYERS = 2  # DualGNN's, whatever the config says


class World(NamedTuple):
    """What both sides are given."""

    path: Path  # of the .inter file that all interactions come from
    train: Interactions
    splits: dict[str, tuple[Ints, Ints]]  # valid and test: users, items
    features: ItemFeatures
    settings: Any  # the backbone's section of the config
    batch_size: int
    cutoffs: Sequence[int]
    d: int


class Plain:
    """Parameters drawn and then overwritten with those of our model, and lists of what users have.

    Embeddings to rank with are those of the last training forward where `embed` says nothing else.
    """

    def __init__(self, world: World, model: Backbone) -> None:
        self.world, self.settings = world, world.settings
        self.sizes = [world.train.n_users, world.train.n_items]
        self.of = {name: nn.Parameter(redraw(value)) for name, value in model.named_parameters()}
        self.owned, *held_out = read_lists(world.path, world.train.n_users)
        self.relevant = dict(zip(world.splits, held_out, strict=True))
        self.candidates = sorted(set(world.train.items.tolist()))
        self.image, self.text = torch.from_numpy(world.features.image), torch.from_numpy(world.features.text)
        self.last: tuple[Tensor, Tensor] | None = None

    def draw(self) -> Draw:
        """Draw what is random in an epoch, by default nothing."""

    def draw_like_ours(self, generator: np.random.Generator) -> Draw:
        """Draw what our model draws from this generator, so that losses can be compared."""

    def take(self, draw: Draw) -> None:
        """Begin an epoch with what was drawn."""

    def loss(self, triples: Triples) -> Tensor:
        raise NotImplementedError

    def embed(self) -> tuple[Tensor, Tensor]:
        """Embeddings of users (U, d) and items (I, d); asked for in each evaluation batch."""
        assert self.last is not None
        return self.last

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        return users @ items.T

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.of[f"{name}.weight"], self.of[f"{name}.bias"])


class Freedom(Plain):
    """Repeats cliper.models.backbones.freedom: here each batch projects all items, each evaluation batch propagates."""

    def __init__(self, world: World, model: Backbone) -> None:
        super().__init__(world, model)
        self.weights = torch.from_numpy(edge_weights(world.train.users, world.train.items)).float()
        self.graph = self.train_graph = symmetric_graph(*world.train)
        share = self.settings.image_weight
        image, text = (equal_neighbours(features, self.settings.k) for features in (self.image, self.text))
        self.item_graph = (share * image + (1 - share) * text).coalesce()

    @property
    def n_kept(self) -> int:
        return int(len(self.weights) * (1 - self.settings.edge_dropout))

    def draw(self) -> Draw:
        return torch.multinomial(self.weights, self.n_kept).numpy()

    def draw_like_ours(self, generator: np.random.Generator) -> Draw:
        users, items, *_ = self.world.train
        return sample_edges(edge_weights(users, items), self.n_kept, generator)

    def take(self, draw: Draw) -> None:
        users, items, *sizes = self.world.train
        self.train_graph = symmetric_graph(users[draw], items[draw], *sizes)

    def loss(self, triples: Triples) -> Tensor:
        users, items = self.propagate(self.train_graph)
        batch_users = users[triples.users]
        loss = bpr(batch_users, items[triples.positives], items[triples.negatives])
        for modality in ("text", "image"):
            projected = self.linear(f"{modality}_projection", self.of[f"{modality}.features"])
            ranked = bpr(batch_users, projected[triples.positives], projected[triples.negatives])
            loss = loss + self.settings.reg_weight * ranked
        return loss

    def embed(self) -> tuple[Tensor, Tensor]:
        return self.propagate(self.graph)

    def propagate(self, graph: Tensor) -> tuple[Tensor, Tensor]:
        similar: Tensor = self.of["items"]
        for _ in range(self.settings.n_item_layers):
            similar = torch.sparse.mm(self.item_graph, similar)
        nodes = mean_of_layers(graph, torch.cat([self.of["users"], self.of["items"]]), self.settings.n_ui_layers)
        users, items = nodes.split(self.sizes)
        return users, items + similar


class Lattice(Plain):
    """Repeats cliper.models.backbones.lattice: here item graphs are dense (I, I), normalised by products with diagonal
    matrices, and built in each evaluation batch.
    """

    def __init__(self, world: World, model: Backbone) -> None:
        super().__init__(world, model)
        self.graph = walk_graph(*world.train)
        self.frozen = [normalise(nearest_cosines(rows, self.settings.k)) for rows in (self.image, self.text)]
        self.item_graph: Tensor | None = None

    def take(self, draw: Draw) -> None:
        self.item_graph = None

    def build_item_graph(self) -> Tensor:
        weights = self.of["modality_scores"].softmax(dim=0)
        learned = torch.zeros(())
        frozen = torch.zeros(())
        for modality, weight, raw in zip(("image", "text"), weights, self.frozen, strict=True):
            projected = self.linear(f"{modality}.projection", self.of[f"{modality}.rows.features"])
            learned = learned + weight * nearest_cosines(projected, self.settings.k)
            frozen = frozen + weight * raw
        share = self.settings.frozen_weight
        return (1 - share) * normalise(learned) + share * frozen

    def loss(self, triples: Triples) -> Tensor:
        if self.item_graph is None:
            graph = self.build_item_graph()
            self.item_graph = graph.detach()
        else:
            graph = self.item_graph
        users, items = self.propagate(graph)
        rows = users[triples.users], items[triples.positives], items[triples.negatives]
        squares = sum((part.square().sum() for part in rows), start=torch.zeros(()))
        return bpr(*rows) + self.settings.reg_weight * squares / (2 * self.world.batch_size)

    def embed(self) -> tuple[Tensor, Tensor]:
        return self.propagate(self.build_item_graph())

    def propagate(self, item_graph: Tensor) -> tuple[Tensor, Tensor]:
        similar: Tensor = self.of["items"]
        for _ in range(self.settings.n_item_layers):
            similar = item_graph @ similar
        nodes = mean_of_layers(self.graph, torch.cat([self.of["users"], self.of["items"]]), self.settings.n_ui_layers)
        users, items = nodes.split(self.sizes)
        return users, items + F.normalize(similar)


class Slmrec(Plain):
    """Repeats cliper.models.backbones.slmrec: here each modality goes through the whole graph, users and all, and all
    rows are fused.
    """

    def __init__(self, world: World, model: Backbone) -> None:
        super().__init__(world, model)
        self.graph = symmetric_graph(*world.train)
        self.image, self.text = F.normalize(self.image), F.normalize(self.text)

    def loss(self, triples: Triples) -> Tensor:
        channels = []
        for start in (
            self.of["items"],
            self.linear("image_projection", self.image),
            self.linear("text_projection", self.text),
        ):
            nodes = torch.cat([self.of["users"], start])
            channels.append(mean_of_layers(self.graph, nodes, self.settings.n_layers).split(self.sizes))
        users = self.linear("fuse_users", torch.cat([channel[0] for channel in channels], dim=1))
        items = self.linear("fuse_items", torch.cat([channel[1] for channel in channels], dim=1))
        self.last = users.detach(), items.detach()
        ids, image, text = (channel[1][triples.positives] for channel in channels)
        fine = self.linear("id_head", ids)
        coarse = self.linear("coarse_head", self.linear("fine_head", fine))
        ssl = contrast(fine, self.linear("image_head", image), self.settings.ssl_temperature) + contrast(
            coarse, self.linear("text_head", text), self.settings.ssl_temperature
        )
        matched = F.normalize(users[triples.users]), F.normalize(items[triples.positives])
        return contrast(*matched, self.settings.temperature) + self.settings.ssl_weight * ssl

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        return (users @ items.T).sigmoid()


class Dualgnn(Plain):
    """Repeats cliper.models.backbones.dualgnn: here messages are materialised, degrees counted in each layer, and the
    neighbours of users are Python lists that become a tensor in each batch.
    """

    def __init__(self, world: World, model: Backbone) -> None:
        super().__init__(world, model)
        self.edges = both_directions(*world.train)
        assert isinstance(model, dualgnn.Dualgnn)
        self.known = model.known
        self.lists = [
            [(neighbour, count) for neighbour, count in zip(*row, strict=True) if neighbour >= 0]
            for row in zip(self.known.nearest.tolist(), self.known.closeness.tolist(), strict=True)
        ]
        self.random = random.Random(0)  # noqa: S311 (neighbours, no secrets)

    def draw(self) -> Draw:
        filled = []
        for known in self.lists:
            row = list(known)
            while 0 < len(row) < self.settings.n_neighbours:
                row.append(self.random.choice(row))
            filled.append(row)
        return filled

    def draw_like_ours(self, generator: np.random.Generator) -> Draw:
        padded = dualgnn.repeat_neighbours(self.known, self.settings.n_neighbours, generator)
        return [
            [pair for pair in zip(*row, strict=True) if pair[0] >= 0]
            for row in zip(padded.nearest.tolist(), padded.closeness.tolist(), strict=True)
        ]

    def take(self, draw: Draw) -> None:
        n = self.settings.n_neighbours
        self.neighbours = [[neighbour for neighbour, _ in row] or [0] * n for row in draw]
        self.weights = torch.zeros(len(draw), n)
        for user, row in enumerate(draw):
            if row:
                self.weights[user] = torch.tensor([count for _, count in row]).softmax(dim=0)

    def loss(self, triples: Triples) -> Tensor:
        image, text = (self.propagate(modality) for modality in ("image", "text"))
        items = (image + text)[self.sizes[0] :]
        image_weight, text_weight = self.of["user_weights"].split(1, dim=1)
        user_image, user_text = image[: self.sizes[0]], text[: self.sizes[0]]
        mixed = image_weight * (user_image + user_text) + text_weight * user_text
        near = mixed[torch.tensor(self.neighbours)]  # (U, n, d)
        users = mixed + torch.bmm(self.weights[:, None], near).squeeze(1)
        self.last = users.detach(), items.detach()
        margins = (users[triples.users] * (items[triples.positives] - items[triples.negatives])).sum(dim=1)
        squares = (
            self.of["image_preferences"][triples.users].square().mean()
            + self.of["text_preferences"][triples.users].square().mean()
            + self.of["user_weights"].square().mean()
            + self.of["item_weights"].square().mean()
        )
        return -margins.sigmoid().log2().mean() + self.settings.reg_weight * squares

    def propagate(self, modality: str) -> Tensor:
        hidden = F.leaky_relu(self.linear(f"{modality}_projection.0", getattr(self, modality)))
        projected = self.linear(f"{modality}_projection.2", hidden)
        layer = F.normalize(torch.cat([self.of[f"{modality}_preferences"], projected]))
        total = layer
        for _ in range(MMREC_LAYERS):
            layer = self.convolve(layer)
            total = total + layer
        return total

    def convolve(self, x: Tensor) -> Tensor:
        source, target = self.edges
        degrees = torch.zeros(len(x)).scatter_add(0, target, torch.ones(len(target)))
        scale = degrees.rsqrt()
        messages = (scale[source] * scale[target])[:, None] * x[source]
        return torch.zeros_like(x).scatter_add(0, target[:, None].expand_as(messages), messages)


class Mmgcn(Plain):
    """Repeats cliper.models.backbones.mmgcn: here messages are materialised after the layer's weight, the last layer is
    computed for all nodes, and gradients reach ids and preferences, which nothing trains.
    """

    def __init__(self, world: World, model: Backbone) -> None:
        super().__init__(world, model)
        self.edges = both_directions(*world.train)
        assert isinstance(model, mmgcn.Mmgcn)
        self.ids, self.image_preferences, self.text_preferences = (
            redraw(rows).requires_grad_()
            for rows in (model.ids.rows, model.image.preferences.rows, model.text.preferences.rows)
        )

    def loss(self, triples: Triples) -> Tensor:
        image = torch.cat([self.image_preferences, self.linear("image.projection", self.image)])
        text = torch.cat([self.text_preferences, self.text])
        nodes = (self.propagate("image", image) + self.propagate("text", text)) / 2
        users, items = nodes.split(self.sizes)
        self.last = users.detach(), items.detach()
        margins = (users[triples.users] * (items[triples.positives] - items[triples.negatives])).sum(dim=1)
        batch_users = self.ids[torch.cat([triples.users, triples.users])]
        batch_items = self.ids[torch.cat([triples.positives, triples.negatives]) + self.sizes[0]]
        squares = (batch_users.square() + batch_items.square()).mean() + self.image_preferences.square().mean()
        return -margins.sigmoid().log().mean() + self.settings.reg_weight * squares

    def propagate(self, modality: str, start: Tensor) -> Tensor:
        x = F.normalize(start)
        for layer in (f"{modality}.layers.{index}" for index in range(3)):
            near = F.leaky_relu(self.average(x @ self.of[f"{layer}.weight"]))
            own = F.leaky_relu(self.linear(f"{layer}.linear", x)) + self.ids
            x = F.leaky_relu(self.linear(f"{layer}.mix", torch.cat([near, own], dim=1)))
        return x

    def average(self, x: Tensor) -> Tensor:
        source, target = self.edges
        messages = x[source]
        counts = torch.zeros(len(x)).scatter_add(0, target, torch.ones(len(target)))
        sums = torch.zeros_like(x).scatter_add(0, target[:, None].expand_as(messages), messages)
        return sums / counts.clamp(min=1)[:, None]


def redraw(value: Tensor) -> Tensor:
    """Draw values and overwrite them with those given: what initial parameters cost."""
    drawn = torch.empty_like(value, requires_grad=False)
    return drawn.normal_().copy_(value.detach())


def read_lists(path: Path, n_users: int) -> list[list[list[int]]]:
    """Read an .inter file row by row: lists of each user's items in train, valid and test."""
    lists: list[list[list[int]]] = [[[] for _ in range(n_users)] for _ in range(3)]
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            lists[int(row["x_label"])][int(row["userID"])].append(int(row["itemID"]))
    return lists


def both_directions(users: Ints, items: Ints, n_users: int, n_items: int) -> Tensor:
    """Lay the interactions out as edges (2, 2n), users first among the nodes."""
    return torch.from_numpy(np.stack([np.append(users, items + n_users), np.append(items + n_users, users)]))


def symmetric_graph(users: Ints, items: Ints, n_users: int, n_items: int) -> Tensor:
    """Build the symmetrically normalised (N, N) matrix of the interactions, COO."""
    weights = torch.from_numpy(edge_weights(users, items)).float()
    edges = both_directions(users, items, n_users, n_items)
    return coo(edges, torch.cat([weights, weights]), n_users + n_items)


def walk_graph(users: Ints, items: Ints, n_users: int, n_items: int) -> Tensor:
    """Build the row-normalised (N, N) matrix of the interactions with self-loops, COO."""
    n_nodes = n_users + n_items
    loops = torch.arange(n_nodes).expand(2, -1)
    edges = torch.cat([both_directions(users, items, n_users, n_items), loops], dim=1)
    degrees = torch.bincount(edges[0]).float()
    return coo(edges, 1 / degrees[edges[0]], n_nodes)


def coo(edges: Tensor, values: Tensor, n: int) -> Tensor:
    return torch.sparse_coo_tensor(edges, values, (n, n), check_invariants=False).coalesce()


def mean_of_layers(graph: Tensor, nodes: Tensor, n_layers: int) -> Tensor:
    """Average layers 0 to n_layers of a graph (N, N)."""
    layers = [nodes]
    for _ in range(n_layers):
        layers.append(torch.sparse.mm(graph, layers[-1]))
    return torch.stack(layers, dim=1).mean(dim=1)


def cosines(rows: Tensor) -> Tensor:
    """Cosines of all rows with all (n, n)."""
    unit = rows / rows.norm(dim=1, keepdim=True)
    return unit @ unit.T


def equal_neighbours(rows: Tensor, k: int) -> Tensor:
    """Link each row to its k nearest with equal weights, COO."""
    nearest = cosines(rows).topk(k).indices
    edges = torch.stack([torch.arange(len(rows)).repeat_interleave(k), nearest.flatten()])
    return coo(edges, torch.full((nearest.numel(),), 1 / (k + DEGREE_FLOOR)), len(rows))


def nearest_cosines(rows: Tensor, k: int) -> Tensor:
    """Keep the k highest cosines of each row, dense (n, n)."""
    values, nearest = cosines(rows).topk(k)
    return torch.zeros(len(rows), len(rows)).scatter(1, nearest, values)


def normalise(graph: Tensor) -> Tensor:
    """Divide each entry by √(r_i r_j), r the sums of the rows, by two products of (n, n) matrices."""
    factors = graph.sum(dim=1).pow(-0.5)
    diagonal = torch.diag(torch.where(factors.isinf(), 0, factors))
    return diagonal @ graph @ diagonal


def bpr(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    return -F.logsigmoid((users * positives).sum(dim=1) - (users * negatives).sum(dim=1)).mean()


def contrast(rows: Tensor, matches: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(rows @ matches.T / temperature, torch.arange(len(rows)))


def sample_triples(side: Plain, generator: random.Random) -> list[tuple[list[int], list[int], list[int]]]:
    """Draw the batches of an epoch, one negative at a time."""
    train, owned = side.world.train, [set(items) for items in side.owned]
    order = list(range(len(train.users)))
    generator.shuffle(order)
    batches = []
    for start in range(0, len(order), side.world.batch_size):
        users, positives, negatives = [], [], []
        for row in order[start : start + side.world.batch_size]:
            user = int(train.users[row])
            negative = generator.choice(side.candidates)
            while negative in owned[user]:
                negative = generator.choice(side.candidates)
            users.append(user)
            positives.append(int(train.items[row]))
            negatives.append(negative)
        batches.append((users, positives, negatives))
    return batches


@torch.no_grad()
def evaluate(side: Plain) -> dict[str, float]:
    """Rank and measure valid, then rank again and measure test; hits are looked up in lists, one item at a time.

    returns  split -> Recall@20
    """
    recalls = {}
    k = max(side.world.cutoffs)
    for split, relevant in side.relevant.items():
        users = [user for user, items in enumerate(relevant) if items]
        hits = []
        for start in range(0, len(users), USERS_AT_A_TIME):
            batch = users[start : start + USERS_AT_A_TIME]
            user_rows, item_rows = side.embed()
            scores = side.score(user_rows[batch], item_rows)
            places = [(row, item) for row, user in enumerate(batch) for item in side.owned[user]]
            rows, items = zip(*places, strict=True)
            scores[list(rows), list(items)] = MASKED
            ranked = scores.topk(min(k, scores.shape[1])).indices.tolist()
            hits += [[item in relevant[user] for item in row] for user, row in zip(batch, ranked, strict=True)]
        n_relevant = np.array([len(relevant[user]) for user in users])
        means = {
            (name, cutoff): metric(np.array(hits), n_relevant, cutoff).mean()
            for name, metric in METRICS.items()
            for cutoff in side.world.cutoffs
        }
        recalls[split] = float(means["recall", 20])
    return recalls


def shared_counts(owned: list[set[int]], users: Sequence[int], k: int) -> list[list[float]]:
    """Count the items each of some users shares with every other user, pair by pair, and keep the k highest."""
    kept = []
    for user in users:
        row = torch.zeros(len(owned))
        for other in range(len(owned)):
            if other != user:
                n_shared = len(owned[user].intersection(owned[other]))
                if n_shared:
                    row[other] = n_shared
        kept.append(row.topk(min(k, len(row))).values.tolist())
    return kept


PLAIN: dict[str, type[Plain]] = {
    "dualgnn": Dualgnn,
    "freedom": Freedom,
    "lattice": Lattice,
    "mmgcn": Mmgcn,
    "slmrec": Slmrec,
}
