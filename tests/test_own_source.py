"""A source of the user's own: one file with its settings and its class."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy

from cliper import files
from cliper.config import Config
from cliper.errors import ConfigError, SourceError

OWN = '''
"""Orders as a shop's till writes them: one JSON array of who bought what, when."""

from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl
from pydantic import Field

from cliper.collect.sources.base import Source
from cliper.collect.sources.base_settings import SourceSettings
from cliper.collect.sources.records import ITEMS


class MySettings(SourceSettings):
    orders: str = Field(pattern=r"[.]json$", description="file of orders")

    @property
    def files(self) -> dict[str, str]:
        return {"interactions": self.orders}


class MySource(Source[MySettings]):
    Settings = MySettings

    def read_interactions(self, paths: Mapping[str, Path]) -> pl.DataFrame:
        orders = pl.read_json(paths["interactions"])
        return orders.select(user_id="customer", asin="article", rating=pl.lit(None, pl.Float64), timestamp="at")

    def read_items(self, paths: Mapping[str, Path], wanted: Collection[str]) -> pl.DataFrame:
        orders = pl.read_json(paths["interactions"]).filter(pl.col("article").is_in(list(wanted))).unique("article")
        named = orders.select(asin="article", title="name")
        return named.with_columns(pl.lit(None, ITEMS[name]).alias(name) for name in ITEMS if name not in named.columns)


class Unsettled(Source[MySettings]):
    """It does not say which settings it takes."""


class Half(Source[MySettings]):
    """It reads nothing."""

    Settings = MySettings
'''


@pytest.fixture(autouse=True)
def own_file(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """my_source.py in the folder in which cliper is started."""
    (workdir / "my_source.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_source", None)


def chosen(**settings: object) -> Config:
    source = {"class": "my_source:MySource", **settings}
    shop = {"title": "Shop", "source": source, "k_core": 1, "split": "user_time", "split_seed": 1}
    return toy.settings(name="toy", run={"datasets": ["shop"]}, datasets={"shop": shop}, download={"lock": None})


def read_shop(folder: Path) -> Config:
    """Catalogue three orders; the config."""
    (folder / "till").mkdir()
    (folder / "till" / "orders.json").write_text(
        '[{"customer": "u", "article": "a", "name": "A cup", "at": 3}, '
        '{"customer": "u", "article": "b", "name": "A lid", "at": 1}, '
        '{"customer": "u", "article": "c", "name": "A jar", "at": 2}]'
    )
    config = chosen(orders="orders.json", mirrors=["till"])
    for name in config.dataset("shop").raw_files([]):
        toy.run("download", config, dataset="shop", file=name)
    toy.run("catalogue", config, dataset="shop")
    return config


def test_the_line_begins_with_a_source_of_ones_own(workdir: Path) -> None:
    config = read_shop(workdir)
    test = files.read_table(toy.path(config, "test", dataset="shop"), "test")
    assert test.select("item", "timestamp").rows() == [(0, 3)]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"orders": "orders.csv"},
            "datasets.shop.source.orders: 'orders.csv' does not have the form [.]json$ (file of orders)",
        ),
        ({"order": "orders.json"}, "unknown key 'order'; known: mirrors, orders"),
        (
            {"class": "my_source:MyShop"},
            "unknown class of my_source 'MyShop'; known: Half, MySettings, MySource, Unsettled",
        ),
        ({"class": "my_source:MySettings"}, "is no source: it must subclass cliper.collect.sources.base.Source"),
        ({"class": "my_source:Unsettled"}, "my_source:Unsettled has no Settings; give the class its settings class"),
        ({"class": "my_source:Half"}, "my_source:Half lacks read_interactions, read_items, which every source has"),
    ],
)
def test_what_is_no_source_is_refused_with_a_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        chosen(**settings)
    assert str(error.value).startswith("toy: datasets.shop.source")
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            'user_id="customer", ',
            "",
            "my_source:MySource, read_interactions returns no column user_id; it returns asin",
        ),
        ('timestamp="at"', 'timestamp=pl.col("at").cast(pl.String)', "returns timestamp as String, not Int64; cast it"),
        ("if name not in named.columns", "if name == 'brand'", "read_items returns no column categories"),
    ],
)
def test_what_an_own_source_returns_is_checked(workdir: Path, old: str, new: str, sentence: str) -> None:
    assert old in OWN
    (workdir / "my_source.py").write_text(OWN.replace(old, new))
    with pytest.raises(SourceError) as error:
        read_shop(workdir)
    assert sentence in str(error.value)


def code_id() -> str:
    """The id of its catalogue, by a process of its own: one process reads a file once."""
    code = "from cliper.codeid import code_id; print(code_id('catalogue', 'my_source:MySource'))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_its_code_id_changes_with_what_its_file_reads(workdir: Path) -> None:
    before = code_id()
    (workdir / "my_source.py").write_text(OWN.replace("Orders as", "The orders as") + "# the end\n")
    assert code_id() == before
    (workdir / "my_source.py").write_text(OWN.replace('title="name"', 'title="label"'))
    assert code_id() != before


@pytest.mark.parametrize("name", ["/till/orders.json", "../orders.json", "a/../../orders.json", "{place}.json", ""])
def test_the_name_of_a_file_that_leaves_its_folder_is_refused(name: str) -> None:
    (Path("my_source.py")).write_text(OWN.replace('pattern=r"[.]json$", ', ""))
    with pytest.raises(ConfigError, match="datasets.shop.source: .* is no name of a file in a folder of mirrors"):
        chosen(orders=name, mirrors=["till"])
