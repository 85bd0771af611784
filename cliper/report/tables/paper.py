"""The numbers that the paper printed, in cliper/data/paper."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cliper import resources

TABLE3 = ("Clothing", "FREEDOM")  # dataset and backbone of Table 3
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
    schema = {"dataset": pl.String, "backbone": pl.String, "arm": pl.String, "metric": pl.String, "k": pl.Int32}
    return pl.DataFrame(rows, schema={**schema, "paper": pl.Float64}, orient="row")


def by_our_names(titled: pl.DataFrame, titles: Mapping[str, str], backbones: Mapping[str, str]) -> pl.DataFrame:
    """Rows whose dataset and backbone are of the run, by our names.

    titled             dataset and backbone by title, and other columns
    titles, backbones  our names -> titles; two datasets may have one
    """
    datasets = pl.DataFrame(list(titles.items()), schema=["own", "dataset"], orient="row")
    names = pl.DataFrame(list(backbones.items()), schema=["own_backbone", "backbone"], orient="row")
    both = titled.join(datasets, on="dataset").join(names, on="backbone")
    return both.drop("dataset", "backbone").rename({"own": "dataset", "own_backbone": "backbone"})


def paper_cells(titles: Mapping[str, str], backbones: Mapping[str, str]) -> pl.DataFrame:
    """The paper's Table 2 by our names: dataset, backbone, arm, metric, k, paper."""
    return by_our_names(paper_values(), titles, backbones)


def paper_temperatures(titles: Mapping[str, str], backbones: Mapping[str, str]) -> pl.DataFrame:
    """The paper's Table 3 by our names: dataset, backbone, value (τ), metric, k, paper.

    It names neither dataset nor backbone. Section 4 (RQ3) says Clothing, and its row of τ 0.1 is FREEDOM's of Table 2.
    """
    rows = [
        (dataset, backbone, float(r["temperature"]), r["metric"], int(r["k"]), float(r["percent"]))
        for r in read_paper("table3")
        for dataset, title in titles.items()
        for backbone, backbone_title in backbones.items()
        if (title, backbone_title) == TABLE3
    ]
    names = {"dataset": pl.String, "backbone": pl.String, "value": pl.Float64, "metric": pl.String, "k": pl.Int32}
    return pl.DataFrame(rows, schema={**names, "paper": pl.Float64}, orient="row")
