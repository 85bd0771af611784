"""How to repeat the run, and how to cite it: the exact commands, the config, the versions."""

from __future__ import annotations

from cliper.config import decides
from cliper.layout import At
from cliper.report.pages.rendering import Section


def section(job: decides.Page, at: At) -> Section:
    """Commands, config, versions."""
    del at
    return Section("repeat", "Repeat and cite", {"config": job.config})
