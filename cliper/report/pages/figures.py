"""The figures of the run, each with its numbers, and with its table if it is a study's."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from cliper import files
from cliper.config import decides
from cliper.errors import DataError
from cliper.layout import At
from cliper.report.pages.rendering import Section, Table, Value, of_grid
from cliper.report.pages.svg import Drawing, read_drawing
from cliper.report.pages.words import lead, metric_name
from cliper.report.tables.grid import Grid
from cliper.report.tables.made import made_for

FORMATS = ("svg", "pdf", "png", "csv")  # that each figure lies in
OF_PAPER = {  # names of studies in config.yaml, and of a figure -> what of the paper they answer
    "table3": "Table 3",
    "fig2": "Figure 2",
    "fig3": "Figure 3",
    "fig4": "Figure 4",
    "fig5": "Figure 5",
    "fig6": "Figure 6",
}
SHOWN = 200  # rows of numbers on the page; the file has all
WIDE = 300  # points, between the widths of a column and of a page


class Column(NamedTuple):
    """A column of a figure's CSV as the page shows it.

    decimals  None: a text
    scale     the page's unit in the file's
    """

    name: str
    heading: str
    decimals: int | None = None
    scale: float = 1


CELL = (Column("dataset", "Dataset"), Column("backbone", "Backbone"), Column("arm", "Arm"))
COLUMNS = {
    "study": (
        Column("group", "Group"),
        Column("variation", "Variation"),
        Column("metric", "Metric"),
        Column("k", "k", 0),
        Column("mean", "Mean, %", 2),
        Column("sd", "Standard deviation, points", 2),
        Column("n_seeds", "Seeds", 0),
        Column("paper", "Paper, %", 2),
        Column("established", "Established"),
    ),
    "fig5": (
        Column("dataset", "Dataset"),
        Column("arm", "Arm"),
        Column("view", "View"),
        Column("rank", "Rank", 0),
        Column("n_items", "Items", 0),
        Column("share", "Share of items, %", 1, 100),
        Column("mean_rank", "Mean rank of the view", 2),
        Column("low", "95 % from", 2),
        Column("high", "95 % to", 2),
    ),
    "popularity": (
        *CELL,
        Column("quantity", "Quantity"),
        Column("decile", "Popularity decile", 0),
        Column("mean", "Mean, 0 to 1", 4),
        Column("sd", "Standard deviation", 4),
        Column("n_seeds", "Seeds", 0),
        Column("n", "Interactions or items", 0),
    ),
    "curves": (
        *CELL,
        Column("seed", "Seed", 0),
        Column("epoch", "Epoch", 0),
        Column("loss", "Loss", 4),
        Column("valid_recall@20", "Validation Recall@20, %", 2, 100),
        Column("seconds", "Seconds", 2),
    ),
}


class Shown(NamedTuple):
    """A figure on the page.

    says   sentences of its caption
    files  name and link of each file that it lies in
    """

    name: str
    title: str
    drawing: Drawing
    is_wide: bool
    says: Sequence[str]
    table: Table | None
    numbers: Table
    files: Sequence[tuple[str, str]]


def section(job: decides.Page, at: At) -> Section:
    """All figures, and the searches' trials, if there are any."""
    figures = [_show(name, job, at) for name in job.figures]
    is_searched = "search" in job.tables
    searches = of_grid(made_for(job, at, "search").grid, "All trials of all searches") if is_searched else None
    return Section("figures", "Figures", {"figures": figures, "searches": searches})


def _show(name: str, job: decides.Page, at: At) -> Shown:
    of = job.figures[name]
    title = of.title if isinstance(of, decides.Study) else decides.TITLES[name]
    drawing = read_drawing(at("figure", figure=name, format="svg"), name, label=title)
    numbers = read_numbers(at("figure", figure=name, format="csv"), name, of)
    if isinstance(of, decides.Study):
        made = made_for(job, at, name)
        says, table = _says_of_study(of, made.long), _study_table(made.grid, of.title)
    else:
        says, table = SAYS[name](numbers, of.titles), None
    paths = [at("figure", figure=name, format=form) for form in FORMATS]
    here = at("page").parent
    return Shown(
        name,
        title,
        drawing,
        drawing.width > WIDE,
        [*says, f"After {OF_PAPER[name]} of the paper." if name in OF_PAPER else "Not in the paper."],
        table,
        number_table(numbers, _columns(of, name), name),
        [(path.name, Path(os.path.relpath(path, here)).as_posix()) for path in paths],
    )


def _columns(of: decides.Study | decides.Ranks | decides.Curves, name: str) -> tuple[Column, ...]:
    return COLUMNS["study" if isinstance(of, decides.Study) else name]


def read_numbers(path: Path, name: str, of: decides.Study | decides.Ranks | decides.Curves) -> pl.DataFrame:
    """The CSV of a figure. Raises DataError if it is missing, or not this figure's."""
    again = f"Run: python -m cliper plot --figure {name}"
    try:
        numbers = pl.read_csv(path, infer_schema_length=None).select(column.name for column in _columns(of, name))
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {again}") from None
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({files.first_line(error)}). {again}") from error
    if numbers.is_empty():
        raise DataError(f"{path} has no rows. {again}")
    return numbers


def number_table(numbers: pl.DataFrame, columns: Sequence[Column], name: str) -> Table:
    """The first rows of a figure's numbers, rounded; columns without any number are left out."""
    filled = [column for column in columns if numbers[column.name].null_count() < numbers.height]
    rows = [
        [_value(row[column.name], column) for column in filled] for row in numbers.head(SHOWN).iter_rows(named=True)
    ]
    n_labels = next(n for n, column in enumerate(filled) if column.decimals is not None)
    part = f", the first {SHOWN} of {numbers.height:,}" if numbers.height > SHOWN else ""
    return Table(f"Numbers of {name}{part}", [column.heading for column in filled], rows, n_labels)


def _value(value: Any, column: Column) -> Value:
    if value is None:
        return Value("–", kind="quiet" if column.decimals is None else "number quiet")
    if column.decimals is None:
        return Value({True: "yes", False: "no"}.get(value, str(value)))
    number = value * column.scale
    return Value(f"{number:,.{column.decimals}f}", number, "number")


def _study_table(grid: Grid, title: str) -> Table:
    """A study's table; the name of an only group stands in the caption."""
    table = of_grid(grid._replace(notes=tuple(note for note in grid.notes if note != title)), title)
    groups = {str(row[0]) for row in grid.rows}
    if len(groups) > 1:
        return table
    rows = [row[1:] for row in table.rows]
    return table._replace(caption=f"{title}: {groups.pop()}", heading=table.heading[1:], rows=rows, labels=1)


def _says_of_study(job: decides.Study, long: pl.DataFrame) -> list[str]:
    """What is drawn, and how many of the differences hold."""
    metric, k = lead(job)
    compared = long.filter(metric=metric, k=k).drop_nulls("established")
    bases = ", ".join(dict.fromkeys(compared["base"]))
    says = ["Each variation differs in one thing from the base; the bars are standard deviations over seeds."]
    if compared.height:
        n = int(compared["established"].sum())
        says.append(
            f"{metric_name(metric, k)}: {n or 'none'} of {compared.height} differences from "
            f"{bases} {'is' if n in (0, 1) else 'are'} established."
        )
    return says


def _says_of_ranks(numbers: pl.DataFrame, titles: dict[str, str]) -> list[str]:
    """The closest view of each arm."""
    closest = numbers.sort("mean_rank", nulls_last=True).unique(["dataset", "arm"], keep="first", maintain_order=True)
    return [
        "How often each view is the closest to its item's image (rank 0), the second closest, and so on.",
        *(
            f"{row['arm']} on {titles[row['dataset']]}: {row['view']} is the closest on average (mean rank "
            f"{row['mean_rank']:.2f})."
            for row in closest.sort("dataset", "arm").drop_nulls("mean_rank").iter_rows(named=True)
        ),
    ]


def _says_of_popularity(*_: object) -> list[str]:
    return [
        "Recall@20 by how often the test item was bought in train, from the rarest tenth of the items (1) to the "
        "most popular (10): does a gain come from popular items alone?",
        "The numbers also have coverage, the share of all items that are in some list, and Gini, how unequally items "
        "are listed (0: all equally often).",
    ]


def _says_of_curves(numbers: pl.DataFrame, _: object) -> list[str]:
    """How far cells were trained."""
    epochs = numbers.group_by("dataset", "backbone", "arm", "seed").agg(pl.col("epoch").max())["epoch"].to_list()
    return [
        "Validation Recall@20 and loss by epoch. Validation alone decides when training stops.",
        f"The {len(epochs)} cells ran {min(epochs)} to {max(epochs)} epochs.",
    ]


SAYS: dict[str, Callable[[pl.DataFrame, dict[str, str]], list[str]]] = {
    "fig5": _says_of_ranks,
    "popularity": _says_of_popularity,
    "curves": _says_of_curves,
}
