"""The stages, in the order of the line, and what each needs to be told: the architecture as one table."""

from __future__ import annotations

import ast
import hashlib
import inspect
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cliper.errors import ConfigError, unknown

PACKAGE = Path(__file__).parent


class Stage(NamedTuple):
    """One command: its module, its first line of help, the names it takes, the function that runs it.

    options  names that may be left out
    flags    switches: on if they are named
    preview  module of `--preview N`, which shows N rows and writes nothing; the other names may then be left out
    """

    module: str
    help: str
    names: tuple[str, ...]
    function: str = "run"
    options: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    preview: str | None = None


STAGES: dict[str, Stage] = {
    "download": Stage("cliper.collect.download", "fetch one raw file of a dataset", ("dataset", "file")),
    "catalogue": Stage("cliper.collect.catalogue", "raw files to users, items and splits", ("dataset",)),
    "crawl": Stage("cliper.collect.crawl", "fetch the items' cover images", ("dataset",), flags=("retry_failed",)),
    "prompt": Stage(
        "cliper.features.prompt",
        "write one view's prompt of every item",
        ("dataset", "prompts", "view"),
        preview="cliper.tools.preview",
    ),
    "weights": Stage("cliper.features.weights", "fetch or assemble an encoder's weights", ("encoder",)),
    "encode-text": Stage(
        "cliper.features.encode",
        "encode one view's prompts",
        ("dataset", "encoder", "prompts", "view"),
        "run_text",
        options=("shard",),
    ),
    "encode-image": Stage(
        "cliper.features.encode", "encode the cover images", ("dataset", "encoder"), "run_image", options=("shard",)
    ),
    "encode-default-image": Stage(
        "cliper.features.encode",
        "encode the picture that may stand for missing ones",
        ("encoder",),
        "run_default_image",
    ),
    "fuse": Stage("cliper.features.fuse", "weigh and fuse the views into features", ("dataset", "arm")),
    "neighbours-items": Stage(
        "cliper.models.neighbours", "find each item's closest items by its features", ("dataset", "arm"), "run_items"
    ),
    "neighbours-users": Stage(
        "cliper.models.neighbours", "find the users who share most items", ("dataset",), "run_users"
    ),
    "train": Stage("cliper.models.train", "train one backbone", ("dataset", "backbone", "arm", "seed")),
    "evaluate": Stage("cliper.models.evaluate", "measure one trained run", ("dataset", "backbone", "arm", "seed")),
    "tabulate": Stage("cliper.report.tabulate", "write one table of the paper", ("table",)),
    "export": Stage(
        "cliper.tools.export", "write a dataset and features for another toolbox", ("dataset", "arm", "format")
    ),
    "doctor": Stage("cliper.tools.doctor", "say whether a run can start, and what is missing", ()),
    "inspect": Stage(
        "cliper.tools.inspect",
        "show what one item's features were made of",
        ("item",),
        options=("dataset", "arm", "html"),
    ),
}

NAME_HELP = {
    "dataset": "name of a dataset in the config",
    "file": "name of a raw file, see `datasets` in the config",
    "prompts": "name of a prompt set",
    "view": "name of a view of that prompt set",
    "encoder": "name of an encoder in the config",
    "shard": "number of a range of items, from 0; without it, all `encode.shards` of them",
    "arm": "name of an arm in the config; content_free for backbones without features",
    "backbone": "name of a backbone",
    "seed": "whole number from which everything random in the run is drawn",
    "table": "table1 or table2",
    "format": "mmrec",
    "item": "the shop's own id of an item (asin)",
    "retry_failed": "ask again for transient failures: timeouts, broken connections, 429, 5xx, given-up hosts",
    "html": "file to which a page with the image is written",
}

# What carries data but decides no number: an edit here re-runs nothing.
FRAME = frozenset({"errors", "log", "schemas", "layout", "files", "web", "config", "stages", "__init__", "__main__"})
VARIANTS = frozenset({"sources", "encoders", "backbones"})


def find(name: str) -> Stage:
    """Look a stage up. Raises ConfigError with the known names."""
    if name not in STAGES:
        raise ConfigError(unknown("stage", name, STAGES))
    return STAGES[name]


def documentation(stage: Stage) -> str:
    """The stage's help: the docstring of its module, read without importing it."""
    _, docstring, _ = _file(stage.module).read_text(encoding="utf-8").split('"""', 2)
    return inspect.cleandoc(docstring)


@cache
def code_id(stage: str, *variants: str) -> str:
    """Short hash of the source that decides a stage's output.

    It covers the stage's module and all it imports of ours except the frame, parsed, without docstrings,
    comments and layout. Of the folders of variants (sources, encoders, backbones) it covers the files in
    `variants` and what those import: an edit in one backbone re-runs that backbone's cells only.
    """
    todo, seen = [find(stage).module], dict[str, str]()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen[module], imported = _read(_file(module).read_text(encoding="utf-8"))
        todo += [name for name in imported if _counts(module, name, variants)]
    digest = hashlib.sha256("\n".join(f"{name} {seen[name]}" for name in sorted(seen)).encode())
    return digest.hexdigest()[:12]


@cache  # stages share most of their modules: the 28 ids of a run read 206 files, 61 of them different
def _read(source: str) -> tuple[str, list[str]]:
    """What decides in a module's source, and which of our modules it imports."""
    tree = ast.parse(source)
    return ast.dump(_without_docstrings(tree)), imports(tree)


def imports(tree: ast.AST) -> list[str]:
    """Names of our own modules that a parsed module imports, wherever in it the import stands."""
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return sorted(name for name in found if name.split(".")[0] == "cliper" and _is_module(name))


def _counts(importer: str, name: str, variants: tuple[str, ...]) -> bool:
    parts = name.split(".")
    if len(parts) < 2 or parts[1] in FRAME:
        return False
    is_list_of_variants = importer.rpartition(".")[2] in VARIANTS
    return not is_list_of_variants or name.rpartition(".")[2] in variants


def _is_module(name: str) -> bool:
    return _file(name).is_file()


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:  # type: ignore[arg-type]
            del node.body[0]  # type: ignore[attr-defined]
    return tree
