"""Recall@20 against how popular the test item is, by arm; catalogue coverage and Gini of what is recommended.

A gain that comes from popular items alone, or lists that collapse to a few items, are not seen in a mean over users.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cliper.media import picture
from cliper.report.figures.canvas import COLUMN, PAGE, legend, look, over_seeds, panels

K = 20
DECILES = 10
ROW, FRAME = 1.45, 0.6  # inches: the height of a panel, and of all below it


def deciles(train: pl.DataFrame, *, n_items: int) -> pl.DataFrame:
    """Tenths of the items by their interactions in train: item, decile (1: the least popular).

    Items with the same number of interactions stand in one decile, so deciles need not have the same size.

    >>> deciles(pl.DataFrame({"item": [0, 0, 0, 1]}), n_items=4)["decile"].to_list()
    [10, 8, 4, 4]
    """
    counts = train["item"].value_counts(name="n")
    items = pl.DataFrame({"item": pl.arange(n_items, eager=True, dtype=pl.Int32)})
    popularity = pl.col("n").fill_null(0).rank("average")
    joined = items.join(counts.cast({"item": pl.Int32}), on="item", how="left", maintain_order="left")
    return joined.select("item", decile=(popularity * DECILES / n_items).ceil().cast(pl.Int64))


def leave_out(topk: pl.DataFrame, valid: pl.DataFrame) -> pl.DataFrame:
    """Take validation items out of their users' lists, as `evaluate.mask_valid` asks; later items move up."""
    kept = topk.join(valid, on=["user", "item"], how="anti", maintain_order="left")
    return kept.with_columns(rank=pl.int_range(1, pl.len() + 1).over("user"))


def measure(topk: pl.DataFrame, test: pl.DataFrame, popularity: pl.DataFrame) -> pl.DataFrame:
    """What one cell's lists hold: quantity, decile (null: of the whole list), value, n.

    topk        user, rank (from 1), item; -1: the list ends early
    test        user, item
    popularity  item, decile, of all items

    recall    share of the decile's test interactions that are in their user's first 20; n interactions
    coverage  share of all items that are in some test user's first 20; n items
    gini      of how often each item is there: 0 all equally often, 1 one item alone; n items
    """
    shown = topk.filter((pl.col("rank") <= K) & (pl.col("item") >= 0)).select("user", "item")
    shown = shown.join(test.select("user").unique(), on="user", how="semi")
    found = test.select("user", "item").join(shown.with_columns(hit=1.0), on=["user", "item"], how="left")
    recall = (
        found.join(popularity, on="item", how="left")
        .group_by("decile")
        .agg(value=pl.col("hit").fill_null(0).mean(), n=pl.len())
        .sort("decile")
        .select(pl.lit("recall").alias("quantity"), "decile", "value", pl.col("n").cast(pl.Int64))
    )
    counts = np.bincount(shown["item"].to_numpy(), minlength=popularity.height)
    n_items = popularity.height
    whole = [("coverage", None, float((counts > 0).mean()), n_items), ("gini", None, gini(counts), n_items)]
    return pl.concat([recall, pl.DataFrame(whole, schema=recall.schema, orient="row")])


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of counts, not all 0.

    >>> gini(np.array([1, 1])), gini(np.array([0, 0, 0, 4]))
    (0.0, 0.75)
    """
    ordered, n = np.sort(counts), len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def summarise(measured: pl.DataFrame) -> pl.DataFrame:
    """Mean and standard deviation over seeds.

    measured  dataset, backbone, arm, seed, and the columns of `measure`
    returns   dataset, backbone, arm, quantity, decile, mean, sd (null: one seed), n_seeds, n
    """
    key = ["dataset", "backbone", "arm", "quantity", "decile"]
    value = pl.col("value")
    return measured.group_by(key, maintain_order=True).agg(
        mean=value.mean(), sd=value.std(), n_seeds=pl.len(), n=pl.col("n").first()
    )


def draw(frame: pl.DataFrame, titles: Mapping[str, str], backbones: Mapping[str, str]) -> Figure:
    """A panel for each dataset (down) and backbone (across), a line for each arm.

    frame              as `summarise` returns it
    titles, backbones  titles of both
    """
    arms = {arm: number for number, arm in enumerate(dict.fromkeys(frame["arm"]))}
    figure, axes = panels(
        len(titles),
        len(backbones),
        width=COLUMN if len(backbones) <= 2 else PAGE,
        height=ROW * len(titles) + FRAME + 0.12 * (len(arms) // 4),
        sharex=True,
        sharey="row",
    )
    for line, (dataset, title) in zip(axes, titles.items(), strict=True):
        for axis, (backbone, backbone_title) in zip(line, backbones.items(), strict=True):
            _draw_panel(axis, frame.filter(dataset=dataset, backbone=backbone), arms)
            axis.set_title(picture(backbone_title), loc="left")
        line[0].set_ylabel(f"{picture(title)}\nRecall@{K} (%)" if len(titles) > 1 else f"Recall@{K} (%)")
        line[0].set_ylim(bottom=0)  # of the whole line, once all of it is drawn
    for axis in axes[-1]:
        axis.set_xlabel("popularity decile")
        axis.set_xticks(range(2, DECILES + 1, 2))
    handles = [
        Line2D([], [], color=own.colour, marker=own.marker, linestyle=own.dashes, label=picture(arm))
        for arm, own in ((arm, look(number)) for arm, number in arms.items())
    ]
    legend(figure, handles, f"{over_seeds(frame)}, by decile of the test item in train (10: the most bought).")
    return figure


def _draw_panel(axis: Axes, rows: pl.DataFrame, arms: dict[str, int]) -> None:
    for line in rows.filter(quantity="recall").partition_by("arm", maintain_order=True):
        own = look(arms[line["arm"][0]])
        spread = None if line["sd"].is_null().all() else 100 * line["sd"].fill_null(0).to_numpy()
        axis.errorbar(
            line["decile"].to_numpy(),
            100 * line["mean"].to_numpy(),
            yerr=spread,
            color=own.colour,
            marker=own.marker,
            markersize=3.5,
            linestyle=own.dashes,
            elinewidth=0.8,
        )
