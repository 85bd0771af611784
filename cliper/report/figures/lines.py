"""Variations that are numbers: the metric as a line over them. Follows Figure 4 and Table 3 of the paper."""

from __future__ import annotations

import math
from itertools import pairwise

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from cliper.media import picture
from cliper.report.figures.canvas import PALE, grouped, legend, look, over_seeds
from cliper.report.figures.points import PRINTED, metric_title

ROW = 1.5  # inches: the height of a panel
WIDE = 4  # the axis is logarithmic where the largest value is at least this many times the smallest
CLOSE = 0.2  # of the axis: labels of ticks that are closer stand in two lines


def draw(frame: pl.DataFrame, *, what: str) -> Figure:
    """A panel for each group of a study and each metric (across); the paper's points where it prints them.

    frame  as of `points.draw`, and value: the number that varies; null for a base that has none of the values
    what   varies: the title of the axis
    """
    groups = frame.partition_by("group", maintain_order=True)
    columns = list(dict.fromkeys(frame.select("metric", "k").iter_rows()))
    figure, axes = grouped([ROW] * len(groups), len(columns), below=0.35)
    for line, group in zip(axes, groups, strict=True):
        for axis, (metric, k) in zip(line, columns, strict=True):
            _draw_line(axis, group.filter(metric=metric, k=k).sort("value"))
            _scale(axis, frame["value"].drop_nulls().unique().sort().to_list())
            axis.set_xlabel(picture(what))
            axis.set_ylabel(f"{metric_title(metric)}@{k} (%)")
        line[0].set_title(picture(group["group"][0]), loc="left")
    legend(figure, _marks(frame), f"{over_seeds(frame)}. Axes do not start at 0.")
    return figure


def _draw_line(axis: Axes, rows: pl.DataFrame) -> None:
    for mean in rows.filter(pl.col("value").is_null()).drop_nulls("mean")["mean"]:
        axis.axhline(mean, color=PALE, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    line = rows.drop_nulls("value")
    run, printed, own = line.drop_nulls("mean"), line.drop_nulls("paper"), look(0)
    spread = None if run["sd"].is_null().all() else run["sd"].fill_null(0).to_numpy()
    axis.errorbar(
        run["value"].to_numpy(),
        run["mean"].to_numpy(),
        yerr=spread,
        color=own.colour,
        marker=own.marker,
        elinewidth=0.9,
        zorder=3,
    )
    if printed.height:
        dotted = {**PRINTED, "linestyle": (0, (1, 2)), "linewidth": 0.8}
        axis.plot(printed["value"].to_numpy(), printed["paper"].to_numpy(), **dotted)
    axis.margins(y=0.15)
    axis.locator_params(axis="y", nbins=5)


def _scale(axis: Axes, values: list[float]) -> None:
    """Ticks at the values themselves, on a logarithmic axis where they spread."""
    is_wide = values[0] > 0 and values[-1] >= WIDE * values[0]
    if is_wide:
        axis.set_xscale("log")
    places = [math.log(value) if is_wide else value for value in values]
    labels = [f"{values[0]:g}"]
    for (before, own), value in zip(pairwise(places), values[1:], strict=True):
        is_close = own - before < CLOSE * (places[-1] - places[0])
        labels.append("\n" * (is_close and not labels[-1].startswith("\n")) + f"{value:g}")
    axis.set_xticks(values, labels)
    axis.xaxis.set_minor_locator(NullLocator())


def _marks(frame: pl.DataFrame) -> list[Line2D]:
    """The legend, where there is more than one line."""
    own, marks = look(0), []
    if frame["paper"].is_not_null().any():
        marks = [
            Line2D([], [], color=own.colour, marker=own.marker, label="ours"),
            Line2D([], [], **PRINTED, label="paper"),
        ]
    if frame["value"].is_null().any():
        marks.append(Line2D([], [], color=PALE, linewidth=0.8, linestyle=(0, (3, 2)), label="base"))
    return marks
