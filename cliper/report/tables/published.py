"""Numbers that others published for the paper's datasets, in cliper/data/published.csv, each with its source.

A number belongs to a split family: runs on the same interactions, held out in the same way. The paper is of the family
`mmrec`, the files of the toolbox MMRec. Numbers of another family are not comparable, so they are never shown without
its name.
"""

from __future__ import annotations

import polars as pl

from cliper import resources

PAPERS_FAMILY = "mmrec"
CELL = ["dataset", "backbone", "metric", "k"]


def published_values() -> pl.DataFrame:
    """All of them: dataset and backbone as titled in the paper, metric, k, percent, split_family, source, note."""
    rows = pl.DataFrame(resources.read_csv("published.csv"))
    return rows.cast({"k": pl.Int32, "percent": pl.Float64})


def others_numbers() -> pl.DataFrame:
    """What a table shows of them: dataset, backbone, metric, k, others (text).

    Numbers of the paper's family where there are any; otherwise those of other families, each marked with its own. On
    Baby and Sports the first is MMRec's, which the paper's vanilla columns repeat: a source, no second run.
    """
    values = published_values().with_columns(is_same=pl.col("split_family") == PAPERS_FAMILY)
    shown = values.filter(pl.col("is_same") | ~pl.col("is_same").any().over(CELL))
    mark = pl.when("is_same").then(pl.lit("")).otherwise(pl.format(" ({} split)", pl.col("split_family")))
    text = pl.col("percent").map_elements("{:.2f}".format, return_dtype=pl.String) + mark
    return shown.group_by(CELL, maintain_order=True).agg(others=text.unique(maintain_order=True).str.join(", "))
