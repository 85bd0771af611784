"""What several sections of the page read."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from cliper import files
from cliper.config import Cell, MadeFeatures, decides
from cliper.layout import At

WEIGHTS = ("architecture",)  # keys that these files must have
EXPLORED = ("title", "arms", "items", "samples", "users")


def table2_of(job: decides.Page, name: str = "table2") -> decides.Table2:
    """Table 2 of the run; by the name `table2_fair`, at equal widths."""
    table = job.tables[name]
    assert isinstance(table, decides.Table2)
    return table


def read_run(cell: Cell, at: At, keys: Iterable[str] = ()) -> dict[str, Any]:
    """run.json of a cell, which must have these keys, with the options that train it again."""
    names = cell._asdict()
    options = " ".join(f"--{name} {value}" for name, value in names.items())
    run: dict[str, Any] = files.read_json(at("run", **names), made_by=f"train {options}", keys=keys)
    return {**run, "options": options}


@cache
def read_runs(job: decides.Page, at: At) -> list[dict[str, Any]]:
    """run.json of each cell of the run, read once, however many sections show them."""
    return [read_run(cell, at) for cell in job.cells]


def read_explored(job: decides.Page, at: At) -> list[dict[str, Any]]:
    """explored.json of each dataset, in their order."""
    return [
        files.read_json(at("explored", dataset=dataset), made_by=f"explore --dataset {dataset}", keys=EXPLORED)
        for dataset in job.titles
    ]


def read_weights(job: decides.Page, at: At) -> dict[str, dict[str, Any]]:
    """weights.json of each encoder that the run's arms use, by the encoder's name."""
    made = [each for arm in table2_of(job).features.values() for each in arm.values() if isinstance(each, MadeFeatures)]
    names = dict.fromkeys(name for each in made for name in each.encoders)
    return {
        name: files.read_json(at("weights", encoder=name), made_by=f"weights --encoder {name}", keys=WEIGHTS)
        for name in names
    }
