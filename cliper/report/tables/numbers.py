"""The numbers of a table in long form: means over seeds, comparisons with the base, what the paper printed.

In: metrics of cells and comparisons of arms, as shares. Out: percent, never rounded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import polars as pl

from cliper.config import Cell
from cliper.errors import DataError
from cliper.report.statistics.families import benjamini_hochberg, established, holm
from cliper.report.statistics.verdicts import verdict

CELL = ["dataset", "backbone", "arm"]
PAIR = [*CELL, "base_backbone", "base"]
AT = ["metric", "k"]
PERCENT = ("low", "high", "gain", "gain_low", "gain_high", "user_sd", "band")
COMPARED = [
    "gain",
    "gain_low",
    "gain_high",
    "low",
    "high",
    "p",
    "p_holm",
    "p_bh",
    "user_sd",
    "d_z",
    "band",
    "p_better",
    "established",
]


def summarise(
    metrics: pl.DataFrame, cells: Iterable[Cell], *, names: Sequence[str], cutoffs: Sequence[int]
) -> pl.DataFrame:
    """Mean and standard deviation over seeds on the test split: dataset, backbone, arm, metric, k, mean, sd, n_seeds.

    metrics  the metrics tables of cells, one after the other
    cells    that are wanted; one without any metrics has no mean and 0 seeds
    sd       with n - 1; null for one seed

    Rows in the order of cells, names and cutoffs. Raises DataError if a value is not finite, or if some seeds of a cell
    are missing.
    """
    shown = metrics.filter((pl.col("split") == "test") & pl.col("metric").is_in(names) & pl.col("k").is_in(cutoffs))
    _require_finite(shown)
    wanted = pl.DataFrame(list(cells), schema=[*CELL, "seed"], orient="row").unique(maintain_order=True)
    seeds = wanted.group_by(CELL, maintain_order=True).agg(n_wanted=pl.len())
    grid = seeds.join(pl.DataFrame({"metric": list(names)}), how="cross").join(
        pl.DataFrame({"k": list(cutoffs)}, schema={"k": pl.Int32}), how="cross"
    )
    percent = pl.col("value") * 100
    found = shown.group_by(CELL + AT).agg(mean=percent.mean(), sd=percent.std(), n_seeds=pl.len())
    long = grid.join(found, on=CELL + AT, how="left", maintain_order="left").with_columns(
        pl.col("n_seeds").fill_null(0)
    )
    some = long.filter((pl.col("n_seeds") > 0) & (pl.col("n_seeds") != pl.col("n_wanted")))
    if some.height:
        first = some.row(0, named=True)
        raise DataError(
            f"{first['metric']}@{first['k']} of {' '.join(first[name] for name in CELL)}: {first['n_seeds']} of "
            f"{first['n_wanted']} seeds; run the others, or take them out of the config"
        )
    return long.drop("n_wanted")


def _require_finite(metrics: pl.DataFrame) -> None:
    wrong = metrics.filter(~pl.col("value").is_finite())
    if wrong.height:
        first = wrong.row(0, named=True)
        cell = " ".join(f"--{name} {first[name]}" for name in (*CELL, "seed"))
        raise DataError(
            f"{first['metric']}@{first['k']} of {' '.join(str(first[name]) for name in (*CELL, 'seed'))} is "
            f"{first['value']}, so no table is made. Run: python -m cliper evaluate {cell}"
        )


def with_comparisons(long: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
    """Add what comparisons with the base say, in percent, with p corrected over all rows of the table.

    long         a table with base_backbone and base, null where a row is not compared
    comparisons  dataset, backbone, arm, base_backbone, base, and the columns of the table `comparison`

    A NaN becomes null.
    """
    known = comparisons.with_columns(pl.col(PERCENT) * 100)
    joined = long.join(known.drop("mean", "sd"), on=PAIR + AT, how="left", maintain_order="left")
    p, low, high, band = (
        joined[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("p", "low", "high", "band")
    )
    corrected = holm(p)
    added = {
        "p_holm": pl.Series(corrected),
        "p_bh": pl.Series(benjamini_hochberg(p)),
        "established": pl.Series(established(corrected, low, high, band)),
    }
    numbers = joined.with_columns(**added).with_columns(pl.col(pl.Float64).fill_nan(None))
    return numbers.with_columns(established=pl.when(pl.col("p").is_not_null()).then("established")).select(
        *long.columns, *COMPARED
    )


def with_verdicts(long: pl.DataFrame, impossible: Collection[tuple[str, str, str, int]] = frozenset()) -> pl.DataFrame:
    """Add the verdict of each row that the paper has; null for the others.

    long        mean, sd, n_seeds, paper; percent
    impossible  dataset, backbone, arm, k of the paper's cells that no run can have given
    """
    verdicts = [
        None
        if row["paper"] is None
        else verdict(
            row["paper"],
            row["mean"],
            row["sd"],
            row["n_seeds"],
            is_impossible=tuple(row[name] for name in [*CELL, "k"]) in impossible,
        )
        for row in long.iter_rows(named=True)
    ]
    return long.with_columns(verdict=pl.Series(verdicts, dtype=pl.String))


def places(long: pl.DataFrame, group: Sequence[str]) -> list[int]:
    """Who is best: 1 the largest printed mean of its group, 2 the second of three or more, 0 the others.

    Equal as printed is equal. Alone in its group, a number is not the best of anything.
    """
    rank = pl.col("mean").round(2).rank("dense", descending=True).over(group)
    n_run = pl.col("mean").count().over(group)
    place = pl.when((rank == 1) & (n_run > 1)).then(1).when((rank == 2) & (n_run > 2)).then(2).otherwise(0)
    return long.select(place.fill_null(0)).to_series().to_list()
