"""The command that shows a user's list, or similar items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy

from cliper import config, files
from cliper.__main__ import main
from cliper.collect.sources.records import ITEMS
from cliper.config import Config

CELL = {"dataset": "toy", "backbone": "freedom", "arm": "cliper", "seed": 1}
CALL = ["recommend", "--config", str(toy.REPOSITORY / "config.yaml"), "toy.yaml"]
# Item 1 is close to item 0 by both, 2 by image alone, 3 is filled in both, 4 has no text, 5 is item 0's opposite.
IMAGE = np.array([[1, 0], [2, 0], [3, 0], [1, 0], [1, 0], [-1, 0]], dtype=np.float32)
TEXT = np.array([[0, 1], [0.1, 1], [1, 0], [0, 1], [0, 0], [0, -1]], dtype=np.float32)


@pytest.fixture
def ran(workdir: Path) -> Config:
    """Two users and six items; a ranking of the first backbone, arm and seed."""
    run = {"datasets": ["toy"], "backbones": ["freedom", "bpr"], "arms": ["cliper", "vanilla"], "seeds": [1, 2]}
    overlay = toy.dataset(workdir) | {"run": run}
    settings = toy.settings(**overlay)
    config.write(overlay, Path("toy.yaml"))

    def write(kind: str, table: pl.DataFrame) -> None:
        files.write_table(toy.path(settings, kind, **CELL), kind, table)

    write("users", pl.DataFrame({"user": [0, 1], "user_id": ["anna-1", "anna-2"]}))
    titles = ["Red pram", "Blue pram\x1b[2J", None, "Cup", "Plate", "Bowl"]
    items = [{"asin": f"SKU{n}", "title": title} for n, title in enumerate(titles)]
    write("items", pl.DataFrame(items, schema=ITEMS).with_row_index("item"))
    for split, rows in {"train": [(0, 0), (1, 3)], "valid": [(0, 2)], "test": [(0, 1), (0, 5), (1, 4)]}.items():
        pairs = pl.DataFrame(rows, schema=["user", "item"], orient="row")
        write(split, pairs.with_columns(timestamp=pl.lit(None, pl.Int64)))
    ranked = [(0, 1, 4, 0.9), (0, 2, 1, 0.5), (0, 3, 2, -0.1), (1, 1, 0, 0.5)]
    write("topk", pl.DataFrame(ranked, schema=["user", "rank", "item", "score"], orient="row"))
    filled = [False, False, False, True, False, False]
    features = {"item": range(6), "image": IMAGE, "text": TEXT, "image_is_filled": filled, "text_is_filled": filled}
    write("features", pl.DataFrame(features))
    return settings


def test_a_users_list_has_titles_and_says_what_was_bought(ran: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CALL, "--user", "anna-1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "user anna-1 of toy, who bought in train:",
        "      SKU0  Red pram",
        "freedom with cliper, seed 1, recommends:",
        "   1  SKU4  Plate",
        "   2  SKU1  Blue pram\\x1b[2J  (bought: test)",  # what a shop wrote moves no cursor
        "   3  SKU2  (no title)  (bought: valid)",
        "1 of 2 test items are among these 3",
    ]


def test_similar_items_are_those_close_by_image_and_text(ran: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CALL, "--item", "SKU0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "SKU0  Red pram",
        "is similar, by image and text of cliper in toy, to:",
        "   1  SKU1  Blue pram\\x1b[2J  (image 1.00, text 1.00)",
        "   2  SKU2  (no title)  (image 1.00, text 0.00)",
        "   3  SKU5  Bowl  (image -1.00, text -1.00)",
    ]
    assert main([*CALL, "--item", "SKU4"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "SKU4  Plate",
        "is similar, by image of cliper in toy, to:",
        "   1  SKU0  Red pram  (image 1.00)",
        "   2  SKU1  Blue pram\\x1b[2J  (image 1.00)",
        "   3  SKU2  (no title)  (image 1.00)",
        "   4  SKU5  Bowl  (image -1.00)",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--user", "ana-1"], "DataError: no user 'ana-1' in toy; did you mean 'anna-1', 'anna-2'?"),
        (["--item", "SKU9"], "DataError: no item 'SKU9' in toy; did you mean 'SKU5', 'SKU4', 'SKU3'?"),
        (["--user", "\x1b[2J"], "DataError: no user '\\x1b[2J' in toy; results/shared/catalogue/toy-"),
        (["--item", "SKU3"], "DataError: SKU3 has no image and no text of its own in toy, cliper"),
        ([], "ConfigError: recommend needs --user, for that user's list, or --item, for similar items"),
        (["--user", "anna-1", "--item", "SKU0"], "ConfigError: recommend needs --user"),
        (["--item", "SKU0", "--seed", "1"], "ConfigError: --backbone and --seed choose a user's list; leave them"),
        (["--user", "anna-1", "--backbone", "lattice"], "ConfigError: the run has no cell with --backbone lattice"),
        (["--user", "anna-1", "--seed", "2"], "topk.parquet is missing. Run: python -m cliper train"),
        (["--item", "SKU0", "--arm", "content_free"], "ConfigError: content_free has no features to compare items by"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(
    ran: Config, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main([*CALL, *options]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
