"""What several sections of the page read."""

from __future__ import annotations

from typing import Any

from cliper import files
from cliper.config import GivenFeatures, MadeFeatures, decides
from cliper.layout import At


def read_runs(job: decides.Page, at: At) -> list[dict[str, Any]]:
    """run.json of each cell of Table 2, in their order."""
    paths = [(cell, at("run", **cell._asdict())) for cell in job.cells]
    return [
        files.read_json(path, made_by="train " + " ".join(f"--{k} {v}" for k, v in cell._asdict().items()))
        for cell, path in paths
    ]


def features_of(job: decides.Page) -> dict[str, dict[str, MadeFeatures | GivenFeatures]]:
    """How the features of each arm of the run were made: arm -> dataset -> how."""
    table = job.tables["table2"]
    assert isinstance(table, decides.Table2)
    return table.features


def read_weights(job: decides.Page, at: At) -> dict[str, dict[str, Any]]:
    """weights.json of each encoder that the run's arms use, by the encoder's name."""
    made = [each for arm in features_of(job).values() for each in arm.values() if isinstance(each, MadeFeatures)]
    names = dict.fromkeys(name for each in made for name in each.encoders)
    return {name: files.read_json(at("weights", encoder=name), made_by=f"weights --encoder {name}") for name in names}
