"""Find neighbours once for all cells that use them: items by their features, users by the items they share.

neighbours-items   In:  features of an arm
                   Out: image.parquet and text.parquet, the closest items of every item
neighbours-users   In:  train
                   Out: users.parquet, the users who share most train items with a user

Filled rows (no image or text of the item's own) have no neighbours and are nobody's; as_mmrec they count as any other.
A row without neighbours keeps a line of rank 0. The test and validation splits are not read.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from cliper import files, log
from cliper.config import Config
from cliper.layout import locate
from cliper.models.maths.nearest import nearest_items, sharing_users
from cliper.models.maths.tables import neighbours_to_table


def run_items(config: Config, *, dataset: str, arm: str) -> None:
    """Find the closest items by image and by text."""
    began = time.monotonic()
    torch.set_num_threads(config.train.threads)
    features = files.read_table(locate(config.root, "features", dataset=dataset, arm=arm), "features")
    for modality in ("image", "text"):
        is_filled = features[f"{modality}_is_filled"].to_numpy() & (config.train.behaviour == "as_published")
        found = nearest_items(features[modality].to_numpy(), is_filled, config.neighbours.items)
        path = locate(config.root, "item_neighbours", dataset=dataset, arm=arm, modality=modality)
        files.write_table(path, "item_neighbours", neighbours_to_table(found, "item", "similarity"))
    seconds = time.monotonic() - began
    log.account(f"{dataset}, {arm}: {features.height:,} items, {config.neighbours.items} neighbours, {seconds:.1f} s")


def run_users(config: Config, *, dataset: str) -> None:
    """Find the users who share most train items."""
    began = time.monotonic()
    users = files.read_table(locate(config.root, "users", dataset=dataset), "users")
    train = files.read_table(locate(config.root, "train", dataset=dataset), "train")
    pairs = (train[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    found = sharing_users(*pairs, n_users=users.height, k=config.neighbours.users)
    path = locate(config.root, "user_neighbours", dataset=dataset)
    files.write_table(path, "user_neighbours", neighbours_to_table(found, "user", "n_shared"))
    alone = int((found.nearest < 0).all(axis=1).sum())
    log.account(f"{dataset}: {users.height:,} users, {alone:,} who share no item, {time.monotonic() - began:.1f} s")
