"""What jobs like one that is to run cost before: from Snakemake's benchmark files, and the size of their results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cliper.benchmarks import read_benchmarks
from cliper.layout import Layout, Part

KEY = re.compile(r"-[0-9a-f]{8}$")  # of a folder below results/shared


class Past(NamedTuple):
    """One job of the past."""

    seconds: float
    memory_mb: float
    size_bytes: float


def alike(layout: Layout, part: Part, *, anywhere: bool) -> list[Past]:
    """Jobs like one, done before: with the same names; else with the same first names, as many as there are.

    anywhere  also those of other datasets
    """
    home = layout.home(part.stage)
    segments = layout.benchmark_of(part).relative_to(home / "benchmarks").with_suffix("").parts
    words = [KEY.sub("-*", segment) for segment in segments]
    fewest = 1 if anywhere or len(words) == 1 else 2
    for n_kept in range(len(words), fewest - 1, -1):
        pattern = "/".join([*words[:n_kept], *["*"] * (len(words) - n_kept)])
        if found := [past for path in home.glob(f"benchmarks/{pattern}.tsv") for past in _read(home, path, part)]:
            return found
    return []


def _read(home: Path, benchmark: Path, part: Part) -> Iterator[Past]:
    """The runs of one job that its benchmark file has."""
    place = benchmark.relative_to(home / "benchmarks").with_suffix("")
    n_jobs = 1
    if part.within:  # its folder has results of several jobs
        place = place.parent
        n_jobs = len(list(benchmark.parent.glob("*.tsv")))
    size = sum(path.stat().st_size for path in (home / place).rglob("*") if path.is_file()) / n_jobs
    for run in read_benchmarks(benchmark):
        yield Past(run.get("s", 0.0), run.get("max_rss", 0.0), size)
