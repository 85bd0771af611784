"""Measure one trained cell: Recall, NDCG, precision and MAP on validation and test.

In:   topk.parquet of the cell; the valid and test tables (no other stage measures on test)
Out:  metrics.parquet (means as fractions, not rounded, over the users with an item in the split),
      user_metrics.parquet (the same for each user, test only, for paired tests between cells)

hindsight measures the trials of a search on test, each as far as it was trained: hindsight.parquet has their Recall@20,
by which the table search says what choosing on test would have claimed. No stage chooses by it.

Both splits use one ranking, without train items. So validation items stay in the test ranking, as in MMRec;
evaluate.mask_valid leaves them out. Paper: section 4, "Evaluation Metrics".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from cliper import files, log
from cliper.config import decides
from cliper.config.models import STOPPED_BY
from cliper.errors import DataError
from cliper.layout import At
from cliper.models.maths.metrics import METRICS, hits_by_user
from cliper.models.maths.tables import leave_out, ranked_items_from_table
from cliper.schemas import TABLES


def measure(topk: pl.DataFrame, split: pl.DataFrame, cutoffs: tuple[int, ...]) -> pl.DataFrame:
    """Compute all metrics for each user with an item in the split.

    topk     user, rank (from 1), item
    split    user, item; at least one row
    returns  user, metric, k, value; sorted
    """
    users, items = (split[name].to_numpy().astype(np.int64) for name in ("user", "item"))
    known, n_relevant, hits = hits_by_user(ranked_items_from_table(topk, n_users=users.max() + 1), users, items)
    parts = [
        pl.DataFrame({"user": known, "value": metric(hits, n_relevant, k)}).with_columns(
            metric=pl.lit(name), k=pl.lit(k)
        )
        for name, metric in METRICS.items()
        for k in cutoffs
    ]
    return pl.concat(parts).sort("user", "metric", "k")


def read_topk(path: Path, kind: str = "topk", *, mask_valid: bool) -> pl.DataFrame:
    """Read a ranking. Raises DataError if its lists are too short to leave validation items out."""
    topk = files.read_table(path, kind)
    if mask_valid and not files.read_metadata(path, kind).get("mask_valid"):
        raise DataError(f"{path} was made with evaluate.mask_valid: false. Run: python -m cliper {TABLES[kind].maker}")
    return topk


def average(user_metrics: pl.DataFrame) -> pl.DataFrame:
    """Average over users: metric, k, value, n_users."""
    rows = [
        (metric, k, user_values["value"].to_numpy().mean(), len(user_values))  # polars' mean depends on its threads
        for (metric, k), user_values in user_metrics.group_by("metric", "k")
    ]
    return pl.DataFrame(rows, schema=["metric", "k", "value", "n_users"], orient="row")


def run(job: decides.Evaluate, at: At) -> None:
    """Read the ranking and the splits, write metrics and user_metrics."""
    topk = read_topk(at("topk"), mask_valid=job.mask_valid)
    log.note(f"measures lists of {topk['user'].n_unique():,} users, at {', '.join(map(str, job.cutoffs))}")
    measured = {}
    for name in ("valid", "test"):
        split = files.read_table(at(name), name)
        if split.is_empty():
            dataset = at.names["dataset"]
            raise DataError(f"the {name} split of dataset {dataset} has no interactions; nothing can be measured")
        measured[name] = measure(topk, split, job.cutoffs)
        if name == "valid" and job.mask_valid:
            topk = leave_out(topk, split)
    means = pl.concat(average(measured[name]).with_columns(split=pl.lit(name)) for name in measured)
    labels = {name: pl.lit(value) for name, value in at.names.items()}
    table = means.with_columns(**labels).sort("split", "metric", "k")
    files.write_table(at("metrics"), "metrics", table)
    files.write_table(at("user_metrics"), "user_metrics", measured["test"])
    recall = table.filter(split="test", metric="recall", k=20)["value"].item()
    log.account(f"{measured['test']['user'].n_unique()} users with test items, test Recall@20 {recall:.4f}")


def run_hindsight(job: decides.Hindsight, at: At) -> None:
    """Read the last ranking of each trial that did not fail, write their test Recall@20."""
    splits = {name: files.read_table(at(name), name) for name in ("valid", "test")}
    recalls = dict[int, float]()
    log.note(f"measures the trials of {len(job.slots)} slots")
    for rung, slot in job.slots:
        (trial,) = files.read_table(at("trial", rung=rung, slot=slot), "trial").iter_rows(named=True)
        if trial["status"] == "ok":
            topk = read_topk(at("trial_topk", rung=rung, slot=slot), "trial_topk", mask_valid=job.mask_valid)
            topk = leave_out(topk, splits["valid"]) if job.mask_valid else topk
            recall = measure(topk, splits["test"], (STOPPED_BY,)).filter(metric="recall")["value"]
            recalls[trial["trial"]] = recall.to_numpy().mean()  # of a later rung in place of an earlier one's
        else:
            recalls.pop(trial["trial"], None)
    table = pl.DataFrame({"trial": recalls.keys(), "test_recall@20": recalls.values()}).sort("trial")
    files.write_table(at("hindsight"), "hindsight", table)
    log.account(f"{len(recalls)} trials measured on test")
