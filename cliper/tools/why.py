"""Say what a result was made of, whether it is up to date, and which edit made it stale.

In:   RESULT, the path of a file below results/, the name of a table or figure, or `report`; the config; Snakemake's
      records of the jobs that made the results, in .snakemake/metadata
Out:  lines on standard output, no file: the edits that made it stale, then the jobs that made it as a tree: below each
      job those whose results it read, down to the raw files. What came before is said once; seeds share a line

A job's line says when it was done and by which code. The next one has settings that decided it, of the past, from the
record: the first of those that differ from the shipped config.yaml; with `--settings`, all. A result without a record
was made by hand or elsewhere; then what the file itself says is shown and, for run.json, compared.
Shared results lie in folders that end in a key of their settings. So an edit leads to new folders, and a stale result
was made from the old ones. Name RESULT before `--config`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cliper import config, files, log, resources
from cliper.errors import DataError
from cliper.layout import TEMPORARY, Layout
from cliper.settings import plain
from cliper.stages import NUMBERS
from cliper.tools.changes import records
from cliper.tools.changes.differences import brief, leaves, place
from cliper.tools.changes.jobs import MISSING, Jobs, Node, modified, pairs
from cliper.tools.changes.records import Record

N_SHOWN = 4  # settings of a job without --settings
INDENT = "  "


class Step(NamedTuple):
    """A result as it was read, and the one that would be read now; both are paths."""

    old: str
    new: str


def find_result(jobs: Jobs, layout: Layout, result: str) -> Step:
    """The result that a user names. Raises DataError if it is none."""
    if result in layout.tables:
        path = layout.path("table", table=result, format="csv").as_posix()
    elif result in layout.figures:
        path = layout.path("figure", figure=result, format="svg").as_posix()
    elif result == "report":
        path = layout.path("page").as_posix()
    else:
        path = Path(os.path.relpath(Path(result).expanduser())).as_posix()
    if path in jobs.makers:
        return Step(path, path)
    folder = Path(path).parent
    replaced = next((node for node, old in jobs.replaced.items() if Path(old).parent == folder), None)
    if replaced is not None:
        return Step(path, replaced.writes[0])
    if records.read(path) is None:
        names = ", ".join(dict.fromkeys((*layout.tables, *layout.figures, "report")))
        advice = f"name a file below results/, or one of {names}"
        raise DataError(f"{path} is no result of a job of this config, and there is no record of it; {advice}")
    return Step(path, path)


class Tree:
    """Lines on the jobs that made a result. Each job is said once.

    whole  show all settings
    """

    def __init__(self, jobs: Jobs, *, whole: bool) -> None:
        self._jobs, self._whole = jobs, whole
        self._seen, self._record = set[Any](), cache(records.read)
        self.causes = dict[str, None]()

    def lines(self, steps: Iterable[Step], depth: int = 0) -> Iterator[str]:
        """The jobs of some steps and, below each, those before it."""
        groups = dict[tuple[str, str], dict[Any, Step]]()
        for step in steps:
            groups.setdefault((self._label(step), self.state(step)), {}).setdefault(self._job(step), step)
        for (label, state), by_job in groups.items():
            own = {job: step for job, step in by_job.items() if job not in self._seen}
            if not own:
                yield f"{INDENT * depth}{label}: see above"
                continue
            self._seen |= own.keys()
            first = next(iter(own.values()))
            yield f"{INDENT * depth}{label}{_seeds(own)}{_when(self._record(first.old))}: {state}"
            yield from (f"{INDENT * (depth + 2)}{line}" for line in self._facts(first))
            yield from self.lines((before for step in own.values() for before in self._before(step)), depth + 1)

    def _node(self, step: Step) -> Node | None:
        return self._jobs.makers.get(step.new)

    def _job(self, step: Step) -> Any:
        """What two steps share if one job made both."""
        return self._node(step) or (str(Path(step.old).parent) if self._record(step.old) else step.old)

    def _label(self, step: Step) -> str:
        """A job's stage and names, without its seed; or a file that no job makes."""
        if (node := self._node(step)) is None:
            return step.old
        names = node.part.all_names.items()
        return " ".join([node.part.stage, *(str(value) for name, value in names if name not in NUMBERS)])

    def state(self, step: Step) -> str:
        """Whether a job is up to date and, if not, why."""
        node = self._node(step)
        if node is None:
            if self._record(step.old):
                return "of a config of the past"
            return "a file of yours" if modified(step.old) is not None else "MISSING"
        if node in self._jobs.stale:
            kind, said = self._jobs.why(node)
            self.causes |= dict.fromkeys(said)
            return f"STALE: {'; '.join(said) or kind}" if kind != MISSING else f"MISSING: {kind}"
        if said := self._said_otherwise(step, node):
            return f"DIFFERS: {'; '.join(said)}"
        kept = [path for path, name in node.line.writes(node.part).items() if name not in TEMPORARY]
        if any(modified(path) is None for path in kept):
            return "not there, but nothing that is wanted needs it"
        return "up to date"

    def _said_otherwise(self, step: Step, node: Node) -> list[str]:
        """How what a file without a record says differs from now."""
        if self._record(step.old) is not None or (record := _said_by_run(node)) is None:
            return []
        return [sentence for sentences in node.changes(record).values() for sentence in sentences]

    def _before(self, step: Step) -> Iterator[Step]:
        """The results that a job read, each with the one that it would read now."""
        node, record = self._node(step), self._record(step.old)
        if record is None or node is None:
            yield from (Step(path, path) for path in (node.reads if node else record.reads if record else ()))
            return
        paired = [Step(*pair) for pair in pairs(record.reads, node.reads)]
        yield from paired
        known = {step.old for step in paired}
        yield from (Step(path, path) for path in record.reads if path not in known)

    def _facts(self, step: Step) -> Iterator[str]:
        """What a file without a record says, and the settings that decided a result."""
        node, record = self._node(step), self._record(step.old)
        made = record or (node and _said_by_run(node))
        if not record and node and modified(step.old) is not None:
            yield "no record: it was made by hand or elsewhere" + (f"; run.json says code {made.code}" if made else "")
            yield from _said_by_table(step, node)
        settings = made.settings if made else node.settings if node else None
        if settings is not None:
            yield from self._settings(node, settings)

    def _settings(self, node: Node | None, settings: Any) -> Iterator[str]:
        named = {key: place(node.part.stage, node.part.names, key) if node else None for key, _ in leaves(settings)}
        if self._whole:
            yield from (f"{named[key] or '.'.join(key)}: {value}" for key, value in leaves(settings))
            return
        values = {at: value for key, value in leaves(settings) if (at := named[key]) and value is not None}
        shown = [f"{each}: {brief(value)}" for each, value in values.items() if self._shipped.get(each) != value]
        if shown:
            n_more = len(shown) - N_SHOWN
            yield "; ".join(shown[:N_SHOWN]) + (f"; {n_more} more: --settings" if n_more > 0 else "")

    @cached_property
    def _shipped(self) -> dict[str, Any]:
        """The values of the shipped config, by their places."""
        values = plain(config.load([resources.place("line/config.yaml")]))
        return {".".join(key): value for key, value in leaves(values)}


def _when(record: Record | None) -> str:
    """When a result was done, and by which code."""
    if record is None:
        return ""
    done = datetime.fromtimestamp(record.made_at).astimezone().strftime("%Y-%m-%d %H:%M")
    return f" (done {done}" + (f", code {record.code})" if record.code else ")")


def _seeds(own: dict[Any, Step]) -> str:
    """The numbers of the jobs that share a line."""
    found = dict[str, dict[str, None]]()
    for job in own:
        names = job.part.all_names if isinstance(job, Node) else {}
        for name in NUMBERS & names.keys():
            found.setdefault(name, {})[str(names[name])] = None
    return "".join(f", {name} {', '.join(values)}" for name, values in sorted(found.items()))


def _said_by_run(node: Node) -> Record | None:
    """What the run.json of a cell says, as a record."""
    path = next((Path(each) for each in node.writes if each.endswith("/run.json")), None)
    try:
        said = json.loads(path.read_bytes()) if path else {}
        params = records.as_params(said["config"], said["code"])
    except (OSError, ValueError, KeyError):
        return None
    return Record("train", node.reads, params, {}, 0, records.VERSION)


def _said_by_table(step: Step, node: Node) -> Iterator[str]:
    """What the metadata of a table says of how it was made."""
    kind = node.line.writes(node.part).get(step.old)
    if kind and step.old.endswith(".parquet"):
        said = files.read_metadata(Path(step.old), kind)
        words = [f"{name} {value}" for name, value in said.items() if name not in ("table", "version")]
        if words:
            yield f"the file says: {', '.join(words)}"


def run(layout: Layout, *, result: str, settings: bool) -> None:
    """Print the lines. Raises DataError if there is no such result."""
    jobs = Jobs(layout)
    step = find_result(jobs, layout, result)
    tree = Tree(jobs, whole=settings)
    lines = list(tree.lines([step]))
    causes = [f"{INDENT}{cause}" for cause in tree.causes]
    log.show([f"{step.old}: {tree.state(step)}", *(["because of:", *causes] if causes else []), "", *lines])
