"""Say which jobs a run of everything would do now, why, and what that costs in time, memory and disk.

In:   the config; which results are there, and Snakemake's records of how they were made; benchmark files of past jobs
Out:  lines on standard output, no file: the edits since, the jobs of each stage with their reasons and costs, the sums

The jobs are those of `snakemake paper -n`. A cost is that of jobs like it that were done before: with the same names,
else of the same dataset; else it is rough, as `doctor` computes it, or that of another dataset's jobs. With `--set`,
the edits are laid over the config, and the jobs are those that would run because of them: what an edit costs, before
it is made. `why` says more of one result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from cliper import log
from cliper.config import Config
from cliper.config.studies import base_of
from cliper.layout import Layout
from cliper.stages import STAGES
from cliper.tools.changes.jobs import CODE, NEWER, SETTINGS, Jobs, Node
from cliper.tools.estimates.model import count, hours_of
from cliper.tools.estimates.past import Past, alike

MOST = 20  # edits that are named
LONG_S = 36_000  # from here on, time is shown in hours
ROUGH, ELSEWHERE, UNKNOWN = "rough", "of other datasets", "unknown"


class Cost(NamedTuple):
    """What jobs will cost: of past ones, mean and maximum.

    known_by  "" where jobs like these were done before; else ROUGH, ELSEWHERE or UNKNOWN
    """

    seconds: float
    at_most_s: float
    memory_mb: float
    size_bytes: float
    known_by: str = ""


def estimate(layout: Layout, node: Node) -> Cost:
    """What one job will cost."""
    part = node.part
    if past := alike(layout, part, anywhere=False):
        return _of_past(past)
    if hours := hours_of(layout, part.stage, part.names, _size_of(layout, part.names.get("dataset"))):
        seconds = hours * 3600 / (layout.config.encode.ranges if "range" in part.within else 1)
        return Cost(seconds, seconds, 0, 0, ROUGH)
    past = alike(layout, part, anywhere=True)
    return _of_past(past)._replace(known_by=ELSEWHERE) if past else Cost(0, 0, 0, 0, UNKNOWN)


@cache
def _size_of(layout: Layout, dataset: str | None) -> tuple[int, int]:
    """Items and interactions of a dataset; 0 where they are unknown."""
    return (count(layout, base_of(dataset)) if dataset else None) or (0, 0)


def _of_past(past: list[Past]) -> Cost:
    seconds = [each.seconds for each in past]
    memory = max(each.memory_mb for each in past)
    return Cost(fmean(seconds), max(seconds), memory, fmean(each.size_bytes for each in past))


def key(node: Node) -> tuple[str, str]:
    """A job by its names, which an edit of its settings leaves."""
    return node.part.stage, str(node)


def edits(jobs: Jobs, nodes: Iterable[Node]) -> Iterator[str]:
    """Lines that say which edits make jobs run."""
    causes = [jobs.why(node) for node in nodes]
    said = Counter(sentence for kind, said in causes if kind in (SETTINGS, CODE, NEWER) for sentence in said)
    for sentence, n in list(said.items())[:MOST]:
        yield f"    {sentence}" + (f" ({n} jobs)" if n > 1 else "")
    if len(said) > MOST:
        yield f"    and {len(said) - MOST} more"


def describe(jobs: Jobs, nodes: Iterable[Node], costs: Mapping[Node, Cost]) -> Iterator[str]:
    """Lines of the stages whose jobs run, and of what they cost."""
    n_all = Counter(node.part.stage for node in jobs.nodes)
    yield f"{'stage':20} {'jobs':>14}  {'about':>8} {'at most':>8} {'memory':>8} {'disk':>8}  why"
    for stage, group in groupby(nodes, key=lambda node: node.part.stage):
        own = list(group)
        kinds = Counter(jobs.why(node)[0] for node in own)
        reasons = ", ".join(f"{kind} ({n})" if len(kinds) > 1 else kind for kind, n in kinds.items())
        numbers = _numbers([costs[node] for node in own])
        yield f"{stage:20} {f'{len(own):,} of {n_all[stage]:,}':>14}  {numbers}  {reasons}"


def _numbers(costs: list[Cost]) -> str:
    known = [cost for cost in costs if cost.known_by != UNKNOWN]
    if not known:
        return f"{'?':>8} {'?':>8} {'?':>8} {'?':>8}"
    return " ".join(f"{text:>8}" for text in _sums(known))


def _sums(costs: list[Cost]) -> tuple[str, str, str, str]:
    """Time, time at most, memory of the largest job, disk."""
    memory = max(cost.memory_mb for cost in costs)
    return (
        _time(sum(cost.seconds for cost in costs)),
        _time(sum(cost.at_most_s for cost in costs)),
        f"{memory:,.0f} MB" if memory else "?",
        _size(sum(cost.size_bytes for cost in costs)),
    )


def _time(seconds: float) -> str:
    """Seconds as people read them.

    >>> _time(75), _time(1_000_000)
    ('01:15', '278 h')
    """
    return f"{seconds / 3600:,.0f} h" if seconds >= LONG_S else log.duration(seconds)


def _size(n_bytes: float) -> str:
    """Bytes as people read them.

    >>> _size(1_234_567), _size(0), _size(3e9)
    ('1.2 MB', '?', '3.0 GB')
    """
    if not n_bytes:
        return "?"
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{max(n_bytes / 1e6, 0.1):,.1f} MB"


def sums(costs: Iterable[Cost]) -> Iterator[str]:
    """Lines with the costs of all jobs, and where they come from."""
    costs = list(costs)
    about, at_most, memory, size = _sums(costs)
    yield f"time: about {about}, at most {at_most}, one job after the other"
    yield f"memory: {memory} for the largest job; disk: about {size}"
    by = Counter(cost.known_by for cost in costs)
    meaning = {
        ROUGH: "from data/costs.csv: rough, without memory and disk",
        ELSEWHERE: "from jobs of other datasets",
        UNKNOWN: "unknown: none was done before",
    }
    if notes := [f"{by[kind]:,} jobs' costs are {said}" for kind, said in meaning.items() if by[kind]]:
        yield "; ".join(notes)


def run(layout: Layout, *, set: Config | None) -> None:  # noqa: A002 - the option's name
    """Print the lines.

    set  the config with the edits laid over it
    """
    name, now = layout.config.name, Jobs(layout)
    jobs, nodes = now, list(now.stale)
    lines = [f"{name}: {len(nodes):,} of {len(now.nodes):,} jobs would run"]
    if set is not None:
        layout = Layout(set)
        jobs, anyway = Jobs(layout), {key(node) for node in now.stale}
        nodes = [node for node in jobs.stale if key(node) not in anyway]
        n_anyway = len(jobs.stale) - len(nodes)
        lines = [f"{name}: {len(nodes):,} of {len(jobs.nodes):,} jobs would run because of it"]
        lines[0] += f"; {n_anyway:,} run anyway" * bool(n_anyway)
    nodes.sort(key=lambda node: list(STAGES).index(node.part.stage))
    costs = {node: estimate(layout, node) for node in nodes}
    if nodes:
        lines += [*edits(jobs, nodes), *describe(jobs, nodes, costs), *sums(costs.values())]
    log.show(lines)
