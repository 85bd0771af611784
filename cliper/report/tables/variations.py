"""What a study's table and its figure both know: which columns a variation has, and how its values are called."""

from __future__ import annotations

import polars as pl

from cliper.report.tables.printed import short_k

NUMERIC = {"temperature": "temperature τ", "d": "embedding size d"}  # what varies -> title of its axis
LABELS = {  # what varies -> how a value is called; others by the value alone
    "temperature": "τ = {}",
    "d": "d = {}",
    "without": "without {}",
    "only": "only {}",
    "missing_image": "missing image: {}",
    "overflow": "long texts: {}",
    "split": "split: {}",
    "split_seed": "split seed {}",
}
DRAWN = {  # columns of the table that the figure draws
    "group": pl.String,  # titles of the base's dataset and backbone
    "varied": pl.String,  # "": the base alone
    "variation": pl.String,
    "value": pl.Float64,  # of what is numeric
    "is_base": pl.Boolean,
    "metric": pl.String,
    "k": pl.Int32,
    "mean": pl.Float64,
    "sd": pl.Float64,
    "n_seeds": pl.Int64,
    "paper": pl.Float64,
    "established": pl.Boolean,
}
N_PANELS = 2  # metrics that a column of a paper has room for


def shown_in_figure(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a study's table that its figure draws: the first metrics, at the cutoff nearest to 20."""
    metrics = table["metric"].unique(maintain_order=True)[:N_PANELS]
    k = short_k(tuple(table["k"].unique()))
    return table.select(list(DRAWN)).filter(pl.col("metric").is_in(metrics.to_list()) & (pl.col("k") == k))


def numeric_axis(table: pl.DataFrame) -> str | None:
    """Title of the axis if all that varies is one number, else None."""
    names = [name for name in table["varied"].unique() if name]
    return NUMERIC.get(names[0]) if len(names) == 1 else None
