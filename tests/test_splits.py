from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import toy

from cliper.collect.interactions.splits import SPLITTERS, split_global_time, split_random, split_user_time

GOLDEN = toy.SHARED / "golden/preprocess"
NO_TIMES = np.zeros(10_000, dtype=np.int64)


def drawn(users: np.ndarray, seed: int) -> np.ndarray:
    return split_random(users, NO_TIMES[: len(users)], np.random.default_rng(seed))


@pytest.mark.parametrize("split", SPLITTERS)
@pytest.mark.parametrize(
    ("n", "valid", "test"),
    [
        (1, 0, 0),
        (2, 0, 0),
        (3, 1, 1),
        (5, 1, 1),
        (9, 1, 1),
        (10, 1, 1),
        (14, 1, 1),
        (15, 1, 2),
        (20, 2, 2),
        (35, 3, 4),
    ],
)
def test_each_user_is_split_by_the_fields_rule(split: str, n: int, valid: int, test: int) -> None:
    users = np.repeat([0], [n]) if split == "global_time" else np.repeat([0, 1], [n, 7])
    labels = SPLITTERS[split](users, np.arange(len(users)), np.random.default_rng(0))[:n].tolist()
    assert (labels.count("train"), labels.count("valid"), labels.count("test")) == (n - valid - test, valid, test)


@pytest.mark.parametrize("split", SPLITTERS)
def test_a_split_is_drawn_from_the_seed_alone(split: str) -> None:
    users, times = np.repeat(np.arange(50), 12), np.tile([5, 6], 300)  # half of the interactions in the same second
    first, again, other = (SPLITTERS[split](users, times, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_every_place_of_a_user_can_be_held_out() -> None:
    held = np.zeros(5, dtype=int)
    for seed in range(200):
        held += drawn(np.zeros(5, dtype=int), seed) == "test"
    assert (held > 15).all()  # 40 expected of 200 at each of the five places


def test_the_latest_of_each_user_are_held_out() -> None:
    users, times = np.array([0, 1, 0, 1, 0, 1]), np.array([30, 1, 10, 2, 20, 3])
    labels = split_user_time(users, times, np.random.default_rng(0))
    assert labels.tolist() == ["test", "train", "train", "valid", "valid", "test"]


def test_the_latest_of_all_are_held_out_whoever_they_are_of() -> None:
    users = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    times = np.array([1, 2, 3, 4, 5, 6, 7, 8, 100, 99])
    labels = split_global_time(users, times, np.random.default_rng(0))
    assert labels.tolist() == ["train"] * 8 + ["test", "valid"]


@pytest.mark.skipif(not toy.SHARED.exists(), reason="needs ../shared")
def test_golden_split_gives_the_toolboxs_counts_per_user() -> None:
    theirs = pl.read_csv(GOLDEN / "tiny-indexed-v4.inter", separator="\t")
    labels = drawn(theirs["userID"].to_numpy(), 1)
    ours = theirs.with_columns(x_label=pl.Series(labels).replace_strict({"train": 0, "valid": 1, "test": 2}))
    count = [frame.group_by("userID", "x_label").len().sort("userID", "x_label") for frame in (ours, theirs)]
    assert count[0].cast(pl.Int64).equals(count[1].cast(pl.Int64))
