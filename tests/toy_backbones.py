"""Any backbone on a world small enough to work out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import toy

from cliper.models.backbones import BACKBONES
from cliper.models.backbones.base import Given, Interactions, ItemFeatures, ItemNeighbours, Triples
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.models.maths.nearest import nearest_items, sharing_users
from cliper.models.maths.tables import Neighbours
from cliper.variants import load_class

torch.set_num_threads(1)  # on toy tensors, threads only wait for each other
BEHAVIOURS = ["as_published", "as_mmrec"]

# Three users, five items; item 4 is not in train.
TOY = Interactions(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 3]), n_users=3, n_items=5)
BATCH = Triples(torch.tensor([0, 2, 1]), torch.tensor([1, 3, 1]), torch.tensor([2, 1, 3]))
# Instead of those that config.yaml ships, where equations are worked out by hand.
SETTINGS: dict[str, dict[str, Any]] = {
    "dualgnn": {"hidden_width": 5, "reg_weight": 0.1},
    "freedom": {"edge_dropout": 0.4, "reg_weight": 0.5},
    "lattice": {"frozen_weight": 0.7, "reg_weight": 0.01},
    "mmgcn": {"image_width": 5, "reg_weight": 0.1},
    "slmrec": {"n_layers": 3, "ssl_temperature": 0.5, "ssl_weight": 0.1},
}


def settings_of(name: str, **changes: Any) -> BackboneSettings:
    """The shipped settings of a backbone with whole numbers cut to 2, so that k and layers fit five items."""
    shipped = toy.shipped()["backbones"][name]
    small = {key: min(value, 2) if isinstance(value, int) else value for key, value in shipped.items()}
    return BACKBONES.rows[name].settings.model_validate(small | SETTINGS.get(name, {}) | changes)


def toy_features(n_items: int = 5, *, mlp_width: int | None = None) -> ItemFeatures:
    """Drawn features; the image of item 1 is filled."""
    generator = np.random.default_rng(0)
    image, text = (generator.standard_normal((n_items, width)).astype(np.float32) for width in (6, 4))
    return ItemFeatures(image, text, np.arange(n_items) == 1, np.zeros(n_items, dtype=bool), mlp_width)


def give(
    uses: type[BackboneSettings],
    interactions: Interactions = TOY,
    features: ItemFeatures | None = None,
    *,
    d: int = 4,
    seed: int = 0,
    behaviour: str = "as_published",
    n_found: int = 4,
    users: Neighbours | None = None,
) -> Given:
    """What a backbone declares, and no more.

    n_found  neighbours that are found for an item
    users    neighbours of users, in place of those found
    """
    features = toy_features() if features is None else features
    item_neighbours = ItemNeighbours(
        nearest_items(features.image, features.image_is_filled, n_found),
        nearest_items(features.text, features.text_is_filled, n_found),
    )
    if users is None:
        users = sharing_users(interactions.users, interactions.items, n_users=interactions.n_users, k=40)
    return Given(
        interactions,
        d=d,
        generator=torch.Generator().manual_seed(seed),
        behaviour=behaviour,
        features=features if uses.uses_features else None,
        item_neighbours=item_neighbours if uses.uses_item_graph else None,
        user_neighbours=users if uses.uses_user_graph else None,
    )


def build(
    name: str,
    interactions: Interactions = TOY,
    features: ItemFeatures | None = None,
    *,
    d: int = 4,
    seed: int = 0,
    behaviour: str = "as_published",
    n_found: int = 4,
    users: Neighbours | None = None,
    **changes: Any,
) -> Any:
    """Build a backbone; arguments as `give` has them, and changes of its settings."""
    settings = settings_of(name, **changes)
    given = give(
        type(settings), interactions, features, d=d, seed=seed, behaviour=behaviour, n_found=n_found, users=users
    )
    return load_class(BACKBONES.rows[name].place)(given, settings)
