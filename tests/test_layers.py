"""The import rules of the architecture, read from the sources.

Frame: `cliper/x.py`. Config: `cliper/config/`. Stage: `cliper/<wing>/x.py`. Part: `cliper/<wing>/<folder>/x.py`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
import toy

from cliper.stages import STAGES

PACKAGE = toy.REPOSITORY / "cliper"
FILES = sorted(PACKAGE.rglob("*.py"))
WINGS = {"collect", "features", "models", "report", "tools", "demo"}
CLOSED = {"collect", "models", "report", "demo"}  # wings that take nothing of another wing
LENT = {"cliper.collect.images.shards"}  # what features takes of another wing
LIGHT = {  # modules of the wings that the config may import, in addition to …_settings: each lists variants
    "cliper.collect.sources",
    "cliper.features.encoders",
    "cliper.features.fusion.rows",
    "cliper.models.backbones",
}
SECTIONS = {"cliper.config.collect", "cliper.config.features", "cliper.config.models", "cliper.config.report"}
VALUES = {"CONTENT_FREE", "Cell", "GivenFeatures", "MadeFeatures", "is_url"}  # types and names that say no setting
FOR_WORKFLOW = {
    "cliper.config",
    "cliper.config.decides",
    "cliper.errors",
    "cliper.layout",
    "cliper.line",
    "cliper.media",
    "cliper.stages",
}
HEAVY = {"torch", "numpy", "polars", "pyarrow", "scipy", "PIL", "open_clip", "transformers"}


def name_of(path: Path) -> str:
    return ".".join(("cliper", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def imported(source: str) -> set[tuple[str, str]]:
    """Pairs (module, name) of all that a source imports of ours, wherever in it; `import module` has no name.

    >>> sorted(imported("from cliper import files; import cliper.log, torch; from cliper.layout import At"))
    [('cliper.files', ''), ('cliper.layout', 'At'), ('cliper.log', '')]
    """
    found = set[tuple[str, str]]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add((inner, "") if inner in MODULES else (str(node.module), alias.name))
    return {(module, name) for module, name in found if module in MODULES}


@cache
def imports_of(module: str) -> frozenset[tuple[str, str]]:
    return frozenset(imported(MODULES[module].read_text(encoding="utf-8")))


def wing(module: str) -> str | None:
    """The wing of a module; none for the frame and the config."""
    folder = (*module.split("."), "")[1]
    return folder if folder in WINGS else None


def is_stage(module: str) -> bool:
    return wing(module) is not None and module.count(".") == 2 and MODULES[module].name != "__init__.py"


def faults(own: str, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """What a module must not import, of what it does."""
    found = []
    for used, name in pairs:
        said = f"{own} imports {used}{name and ' ' + name}"
        is_other_wing = wing(used) not in (None, wing(own))
        if is_stage(used):
            found.append(f"{said}: a stage is imported by nobody")
        elif wing(own) is None and is_other_wing:
            if not (own.startswith("cliper.config") and (used in LIGHT or used.endswith("_settings"))):
                found.append(f"{said}: the frame imports no wing, the config only settings and lists of variants")
        elif wing(own) in CLOSED and is_other_wing:
            found.append(f"{said}: {wing(own)} takes nothing of another wing")
        elif wing(own) == "features" and is_other_wing and used not in LENT:
            found.append(f"{said}: features takes of other wings only {', '.join(LENT)}")
        if wing(own) not in (None, "tools") and not is_value(used, name):
            found.append(f"{said}: a stage is given its value and its paths, never the config")
    return found


def is_value(module: str, name: str) -> bool:
    """Whether a stage may import this; all that is neither of the config nor of the layout it may."""
    if module == "cliper.layout":
        return name == "At"
    if module in ("cliper.config", "cliper.config.whole"):
        return name in VALUES
    if module == "cliper.config.decides":
        return name == "" or (name[0].isupper() and not name.isupper() and name != "Config")
    return module in SECTIONS or not module.startswith("cliper.config")


def test_every_folder_is_a_wing_and_every_stage_is_in_one() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders == WINGS | {"config"}
    assert {row.module for row in STAGES.values()} <= {module for module in MODULES if is_stage(module)}
    assert {"cliper.collect.crawl", "cliper.collect.images.shards"} <= {name for name, _ in ALL_PAIRS}
    assert MODULES.keys() >= LIGHT | LENT | SECTIONS | FOR_WORKFLOW


ALL_PAIRS = {pair for module in MODULES for pair in [(module, ""), *imports_of(module)]}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_kind_may(module: str) -> None:
    assert faults(module, imports_of(module)) == []


@pytest.mark.parametrize(
    ("own", "line"),
    [
        ("cliper.files", "from cliper.collect.sources import SOURCES"),
        ("cliper.config.collect", "from cliper.collect.sources.records import ITEMS"),
        ("cliper.config.models", "from cliper.models.backbones.base import Backbone"),
        ("cliper.collect.sources.records", "from cliper.collect import catalogue"),
        ("cliper.collect.crawl", "from cliper.collect.catalogue import SPLITS"),
        ("cliper.tools.export", "from cliper.features.fuse import run"),
        ("cliper.collect.crawl", "from cliper.features.prompts.cleaning import clean"),
        ("cliper.models.maths.losses", "from cliper.collect.images import shards"),
        ("cliper.features.encode", "from cliper.collect.images import fetch"),
        ("cliper.features.fuse", "from cliper.models.maths import sparse"),
        ("cliper.features.fuse", "from cliper.config import Config"),
        ("cliper.features.fuse", "from cliper import config"),
        ("cliper.features.fuse", "import cliper.config"),
        ("cliper.features.fuse", "from cliper.config.reading import load"),
        ("cliper.features.fuse", "from cliper.config.whole import Config"),
        ("cliper.features.fuse", "from cliper.config.decides import BUILDERS"),
        ("cliper.features.fuse", "from cliper.config.decides import of_fuse"),
        ("cliper.models.training.fitting", "from cliper.layout import Layout"),
    ],
)
def test_the_rules_find_what_breaks_them(own: str, line: str) -> None:
    assert own in MODULES
    assert len(faults(own, imported(line))) == 1


@pytest.mark.parametrize("module", [name for name in MODULES if wing(name) not in (None, "tools")])
def test_stages_and_parts_name_neither_config_nor_layout(module: str) -> None:
    """Not even by way of another module: decides.Config."""
    tree = ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    named = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in tree}
    assert not named & {"Config", "Layout", "BUILDERS"}


def modules_loaded_by(module: str) -> set[str]:
    """Heavy libraries that are there after an import of one module in a new process."""
    code = f"import sys, {module}; print(*sorted({HEAVY} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize("module", sorted(FOR_WORKFLOW | LIGHT))
def test_planning_a_run_loads_nothing_that_computes(module: str) -> None:
    assert modules_loaded_by(module) == set()


def test_measuring_a_cell_loads_neither_torch_nor_scipy() -> None:
    """It is done for every cell, and they take longer to load than it does."""
    assert not modules_loaded_by("cliper.models.evaluate") & {"torch", "scipy"}


def test_what_computes_would_be_seen() -> None:
    assert {"numpy", "torch"} <= modules_loaded_by("cliper.models.maths.losses")


def test_the_config_is_imported_at_once() -> None:
    code = "import time; began = time.process_time(); import cliper.config; print(time.process_time() - began)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds = float(ran.stdout)
    print(f"import cliper.config: {seconds:.2f} s of CPU")  # about 0.2
    assert seconds < 1


def test_the_workflow_imports_only_names_and_config() -> None:
    paths = [toy.REPOSITORY / "Snakefile", *(toy.REPOSITORY / "workflow").rglob("*.smk")]
    lines = [line.strip() for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    source = "\n".join(line for line in lines if line.startswith(("from cliper", "import cliper")))
    used = {module for module, _ in imported(source)}
    assert "cliper.layout" in used
    assert used <= FOR_WORKFLOW


def test_the_package_never_imports_snakemake() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.partition(".")[0] == "snakemake"], module
