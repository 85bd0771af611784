"""Table 1 of the paper: how large the datasets are. Source: section 4, Table 1."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from cliper.report.tables.grid import Grid
from cliper.report.tables.paper import read_paper

N_QUANTITIES = 4  # rows of a dataset


def long(counts: Iterable[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """One row a number: dataset (as titled), quantity, value, paper."""
    printed = {row["dataset"]: row for row in read_paper("table1")}
    rows = []
    for title, steps in counts:
        kept = steps.filter(~pl.col("step").is_in(["train", "valid", "test"]))[-1]
        users, items, interactions = (kept[name].item() for name in ("users", "items", "interactions"))
        values = {
            "users": users,
            "items": items,
            "interactions": interactions,
            "density_percent": 100 * interactions / (users * items),
        }
        known = printed.get(title, {})
        rows += [(title, name, float(value), _number(known.get(name))) for name, value in values.items()]
    return pl.DataFrame(rows, schema=["dataset", "quantity", "value", "paper"], orient="row")


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def grid(numbers: pl.DataFrame) -> Grid:
    """The paper's shape; where the paper's number differs, it follows ours."""
    rows = []
    for dataset in numbers.iter_slices(N_QUANTITIES):  # two may have one title
        title, values = dataset["dataset"][0], {q: (v, p) for _, q, v, p in dataset.iter_rows()}
        counts = [_with_paper(*values[name], "{:,.0f}") for name in ("users", "items", "interactions")]
        rows.append([title, *counts, _with_paper(*values["density_percent"], "{:.3f}%")])
    return Grid(["Dataset", "# Users", "# Items", "# Interactions", "Density"], rows)


def _with_paper(value: float, paper: float | None, form: str) -> str:
    own, printed = form.format(value), form.format(paper) if paper is not None else None
    return own if printed in (None, own) else f"{own} (paper {printed})"
