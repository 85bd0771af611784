"""Variations that have names: a row each, its mean as a point, its standard deviation over seeds as a bar.

Points, not bars from 0: what is compared are differences of a few percent, and a bar that does not start at 0 misleads.
Follows the paper's Figures 2, 3 and 6.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cliper.media import picture
from cliper.report.figures.canvas import INK, LOOKS, PALE, grouped, legend, over_seeds

ROW, FRAME = 0.17, 0.42  # inches: the height of a row, and of title and axis
OWN = LOOKS[0].colour
PRINTED: dict[str, Any] = {  # a point of the paper: it lies over ours and lets it be seen
    "color": LOOKS[4].colour,
    "linestyle": "",
    "marker": "D",
    "markerfacecolor": "none",
    "markeredgewidth": 1.1,
    "markersize": 6,
    "clip_on": False,
    "zorder": 5,
}


def draw(frame: pl.DataFrame) -> Figure:
    """A panel for each group of a study and each metric (across).

    frame  group, variation, is_base, metric, k, mean, sd (null: one seed), n_seeds, paper (null: not printed),
           established (null: not compared); percent; a mean that is null was not run
    """
    groups = frame.partition_by("group", maintain_order=True)
    columns = list(dict.fromkeys(frame.select("metric", "k").iter_rows()))
    heights = [ROW * group["variation"].n_unique() + FRAME for group in groups]
    figure, axes = grouped(heights, len(columns), below=0.45)
    for line, group in zip(axes, groups, strict=True):
        for place, (axis, (metric, k)) in enumerate(zip(line, columns, strict=True)):
            _draw_panel(axis, group.filter(metric=metric, k=k))
            axis.set_xlabel(f"{metric_title(metric)}@{k} (%)")
            axis.tick_params(labelleft=place == 0)
        line[0].set_title(picture(group["group"][0]), loc="left")
    legend(figure, _marks(frame), f"{over_seeds(frame)}. Axes do not start at 0.")
    return figure


def metric_title(metric: str) -> str:
    """A metric as the field writes it."""
    return {"recall": "Recall", "ndcg": "NDCG", "precision": "Precision", "map": "MAP"}[metric]


def _draw_panel(axis: Axes, rows: pl.DataFrame) -> None:
    for mean in rows.filter("is_base").drop_nulls("mean")["mean"]:
        axis.axvline(mean, color=PALE, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    for y, row in enumerate(rows.iter_rows(named=True)):
        if row["paper"] is not None:
            axis.plot(row["paper"], y, **PRINTED)
        if row["mean"] is None:
            axis.annotate("not run", (0.03, y), xycoords=("axes fraction", "data"), va="center", color=PALE, fontsize=6)
            continue
        colour = INK if row["is_base"] else OWN
        axis.errorbar(
            row["mean"],
            y,
            xerr=row["sd"],
            color=colour,
            marker="s" if row["is_base"] else "o",
            elinewidth=1,
            markeredgewidth=1,
            markerfacecolor=colour if row["is_base"] or row["established"] else "white",
        )
    axis.set_yticks(range(rows.height), [picture(name) for name in rows["variation"]])
    axis.set_ylim(rows.height - 0.5, -0.5)
    axis.margins(x=0.12)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.locator_params(axis="x", nbins=4)


def _marks(frame: pl.DataFrame) -> list[Line2D]:
    """The legend: those marks that the figure has."""
    own: dict[str, Any] = {"linestyle": "", "color": OWN, "markeredgewidth": 1}
    marks = [Line2D([], [], **{**own, "color": INK}, marker="s", label="base")]
    if (frame["established"].fill_null(value=False)).any():
        marks.append(Line2D([], [], **own, marker="o", label="established"))
    if frame.filter(~pl.col("is_base")).height:
        marks.append(Line2D([], [], **own, marker="o", markerfacecolor="white", label="not established"))
    if frame["paper"].is_not_null().any():
        marks.append(Line2D([], [], **PRINTED, label="paper"))
    return marks
