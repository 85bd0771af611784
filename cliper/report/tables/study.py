"""The table of a study: a row for each variation, compared with the base.

Follows Table 3 of the paper, and its Figures 2, 3, 4 and 6, whose numbers it does not print.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import polars as pl

from cliper.config import decides
from cliper.report.tables.grid import Entry, Grid
from cliper.report.tables.numbers import AT, CELL, PAIR, places, summarise, with_comparisons, with_verdicts
from cliper.report.tables.paper import paper_cells, paper_temperatures
from cliper.report.tables.printed import ESTABLISHED, entry, metric_title, seeds_note, short_k
from cliper.report.tables.variations import LABELS, NUMERIC

LAID_OUT = ["group", "varied", "variation", "value", "is_base"]


def long(metrics: pl.DataFrame, comparisons: pl.DataFrame, job: decides.Study) -> pl.DataFrame:
    """One row a number, in percent.

    metrics      the metrics tables of all cells, one after the other; a cell without any was not run
    comparisons  those of the variations with their base, see `with_comparisons`
    returns      group (titles of dataset and backbone), varied, variation (title), value (a number that varies),
                 is_base, dataset, backbone, arm, metric, k, mean, sd, n_seeds, paper, base_backbone, base, gain …
                 established, verdict
    """
    laid_out = _lay_out(job)
    numbers = summarise(metrics, job.cells, names=job.shown.metrics, cutoffs=job.shown.cutoffs)
    temperatures = paper_temperatures(job.titles, job.backbones).with_columns(varied=pl.lit("temperature"))
    table3 = [*CELL[:2], "varied", "value", *AT]
    printed = (
        laid_out.join(numbers, on=CELL, how="left", maintain_order="left_right")
        .join(paper_cells(job.titles, job.backbones), on=[*CELL, *AT], how="left", maintain_order="left")
        .join(temperatures, on=table3, how="left", maintain_order="left", suffix="_table3")
        .with_columns(paper=pl.coalesce("paper", "paper_table3"))
    )
    shown = [*LAID_OUT, *CELL, *AT, "mean", "sd", "n_seeds", "paper", "base_backbone", "base"]
    return with_verdicts(with_comparisons(printed.select(shown), comparisons))


def _lay_out(job: decides.Study) -> pl.DataFrame:
    """Rows of the table, without numbers; those that are compared name their base."""
    schema = {**dict.fromkeys([*LAID_OUT, *PAIR], pl.String), "value": pl.Float64, "is_base": pl.Boolean}
    return pl.DataFrame(list(_rows(job)), schema=schema, orient="row")


def _rows(job: decides.Study) -> Iterator[tuple[object, ...]]:
    """In each group the base comes first; where it is one of the variations, it stands among them. No cell twice."""
    starts = [place for place, each in enumerate(job.variations) if not each.key]
    bases = [job.variations[start] for start in starts]
    groups = [f"{job.titles[each.dataset]} · {job.backbones[each.backbone]}" for each in bases]
    for group, base, start, stop in zip(groups, bases, starts, [*starts[1:], None], strict=True):
        others = job.variations[start + 1 : stop]
        by_cell = {each[2:]: each for each in (base, *reversed(others))}
        shown = sorted(by_cell.items(), key=lambda pair: job.variations.index(pair[1], start))
        for cell, each in shown:
            value = job.backbones[each.value] if each.key == "backbone" else each.value
            title = LABELS.get(each.key, "{}").format(value) if each.key else base.arm
            pair = (*cell, base.backbone, base.arm)
            yield (
                group if groups.count(group) == 1 else f"{group} ({base.dataset})",  # two datasets may have one title
                each.key,
                f"{title} (base)" if cell == base[2:] else title,
                float(each.value) if each.key in NUMERIC else None,
                cell == base[2:],
                *(pair if pair in job.comparisons else (*cell, None, None)),
            )


def grid(numbers: pl.DataFrame, job: decides.Study, *, cutoffs: tuple[int, ...]) -> Grid:
    """A row for each variation, the paper's numbers in a row below; p of the first metric at one cutoff."""
    columns = [(metric, k) for metric in job.shown.metrics for k in cutoffs]
    p_of = (job.shown.metrics[0], short_k(cutoffs))
    numbers = numbers.filter(pl.col("k").is_in(cutoffs))
    placed = zip(numbers.iter_rows(named=True), places(numbers, ["group", *AT]), strict=True)
    rows: list[list[str | Entry]] = []
    for (group, variation), found in groupby(placed, key=lambda pair: (pair[0]["group"], pair[0]["variation"])):
        of = {(row["metric"], row["k"]): (row, place) for row, place in found}
        p = of[p_of][0]["p_holm"]
        rows.append([group, variation, *(entry(*of[column]) for column in columns), "" if p is None else f"{p:.2g}"])
        printed = [of[column][0]["paper"] for column in columns]
        if any(value is not None for value in printed):
            rows.append([group, f"{variation}, paper", *("" if v is None else f"{v:.2f}" for v in printed), ""])
    titles = [metric_title(metric, k) for metric, k in columns]
    notes = (job.title, seeds_note(len(job.seeds)), "Gains are over the base of each group.")
    signs = (ESTABLISHED,) if numbers["established"].any() else ()
    return Grid(["Group", "Variation", *titles, f"p {metric_title(*p_of)}"], rows, notes, signs, labels=2)
