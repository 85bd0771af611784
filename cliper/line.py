"""The jobs of a run with their arrows: what each one reads and writes, and what decides its results.

The rules take their inputs and params from here. So do the tools that say what would run and why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import product, takewhile
from pathlib import Path
from typing import Any

from cliper.codeid import code_id
from cliper.config import CONTENT_FREE, Cell, GivenFeatures, MadeFeatures, is_url
from cliper.config.decides import BUILDERS, Curves, Ranks, Study, deciding
from cliper.layout import DRAWN, FILES, FORMATS, Layout, Part

MODALITIES = ("image", "text")
FORMS = {"table": FORMATS, "figure": DRAWN}
OPEN_NAMES = ("{shard}", "{content}")  # in names of results of which a job may have any number


class Line:
    """The jobs of one run. All paths are relative to the folder that has `results/`."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self._config = layout, layout.config
        self._reads: dict[str, Callable[..., Iterable[str]]] = {
            "download": self._own_file,
            "catalogue": self.raw_files,
            "crawl": self._crawled_of,
            "prompt": lambda dataset, **_: self._tables(dataset, "items"),
            "weights": self._own_weights,
            "encode-text": self._encoded_text_of,
            "encode-image": self._encoded_images_of,
            "encode-default-image": self._weights_of,
            "fuse": self._fused_of,
            "neighbours-items": lambda **names: [self.path("features", **names)],
            "neighbours-users": lambda dataset, **_: self._tables(dataset, "users", "train"),
            "trial": lambda **names: [*self._trained_of(**names), *self._rung_before(**names)],
            "select": lambda **names: self._slots(["trial"], **names),
            "train": lambda **names: [*self._trained_of(**names), *self._selected_of(**names)],
            "evaluate": lambda **names: [self.path("topk", **names), *self._tables(names["dataset"], "valid", "test")],
            "hindsight": self._in_hindsight,
            "compare": self._compared_of,
            "tabulate": self._numbers_of,
            "plot": self._drawn_of,
            "explore": self._explored_of,
            "report": self._reported_of,
        }

    def reads(self, part: Part) -> list[str]:
        """Paths of all that a job reads."""
        return list(self._reads[part.stage](**part.all_names))

    def writes(self, part: Part) -> dict[str, str]:
        """Paths of a job's results, and what each of them is; without those of which there may be any number."""
        known = {"ranges": self._config.encode.ranges, **part.all_names}
        found = {
            self.path(name, **known, modality=modality, format=form): name
            for name, (maker, file) in FILES.items()
            if maker == part.stage and not any(open_name in file for open_name in OPEN_NAMES)
            for modality, form in product(MODALITIES, FORMS.get(name, ("",)))
        }
        if part.stage == "select":
            found[f"{self.layout.folder('select', **part.names).as_posix()}.yaml"] = "selected"
        return found

    def decides(self, part: Part) -> Any:
        """All settings that decide a job's results, as plain mappings and lists; None where nothing is compared."""
        if part.stage == "download":  # the bytes of a file do not depend on how it was fetched
            return None
        return deciding(BUILDERS[part.stage](self._config, **part.all_names))

    def code(self, part: Part) -> str | None:
        """The id of the code that decides a job's results; None where nothing is compared."""
        stage, names, config = part.stage, part.names, self._config
        match stage:
            case "download":
                return None
            case "catalogue":
                return code_id(stage, config.dataset(names["dataset"]).source.place)
            case "weights" | "encode-text" | "encode-image" | "encode-default-image":
                return code_id(stage, config.encoder(names["encoder"]).place)
            case "trial" | "train":
                return code_id(stage, config.backbone(names["backbone"]).place)
        return code_id(stage)

    def targets(self) -> list[str]:
        """The files of the target `paper`: all tables and figures, and the page."""
        tables = [path for name in self.layout.tables for path in self.forms_of("table", name)]
        figures = [path for name in self.layout.figures for path in self.forms_of("figure", name)]
        return [*tables, *figures, self.path("page")]

    def target(self, name: str) -> list[str]:
        """The run's table and figure of a name, as far as it has them."""
        kinds = {"table": self.layout.tables, "figure": self.layout.figures}
        return [path for kind, names in kinds.items() if name in names for path in self.forms_of(kind, name)]

    def forms_of(self, kind: str, name: str) -> list[str]:
        """A table or a figure in all its forms."""
        return [self.path(kind, format=form, **{kind: name}) for form in FORMS[kind]]

    def path(self, result: str, **names: Any) -> str:
        """Path of one result."""
        return self.layout.path(result, **names).as_posix()

    def raw_files(self, dataset: str, files: Iterable[str] | None = None, **_: Any) -> list[str]:
        """Some raw files of a dataset; by default, those that its catalogue is made of."""
        files = files or self._config.dataset(dataset).source.settings.files.values()
        return [self.path("raw", dataset=dataset, file=file) for file in files]

    def ranges_of(self, name: str, **names: Any) -> list[str]:
        """All ranges of the embeddings of a view, or of images."""
        n_ranges = self._config.encode.ranges
        return [self.path(name, range=n, ranges=n_ranges, **names) for n in range(n_ranges)]

    def graphs_of(self, dataset: str, backbone: str, arm: str, **_: Any) -> list[str]:
        """Neighbours that a cell's backbone reads."""
        settings, found = self._config.backbone(backbone).settings, list[str]()
        if settings.uses_item_graph:
            found += [self.path("item_neighbours", dataset=dataset, arm=arm, modality=each) for each in MODALITIES]
        if settings.uses_user_graph:
            found.append(self.path("user_neighbours", dataset=dataset))
        return found

    def _tables(self, dataset: str, *names: str) -> list[str]:
        """Tables of a dataset."""
        return [self.path(name, dataset=dataset) for name in names]

    def _cells(self, name: str, cells: Iterable[Cell]) -> list[str]:
        """One result of each of some cells."""
        return [self.path(name, **cell._asdict()) for cell in cells]

    def _own_file(self, dataset: str, file: str) -> list[str]:
        """The raw file in the first local folder that has it, since it may change; [] if it is fetched from a URL.

        Once copied, it stays an input even if its folder is gone: Snakemake then keeps the copy.
        """
        mirrors = self._config.dataset(dataset).source.settings.mirrors or ()
        folders = takewhile(lambda mirror: not is_url(mirror), mirrors)
        paths = [Path(folder).expanduser() / file for folder in folders]
        is_taken = self.layout.path("raw", dataset=dataset, file=file).is_file()
        found = [own for own in paths if own.is_file()] or (paths if is_taken else [])
        return [str(own) for own in found[:1]]

    def _own_weights(self, encoder: str) -> list[str]:
        """The file or folder that an encoder's weights are made of, as it may change; [] where there is none here."""
        origin = self._config.encoder(encoder).settings.origin
        if origin is None or is_url(origin):
            return []
        own, is_made = Path(origin).expanduser(), self.layout.path("weights", encoder=encoder).is_file()
        return [str(own)] if own.exists() or is_made else []

    def _crawled_of(self, dataset: str) -> list[str]:
        """The items, and the folders of their own images.

        The times of folders change when files are added or removed. None if the images are fetched.
        """
        items = self._tables(dataset, "items")
        if not (name := self._config.dataset(dataset).image_folder):
            return items
        folder = Path(name).expanduser()
        return items + (sorted(where for where, _, _ in os.walk(folder)) or [str(folder)])

    def _weights_of(self, encoder: str, **_: Any) -> list[str]:
        return [self.path("weights", encoder=encoder)]

    def _encoded_text_of(self, encoder: str, **names: Any) -> list[str]:
        return [self.path("prompts", **names), *self._weights_of(encoder)]

    def _encoded_images_of(self, dataset: str, encoder: str, **_: Any) -> list[str]:
        return [self.path("images", dataset=dataset), *self._weights_of(encoder)]

    def _fused_of(self, dataset: str, arm: str) -> list[str]:
        """What an arm's features are made of, image and text; the items of given ones; the picture for missing ones."""
        made = self._config.features(dataset, arm)
        if isinstance(made, GivenFeatures):  # the items: given rows belong to their numbers or ids
            return [*self.raw_files(dataset, [made.image, made.text]), *self._tables(dataset, "items")]
        if made.given:
            image = self.raw_files(dataset, [made.given])
        else:
            image = self.ranges_of("image_embeddings", dataset=dataset, encoder=made.image)
        found = image + [path for view in made.views for path in self._view_of(dataset, made, view)]
        if made.given:
            found += self._tables(dataset, "items")
        if made.missing_image == "default_image":
            found.append(self.path("default_image", encoder=made.image))
        return found

    def _view_of(self, dataset: str, made: MadeFeatures, view: str) -> list[str]:
        names = {"dataset": dataset, "encoder": made.text, "prompts": made.prompts, "view": view}
        return self.ranges_of("text_embeddings", **names)

    def _trained_of(self, dataset: str, backbone: str, arm: str, **_: Any) -> Iterator[str]:
        """What a cell trains on: its split, never the test's; features and neighbours, if its backbone reads them."""
        yield from self._tables(dataset, "users", "items", "train", "valid")
        if self._config.backbone(backbone).settings.uses_features:
            yield self.path("features", dataset=dataset, arm=arm)
        yield from self.graphs_of(dataset, backbone, arm)

    def _slots(self, kinds: Iterable[str], rungs: list[int] | None = None, **names: Any) -> list[str]:
        """Results of all slots of a search, or of some of its rungs."""
        return [
            self.path(kind, rung=rung, slot=slot, **names)
            for rung, slot in self._config.slots(**names)
            if rungs is None or rung in rungs
            for kind in kinds
        ]

    def _rung_before(self, rung: int, slot: int, **names: Any) -> list[str]:
        """What a slot of a search may continue: results and states of the rung before."""
        return self._slots(["trial", "trial_state"], [rung - 1], **names)

    def _selected_of(self, dataset: str, backbone: str, arm: str, **_: Any) -> list[str]:
        """The settings that a search has chosen for a cell."""
        chosen = self._config.searched(dataset, backbone, arm)
        return [self.path("selected", backbone=backbone, dataset=chosen.dataset, arm=chosen.arm)] if chosen else []

    def _in_hindsight(self, **names: Any) -> list[str]:
        return self._slots(["trial", "trial_topk"], **names) + self._tables(names["dataset"], "valid", "test")

    def _compared_of(self, **names: Any) -> list[str]:
        """User metrics of all runs of the two arms."""
        job = BUILDERS["compare"](self._config, **names)
        return self._cells("user_metrics", job.runs + job.base_runs)

    def _numbers_of(self, table: str) -> list[str]:
        """What a table is made of: the counts of the datasets, or the metrics of cells and their comparisons."""
        job = BUILDERS["tabulate"](self._config, table=table)
        if table == "table1":
            return [self.path("counts", dataset=dataset) for dataset in self._config.run.datasets]
        if table == "search":
            return self._every("select", "trials") + self._every("hindsight", "hindsight")
        read = self._cells("metrics", job.cells)
        read += [self.path("comparison", **each._asdict()) for each in job.comparisons]
        if isinstance(job, Study):
            return read
        return read + [self.path("test", dataset=dataset) for dataset in job.titles]

    def _drawn_of(self, figure: str) -> list[str]:
        """What a figure is made of."""
        job: Study | Ranks | Curves = BUILDERS["plot"](self._config, figure=figure)
        if isinstance(job, Study):
            return [self.path("table", table=job.name, format="csv")]
        if isinstance(job, Ranks):
            weights = [self.path("view_weights", dataset=dataset, arm=arm) for dataset, arm in job.weighted]
            return weights + self._cells("metrics", job.cells)
        if job.figure == "curves":
            return self._cells("history", job.cells)
        kinds = ("train", "test", "items", *["valid"] * job.mask_valid)
        return self._cells("topk", job.cells) + [path for each in job.titles for path in self._tables(each, *kinds)]

    def _explored_of(self, dataset: str) -> list[str]:
        """What is shown of a dataset: its items and users, what the arms were made of, and the lists of one seed."""
        job = BUILDERS["explore"](self._config, dataset=dataset)
        made = {arm: each for arm, each in job.arms.items() if isinstance(each, MadeFeatures)}
        texts = dict.fromkeys((each.text, each.prompts, view) for each in made.values() for view in each.views)
        kinds = ("items", "users", "train", "test", *["valid"] * job.mask_valid, *["images"] * job.is_crawled)
        found = self._tables(dataset, *kinds)
        found += [self.path("features", dataset=dataset, arm=arm) for arm in job.arms]
        found += [self.path("view_weights", dataset=dataset, arm=arm) for arm in made]
        for encoder, prompts, view in texts:
            names = {"dataset": dataset, "prompts": prompts, "view": view}
            found += [self.path("prompts", **names), *self.ranges_of("text_embeddings", encoder=encoder, **names)]
        found += [self.path("weights", encoder=encoder) for encoder in job.encoders]
        return list(dict.fromkeys(found + self._cells("topk", job.cells)))

    def _reported_of(self) -> list[str]:
        """What the page is made of, all that it shows of the run."""
        cells, datasets = BUILDERS["tabulate"](self._config, table="table2_fair").cells, self._config.run.datasets
        read = [path for name in ("metrics", "history", "run") for path in self._cells(name, cells)]
        read += [path for dataset in datasets for path in self._tables(dataset, "train", "valid", "test")]
        trained = dict.fromkeys((cell.dataset, cell.arm) for cell in cells if cell.arm != CONTENT_FREE)
        read += [self.path("features", dataset=dataset, arm=arm) for dataset, arm in trained]
        return self.targets()[:-1] + read + self._described_of() + self._every("explore", "explored")

    def _described_of(self) -> list[str]:
        """What the page says of the data: sizes, images, texts, what is missing, the encoders."""
        job = BUILDERS["report"](self._config)
        found = [path for dataset in job.titles for path in self._tables(dataset, "counts", "items")]
        found += [self.path("images", dataset=dataset) for dataset in job.crawled]
        for arm, by_dataset in job.tables["table2"].features.items():
            for dataset, made in by_dataset.items():
                names = {"dataset": dataset, "arm": arm}
                found.append(self.path("fallbacks", **names))
                if isinstance(made, MadeFeatures):
                    found.append(self.path("token_report", **names))
                    found += [self.path("weights", encoder=name) for name in made.encoders]
                    texts = {"dataset": dataset, "prompts": made.prompts}
                    found += [self.path("cleaning", view=view, **texts) for view in made.views]
        return list(dict.fromkeys(found))

    def _every(self, stage: str, name: str) -> list[str]:
        """One result of each of a stage's jobs."""
        return [self.path(name, **job.names) for job in self.layout.jobs() if job.stage == stage]
