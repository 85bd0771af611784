"""Say what of a run is done, what runs now, and what is left.

In:   the config; which results, logs and benchmarks are there
Out:  lines on standard output, no file: the jobs of each stage, then the last line of each running or stopped job

A job is done if its results are there; whether code or settings have changed since, only `snakemake -n` says. Of the
others, those with a log are shown with its last line. A job runs if that line is its stage's and younger than an hour:
loops write one at least every half hour. Else it stopped: an error ended it, or it was killed. Only Snakemake's jobs
have logs; one that was started by hand is not seen until it is done. The time left is that of a stage's other jobs one
after the other, if each takes as long as the mean of those done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from cliper import log
from cliper.benchmarks import read_benchmarks
from cliper.layout import TEMPORARY, Layout, Part
from cliper.line import Line
from cliper.stages import STAGES

MEANING = "done: results are there; snakemake -n says what has changed since. runs: a log line within the hour"


class Work(NamedTuple):
    """One job of Snakemake's."""

    stage: str
    words: str  # its names
    is_done: bool
    log: Path
    benchmark: Path

    def read_last_line(self) -> tuple[str, float]:
        """Last line of the log of a job that is not done, and its age in seconds; "" if there is none."""
        if self.is_done or not self.log.is_file():
            return "", 0.0
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else "", time.time() - self.log.stat().st_mtime

    def read_seconds(self) -> list[float]:
        """How long it took, from its benchmark file; empty if there is none yet."""
        return [each["s"] for each in read_benchmarks(self.benchmark) if "s" in each] if self.is_done else []


def find_work(layout: Layout) -> Iterator[Work]:
    """All jobs of a run."""
    line = Line(layout)
    return (describe(line, part) for part in layout.parts())


def describe(line: Line, job: Part) -> Work:
    """One job."""
    kept = (Path(path) for path, name in line.writes(job).items() if name not in TEMPORARY)
    is_done = all(path.is_file() for path in kept)
    return Work(job.stage, job.words, is_done, line.layout.log_of(job), line.layout.benchmark_of(job))


def describe_stage(jobs: list[Work]) -> str:
    """A stage's line: its jobs that are done, and the time that the others will take."""
    took = [seconds for job in jobs for seconds in job.read_seconds()]
    n_left = sum(not job.is_done for job in jobs)
    left = f"   about {log.duration(n_left * fmean(took))} left" if n_left and took else ""
    return f"{jobs[0].stage:20} {len(jobs) - n_left:5,} of {len(jobs):5,}{left}"


def describe_open(job: Work) -> Iterator[str]:
    """What a job that is not done said last, if it said anything."""
    line, age = job.read_last_line()
    if line:
        runs = line.startswith(lead := f"cliper {job.stage}: ") and age < 2 * log.RAREST_S
        yield f"{'runs' if runs else 'STOPPED'}: {job.stage} {job.words}, {log.duration(age)} ago:"
        yield f"    {line.removeprefix(lead)}"


def run(layout: Layout) -> None:
    """Print the lines."""
    jobs = sorted(find_work(layout), key=lambda job: list(STAGES).index(job.stage))
    n_done = sum(job.is_done for job in jobs)
    lines = [f"{layout.config.name}: {n_done:,} of {len(jobs):,} jobs are done"]
    lines += [describe_stage(list(group)) for _, group in groupby(jobs, key=lambda job: job.stage)]
    lines += [line for job in jobs for line in describe_open(job)]
    lines.append(MEANING)
    log.show(lines)
