from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toy

from cliper import files
from cliper.collect import catalogue
from cliper.collect.interactions import kcore
from cliper.collect.sources.amazon2014 import Amazon2014
from cliper.collect.sources.amazon2014_settings import Amazon2014Settings
from cliper.collect.sources.records import ITEMS
from cliper.config import Config, decides
from cliper.errors import DataError

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


def codes(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return catalogue.identify(frame["user_id"]), catalogue.identify(frame["asin"])


def job(folder: Path, **more: Any) -> decides.Catalogue:
    return decides.of_catalogue(toy.settings(**toy.dataset(folder, **more)), dataset="toy")


def in_core(frame: pl.DataFrame, k: int) -> pl.DataFrame:
    return frame.filter(kcore.are_in_core(*codes(frame), k))


def test_the_first_of_repeated_rows_stays() -> None:
    repeated = rows("b:x a:x b:x b:y")
    kept = repeated.filter(kcore.are_first(*codes(repeated)))
    assert kept["timestamp"].to_list() == [0, 1, 3]


def test_a_round_of_the_core_drops_users_and_items_at_once() -> None:
    # c has one row; z has one row (a's). Dropping both leaves a and b with x and y: two rows each.
    kept = in_core(rows("a:x a:y a:z b:x b:y c:x"), 2)
    assert kept.select("user_id", "asin").rows() == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_the_core_is_a_fixed_point(workdir: Path) -> None:
    # Round 1 drops d (one row); then z has one row, then b, then y.
    chain = rows("a:w a:x e:w e:x a:y b:y b:z d:z")
    kept, card = catalogue.keep(chain, job(workdir, k_core=2), "toy")
    assert kept.select("user_id", "asin").rows() == [("a", "w"), ("a", "x"), ("e", "w"), ("e", "x")]
    assert [row["step"] for row in card][2:] == [f"2-core, round {number}" for number in (1, 2, 3, 4)]


def test_ids_number_by_first_appearance() -> None:
    numbered = catalogue.number_ids(rows("u9:b u1:b u9:a u1:c"))
    assert numbered["user"].to_list() == [0, 1, 0, 1]
    assert numbered["item"].to_list() == [0, 0, 1, 2]


def test_nothing_left_is_reported_with_the_step(workdir: Path) -> None:
    with pytest.raises(DataError, match="toy: nothing is left after 5-core, round 1; lower k_core"):
        catalogue.keep(rows("a:x b:y"), job(workdir, k_core=5), "toy")


def test_nothing_left_tells_what_smaller_cores_leave(workdir: Path) -> None:
    square = rows("a:x a:y b:x b:y c:x")  # a 2-core of four rows
    said = r"lower k_core \(2 would leave 2 users, 2 items, 4 interactions; 3 nothing; 4 nothing\), or take more data"
    with pytest.raises(DataError, match=said):
        catalogue.keep(square, job(workdir, k_core=5), "toy")
    with pytest.raises(DataError, match=r"nothing is left after rating >= 6; lower min_rating"):
        catalogue.keep(square, job(workdir, k_core=5, min_rating=6), "toy")
    with pytest.raises(DataError, match=r"after 2-core, round 1; lower k_core, or take more data"):
        catalogue.keep(rows("a:x b:y"), job(workdir, k_core=2), "toy")


def test_items_without_metadata_are_warned_of_and_dropped_where_asked(
    workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # z has no metadata. Without it c has one row; the 2-core is then a and b with x and y.
    ratings = "".join(f"{user},{item},5.0,1\n" for user, item in ("ax", "ay", "az", "bx", "by", "bz", "cx", "cz"))
    metadata = ["{'asin': 'x', 'title': 'X'}", "{'asin': 'y', 'brand': 'Y'}", "{'asin': 'z'}"]
    kept, dropped = (
        toy.settings(**toy.dataset(workdir, k_core=2, drop_items_without_metadata=drops)) for drops in (False, True)
    )
    for config in (kept, dropped):
        toy.write_raw(toy.path(config, "raw", dataset="toy", file="x").parent, ratings, metadata)
        toy.run("catalogue", config, dataset="toy")
    assert caplog.text.count("have no metadata") == 1
    assert (
        "1 of 3 items (33%) have no metadata: in their prompts every field is missing; datasets.toy.drop" in caplog.text
    )
    steps = card(dropped).select("step", "interactions", "users", "items").rows()
    assert steps[2:4] == [("with metadata", 5, 3, 2), ("2-core, round 1", 4, 2, 2)]
    items = [files.read_table(toy.path(c, "items", dataset="toy"), "items")["asin"].to_list() for c in (kept, dropped)]
    assert items == [["x", "y", "z"], ["x", "y"]]


def test_dropping_bare_items_after_the_core_is_dropping_them_before(workdir: Path) -> None:
    generator = np.random.default_rng(5)
    users, asins = generator.integers(60, size=600), generator.integers(40, size=600)
    raw = pl.DataFrame({"user_id": users, "asin": asins}).cast(pl.String)
    metadata = pl.DataFrame({"asin": raw["asin"].unique()}).with_columns(
        pl.lit(None, kind).alias(name) for name, kind in ITEMS.items() if name != "asin"
    )
    metadata = metadata.with_columns(title=pl.when(pl.col("asin").str.ends_with("7")).then(None).otherwise(pl.lit("t")))
    chosen = job(workdir, k_core=6)
    kept, filtered = catalogue.keep(raw, chosen, "toy")
    after = catalogue.drop_bare(kept, filtered, metadata, chosen, "toy")
    before, _ = catalogue.keep(raw.filter(~pl.col("asin").str.ends_with("7")), chosen, "toy")
    assert 0 < after.height < kept.height
    assert after.equals(before)


def test_the_stage_writes_every_item_also_without_metadata(workdir: Path) -> None:
    ratings = "u,i2,5.0,1\nu,i1,5.0,2\nu,i3,1.0,3\nu,i2,5.0,4\n"
    config = toy.settings(**toy.dataset(workdir, min_rating=2))
    raw = toy.path(config, "raw", dataset="toy", file="x").parent
    toy.write_raw(raw, ratings, ["{'asin': 'i1', 'title': 'One'}", "{'asin': 'nobody', 'title': 'N'}"])
    toy.run("catalogue", config, dataset="toy")
    items = files.read_table(toy.path(config, "items", dataset="toy"), "items")
    assert items.select("item", "asin", "title").rows() == [(0, "i2", None), (1, "i1", "One")]
    assert card(config).select("step", "interactions").rows() == [
        ("raw", 4),
        ("without duplicates", 3),
        ("rating >= 2", 2),
        ("train", 2),
        ("valid", 0),
        ("test", 0),
    ]


def card(config: Config) -> pl.DataFrame:
    (dataset,) = config.run.datasets
    return files.read_table(toy.path(config, "counts", dataset=dataset), "counts")


def test_the_data_card_shows_density_and_what_train_lacks(workdir: Path) -> None:
    # All in the order of time: the last but one interaction of ten is valid, the last test. Both are of user v, who
    # has none before, and the last is of item y, which nobody had.
    ratings = "".join(f"u{n},x,5.0,{n}\n" for n in range(8)) + "v,x,5.0,8\nv,y,5.0,9\n"
    config = toy.settings(**toy.dataset(workdir, split="global_time"))
    toy.write_raw(toy.path(config, "raw", dataset="toy", file="x").parent, ratings, ["{'asin': 'nobody'}"])
    toy.run("catalogue", config, dataset="toy")
    shown = card(config).select("step", "users", "items", "density", "cold_users", "cold_items").rows()
    assert shown == [
        ("raw", 9, 2, pytest.approx(10 / 18), None, None),
        ("without duplicates", 9, 2, pytest.approx(10 / 18), None, None),
        ("train", 8, 1, 1.0, 0, 0),
        ("valid", 1, 1, 1.0, 1, 0),
        ("test", 1, 1, 1.0, 1, 1),
    ]


def test_a_split_by_time_without_times_is_refused(workdir: Path) -> None:
    timeless = rows("a:x b:y").with_columns(timestamp=pl.lit(None, pl.Int64))
    with pytest.raises(DataError, match="toy: split user_time needs the time of every interaction"):
        catalogue.label(timeless, job(workdir, split="user_time"), "toy")


def test_a_given_split_with_repeated_pairs_is_refused() -> None:
    given = pl.DataFrame({"user": [0, 0, 0], "item": [1, 2, 1], "split": ["train", "valid", "test"]})
    with pytest.raises(DataError, match="1 repeated rows of a user and item"):
        catalogue.take_given(given)


def test_a_missing_raw_file_names_the_command_that_fetches_it(workdir: Path) -> None:
    with pytest.raises(DataError, match="Run: python -m cliper download --dataset toy --file ratings_Toy.csv"):
        toy.run("catalogue", toy.settings(**toy.dataset(workdir)), dataset="toy")


@needs_shared
def test_golden_core_and_ids_equal_the_toolboxs() -> None:
    source = Amazon2014(Amazon2014Settings(category="Tiny", interactions="ratings"))
    raw = source.read_interactions({"interactions": GOLDEN / "ratings_Tiny.csv"}).unique(maintain_order=True)
    while (kept := in_core(raw, 5)).height < raw.height:  # the toolbox keeps repeated pairs
        raw = kept
    ours = catalogue.number_ids(kept).select(userID="user", itemID="item", rating="rating", timestamp="timestamp")
    theirs = pl.read_csv(GOLDEN / "tiny-indexed.inter", separator="\t").drop("x_label")
    assert ours.sort(ours.columns).cast(theirs.schema).equals(theirs.sort(theirs.columns))
    ids = pl.read_csv(GOLDEN / "i_id_mapping.csv", separator="\t")
    mapped = catalogue.number_ids(kept).select("asin", "item").unique().sort("item")
    assert mapped["asin"].to_list() == ids.sort("itemID")["asin"].to_list()


PUBLISHED = {  # interactions, users, items of: all, train, valid, test (georgeguo-cn/LGMRec's logs, of MMRec's files)
    "baby": (19_445, 7_050, 160_792, (118_551, 20_559, 21_682), (7_047, 5_483, 5_549)),
    "sports": (35_598, 18_357, 296_337, (218_409, 37_899, 40_029), (18_352, 13_342, 13_738)),
    "clothing": (39_387, 23_033, 278_677, (197_338, 40_150, 41_189), (23_020, 16_702, 16_803)),
}


@needs_shared
@pytest.mark.parametrize("name", PUBLISHED)
def test_data_cards_of_given_splits_have_the_published_counts(workdir: Path, name: str) -> None:
    given = {"kind": "mmrec", "inter": f"{name}.inter", "mirrors": ["unused"]}
    config = toy.settings(name="toy", run={"datasets": ["given"]}, datasets={"given": {"title": "G", "source": given}})
    raw = toy.path(config, "raw", dataset="given", file=f"{name}.inter")
    raw.parent.mkdir(parents=True)
    raw.symlink_to(AMAZON / f"{name}.inter")
    toy.run("catalogue", config, dataset="given")
    users, items, interactions, of_splits, items_of_splits = PUBLISHED[name]
    shown = card(config)
    assert shown["step"].to_list() == ["given", *catalogue.SPLITS]
    assert shown.select("users", "items", "interactions").row(0) == (users, items, interactions)
    assert tuple(shown["interactions"][1:]) == of_splits
    assert tuple(shown["items"][1:]) == items_of_splits


def write_baby_as_rated(folder: Path, *, seed: int) -> None:
    """Raw ratings around the true interactions of Baby: shuffled, rated, repeated, among users of too few."""
    generator = np.random.default_rng(seed)
    inter = pl.read_csv(AMAZON / "baby.inter", separator="\t")
    users = pl.read_csv(AMAZON / "baby_ids/u_id_mapping.csv", separator="\t")
    items = pl.read_csv(AMAZON / "baby_ids/i_id_mapping.csv", separator="\t")
    true = inter.join(users, on="userID").join(items, on="itemID").select("user_id", "asin")
    few = pl.DataFrame(
        {
            "user_id": [f"FEW{n // 4}" for n in range(40_000)],
            "asin": generator.choice(items["asin"].to_numpy(), 40_000),
        }
    )
    all_rows = pl.concat([true, true[:1000], few]).sample(fraction=1, shuffle=True, seed=seed)
    rated = all_rows.with_columns(
        rating=generator.integers(1, 6, all_rows.height).astype(float),
        timestamp=generator.integers(15_000, 16_200, all_rows.height) * 86_400,
    )
    folder.mkdir(parents=True)
    rated.write_csv(folder / "ratings_Toy.csv", include_header=False)
    toy.write_metadata(folder, ["{'asin': 'nobody'}"])


@needs_shared
@pytest.mark.parametrize(("seed", "split"), [(1, "random"), (2, "random"), (999, "random"), (3, "user_time")])
def test_published_counts_come_out_of_raw_ratings_of_baby(workdir: Path, seed: int, split: str) -> None:
    config = toy.settings(**toy.dataset(workdir, k_core=5, split=split, split_seed=seed))
    write_baby_as_rated(toy.path(config, "raw", dataset="toy", file="x").parent, seed=seed)
    toy.run("catalogue", config, dataset="toy")
    shown = card(config)
    users, items, interactions, of_splits, _ = PUBLISHED["baby"]
    assert shown["step"][:3].to_list() == ["raw", "without duplicates", "5-core, round 1"]
    assert shown["interactions"][0] == interactions + 41_000
    assert shown.select("users", "items", "interactions").row(-4) == (users, items, interactions)
    assert tuple(shown["interactions"][-3:]) == of_splits
    assert shown["cold_users"][-1] == 0
