"""The jobs of a run with what has changed since they were done, and those that Snakemake would run.

In:   the line (what each job reads, writes and is decided by), Snakemake's records, times of files
Out:  reasons by job

The reasons follow Snakemake 9 (`DAG.update_needrun`). A job runs if its settings, its code or the list of its inputs
differ from the record; if an input is newer and not the same; if a job that runs needs a file of it that is missing; or
if a job that it reads from runs. A result that nobody needs may be missing. Not seen: edits of the rules' own commands,
of conda environments, and options such as --forcerun.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cliper.layout import Layout, Part
from cliper.line import Line
from cliper.tools.changes import records
from cliper.tools.changes.differences import word
from cliper.tools.changes.records import Record

MISSING = "results are missing"
SETTINGS = "settings changed"
CODE = "code changed"
NEWER = "an input is newer"
DERIVED = "settings that follow from other jobs' changed"
REMADE = "inputs are made again"
READS = "other inputs"  # than those that the record names
STOPPED = "was stopped before its end"
LARGEST_HASHED = 1_000_000  # bytes; Snakemake compares the content of inputs up to this size
KEY = re.compile(r"-[0-9a-f]{8}(?=/|\.tsv$|$)")  # of a folder below results/shared


@dataclass(eq=False, repr=False)
class Node:
    """A job and its arrows.

    before  the jobs that make what it reads, each with the paths of that
    after   those that read what it makes
    """

    part: Part
    line: Line
    reads: list[str]
    writes: list[str]
    benchmark: Path
    before: dict[Node, list[str]] = field(default_factory=dict)
    after: dict[Node, None] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.part.stage} {self.part.words}".rstrip()

    @cached_property
    def settings(self) -> Any:
        """What decides it now."""
        return self.line.decides(self.part)

    @cached_property
    def code(self) -> str | None:
        """The id of its code now."""
        return self.line.code(self.part)

    @cached_property
    def records(self) -> list[Record]:
        """Those of its results, if there are all; what a stage of the past has not written has none."""
        found = [record for path in self.writes if (record := records.read(path))]
        return found if len(found) == len(self.writes) else []

    @cached_property
    def oldest(self) -> float | None:
        """Time of its oldest result or its benchmark; if it has none, of the first job after it that has one."""
        own = [time for path in (*self.writes, str(self.benchmark)) if (time := modified(path)) is not None]
        return min(own) if own else next((each.oldest for each in self.after if each.oldest is not None), None)

    def changes(self, record: Record) -> dict[str, list[str]]:
        """What has changed since a record of it, or of the job that it replaces: sentences by SETTINGS and CODE."""
        if record.version < records.VERSION:
            return {}
        stage = self.part.stage
        settings = word(stage, self.part.all_names, record.settings, self.settings)
        code = [] if record.code == self.code else [f"code of {stage}: {record.code} → {self.code}"]
        return {kind: sentences for kind, sentences in ((SETTINGS, settings), (CODE, code)) if sentences}

    def _own_changes(self, record: Record) -> dict[str, list[str]]:
        """The same for a record of its own, as Snakemake compares it; what other jobs say too is said if it is all."""
        is_same = set(record.params) == set(records.as_params(self.settings, self.code))
        if is_same or record.version < records.VERSION:
            return {}
        whole = word(self.part.stage, self.part.all_names, record.settings, self.settings, derived=True)
        return self.changes(record) or {DERIVED: whole}

    def newer(self) -> Iterator[str]:
        """The inputs that are newer than its results, and not the same as those that it read."""
        for path in self.reads:
            time = modified(path)
            if self.oldest is not None and time is not None and time > self.oldest and not self._is_same(path):
                yield path

    def _is_same(self, path: str) -> bool:
        """Whether an input has the content that it had for every result."""
        known = {record.checksums.get(path) for record in self.records}
        if len(known) != 1 or not Path(path).is_file() or Path(path).stat().st_size > LARGEST_HASHED:
            return False
        return known == {f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"}

    def reasons(self) -> dict[str, list[str]]:
        """Why it would run, whatever the jobs before it do: kinds, each with sentences."""
        found = dict[str, list[str]]()
        if stopped := [path for path in self.writes if records.is_unfinished(path)]:
            found[STOPPED] = stopped[:1]
        if newer := [f"{path} is newer" for path in self.newer()]:
            found[NEWER] = newer
        for record in self.records:
            if found.keys() & {SETTINGS, CODE, DERIVED, READS}:
                break
            found |= self._own_changes(record)
            if record.reads != sorted(self.reads):
                found[READS] = []
        return found


class Jobs:
    """All jobs of a run."""

    def __init__(self, layout: Layout) -> None:
        line = Line(layout)
        self.targets = line.targets()
        self.nodes = [
            Node(part, line, line.reads(part), list(line.writes(part)), layout.benchmark_of(part))
            for part in layout.parts()
        ]
        self.makers = {path: node for node in self.nodes for path in node.writes}
        for node in self.nodes:
            for path in dict.fromkeys(node.reads):
                if maker := self.makers.get(path):
                    maker.after[node] = None
                    node.before.setdefault(maker, []).append(path)

    @cached_property
    def stale(self) -> dict[Node, dict[str, list[str]]]:
        """The jobs that would run, with the reasons of each, in the line's order."""
        found = {node: reasons for node in self.nodes if (reasons := node.reasons())}
        queue = deque(found)

        def add(node: Node, reason: str) -> None:
            if node not in found:
                found[node] = {}
                queue.append(node)
            found[node].setdefault(reason, [])

        for path in self.targets:
            if modified(path) is None:
                add(self.makers[path], MISSING)
        while queue:
            node = queue.popleft()
            for before, paths in node.before.items():
                if any(modified(path) is None for path in paths):
                    add(before, MISSING)
            for after in node.after:
                add(after, REMADE)
        return {node: found[node] for node in self.nodes if node in found}

    @cached_property
    def replaced(self) -> dict[Node, str]:
        """Jobs whose results lie in another folder than those that the run was made of, with the path of one of these.

        A shared folder has a key of the settings, so an edit leads to new folders. The records of what reads them
        say which ones were read before.
        """
        found = dict[Node, str]()
        todo = [pair for node in self.nodes for record in node.records[:1] for pair in pairs(record.reads, node.reads)]
        while todo:
            old, new = todo.pop()
            node = self.makers.get(new)
            if old != new and node is not None and node not in found:
                found[node] = old
                if record := records.read(old):
                    todo += pairs(record.reads, node.reads)
        return found

    def why(self, node: Node) -> tuple[str, list[str]]:
        """The first cause of a stale job: its kind, and sentences on it."""
        reasons = self.stale[node]
        if node in self.replaced and (record := records.read(self.replaced[node])):
            reasons = {**node.changes(record), **reasons, READS: []}
        for kind in (STOPPED, SETTINGS, CODE, NEWER):
            if kind in reasons:
                return kind, reasons[kind]
        if MISSING in reasons and node not in self.replaced:
            return MISSING, []
        if reasons.keys() & {REMADE, READS}:
            return REMADE, []
        return (SETTINGS, reasons[DERIVED]) if DERIVED in reasons else (MISSING, [])


def pairs(old: Iterable[str], new: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Inputs of the past and of now that have the same part in a job: alike but for the key, else of the same kind.

    >>> list(pairs(["results/shared/fuse/a-00000000/f"], ["results/shared/fuse/a-11111111/f"]))
    [('results/shared/fuse/a-00000000/f', 'results/shared/fuse/a-11111111/f')]
    """
    old, new = list(dict.fromkeys(old)), list(dict.fromkeys(new))
    yield from ((path, path) for path in old if path in set(new))
    left, came = [path for path in old if path not in set(new)], [path for path in new if path not in set(old)]
    alike = {KEY.sub("", path): path for path in left}
    for path in list(came):
        if (before := alike.get(KEY.sub("", path))) is not None:
            left.remove(before)
            came.remove(path)
            yield before, path
    for path in came:
        of_kind = [each for each in left if _kind(each) == _kind(path)]
        if len(of_kind) == 1:
            yield of_kind[0], path


def _kind(path: str) -> tuple[str, ...]:
    parts = Path(path).parts
    return (*parts[:4], parts[-1])


def modified(path: str) -> float | None:
    """When a file was last written; None if it is missing."""
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return None
