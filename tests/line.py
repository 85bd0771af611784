"""Runs the whole line in a copy of the repository, so that a test may edit templates, settings and code."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import toy
import yaml

NOT_COPIED = (".venv", ".git", "build", "results", ".snakemake", "benchmarks", "__pycache__", ".*_cache", "*.egg-info")
SNAKEMAKE = [sys.executable, "-m", "snakemake", "all_tables", "--cores", "2"]  # target first: --configfile would eat it
DEMO = ["--configfile", "cliper/data/demo.yaml", "tests/line.yaml", "port.yaml"]
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]  # a free one, for `make demo` or other tests may run meanwhile


def copy_repository(folder: Path) -> Path:
    """Copy what a run needs; `python -m` finds the copy's package first."""
    copy = Path(shutil.copytree(toy.REPOSITORY, folder, ignore=shutil.ignore_patterns(*NOT_COPIED)))
    source, crawl = {"mirrors": [f"http://127.0.0.1:{PORT}/shop"]}, {"allow_hosts": [f"127.0.0.1:{PORT}"]}
    overlay = {"datasets": {"shop": {"source": source}}, "crawl": crawl}
    (copy / "port.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    return copy


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the copy and give all it printed."""
    left_out = ("SNAKEMAKE_PROFILE", "PYTHONDONTWRITEBYTECODE")  # without bytecode each job compiles the copy again
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def in_shop(*command: str) -> list[str]:
    """The command with the demo's shop open around it."""
    return [sys.executable, "-m", "cliper.demo.shop", "--port", str(PORT), "--", *command]


def plan(folder: Path, *options: str, target: str = "all_tables") -> dict[str, int]:
    """Jobs that a dry run plans, by rule."""
    shown = call(folder, *SNAKEMAKE[:3], target, *SNAKEMAKE[4:], "-n", *options)
    assert shown.returncode == 0, shown.stdout
    stats = shown.stdout.partition("Job stats:")[2].split("\n\n")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", stats, re.MULTILINE) if rule != "total"}
