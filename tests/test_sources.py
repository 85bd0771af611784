from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import toy
from pydantic import ValidationError

from cliper.collect.sources import SOURCES, records
from cliper.collect.sources.amazon2014 import Amazon2014
from cliper.collect.sources.amazon2014_settings import Amazon2014Settings
from cliper.collect.sources.base import Source
from cliper.collect.sources.mmrec import Mmrec
from cliper.collect.sources.mmrec_settings import MmrecSettings
from cliper.errors import SourceError
from cliper.settings import faults
from cliper.variants import load_class

AMAZON = Amazon2014(Amazon2014Settings(category="X", interactions="ratings"))
MMREC = Mmrec(MmrecSettings(inter="x.inter", mirrors=("unused",)))
TABLE: dict[str, Any] = {
    "kind": "table",
    "interactions": "x.csv",
    "mirrors": ["unused"],
    "columns": {"interactions": {"user_id": "u", "asin": "i"}},
}
REAL_RECORDS = toy.SHARED / "data/amazon/meta_records_2014.json"


def metadata(folder: Path, *lines: str) -> dict[str, Path]:
    path = folder / "meta.json.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
    return {"metadata": path}


def ratings(folder: Path, text: str) -> dict[str, Path]:
    (folder / "ratings_X.csv").write_text(text)
    return {"interactions": folder / "ratings_X.csv"}


@pytest.mark.parametrize("kind", SOURCES.rows)
def test_each_row_names_a_class_whose_settings_are_the_rows(kind: str) -> None:
    row = SOURCES.rows[kind]
    found = load_class(row.place)
    assert issubclass(found, Source)
    assert found.Settings is row.settings


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kind": "amazon2018", "category": "X", "interactions": "ratings", "features": {}}, "unknown key 'features'"),
        ({"kind": "amazon2014", "category": "../X", "interactions": "ratings"}, "'../X' does not have the form"),
        ({"kind": "amazon2014", "category": "X", "interactions": "stars"}, "'stars' is not known; known: ratings, rev"),
        ({"kind": "mmrec", "inter": "x.inter"}, "mirrors: missing (base URLs or local folders, tried in order)"),
        ({"kind": "mmrec", "inter": "x.inter", "mirrors": []}, "mirrors: is empty; give it a value"),
        (TABLE | {"columns": {"interactions": {"asin": "i"}}}, "columns.interactions.user_id: missing"),
        (TABLE | {"items": "items.csv"}, "items and columns.items go together"),
    ],
)
def test_settings_that_a_source_does_not_take_are_refused_with_a_sentence(
    given: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValidationError) as error:
        SOURCES.choose(given)
    assert complaint in "; ".join(f"{place}: {text}" for place, text in faults(error.value))


def test_a_source_says_what_its_interactions_and_items_have_before_they_are_read() -> None:
    rated = {"interactions": {"user_id": "u", "asin": "i", "rating": "r", "split": "s"}}
    chosen = SOURCES.choose(TABLE | {"columns": rated}).settings
    assert (chosen.cut_columns, chosen.has_split, chosen.has_image_urls) == ({"rating"}, True, False)
    pictures = TABLE["columns"] | {"items": {"asin": "i", "image_url": "p"}}
    assert SOURCES.choose(TABLE | {"items": "i.csv", "columns": pictures}).settings.has_image_urls
    assert (MMREC.settings.has_split, MMREC.settings.has_image_urls) == (True, False)
    assert (AMAZON.settings.has_split, AMAZON.settings.has_image_urls) == (False, True)


def test_ratings_are_read_in_the_files_order(tmp_path: Path) -> None:
    frame = AMAZON.read_interactions(ratings(tmp_path, "u2,i1,5.0,20\nu1,i1,3.0,10\n"))
    assert frame.rows() == [("u2", "i1", 5.0, 20), ("u1", "i1", 3.0, 10)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("u,i,5.0,1\nu,j,4.0,1,extra\n", "line 2: 5 columns instead of user_id, asin, rating, timestamp"),
        ("u,i,5.0,1\nu,j,4.0\n", "line 2: a value is missing"),
        ("u,i,five,1\n", "line 1: rating 'five' or time '1' is no number"),
        ("", "is empty"),
    ],
)
def test_a_broken_rating_is_named_by_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        AMAZON.read_interactions(ratings(tmp_path, text))


def test_reviews_are_read_as_interactions(tmp_path: Path) -> None:
    path = tmp_path / "reviews_X_5.json.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"reviewerID": "u", "asin": "i", "overall": 4.0, "unixReviewTime": 9, "helpful": [0, 1]}\n')
    assert AMAZON.read_interactions({"interactions": path}).rows() == [("u", "i", 4.0, 9)]


def test_metadata_fields_are_read_and_empty_ones_are_missing(tmp_path: Path) -> None:
    paths = metadata(
        tmp_path,
        "{'asin': 'A', 'title': \"It's\", 'brand': '', 'categories': [['X', 'Y'], ['Z']], 'imUrl': 'http://h/a.jpg'}",
    )
    row = AMAZON.read_items(paths, {"A"}).row(0, named=True)
    assert row == {
        "asin": "A",
        "title": "It's",
        "brand": None,
        "categories": [["X", "Y"], ["Z"]],
        "description": None,
        "image_url": "http://h/a.jpg",
    }


def test_only_lines_of_wanted_items_are_parsed(tmp_path: Path) -> None:
    paths = metadata(
        tmp_path, "{'asin': 'B', broken", "{'title': 'first', 'asin': 'A'}", "{'asin': 'A', 'title': 'later'}"
    )
    assert AMAZON.read_items(paths, {"A"})["title"].to_list() == ["first"]


def test_an_asin_inside_a_text_does_not_hide_a_wanted_item(tmp_path: Path) -> None:
    paths = metadata(tmp_path, "{'description': \"see 'asin': 'B'\", 'asin': 'A'}")
    assert AMAZON.read_items(paths, {"A"})["asin"].to_list() == ["A"]


@pytest.mark.parametrize(
    "line",
    [
        "{'asin': 'A', 'title': __import__('os').system('touch owned')}",
        "{'asin': 'A', 'title': 'cut",
        "{'asin': 'A', 'title': " + "[" * 100_000 + "]" * 100_000 + "}",
        "['asin', {'asin': 'A'}]",
        "{'asin': 'A', 'title': ['not', 'a', 'text']}",
        "{'asin': 'A', 'categories': ['flat']}",
    ],
)
def test_a_wanted_line_that_is_no_record_is_named_and_never_run(
    workdir: Path, line: str, recwarn: pytest.WarningsRecorder
) -> None:
    paths = metadata(workdir, "{'asin': 'other'}", line)
    with pytest.raises(SourceError, match=r"meta\.json\.gz, line 2"):
        AMAZON.read_items(paths, {"A"})
    assert not (workdir / "owned").exists()


def test_a_cut_gzip_file_is_refused(tmp_path: Path) -> None:
    paths = metadata(tmp_path, *(f"{{'asin': 'A{number}'}}" for number in range(2000)))
    paths["metadata"].write_bytes(paths["metadata"].read_bytes()[:-100])
    with pytest.raises(SourceError, match="cut or broken"):
        AMAZON.read_items(paths, {"A1"})


@pytest.mark.skipif(not REAL_RECORDS.exists(), reason="needs ../shared")
def test_real_records_of_amazon_2014_are_read(tmp_path: Path) -> None:
    lines = REAL_RECORDS.read_text(encoding="utf-8").splitlines()
    read = AMAZON.read_items(metadata(tmp_path, *lines), {"0132793040", "B0000CDBQT", "1603420304", "B000F83SZQ"})
    assert read["asin"].to_list() == ["0132793040", "1603420304", "B0000CDBQT", "B000F83SZQ"]
    assert read["brand"].to_list() == [None, None, "Magic Seasoning Blends", None]
    assert read["categories"].list.len().to_list() == [1, 6, 1, 3]
    assert read["image_url"][0] == "http://ecx.images-amazon.com/images/I/31JIPhp%2BGIL.jpg"


def test_a_given_split_is_read_with_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("userID\titemID\tx_label\n0\t3\t0\n0\t1\t1\n1\t0\t2\n")
    (tmp_path / "ids.csv").write_text("asin\titemID\nA\t0\nB\t1\nD\t3\n")
    frame = MMREC.read_interactions({"interactions": tmp_path / "x.inter", "item_ids": tmp_path / "ids.csv"})
    assert frame.select("user", "item", "split", "asin").rows() == [
        (0, 3, "train", "D"),
        (0, 1, "valid", "B"),
        (1, 0, "test", "A"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("userID\titemID\n0\t1\n", "x_label"),
        ("userID\titemID\tx_label\n0\t1\t3\n", "1 rows have an x_label other than 0, 1, 2"),
        ("userID\titemID\tx_label\n0\tone\t0\n", "x.inter"),
        ("userID\titemID\tx_label\n0\t\t0\n", "empty cells"),
        ("userID\titemID\tx_label\ttimestamp\n0\t1\t0\t\n0\t2\t0\ttoday\n", "1 rows have a timestamp that is no"),
    ],
)
def test_a_broken_inter_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "x.inter").write_text(text)
    with pytest.raises(SourceError, match=complaint):
        MMREC.read_interactions({"interactions": tmp_path / "x.inter"})


def test_items_without_an_id_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("userID\titemID\tx_label\n0\t1\t0\n")
    (tmp_path / "ids.csv").write_text("asin\titemID\nA\t0\n")
    with pytest.raises(SourceError, match=r"ids\.csv lacks 1 of the items"):
        MMREC.read_interactions({"interactions": tmp_path / "x.inter", "item_ids": tmp_path / "ids.csv"})


def test_two_ids_of_one_item_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("userID\titemID\tx_label\n0\t1\t0\n")
    (tmp_path / "ids.csv").write_text("asin\titemID\nA\t1\nB\t1\n")
    with pytest.raises(SourceError, match=r"ids\.csv: 2 rows give an item that another row gives too"):
        MMREC.read_interactions({"interactions": tmp_path / "x.inter", "item_ids": tmp_path / "ids.csv"})


def test_a_line_with_a_key_that_is_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{'asin': 'A', [1]: 2}\n")
    with pytest.raises(SourceError, match=r"line 1: no plain Python literal \(unhashable type"):
        AMAZON.read_items({"metadata": tmp_path / "meta.json"}, {"A"})


def test_no_metadata_file_means_no_metadata(tmp_path: Path) -> None:
    assert MMREC.read_items({}, {"A"}).equals(pl.DataFrame(schema=records.ITEMS))
