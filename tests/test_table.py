"""Anyone's own tables as a source."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy

from cliper import files
from cliper.collect import catalogue
from cliper.collect.sources.table import Table
from cliper.collect.sources.table_settings import TableSettings
from cliper.errors import ConfigError, SourceError

COLUMNS = {"interactions": {"user_id": "customer", "asin": "sku"}, "items": {"asin": "sku", "title": "name"}}


def table_of(columns: dict[str, dict[str, str]]) -> Table:
    named = {"interactions": "bought.csv", "items": "items.csv", "mirrors": ["unused"], "columns": columns}
    return Table(TableSettings.model_validate(named))


def interactions(folder: Path, text: str, **columns: str) -> pl.DataFrame:
    (folder / "bought.csv").write_text(text, encoding="utf-8")
    return table_of(COLUMNS | {"interactions": COLUMNS["interactions"] | columns}).read_interactions(
        {"interactions": folder / "bought.csv"}
    )


def items(path: Path, wanted: set[str], **columns: str) -> pl.DataFrame:
    return table_of(COLUMNS | {"items": COLUMNS["items"] | columns}).read_items({"metadata": path}, wanted)


def test_columns_are_found_by_their_names_and_ids_stay_texts(tmp_path: Path) -> None:
    read = interactions(tmp_path, "sku,stars,customer\n007,4.5,1\n7,3,01\n", rating="stars")
    assert read.select("user_id", "asin", "rating", "timestamp").rows() == [
        ("1", "007", 4.5, None),
        ("01", "7", 3.0, None),
    ]


def test_white_space_around_an_id_makes_no_other_id(tmp_path: Path) -> None:
    assert interactions(tmp_path, "sku,customer\nA ,1\n A,2\n")["asin"].to_list() == ["A", "A"]


def test_seconds_may_have_a_point(tmp_path: Path) -> None:
    text = "sku,customer,at\nA,1,1600000000.0\nA,2, 1600000001.9\nA,3,1600000000000000001\n"
    read = interactions(tmp_path, text, timestamp="at")
    assert read["timestamp"].to_list() == [1_600_000_000, 1_600_000_001, 1_600_000_000_000_000_001]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-01 00:01", 60),
        (" 1970-01-01T00:00:07Z ", 7),
        ("1970-01-01T00:00:07.999", 7),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:00:00-0100", 0),
        ("19700102", 19_700_102),  # digits alone are seconds
        ("1970-1-2", None),
        ("02/01/1970", None),
        ("1970-02-30", None),
        ("1970-01-01T24:30", None),
        ("1970-W01-1", None),
        ("Jan 2 1970", None),
    ],
)
def test_dates_with_one_reading_are_times(tmp_path: Path, text: str, seconds: int | None) -> None:
    table = f"sku,customer,at\nA,1,5\nA,2,{text}\n"
    if seconds is not None:
        assert interactions(tmp_path, table, timestamp="at")["timestamp"].to_list() == [5, seconds]
        return
    with pytest.raises(
        SourceError, match=r"column at, row 2: '.*' is no number of seconds since 1970 and no date such"
    ):
        interactions(tmp_path, table, timestamp="at")


def test_parquet_is_read_with_numbers_as_ids_and_times_of_its_own(tmp_path: Path) -> None:
    frame = pl.DataFrame({"sku": [7], "customer": [3], "at": [datetime(1970, 1, 2)], "part": [2]})
    frame.write_parquet(tmp_path / "bought.parquet")
    columns = {"interactions": COLUMNS["interactions"] | {"timestamp": "at", "split": "part"}}
    read = table_of(COLUMNS | columns).read_interactions({"interactions": tmp_path / "bought.parquet"})
    assert read.select("user_id", "asin", "timestamp", "split").rows() == [("3", "7", 86_400, "test")]


@pytest.mark.parametrize(
    ("text", "columns", "complaint"),
    [
        ("sku,buyer\n1,2\n", {}, r"has no column customer; it has sku, buyer"),
        ("sku;customer\n1;2\n", {}, r"it has sku;customer; commas must part the columns of a CSV, tabs those of a TSV"),
        ("sku,customer\n", {}, r"bought\.csv has no rows"),
        ("sku,customer\n1,2\n1,\n", {}, r"column customer lacks a value in 1 rows \(first: row 2\); remove the rows"),
        ('sku,customer\n1,""\n1," "\n', {}, r"column customer lacks a value in 2 rows"),
        ("sku,customer,stars\n1,2,NaN\n", {"rating": "stars"}, r"column stars lacks a value in 1 rows"),
        ("sku,customer,t\n1,2,9\n1,3,noon\n", {"timestamp": "t"}, r"column t, row 2: 'noon' is no number of seconds"),
        (
            "sku,customer,stars\n1,2,'4,5'\n".replace("'", '"'),
            {"rating": "stars"},
            r"row 1: '4,5' is no number; write 4.5",
        ),
        ("sku,customer,part\n1,2,dev\n", {"split": "part"}, r"split says dev; write train, valid, test, or 0, 1, 2"),
        ("sku,customer\n1,2,3,4\n", {}, r"bought\.csv cannot be read"),
        ("price,sku,customer,note\n1,2,a,b\n1,50,2,a,b\n", {}, r"bought\.csv .*put values with a separator in quotes"),
        ("", {}, r"bought\.csv cannot be read"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, text: str, columns: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SourceError, match=complaint):
        interactions(tmp_path, text, **columns)


def test_a_nan_of_a_float_column_is_a_missing_value(tmp_path: Path) -> None:
    nan = float("nan")
    pl.DataFrame({"customer": [7.5, nan], "sku": [1.5, 1.5]}).write_parquet(tmp_path / "bought.parquet")
    with pytest.raises(SourceError, match=r"column customer lacks a value in 1 rows \(first: row 2\)"):
        table_of(COLUMNS).read_interactions({"interactions": tmp_path / "bought.parquet"})
    pl.DataFrame({"sku": [nan, 1.5], "name": [1.0, nan], "c": [nan, nan]}).write_parquet(tmp_path / "items.parquet")
    read = items(tmp_path / "items.parquet", {"1.5", "NaN"}, categories="c")
    assert read.select("asin", "title", "categories").rows() == [("1.5", None, None)]


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("Home > Cups", [["Home", "Cups"]]),
        ("Home|Cups", [["Home", "Cups"]]),
        (" > ", None),
        (["Home", "Cups"], [["Home", "Cups"]]),
        ([["Home"], ["Cups"]], [["Home"], ["Cups"]]),
        ([], None),
        (None, None),
    ],
)
def test_categories_are_a_text_a_list_or_a_list_of_paths(tmp_path: Path, value: Any, paths: Any) -> None:
    pl.DataFrame({"sku": ["A"], "name": [" A cup "], "c": [value]}).write_parquet(tmp_path / "items.parquet")
    read = items(tmp_path / "items.parquet", {"A"}, categories="c")
    assert read.row(0) == ("A", "A cup", None, paths, None, None)


def test_only_wanted_items_are_kept_the_first_row_of_each(tmp_path: Path) -> None:
    (tmp_path / "items.tsv").write_text("sku\tname\nB\tother\nA\tfirst\nA\tlater\nC\t\n")
    assert items(tmp_path / "items.tsv", {"A", "C"}).select("asin", "title").rows() == [("A", "first"), ("C", None)]


def test_more_rows_of_an_item_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "items.csv").write_text("sku,name\nA,first\nA ,later\nB,unsold\nB,unsold\n")
    assert items(tmp_path / "items.csv", {"A"})["title"].to_list() == ["first"]
    assert "items.csv has 1 more rows of items that have one; the first is used" in caplog.text


@pytest.mark.parametrize(("rows", "here"), [("7,cup\n", "it has 7"), ("", "it has no rows")])
def test_items_by_other_ids_than_those_bought_are_refused(tmp_path: Path, rows: str, here: str) -> None:
    (tmp_path / "items.csv").write_text("sku,name\n" + rows)
    with pytest.raises(
        SourceError, match=rf"column sku has none of the items .* such as 007 \({here}\); write the ids"
    ):
        items(tmp_path / "items.csv", {"007", "008"})


def test_a_table_in_another_encoding_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_bytes("sku,name\nA,Tür\n".encode("latin-1"))
    with pytest.raises(SourceError, match="save it as UTF-8"):
        items(tmp_path / "items.csv", {"A"})


def shop(folder: Path, **more: Any) -> dict[str, Any]:
    """A dataset of three users, who all bought five items of a table."""
    rows = [f"../{user},{item},{n}" for user in "uvw" for n, item in enumerate("abcde")]
    (folder / "raw").mkdir()
    (folder / "raw" / "bought.csv").write_text("\n".join(["customer,sku,at", *rows]) + "\n")
    (folder / "raw" / "items.csv").write_text("sku,name\na,A cup\nz,never sold\n")
    columns = {"interactions": {"user_id": "customer", "asin": "sku", "timestamp": "at"}, "items": COLUMNS["items"]}
    source = {"kind": "table", "interactions": "bought.csv", "items": "items.csv", "mirrors": ["raw"]}
    dataset = {"title": "Toy", "source": source | {"columns": columns}, "k_core": 1, "split": "random", "split_seed": 1}
    return {"name": "toy", "run": {"datasets": ["toy"]}, "datasets": {"toy": dataset | more}}


def test_the_line_begins_with_tables_of_ones_own(workdir: Path) -> None:
    config = toy.settings(**shop(workdir, split="user_time"))
    for name in config.datasets["toy"].raw_files([]):
        toy.run("download", config, dataset="toy", file=name)
    toy.run("catalogue", config, dataset="toy")
    test = files.read_table(toy.path(config, "test", dataset="toy"), "test")
    assert test.select("user", "item", "timestamp").rows() == [(0, 4, 4), (1, 4, 4), (2, 4, 4)]
    found = files.read_table(toy.path(config, "items", dataset="toy"), "items")
    assert found.select("asin", "title").rows()[:2] == [("a", "A cup"), ("b", None)]
    users = files.read_table(toy.path(config, "users", dataset="toy"), "users")
    assert users["user_id"].to_list() == ["../u", "../v", "../w"]  # an id is no path
    assert {path.name for path in workdir.iterdir()} == {"raw", "results"}


def test_a_split_of_ones_own_is_taken_as_it_is(workdir: Path) -> None:
    overlay = shop(workdir)
    source = overlay["datasets"]["toy"]["source"]
    source["columns"]["interactions"]["split"] = "at"
    (workdir / "raw" / "bought.csv").write_text("customer,sku,at\nu,b,train\nu,a,test\nv,b,valid\nv,a,train\n")
    overlay["datasets"]["toy"] = {"title": "Toy", "source": source}
    del source["columns"]["interactions"]["timestamp"]
    config = toy.settings(**overlay)
    target = toy.path(config, "raw", dataset="toy", file="bought.csv")
    target.parent.mkdir(parents=True)
    for name in ("bought.csv", "items.csv"):
        target.with_name(name).write_bytes((workdir / "raw" / name).read_bytes())
    toy.run("catalogue", config, dataset="toy")
    held = {s: files.read_table(toy.path(config, s, dataset="toy"), s).rows() for s in catalogue.SPLITS}
    assert held == {"train": [(0, 0, None), (1, 1, None)], "valid": [(1, 0, None)], "test": [(0, 1, None)]}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"min_rating": 3}, "source.columns.interactions: rating is missing; this dataset is filtered or split by it"),
        ({"split": "given"}, "split: given, but the source has no split of its own"),
        ({"source": {"interactions": "/data/a.csv"}}, r"'/data/a.csv' does not have the form .* \(a file in"),
        ({"source": {"columns": {"items": None}}}, "datasets.toy.source: items and columns.items go together"),
        ({"source": {"columns": {"items": {"colour": "c"}}}}, "unknown key 'colour'; known: asin, title, brand"),
    ],
)
def test_columns_that_a_dataset_is_cut_by_must_be_named(workdir: Path, more: dict[str, Any], said: str) -> None:
    overlay = shop(workdir)
    from cliper.config import lay_over

    lay_over(overlay["datasets"]["toy"], more)
    with pytest.raises(ConfigError, match=said):
        toy.settings(**overlay)
