"""The workflow as others deploy it: a module in a folder of their own, with a copy of the config."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import toy
import yaml
from line import DEMO, FEW, PORT, call, copy_repository, in_shop, mine, plan, planned

MODULE = """
configfile: "config/config.yaml"
module cliper:
    snakefile: "{snakefile}"
    config: config
use rule * from cliper
"""  # as snakedeploy 0.17 writes it


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """An empty folder into which the workflow was deployed, without a Snakefile of its own beyond the module."""
    (tmp_path / "workflow").mkdir()
    snakefile = MODULE.format(snakefile=toy.REPOSITORY / "workflow/Snakefile")
    (tmp_path / "workflow/Snakefile").write_text(snakefile, encoding="utf-8")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_bytes((toy.REPOSITORY / "config/config.yaml").read_bytes())
    return tmp_path


def snakemake(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return call(folder, sys.executable, "-m", "snakemake", "--cores", "1", *options)


def test_the_config_of_a_deployment_is_ours() -> None:
    assert (toy.REPOSITORY / "config/config.yaml").read_bytes() == (toy.REPOSITORY / "config.yaml").read_bytes()


def test_the_catalogue_finds_what_it_reads() -> None:
    told = yaml.safe_load((toy.REPOSITORY / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))
    assert told["usage"]["software-stack-deployment"]["conda"]
    for name in ("workflow/Snakefile", "config/config.yaml", "config/README.md"):
        assert (toy.REPOSITORY / name).is_file()


def test_a_deployment_plans_what_a_checkout_plans(deployed: Path) -> None:
    """Its first target is `all`: all tables."""
    demo = str(toy.REPOSITORY / "cliper/data/demo.yaml")
    shown = snakemake(deployed, "-n", "--configfile", demo)
    assert shown.returncode == 0, shown.stdout
    found = planned(shown.stdout)
    assert not (deployed / "results").exists()
    assert found.pop("all") == 1
    assert found | {"all_tables": 1} == plan(toy.REPOSITORY, "--configfile", demo, "--forceall")


def test_a_deployment_runs_its_jobs_with_its_own_config(deployed: Path) -> None:
    (deployed / "raw").mkdir()
    (deployed / "raw/bought.csv").write_text(FEW, encoding="utf-8")
    (deployed / "mine.yaml").write_text(mine(backbones=["lightgcn"], seeds=[1]), encoding="utf-8")
    ran = snakemake(deployed, "all_catalogue", "--configfile", "mine.yaml")
    assert ran.returncode == 0, ran.stdout
    assert (deployed / "results/mine/config.resolved.yaml").is_file()
    assert len(list(deployed.glob("results/shared/catalogue/mine-*/items.parquet"))) == 1


@pytest.mark.slow
def test_a_deployment_runs_the_demo(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = copy_repository(tmp_path_factory.mktemp("deploy") / "copy")
    configs = [str(copy / name) for name in DEMO[1:]]
    ran = call(deployed, *in_shop(sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", *configs))
    assert ran.returncode == 0, ran.stdout
    assert (deployed / "results/demo/tabulate/table2.csv").is_file(), PORT


@pytest.mark.slow
def test_snakemake_alone_can_lint_the_workflow(tmp_path: Path) -> None:
    """As the catalogue does: in an environment without our other packages."""
    python = tmp_path / "venv/bin/python"
    for command in (
        [sys.executable, "-m", "venv", tmp_path / "venv"],
        [python, "-m", "pip", "install", "--quiet", "snakemake>=9,<10"],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    linted = call(toy.REPOSITORY, str(python), "-m", "snakemake", "--lint", "-s", "workflow/Snakefile")
    assert linted.returncode == 0, linted.stdout
