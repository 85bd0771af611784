"""What several sections of the page read."""

from __future__ import annotations

from typing import Any

from cliper import files
from cliper.config import Cell, MadeFeatures, decides
from cliper.layout import At


def table2_of(job: decides.Page, name: str = "table2") -> decides.Table2:
    """Table 2 of the run; by the name `table2_fair`, at equal widths."""
    table = job.tables[name]
    assert isinstance(table, decides.Table2)
    return table


def options_of(cell: Cell) -> str:
    """A cell as options of `train`."""
    return " ".join(f"--{name} {value}" for name, value in cell._asdict().items())


def read_run(cell: Cell, at: At) -> dict[str, Any]:
    """run.json of a cell."""
    found: dict[str, Any] = files.read_json(at("run", **cell._asdict()), made_by=f"train {options_of(cell)}")
    return found


def read_weights(job: decides.Page, at: At) -> dict[str, dict[str, Any]]:
    """weights.json of each encoder that the run's arms use, by the encoder's name."""
    made = [each for arm in table2_of(job).features.values() for each in arm.values() if isinstance(each, MadeFeatures)]
    names = dict.fromkeys(name for each in made for name in each.encoders)
    return {name: files.read_json(at("weights", encoder=name), made_by=f"weights --encoder {name}") for name in names}
