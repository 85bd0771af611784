"""The command that shows one item."""

from __future__ import annotations

import base64
import io
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
import toy
from PIL import Image

from cliper import config, files
from cliper.__main__ import main
from cliper.collect.images.shards import shard_folder
from cliper.collect.sources.records import ITEMS
from cliper.config import Config
from cliper.schemas import TABLES

CONFIG = ["--config", str(toy.REPOSITORY / "config.yaml"), "toy.yaml"]
TOY = {"dataset": "toy"}
SET = TOY | {"prompts": "as_described"}


def png() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (8, 9), "red").save(written, "PNG")
    return written.getvalue()


def filled(kind: str, rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows of a table, absent columns null."""
    return pl.DataFrame([dict.fromkeys(TABLES[kind].columns) | row for row in rows], infer_schema_length=None)


@pytest.fixture
def ran(workdir: Path) -> Config:
    """A run with two items, the second without an image, and an arm of two views."""
    arm = {"image": "bridge", "text": "bridge", "prompts": "as_described", "views": ["title", "brand"]}
    overlay = config.lay_over(toy.dataset(workdir), {"run": {"arms": ["cliper"]}, "arms": {"cliper": arm}})
    settings = toy.settings(**overlay)
    config.write(overlay, Path("toy.yaml"))

    def write(kind: str, table: pl.DataFrame, **names: str | int) -> None:
        files.write_table(toy.path(settings, kind, **TOY, **names), kind, table)

    items = [{"asin": "a1", "title": "<script>&", "categories": [["Baby", "Prams"]]}, {"asin": "a2"}]
    write("items", pl.DataFrame(items, schema=ITEMS).with_row_index("item"))
    digest = sha256(png()).hexdigest()
    ok = {"status": "ok", "shard": "s.parquet", "row": 0, "width": 8, "height": 9, "sha256": digest}
    write("images", filled("images", [{"item": 0} | ok, {"item": 1, "status": "http_error", "detail": "404"}]))
    shard = shard_folder(toy.path(settings, "images", **TOY)) / "s.parquet"
    picture = {"row": 0, "url": "u", "status": "ok", "bytes": png()}
    files.write_table(shard, "image_shard", filled("image_shard", [picture]))
    for view in arm["views"]:
        texts = pl.DataFrame({"item": [0, 1], "view": view, "text": f"<{view}>", "is_missing": False})
        write("prompts", texts, prompts="as_described", view=view)
        vectors = texts.drop("text").with_columns(
            embedding=pl.Series([[1.0]] * 2, dtype=pl.Array(pl.Float32, 1)), n_tokens=5, n_chunks=1, truncated=False
        )
        vectors = vectors.with_columns(text_sha256=pl.lit("0"))
        write("text_embeddings", vectors, encoder="bridge", prompts="as_described", view=view, range=0, ranges=1)
    weights = {"similarity": [0.25, 0.5] * 2, "weight": [0.4, 0.6] * 2, "rank": [2, 1, None, None]}
    write("view_weights", pl.DataFrame({"item": [0, 0, 1, 1], "view": ["brand", "title"] * 2} | weights), arm="cliper")
    return settings


def test_an_items_prompts_and_weights_are_shown(ran: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *CONFIG, "--item", "a1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a1: item 0 of toy",
        "  title: <script>&",
        "  brand: –",
        "  categories: Baby > Prams",
        "  description: –",
        "  image_url: –",
        "  image: ok, 8 x 9 px",
        "cliper: similarity, weight, rank, tokens",
        "  title: 0.5000  0.6000  1  5",
        "    <title>",
        "  brand: 0.2500  0.4000  2  5",
        "    <brand>",
    ]


def test_the_page_holds_the_image_and_escapes_what_the_shop_wrote(ran: Config) -> None:
    assert main(["inspect", *CONFIG, "--item", "a1", "--html", "a1.html"]) == 0
    page = Path("a1.html").read_text(encoding="utf-8")
    assert f"data:image/png;base64,{base64.b64encode(png()).decode()}" in page
    assert "&lt;script&gt;&amp;" in page
    assert "<script>" not in page
    assert "<td>0.6000</td>" in page


def test_an_item_without_an_image_is_shown_with_the_reason(ran: Config, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--item", "a2", "--dataset", "toy", "--arm", "cliper"]
    assert main(["inspect", *CONFIG, *names, "--html", "p.html"]) == 0
    assert "  image: http_error, 404\n" in capsys.readouterr().out
    assert "<img alt" not in Path("p.html").read_text(encoding="utf-8")


def test_an_unknown_item_is_one_line_and_exit_code_2(ran: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *CONFIG, "--item", "zz"]) == 2
    items = toy.path(ran, "items", **TOY)
    assert capsys.readouterr().err == f"DataError: no item 'zz' in toy; column asin of {items} lists all\n"


def test_an_item_whose_arms_need_no_crawl_is_shown_without_one(ran: Config, capsys: pytest.CaptureFixture[str]) -> None:
    overlay = toy.dataset(Path.cwd()) | {"run": {"datasets": ["toy"], "backbones": ["bpr"]}}
    config.write(overlay, Path("toy.yaml"))  # content-free: nothing is fused
    toy.path(ran, "images", **TOY).unlink()
    assert main(["inspect", *CONFIG, "--item", "a1", "--html", "a1.html"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "  image: not crawled"
    assert "<img alt" not in Path("a1.html").read_text(encoding="utf-8")
