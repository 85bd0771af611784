"""The import rules of the architecture, read from the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import toy

from cliper import stages
from cliper.errors import ConfigError

PACKAGE = toy.REPOSITORY / "cliper"
BASE = {"errors", "log", "schemas", "layout"}
FRAME = BASE | {"files", "config"}
PARTS = {"device", "graph", "kcore", "splits", "sampling", "losses", "metrics", "ranking", "fusion"}
VARIANTS = {"sources", "encoders", "backbones"}
TRAINING = {"fitting", "checkpoint"}
STAGES = {stage.module.removeprefix("cliper.").split(".")[0] for stage in stages.STAGES.values()}
ALLOWED = {
    **{name: set() for name in BASE},
    "files": BASE,
    "config": BASE | {"files"},  # written through files.write_text
    "stages": {"errors"},
    **dict.fromkeys(PARTS, {"errors"} | PARTS),
    "imagestore": FRAME,
    "imagefeatures": FRAME,
    "mirrors": FRAME,
    "ownimages": FRAME | {"fetch"},
    "embeddings": FRAME,
    "cleaning": FRAME,
    "templates": FRAME | {"cleaning"},
    "vectorstore": FRAME,
    "connections": FRAME,
    "ahead": set(),
    "pictures": set(),
    "hosts": FRAME,
    "robots": set(),
    "fetch": FRAME | {"connections", "hosts", "robots"},
    "sources": FRAME | {"sources"},
    "encoders": FRAME | PARTS | {"encoders"},
    "backbones": {"errors", "config", "backbones"} | PARTS,
    "checkpoint": FRAME,
    "fitting": FRAME | PARTS | {"backbones", "checkpoint"},
    **{
        stage: FRAME
        | PARTS
        | TRAINING
        | {"stages"}
        | {
            "sources",
            "encoders",
            "backbones",
            "imagestore",
            "imagefeatures",
            "mirrors",
            "ownimages",
            "vectorstore",
            "fetch",
            "ahead",
            "pictures",
            "cleaning",
            "embeddings",
            "templates",
        }
        for stage in STAGES
    },
    "__main__": {"config", "errors", "log", "stages"},
    "__init__": set(),
    "shop": FRAME,
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_from_the_rooms_below_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    used = {room(name) for name in stages.imports(ast.parse(path.read_text(encoding="utf-8")))} - {"__init__"}
    allowed = ALLOWED[own] | ({own} if path.parent != PACKAGE else set())
    assert used <= allowed, f"{own} imports {sorted(used - allowed)}"


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
        ("backbones/freedom.py", "\nx = 1\n", {("train", "freedom")}),
        ("backbones/freedom.py", "\n# a comment\n", set()),
        ("backbones/base.py", "\nx = 1\n", {("train", "freedom"), ("train", "lightgcn")}),
        ("losses.py", "\nx = 1\n", {("train", "freedom"), ("train", "lightgcn")}),
        ("backbones/lattice.py", "\nx = 1\n", set()),
        ("sources/mmrec.py", "\nx = 1\n", set()),
        ("sources/amazon2014.py", "\nx = 1\n", {("catalogue", "amazon2014")}),
        ("fuse.py", "\nx = 1\n", {("fuse",)}),
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
