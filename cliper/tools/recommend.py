"""Show what a user is recommended and bought, or which items are similar to one.

In:   with --user: users, items, train, valid, test, and topk of one cell
      with --item: items, and the features of one arm
Out:  lines on standard output

Names that are left out are the first of the run that fit the others. A list shows the 20 best items, without train
items; "bought" says in which split the user has one. Items are similar by the mean of the cosines of their image and
their fused text features, of which filled ones do not count.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import numpy as np
import polars as pl

from cliper import files, log
from cliper.config import CONTENT_FREE, Cell
from cliper.errors import ConfigError, DataError
from cliper.features.fusion.equations import normalise
from cliper.layout import At, Layout
from cliper.tools.exports.lists import SPLITS, cells_of, item_ids

N_SHOWN = 20


def run(
    layout: Layout,
    *,
    user: str | None,
    item: str | None,
    dataset: str | None,
    backbone: str | None,
    arm: str | None,
    seed: int | None,
) -> None:
    """Print one list."""
    if (user is None) == (item is None):
        raise ConfigError("recommend needs --user, for that user's list, or --item, for similar items")
    if user is not None:
        cell = cells_of(layout.config, dataset=dataset, backbone=backbone, arm=arm, seed=seed)[0]
        log.show(list_of_user(At(layout, cell._asdict()), cell, user))
        return
    if backbone is not None or seed is not None:
        raise ConfigError("--backbone and --seed choose a user's list; leave them out with --item")
    with_features = [cell for cell in cells_of(layout.config, dataset=dataset, arm=arm) if cell.arm != CONTENT_FREE]
    if not with_features:
        raise ConfigError(f"{CONTENT_FREE} has no features to compare items by; name another arm of the run")
    where = {"dataset": with_features[0].dataset, "arm": with_features[0].arm}
    log.show(similar_items(At(layout, where), str(item)))


def list_of_user(at: At, cell: Cell, user_id: str) -> Iterator[str]:
    """What the user bought in train, then the list. Raises DataError if there is no such user."""
    users = files.read_table(at("users"), "users")
    user = find(users["user_id"], user_id, "user", at)
    items = read_items(at)
    bought = {split: files.read_table(at(split), split).filter(user=user)["item"].to_list() for split in SPLITS}
    topk = files.read_table(at("topk"), "topk").filter(user=user).sort("rank")["item"].head(N_SHOWN).to_list()
    yield f"user {user_id} of {cell.dataset}, who bought in train:"
    yield from (f"      {described(items, item)}" for item in bought["train"][:N_SHOWN])
    if (n_more := len(bought["train"]) - N_SHOWN) > 0:
        yield f"      and {n_more:,} more"
    yield f"{cell.backbone} with {cell.arm}, seed {cell.seed}, recommends:"
    for rank, item in enumerate(topk, 1):
        splits = [split for split in ("valid", "test") if item in bought[split]]
        yield f"  {rank:2}  {described(items, item)}" + (f"  (bought: {', '.join(splits)})" if splits else "")
    n_found = sum(item in topk for item in bought["test"])
    yield f"{n_found} of {len(bought['test'])} test items are among these {len(topk)}"


def similar_items(at: At, item_id: str) -> Iterator[str]:
    """The items closest to one. Raises DataError if there is no such item, or it has no feature of its own."""
    items, dataset, arm = read_items(at), at.names["dataset"], at.names["arm"]
    item = find(items["item_id"], item_id, "item", at)
    closeness = cosines(files.read_table(at("features"), "features"), item)
    if not closeness:
        raise DataError(f"{item_id} has no image and no text of its own in {dataset}, {arm}; nothing is similar to it")
    means = np.mean([*closeness.values()], axis=0)  # -inf where an item lacks what this one has
    means[item] = -np.inf
    yield f"{described(items, item)}"
    yield f"is similar, by {' and '.join(closeness)} of {arm} in {dataset}, to:"
    for rank, other in enumerate(np.argsort(-means, kind="stable")[:N_SHOWN].tolist(), 1):
        if np.isfinite(means[other]):
            parts = ", ".join(f"{part} {values[other]:.2f}" for part, values in closeness.items())
            yield f"  {rank:2}  {described(items, other)}  ({parts})"


def cosines(features: pl.DataFrame, item: int) -> dict[str, np.ndarray]:
    """Cosines (I,) of an item with all, by image and by text as far as it has its own; -inf for items that have not."""
    found = {}
    for part in ("image", "text"):
        vectors = features[part].to_numpy()
        is_own = ~features[f"{part}_is_filled"].to_numpy() & vectors.any(axis=1)
        if is_own[item]:
            units = normalise(vectors)
            found[part] = np.where(is_own, units @ units[item], -np.inf)
    return found


def read_items(at: At) -> pl.DataFrame:
    """Ids and titles of all items, row i for item i."""
    items = files.read_table(at("items"), "items", columns=["item", "asin", "title"])
    return items.with_columns(item_id=item_ids(items))


def described(items: pl.DataFrame, item: int) -> str:
    """Id and title of an item."""
    return f"{items['item_id'][item]}  {items['title'][item] or '(no title)'}"


def find(ids: pl.Series, asked: str, kind: str, at: At) -> int:
    """Row of an id. Raises DataError with those that look like it."""
    found = ids.index_of(asked)
    if found is None:
        close = difflib.get_close_matches(asked, ids.to_list(), n=3)
        hint = f"; did you mean {', '.join(map(repr, close))}?" if close else f"; {at(f'{kind}s')} lists all"
        raise DataError(f"no {kind} {asked!r} in {at.names['dataset']}{hint}")
    return found
