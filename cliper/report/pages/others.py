"""Other people's numbers next to ours and the paper's, and what the paper printed that cannot be."""

from __future__ import annotations

from typing import Any

import polars as pl

from cliper.config import CONTENT_FREE, decides
from cliper.layout import At
from cliper.report.pages.inputs import table2_of
from cliper.report.pages.rendering import Section, Table, Value
from cliper.report.pages.values import decimal
from cliper.report.pages.words import mean_text, name_of_arm
from cliper.report.tables import lint
from cliper.report.tables.made import made_for
from cliper.report.tables.numbers import AT
from cliper.report.tables.paper import by_our_names
from cliper.report.tables.printed import metric_title
from cliper.report.tables.published import PAPERS_FAMILY, published_values

FAMILIES = {
    "mmrec": "the toolbox MMRec's files, as the paper",
    "mmrec_random": "MMRec's interactions, another random split",
    "mmrec_user_time": "MMRec's interactions, each user's latest held out",
    "mmrec_global_time": "MMRec's interactions, all after one time held out",
    "elliot": "an own fixed split",
    "lattice": "the files of LATTICE's authors",
    "mmssl": "the files of MMSSL's authors",
    "mixed": "more than one split",
}
SOURCE = ["split_family", "source", "note"]


def section(job: decides.Page, at: At) -> Section:
    """A table for each dataset that others have numbers of, the sources, the paper's impossible cells."""
    table = table2_of(job)
    long = made_for(job, at, "table2").long
    found = by_our_names(published_values(), job.titles, job.backbones)
    sources = list(dict.fromkeys(found["source"]))
    values = {
        "titles": list(job.titles.values()),
        "tables": [
            _table(job, table, dataset, part, long.filter(dataset=dataset), sources)
            for dataset in job.titles
            if (part := found.filter(dataset=dataset)).height
        ],
        "sources": [(f"source-{place}", source) for place, source in enumerate(sources, 1)],
        "families": [(name, FAMILIES.get(name, "")) for name in dict.fromkeys(found["split_family"])],
        "own_family": PAPERS_FAMILY,
        "impossible": lint.of_paper(),
    }
    return Section("others", "Other people’s numbers", values)


def _table(
    job: decides.Page,
    table: decides.Table2,
    dataset: str,
    published: pl.DataFrame,
    long: pl.DataFrame,
    sources: list[str],
) -> Table:
    """Of each backbone our row without CLIPER, the paper's, and one for each source and split family."""
    shown = sorted({*published.select(AT).iter_rows()} & {*long.select(AT).iter_rows()}, key=_order(table))
    rows = list[list[str | Value]]()
    for backbone in (name for name in table.backbones if name in set(published["backbone"])):
        title, arm = table.backbones[backbone], _plain_arm(long, backbone)
        cells = long.filter((pl.col("backbone") == backbone) & pl.col("arm").eq_missing(arm))
        own = {(row["metric"], row["k"]): row for row in cells.iter_rows(named=True)}
        ours = [
            Value(mean_text(own[n]["mean"], own[n]["sd"]), own[n]["mean"], "number") if n in own else "" for n in shown
        ]
        if own:
            who = Value(f"this run, {name_of_arm(job, str(arm))}", kind="best")
            rows.append([title, who, "", *ours])
        if any(row["paper"] is not None for row in own.values()):
            rows.append([title, "the paper", PAPERS_FAMILY, *(_percent(own.get(n, {}).get("paper")) for n in shown)])
        for key, part in published.filter(backbone=backbone).group_by(SOURCE, maintain_order=True):
            family, source, note = map(str, key)
            theirs = {(metric, k): percent for metric, k, percent in part.select(*AT, "percent").iter_rows()}
            place = sources.index(source) + 1
            who = Value(f"[{place}] {note}" if note else f"[{place}]", f"~{place}", link=f"source-{place}")
            odd = "" if family == PAPERS_FAMILY else "odd"
            rows.append([title, who, Value(family, kind=odd), *(_percent(theirs.get(n)) for n in shown)])
    heading = ["Backbone", "Who", "Split", *(metric_title(*each) for each in shown)]
    return Table(f"Numbers on {table.titles[dataset]}", heading, rows, labels=2)


def _plain_arm(long: pl.DataFrame, backbone: str) -> str | None:
    """The arm of a backbone without CLIPER, which others ran."""
    arms = set(long.filter(backbone=backbone)["arm"])
    return next((arm for arm in ("vanilla", CONTENT_FREE) if arm in arms), None)


def _order(table: decides.Table2) -> Any:
    """Recall before NDCG, as Table 2 has them."""
    return lambda number: (table.shown.metrics.index(number[0]), number[1])


def _percent(value: float | None) -> str | Value:
    return Value("", -1.0) if value is None else decimal(value)
