"""The import rules of the architecture, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import toy

from cliper import stages
from cliper.errors import ConfigError

PACKAGE = toy.REPOSITORY / "cliper"
MODULES = sorted(PACKAGE.rglob("*.py"))
CLOSED = {"collect", "models", "report", "demo"}  # wings that take nothing of another wing
LENT = {"cliper.collect.images.shards"}  # what features takes of another wing
VARIANTS = {"cliper.collect.sources", "cliper.features.encoders", "cliper.features.fusion.rows"}  # for the config
HEAVY = {"torch", "numpy", "polars", "pyarrow", "PIL", "open_clip", "transformers"}


def module_name(path: Path) -> str:
    return ".".join(("cliper", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


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
    used = {name for name in stages.imports(ast.parse(path.read_text(encoding="utf-8"))) if name != own}
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
        "cliper.config",
        "cliper.errors",
        "cliper.layout",
        "cliper.stages",
    }


def test_the_package_never_imports_snakemake() -> None:
    assert not [path for path in MODULES if "snakemake" in path.read_text(encoding="utf-8").replace("Snakemake", "")]


def edited(code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str) -> Path:
    """Copy the package with something appended to one module, and let `stages` read the copy."""
    for path in MODULES:
        copy = tmp_path / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8") + (code if path == PACKAGE / module else ""))
    monkeypatch.setattr(stages, "PACKAGE", tmp_path)
    stages.code_id.cache_clear()
    return tmp_path


@pytest.fixture(autouse=True)
def forget_code_ids() -> None:
    stages.code_id.cache_clear()


def ids() -> dict[tuple[str, ...], str]:
    keys = [("train", "freedom"), ("train", "lightgcn"), ("fuse",), ("catalogue", "amazon2014"), ("evaluate",)]
    return {key: stages.code_id(*key) for key in keys}


@pytest.mark.parametrize(
    ("module", "code", "changed"),
    [
        ("models/backbones/freedom.py", "\nx = 1\n", {("train", "freedom")}),
        ("models/backbones/freedom.py", "\n# a comment\n", set()),
        ("models/backbones/base.py", "\nx = 1\n", {("train", "freedom"), ("train", "lightgcn")}),
        ("models/maths/losses.py", "\nx = 1\n", {("train", "freedom"), ("train", "lightgcn")}),
        ("models/backbones/lattice.py", "\nx = 1\n", set()),
        ("collect/sources/mmrec.py", "\nx = 1\n", set()),
        ("collect/sources/amazon2014.py", "\nx = 1\n", {("catalogue", "amazon2014")}),
        ("features/fuse.py", "\nx = 1\n", {("fuse",)}),
        ("config.py", "\nx = 1\n", set()),
    ],
)
def test_an_edit_changes_the_code_id_of_the_stages_it_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, changed: set[tuple[str, ...]]
) -> None:
    before = ids()
    edited(code, monkeypatch, tmp_path, module)
    after = ids()
    assert {key for key in before if before[key] != after[key]} == changed


def test_an_unknown_stage_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown stage 'encod'; known: catalogue, crawl"):
        stages.code_id("encod")
