"""Loss and validation Recall@20 by epoch: each seed thin, the mean of the seeds thick."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cliper.media import picture
from cliper.report.figures.canvas import COLUMN, PAGE, legend, look, panels

ROW, FRAME = 1.2, 0.6  # inches: the height of a panel, and of all below it
ACROSS = 5  # the paper's backbones
QUANTITIES = {"valid_recall@20": ("validation Recall@20 (%)", 100), "loss": ("loss", 1)}


def draw(frame: pl.DataFrame, titles: Mapping[str, str], backbones: Mapping[str, str]) -> Figure:
    """Two panels (down) for each dataset and backbone (across).

    frame              dataset, backbone, arm, seed, epoch, loss, valid_recall@20 (a share)
    titles, backbones  titles of both

    The mean goes as far as the seed that stops first: later, it would be that of other seeds.
    """
    groups = frame.partition_by("dataset", "backbone", maintain_order=True)
    arms = {arm: number for number, arm in enumerate(dict.fromkeys(frame["arm"]))}
    width = min(len(groups), ACROSS)
    blocks = -(-len(groups) // width)
    figure, axes = panels(
        2 * blocks,
        width,
        width=COLUMN if width <= 2 else PAGE,
        height=ROW * 2 * blocks + FRAME + 0.12 * (len(arms) // 4),
    )
    for place in range(blocks * width):
        block, column = divmod(place, width)
        pair = [axes[2 * block + row][column] for row in range(2)]
        if place >= len(groups):
            for axis in pair:
                axis.set_axis_off()
            continue
        group = groups[place]
        for axis, (name, (title, scale)) in zip(pair, QUANTITIES.items(), strict=True):
            _draw_panel(axis, group, name, scale, arms)
            if column == 0:
                axis.set_ylabel(title)
        dataset = f"{titles[group['dataset'][0]]} · " if len(titles) > 1 else ""
        pair[0].set_title(picture(dataset + backbones[group["backbone"][0]]), loc="left")
        pair[1].set_xlabel("epoch")
    handles = [
        Line2D([], [], color=own.colour, linestyle=own.dashes, linewidth=1.6, label=picture(arm))
        for arm, own in ((arm, look(number)) for arm, number in arms.items())
    ]
    legend(figure, handles, "Thin: each seed. Thick: their mean, as far as all run.")
    return figure


def _draw_panel(axis: Axes, group: pl.DataFrame, name: str, scale: int, arms: dict[str, int]) -> None:
    for arm in group.partition_by("arm", maintain_order=True):
        own = look(arms[arm["arm"][0]])
        seeds = arm.partition_by("seed", maintain_order=True)
        for seed in seeds:
            values = scale * seed[name].to_numpy()
            axis.plot(seed["epoch"].to_numpy(), values, color=own.colour, linewidth=0.5, alpha=0.5)
        epochs = min(int(seed["epoch"].to_numpy().max()) for seed in seeds)
        mean = arm.filter(pl.col("epoch") <= epochs).group_by("epoch").agg(pl.col(name).mean()).sort("epoch")
        thick = scale * mean[name].to_numpy()
        axis.plot(mean["epoch"].to_numpy(), thick, color=own.colour, linestyle=own.dashes, linewidth=1.6)
