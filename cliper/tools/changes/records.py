"""Snakemake's records of the jobs that made results: `.snakemake/metadata`, one JSON file a result.

In:   the records, written by Snakemake 9 (snakemake/persistence/file.py): rule, input, params as reprs, sha256 of small
      inputs, times
Out:  what they say, in our words. Snakemake itself is not imported
"""

from __future__ import annotations

import ast
import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(".snakemake")
VERSION = 6  # of records; those of earlier ones have no params that can be compared
LONGEST = 254  # characters of a file's name, as Snakemake cuts it on Linux


class Record(NamedTuple):
    """How a result was made.

    reads      paths of the job's inputs, sorted
    params     of the job as Snakemake compares them: sorted reprs
    checksums  algorithm:digest by path, of inputs below 1 MB
    made_at    seconds since 1970
    """

    rule: str
    reads: list[str]
    params: list[str]
    checksums: dict[str, str | None]
    made_at: float
    version: int

    @property
    def settings(self) -> Any:
        """The settings that decided the result; None if the job has none."""
        return next((value for value in map(_value, self.params) if isinstance(value, dict)), None)

    @property
    def code(self) -> str | None:
        """The id of the code that made it; None if the job has none."""
        return next((value for value in map(_value, self.params) if isinstance(value, str)), None)


def read(path: str) -> Record | None:
    """The record of a result; None if there is none that can be read."""
    try:
        raw = json.loads(_place("metadata", path).read_bytes())
        return Record(
            str(raw["rule"]),
            [str(each) for each in raw["input"]],
            [str(each) for each in raw["params"]],
            dict(raw.get("input_checksums") or {}),
            float(raw.get("endtime") or 0),
            int(raw["record_format_version"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_unfinished(path: str) -> bool:
    """Whether the job that writes a result was stopped, or runs now."""
    return _place("incomplete", path).exists()


def as_params(*values: Any) -> list[str]:
    """Values of a rule's params as Snakemake writes them into a record."""
    return sorted(repr(value) for value in values if value is not None)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _place(kind: str, path: str) -> Path:
    """Where Snakemake writes its record of a result: a name that is too long becomes folders."""
    name = urlsafe_b64encode(os.fsencode(path)).decode()
    parts = [name[at : at + LONGEST] for at in range(0, len(name), LONGEST)]
    return FOLDER.joinpath(kind, *(f"@{part}" for part in parts[:-1]), parts[-1])
