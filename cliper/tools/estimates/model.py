"""Rough costs of jobs that nobody has run here: items, interactions, and seconds on one CPU core (data/costs.csv).

In:   the config; the table `counts` or, before there is one, the paper's Table 1
Out:  hours and bytes
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import polars as pl

from cliper import files, resources
from cliper.config import MadeFeatures
from cliper.config.studies import base_of
from cliper.config.trials import epochs_of
from cliper.features.fusion import cnn2014
from cliper.layout import Layout

IMAGE_BYTES = 10_000  # a cover image of 300 px; 9.1 kB in the mean of 5,000
WIDTH = 768  # of CLIP ViT-L/14's embeddings, the widest of those that the config names
BABY_ROWS = 118_551  # train interactions of Baby, on which epochs were timed
TIMED_D = 64  # d of these epochs
N_EPOCHS = 100  # for the estimate; backbones stop between 50 and 200


def count(layout: Layout, dataset: str) -> tuple[int, int] | None:
    """Items and interactions of a dataset: from its catalogue, else from the paper's Table 1; None if in neither."""
    path = layout.path("counts", dataset=dataset)
    if path.is_file():
        card = files.read_table(path, "counts").filter(~pl.col("step").is_in(["train", "valid", "test"]))
        return card["items"][-1], card["interactions"][-1]
    printed = {row["dataset"]: row for row in resources.read_csv("paper/table1.csv")}
    row = printed.get(layout.config.dataset(dataset).title)
    return (int(row["items"]), int(row["interactions"])) if row else None


def _count_jobs(layout: Layout, stage: str, dataset: str) -> int:
    """Folders that a stage fills for a dataset."""
    names = [job.names for job in layout.jobs() if job.stage == stage and job.names["dataset"] == dataset]
    return len({layout.place(stage, **each) for each in names})


def estimate_bytes(layout: Layout, dataset: str) -> int:
    """Bytes of a dataset's images, embeddings and features."""
    n_items, _ = count(layout, dataset) or (0, 0)
    n_encoded = sum(_count_jobs(layout, stage, dataset) for stage in ("encode-text", "encode-image"))
    n_vectors = 2 * n_encoded + 2 * _count_jobs(layout, "fuse", dataset)  # embeddings lie in the store too
    made = (layout.config.features(dataset, arm) for arm in layout.config.arms_in_use)
    is_given = any(isinstance(each, MadeFeatures) and each.given for each in made)
    images = IMAGE_BYTES * _count_jobs(layout, "crawl", dataset)
    return n_items * (4 * WIDTH * n_vectors + images + 4 * cnn2014.D * is_given)


@cache
def _costs() -> Mapping[tuple[str, str], Mapping[str, str]]:
    return {(row["what"], row["name"]): row for row in resources.read_csv("costs.csv")}


def hours_of(layout: Layout, stage: str, names: Mapping[str, Any], size: tuple[int, int]) -> float | None:
    """Hours of the jobs of one place, on one core; None for stages that take little, or that nobody has timed.

    size  items and interactions of the dataset
    """
    config, costs, (n_items, n_rows) = layout.config, _costs(), size
    if stage == "crawl" and config.dataset(names["dataset"]).image_folder is None:
        return n_items / config.crawl.requests_per_s / 3600
    if stage in ("encode-text", "encode-image"):
        what, tower = stage.removeprefix("encode-"), config.encoder(names["encoder"]).settings.size
        return n_items * float(costs.get((what, tower), costs[what, "other"])["seconds"]) / 3600
    if stage in ("train", "trial") and (timed := costs.get(("epoch", names["backbone"]))):
        n_epochs = N_EPOCHS if stage == "train" else epochs_of(config.search, names["rung"], most=N_EPOCHS)
        epoch = float(timed["seconds"]) * (config.arm(names["arm"]).d / TIMED_D) ** float(timed["power_of_d"])
        return float(n_epochs * n_rows / BABY_ROWS * epoch / 3600)
    return None


def estimate_hours(layout: Layout) -> dict[str, dict[str, float]]:
    """Hours by stage and what they are spent on: crawl by dataset; on one core encode by encoder, train by arm."""
    sizes = {base_of(dataset): count(layout, dataset) or (0, 0) for dataset in layout.config.run.datasets}
    hours = {stage: defaultdict[str, float](float) for stage in ("crawl", "encode", "train")}
    spent_on = {"crawl": ("crawl", "dataset"), "encode-text": ("encode", "encoder"), "train": ("train", "arm")}
    spent_on |= {"encode-image": spent_on["encode-text"], "trial": spent_on["train"]}
    for stage, names in {(job.stage, layout.place(job.stage, **job.names)): job for job in layout.jobs()}.values():
        size = sizes.get(base_of(names.get("dataset", "")), (0, 0))
        if (spent := hours_of(layout, stage, names, size)) is not None:
            kind, name = spent_on[stage]
            hours[kind][names[name]] += spent
    return dict(hours)
