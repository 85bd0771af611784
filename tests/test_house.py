"""The developer's house: what stands in two places agrees."""

from __future__ import annotations

import re

import pytest
import toy
import yaml


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    return {name.lower().replace("-", "_"): version for name, version in found}


def read(path: str) -> str:
    return (toy.REPOSITORY / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_environments_hold_the_versions_that_are_tested(name: str) -> None:
    listed = yaml.safe_load(read(f"envs/{name}.yaml"))["dependencies"][-1]["pip"]
    tested = pins(read("constraints.txt")) | pins(read("embedded.txt"))
    wanted = pins("\n".join(listed))
    assert wanted == {package: tested[package] for package in wanted}


def test_environments_hold_every_package_the_project_needs() -> None:
    block = read("pyproject.toml").split("dependencies = [")[1].split("]")[0]
    needed = {name.lower().replace("-", "_") for name in re.findall(r'"([\w-]+)', block)}
    assert needed <= set(pins("\n".join(yaml.safe_load(read("envs/cpu.yaml"))["dependencies"][-1]["pip"])))


def test_the_readme_names_commands_that_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)`", read("README.md"))) <= targets


@pytest.mark.parametrize("example", re.findall(r"^```yaml\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL))
def test_the_readmes_configs_can_be_laid_over_the_shipped_one(example: str) -> None:
    overlay = yaml.safe_load(example)
    config = toy.settings(**overlay)
    assert {cell[0] for cell in config.cells} == set(overlay["datasets"])


def test_no_test_file_imports_another() -> None:
    files = sorted((toy.REPOSITORY / "tests").glob("*.py"))
    assert not [path.name for path in files if re.search(r"^(from|import) test_", path.read_text(), re.MULTILINE)]
