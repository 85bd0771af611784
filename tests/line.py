"""Runs the whole line in a copy of the repository, so that a test may edit templates, settings and code."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import toy
import yaml

NOT_COPIED = (".venv", ".git", "build", "results", ".snakemake", "benchmarks", "__pycache__", ".*_cache", "*.egg-info")
SNAKEMAKE = [sys.executable, "-m", "snakemake", "all_tables", "--cores", "2"]  # target first: --configfile would eat it
DEMO = ["--configfile", "cliper/data/demo.yaml", "tests/line.yaml", "port.yaml"]
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]  # a free one, for `make demo` or other tests may run meanwhile


def mine(*, raw: Path | str = "raw", with_items: bool = False, **run: Any) -> str:
    """An overlay of a dataset of someone's own: the tables bought.csv and, with its items, sold.csv in a folder."""
    columns = {"interactions": {"user_id": "customer", "asin": "sku"}}
    source: dict[str, Any] = {"kind": "table", "interactions": "bought.csv", "mirrors": [str(raw)], "columns": columns}
    if with_items:
        source["items"], columns["items"] = "sold.csv", {"asin": "sku", "title": "name"}
    dataset = {"title": "Mine", "source": source, "k_core": 1, "split": "random", "split_seed": 1}
    return yaml.safe_dump({"name": "mine", "run": {"datasets": ["mine"], **run}, "datasets": {"mine": dataset}})


def bought(pairs: Iterable[tuple[object, str]]) -> str:
    """The content of bought.csv."""
    return "customer,sku\n" + "".join(f"{customer},{sku}\n" for customer, sku in pairs)


FEW = bought((n, sku) for n in range(9) for sku in (f"a{n % 3}", "a3"))  # nine customers, four things


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
    return planned(shown.stdout)


def planned(shown: str) -> dict[str, int]:
    """Jobs by rule, of what a dry run showed."""
    stats = shown.partition("Job stats:")[2].split("\n\n")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", stats, re.MULTILINE) if rule != "total"}
