"""Where each result lies, for stages and rules.

    results/<name>/<stage>/…                  results of one run: its cells and tables
    results/shared/<stage>/<words>-<key>/…    results that all runs share, such as images and features

The words are the names of the job. The key is a hash of all settings that decide the result, including those of earlier
stages. So runs with the same settings share one result, and a run with other settings has its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cliper.config import CONTENT_FREE, Config, GivenFeatures, MadeFeatures
from cliper.config.decides import BUILDERS, deciding, figures_of, tables_of
from cliper.config.studies import base_of
from cliper.errors import ConfigError
from cliper.schemas import TABLES
from cliper.stages import SHARED, STAGES

RESULTS = Path("results")
FORMATS = ("csv", "md", "tex", "txt")  # of tables
DRAWN = ("svg", "pdf", "png", "csv")  # of figures
# stages that a split changes nothing for: a dataset with another split takes what its base has
OF_ITEMS = ("download", "crawl", "prompt", "encode-text", "encode-image", "fuse", "neighbours-items")
# likewise for encoders, and how long texts are encoded
OF_WEIGHTS = ("weights", "encode-image", "encode-default-image")
TEMPORARY = frozenset({"trial_state"})  # results that Snakemake deletes once all that read them are done
FILES = {  # result -> its maker and file: first those that are not tables
    "raw": ("download", "{file}"),
    "weights": ("weights", "weights.json"),
    "run": ("train", "run.json"),
    "trial_state": ("trial", "state.pt"),
    "selected": ("select", "selected.json"),
    "table": ("tabulate", "{table}.{format}"),
    "figure": ("plot", "{figure}.{format}"),
    "explored": ("explore", "explored.json"),
    "page": ("report", "index.html"),
} | {name: (table.maker, table.file) for name, table in TABLES.items()}


class Job(NamedTuple):
    """One job of a stage."""

    stage: str
    names: Mapping[str, Any]


class Part(NamedTuple):
    """One job of Snakemake's.

    within  which of the jobs of its place it is: its file, range, table or figure
    """

    stage: str
    names: Mapping[str, Any]
    within: Mapping[str, Any]

    @property
    def all_names(self) -> dict[str, Any]:
        """Those of its place and its own."""
        return {**self.names, **self.within}

    @property
    def words(self) -> str:
        """Its names, as they are shown."""
        return " ".join(map(str, self.all_names.values()))


class Layout:
    """The results of one config."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = RESULTS / config.name
        self._folders: dict[tuple[str, tuple[Any, ...]], str] = {}

    def path(self, result: str, **names: Any) -> Path:
        """Path of one result. Raises ConfigError for names that the config does not have."""
        stage, file = FILES[result]
        return self.folder(stage, **names) / file.format(**names)

    def folder(self, stage: str, **names: Any) -> Path:
        """Folder of a job's results."""
        return self.home(stage) / self.place(stage, **names)

    def home(self, stage: str) -> Path:
        """Folder of all results of a stage: the run's own, or the one that all runs share."""
        return RESULTS / SHARED if STAGES[stage].shared else self.root

    def log(self, stage: str, *parts: str) -> Path:
        """Log of a job: of its place, and of its file, range or table where several jobs have one place."""
        return Path(f"{self.home(stage).joinpath('logs', *parts)}.log")

    def benchmark(self, stage: str, *parts: str) -> Path:
        """Where Snakemake notes what a job took."""
        return Path(f"{self.home(stage).joinpath('benchmarks', *parts)}.tsv")

    def place(self, stage: str, **names: Any) -> str:
        """A job's folder below the stage's home."""
        job = (stage, tuple(names.get(name) for name in STAGES[stage].names if name != "file"))
        if job not in self._folders:
            self._folders[job] = self._place(stage, names)
        return self._folders[job]

    def _place(self, stage: str, names: Mapping[str, Any]) -> str:
        row = STAGES[stage]
        if row.folder is None:
            raise KeyError(stage)
        names = self._own(stage, names)
        if not row.shared:
            return row.folder.format(**names)
        words = row.folder.format(**names, features=self._words(names) if "{features}" in row.folder else "")
        return f"{words}-{self._key(stage, names)}"

    @staticmethod
    def _own(stage: str, names: Mapping[str, Any]) -> Mapping[str, Any]:
        """Names of the job with the bases of derived names where the stage does the same for both."""
        same = {"dataset": OF_ITEMS, "encoder": OF_WEIGHTS}
        return {name: base_of(value) if stage in same.get(name, ()) else value for name, value in names.items()}

    def _words(self, names: Mapping[str, Any]) -> str:
        """Words for features: how they are made, not the arm's name, since arms may share features."""
        made = self.config.features(names["dataset"], names["arm"])
        if isinstance(made, GivenFeatures):
            return "given"
        words = (*dict.fromkeys((made.image or "given", made.text)), made.prompts, made.fusion, made.control)
        return ".".join(filter(None, words))

    def _key(self, stage: str, names: Mapping[str, Any]) -> str:
        own = {name: value for name, value in names.items() if name in STAGES[stage].names and name != "file"}
        decided_by = [deciding(BUILDERS[stage](self.config, **own))]
        decided_by += [self.place(job.stage, **job.names) for job in self._before(stage, own)]
        return hashlib.sha256(json.dumps(decided_by).encode()).hexdigest()[:8]

    def _before(self, stage: str, names: Mapping[str, Any]) -> Iterator[Job]:
        """The shared jobs whose results a shared job reads."""
        of_dataset = {"dataset": names.get("dataset")}
        match stage:
            case "catalogue":
                yield Job("download", of_dataset)
            case "crawl" | "prompt" | "neighbours-users":
                yield Job("catalogue", of_dataset)
            case "encode-text":
                yield Job("prompt", names)
                yield Job("weights", names)
            case "encode-image":
                yield Job("crawl", of_dataset)
                yield Job("weights", names)
            case "encode-default-image":
                yield Job("weights", names)
            case "neighbours-items":
                yield Job("fuse", names)
            case "fuse":
                yield from self._before_fuse(**names)

    def _before_fuse(self, *, dataset: str, arm: str) -> Iterator[Job]:
        made = self.config.features(dataset, arm)
        if isinstance(made, GivenFeatures) or made.given:
            yield Job("catalogue", {"dataset": dataset})
        if isinstance(made, MadeFeatures):
            for view in made.views:
                names = {"dataset": dataset, "encoder": made.text, "prompts": made.prompts, "view": view}
                yield Job("encode-text", names)
            if made.image:
                yield Job("encode-image", {"dataset": dataset, "encoder": made.image})
            if made.missing_image == "default_image":
                yield Job("encode-default-image", {"encoder": made.image})

    def jobs(self) -> Iterator[Job]:
        """Every job of the run but those of tables and figures, in the line's order. A shared folder counts once."""
        seen = set[tuple[str, str, Any]]()
        for stage, names in self.named_jobs():
            key = (stage, self.place(stage, **names), names.get("file"))
            if key not in seen:
                seen.add(key)
                yield Job(stage, names)

    def named_jobs(self) -> Iterator[Job]:
        """The same by all their names: arms that share features have one folder."""
        for stage, more in self._all_jobs():
            yield Job(stage, {name: more[name] for name in STAGES[stage].names})

    def _all_jobs(self) -> Iterator[Job]:
        config = self.config
        used = dict.fromkeys((base_of(dataset), arm) for dataset, _, arm in config.trained if arm != CONTENT_FREE)
        features = [Job("fuse", {"dataset": dataset, "arm": arm}) for dataset, arm in used]
        before = [job for each in features for job in self._before(*each)]
        datasets = dict.fromkeys((*config.run.datasets, *(dataset for dataset, _, _ in config.trained)))
        for dataset in dict.fromkeys(map(base_of, datasets)):
            for file in dict.fromkeys(config.raw_files(dataset, config.arms_in_use)):
                yield Job("download", {"dataset": dataset, "file": file})
        yield from (Job("catalogue", {"dataset": dataset}) for dataset in datasets)
        encode = [job for job in before if job.stage.startswith("encode")]
        for stage in ("crawl", "prompt", "weights"):
            yield from (each for job in encode for each in self._before(*job) if each.stage == stage)
        yield from encode
        yield from features
        yield from self._graphs()
        yield from self._searches()
        for stage in ("train", "evaluate"):
            yield from (Job(stage, cell._asdict()) for cell in config.cells)
        compared = [each for table in self.tables for each in config.comparisons_of(table)]
        yield from (Job("compare", each._asdict()) for each in dict.fromkeys(compared))
        yield from (Job("explore", {"dataset": dataset}) for dataset in config.run.datasets)

    def _searches(self) -> Iterator[Job]:
        for dataset, backbone, arm in self.config.searches:
            names = {"dataset": dataset, "backbone": backbone, "arm": arm}
            slots = self.config.slots(dataset, backbone, arm)
            yield from (Job("trial", {**names, "rung": rung, "slot": slot}) for rung, slot in slots)
            yield Job("select", names)
            yield Job("hindsight", names)

    def _graphs(self) -> Iterator[Job]:
        for dataset, backbone, arm in self.config.trained:
            settings = self.config.backbone(backbone).settings
            if settings.uses_item_graph:
                yield Job("neighbours-items", {"dataset": base_of(dataset), "arm": arm})
            if settings.uses_user_graph:
                yield Job("neighbours-users", {"dataset": dataset})

    def parts(self) -> Iterator[Part]:
        """Every job of the run as Snakemake runs them: also those of files, ranges, tables, figures, and the page."""
        for stage, names in self.jobs():
            if "range" in STAGES[stage].options:
                yield from (Part(stage, names, {"range": n}) for n in range(self.config.encode.ranges))
            else:
                yield Part(stage, names, {name: value for name, value in names.items() if name == "file"})
        yield from (Part("tabulate", {}, {"table": table}) for table in self.tables)
        yield from (Part("plot", {}, {"figure": figure}) for figure in self.figures)
        yield Part("report", {}, {})

    def benchmark_of(self, part: Part) -> Path:
        """The benchmark file of one job of `parts`."""
        return self.benchmark(part.stage, *self._folders_of(part))

    def log_of(self, part: Part) -> Path:
        """Likewise its log."""
        return self.log(part.stage, *self._folders_of(part))

    def _folders_of(self, part: Part) -> list[str]:
        return [self.place(part.stage, **part.names), *map(str, part.within.values())]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the run's tables."""
        return tables_of(self.config)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the run's figures."""
        return figures_of(self.config)

    def names_of(self, stage: str, place: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Names of the run's job in a folder, but that of a file.

        given  names that are known already, or None

        Raises ConfigError if the run has no job there, or none of these names.
        """
        found = [names for each, names in self.named_jobs() if each == stage and self.place(stage, **names) == place]
        if not found:
            raise ConfigError(f"this config has no job of {stage} in {place}")
        for names in found:
            if all(given.get(name) in (None, value) for name, value in names.items()):
                return {name: value for name, value in names.items() if name != "file"}
        raise ConfigError(f"{place} is the job {' '.join(f'--{name} {value}' for name, value in found[0].items())}")


class At:
    """Paths of the results that a job reads and writes: `at("items")`."""

    def __init__(self, layout: Layout, names: Mapping[str, Any]) -> None:
        self._layout, self.names = layout, names

    def __call__(self, result: str, **more: Any) -> Path:
        return self._layout.path(result, **{**self.names, **more})

    def benchmarks(self) -> Iterator[tuple[Part, Path]]:
        """Every job of the run, and its benchmark file, which may be missing."""
        return ((part, self._layout.benchmark_of(part)) for part in self._layout.parts())

    def ranges(self, result: str, n_ranges: int, **more: Any) -> list[Path]:
        """All ranges of text_embeddings or image_embeddings."""
        return [self(result, range=number, ranges=n_ranges, **more) for number in range(n_ranges)]
