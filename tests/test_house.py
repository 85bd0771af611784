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
