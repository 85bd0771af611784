"""Parts of the report that need no run: what is vendored."""

from __future__ import annotations

import hashlib
import json

from cliper import resources
from cliper.report.pages.rendering import FOLDER, UPLOT


def test_uplot_is_the_published_one_and_nothing_else_is_vendored() -> None:
    folder = resources.place(FOLDER) / UPLOT
    origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["origin.json"]
    assert found == origin["files"]
    assert (origin["package"], origin["licence"]) == ("uplot", "MIT")
    assert [path.name for path in folder.parent.iterdir()] == ["uplot"]
