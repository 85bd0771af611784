"""Table `search`: every trial, which one was chosen by validation, and what choosing on test would have claimed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from cliper.report.tables.grid import Grid

HEADING = ("Dataset", "Backbone", "Arm", "Trial", "Settings", "Rung", "Epochs", "Valid R@20", "Test R@20", "")


class SearchTables(NamedTuple):
    """One search and its tables."""

    dataset: str
    backbone: str
    arm: str
    trials: pl.DataFrame  # of select
    hindsight: pl.DataFrame  # trial, test_recall@20


def trials_long(searches: Iterable[SearchTables]) -> pl.DataFrame:
    """One row a trial; valid and test are Recall@20 in percent.

    optimism  in the row of the chosen trial: the best test value of all trials minus its own, in points of percent. So
              much more would a search have claimed that chooses on test, which the field's toolboxes do
    """
    return pl.concat(_rows(each) for each in searches)


def _rows(of: SearchTables) -> pl.DataFrame:
    test = pl.col("test_recall@20") * 100
    names = {name: pl.lit(getattr(of, name)) for name in ("dataset", "backbone", "arm")}
    return of.trials.join(of.hindsight, on="trial", how="left", maintain_order="left").select(
        **names,
        trial="trial",
        settings="settings",
        rung="rung",
        epochs="epochs",
        best_epoch="best_epoch",
        valid=pl.col("valid_recall@20") * 100,
        test=test,
        status="status",
        detail="detail",
        is_chosen="is_chosen",
        optimism=pl.when("is_chosen").then(test.max() - test),
    )


def trials_grid(long: pl.DataFrame, *, titles: Mapping[str, str], backbones: Mapping[str, str], seed: int) -> Grid:
    """The same as it is printed, with a note on each search."""
    rows = []
    for row in long.iter_rows(named=True):
        mark = "chosen" if row["is_chosen"] else "" if row["status"] == "ok" else row["status"]
        numbers = [str(row["trial"]), _plain(row["settings"]), str(row["rung"]), _shown(row["epochs"], "d")]
        values = [_shown(row["valid"], ".2f"), _shown(row["test"], ".2f"), mark]
        rows.append([titles[row["dataset"]], backbones[row["backbone"]], row["arm"], *numbers, *values])
    return Grid([*HEADING], rows, tuple(_notes(long, titles, backbones, seed)))


def _notes(long: pl.DataFrame, titles: Mapping[str, str], backbones: Mapping[str, str], seed: int) -> Iterable[str]:
    yield f"Percent; each trial as far as trained, with seed {seed}; chosen by validation, without the test split."
    for (dataset, backbone, arm), trials in long.group_by("dataset", "backbone", "arm", maintain_order=True):
        (chosen,) = trials.filter("is_chosen").iter_rows(named=True)
        n_failed = len(trials.filter(pl.col("status") != "ok"))
        failed = f", {n_failed} failed" if n_failed else ""
        name = f"{backbones[str(backbone)]} with {arm} on {titles[str(dataset)]}"
        yield (
            f"{name}: {len(trials)} trials{failed}. Choosing on "
            f"test would have claimed {chosen['test'] + chosen['optimism']:.2f}, {chosen['optimism']:.2f} more."
        )


def _plain(settings: str) -> str:
    """Settings in words.

    >>> _plain('{"learning_rate": 0.001, "d": 64}')
    'learning_rate 0.001, d 64'
    """
    return settings.strip("{}").replace('"', "").replace(":", "")


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
