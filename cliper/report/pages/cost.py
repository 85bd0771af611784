"""What the run cost: time and memory by stage, from Snakemake's benchmark files, and of training, from run.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from cliper.benchmarks import Benchmark, read_benchmarks
from cliper.config import decides
from cliper.layout import At
from cliper.report.pages.inputs import read_runs
from cliper.report.pages.rendering import Section, Table, Value
from cliper.report.pages.values import count, decimal
from cliper.report.pages.words import arm_title, plural
from cliper.stages import STAGES


def section(job: decides.Page, at: At) -> Section:
    """The sums, a table by stage, a table of training."""
    jobs = ((part.stage, read_benchmarks(path)) for part, path in at.benchmarks() if part.stage != "report")
    benchmarks = [(stage, found[-1] if found else {}) for stage, found in jobs]
    runs = read_runs(job, at)
    values = {
        "totals": sums(benchmarks),
        "n_without": sum(not benchmark for _, benchmark in benchmarks),
        "stages": stages_table(benchmarks),
        "training": training_table(runs, job),
        "devices": list(dict.fromkeys(run["device"] for run in runs)),
        "has_gpu": any(not run["device"].startswith("cpu ") for run in runs),
    }
    return Section("cost", "What the run cost", values)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that they fill.

    >>> [duration(s) for s in (0.042, 0.84, 9.9, 48.2, 59.7, 192, 3599.6, 4320, 100_000)]
    ['0.042 s', '0.84 s', '9.9 s', '48 s', '1 min 0 s', '3 min 12 s', '1 h 0 min', '1 h 12 min', '27 h 47 min']
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min"


def size(mib: float) -> str:
    """MiB, or GiB where they are many.

    >>> size(0), size(874.3), size(20480)
    ('0 MiB', '874 MiB', '20.0 GiB')
    """
    return f"{mib:,.0f} MiB" if mib < 1024 else f"{mib / 1024:,.1f} GiB"


def total(benchmarks: Iterable[Benchmark], name: str) -> float | None:
    """Sum of a measure; None if no job has it."""
    found = [each[name] for each in benchmarks if name in each]
    return sum(found) if found else None


def peak(benchmarks: Iterable[Benchmark]) -> float | None:
    """Largest memory of a job in MiB; None if no job has it."""
    return max((each["max_rss"] for each in benchmarks if "max_rss" in each), default=None)


def sums(benchmarks: Sequence[tuple[str, Benchmark]]) -> list[tuple[str, str]]:
    """The run's cost in four numbers; a number that no job has is left out."""
    found = [benchmark for _, benchmark in benchmarks]
    named = [
        (total(found, "s"), duration, "wall time of all jobs, one after the other"),
        (total(found, "cpu_time"), duration, "CPU time"),
        (peak(found), size, "peak memory of one job"),
    ]
    return [
        (f"{len(found):,}", plural("job", len(found))),
        *((show(value), what) for value, show, what in named if value is not None),
    ]


def stages_table(benchmarks: Sequence[tuple[str, Benchmark]]) -> Table:
    """A row for each stage, in the line's order."""
    order = list(STAGES)
    wall = total((benchmark for _, benchmark in benchmarks), "s") or 0.0
    rows = list[list[str | Value]]()
    for stage, group in groupby(sorted(benchmarks, key=lambda each: order.index(each[0])), key=lambda each: each[0]):
        found = [benchmark for _, benchmark in group]
        took = total(found, "s")
        rows.append(
            [
                stage,
                count(len(found)),
                _cell(took, duration),
                Value(f"{100 * took / wall:.1f}%" if took and wall else "–", took or 0, "number"),
                _cell(total(found, "cpu_time"), duration),
                _cell(peak(found), size),
                _cell(total(found, "io_in"), size),
                _cell(total(found, "io_out"), size),
            ]
        )
    heading = ["Stage", "Jobs", "Wall time", "Share", "CPU time", "Peak memory", "Read", "Written"]
    return Table("By stage", heading, rows)


def _cell(value: float | None, show: Callable[[float], str]) -> Value:
    return Value("–", -1, "number") if value is None else Value(show(value), value, "number")


def training_table(runs: Sequence[Mapping[str, Any]], job: decides.Page) -> Table:
    """Seconds, epochs and memory of training, by dataset, backbone and arm: means over its runs, memory the largest.

    runs  run.json of each cell of Table 2
    """
    grouped = dict[tuple[str, str, str], list[Mapping[str, Any]]]()
    for run in runs:
        grouped.setdefault((run["dataset"], run["backbone"], run["arm"]), []).append(run)
    rows = list[list[str | Value]]()
    for (dataset, backbone, arm), group in grouped.items():
        seconds, epochs = (fmean(run[name] for run in group) for name in ("seconds", "epochs"))
        rows.append(
            [
                job.titles[dataset],
                job.backbones[backbone],
                arm_title(arm),
                count(group[0]["config"]["d"]),
                count(group[0]["n_parameters"]),
                count(len(group)),
                decimal(epochs, ".0f"),
                _cell(seconds / epochs, duration),
                _cell(seconds, duration),
                _cell(max(run["peak_memory_mib"] for run in group), size),
            ]
        )
    heading = ["Dataset", "Backbone", "Arm", "d", "Parameters", "Runs", "Epochs", "An epoch", "A run", "Peak memory"]
    return Table("Training", heading, rows, labels=3)
