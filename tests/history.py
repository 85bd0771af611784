"""Results and records of a run that nobody ran: small files, each a second younger than those before it."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import toy

from cliper.config import Config
from cliper.layout import Layout
from cliper.tools.changes.jobs import Jobs, Node

BENCHMARK = "s\th:m:s\tmax_rss\tcpu_time\n{}\t0:00:02\t100.5\t1\n"


def settings(**overlay: object) -> Config:
    """Two backbones, one arm, two seeds."""
    world = toy.dataset(Path("raw")) | {"arms": {"cliper": {"image": "bridge", "text": "bridge"}}}
    world["run"] |= {"backbones": ["freedom", "lightgcn"], "arms": ["cliper"], "seeds": [1, 2]}
    for section, values in overlay.items():
        world[section] = {**world.get(section, {}), **values} if isinstance(values, dict) else values
    return toy.settings(**world)


def jobs_of(config: Config) -> Jobs:
    return Jobs(Layout(config))


def find(jobs: Jobs, words: str) -> Node:
    return next(node for node in jobs.nodes if str(node) == words)


def record_of(path: str) -> Path:
    """Where Snakemake has its record of a short path."""
    return Path(".snakemake/metadata", urlsafe_b64encode(path.encode()).decode())


def make(config: Config) -> Jobs:
    """Write all results of a run."""
    for file in ("ratings_Toy.csv", "meta_Toy.json.gz"):
        write(Path("raw", file), file, second=0)
    jobs = jobs_of(config)
    for second, node in enumerate(jobs.nodes, start=1):
        do(node, second=second)
    return jobs


def do(node: Node, *, second: int) -> None:
    """Write the results of a job, their records and its benchmark file."""
    params = sorted(repr(value) for value in (node.settings, node.code) if value is not None)
    sums = {path: f"sha256:{digest(path)}" for path in node.reads if Path(path).is_file()}
    record = {"rule": node.part.stage, "input": sorted(node.reads), "params": params, "input_checksums": sums}
    record |= {"endtime": second, "record_format_version": 6}
    for path in node.writes:
        write(Path(path), path, second=second)
        write(record_of(path), json.dumps(record), second=second)
    write(node.benchmark, BENCHMARK.format(2.0), second=second)


def write(path: Path, text: str, *, second: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (second, second))


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
