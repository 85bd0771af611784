"""The base of all backbones: what each is given, and what it must compute."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.arrays import Bools, Ints, Vectors
from cliper.errors import ConfigError
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.models.maths.ranking import dot_products
from cliper.models.maths.tables import Neighbours

T = TypeVar("T")


class Interactions(NamedTuple):
    """The training split, and how many users and items there are in all splits."""

    users: Ints  # (n,)
    items: Ints  # (n,)
    n_users: int
    n_items: int


class ItemFeatures(NamedTuple):
    """Features of every item, in item order."""

    image: Vectors  # (I, D)
    text: Vectors  # (I, D')
    image_is_filled: Bools  # (I,) no image of its own: no part of any item graph
    text_is_filled: Bools  # (I,) no text of its own
    mlp_width: int | None = None  # the text passes through a learned layer to this width (fusion MLP)


class ItemNeighbours(NamedTuple):
    """Neighbours of items, found before training."""

    image: Neighbours  # by image features
    text: Neighbours  # by text features


class Given:
    """What a backbone is built from, in addition to its settings.

    interactions     the training split
    d                width of the embeddings
    generator        draws the initial parameters, on the CPU
    behaviour        as_published, or as_mmrec: the toolbox's deviations, bug for bug
    features         if the settings class says uses_features; else None, as below
    item_neighbours  if it says uses_item_graph
    user_neighbours  if it says uses_user_graph
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        d: int,
        generator: torch.Generator,
        behaviour: str,
        features: ItemFeatures | None = None,
        item_neighbours: ItemNeighbours | None = None,
        user_neighbours: Neighbours | None = None,
    ) -> None:
        self.interactions, self.d, self.generator, self.behaviour = interactions, d, generator, behaviour
        self._features, self._item_neighbours, self._user_neighbours = features, item_neighbours, user_neighbours

    def arrays(self) -> list[tuple[Any, ...] | None]:
        """All that was read from tables, for a hash."""
        return [self.interactions, self._features, *(self._item_neighbours or ()), self._user_neighbours]

    @property
    def features(self) -> ItemFeatures:
        """Raises ConfigError, as its siblings do, if the settings class does not declare it."""
        return _declared(self._features, "features", "uses_features")

    @property
    def item_neighbours(self) -> ItemNeighbours:
        return _declared(self._item_neighbours, "item_neighbours", "uses_item_graph")

    @property
    def user_neighbours(self) -> Neighbours:
        """Of users, by the train items they share."""
        return _declared(self._user_neighbours, "user_neighbours", "uses_user_graph")


def _declared(part: T | None, name: str, use: str) -> T:
    if part is None:
        raise ConfigError(f"a backbone reads {name} that it was not given; set {use} = True in its settings class")
    return part


class Triples(NamedTuple):
    """A batch: each user with an item from train and one that the user does not have there."""

    users: Tensor  # (B,) int64, as below
    positives: Tensor
    negatives: Tensor


class Backbone(nn.Module, ABC):
    """A recommender that ranks items by the dot product of embeddings.

    Settings              class of the settings; says what of `Given` there is
    negatives_from_train  whether negatives are items that somebody has in train; if False, as_published, all items are
    """

    Settings: ClassVar[type[BackboneSettings]]
    negatives_from_train: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, given: Given, settings: Any) -> None:
        super().__init__()

    def learning_rate_factor(self, epoch: int) -> float:
        """Factor of the learning rate in an epoch (from 0); by default 1."""
        return 1.0

    def start_epoch(self, generator: np.random.Generator) -> None:
        """Rebuild what changes from epoch to epoch; by default nothing does."""

    @abstractmethod
    def embed(self) -> tuple[Tensor, Tensor]:
        """Embeddings to rank with: users (U, d), items (I, d)."""

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores (n, I) of items (I, d) for users (n, d), to rank by; by default dot products."""
        return dot_products(users, items)

    @abstractmethod
    def loss(self, triples: Triples) -> Tensor:
        """Scalar to minimise."""

    @abstractmethod
    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        """Rows (B, …) of a batch's own embeddings before propagation: weight decay on the batch shrinks these."""


class LastForward(nn.Module):
    """Embeddings that the last training forward computed: as_mmrec some backbones rank by these, one step old.

    Part of the state, so that the best epoch's come back with it. Computed when they or the state are read: after
    most steps neither is.
    """

    users: Tensor  # (U, d)
    items: Tensor  # (I, d)
    is_kept: Tensor  # () whether there was a training forward

    def __init__(self, interactions: Interactions, d: int) -> None:
        super().__init__()
        self.register_buffer("users", torch.zeros(interactions.n_users, d))
        self.register_buffer("items", torch.zeros(interactions.n_items, d))
        self.register_buffer("is_kept", torch.tensor(data=False))
        self._make: Callable[[], tuple[Tensor, Tensor]] | None = None
        self.register_state_dict_pre_hook(LastForward.embeddings)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(LastForward._forget)  # type: ignore[no-untyped-call]

    def keep(self, make: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Keep what computes users and items. It must read copies of parameters: the next step changes them."""
        self._make = make
        self.is_kept.fill_(value=True)

    @torch.no_grad()
    def embeddings(self, *_: object) -> tuple[Tensor, Tensor]:
        if self._make is not None:
            self.users, self.items = self._make()
            self._make = None
        return self.users, self.items

    def _forget(self, *_: object) -> None:
        self._make = None


def batch_rows(triples: Triples, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a batch's users, positives and negatives (B, d) out of embeddings of all (U, d), (I, d)."""
    return (
        F.embedding(triples.users, users),
        F.embedding(triples.positives, items),
        F.embedding(triples.negatives, items),
    )


def xavier_embeddings(n: int, d: int, generator: torch.Generator) -> nn.Parameter:
    """Draw trainable embeddings (n, d), uniform within ±√(6 / (n + d))."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(n, d), generator=generator))


def normal_embeddings(n: int, d: int, generator: torch.Generator) -> nn.Parameter:
    """Draw trainable embeddings (n, d), normal with variance 2 / (n + d)."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(n, d), generator=generator))
