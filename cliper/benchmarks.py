"""Snakemake's benchmark files: what jobs took in time, memory and disk access."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

MEASURES = ("s", "cpu_time", "max_rss", "io_in", "io_out")  # seconds, and MB of 2**20 bytes
Benchmark = Mapping[str, float]


def read_benchmarks(path: Path) -> list[Benchmark]:
    """The runs of one job, each with its measures that are numbers; none if there is no file."""
    if not path.is_file():
        return []
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t")
    measured = [{name: _number(row.get(name)) for name in MEASURES} for row in rows]
    return [{name: value for name, value in each.items() if value is not None} for each in measured]


def _number(text: str | None) -> float | None:
    """A measure; "NA" or "-" where a job ended before Snakemake looked."""
    try:
        return float(text or "")
    except ValueError:
        return None
