"""Make a table of the paper or of a study from the results that it shows."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import polars as pl

from cliper import files
from cliper.config import decides
from cliper.layout import At
from cliper.report.tables import study, table1, table2
from cliper.report.tables.grid import Grid
from cliper.report.tables.printed import short_k
from cliper.report.tables.reading import read_comparisons, read_metrics
from cliper.report.tables.trials import SearchTables, trials_grid, trials_long


class Made(NamedTuple):
    """A table in the forms that it is printed in.

    long   one row a number
    grid   the paper's shape
    short  fits a terminal: one cutoff
    """

    long: pl.DataFrame
    grid: Grid
    short: Grid


@cache
def made_for(job: decides.Page, at: At, table: str) -> Made:
    """A table of the page's run, made once, however many sections read it."""
    return make(job.tables[table], at)


def read_search(at: At, dataset: str, backbone: str, arm: str) -> SearchTables:
    """Read the trials of one search, and what they are worth on test."""
    names = {"dataset": dataset, "backbone": backbone, "arm": arm}
    tables = (files.read_table(at(kind, **names), kind) for kind in ("trials", "hindsight"))
    return SearchTables(dataset, backbone, arm, *tables)


def make(job: decides.Table1 | decides.Table2 | decides.Study | decides.Trials, at: At) -> Made:
    """Read the numbers of the whole run and make one table."""
    if isinstance(job, decides.Table1):
        counts = ((title, at("counts", dataset=dataset)) for dataset, title in job.titles.items())
        long = table1.long((title, files.read_table(path, "counts")) for title, path in counts)
        grid = table1.grid(long)
        return Made(long, grid, grid)
    if isinstance(job, decides.Trials):
        long = trials_long(read_search(at, *names) for names in job.searches)
        grid = trials_grid(long, titles=job.titles, backbones=job.backbones, seed=job.seed)
        return Made(long, grid, grid)
    metrics, comparisons = read_metrics(at, job.cells), read_comparisons(at, job.comparisons)
    if isinstance(job, decides.Study):
        long = study.long(metrics, comparisons, job)
        grid = study.grid(long, job, cutoffs=job.shown.cutoffs)
        return Made(long, grid, study.grid(long, job, cutoffs=(short_k(job.shown.cutoffs),)))
    tests = {name: files.read_table(at("test", dataset=name), "test", columns=["user"]) for name in job.titles}
    n_relevant = {name: test["user"].value_counts()["count"].to_numpy() for name, test in tests.items()}
    long = table2.long(metrics, comparisons, job, n_relevant=n_relevant)
    return Made(long, table2.grid(long, job), table2.short_grid(long, job))
