"""Check a table of results: numbers that no run can have given, gaps, and arms with another's numbers.

In:   FILE, Table 2 in our long form (results/<name>/tabulate/table2.csv: dataset, backbone, arm, metric, k, mean, …) or
      in that of the paper (dataset, metric, k, backbone, variant, percent). No config is read.
      Where results/<name>/evaluate lies next to it: the cells' metrics too, whose means the table must hold
Out:  one line a finding on standard output. The command ends with 1 if there is any, with 2 if FILE is no such table

The arithmetic, for cut-offs a < b: R never falls. N rises by (R@b - R@a) / log2(b + 1) or more, up to the rounding of
the printed digits, and by no more than R's rise over log2(a + 2) where every user has one test item. The first holds
where no user has more than a test items, or where it is known how many have (column above_k); of Amazon-2014's Baby,
Sports and Clothing it is known that hardly any has. Elsewhere the answer is "not checkable", on standard error.
Paper: its Table 2 has one such fault, FREEDOM vanilla on Clothing at K = 50.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cliper import files, log
from cliper.config import Cell
from cliper.errors import DataError
from cliper.report.tables import lint
from cliper.report.tables.paper import METRICS
from cliper.stages import STAGES

PAPERS = {"variant": "arm", "percent": "mean"}  # columns of the paper's form and of ours
FLOATS = ("mean", "sd", "paper", "gain", "gain_low", "gain_high", "above_k")
WHOLE = ("k", "n_seeds", "max_relevant")


def read(path: Path) -> tuple[pl.DataFrame, float]:
    """Read a table of either form: in our long form, and half a unit of its last digit.

    Raises DataError if it is no such table.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; name a table such as results/<name>/tabulate/table2.csv")
    try:
        texts = pl.read_csv(path.read_bytes(), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} cannot be read as CSV: {files.first_line(error)}") from None
    texts = texts.rename({old: new for old, new in PAPERS.items() if old in texts.columns}, strict=False)
    if missing := [name for name in (*lint.KEY, "mean") if name not in texts.columns]:
        raise DataError(f"{path} is no table of metrics: it has no column {', '.join(missing)}")
    n_digits = [len(text.partition(".")[2]) for text in texts["mean"].drop_nulls()]
    table = texts.with_columns(
        pl.col("metric").replace(METRICS),
        *(pl.col(name).cast(pl.Float64, strict=False) for name in FLOATS if name in texts.columns),
        *(pl.col(name).cast(pl.Int64, strict=False) for name in WHOLE if name in texts.columns),
        *(pl.col(name).fill_null("") for name in lint.COLUMN),
    )
    if table.is_empty() or table["k"].null_count():
        raise DataError(f"{path} is no table of metrics: it has no rows, or a row whose k is no whole number")
    return table, max(0.5 * 10.0 ** -max(n_digits, default=0), lint.EXACT)


def cells_near(path: Path) -> dict[Cell, pl.DataFrame]:
    """Metrics of all cells of the run that a table belongs to, by the cell whose folder they are in.

    Raises DataError if one is damaged.
    """
    folder = re.sub(r"\{\w+\}", "*", STAGES["evaluate"].folder or "")
    places = sorted(path.absolute().parent.parent.glob(f"{folder}/metrics.parquet"))
    cells = {}
    for place in places:
        dataset, backbone, arm, seed = place.parts[-5:-1]
        cells[Cell(dataset, backbone, arm, int(seed))] = files.read_table(place, "metrics")
    return cells


def exchanged(cells: Mapping[Cell, pl.DataFrame]) -> Iterator[lint.Finding]:
    """Cells whose metrics are in the folder of another."""
    for cell, metrics in cells.items():
        for inside in metrics.select(Cell._fields).unique().iter_rows():
            if inside != cell:
                yield lint.Finding(*cell[:3], None, f"evaluate/{_joined(cell)} holds the metrics of {_joined(inside)}")


def _joined(cell: Iterable[Any]) -> str:
    return "/".join(map(str, cell))


def run(file: str) -> int:
    """Print the findings. Returns 1 if there is any. Raises DataError for a file that is no table of metrics."""
    path = Path(file)
    table, half_digit = read(path)
    faults, unknown = lint.check(table, half_digit=half_digit)
    if cells := cells_near(path):
        faults += [*exchanged(cells), *lint.compare_with_cells(table, pl.concat(cells.values()), half_digit=half_digit)]
    for (dataset, said), n in Counter((each.dataset, each.said) for each in unknown).items():
        log.note(f"{dataset}: {said} ({n} times)")
    log.show(map(str, faults))
    near = f"{len(cells)} cells near the table" if cells else "no cells near the table"
    log.account(f"{table.height} numbers, {near}: {len(faults)} findings, {len(unknown)} not checkable")
    return 1 if faults else 0
