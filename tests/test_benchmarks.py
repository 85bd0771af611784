"""The two sides of the benchmark compute the same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from toy import REPOSITORY

sys.path.append(str(REPOSITORY))  # benchmarks are not installed

from benchmarks.backbones import (
    SEED,
    build_ours,
    draw_batches,
    find_graphs,
    measure_item_graph,
    measure_user_graph,
    read_world,
)
from benchmarks.encode import SMALL, build, draw_items, measure_edit, measure_images, measure_texts, render
from benchmarks.plain import PLAIN
from cliper.vectorstore import VectorStore


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
