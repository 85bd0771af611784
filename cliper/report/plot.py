"""Draw one figure, as SVG, PDF and PNG, and write its numbers as CSV.

a study     In: its table (tabulate).  Named variations as points, numbers as lines (the paper's Figures 2, 3, 4 and 6)
fig5        In: view_weights, and metrics of a study that leaves views out.  Ranks of views (the paper's Figure 5)
popularity  In: topk, train, test, items.  Recall@20 by popularity of the test item; coverage and Gini in the CSV
curves      In: history.  Loss and validation Recall@20 by epoch
Out:        results/<name>/plot/<figure>.svg, .pdf, .png, .csv

Equal numbers give equal bytes.
"""

from __future__ import annotations

import polars as pl
from matplotlib.figure import Figure

from cliper import files, log
from cliper.config import Cell, decides
from cliper.errors import DataError
from cliper.layout import At
from cliper.report.figures import canvas, curves, heatmap, lines, points, popularity
from cliper.report.tables.variations import DRAWN, numeric_axis, shown_in_figure


def draw(job: decides.Study | decides.Ranks | decides.Curves, at: At) -> tuple[pl.DataFrame, Figure]:
    """Numbers of a figure, and the figure."""
    if isinstance(job, decides.Study):
        frame = shown_in_figure(read_study(at, job.name))
        axis = numeric_axis(frame)
        return frame, points.draw(frame) if axis is None else lines.draw(frame, what=axis)
    if isinstance(job, decides.Ranks):
        frame = read_ranks(job, at)
        return frame, heatmap.draw(frame, job.titles)
    if job.figure == "curves":
        frame = pl.concat(_labelled(files.read_table(at("history", **c._asdict()), "history"), c) for c in job.cells)
        return frame, curves.draw(frame, job.titles, job.backbones)
    frame = popularity.summarise(read_popularity(job, at))
    return frame, popularity.draw(frame, job.titles, job.backbones)


def read_study(at: At, name: str) -> pl.DataFrame:
    """A study's table. Raises DataError if it is missing or no such table."""
    path = at("table", table=name, format="csv")
    again = f"Run: python -m cliper tabulate --table {name}"
    try:
        return pl.read_csv(path, columns=list(DRAWN), schema_overrides=DRAWN)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. {again}") from None
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read ({files.first_line(error)}). {again}") from error


def read_ranks(job: decides.Ranks, at: At) -> pl.DataFrame:
    """Shares of ranks of all weighted arms, with the rank correlation where a study left their views out."""
    found = []
    for dataset, arm in job.weighted:
        weights = files.read_table(at("view_weights", dataset=dataset, arm=arm), "view_weights")
        ranks, spearman, kendall = heatmap.count_ranks(weights), None, None
        if job.drops and (job.drops[0].dataset, job.drops[0].arm) == (dataset, arm):
            spearman, kendall = heatmap.correlate(ranks, read_drops(job, at))
        numbers = {"spearman": spearman, "kendall": kendall}
        labels = {"dataset": dataset, "arm": arm}
        found.append(
            ranks.select(*(pl.lit(value).alias(name) for name, value in labels.items()), pl.all()).with_columns(
                **{name: pl.lit(value, dtype=pl.Float64) for name, value in numbers.items()}
            )
        )
    return pl.concat(found)


def read_drops(job: decides.Ranks, at: At) -> pl.DataFrame:
    """By how much Recall@20 falls without each view: view, drop (percent)."""
    from cliper.report.tables.numbers import summarise  # scipy and statsmodels: 2 s
    from cliper.report.tables.reading import read_metrics

    recall = summarise(read_metrics(at, job.cells), job.cells, names=["recall"], cutoffs=[20])
    means = dict(zip(recall["arm"], recall["mean"], strict=True))
    base, *others = job.drops
    return pl.DataFrame({"view": [o.value for o in others], "drop": [means[base.arm] - means[o.arm] for o in others]})


def read_popularity(job: decides.Curves, at: At) -> pl.DataFrame:
    """What the lists of all cells hold, by popularity."""
    found = []
    for dataset in job.titles:
        train, test = (files.read_table(at(name, dataset=dataset), name) for name in ("train", "test"))
        by_item = popularity.deciles(train, n_items=files.count_rows(at("items", dataset=dataset), "items"))
        for cell in job.cells:
            if cell.dataset == dataset:
                topk = files.read_table(at("topk", **cell._asdict()), "topk", columns=["user", "rank", "item"])
                if job.mask_valid:
                    topk = popularity.leave_out(topk, files.read_table(at("valid", dataset=dataset), "valid"))
                found.append(_labelled(popularity.measure(topk, test, by_item), cell))
    return pl.concat(found)


def _labelled(table: pl.DataFrame, cell: Cell) -> pl.DataFrame:
    return table.select(*(pl.lit(value).alias(name) for name, value in cell._asdict().items()), pl.all())


def run(job: decides.Study | decides.Ranks | decides.Curves, at: At) -> None:
    """Read the numbers, draw the figure, write both."""
    log.note(f"draws {at.names['figure']} as {', '.join(canvas.FORMATS)}")
    with canvas.styled():
        frame, figure = draw(job, at)
        for form in canvas.FORMATS:
            canvas.write(figure, at("figure", format=form), form)
    files.write_text(at("figure", format="csv"), frame.write_csv())
    log.account(f"{at.names['figure']}: {frame.height} numbers")
