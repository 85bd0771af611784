"""Compare an arm with its base, user by user: effects with intervals, tests, and the band of seeds and splits.

In:   user_metrics of all runs of both arms: seeds on the dataset's own split, and seeds on other splits
Out:  comparison.parquet: one row for each metric and cutoff (fractions, not rounded)

Users are compared on the dataset's own split, each by the mean over seeds. Other splits have other users' items: their
runs count as means only, in the band and in P(A > B). Correction for many tests belongs to a table: see tabulate.
Paper: none of this; it prints single runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from cliper import files, log
from cliper.arrays import Floats, Ints
from cliper.config import Cell, decides
from cliper.errors import DataError
from cliper.layout import At
from cliper.report.statistics import paired, spread


class Measured(NamedTuple):
    """Users' values of one run.

    users   (U,) sorted
    values  (M, U) by metric and cutoff, in the order of the key
    """

    users: Ints
    values: Floats


def users_values(user_metrics: pl.DataFrame, job: decides.Compare, *, cell: Cell) -> Measured:
    """Take the metrics and cutoffs of the job. Raises DataError if one is missing or not finite."""
    said = f"the user metrics of {'/'.join(map(str, cell))}"
    again = "Run: python -m cliper evaluate " + " ".join(f"--{key} {value}" for key, value in cell._asdict().items())
    shown = user_metrics.filter(pl.col("metric").is_in(job.metrics) & pl.col("k").is_in(job.cutoffs))
    users = shown["user"].unique(maintain_order=True).to_numpy().astype(np.int64)
    n_metrics = len(job.metrics) * len(job.cutoffs)
    if shown.height == 0 or shown.height != len(users) * n_metrics:
        raise DataError(f"{said} lack a metric or a cutoff for some user. {again}")
    if not (bad := shown.filter(~pl.col("value").is_finite())).is_empty():
        user, metric, k, value = bad.row(0)
        raise DataError(
            f"{said} hold {bad.height} values that are no numbers "
            f"(first: {metric}@{k} of user {user} is {value}). {again}"
        )
    return Measured(users, shown["value"].to_numpy().reshape(len(users), n_metrics).T)


def require_same_users(runs: Sequence[Measured], cells: Sequence[Cell]) -> None:
    """Raise DataError unless all runs of one dataset have the same users."""
    first = dict[str, tuple[Cell, Ints]]()
    for run, cell in zip(runs, cells, strict=True):
        other, users = first.setdefault(cell.dataset, (cell, run.users))
        if (differing := np.setxor1d(users, run.users)).size:
            raise DataError(
                f"{'/'.join(map(str, other))} and {'/'.join(map(str, cell))} were measured for different users: "
                f"{differing.size} are in one alone (first: user {differing[0]}). "
                "Run both again: python -m cliper evaluate"
            )


def compare(
    own: Floats, base: Floats, runs: Floats, base_runs: Floats, *, resamples: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """Columns of `comparison`, (M,) each, without the key and the counts.

    own, base        (n, M, U) users' values of each seed on the dataset's own split
    runs, base_runs  (N, M)    means of each run on any split, in pairs of one dataset and seed
    """
    values, base_values = own.mean(axis=0), base.mean(axis=0)
    difference, gain, d_z = paired.effects(values, base_values, resamples=resamples, rng=rng)
    return {
        "mean": values.mean(axis=1),
        "base_mean": base_values.mean(axis=1),
        "sd": spread.deviation(runs),
        "base_sd": spread.deviation(base_runs),
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "d_z": d_z.value,
        "d_z_low": d_z.low,
        "d_z_high": d_z.high,
        "user_sd": spread.deviation((values - base_values).T),
        "p": paired.paired_t(values, base_values),
        "p_randomised": paired.randomised(values, base_values, resamples=resamples, rng=rng),
        "band": spread.band(runs, base_runs),
        "p_better": spread.better(runs, base_runs),
    }


def run(job: decides.Compare, at: At) -> None:
    """Read the users' metrics of both arms and write their comparison. Raises DataError if their users differ."""
    cells = [*job.runs, *job.base_runs]
    log.note(f"compares {len(job.runs)} runs of each arm, with {job.resamples:,} resamples of the users")
    read = [
        users_values(files.read_table(at("user_metrics", **cell._asdict()), "user_metrics"), job, cell=cell)
        for cell in cells
    ]
    require_same_users(read, cells)
    n = len(job.runs)
    means = np.stack([run.values.mean(axis=1) for run in read])
    is_own = [cell.dataset == at.names["dataset"] for cell in cells[:n]]
    own, base = (
        np.stack([run.values for run, counts in zip(arm, is_own, strict=True) if counts])
        for arm in (read[:n], read[n:])
    )
    columns = compare(own, base, means[:n], means[n:], resamples=job.resamples, rng=np.random.default_rng(0))
    key = sorted((metric, k) for metric in job.metrics for k in job.cutoffs)
    table = pl.DataFrame(key, schema={"metric": pl.String, "k": pl.Int32}, orient="row").with_columns(
        pl.lit(own.shape[2]).alias("n_users"), pl.lit(n).alias("n_runs"), **columns
    )
    files.write_table(at("comparison"), "comparison", table.with_columns(pl.selectors.float().fill_nan(None)))
    log.account(f"{at.names['arm']} against {at.names['base']}: {table.height} numbers of {own.shape[2]:,} users")
