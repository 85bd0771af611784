"""The two sides of the benchmark compute the same."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import toy
from toy import REPOSITORY, SHARED

from cliper.collect.images.pictures import examine
from cliper.collect.sources import ratings
from cliper.collect.sources.amazon2014 import RATINGS, read_metadata

sys.path.append(str(REPOSITORY))  # benchmarks are not installed

from benchmarks import rehearsal
from benchmarks.backbones import (
    SEED,
    build_ours,
    draw_batches,
    find_graphs,
    measure_item_graph,
    measure_user_graph,
    read_world,
)
from benchmarks.crawl import compare, crawl_ours, crawl_plainly, open_mirror
from benchmarks.encode import SMALL, build, draw_items, measure_edit, measure_images, measure_texts, render
from benchmarks.parse import draw_lines, measure_metadata, measure_ratings
from benchmarks.plain import PLAIN
from cliper.features.embeddings.store import VectorStore


def test_both_sides_encode_the_same_and_an_edit_encodes_what_is_new(tmp_path: Path) -> None:
    sides, items, views = build(tmp_path, SMALL), draw_items(6), toy.settings().prompt_set("as_described")
    with VectorStore(tmp_path / "store", {}) as store:
        first = measure_texts(sides, render(items, views), store)
        edit = measure_edit(sides, items, views, first, store)
    assert first.numbers["max_abs_difference"] <= 1e-5
    assert first.numbers["gflop"] < first.numbers["gflop_run"]
    assert measure_images(sides, 3)["max_abs_difference"] <= 1e-5
    assert edit["encoded"] == {"title": 6, "brand": 0, "categories": 0, "description": 0, "global": 6}
    assert edit["found"] == {"title": 0, "brand": 1, "categories": 1, "description": 6, "global": 0}


@pytest.fixture
def inter(tmp_path: Path) -> Path:
    """40 users with 6 of 60 items each, the last two held out; user 0 shares no item with anybody."""
    generator = np.random.default_rng(3)
    rows = [(0, item, label) for item, label in zip(range(60, 66), [0, 0, 0, 0, 1, 2], strict=True)]
    for user in range(1, 40):
        items = generator.choice(60, 6, replace=False).tolist()
        rows += [(user, item, label) for item, label in zip(items, [0, 0, 0, 0, 1, 2], strict=True)]
    path = tmp_path / "toy.inter"
    lines = ["userID\titemID\tx_label", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_plain_side_has_our_loss_and_our_gradients(name: str, inter: Path) -> None:
    world = read_world(inter, name, widths=(32, 16))._replace(batch_size=64)
    model = build_ours(world, name, find_graphs(world, name))
    plain = PLAIN[name](world, model)
    model.start_epoch(np.random.default_rng(SEED))
    plain.take(plain.draw_like_ours(np.random.default_rng(SEED)))
    for triples in draw_batches(world, 3):  # of 64, 64 and 32
        losses = model.loss(triples), plain.loss(triples)
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
        model.zero_grad()
        for parameter in plain.of.values():
            parameter.grad = None
        for loss in losses:
            loss.backward()
        for parameter, ours in model.named_parameters():
            theirs = plain.of[parameter].grad
            assert (ours.grad is None) == (theirs is None), parameter
            if ours.grad is not None:
                torch.testing.assert_close(theirs, ours.grad, rtol=1e-3, atol=1e-6)


def test_pair_loop_counts_what_the_user_graph_counts(inter: Path) -> None:
    assert measure_user_graph(read_world(inter, "dualgnn", widths=(1, 1)))["pairs_timed"] == 40 * 39


def test_both_sides_find_the_same_nearest_items(inter: Path) -> None:
    assert measure_item_graph(read_world(inter, "freedom", widths=(32, 16)))["build"] > 0


def test_all_sides_of_the_crawl_get_all_pictures(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    with open_mirror(tmp_path) as server:
        ours = crawl_ours(server, server.urls(20, base=server.https, delay_ms=0))
        plain = crawl_plainly(server, server.urls(3, base=server.http, delay_ms=1))
    assert (plain["connections"], ours["connections"] <= 20) == (3, True)
    found = compare(ours, plain)
    assert found["steady_ratio"] == pytest.approx(ours["steady"] / plain["steady"])
    assert found["cpu_ratio"] == pytest.approx(plain["cpu_ms"] / ours["cpu_ms"])


def test_the_rehearsals_raw_files_have_the_published_core(tmp_path: Path) -> None:
    data = SHARED / "data" / "amazon"
    if not data.exists():
        pytest.skip("no ../shared")
    world, generator = rehearsal.read_world(data, "http://mirror.test"), np.random.default_rng(1)
    rehearsal.write_ratings(tmp_path / "ratings_Baby.csv", world, generator)
    rows = ratings.read_ratings(tmp_path / "ratings_Baby.csv", RATINGS)
    assert (len(rows), rows["user_id"].n_unique()) == (rehearsal.N_RATINGS, rehearsal.N_USERS)
    assert rows.select("user_id", "asin").is_duplicated().sum() == 0
    kept = rows.filter(pl.len().over("user_id") >= 5)
    assert kept.select("user_id", "asin").sort(pl.all()).equals(world.interactions.sort(pl.all()))
    urls = [url for url in world.urls.values() if url]
    assert len(world.urls) - len(urls) == 13
    assert {url.split("/images/")[0] for url in urls} == {"http://mirror.test"}


def test_the_rehearsals_metadata_and_pictures_are_what_it_expects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "N_LINES", 300)
    urls = {f"B{i:03d}": f"http://mirror.test/images/I/{i}%2B.jpg" for i in range(200)} | {"C": None}
    world = rehearsal.World(pl.DataFrame(), urls)
    rehearsal.write_metadata(tmp_path / "meta_Baby.json.gz", world, np.random.default_rng(1))
    items = read_metadata(tmp_path / "meta_Baby.json.gz", urls)
    assert dict(items.select("asin", "image_url").iter_rows()) == urls
    faults = rehearsal.draw_images(tmp_path / "mirror", world, np.random.default_rng(1))
    expected = rehearsal.expect(world, faults)
    assert expected == {"ok": 80, "http_error": 70, "not_an_image": 20, "truncated": 20, "too_small": 10, "no_url": 1}
    bodies = [path.read_bytes() for path in (tmp_path / "mirror/images/I").glob("*+.jpg")]
    statuses = Counter(examine(body, max_pixels=10**6, min_side_px=8).status for body in bodies)
    assert statuses == {status: expected[status] for status in expected if status not in ("http_error", "no_url")}


def test_both_sides_of_parsing_find_the_items_and_the_core_is_one(tmp_path: Path) -> None:
    found = measure_metadata(tmp_path, 2000, 40)
    assert found["ours"]["result"] == 40
    assert len(next(draw_lines(1))) == pytest.approx(1000, rel=0.1)
    ratings = measure_ratings(tmp_path, 30_000)
    assert 0 < ratings["ours"]["result"]["rows"] < 30_000
