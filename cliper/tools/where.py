"""List the folders of a run's results, one line per job, in the order of the stages.

In:   the config
Out:  lines on standard output: stage, names of the job, folder

The name of a folder below results/shared/ ends in a key of the settings that decide its results. This command shows
which folders belong to this run.
"""

from __future__ import annotations

from cliper import log
from cliper.errors import ConfigError, unknown
from cliper.layout import Layout


def run(layout: Layout, *, dataset: str | None, arm: str | None) -> None:
    """Print the folders, of one dataset or arm where it is named. Raises ConfigError if the run has none such."""
    jobs = list(layout.named_jobs())
    for kind, name in (("dataset", dataset), ("arm", arm)):
        known = dict.fromkeys(names[kind] for _, names in jobs if kind in names)
        if name is not None and name not in known:
            raise ConfigError(unknown(f"{kind} of the run", name, known))
    shown = dict[str, None]()
    for stage, names in jobs:
        is_asked = all(asked in (None, names.get(key, asked)) for key, asked in (("dataset", dataset), ("arm", arm)))
        if is_asked:
            words = " ".join(str(value) for key, value in names.items() if key != "file")
            shown[f"{stage:17} {words}: {layout.folder(stage, **names)}"] = None
    log.show(shown)
