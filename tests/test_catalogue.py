from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy

from cliper import catalogue, files
from cliper.errors import DataError
from cliper.layout import locate
from cliper.sources import amazon2014

GOLDEN = toy.SHARED / "golden/preprocess"
AMAZON = toy.SHARED / "data/amazon"
needs_shared = pytest.mark.skipif(not toy.SHARED.exists(), reason="needs ../shared")


def rows(text: str) -> pl.DataFrame:
    pairs = [pair.split(":") for pair in text.split()]
    return pl.DataFrame(
        {
            "user_id": [user for user, _ in pairs],
            "asin": [item for _, item in pairs],
            "rating": [5.0] * len(pairs),
            "timestamp": range(len(pairs)),
        }
    )


def test_the_first_of_repeated_rows_stays() -> None:
    kept = catalogue.drop_duplicates(rows("b:x a:x b:x b:y"))
    assert kept["timestamp"].to_list() == [0, 1, 3]


def test_a_round_of_the_core_drops_users_and_items_at_once() -> None:
    # c has one row; z has one row (a's). Dropping both leaves a and b with x and y: two rows each.
    kept = catalogue.k_core_round(rows("a:x a:y a:z b:x b:y c:x"), 2)
    assert kept.select("user_id", "asin").rows() == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_the_core_is_a_fixed_point(workdir: Path) -> None:
    # Round 1 drops d (one row); then z has one row, then b, then y.
    chain = rows("a:w a:x e:w e:x a:y b:y b:z d:z")
    kept, steps = catalogue.cut(chain, toy.settings(**toy.dataset(workdir, k_core=2)).dataset("toy"))
    assert kept.select("user_id", "asin").rows() == [("a", "w"), ("a", "x"), ("e", "w"), ("e", "x")]
    assert [name for name, _ in steps][2:] == [f"2-core, round {number}" for number in (1, 2, 3, 4)]


def test_ids_number_by_first_appearance() -> None:
    numbered = catalogue.number_ids(rows("u9:b u1:b u9:a u1:c"))
    assert numbered["user"].to_list() == [0, 1, 0, 1]
    assert numbered["item"].to_list() == [0, 0, 1, 2]


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
def test_each_user_is_split_by_the_fields_rule(n: int, valid: int, test: int) -> None:
    users = np.repeat([0, 1], [n, 7])
    labels = catalogue.split_by_user(users, np.random.default_rng(0))[:n].tolist()
    assert (labels.count("train"), labels.count("valid"), labels.count("test")) == (n - valid - test, valid, test)


def test_the_split_is_drawn_from_the_seed_alone() -> None:
    users = np.repeat(np.arange(50), 12)
    first, again, other = (catalogue.split_by_user(users, np.random.default_rng(s)) for s in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_every_place_of_a_user_can_be_held_out() -> None:
    held = np.zeros(5, dtype=int)
    for seed in range(200):
        held += catalogue.split_by_user(np.zeros(5, dtype=int), np.random.default_rng(seed)) == "test"
    assert (held > 15).all()  # 40 expected of 200 at each of the five places


def test_nothing_left_is_told_with_the_step(workdir: Path) -> None:
    with pytest.raises(DataError, match="Toy: nothing is left after 5-core, round 1; lower k_core"):
        catalogue.cut(rows("a:x b:y"), toy.settings(**toy.dataset(workdir, k_core=5)).dataset("toy"))


def test_the_stage_writes_every_item_also_without_metadata(workdir: Path) -> None:
    ratings = "u,i2,5.0,1\nu,i1,5.0,2\nu,i3,1.0,3\nu,i2,5.0,4\n"
    raw = locate(toy.settings(**toy.dataset(workdir)).root, "raw", dataset="toy", file="x").parent
    toy.write_raw(raw, ratings, ["{'asin': 'i1', 'title': 'One'}", "{'asin': 'nobody', 'title': 'N'}"])
    config = toy.settings(**toy.dataset(workdir, min_rating=2))
    catalogue.run(config, dataset="toy")
    items = files.read_table(locate(config.root, "items", dataset="toy"), "items")
    assert items.select("item", "asin", "title").rows() == [(0, "i2", None), (1, "i1", "One")]
    counts = files.read_table(locate(config.root, "counts", dataset="toy"), "counts")
    assert counts.select("step", "interactions").rows() == [
        ("raw", 4),
        ("without duplicates", 3),
        ("rating >= 2", 2),
        ("train", 2),
        ("valid", 0),
        ("test", 0),
    ]


def test_a_missing_raw_file_names_the_command_that_fetches_it(workdir: Path) -> None:
    with pytest.raises(DataError, match="Run: python -m cliper download --dataset toy --file ratings_Toy.csv"):
        catalogue.run(toy.settings(**toy.dataset(workdir)), dataset="toy")


@needs_shared
def test_golden_core_and_ids_equal_the_toolboxs() -> None:
    raw = amazon2014.read_interactions({"interactions": GOLDEN / "ratings_Tiny.csv"}).unique(maintain_order=True)
    while (kept := catalogue.k_core_round(raw, 5)).height < raw.height:  # the toolbox keeps repeated pairs
        raw = kept
    ours = catalogue.number_ids(kept).select(userID="user", itemID="item", rating="rating", timestamp="timestamp")
    theirs = pl.read_csv(GOLDEN / "tiny-indexed.inter", separator="\t").drop("x_label")
    assert ours.sort(ours.columns).cast(theirs.schema).equals(theirs.sort(theirs.columns))
    ids = pl.read_csv(GOLDEN / "i_id_mapping.csv", separator="\t")
    mapped = catalogue.number_ids(kept).select("asin", "item").unique().sort("item")
    assert mapped["asin"].to_list() == ids.sort("itemID")["asin"].to_list()


@needs_shared
def test_golden_split_gives_the_toolboxs_counts_per_user() -> None:
    theirs = pl.read_csv(GOLDEN / "tiny-indexed-v4.inter", separator="\t")
    labels = catalogue.split_by_user(theirs["userID"].to_numpy(), np.random.default_rng(1))
    ours = theirs.with_columns(x_label=pl.Series(labels).replace_strict({"train": 0, "valid": 1, "test": 2}))
    count = [frame.group_by("userID", "x_label").len().sort("userID", "x_label") for frame in (ours, theirs)]
    assert count[0].cast(pl.Int64).equals(count[1].cast(pl.Int64))


@needs_shared
@pytest.mark.parametrize(
    ("name", "users", "items", "totals"),
    [
        ("baby", 19_445, 7_050, (118_551, 20_559, 21_682)),
        ("sports", 35_598, 18_357, (218_409, 37_899, 40_029)),
        ("clothing", 39_387, 23_033, (197_338, 40_150, 41_189)),
    ],
)
def test_published_counts_hold_for_given_and_for_our_own_splits(
    workdir: Path, name: str, users: int, items: int, totals: tuple[int, int, int]
) -> None:
    given = {"kind": "mmrec", "inter": f"{name}.inter", "mirrors": ["unused"]}
    config = toy.settings(name="toy", run={"datasets": ["given"]}, datasets={"given": {"title": "G", "source": given}})
    raw = locate(config.root, "raw", dataset="given", file=f"{name}.inter")
    raw.parent.mkdir(parents=True)
    raw.symlink_to(AMAZON / f"{name}.inter")
    catalogue.run(config, dataset="given")
    tables = [files.read_table(locate(config.root, s, dataset="given"), s) for s in catalogue.SPLITS]
    assert tuple(table.height for table in tables) == totals
    assert files.read_table(locate(config.root, "users", dataset="given"), "users").height == users
    assert files.read_table(locate(config.root, "items", dataset="given"), "items").height == items
    everything = pl.concat(tables)
    labels = catalogue.split_by_user(everything["user"].to_numpy(), np.random.default_rng(7))
    assert tuple(int((labels == split).sum()) for split in catalogue.SPLITS) == totals
