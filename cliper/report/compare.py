"""The stage compare: written on another branch."""

from __future__ import annotations

from typing import Any

from cliper.layout import At


def run(job: Any, at: At) -> None:
    """See there."""
    raise NotImplementedError
