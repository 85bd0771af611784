"""The stages, in the order of the line: the architecture as one table."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from cliper.errors import ConfigError, unknown

PACKAGE = Path(__file__).parent
SHARED = "shared"  # folder below results/ for the results that all runs share


class Stage(NamedTuple):
    """One command.

    module    where the stage's function is
    help      one line for the list of commands
    names     of one job, each an option of the command
    folder    of a job's results, a pattern of its names; None for a tool, which reads the whole config and has no rule
    shared    whether all runs share the results: they are below results/shared/, in a folder whose name ends in a key
              of the settings that decide them. Otherwise they are below results/<name of the run>/
    function  name of the function in the module
    options   names that may be left out
    preview   module of `--preview N`, which shows N rows and writes nothing; all names are then optional
    file      meaning of the file that a tool reads in place of a config, given without an option
    """

    module: str
    help: str
    names: tuple[str, ...]
    folder: str | None = None
    shared: bool = False
    function: str = "run"
    options: tuple[str, ...] = ()
    preview: str | None = None
    file: str | None = None

    @property
    def has_places(self) -> bool:
        """Whether each of its jobs has a folder of its own."""
        return self.folder is not None and "{" in self.folder


STAGES: dict[str, Stage] = {
    "download": Stage(
        "cliper.collect.download",
        "fetch one raw file of a dataset",
        ("dataset", "file"),
        "download/{dataset}",
        shared=True,
    ),
    "catalogue": Stage(
        "cliper.collect.catalogue",
        "turn raw files into users, items and splits",
        ("dataset",),
        "catalogue/{dataset}",
        shared=True,
    ),
    "crawl": Stage(
        "cliper.collect.crawl",
        "fetch the items' cover images",
        ("dataset",),
        "crawl/{dataset}",
        shared=True,
        options=("retry",),
    ),
    "prompt": Stage(
        "cliper.features.prompt",
        "write one view's prompt of every item",
        ("dataset", "prompts", "view"),
        "prompt/{dataset}/{prompts}/{view}",
        shared=True,
        preview="cliper.tools.preview",
    ),
    "weights": Stage(
        "cliper.features.weights",
        "fetch or assemble an encoder's weights",
        ("encoder",),
        "weights/{encoder}",
        shared=True,
    ),
    "encode-text": Stage(
        "cliper.features.encode",
        "encode one view's prompts",
        ("dataset", "encoder", "prompts", "view"),
        "encode/{dataset}/{encoder}/{prompts}/{view}",
        shared=True,
        function="run_text",
        options=("range",),
    ),
    "encode-image": Stage(
        "cliper.features.encode",
        "encode the cover images",
        ("dataset", "encoder"),
        "encode/{dataset}/{encoder}/images",
        shared=True,
        function="run_image",
        options=("range",),
    ),
    "encode-default-image": Stage(
        "cliper.features.encode",
        "encode the default picture, which may replace missing ones",
        ("encoder",),
        "encode/default_image/{encoder}",
        shared=True,
        function="run_default_image",
    ),
    "fuse": Stage(
        "cliper.features.fuse",
        "weigh and fuse the views into features",
        ("dataset", "arm"),
        "fuse/{dataset}/{features}",
        shared=True,
    ),
    "neighbours-items": Stage(
        "cliper.models.neighbours",
        "find each item's closest items by its features",
        ("dataset", "arm"),
        "neighbours/{dataset}/{features}",
        shared=True,
        function="run_items",
    ),
    "neighbours-users": Stage(
        "cliper.models.neighbours",
        "find the users who share most items",
        ("dataset",),
        "neighbours/{dataset}/users",
        shared=True,
        function="run_users",
    ),
    "trial": Stage(
        "cliper.models.search",
        "train one trial of a search, or a part of it",
        ("dataset", "backbone", "arm", "rung", "slot"),
        "trial/{dataset}/{backbone}/{arm}/{rung}/{slot}",
        function="run_trial",
    ),
    "select": Stage(
        "cliper.models.search",
        "choose the settings of a backbone with an arm by validation",
        ("dataset", "backbone", "arm"),
        "best/{dataset}/{backbone}.{arm}",
        function="run_select",
    ),
    "train": Stage(
        "cliper.models.train",
        "train one backbone",
        ("dataset", "backbone", "arm", "seed"),
        "train/{dataset}/{backbone}/{arm}/{seed}",
    ),
    "evaluate": Stage(
        "cliper.models.evaluate",
        "measure one trained cell",
        ("dataset", "backbone", "arm", "seed"),
        "evaluate/{dataset}/{backbone}/{arm}/{seed}",
    ),
    "hindsight": Stage(
        "cliper.models.evaluate",
        "measure the trials of a search on test, for no choice",
        ("dataset", "backbone", "arm"),
        "hindsight/{dataset}/{backbone}/{arm}",
        function="run_hindsight",
    ),
    "compare": Stage(
        "cliper.report.compare",
        "compare two arms, user by user",
        ("dataset", "backbone", "arm", "base_backbone", "base"),
        "compare/{dataset}/{backbone}/{arm}/{base_backbone}/{base}",
    ),
    "tabulate": Stage("cliper.report.tabulate", "write one table of the paper or of a study", ("table",), "tabulate"),
    "plot": Stage("cliper.report.plot", "draw one figure", ("figure",), "plot"),
    "explore": Stage(
        "cliper.features.explore",
        "choose items and users to look at: pictures, prompts, neighbours, lists",
        ("dataset",),
        "explore/{dataset}",
    ),
    "report": Stage("cliper.report.page", "write one page with all results", (), "report"),
    "export": Stage(
        "cliper.tools.export",
        "write features for another toolbox, or rankings for another framework",
        ("format",),
        options=("dataset", "arm", "backbone", "seed"),
    ),
    "doctor": Stage("cliper.tools.doctor", "say whether a run can start, and what is missing", ()),
    "inspect": Stage(
        "cliper.tools.inspect",
        "show what one item's features were made of",
        ("item",),
        options=("dataset", "arm", "html"),
    ),
    "lint": Stage(
        "cliper.tools.lint",
        "check a table of results: impossible numbers, gaps, swapped arms",
        (),
        file="a table as CSV, such as results/<name>/tabulate/table2.csv",
    ),
    "plan": Stage("cliper.tools.plan", "say which jobs would run, why, and what that costs", (), options=("set",)),
    "recommend": Stage(
        "cliper.tools.recommend",
        "show what a user is recommended, or which items are similar to one",
        (),
        options=("user", "item", "dataset", "backbone", "arm", "seed"),
    ),
    "schema": Stage("cliper.tools.schema", "print the JSON schema of the config, for editors", ()),
    "status": Stage("cliper.tools.status", "say what of a run is done, what runs, and what is left", ()),
    "where": Stage("cliper.tools.where", "list the folders of a run's results", (), options=("dataset", "arm")),
    "why": Stage(
        "cliper.tools.why",
        "say what a result was made of, and which edit made it stale",
        ("result",),
        options=("settings",),
    ),
}

NAME_HELP = {
    "dataset": "name of a dataset in the config",
    "file": "name of a raw file, see `datasets` in the config",
    "prompts": "name of a prompt set",
    "view": "name of a view of that prompt set",
    "encoder": "name of an encoder in the config",
    "range": "number of a range of items, from 0 to `encode.ranges` - 1; default: every range",
    "arm": "name of an arm in the config; content_free for backbones without features",
    "backbone": "name of a backbone",
    "seed": "seed of everything random in the cell, a whole number",
    "rung": "number of a rung of the search, from 0",
    "slot": "number of a place in the rung, from 0",
    "base": "name of the arm that it is compared with",
    "base_backbone": "name of that arm's backbone",
    "table": "table1, table2, table2_fair, search or the name of a study",
    "figure": "name of a study, fig5, popularity or curves",
    "format": "mmrec, mrlib or lists",
    "user": "the shop's own id of a user",
    "item": "the shop's own id of an item (asin)",
    "retry": "statuses to fetch again, as a,b; transient means timeouts, broken connections, 429, 5xx, given_up",
    "html": "also write a page with the image to this file",
    "set": "what the edits KEY=VALUE of the config would cost; VALUE is YAML, no file is written",
    "result": "path of a file below results/, the name of a table or figure, or report",
    "settings": "show all settings of each job, not the first ones",
}
NUMBERS = frozenset({"seed", "range", "rung", "slot"})
WORDS = frozenset({"result"})  # given without an option
LISTS = frozenset({"set"})
FLAGS = frozenset({"settings"})


def find(name: str) -> Stage:
    """Look a stage up. Raises ConfigError with the known names."""
    if name not in STAGES:
        raise ConfigError(unknown("stage", name, STAGES))
    return STAGES[name]


def spelled(name: str) -> str:
    """A name as the command line has it.

    >>> spelled("base_backbone"), spelled("result")
    ('--base-backbone', 'RESULT')
    """
    return name.upper() if name in WORDS else f"--{name.replace('_', '-')}"


def command(name: str, file: str, path: Path) -> str:
    """The command that makes a result again, for the job in whose folder it lies.

    name  of the stage
    file  pattern of the result's file

    >>> command("encode-text", "{range}-of-{ranges}.parquet", Path("results/shared/encode/a/b/c/d-0f/3-of-8.parquet"))
    'python -m cliper encode-text --place encode/a/b/c/d-0f --range 3'
    >>> command("train", "topk.parquet", Path("elsewhere/topk.parquet"))
    'python -m cliper train'
    """
    stage = find(name)
    place = re.sub(r"\{\w+\}", "[^/]+", stage.folder or "")
    name_of_file = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", file)
    found = re.search(rf"(?:^|/)(?P<place>{place}[^/]*)/{name_of_file}$", path.as_posix())
    options = {} if found is None else found.groupdict()
    more = [word for key, value in options.items() if key in ("place", *stage.options) for word in (f"--{key}", value)]
    return shlex.join(["python", "-m", "cliper", name, *more])


def documentation(stage: Stage) -> str:
    """The stage's help: the docstring of its module, read without importing it."""
    path = PACKAGE.joinpath(*stage.module.split(".")[1:]).with_suffix(".py")
    _, docstring, _ = path.read_text(encoding="utf-8").split('"""', 2)
    return inspect.cleandoc(docstring)
