"""The settings that each stage gets: one typed value, made from the config and the names of a job.

A rule's params are `deciding(value)`: the value without the fields marked `HOW`, which do not change results. Nothing
else of the config reaches a stage, so no other setting can change its results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from operator import itemgetter
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel

from cliper import resources
from cliper.collect.sources.base_settings import SourceSettings
from cliper.config import collect, models, report
from cliper.config.features import BareArm, JoinedView, View
from cliper.config.studies import Comparison, Variation, base_of
from cliper.config.tuning import CellSettings, change, without_d
from cliper.config.whole import CONTENT_FREE, Cell, Config, GivenFeatures, MadeFeatures, Searched, cells_of
from cliper.errors import ConfigError, unknown
from cliper.features.encoders.base_settings import EncoderSettings
from cliper.features.fusion.rows import FUSIONS
from cliper.models.backbones.base_settings import BackboneSettings
from cliper.settings import HOW, plain
from cliper.variants import Variant


@dataclass(frozen=True, slots=True)
class Download:
    """Where a raw file is, and how it is fetched."""

    kind: str  # of the source
    mirrors: tuple[str, ...] | None  # the config's; None: those of data/sources.csv
    how: Annotated[collect.Download, HOW]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """How raw files are read, filtered and split."""

    source: Variant[SourceSettings]  # without its mirrors and given features
    split: str
    min_rating: float | None
    k_core: int | None
    split_seed: int | None
    drop_items_without_metadata: bool


@dataclass(frozen=True, slots=True)
class Crawl:
    """Which images are kept, and how they are fetched."""

    crawl: collect.Crawl
    image_folder: str | None
    placeholders: tuple[str, ...]  # parts of URLs that mean "no image"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The templates of a view, and of the views that it joins."""

    views: dict[str, View]
    noise: tuple[str, ...]  # values that mean "no value"


@dataclass(frozen=True, slots=True)
class Weights:
    """Which encoder's weights are prepared."""

    encoder: Variant[EncoderSettings]
    packages: dict[str, Any]  # pins of the packages that hold its weights
    threads: int
    kernels: str


@dataclass(frozen=True, slots=True)
class EncodeText:
    """How one view's prompts are encoded."""

    encoder: Variant[EncoderSettings]
    batch_tokens: int
    threads: int
    kernels: str
    device: str
    precision: str
    overflow: str
    slice_prefix: str
    ranges: Annotated[int, HOW]
    store: Annotated[str | None, HOW]


@dataclass(frozen=True, slots=True)
class EncodeImage:
    """How images are encoded."""

    encoder: Variant[EncoderSettings]
    picture: str | None  # sha256 of the default image, where that is encoded
    batch_size: int
    threads: int
    kernels: str
    device: str
    precision: str
    ranges: Annotated[int, HOW]
    store: Annotated[str | None, HOW]


@dataclass(frozen=True, slots=True)
class Fuse:
    """What an arm's features are made of."""

    features: MadeFeatures | GivenFeatures
    kinds: dict[str, str]  # encoder -> its kind, for the record
    ranges: Annotated[int, HOW]


@dataclass(frozen=True, slots=True)
class NeighboursItems:
    """How many closest items are found, and whether filled rows may be among them."""

    n_neighbours: int
    behaviour: str
    threads: int
    kernels: str


@dataclass(frozen=True, slots=True)
class NeighboursUsers:
    """How many users are found who share items."""

    n_neighbours: int


@dataclass(frozen=True, slots=True)
class Train:
    """How a cell is trained, and how many items it ranks."""

    backbone: Variant[BackboneSettings]
    d: int
    train: models.Train
    kernels: str
    top: int  # items ranked for a user: the largest cutoff
    mask_valid: bool  # rank more items, so that evaluate can leave validation items out
    drops_items: bool  # leave items without an image of their own out
    n_learned_views: int | None  # views whose vectors, joined, pass through a learned layer (fusion mlp)
    searched: Searched | None  # takes the settings that select chose in place of these


@dataclass(frozen=True, slots=True)
class Trial:
    """Which trial of a search a slot trains, and how far."""

    cell: Train  # without the trial's settings
    seed: int
    settings: dict[str, Any] | None  # the trial's, flat; None: the slot continues a trial of the rung before
    n_before: int  # slots of that rung
    until: int | None  # last epoch of the rung; None: training's own end


@dataclass(frozen=True, slots=True)
class Select:
    """The trials among which the settings are chosen."""

    seed: int
    slots: tuple[tuple[int, int], ...]  # rung and number of each


@dataclass(frozen=True, slots=True)
class Hindsight:
    """The trials that are measured on test, for no choice."""

    slots: tuple[tuple[int, int], ...]  # as of Select
    mask_valid: bool


@dataclass(frozen=True, slots=True)
class Evaluate:
    """The cutoffs of the metrics."""

    cutoffs: tuple[int, ...]
    mask_valid: bool


@dataclass(frozen=True, slots=True)
class Table1:
    """Which datasets are counted."""

    titles: dict[str, str]  # dataset -> title
    paper: str  # sha256 of the numbers that the paper printed


@dataclass(frozen=True, slots=True)
class Table2:
    """Which cells are shown, and the notes on them."""

    titles: dict[str, str]  # dataset -> title
    backbones: dict[str, str]  # backbone -> title
    widths: dict[str, int]  # arm -> d
    features: dict[str, dict[str, MadeFeatures | GivenFeatures]]  # arm -> dataset -> how they were made
    stand_ins: tuple[str, ...]  # notes on encoders that replace the paper's
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    shown: report.Tabulate
    mask_valid: bool
    paper: str  # as of Table1
    published: str  # likewise of other people's numbers


@dataclass(frozen=True, slots=True)
class Study:
    """What a study's table and figure show."""

    name: str
    title: str
    titles: dict[str, str]  # dataset -> title
    backbones: dict[str, str]  # backbone -> title
    variations: tuple[Variation, ...]  # of each dataset and backbone the base, then the others
    seeds: tuple[int, ...]
    comparisons: tuple[Comparison, ...]
    shown: report.Tabulate
    paper: tuple[str, ...]  # sha256 of the numbers that the paper printed

    @property
    def cells(self) -> list[Cell]:
        """All its cells."""
        return cells_of(self.variations, self.seeds)


@dataclass(frozen=True, slots=True)
class Trials:
    """The searches whose trials are shown."""

    titles: dict[str, str]  # dataset -> title
    backbones: dict[str, str]  # backbone -> title
    searches: tuple[tuple[str, str, str], ...]  # dataset, backbone, arm
    seed: int


@dataclass(frozen=True, slots=True)
class Ranks:
    """Figure 5: the ranks of an arm's views."""

    titles: dict[str, str]  # dataset -> title
    weighted: tuple[tuple[str, str], ...]  # dataset, arm
    drops: tuple[Variation, ...]  # of a study that leaves views of such an arm out, with its base; or none
    seeds: tuple[int, ...]

    @property
    def cells(self) -> list[Cell]:
        """Those of `drops`."""
        return cells_of(self.drops, self.seeds)


@dataclass(frozen=True, slots=True)
class Curves:
    """A figure of all cells of Table 2."""

    figure: str
    titles: dict[str, str]  # dataset -> title
    backbones: dict[str, str]  # backbone -> title
    cells: tuple[Cell, ...]
    mask_valid: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """Runs of two arms, in pairs of the same split and seed; the dataset's own split first."""

    runs: tuple[Cell, ...]
    base_runs: tuple[Cell, ...]
    metrics: tuple[str, ...]
    cutoffs: tuple[int, ...]
    resamples: int


@dataclass(frozen=True, slots=True)
class Explore:
    """Which items, users and lists of a dataset are shown, and what these were made with."""

    title: str  # of the dataset
    explore: report.Explore
    arms: dict[str, MadeFeatures | GivenFeatures]  # the run's, with features of this dataset
    encoders: dict[str, Variant[EncoderSettings]]  # those that read the texts of these arms
    cells: tuple[Cell, ...]  # those whose lists are shown: every backbone and arm of the run, first seed
    mask_valid: bool
    is_crawled: bool  # whether there are images
    ranges: Annotated[int, HOW]


@dataclass(frozen=True, slots=True, eq=False)  # a page is itself: its tables are kept under it
class Page:
    """What the report shows of a run."""

    name: str
    titles: dict[str, str]  # dataset -> title
    backbones: dict[str, str]  # backbone -> title
    arms: dict[str, int]  # the run's -> d
    widened: dict[str, str]  # arm of Table 2 at equal widths -> the run's arm that it is at another width, or itself
    tables: dict[str, Table1 | Table2 | Study | Trials]
    figures: dict[str, Study | Ranks | Curves]
    cells: tuple[Cell, ...]  # the run's, those of Table 2
    meanings: dict[str, dict[str, str]]  # backbone -> setting of its cells -> what it says
    crawled: tuple[str, ...]  # datasets with images
    catalogues: dict[str, Catalogue]  # dataset -> how it was read, filtered and split
    n_splits: dict[str, int]  # dataset -> splits on which its cells are run, its own among them
    config: dict[str, Any]  # the whole of it


TITLES = {  # of tables and figures that belong to no study
    "table1": "Datasets",
    "table2": "Backbones and arms",
    "table2_fair": "Backbones and arms at each width d",
    "search": "Searched settings",
    "fig5": "Which view is closest to the image",
    "popularity": "Popular and rare items",
    "curves": "Training",
}
FIGURES = ("fig5", "popularity", "curves")  # those that belong to no study


def of_download(config: Config, *, dataset: str, file: str | None = None) -> Download:
    """Raises ConfigError if the dataset has no such file."""
    chosen = config.dataset(dataset)
    if file is not None and file not in (known := config.raw_files(dataset, config.arms)):
        raise ConfigError(unknown(f"file of {dataset}", file, known))
    return Download(chosen.source.kind, chosen.source.settings.mirrors, config.download)


def of_catalogue(config: Config, *, dataset: str) -> Catalogue:
    """The settings of a dataset that decide its users, items and splits."""
    chosen = config.dataset(dataset)
    settings = chosen.source.settings
    dropped = {"mirrors", "features"} & type(settings).model_fields.keys()
    settings = settings.model_copy(update=dict.fromkeys(dropped))
    split = chosen.split or "given"
    return Catalogue(
        chosen.source._replace(settings=settings),
        split,
        chosen.min_rating,
        chosen.k_core,
        chosen.split_seed,
        bool(chosen.drop_items_without_metadata),
    )


def of_crawl(config: Config, *, dataset: str) -> Crawl:
    return Crawl(config.crawl, config.dataset(dataset).image_folder, tuple(resources.placeholders()))


def of_prompt(config: Config, *, dataset: str, prompts: str, view: str) -> Prompt:
    config.dataset(dataset)
    config.view(prompts, view)
    views = dict(_with_parts(config.prompt_set(prompts), view))
    texts = {name: template.model_copy(update={"slice_prefix": None}) for name, template in views.items()}
    return Prompt(texts, tuple(resources.noise_values()))


def _with_parts(views: Mapping[str, View], view: str) -> list[tuple[str, View]]:
    """A view, and those that it joins."""
    template = views[view]
    parts = template.views if isinstance(template, JoinedView) else ()
    return [(view, template), *(pair for part in parts for pair in _with_parts(views, part))]


def of_weights(config: Config, *, encoder: str) -> Weights:
    chosen = _without_overflow(config.encoder(encoder))
    return Weights(chosen, resources.packages(chosen.settings.packages), config.encode.threads, config.kernels)


def _without_overflow(encoder: Variant[EncoderSettings]) -> Variant[EncoderSettings]:
    return encoder._replace(settings=encoder.settings.model_copy(update={"overflow": None}))


def of_encode_text(config: Config, *, dataset: str, encoder: str, prompts: str, view: str, **_: Any) -> EncodeText:
    config.dataset(dataset)
    how, chosen, template = config.encode, config.encoder(encoder), config.view(prompts, view)
    prefix = template.prompt.partition("___")[0] if template.slice_prefix is None else template.slice_prefix
    return EncodeText(
        encoder=_without_overflow(chosen),
        batch_tokens=how.batch_tokens,
        threads=how.threads,
        kernels=config.kernels,
        device=how.device,
        precision=how.precision,
        overflow=chosen.settings.overflow or how.overflow,
        slice_prefix=prefix,
        ranges=how.ranges,
        store=how.store,
    )


def of_encode_image(config: Config, *, encoder: str, dataset: str | None = None, **_: Any) -> EncodeImage:
    how = config.encode
    if dataset is not None:
        config.dataset(dataset)
    return EncodeImage(
        encoder=_without_overflow(config.encoder(encoder)),
        picture=None if dataset else resources.sha256("default_image.png"),
        batch_size=how.batch_size,
        threads=how.threads,
        kernels=config.kernels,
        device=how.device,
        precision=how.precision,
        ranges=how.ranges,
        store=how.store,
    )


def of_fuse(config: Config, *, dataset: str, arm: str) -> Fuse:
    chosen = config.features(dataset, arm)
    encoders = chosen.encoders if isinstance(chosen, MadeFeatures) else ()
    return Fuse(chosen, {name: config.encoder(name).kind for name in encoders}, config.encode.ranges)


def of_neighbours_items(config: Config, *, dataset: str, arm: str) -> NeighboursItems:
    config.features(dataset, arm)
    return NeighboursItems(config.neighbours.items, config.train.behaviour, config.train.threads, config.kernels)


def of_neighbours_users(config: Config, *, dataset: str) -> NeighboursUsers:
    config.dataset(dataset)
    return NeighboursUsers(config.neighbours.users)


def of_train(config: Config, *, dataset: str, backbone: str, arm: str, seed: int) -> Train:
    """Raises ConfigError if the backbone does not run with the arm."""
    chosen, d, train = config.cell_settings(dataset, backbone, arm)
    uses_features = chosen.settings.uses_features
    if uses_features == (arm == CONTENT_FREE):
        wanted = "an arm with features" if uses_features else f"the arm {CONTENT_FREE}"
        raise ConfigError(f"backbone {backbone} does not run with arm {arm!r}; give it {wanted}")
    features = config.features(dataset, arm) if uses_features else None
    made = features if isinstance(features, MadeFeatures) else None
    return Train(
        backbone=chosen,
        d=d,
        train=train,
        kernels=config.kernels,
        top=max(config.evaluate.cutoffs),
        mask_valid=config.evaluate.mask_valid,
        drops_items=made is not None and made.missing_image == "drop_item",
        n_learned_views=len(made.views) if made and FUSIONS[made.fusion].is_learned else None,
        searched=config.searched(dataset, backbone, arm),
    )


def with_settings(job: Train, flat: Mapping[str, Any]) -> Train:
    """A cell with other settings, by flat keys; its d stays if its arm has another than the one that was searched."""
    taken = without_d(flat) if job.searched is not None and job.searched.keeps_d else flat
    return replace(job, **change(CellSettings(job.backbone, job.d, job.train), taken)._asdict())


def of_trial(config: Config, *, dataset: str, backbone: str, arm: str, rung: int, slot: int) -> Trial:
    """Raises ConfigError if the search has no such slot."""
    search, slots = config.search, config.slots(dataset, backbone, arm)
    if (rung, slot) not in slots:
        raise ConfigError(f"the search of {backbone} with {arm} has no slot {slot} in a rung {rung}")
    cell = of_train(config, dataset=dataset, backbone=backbone, arm=arm, seed=search.seed)
    return Trial(
        cell=replace(cell, searched=None),
        seed=search.seed,
        settings=None if rung else config.trials(dataset, backbone, arm)[slot],
        n_before=sum(each == rung - 1 for each, _ in slots),
        until=(*search.rungs, None)[rung],
    )


def of_select(config: Config, *, dataset: str, backbone: str, arm: str) -> Select:
    config.dataset(dataset)
    return Select(config.search.seed, tuple(config.slots(dataset, backbone, arm)))


def of_hindsight(config: Config, *, dataset: str, backbone: str, arm: str) -> Hindsight:
    config.dataset(dataset)
    return Hindsight(tuple(config.slots(dataset, backbone, arm)), config.evaluate.mask_valid)


def of_evaluate(config: Config, **_: Any) -> Evaluate:
    return Evaluate(config.evaluate.cutoffs, config.evaluate.mask_valid)


def of_compare(config: Config, *, dataset: str, backbone: str, arm: str, base_backbone: str, base: str) -> Compare:
    """Raises ConfigError if the run has no seed with both arms."""
    runs, base_runs = config.runs_of(Comparison(dataset, backbone, arm, base_backbone, base))
    if not runs:
        raise ConfigError(
            f"{dataset}: no seed has both {backbone} {arm} and {base_backbone} {base}; add both to the run"
        )
    shown = config.tabulate
    return Compare(runs, base_runs, shown.metrics, shown.cutoffs, config.compare.resamples)


def of_tabulate(config: Config, *, table: str) -> Table1 | Table2 | Study | Trials:
    """Raises ConfigError for a table that is not made."""
    if table == "search" and config.searches:
        datasets, backbones, _ = zip(*config.searches, strict=True)
        titles, named = _titles(config, datasets), _backbones(config, backbones)
        return Trials(titles, named, tuple(config.searches), config.search.seed)
    if table in config.studies_of_run:
        return _study(config, table)
    if table not in (known := ("table1", "table2", "table2_fair")):
        raise ConfigError(unknown("table", table, [*known, *config.studies_of_run]))
    titles = _titles(config, config.run.datasets)
    if table == "table1":
        return Table1(titles, resources.sha256("paper/table1.csv"))
    by_width = [arm for arms in config.fair_arms.values() for arm in arms]
    arms = [arm for arm in (config.run.arms if table == "table2" else by_width) if arm in config.arms_in_use]
    made = {arm: {dataset: config.features(dataset, arm) for dataset in titles} for arm in arms}
    encoders = {e for each in made.values() for f in each.values() if isinstance(f, MadeFeatures) for e in f.encoders}
    stand_ins = [config.encoder(name).settings.stands_in for name in sorted(encoders)]
    shown = {(backbone, arm) for backbone in config.run.backbones for arm in config.arms_of(backbone, arms)}
    seeds, datasets = config.run.seeds, config.run.datasets
    return Table2(
        titles=titles,
        backbones=_backbones(config, config.run.backbones),
        widths={arm: config.arm(arm).d for arm in made},
        features=made,
        stand_ins=tuple(dict.fromkeys(text for text in stand_ins if text)),
        cells=tuple(c for c in config.cells if c.dataset in datasets and c[1:3] in shown and c.seed in seeds),
        comparisons=tuple(config.comparisons_of(table)),
        shown=config.tabulate,
        mask_valid=config.evaluate.mask_valid,
        paper=resources.sha256("paper/table2.csv"),
        published=resources.sha256("published.csv"),
    )


def _study(config: Config, name: str) -> Study:
    study, variations = config.studies[name], config.variations(name)
    return Study(
        name=name,
        title=study.title,
        titles=_titles(config, dict.fromkeys(each.dataset for each in variations)),
        backbones=_backbones(config, dict.fromkeys(each.backbone for each in variations)),
        variations=tuple(variations),
        seeds=config.seeds_of(name),
        comparisons=tuple(config.comparisons_of(name)),
        shown=config.tabulate,
        paper=tuple(resources.sha256(f"paper/{table}.csv") for table in ("table2", "table3")),
    )


def of_plot(config: Config, *, figure: str) -> Study | Ranks | Curves:
    """Raises ConfigError for a figure that is not drawn."""
    if figure in config.studies_of_run:
        return _study(config, figure)
    if figure not in FIGURES:
        raise ConfigError(unknown("figure", figure, [*config.studies_of_run, *FIGURES]))
    if figure == "fig5":
        if not (ranks := _ranks(config)).weighted:
            raise ConfigError("fig5 needs an arm in run.arms that weighs its views, such as cliper")
        return ranks
    return Curves(
        figure=figure,
        titles=_titles(config, config.run.datasets),
        backbones=_backbones(config, config.run.backbones),
        cells=tuple(config.run_cells),
        mask_valid=config.evaluate.mask_valid,
    )


def _ranks(config: Config) -> Ranks:
    titles = _titles(config, config.run.datasets)
    used = [arm for arm in config.run.arms if arm in config.arms_in_use]
    made = {(dataset, arm): config.features(dataset, arm) for dataset in titles for arm in used}
    weighted = [key for key, each in made.items() if isinstance(each, MadeFeatures) and each.temperature is not None]
    drops, seeds = _drops(config, weighted)
    return Ranks(titles, tuple(weighted), drops, seeds)


def of_explore(config: Config, *, dataset: str) -> Explore:
    """Raises ConfigError if the run has no such dataset."""
    if dataset not in config.run.datasets:
        raise ConfigError(unknown("dataset of the run", dataset, config.run.datasets))
    arms = {arm: config.features(dataset, arm) for arm in config.run.arms if arm in config.arms_in_use}
    made = [each for each in arms.values() if isinstance(each, MadeFeatures)]
    first = config.run.seeds[0]
    return Explore(
        title=_titles(config, [dataset])[dataset],
        explore=config.explore,
        arms={arm: _without_policies(each) for arm, each in arms.items()},
        encoders={name: config.encoder(name) for name in dict.fromkeys(each.text for each in made)},
        cells=tuple(cell for cell in config.run_cells if cell.dataset == dataset and cell.seed == first),
        mask_valid=config.evaluate.mask_valid,
        is_crawled=any(each.image for each in made),
        ranges=config.encode.ranges,
    )


def _without_policies(made: MadeFeatures | GivenFeatures) -> MadeFeatures | GivenFeatures:
    """What says how features were made, without what only the features themselves show."""
    return replace(made, vectors="", missing_field="", missing_image="") if isinstance(made, MadeFeatures) else made


def of_report(config: Config) -> Page:
    explored = {dataset: of_explore(config, dataset=dataset) for dataset in config.run.datasets}
    return Page(
        name=config.name,
        titles=_titles(config, config.run.datasets),
        backbones=_backbones(config, config.run.backbones),
        arms={arm: config.arm(arm).d for arm in config.run.arms if arm in config.arms_in_use},
        widened={
            same: arm for arms in config.fair_arms.values() for arm, same in zip(config.run.arms, arms, strict=True)
        }
        | {arm: arm for arm in config.run.arms},
        tables={table: of_tabulate(config, table=table) for table in tables_of(config)},
        figures={figure: of_plot(config, figure=figure) for figure in figures_of(config)},
        cells=tuple(config.run_cells),
        meanings={name: _meanings(config.backbone(name)) for name in config.run.backbones},
        crawled=tuple(dataset for dataset, each in explored.items() if each.is_crawled),
        catalogues={dataset: of_catalogue(config, dataset=dataset) for dataset in explored},
        n_splits={dataset: len(config.splits_of(dataset)) for dataset in explored},
        config=_whole(config),
    )


def _whole(config: Config) -> dict[str, Any]:
    """The whole config. Each section is sorted: Snakemake and `--config` lay files over each other in other orders."""
    sections = plain(config).items()
    return {name: dict(sorted(each.items())) if isinstance(each, dict) else each for name, each in sections}


def _meanings(backbone: Variant[BackboneSettings]) -> dict[str, str]:
    """Each flat key of a cell's settings, and the words of its field."""
    own = type(backbone.settings).model_fields
    fields = {"d": BareArm.model_fields["d"], **models.Train.model_fields, **own}
    return {name: field.description or "" for name, field in fields.items()}


def tables_of(config: Config) -> tuple[str, ...]:
    """Names of a run's tables: the paper's, that of the searches, and one of each study."""
    return ("table1", "table2", "table2_fair", *["search"] * bool(config.searches), *config.studies_of_run)


def figures_of(config: Config) -> tuple[str, ...]:
    """Names of a run's figures: one of each study, and those of all cells."""
    has_ranks = bool(_ranks(config).weighted)
    return (*config.studies_of_run, *(name for name in FIGURES if name != "fig5" or has_ranks))


def _drops(config: Config, weighted: list[tuple[str, str]]) -> tuple[tuple[Variation, ...], tuple[int, ...]]:
    """Base and variations of the study, the first by its name, that leaves out views of such an arm, and its seeds."""
    for name, study in sorted(config.studies_of_run.items(), key=itemgetter(0)):
        if study.vary.without:
            base, *others = config.variations(name)[: len(study.changes) + 1]
            if (base.dataset, base.arm) in weighted:
                return (base, *(each for each in others if each.key == "without")), config.seeds_of(name)
    return (), ()


def _titles(config: Config, datasets: Iterable[str]) -> dict[str, str]:
    """Titles of datasets; one with another split says so."""
    named = {
        name: (config.dataset(name).title, name.removeprefix(base_of(name)).removeprefix(".")) for name in datasets
    }
    return {name: f"{title} ({what})" if what else title for name, (title, what) in named.items()}


def _backbones(config: Config, backbones: Iterable[str]) -> dict[str, str]:
    return {name: config.backbone(name).settings.title for name in backbones}


BUILDERS: dict[str, Callable[..., Any]] = {
    "download": of_download,
    "catalogue": of_catalogue,
    "crawl": of_crawl,
    "prompt": of_prompt,
    "weights": of_weights,
    "encode-text": of_encode_text,
    "encode-image": of_encode_image,
    "encode-default-image": of_encode_image,
    "fuse": of_fuse,
    "neighbours-items": of_neighbours_items,
    "neighbours-users": of_neighbours_users,
    "trial": of_trial,
    "select": of_select,
    "hindsight": of_hindsight,
    "train": of_train,
    "evaluate": of_evaluate,
    "compare": of_compare,
    "tabulate": of_tabulate,
    "plot": of_plot,
    "explore": of_explore,
    "report": of_report,
}


def deciding(value: Any) -> Any:
    """A value as plain mappings and lists, without the fields marked `HOW`: for rules' params and folders' keys."""
    if isinstance(value, BaseModel):
        marked = {name for name, field in type(value).model_fields.items() if HOW in field.metadata}
        return {name: deciding(item) for name, item in value if name not in marked}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: deciding(getattr(value, name)) for name in _deciding_fields(type(value))}
    if isinstance(value, Mapping):
        return {key: deciding(item) for key, item in value.items()}
    if isinstance(value, Variant):
        return deciding(value.as_mapping())
    if isinstance(value, list | tuple):
        return [deciding(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


@cache
def _deciding_fields(model: Any) -> tuple[str, ...]:
    hints = get_type_hints(model, include_extras=True)
    return tuple(name for name, hint in hints.items() if HOW not in getattr(hint, "__metadata__", ()))
