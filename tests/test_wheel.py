"""A wheel of the package, installed where there is no checkout: the stages, the tools and the line work."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest
import toy
from line import FEW, PORT, copy_repository, mine

LEFT_OUT = ("PYTHONPATH", "SNAKEMAKE_PROFILE")  # they would name the checkout


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command and give all it printed."""
    environment = {key: value for key, value in os.environ.items() if key not in LEFT_OUT}
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


class Installed(NamedTuple):
    """An environment with the wheel, and what the package ships of a checkout."""

    python: Path
    line: Path  # the folder of Snakefile and config.yaml
    port: Path  # overlay: the port of the demo's shop

    def call(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Python in the current folder."""
        return run(self.python, *arguments)

    def cliper(self, *arguments: str | Path) -> str:
        """Run a command of cliper that must succeed. Gives what it printed."""
        ran = self.call("-m", "cliper", *arguments)
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def snakemake(self, *arguments: str | Path) -> list[str | Path]:
        """A command of Snakemake."""
        return ["-m", "snakemake", "-s", self.line / "Snakefile", "all_tables", "--cores", "2", *arguments]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, which takes all other packages from the one of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = copy_repository(folder / "copy")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    python = folder / "venv/bin/python"
    for command in (
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, copy],
        [sys.executable, "-m", "venv", "--without-pip", folder / "venv"],
        [*pip, "--python", python, "install", "--no-deps", "--no-index", "--find-links", folder, "cliper"],
    ):
        made = run(*command)
        assert made.returncode == 0, made.stdout
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return Installed(python, packages / "cliper/data/line", copy / "port.yaml")


def test_a_wheel_works_outside_a_checkout(installed: Installed, workdir: Path) -> None:
    said = installed.call("-m", "cliper", "where")
    assert said.returncode == 2
    assert f"config.yaml does not exist; name one with --config, such as {installed.line}/config.yaml" in said.stdout
    Path("raw").mkdir()
    Path("raw/bought.csv").write_text(FEW)
    Path("raw/sold.csv").write_text("sku,name\na0,Red\na1,Green\na2,Blue\na3,Grey\n")
    Path("mine.yaml").write_text(mine(with_items=True, backbones=["lightgcn"], seeds=[1]))
    own = ["--config", installed.line / "config.yaml", "mine.yaml"]
    for file in ("bought.csv", "sold.csv"):
        installed.cliper("download", *own, "--dataset", "mine", "--file", file)
    assert "9 users" in installed.cliper("catalogue", *own, "--dataset", "mine")
    assert "Red" in installed.cliper("prompt", *own, "--preview", "4", "--prompts", "as_described", "--view", "title")
    assert "results/shared/catalogue/mine-" in installed.cliper("where", *own)
    planned = installed.call(*installed.snakemake("-n", "-q", "--configfile", *own[1:]))
    assert planned.returncode == 0, planned.stdout
    assert "all_tables" in planned.stdout


def test_a_wheel_has_every_file_of_the_workflow(installed: Installed) -> None:
    ours, shipped = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        for folder in (toy.REPOSITORY / "workflow", installed.line / "workflow")
    )
    assert Path("report/table.rst") in ours
    assert shipped == ours


@pytest.mark.slow
def test_a_wheel_runs_the_demo(installed: Installed, workdir: Path) -> None:
    demo = [installed.line / "config.yaml", installed.line.parent / "demo.yaml", toy.REPOSITORY / "tests/line.yaml"]
    configs = [*demo, installed.port]
    line = installed.snakemake("--configfile", *configs)
    ran = installed.call("-m", "cliper.demo.shop", "--port", str(PORT), "--", installed.python, *line)
    assert ran.returncode == 0, ran.stdout
    rows = list(csv.DictReader(Path("results/demo/tabulate/table2.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["backbone"] for row in rows} == {"dualgnn", "freedom", "lightgcn"}
    for tool in ("doctor", "schema", "where"):
        assert installed.cliper(tool, "--config", *configs)
