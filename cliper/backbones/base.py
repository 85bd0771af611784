"""What every backbone is given, and what it can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn


class Interactions(NamedTuple):
    """The training split, and how many users and items there are in all splits."""

    users: npt.NDArray[np.int64]  # (n,)
    items: npt.NDArray[np.int64]  # (n,)
    n_users: int
    n_items: int


class ItemFeatures(NamedTuple):
    """Features of every item, in item order."""

    image: npt.NDArray[np.float32]  # (I, D)
    text: npt.NDArray[np.float32]  # (I, D')
    image_is_filled: npt.NDArray[np.bool_]  # (I,) no image of its own
    text_is_filled: npt.NDArray[np.bool_]  # (I,) no text of its own


class Triples(NamedTuple):
    """A batch: each user with an item from train and one that the user does not have there."""

    users: Tensor  # (B,) int64, as below
    positives: Tensor
    negatives: Tensor


class Backbone(nn.Module, ABC):
    """A recommender that ranks items by the dot product of embeddings.

    d          width of the embeddings
    settings   the backbone's section of the config
    generator  draws the initial parameters, on the CPU
    features   None where `uses_features` is false
    """

    uses_features: ClassVar[bool]
    users: nn.Parameter  # (U, d) embeddings before propagation
    items: nn.Parameter  # (I, d)

    @abstractmethod
    def __init__(
        self,
        interactions: Interactions,
        features: ItemFeatures | None,
        settings: Any,
        *,
        d: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()

    def start_epoch(self, generator: np.random.Generator) -> None:
        """Rebuild what changes from epoch to epoch; by default nothing does."""

    @abstractmethod
    def embed(self) -> tuple[Tensor, Tensor]:
        """Embeddings to rank with: users (U, d), items (I, d)."""

    @abstractmethod
    def loss(self, triples: Triples) -> Tensor:
        """Scalar to minimise."""


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
