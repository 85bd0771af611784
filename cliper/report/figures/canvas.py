"""How every figure looks, and how it becomes bytes.

Colours are Okabe and Ito's, which colour-blind readers tell apart; each series also has a marker and dashes of its own,
so that print in grey can be read. Text from data is shown as it is: a dollar begins no formula.
Equal numbers give equal bytes: no date, no version, fixed ids, and the font that comes with matplotlib.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cliper import files
from cliper.media import picture

COLUMN, PAGE = 3.35, 7.0  # inches: the width of a column and of a page of a paper
FORMATS = ("svg", "pdf", "png")
WITHOUT: dict[str, dict[str, Any]] = {  # what would differ from run to run, or from version to version
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
MANY = 3  # groups that stand in one column
LETTERS = 23  # of the legend, an inch
INK, PALE = "#000000", "#8c8c8c"
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#4d4d4d",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlepad": 4,
    "axes.titlesize": 7.5,
    "axes.unicode_minus": False,
    "errorbar.capsize": 2,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.03,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so no machine has another
    "font.size": 7,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # TrueType: conferences refuse Type 3
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "cliper",
    "text.parse_math": False,
    "xtick.labelsize": 6.5,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 6.5,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}


class Look(NamedTuple):
    """What tells one series from another, in colour and in grey."""

    colour: str
    marker: str
    dashes: Any


# The order alternates dark and light, so that neighbours differ in grey too; yellow is left out: too pale for a line.
LOOKS = (
    Look("#0072B2", "o", "-"),
    Look("#E69F00", "s", (0, (5, 1.5))),
    Look("#000000", "^", (0, (1, 1))),
    Look("#56B4E9", "D", (0, (4, 1, 1, 1))),
    Look("#D55E00", "v", (0, (2.5, 1))),
    Look("#009E73", "P", (0, (6, 1, 1, 1, 1, 1))),
    Look("#CC79A7", "X", (0, (8, 2))),
)


def look(number: int) -> Look:
    """The look of a series; after seven they begin again, with the dashes of the next."""
    own = LOOKS[number % len(LOOKS)]
    return own._replace(dashes=LOOKS[(number + number // len(LOOKS)) % len(LOOKS)].dashes)


@contextmanager
def styled() -> Iterator[None]:
    """Draw in our style, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def panels(rows: int, columns: int, *, width: float, height: float, **more: Any) -> tuple[Figure, list[list[Axes]]]:
    """A figure with rows x columns axes; width and height in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **more).tolist()


def grouped(heights: Sequence[float], n_columns: int, *, below: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure with n_columns axes for each group: one group below the other, or two across a page if they are many.

    heights  of the groups, in inches; below: of what is written below all
    """
    across = 1 if len(heights) <= MANY else 2
    rows = [max(heights[first : first + across]) for first in range(0, len(heights), across)]
    width = COLUMN if across == 1 else PAGE
    figure, axes = panels(len(rows), across * n_columns, width=width, height=sum(rows) + below, height_ratios=rows)
    blocks = [line[first : first + n_columns] for line in axes for first in range(0, len(line), n_columns)]
    for axis in (axis for block in blocks[len(heights) :] for axis in block):
        axis.set_axis_off()
    return figure, blocks[: len(heights)]


def legend(figure: Figure, handles: list[Line2D], sentence: str) -> None:
    """Below the figure: a sentence on what it shows, and what its marks are; both in as many lines as they need."""
    letters = round(LETTERS * figure.get_figwidth())
    widths = [len(str(handle.get_label())) + 5 for handle in handles]  # with the mark
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=len(widths) if sum(widths) <= letters else max(letters // max(widths), 1),
        handlelength=1.6,
        handletextpad=0.3,
        columnspacing=1,
        title=textwrap.fill(picture(sentence), letters),
        title_fontproperties={"size": 6},
        alignment="left",
    )


def over_seeds(frame: pl.DataFrame) -> str:
    """What points and bars are.

    frame  sd (null: one seed), n_seeds
    """
    if frame["sd"].is_null().all():
        return "One seed"
    return f"Mean of {frame['n_seeds'].to_numpy().max()} seeds ± standard deviation"


def write(figure: Figure, path: Path, form: str) -> None:
    """Write a figure in one format, the same bytes for the same numbers."""
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format=form, metadata=WITHOUT[form])
