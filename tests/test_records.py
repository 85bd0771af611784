"""Metadata as the world has it: what is kept as data, what is refused, and in how much memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from cliper.collect.sources import SOURCES, records
from cliper.collect.sources.amazon2014 import ASIN
from cliper.errors import SourceError

CATEGORY = {"category": "X", "interactions": "ratings"}
AMAZON2014, AMAZON2018, AMAZON2023 = (
    chosen.load()(chosen.settings)
    for chosen in (SOURCES.choose({"kind": kind, **CATEGORY}) for kind in ("amazon2014", "amazon2018", "amazon2023"))
)
KEYS = {AMAZON2014: "asin", AMAZON2018: "asin", AMAZON2023: "parent_asin"}
KINDS = pytest.mark.parametrize("source", KEYS, ids=lambda source: type(source).__name__)


def write(folder: Path, *lines: bytes) -> dict[str, Path]:
    path = folder / "meta.json.gz"
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), compresslevel=1))
    return {"metadata": path}


def line(source: object, asin: str, rest: bytes = b'"title": "T"') -> bytes:
    """A line that is JSON and a Python literal as well."""
    return b'{"%s": "%s", %s}' % (KEYS[source].encode(), asin.encode(), rest)


def peak_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@KINDS
def test_only_the_wanted_lines_are_parsed_wherever_blocks_end(
    source: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(source, f"A{n}", b'"title": "%d"' % n) for n in range(200)] + [b"{'asin': 'B', broken"]
    paths = write(tmp_path, *lines)
    wanted = {f"A{n}" for n in range(0, 200, 7)} | {"nobody"}
    for block in (1, 7, 64, 4096):
        monkeypatch.setattr(records, "BLOCK", block)
        read = source.read_items(paths, wanted)
        assert read.select("asin", "title").rows() == sorted((f"A{n}", str(n)) for n in range(0, 200, 7))


@KINDS
@pytest.mark.parametrize(
    "rest",
    [
        b'"title": __import__("os").system("touch owned")',
        b'"title": "cut',
        b'"title": ' + b"[" * 100_000 + b"]" * 100_000,
        b'"title": {"not": "a text"}',
    ],
    ids=["code", "cut", "nested", "no text"],
)
def test_a_wanted_line_that_is_no_record_is_named_by_its_number(source: object, rest: bytes, workdir: Path) -> None:
    paths = write(workdir, *[line(source, f"other{n}") for n in range(40)], line(source, "A", rest))
    with pytest.raises(SourceError, match=r"meta\.json\.gz, line 41"):
        source.read_items(paths, {"A"})
    assert not (workdir / "owned").exists()


@KINDS
def test_broken_lines_of_other_items_are_never_looked_at(source: object, tmp_path: Path) -> None:
    nested = line(source, "B", b'"title": ' + b"[" * 100_000 + b"]" * 100_000)
    paths = write(tmp_path, line(source, "B", b'"title": "cut'), nested, b"\xff\0", line(source, "A"))
    assert source.read_items(paths, {"A"})["title"].to_list() == ["T"]


@pytest.mark.parametrize("asin", ["A", "B"])
def test_a_line_of_100_mb_is_refused_in_little_memory(asin: str, tmp_path: Path) -> None:
    overlong = line(AMAZON2014, asin, b'"title": "' + b"x" * 100_000_000 + b'"')
    paths = write(tmp_path, line(AMAZON2014, "B"), overlong)

    def read() -> None:
        with pytest.raises(SourceError, match=r"line 2: more than 8,388,608 bytes; remove the line"):
            AMAZON2014.read_items(paths, {"A"})

    assert peak_of(read) < 50_000_000


@pytest.mark.parametrize("n_before", [0, 1, 1_000_000, 4_000_000, 4_194_303])
def test_the_longest_line_is_as_long_wherever_it_lies(n_before: int, tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    for n_bytes, is_read in ((records.LONGEST, True), (records.LONGEST + 1, False)):
        start = line(AMAZON2014, "A", b'"title": "T", "x": "')
        middle = start[:-1] + b"x" * (n_bytes - len(start) - 1) + b'"}'
        assert len(middle) == n_bytes
        path.write_bytes(b"x" * n_before + b"\n" + middle + b"\n" + line(AMAZON2014, "B"))
        if is_read:
            assert AMAZON2014.read_items({"metadata": path}, {"A", "B"})["title"].to_list() == ["T", "T"]
        else:
            with pytest.raises(SourceError, match="line 2: more than"):
                AMAZON2014.read_items({"metadata": path}, {"A", "B"})


@KINDS
@pytest.mark.parametrize("colon", [b":", b": ", b" : ", b":   ", b"\t:\t", b" :\r"])
@pytest.mark.parametrize("asin", ["A", "O'Neill", " A  1 ", "x" * 200, "B\u00e9", "a: 'b'"])
def test_the_blanks_around_an_id_and_the_signs_in_it_hide_no_item(
    source: object, asin: str, colon: bytes, tmp_path: Path
) -> None:
    plain = line(source, asin).replace(b'": "' + asin.encode(), b'"' + colon + b'"' + asin.encode(), 1)
    paths = write(tmp_path, line(source, "other"), plain)
    read = source.read_items(paths, {asin, "nobody"})
    assert read.select("asin", "title").rows() == [(asin, "T")]


@KINDS
def test_an_id_with_escapes_is_read_as_the_parser_reads_it(source: object, tmp_path: Path) -> None:
    lines = [line(source, asin) for asin in (r"\u0041", r"O\"N", r"B\\", r"\ud800", "C")]
    read = source.read_items(write(tmp_path, *lines), {"A", 'O"N', "B\\", "C"})
    assert read["asin"].to_list() == ["A", "B\\", "C", 'O"N']


def test_what_only_looks_like_an_id_hides_no_item(tmp_path: Path) -> None:
    paths = write(tmp_path, b"""{'title': 'asin": "x', 'asin': 'A', 'brand': 'y"'}""", line(AMAZON2014, "B"))
    assert AMAZON2014.read_items(paths, {"A"})["title"].to_list() == ['asin": "x']


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"null", b'""'])
@pytest.mark.parametrize("source", [AMAZON2018, AMAZON2023])
def test_a_number_that_is_none_is_no_title(source: object, number: bytes, tmp_path: Path) -> None:
    paths = write(tmp_path, line(source, "A", b'"title": %s, "description": [%s, "D"]' % (number, number)))
    assert source.read_items(paths, {"A"}).select("title", "description").rows() == [(None, "D")]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    lines = [line(AMAZON2014, f"X{n}", b'"title": "' + b"x" * 10_000 + b'"') for n in range(5_000)]
    paths = write(tmp_path, *lines, line(AMAZON2014, "A"))
    assert peak_of(lambda: AMAZON2014.read_items(paths, {"A"})) < 25_000_000  # the file unpacks to 50 MB


@KINDS
def test_a_title_of_a_million_characters_is_kept(source: object, tmp_path: Path) -> None:
    title = "ü" * 1_000_000
    paths = write(tmp_path, line(source, "A", b'"title": "' + title.encode() + b'"'))
    assert source.read_items(paths, {"A"})["title"].to_list() == [title]


@KINDS
def test_bytes_that_are_no_text_are_replaced_and_counted(
    source: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write(
        tmp_path,
        line(source, "A", b'"title": "caf\xe9"'),
        line(source, "B", b'"title": "nul\0l"'),
        line(source, "C", b'"title": "plain"'),
        line(source, "D", b'"title": "\xff"'),
    )
    assert source.read_items(paths, {"A", "B", "C"})["title"].to_list() == ["caf\ufffd", "nul\ufffdl", "plain"]
    assert "2 lines of wanted items have bytes that are no text" in caplog.text


@KINDS
def test_halves_of_surrogate_pairs_become_text_that_can_be_written(source: object, tmp_path: Path) -> None:
    paths = write(tmp_path, line(source, "A", rb'"title": "\ud83d\ude00 \ud800"'))
    read = source.read_items(paths, {"A"})
    assert read["title"].to_list() == ["\U0001f600 \ufffd"]
    read.write_parquet(tmp_path / "x.parquet")


@KINDS
def test_an_id_with_a_path_in_it_is_an_id(source: object, tmp_path: Path) -> None:
    paths = write(tmp_path, line(source, "../../etc/passwd"), line(source, "A"))
    assert source.read_items(paths, {"../../etc/passwd"})["asin"].to_list() == ["../../etc/passwd"]


@KINDS
@pytest.mark.parametrize("packed", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(source: object, tmp_path: Path, packed: bytes) -> None:
    paths = write(tmp_path)
    paths["metadata"].write_bytes(packed)
    with pytest.raises(SourceError, match=r"meta\.json\.gz is empty; delete it and fetch it again"):
        source.read_items(paths, {"A"})


@KINDS
def test_a_cut_file_is_refused(source: object, tmp_path: Path) -> None:
    paths = write(tmp_path, *(line(source, f"A{n}") for n in range(2000)))
    paths["metadata"].write_bytes(paths["metadata"].read_bytes()[:-100])
    with pytest.raises(SourceError, match="cut or broken"):
        source.read_items(paths, {"A1"})


def test_fields_of_2018_are_read(tmp_path: Path) -> None:
    record = {
        "asin": "A",
        "title": " A cup ",
        "brand": "",
        "category": ["Home", "Cups"],
        "description": ["For tea.", ""],
        "feature": ["Blue", "Round"],
        "imageURL": ["http://h/small.jpg", "http://h/b.jpg"],
        "imageURLHighRes": ["http://h/whole.jpg", "http://h/c.jpg"],
    }
    small = {"asin": "B", "description": "A text", "imageURLHighRes": [], "imageURL": ["http://h/small.jpg"]}
    read = AMAZON2018.read_items(write(tmp_path, *(json.dumps(r).encode() for r in (record, small))), {"A", "B"})
    assert read.rows() == [
        ("A", "A cup", None, [["Home", "Cups"]], "For tea. Blue Round", "http://h/whole.jpg"),
        ("B", None, None, None, "A text", "http://h/small.jpg"),
    ]


def test_fields_of_2023_are_read(tmp_path: Path) -> None:
    record = {
        "parent_asin": "A",
        "title": "A cup",
        "store": "Cups & Co",
        "categories": ["Home", "Cups"],
        "description": [],
        "features": ["Blue", "Round"],
        "images": [
            {"variant": "PT01", "large": "http://h/side.jpg", "hi_res": None, "thumb": "http://h/t.jpg"},
            {"variant": "MAIN", "large": "http://h/main.jpg", "hi_res": "http://h/big.jpg", "thumb": "http://h/s.jpg"},
        ],
        "details": {"Brand": "Other"},
    }
    bare = {"parent_asin": "B", "title": None, "store": None, "categories": [], "images": [], "details": {"Brand": "X"}}
    read = AMAZON2023.read_items(write(tmp_path, *(json.dumps(r).encode() for r in (record, bare))), {"A", "B"})
    assert read.rows() == [
        ("A", "A cup", "Cups & Co", [["Home", "Cups"]], "Blue Round", "http://h/main.jpg"),
        ("B", None, "X", None, None, None),
    ]


def test_ratings_of_2018_name_the_item_first(tmp_path: Path) -> None:
    (tmp_path / "X.csv").write_text("i1,u2,5.0,20\ni1,u1,3.0,10\n")
    read = AMAZON2018.read_interactions({"interactions": tmp_path / "X.csv"})
    assert read.rows() == [("u2", "i1", 5.0, 20), ("u1", "i1", 3.0, 10)]


def test_ratings_of_2023_have_a_header_and_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "X.csv.gz"
    path.write_bytes(gzip.compress(b"user_id,parent_asin,rating,timestamp\nu,i,5.0,1400000000123\n"))
    assert AMAZON2023.read_interactions({"interactions": path}).rows() == [("u", "i", 5.0, 1_400_000_000)]
    path.write_bytes(gzip.compress(b"user_id,parent_asin,rating,timestamp\nu,i,5.0,1\nu,j,five,1\n"))
    with pytest.raises(SourceError, match=r"line 3: rating 'five' or time '1' is no number"):
        AMAZON2023.read_interactions({"interactions": path})


def test_reviews_are_read_without_their_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BLOCK", 100)
    rows = [
        {"user_id": f"u{n}", "parent_asin": "i", "rating": 4.0, "timestamp": 1000 * n, "text": "x" * 90}
        for n in range(9)
    ]
    path = tmp_path / "X.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert AMAZON2023.read_interactions({"interactions": path}).rows() == [(f"u{n}", "i", 4.0, n) for n in range(9)]
    path = tmp_path / "X_5.json.gz"
    path.write_bytes(gzip.compress(b'{"reviewerID": "u", "asin": "i", "overall": 2, "unixReviewTime": 9}\n'))
    assert AMAZON2018.read_interactions({"interactions": path}).rows() == [("u", "i", 2.0, 9)]


@pytest.mark.parametrize("body", [b"u,i\xff,5.0,1\n", b"u,i,5.0,1\nu\xff,j,5.0,2\n"])
def test_ratings_that_are_no_text_are_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "ratings_X.csv").write_bytes(body)
    with pytest.raises(SourceError, match=r"ratings_X\.csv, line \d: no UTF-8"):
        AMAZON2014.read_interactions({"interactions": tmp_path / "ratings_X.csv"})


def test_cut_reviews_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "X_5.json.gz"
    rows = b"".join(b'{"reviewerID": "u%d", "asin": "i", "overall": 2, "unixReviewTime": 9}\n' % n for n in range(999))
    path.write_bytes(gzip.compress(rows)[:-50])
    with pytest.raises(SourceError, match="cut or broken"):
        AMAZON2018.read_interactions({"interactions": path})


def test_line_numbers_count_every_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path, *(b"x" * (n % 13) for n in range(100)), b"asin': 'A'", b"y", b"asin': 'B'")
    for block in (3, 50, 4096):
        monkeypatch.setattr(records, "BLOCK", block)
        found = records.find_lines(paths["metadata"], ASIN, {b"A", b"B"})
        assert list(found) == [(101, b"asin': 'A'"), (103, b"asin': 'B'")]
        assert list(records.read_lines(paths["metadata"]))[100:] == [
            (101, b"asin': 'A'"),
            (102, b"y"),
            (103, b"asin': 'B'"),
        ]


def test_what_is_read_has_the_columns_of_the_items_table(tmp_path: Path) -> None:
    for source in KEYS:
        assert source.read_items(write(tmp_path, line(source, "B")), {"A"}).equals(pl.DataFrame(schema=records.ITEMS))
