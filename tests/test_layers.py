"""The import rules of the architecture, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import toy

PACKAGE = toy.REPOSITORY / "cliper"
MODULES = sorted(PACKAGE.rglob("*.py"))
CLOSED = {"collect", "models", "report", "demo"}  # wings that take nothing of another wing
LENT = {"cliper.collect.images.shards"}  # what features takes of another wing
VARIANTS = {"cliper.collect.sources", "cliper.features.encoders", "cliper.features.fusion.rows"}  # for the config
HEAVY = {"torch", "numpy", "polars", "pyarrow", "PIL", "open_clip", "transformers"}


def module_name(path: Path) -> str:
    return ".".join(("cliper", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Names of our own modules that a module imports, wherever in it the import stands."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(map(module_name, MODULES))


def wing(module: str) -> str | None:
    """The folder below cliper/ that a module stands in; none for the frame and the config."""
    parts = module.split(".")
    is_in_folder = len(parts) > 2 or (PACKAGE / parts[-1]).is_dir()
    return parts[1] if len(parts) > 1 and is_in_folder and parts[1] != "config" else None


def is_stage(module: str) -> bool:
    return (
        wing(module) is not None and module.count(".") == 2 and not (PACKAGE.joinpath(*module.split(".")[1:])).is_dir()
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_what_its_kind_may(path: Path) -> None:
    own = module_name(path)
    used = imports(path) - {own}
    others = {name for name in used if wing(name) not in (None, wing(own))}
    if own == "cliper.config":
        others = {name for name in others if name not in VARIANTS and not name.endswith("_settings")}
    if wing(own) is None:
        assert not others, "the frame imports no wing, the config no more of it than settings"
    assert not [name for name in used if is_stage(name)], "a stage is imported by nobody"
    if wing(own) in CLOSED:
        assert not others, f"{wing(own)} takes nothing of another wing"
    if wing(own) == "features":
        assert {name for name in others if not (PACKAGE.joinpath(*name.split(".")[1:])).is_dir()} <= LENT


@pytest.mark.parametrize("module", sorted(VARIANTS))
def test_settings_are_read_without_heavy_libraries(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == []


def test_the_workflow_imports_only_names_and_config() -> None:
    lines = [
        line.split()
        for path in [toy.REPOSITORY / "Snakefile", *(toy.REPOSITORY / "workflow").rglob("*.smk")]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("from cliper", "import cliper"))
    ]
    assert {words[1] for words in lines} <= {
        "cliper",
        "cliper.codeid",
        "cliper.config",
        "cliper.errors",
        "cliper.layout",
        "cliper.stages",
    }


def test_the_package_never_imports_snakemake() -> None:
    assert not [path for path in MODULES if "snakemake" in path.read_text(encoding="utf-8").replace("Snakemake", "")]
