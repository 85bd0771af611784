"""The control worlds: how they are drawn, and that the verdicts find what is there and nothing else."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pytest
import torch
from toy import REPOSITORY

sys.path.append(str(REPOSITORY))  # benchmarks are not installed

from benchmarks.worlds import Comparison, World, draw_world, judge, main, run_arm, summarise
from cliper.arrays import Floats

BASES = ("mean", "concat")


@pytest.fixture(scope="module")
def misled() -> World:
    return draw_world(0, 0.6)


@pytest.fixture(scope="module")
def true() -> World:
    return draw_world(0, 0.0)


def train(world: World) -> dict[str, Floats]:
    torch.set_num_threads(1)
    return {fusion: run_arm(world, "freedom", fusion, range(3)) for fusion in ("sa", *BASES)}


def test_where_views_mislead_sa_is_established_to_be_better_and_the_others_to_be_worse(misled: World) -> None:
    runs = train(misled)
    for verdict in judge(runs["sa"], [runs[base] for base in BASES]):
        assert verdict["is_established"] and verdict["low"] > verdict["band"]
    for base in BASES:
        verdict = judge(runs[base], [runs["sa"]])[0]
        assert verdict["is_established"] and verdict["high"] < -verdict["band"]


def test_where_no_view_misleads_nothing_is_established(true: World) -> None:
    runs = train(true)
    assert not any(verdict["is_established"] for verdict in judge(runs["sa"], [runs[base] for base in BASES]))


def test_worlds_of_one_seed_differ_in_the_views_that_mislead_alone(misled: World, true: World) -> None:
    assert all(np.array_equal(*pair) for pair in zip(misled.train, true.train, strict=True))
    assert misled.valid.equals(true.valid) and misled.test.equals(true.test)
    assert np.array_equal(misled.image, true.image)
    differs = (misled.views != true.views).any(axis=2)
    assert 0.57 < differs.mean() < 0.63
    assert set(differs.sum(axis=1)) == {0, 1, 2, 3, 4, 5}  # each view on its own


def test_true_views_lie_near_their_image_and_misleading_ones_do_not(misled: World, true: World) -> None:
    def cosines(world: World) -> Floats:
        views, image = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (world.views, world.image))
        return np.einsum("ivd,id->iv", views, image)

    differs = (misled.views != true.views).any(axis=2)
    assert cosines(misled)[~differs].min() > 0.6
    assert abs(cosines(misled)[differs].mean()) < 0.1


def test_a_user_buys_seven_to_nine_items_once_and_the_last_two_are_held_out(true: World) -> None:
    train = pl.DataFrame({"user": true.train.users, "item": true.train.items})
    n_bought = pl.concat([train, true.valid, true.test]).unique().group_by("user").len()["len"]
    assert (len(n_bought), n_bought.min(), n_bought.max()) == (500, 7, 9)
    assert true.valid["user"].to_list() == true.test["user"].to_list() == list(range(500))


def test_a_summary_counts_each_verdict_once() -> None:
    def line(difference: float, p: float, is_established: bool) -> Comparison:
        return Comparison(0, 0.6, "freedom", "mean", 0.4, 0.3, difference, 0, 0, 0, p, is_established)

    lines = [line(0.1, 0.01, True), line(-0.1, 0.01, True), line(0.1, 0.01, False), line(0.1, 0.2, False)]
    row = list(summarise(pl.DataFrame(lines)))[-1]
    assert row == "| freedom | 60% | mean | 4 | 40.0 | 30.0 | 25 (5 to 70) | 25 (5 to 70) | 75 (30 to 95) |"


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--backbone", "bpr"], "known: mmgcn"), (["--seeds", "1"], "one run has no band")],
)
def test_what_cannot_be_judged_is_refused(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["worlds", "--csv", "unused.csv", *options])
    with pytest.raises(SystemExit):
        main()
    assert said in capsys.readouterr().err
