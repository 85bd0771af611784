"""The stages, in the order of the line, and what each needs to be told: the architecture as one table."""

from __future__ import annotations

import inspect
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
    "retry_failed": "ask again for what failed in passing: timeouts, broken connections, 429, 5xx, given-up hosts",
    "html": "file to which a page with the image is written",
}


def find(name: str) -> Stage:
    """Look a stage up. Raises ConfigError with the known names."""
    if name not in STAGES:
        raise ConfigError(unknown("stage", name, STAGES))
    return STAGES[name]


def documentation(stage: Stage) -> str:
    """The stage's help: the docstring of its module, read without importing it."""
    path = PACKAGE.joinpath(*stage.module.split(".")[1:]).with_suffix(".py")
    _, docstring, _ = path.read_text(encoding="utf-8").split('"""', 2)
    return inspect.cleandoc(docstring)
