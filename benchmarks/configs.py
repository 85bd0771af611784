"""Configs of the benchmarks: the shipped one with an overlay over it, and where its results lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cliper import config, files
from cliper.layout import Layout

REPOSITORY = Path(__file__).parents[1]
SHIPPED = REPOSITORY / "config.yaml"
OVERLAY = "overlay.yaml"


def one_dataset(name: str, **sections: Any) -> dict[str, Any]:
    """Overlay of a run over one dataset, both of this name."""
    source = {"kind": "amazon2014", "category": name.title(), "interactions": "ratings", "mirrors": ["."]}
    dataset = {"title": name.title(), "source": source, "k_core": 1, "split": "random", "split_seed": 1}
    return {"name": name, "run": {"datasets": [name]}, "datasets": {name: dataset}, **sections}


def write(overlay: dict[str, Any], folder: Path) -> Layout:
    """Write an overlay into the folder that a benchmark runs in."""
    files.write_text(folder / OVERLAY, yaml.safe_dump(overlay))
    return read(folder)


def read(folder: Path) -> Layout:
    """The layout of the config whose overlay lies in a folder; its paths are relative to that."""
    return Layout(config.load([SHIPPED, folder / OVERLAY]))
