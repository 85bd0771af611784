"""Gains: every arm against its base, and the plot of them. Its places are percentages, so it fits a telephone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import polars as pl

from cliper.config import decides
from cliper.report.pages.values import p_text
from cliper.report.pages.words import change, interval, lead, name_of_arm
from cliper.report.tables.numbers import CELL

N_TICKS = 4  # intervals of the axis
NEAR = 35  # percent of the plot's width: closer to 0, a telephone has no room for the axis' end


class Difference(NamedTuple):
    """An arm against its base at the metric and cutoff that the page leads with; percent.

    band  how far seeds and splits alone move the gain; None: one run
    sign  1 or -1 where it is established that the arm is better or worse, otherwise 0
    """

    dataset: str
    backbone: str
    arm: str
    d: int
    base: str
    gain: float | None
    low: float | None
    high: float | None
    band: float | None
    p: float | None
    sign: int


def differences(job: decides.Page, table: decides.Table2, long: pl.DataFrame) -> list[Difference]:
    """Every comparison of a table, in its order; names as they are shown."""
    metric, k = lead(table)
    rows = long.filter(metric=metric, k=k)
    means = {tuple(row[name] for name in CELL): row["mean"] for row in rows.iter_rows(named=True)}
    found = []
    for row in rows.filter(pl.col("base").is_not_null() & pl.col("p").is_not_null()).iter_rows(named=True):
        dataset, backbone, arm = (row[name] for name in CELL)
        base = means.get((dataset, backbone, row["base"]))
        found.append(
            Difference(
                table.titles[dataset],
                table.backbones[backbone],
                name_of_arm(job, arm),
                table.widths[arm],
                name_of_arm(job, row["base"]),
                row["gain"],
                row["gain_low"],
                row["gain_high"],
                100 * row["band"] / base if row["band"] is not None and base else None,
                row["p_holm"],
                bool(row["established"]) * (1 if row["low"] > 0 else -1),
            )
        )
    return found


class Axis(NamedTuple):
    """Of the plot, from its first tick to its last."""

    ticks: list[float]

    def share(self, length: float) -> float:
        """A length in percent of the plot's width."""
        return 100 * length / (self.ticks[-1] - self.ticks[0])

    def place(self, value: float) -> float:
        """Where a value lies, in percent of the plot's width."""
        return round(self.share(value - self.ticks[0]), 2)

    def describe(self) -> list[dict[str, Any]]:
        """Place and text of each tick; those that a telephone has no room for are inner ones."""
        step = self.ticks[1] - self.ticks[0]
        digits = 0 if step == round(step) else 1 if 10 * step == round(10 * step, 6) else 2
        ends = [tick for tick in (self.ticks[0], self.ticks[-1]) if abs(self.place(tick) - self.place(0)) >= NEAR]
        return [
            {
                "at": self.place(tick),
                "text": change(tick, digits) if tick else "0",
                "is_inner": tick != 0 and tick not in ends,
            }
            for tick in self.ticks
        ]


def forest(found: Sequence[Difference]) -> dict[str, Any] | None:
    """Rows of each dataset and the axis of the plot; None: nothing to show."""
    from matplotlib.ticker import MaxNLocator

    shown = [(each, each.gain) for each in found if each.gain is not None]
    if not shown:
        return None
    bands = [each.band for each, _ in shown if each.band is not None]
    ends = [end for each, _ in shown for end in (each.low, each.high) if end is not None]
    reach = [0.0, *(gain for _, gain in shown), *ends, *bands, *(-band for band in bands)]
    axis = Axis([float(tick) for tick in MaxNLocator(N_TICKS).tick_values(min(reach), max(reach))])
    several = {name: len({getattr(each, name) for each, _ in shown}) > 1 for name in ("arm", "d")}
    rows = [
        {
            "dataset": each.dataset,
            "label": each.backbone,
            "more": ", ".join([each.arm] * several["arm"] + [f"d {each.d}"] * several["d"]),
            "gain": change(gain),
            "interval": "" if each.low is None or each.high is None else interval(each.low, each.high),
            "p": "" if each.p is None else p_text(each.p),
            "sign": each.sign,
            "at": axis.place(gain),
            "low": axis.place(gain if each.low is None else each.low),
            "high": axis.place(gain if each.high is None else each.high),
            "band": None if each.band is None else (axis.place(-each.band), round(axis.share(2 * each.band), 2)),
        }
        for each, gain in shown
    ]
    return {
        "groups": [(name, list(group)) for name, group in groupby(rows, lambda row: row["dataset"])],
        "zero": axis.place(0),
        "ticks": axis.describe(),
        "has_band": bool(bands),
    }
