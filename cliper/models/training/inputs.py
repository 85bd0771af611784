"""Read what a cell is trained on: interactions, features, neighbours.

Items without an image that an arm drops (missing_image: drop_item) keep their numbers. Their train rows are left out,
and they are never recommended. In valid and test they count as misses, so that all arms are measured on the same
interactions. Neighbours of users come from all train rows, those of dropped items included.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from cliper import files
from cliper.arrays import Ints
from cliper.config import decides
from cliper.errors import DataError, FeatureError
from cliper.layout import At
from cliper.models.backbones.base import Given, Interactions, ItemFeatures, ItemNeighbours
from cliper.models.maths.ranking import NO_ITEMS
from cliper.models.maths.tables import Neighbours, neighbours_from_table


def read_interactions(at: At) -> tuple[Interactions, pl.DataFrame]:
    """Read what of the catalogue a backbone learns from: train, and valid to stop by.

    Raises DataError if valid has no row.
    """
    n_users, n_items = (len(files.read_table(at(kind), kind, columns=[kind[:-1]])) for kind in ("users", "items"))
    train, valid = files.read_table(at("train"), "train"), files.read_table(at("valid"), "valid")
    if valid.is_empty():
        dataset = at.names["dataset"]
        raise DataError(
            f"no user of dataset {dataset} has a validation item to stop training by; "
            f"lower datasets.{dataset}.k_core or take more data"
        )
    users, items = (train[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    return Interactions(users, items, n_users, n_items), valid


def check_features(table: pl.DataFrame, n_items: int, *, what: str) -> ItemFeatures:
    """Read features off their table, without the MLP's width.

    Raises FeatureError if the rows are not those of the items in their order, or a value is not finite.
    """
    if table["item"].to_list() != list(range(n_items)):
        raise FeatureError(
            f"{what} has {len(table)} rows, not one for each of {n_items} items in order; run fuse again"
        )
    features = ItemFeatures(
        table["image"].to_numpy(),
        table["text"].to_numpy(),
        table["image_is_filled"].to_numpy(),
        table["text_is_filled"].to_numpy(),
    )
    for name in ("image", "text"):
        is_finite = np.isfinite(getattr(features, name)).all(axis=1)
        if not is_finite.all():
            where = f"{(~is_finite).sum()} items (first: item {is_finite.argmin()})"
            raise FeatureError(f"{what}: the {name} features of {where} are not finite; run encode and fuse again")
    return features


def read_features(job: decides.Train, at: At, n_items: int) -> ItemFeatures:
    """Read and check the features of one arm; as_mmrec, filled rows count like all others."""
    path = at("features")
    features = check_features(files.read_table(path, "features"), n_items, what=str(path))
    if job.train.behaviour == "as_mmrec":
        none = np.zeros(n_items, dtype=bool)
        features = features._replace(image_is_filled=none, text_is_filled=none)
    if job.n_learned_views is None:
        return features
    return features._replace(mlp_width=features.text.shape[1] // job.n_learned_views)


def items_to_drop(job: decides.Train, at: At) -> Ints:
    """Items without an image of their own, where the arm drops them: (m,)."""
    if not job.drops_items:
        return NO_ITEMS
    is_filled = files.read_table(at("features"), "features", columns=["image_is_filled"])["image_is_filled"]
    return np.flatnonzero(is_filled.to_numpy())


def leave_out(interactions: Interactions, items: Ints) -> Interactions:
    """Leave out all interactions with some items (m,). Raises DataError if none stay."""
    stays = ~np.isin(interactions.items, items)
    if not stays.any():
        raise DataError(
            "every train item is dropped: none has an image; set missing_image to another value than drop_item"
        )
    return interactions._replace(users=interactions.users[stays], items=interactions.items[stays])


def read_item_neighbours(at: At) -> ItemNeighbours:
    """Read the neighbours of items by the features of one arm."""
    tables = {
        modality: files.read_table(at("item_neighbours", modality=modality), "item_neighbours")
        for modality in ItemNeighbours._fields
    }
    return ItemNeighbours(**{modality: neighbours_from_table(table) for modality, table in tables.items()})


def read_user_neighbours(at: At) -> Neighbours:
    """Read the neighbours of users by shared train items."""
    return neighbours_from_table(files.read_table(at("user_neighbours"), "user_neighbours"))


def read_given(job: decides.Train, at: At, interactions: Interactions, generator: torch.Generator) -> Given:
    """Read what the backbone's settings say that it uses."""
    uses = job.backbone.settings
    return Given(
        interactions,
        d=job.d,
        generator=generator,
        behaviour=job.train.behaviour,
        features=read_features(job, at, interactions.n_items) if uses.uses_features else None,
        item_neighbours=read_item_neighbours(at) if uses.uses_item_graph else None,
        user_neighbours=read_user_neighbours(at) if uses.uses_user_graph else None,
    )
