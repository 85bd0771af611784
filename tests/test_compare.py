"""The stage `compare`: which runs it takes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import toy

from cliper import files
from cliper.config import Cell, decides
from cliper.errors import DataError
from cliper.report import compare

SPLIT = "baby.split-2"


class Places:
    """Where the results of a job lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = {"dataset": "baby", "backbone": "freedom", "arm": "cliper", "base": "vanilla"}

    def __call__(self, result: str, **names: Any) -> Path:
        return self.folder.joinpath(*map(str, names.values()), f"{result}.parquet")


def job(*runs: tuple[str, int], cutoffs: tuple[int, ...] = (20,)) -> decides.Compare:
    """A job that compares cliper with vanilla on pairs of dataset and seed."""
    own, base = (tuple(Cell(dataset, "freedom", arm, seed) for dataset, seed in runs) for arm in ("cliper", "vanilla"))
    return decides.Compare(own, base, ("recall", "ndcg"), cutoffs, resamples=199)


def write(at: Callable[..., Path], cell: Cell, recalls: dict[int, float]) -> None:
    """Users' recalls of one cell; NDCG is half of them, and of another cutoff nothing is asked."""
    rows = [
        (user, metric, k, value * factor)
        for user, value in recalls.items()
        for metric, k, factor in (("ndcg", 10, 9.0), ("ndcg", 20, 0.5), ("recall", 20, 1.0))
    ]
    table = pl.DataFrame(
        rows, schema={"user": pl.Int32, "metric": pl.String, "k": pl.Int32, "value": pl.Float64}, orient="row"
    )
    path = at("user_metrics", **cell._asdict())
    files.write_table(path, "user_metrics", table)


def compared(at: Places, chosen: decides.Compare) -> dict[str, Any]:
    """The row of Recall@20."""
    compare.run(chosen, at)
    table = files.read_table(at("comparison"), "comparison")
    assert table.select("metric", "k").rows() == [("ndcg", 20), ("recall", 20)]
    return table.row(1, named=True)


def test_users_are_compared_on_the_own_split_and_other_splits_count_as_runs(tmp_path: Path) -> None:
    at, chosen = Places(tmp_path), job(("baby", 1), ("baby", 2), (SPLIT, 1))
    by_cell = {
        ("baby", "cliper", 1): {3: 0.4, 5: 0.6, 9: 0.8},
        ("baby", "cliper", 2): {3: 0.6, 5: 0.6, 9: 0.8},
        (SPLIT, "cliper", 1): {4: 0.5},
        ("baby", "vanilla", 1): {3: 0.4, 5: 0.4, 9: 0.4},
        ("baby", "vanilla", 2): {3: 0.2, 5: 0.4, 9: 0.6},
        (SPLIT, "vanilla", 1): {4: 0.6},
    }
    for (dataset, arm, seed), recalls in by_cell.items():
        write(at, Cell(dataset, "freedom", arm, seed), recalls)
    row = compared(at, chosen)
    # users' means over seeds: .5 .6 .8 against .3 .4 .5; differences .2 .2 .3
    assert (row["n_users"], row["n_runs"]) == (3, 3)
    assert row["mean"] == pytest.approx(1.9 / 3)
    assert row["base_mean"] == pytest.approx(1.2 / 3)
    assert row["difference"] == pytest.approx(0.7 / 3)
    assert row["gain"] == pytest.approx(0.7 / 1.2)
    assert row["user_sd"] == pytest.approx(np.std([0.2, 0.2, 0.3], ddof=1))
    assert row["d_z"] == pytest.approx(row["difference"] / row["user_sd"])
    assert 0 < row["p"] < 0.05
    # means of runs: .6 .6667 .5 against .4 .4 .6
    assert row["sd"] == pytest.approx(np.std([0.6, 2 / 3, 0.5], ddof=1))
    assert row["base_sd"] == pytest.approx(np.std([0.4, 0.4, 0.6], ddof=1))
    assert row["p_better"] == pytest.approx(2 / 3)
    assert row["band"] == pytest.approx(2.776 * np.sqrt((row["sd"] ** 2 + row["base_sd"] ** 2) / 3), rel=1e-3)


def test_equal_arms_with_one_run_have_no_band(tmp_path: Path) -> None:
    at, chosen = Places(tmp_path), job(("baby", 1))
    for cell in (*chosen.runs, *chosen.base_runs):
        write(at, cell, {1: 0.0, 2: 0.5})
    row = compared(at, chosen)
    assert (row["p"], row["p_randomised"], row["low"], row["high"], row["d_z"], row["gain"]) == (1, 1, 0, 0, 0, 0)
    assert (row["band"], row["sd"], row["base_sd"], row["p_better"]) == (None, None, None, 0.5)


def test_a_second_comparison_is_the_same_bytes(tmp_path: Path) -> None:
    at, chosen = Places(tmp_path), job(("baby", 1))
    for number, cell in enumerate((*chosen.runs, *chosen.base_runs)):
        write(at, cell, {user: (user * (number + 1)) % 7 / 7 for user in range(50)})
    compare.run(chosen, at)
    first = at("comparison").read_bytes()
    compare.run(chosen, at)
    assert at("comparison").read_bytes() == first


def test_other_users_are_refused(tmp_path: Path) -> None:
    at, chosen = Places(tmp_path), job(("baby", 1))
    write(at, chosen.runs[0], {1: 0.1, 2: 0.1})
    write(at, chosen.base_runs[0], {1: 0.1, 7: 0.1})
    with pytest.raises(DataError, match=r"baby/freedom/cliper/1 and baby/freedom/vanilla/1 .* 2 are .*first: user 2"):
        compare.run(chosen, at)
    assert not at("comparison").exists()


def test_a_value_that_is_no_number_is_refused_with_its_cell(tmp_path: Path) -> None:
    at, chosen = Places(tmp_path), job(("baby", 1))
    write(at, chosen.runs[0], {1: 0.1, 2: float("nan")})
    with pytest.raises(DataError, match=r"baby/freedom/cliper/1 hold 2 .*ndcg@20 of user 2 is nan.*--arm cliper"):
        compare.run(chosen, at)


def test_a_cutoff_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    at, chosen = Places(tmp_path), job(("baby", 1), cutoffs=(20, 50))
    write(at, chosen.runs[0], {1: 0.1, 2: 0.2})
    with pytest.raises(DataError, match="baby/freedom/cliper/1 lack a metric or a cutoff"):
        compare.run(chosen, at)


def test_a_job_of_a_config_compares_the_seeds_of_both_arms(workdir: Path) -> None:
    config = toy.settings(
        name="toy",
        run={"datasets": ["baby"], "backbones": ["freedom"], "arms": ["vanilla", "cliper"], "seeds": [1, 2]},
        tabulate={"metrics": ["recall", "ndcg"], "cutoffs": [20]},
    )
    for cell in config.cells:
        value = (0.3 if cell.arm == "cliper" else 0.2) + 0.01 * cell.seed
        write(lambda result, **names: toy.path(config, result, **names), cell, {1: value, 2: value / 2})
    names = {"dataset": "baby", "backbone": "freedom", "arm": "cliper", "base_backbone": "freedom", "base": "vanilla"}
    toy.run("compare", config, **names)
    table = files.read_table(
        Path("results/toy/compare/baby/freedom/cliper/freedom/vanilla/comparison.parquet"), "comparison"
    )
    assert table["n_runs"].to_list() == [2, 2]
    assert table["difference"].to_list() == pytest.approx([0.0375, 0.075])
    assert table["p_better"].to_list() == [1, 1]
