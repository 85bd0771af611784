"""The numbers that the paper printed, in cliper/data/paper."""

from __future__ import annotations

import polars as pl

from cliper import resources

METRICS = {"Recall": "recall", "NDCG": "ndcg"}


def read_paper(table: str) -> list[dict[str, str]]:
    """Rows of one of the paper's tables."""
    return resources.read_csv(f"paper/{table}.csv")


def paper_values() -> pl.DataFrame:
    """The paper's Table 2: dataset and backbone as titled there, arm, metric, k, paper (percent)."""
    rows = [
        (r["dataset"], r["backbone"], r["variant"], METRICS[r["metric"]], int(r["k"]), float(r["percent"]))
        for r in read_paper("table2")
    ]
    return pl.DataFrame(rows, schema=["dataset", "backbone", "arm", "metric", "k", "paper"], orient="row")
