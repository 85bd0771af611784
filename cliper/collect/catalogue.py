"""Turn raw files into users, items and splits (paper section 4, "Datasets").

In:   the dataset's raw files
Out:  train, valid, test (three files), users, items, and counts: the data card, one row per step

Of several rows of the same user and item, the first one is kept. Then rows below `min_rating` are dropped, and with
`drop_items_without_metadata` those of items whose fields are all missing. Then users and items with fewer than `k_core`
interactions are dropped, in rounds, until every user and item has enough. Users and items are numbered by their first
appearance in the file. `split` says which interactions are held out: random, user_time, global_time, or given; see
cliper/collect/interactions/splits.py for the rule. A source's own split is used as it is, with its numbers of users and
items if it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from cliper import files, log
from cliper.arrays import Bools, Ints
from cliper.collect.interactions.kcore import are_first, describe_smaller, rounds
from cliper.collect.interactions.splits import SPLITTERS
from cliper.collect.sources import base
from cliper.collect.sources.records import IS_BARE, ITEMS
from cliper.config import decides
from cliper.errors import DataError, SourceError
from cliper.layout import At
from cliper.schemas import TABLES

SPLITS = ("train", "valid", "test")
INTERACTIONS = {"user_id": pl.String, "asin": pl.String, "timestamp": pl.Int64}  # what every source returns
MOST_ITEMS = 10  # numbers of items for each row: a larger one is a mistake, and takes memory
NUMBERS = {"user": pl.Int32, "item": pl.Int32}  # where a source numbers them itself


def identify(names: pl.Series) -> Ints:
    """Map equal names to equal whole numbers (n,), for counting only."""
    codes: Ints = names.cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    return codes


def number_by_appearance(names: pl.Series) -> Ints:
    """Number names from 0 in the order of their first appearance: (n,).

    >>> number_by_appearance(pl.Series(["b", "a", "b", "c"])).tolist()
    [0, 1, 0, 2]
    """
    codes = identify(names)
    known = pl.Series(codes).unique(maintain_order=True).to_numpy()
    numbers = np.zeros(known.max(initial=-1) + 1, dtype=np.int64)
    numbers[known] = np.arange(len(known))
    found: Ints = numbers[codes]
    return found


def number_ids(interactions: pl.DataFrame) -> pl.DataFrame:
    """Add user and item: whole numbers from 0 in the order of first appearance (MMRec's convention)."""
    users, items = (number_by_appearance(interactions[name]) for name in ("user_id", "asin"))
    return interactions.with_columns(user=pl.Series(users, dtype=pl.Int32), item=pl.Series(items, dtype=pl.Int32))


def describe_step(name: str, users: Ints, items: Ints) -> dict[str, Any]:
    """A row of the data card: what is left after a step, from the users (n,) and items (n,) of its interactions."""
    n_users, n_items = (int(np.count_nonzero(np.bincount(ids))) for ids in (users, items))
    density = len(users) / (n_users * n_items) if len(users) else 0.0
    return {"step": name, "interactions": len(users), "users": n_users, "items": n_items, "density": density}


def keep(raw: pl.DataFrame, job: decides.Catalogue, dataset: str) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Drop repeated rows, low ratings, and everything outside the k-core.

    raw        user_id, asin, rating, timestamp in the file's order
    returns    the rows that stay; the data card's rows

    Raises DataError if nothing is left.
    """
    users, items = (identify(raw[name]) for name in ("user_id", "asin"))
    kept, card = np.arange(raw.height), [describe_step("raw", users, items)]

    def drop(step: str, stays: Bools) -> None:
        nonlocal kept
        kept = kept[stays]
        card.append(describe_step(step, users[kept], items[kept]))

    drop("without duplicates", are_first(users, items))
    if job.min_rating is not None:
        drop(f"rating >= {job.min_rating:g}", raw["rating"].to_numpy()[kept] >= job.min_rating)
    return raw[kept[keep_core(users[kept], items[kept], card, job, dataset)]], card


def keep_core(users: Ints, items: Ints, card: list[dict[str, Any]], job: decides.Catalogue, dataset: str) -> Ints:
    """Positions (m,) of the k-core's interactions; adds a row a round to the data card.

    Raises DataError if none is left.
    """
    k, left = job.k_core or 1, np.arange(len(users))
    before = sum(row["step"].startswith(f"{k}-core") for row in card)
    for number, left in enumerate(rounds(users, items, k), start=before + 1):
        card.append(describe_step(f"{k}-core, round {number}", users[left], items[left]))
    if not len(left):
        smaller = f"lower k_core {describe_smaller(users, items, k)}".strip() + ", or take more data"
        raise DataError(
            f"{dataset}: nothing is left after {card[-1]['step']}; {smaller if len(users) else 'lower min_rating'}"
        )
    return left


def drop_bare(
    rows: pl.DataFrame, card: list[dict[str, Any]], metadata: pl.DataFrame, job: decides.Catalogue, dataset: str
) -> pl.DataFrame:
    """Drop items without any metadata from what `keep` keeps, then everything outside the k-core of the rest.

    The core of a core's rest is that of the rest: so only the metadata of items in the core is read.
    """
    described = rows.filter(pl.col("asin").is_in(metadata.filter(~IS_BARE)["asin"].implode()))
    if described.is_empty():
        raise DataError(f"{dataset}: no item has metadata; leave out drop_items_without_metadata")
    users, items = (identify(described[name]) for name in ("user_id", "asin"))
    card.append(describe_step("with metadata", users, items))
    return described[keep_core(users, items, card, job, dataset)]


def label(kept: pl.DataFrame, job: decides.Catalogue, dataset: str) -> pl.DataFrame:
    """Number and split interactions: adds user, item, split.

    Raises DataError if the split goes by time and a time is missing.
    """
    numbered = number_ids(kept)
    if job.split != "random" and numbered["timestamp"].null_count():
        raise DataError(f"{dataset}: split {job.split} needs the time of every interaction; use random")
    users, times = (numbered[name].fill_null(0).to_numpy().astype(np.int64) for name in ("user", "timestamp"))
    labels = SPLITTERS[job.split](users, times, np.random.default_rng(job.split_seed))
    return numbered.with_columns(split=pl.Series(labels))


def take_given(raw: pl.DataFrame) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Take a source's own split; number users and items if it does not. Also returns the data card's first row.

    Raises DataError if a pair of user and item occurs more than once, or a part of the split has no row.
    """
    labels = set(raw["split"])
    if absent := [label for label in SPLITS if label not in labels]:
        raise DataError(f"the given split has no row of {', '.join(absent)}; it needs some of each part")
    if labels > set(SPLITS):
        raise DataError(f"the given split has {sorted(map(str, labels - set(SPLITS)))}; write {', '.join(SPLITS)}")
    numbered = raw if "user" in raw.columns else number_ids(raw)
    users, items = (numbered[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    if n_repeated := int((~are_first(users, items)).sum()):
        raise DataError(f"the given split has {n_repeated:,} repeated rows of a user and item; remove them")
    return numbered, [describe_step("given", users, items)]


def describe_items(interactions: pl.DataFrame, metadata: pl.DataFrame) -> pl.DataFrame:
    """The items table: a row per item, by number; fields that the metadata lacks are null."""
    known = interactions.select("item", "asin").unique("item")
    every = pl.DataFrame({"item": np.arange(known["item"].to_numpy().max() + 1, dtype=np.int32)})
    return every.join(known, on="item", how="left").join(metadata, on="asin", how="left").sort("item")


def describe_splits(splits: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """The data card's rows of train, valid, test: the size of each, and how much of it is not in train."""
    train = splits["train"]
    card = []
    for name, rows in splits.items():
        users, items = (rows[column].to_numpy().astype(np.int64) for column in ("user", "item"))
        cold = {
            f"cold_{column}s": len(np.setdiff1d(rows[column].to_numpy(), train[column].to_numpy()))
            for column in ("user", "item")
        }
        card.append(describe_step(name, users, items) | cold)
    return card


def lay_out(card: list[dict[str, Any]]) -> pl.DataFrame:
    """Turn the data card into the table counts."""
    blank = dict.fromkeys(TABLES["counts"].columns)
    return pl.DataFrame(
        [blank | {"order": order} | row for order, row in enumerate(card)],
        schema_overrides={"cold_users": pl.Int64, "cold_items": pl.Int64},
    )


def require_columns(rows: pl.DataFrame, wanted: Mapping[str, Any], source: str) -> None:
    """Raise SourceError if a source's rows lack a column, or have one of another type; one without values may."""
    for name, kind in wanted.items():
        if name not in rows.columns:
            raise SourceError(f"{source} returns no column {name}; it returns {', '.join(rows.columns)}")
        if rows.schema[name] not in (kind, pl.Null):
            raise SourceError(f"{source} returns {name} as {rows.schema[name]}, not {kind()}; cast it")


def require_numbers(rows: pl.DataFrame, source: str) -> None:
    """Raise SourceError unless a source's own numbers of users and items can be positions in tables.

    Users have no gaps. Items may have some, since features may come for items that nobody bought.
    """
    for number, name in (("user", "user_id"), ("item", "asin")):
        numbers = rows[number].unique().sort()
        if numbers.null_count():
            raise SourceError(f"{source}: a row has no {number}; number every row")
        if numbers[0] < 0:
            raise SourceError(f"{source}: {number} {numbers[0]:,} is below 0; number {number}s from 0")
        gaps = (numbers != pl.int_range(len(numbers), eager=True)).arg_max() or 0
        if number == "user" and numbers[-1] >= len(numbers):
            raise SourceError(f"{source}: no row has user {gaps:,}, but one has {numbers[gaps]:,}; leave no gaps")
        if numbers[-1] >= MOST_ITEMS * len(rows):
            raise SourceError(f"{source}: item {numbers[-1]:,} in {len(rows):,} rows; number items with fewer gaps")
        pairs = rows.select(number, name).unique().drop_nulls().sort(number)
        for one, other in ((number, name), (name, number)):
            if len(several := pairs.filter(pl.col(one).is_duplicated())):
                raise SourceError(f"{source}: {one} {several[one][0]} has more than one {other}; give it one")


def read(job: decides.Catalogue, at: At) -> tuple[pl.DataFrame, list[dict[str, Any]], pl.DataFrame]:
    """Read a dataset's raw files: its interactions, numbered and split; the data card; the items table."""
    dataset = at.names["dataset"]
    source: base.Source[Any] = job.source.load()(job.source.settings)
    paths = {role: at("raw", file=name) for role, name in source.settings.files.items()}
    for path in paths.values():
        if not path.is_file():
            raise DataError(f"{path} is missing. Run: python -m cliper download --dataset {dataset} --file {path.name}")
    log.note("reads " + ", ".join(f"{path.name} ({path.stat().st_size:,} bytes)" for path in paths.values()))
    raw = source.read_interactions(paths)
    is_numbered = not NUMBERS.keys().isdisjoint(raw.columns)
    wanted = INTERACTIONS | (NUMBERS if is_numbered else {}) | ({"split": pl.String} if job.split == "given" else {})
    require_columns(raw, wanted, f"{job.source.kind}, read_interactions")
    if raw.is_empty():
        raise SourceError(f"{dataset}: there are no interactions in {', '.join(map(str, paths.values()))}")
    if is_numbered:
        require_numbers(raw, dataset)
    kept, card = take_given(raw) if job.split == "given" else keep(raw, job, dataset)
    metadata = source.read_items(paths, set(kept["asin"].drop_nulls()))
    require_columns(metadata, ITEMS, f"{job.source.kind}, read_items")
    if job.drop_items_without_metadata:
        kept = drop_bare(kept, card, metadata, job, dataset)
    if job.split != "given":
        kept = label(kept, job, dataset)
    return kept, card, describe_items(kept, metadata)


def run(job: decides.Catalogue, at: At) -> None:
    """Read the raw files, filter and split them, write the tables."""
    kept, card, items = read(job, at)
    splits = {split: kept.filter(pl.col("split") == split) for split in SPLITS}
    for split, rows in splits.items():
        table = rows.select("user", "item", "timestamp").sort("user", "item")
        files.write_table(at(split), split, table)
    users = kept.select("user", "user_id").unique("user").sort("user")
    counts = lay_out([*card, *describe_splits(splits)])
    for name, table in (("users", users), ("items", items), ("counts", counts)):
        files.write_table(at(name), name, table)
    cold = counts.filter(step="test").select("cold_users", "cold_items").row(0)
    n_without = items.select(IS_BARE.sum()).item()
    if n_without:
        share = f"{n_without:,} of {items.height:,} items ({n_without / items.height:.0%})"
        advice = (
            "" if job.split == "given" else f"; datasets.{at.names['dataset']}.drop_items_without_metadata drops them"
        )
        log.warn(f"{share} have no metadata: in their prompts every field is missing{advice}")
    log.account(
        f"{at.names['dataset']}: {card[0]['interactions']:,} rows -> {users.height:,} users, {items.height:,} items, "
        f"{kept.height:,} interactions ({' / '.join(f'{rows.height:,}' for rows in splits.values())}), "
        f"{cold[0]:,} users and {cold[1]:,} items of test not in train, {n_without:,} items without metadata"
    )
