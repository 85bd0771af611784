"""Read the results that tables and figures are made of."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from cliper import files
from cliper.config import Cell
from cliper.errors import DataError
from cliper.layout import At
from cliper.report.tables.numbers import PAIR
from cliper.schemas import TABLES

TYPES = {"string": pl.String, "int32": pl.Int32, "double": pl.Float64}
COLUMNS = {name: TYPES[column] for name, column in TABLES["comparison"].columns.items()}
NO_COMPARISON = pl.DataFrame(schema={**dict.fromkeys(PAIR, pl.String), **COLUMNS})


def read_metrics(at: At, cells: Iterable[Cell]) -> pl.DataFrame:
    """The metrics of all cells, one after the other. Raises DataError if a file has those of another cell."""
    tables = []
    for cell in cells:
        path = at("metrics", **cell._asdict())
        table = files.read_table(path, "metrics")
        if wrong := set(table.select(cell._fields).iter_rows()) - {tuple(cell)}:
            found, wanted = (" ".join(map(str, names)) for names in (min(wrong), cell))
            options = " ".join(f"--{name} {value}" for name, value in cell._asdict().items())
            raise DataError(
                f"{path} has the metrics of {found}, not of {wanted}. Run: python -m cliper evaluate {options}"
            )
        tables.append(table)
    return pl.concat(tables)


def read_comparisons(at: At, pairs: Iterable[tuple[str, str, str, str, str]]) -> pl.DataFrame:
    """The comparisons of pairs of arms, one after the other, led by dataset, backbone, arm, base_backbone, base."""
    tables = [
        files.read_table(at("comparison", **names), "comparison").select(
            *(pl.lit(value).alias(name) for name, value in names.items()), pl.all()
        )
        for names in (dict(zip(PAIR, pair, strict=True)) for pair in pairs)
    ]
    return pl.concat([NO_COMPARISON, *tables])
