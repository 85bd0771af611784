"""Find neighbours once for all cells that use them: items by their features, users by the items they share.

neighbours-items   In:  features of an arm
                   Out: image.parquet and text.parquet, the closest items of every item
neighbours-users   In:  train
                   Out: users.parquet, the users who share most train items with a user

Filled rows (no image or text of the item's own) have no neighbours and are neighbours of no item; with
`train.behaviour: as_mmrec` they count like all others. An item or user without neighbours keeps one line, of rank 0.
The test and validation splits are not read.
"""

from __future__ import annotations

import numpy as np

from cliper import files, log
from cliper.config import decides
from cliper.device import compute_with
from cliper.layout import At
from cliper.models.maths.nearest import nearest_items, sharing_users
from cliper.models.maths.tables import neighbours_to_table


def run_items(job: decides.NeighboursItems, at: At) -> None:
    """Find the closest items by image and by text."""
    compute_with(threads=job.threads, kernels_are=job.kernels)
    features = files.read_table(at("features"), "features")
    for modality in ("image", "text"):
        vectors = features[modality].to_numpy()
        log.note(f"{modality}: {len(vectors):,} items, {vectors.shape[1]:,} values each")
        is_filled = features[f"{modality}_is_filled"].to_numpy() & (job.behaviour == "as_published")
        found = nearest_items(vectors, is_filled, job.n_neighbours)
        table = neighbours_to_table(found, "item", "similarity")
        files.write_table(at("item_neighbours", modality=modality), "item_neighbours", table)
    what = f"{at.names['dataset']}, {at.names['arm']}"
    log.account(f"{what}: {features.height:,} items, {job.n_neighbours} neighbours")


def run_users(job: decides.NeighboursUsers, at: At) -> None:
    """Find the users who share most train items."""
    users, train = files.read_table(at("users"), "users"), files.read_table(at("train"), "train")
    log.note(f"{users.height:,} users, {train.height:,} train interactions")
    pairs = (train[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    found = sharing_users(*pairs, n_users=users.height, k=job.n_neighbours)
    files.write_table(at("user_neighbours"), "user_neighbours", neighbours_to_table(found, "user", "n_shared"))
    alone = int((found.nearest < 0).all(axis=1).sum())
    log.account(f"{at.names['dataset']}: {users.height:,} users, {alone:,} who share no item")
