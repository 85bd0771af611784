"""The toy world: small visible inputs that several tests share."""

from __future__ import annotations

import gzip
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cliper import config
from cliper.__main__ import perform
from cliper.config import Config
from cliper.layout import Layout

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


def settings(**overlay: Any) -> Config:
    """The shipped config without its studies and searches, with an overlay laid over it."""
    base = deepcopy(shipped())
    base |= {"studies": {}, "search": base["search"] | {"spaces": {}}}
    return config.structure(config.lay_over(base, overlay), where="toy")


def changed(settings: Config, section: str, **values: Any) -> Config:
    """A config with other values in one section, unchecked."""
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


@cache
def shipped() -> dict[str, Any]:
    """What config.yaml says."""
    return dict(yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8")))


def run(stage: str, settings: Config, **names: Any) -> None:
    """Run a job of a stage, or a tool."""
    perform(settings, stage, **names)


def path(settings: Config, result: str, **names: Any) -> Path:
    """Where a result lies."""
    return Layout(settings).path(result, **names)


def dataset(folder: Path, **more: Any) -> dict[str, Any]:
    """Overlay of a run named toy over one dataset of that name, its raw files in a local folder."""
    source = {"kind": "amazon2014", "category": "Toy", "interactions": "ratings", "mirrors": [str(folder)]}
    toy = {"title": "Toy", "source": source, "k_core": 1, "split": "random", "split_seed": 1, **more}
    return {"name": "toy", "run": {"datasets": ["toy"], "seeds": [1]}, "datasets": {"toy": toy}}


def write_raw(folder: Path, ratings: str, metadata: list[str]) -> None:
    """Write a toy category in the formats of Amazon-2014."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings_Toy.csv").write_text(ratings, encoding="utf-8")
    write_metadata(folder, metadata)


def write_metadata(folder: Path, metadata: list[str]) -> None:
    """Write the toy category's metadata, a line an item."""
    with gzip.open(folder / "meta_Toy.json.gz", "wt", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in metadata))
