"""How often each view is the closest, the second closest … to an item's image: a heat map, and each view's mean rank.

Follows the paper's Figure 5, whose ranks start at 0; `view_weights` has 1 for the closest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cliper.media import picture
from cliper.report.figures.canvas import COLUMN, INK, legend, panels

SAMPLES, SEED = 10_000, 1  # of the bootstrap
LEVEL = 0.95
ROW, FRAME = 0.24, 0.62  # inches: the height of a row, and of title and axis
DARK = 0.6  # of the largest share: above it, numbers are white


def count_ranks(weights: pl.DataFrame) -> pl.DataFrame:
    """Shares of an arm's items by view and rank, and each view's mean rank with its interval.

    weights  item, view, rank (from 1; null: no similarity, the item is left out for this view)
    returns  view, rank (from 0), n_items, share, mean_rank, low, high; views by mean rank, the closest first

    The interval is the percentile bootstrap's, over items. A view's mean rank depends on its counts alone, so counts
    are drawn, which has the same distribution.
    """
    known = weights.drop_nulls("rank").with_columns(rank=pl.col("rank").cast(pl.Int64) - 1)
    n_views, rng = weights["view"].n_unique(), np.random.default_rng(SEED)
    rows = []
    for view in weights["view"].unique().sort():
        ranks = known.filter(view=view)["rank"].to_numpy()
        counts = np.bincount(ranks, minlength=n_views)
        n_items = max(len(ranks), 1)
        drawn = rng.multinomial(n_items, counts / n_items, size=SAMPLES) @ np.arange(n_views) / n_items
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        mean = float(ranks.mean()) if len(ranks) else None
        rows += [(view, rank, int(n), n / n_items, mean, low, high) for rank, n in enumerate(counts)]
    columns = ["view", "rank", "n_items", "share", "mean_rank", "low", "high"]
    return pl.DataFrame(rows, schema=columns, orient="row").sort(
        "mean_rank", "view", "rank", maintain_order=True, nulls_last=True
    )


def correlate(ranks: pl.DataFrame, drops: pl.DataFrame) -> tuple[float | None, float | None]:
    """Rank correlation of the views' closeness with how much the metric falls without them: Spearman's, Kendall's.

    ranks  view, mean_rank
    drops  view, drop: the base's mean less the mean without the view

    Positive where the view that is closer to the image is missed more. None for fewer than three views, and where all
    drops or ranks are equal.
    """
    from scipy.stats import kendalltau, spearmanr

    both = ranks.select("view", "mean_rank").unique().drop_nulls().join(drops.drop_nulls(), on="view").sort("view")
    if both.height < 3:
        return None, None
    closeness, drop = -both["mean_rank"].to_numpy(), both["drop"].to_numpy()
    if np.ptp(closeness) == 0 or np.ptp(drop) == 0:
        return None, None
    return float(spearmanr(closeness, drop).statistic), float(kendalltau(closeness, drop).statistic)


def draw(frame: pl.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Two panels for each dataset and arm: the shares, and the mean ranks with their intervals.

    frame   dataset, arm, the columns of `count_ranks`, spearman and kendall (null: no study left views out)
    titles  of datasets
    """
    groups = frame.partition_by("dataset", "arm", maintain_order=True)
    n_rows = [group["view"].n_unique() for group in groups]
    figure, axes = panels(
        len(groups),
        2,
        width=COLUMN,
        height=sum(ROW * n + FRAME for n in n_rows) + 0.25,
        height_ratios=n_rows,
        width_ratios=[2.2, 1],
    )
    for (left, right), group in zip(axes, groups, strict=True):
        first = group.row(0, named=True)
        _draw_shares(left, group, largest=frame["share"].to_numpy().max() or 1)
        _draw_means(right, group.unique("view", maintain_order=True))
        left.set_title(picture(f"{titles[first['dataset']]} · {first['arm']}"), loc="left")
    sentence = "Rank 0: the view closest to the item's image. Bars: 95 % bootstrap intervals over items."
    for row in frame.drop_nulls("spearman").unique("arm", maintain_order=True).iter_rows(named=True):
        sentence += f" {row['arm']}: closeness against what Recall@20 loses without the view, rank correlation "
        sentence += f"{row['spearman']:.2f} (Spearman), {row['kendall']:.2f} (Kendall)."
    legend(figure, [], sentence)
    return figure


def _draw_shares(axis: Axes, group: pl.DataFrame, *, largest: float) -> None:
    views = list(dict.fromkeys(group["view"]))
    shares = group["share"].to_numpy().reshape(len(views), -1)
    axis.pcolormesh(shares, cmap="Blues", vmin=0, vmax=largest, edgecolors="white", linewidth=1)
    for (y, x), share in np.ndenumerate(shares):
        colour = "white" if share > DARK * largest else INK
        axis.text(x + 0.5, y + 0.5, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6.5)
    axis.set_yticks(np.arange(len(views)) + 0.5, [picture(view) for view in views])
    axis.set_xticks(np.arange(shares.shape[1]) + 0.5, [str(rank) for rank in range(shares.shape[1])])
    axis.set_xlabel("rank (share of items, %)")
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _draw_means(axis: Axes, views: pl.DataFrame) -> None:
    shown = views.with_row_index("y").drop_nulls("mean_rank")
    mean, low, high = (shown[name].to_numpy() for name in ("mean_rank", "low", "high"))
    reach = np.array([mean - low, high - mean])
    axis.errorbar(mean, shown["y"].to_numpy() + 0.5, xerr=reach, color=INK, marker="o", linestyle="")
    axis.set_ylim(views.height, 0)
    axis.set_yticks([])
    axis.margins(x=0.15)
    axis.locator_params(axis="x", nbins=4)
    axis.set_xlabel("mean rank")
