"""What every backbone is given, and what it can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

from cliper.arrays import Bools, Ints, Vectors
from cliper.models.maths.nearest import Neighbours
from cliper.models.maths.ranking import dot_products


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


class Graphs(NamedTuple):
    """Neighbours that were found before training; those that a backbone does not use are None."""

    image: Neighbours | None = None  # of items, by image features
    text: Neighbours | None = None  # of items, by text features
    users: Neighbours | None = None  # of users, by the train items they share


class Triples(NamedTuple):
    """A batch: each user with an item from train and one that the user does not have there."""

    users: Tensor  # (B,) int64, as below
    positives: Tensor
    negatives: Tensor


class Backbone(nn.Module, ABC):
    """A recommender that ranks items by the dot product of embeddings.

    features   None where `uses_features` is false
    graphs     those that the class says it uses
    settings   the backbone's section of the config
    d          width of the embeddings
    generator  draws the initial parameters, on the CPU
    behaviour  as_published, or as_mmrec: the toolbox's deviations, bug for bug
    """

    uses_features: ClassVar[bool]
    uses_item_graph: ClassVar[bool] = False
    uses_user_graph: ClassVar[bool] = False

    @abstractmethod
    def __init__(
        self,
        interactions: Interactions,
        features: ItemFeatures | None,
        graphs: Graphs,
        settings: Any,
        *,
        d: int,
        generator: torch.Generator,
        behaviour: str,
    ) -> None:
        super().__init__()

    def learning_rate_factor(self, epoch: int) -> float:
        """What the learning rate is multiplied with in an epoch (from 0); by default 1."""
        return 1.0

    def start_epoch(self, generator: np.random.Generator) -> None:
        """Rebuild what changes from epoch to epoch; by default nothing does."""

    @abstractmethod
    def embed(self) -> tuple[Tensor, Tensor]:
        """Embeddings to rank with: users (U, d), items (I, d)."""

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores (n, I) by which users (n, d) get their items (I, d) ranked: by default dot products."""
        return dot_products(users, items)

    @abstractmethod
    def loss(self, triples: Triples) -> Tensor:
        """Scalar to minimise."""

    @abstractmethod
    def decayed(self, triples: Triples) -> tuple[Tensor, ...]:
        """Rows (B, …) of a batch's own embeddings before propagation: what weight decay on the batch pulls at."""


class LastForward(nn.Module):
    """Embeddings that the last training forward computed; as_mmrec some backbones rank by these, one step old.

    Part of the state, so that the best epoch's come back with it. Made when somebody asks for them or for the state:
    after most steps nobody does.
    """

    users: Tensor  # (U, d)
    items: Tensor  # (I, d)
    is_kept: Tensor  # () whether there was a forward yet

    def __init__(self, interactions: Interactions, d: int) -> None:
        super().__init__()
        self.register_buffer("users", torch.zeros(interactions.n_users, d))
        self.register_buffer("items", torch.zeros(interactions.n_items, d))
        self.register_buffer("is_kept", torch.tensor(data=False))
        self._make: Callable[[], tuple[Tensor, Tensor]] | None = None
        self.register_state_dict_pre_hook(LastForward.embeddings)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(LastForward._forget)  # type: ignore[no-untyped-call]

    def keep(self, make: Callable[[], tuple[Tensor, Tensor]]) -> None:
        """Keep what gives users and items: from copies of all parameters in it, for the next step changes them."""
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
